/* Every number of docs/lessons, computed anew and compared with what the documents say. */
#include "guidance/ddim.h"
#include "guidance/selfguide.h"
#include "ref/guided.h"
#include "tests/lesson.h"

static Pipeline pl;

/* ---- lesson 1: a step of DDIM ---- */

static void toy_model(Tensor m, Tensor x, int t)          /* m(x,t) = 0.8 sin(1.3 x + 0.01 t) + 0.1 x */
{
    for (size_t i = 0; i < tensor_count(m); i++) m.x[i] = (real)(0.8 * sin(1.3 * (double)x.x[i] + 0.01 * t) + 0.1 * (double)x.x[i]);
}

static double round_trip(int steps)
{
    Run *r = &pl.run;
    Schedule s;
    size_t mark = r->run->used;
    schedule_make(&s, &pl.schedule, ALPHAS_FLOAT64, steps, r->run, &r->status);
    Tensor x = tensor_in(r, r->run, SHAPE(1, 1)), m = tensor_in(r, r->run, SHAPE(1, 1));
    x.x[0] = 1;
    for (int i = 0; i < steps; i++) {
        toy_model(m, x, ddim_inverse_t(&s, i));
        ddim_inverse_step(r, &s, ddim_inverse_t(&s, i), x, x, m);
    }
    for (int i = 0; i < steps; i++) {
        toy_model(m, x, s.t[i]);
        ddim_step(r, &s, s.t[i], x, (Tensor){0}, x, m, m, (Tensor){0}, (DdimOptions){0});
    }
    double off = fabs((double)x.x[0] - 1);
    arena_release(r->run, mark);
    return off;
}

static Tensor four(const double *v)
{
    Tensor t = tensor_in(&pl.run, pl.run.run, SHAPE(1, 4));
    for (int i = 0; i < 4; i++) t.x[i] = (real)v[i];
    return t;
}

static void row(const char *d, const char *name, Tensor t)
{
    char before[4][60];
    snprintf(before[0], 60, "%s = [", name);
    lesson_says(d, before[0], (double)t.x[0], 1e-6);
    char *at = strstr(d, before[0]);
    for (int i = 1; at && i < 4; i++) {
        char line[100];
        at = strpbrk(at, ",;");
        if (!at++) break;
        at += strspn(at, " ");
        snprintf(line, sizeof line, "%s, number %d: computed %.6g, found %.8s", name, i + 1, (double)t.x[i], at);
        check_true(line, lesson_agrees(at, (double)t.x[i], 1e-6));
    }
}

static void first_lesson(void)
{
    char *d = lesson_text("docs/lessons/1-a-step-of-ddim-by-hand.md"), before[40];
    Run *r = &pl.run;
    Schedule s;
    schedule_make(&s, &pl.schedule, ALPHAS_FLOAT64, 5, r->run, &r->status);
    for (int i = 0; i < 5; i++) {
        double a = schedule_alpha_bar(&s, s.t[i]);
        const double column[] = { a, sqrt(a), sqrt(1 - a) };
        snprintf(before, sizeof before, "| %d |", s.t[i]);
        const char *at = strstr(d, before);
        for (int k = 0; k < 3 && at; k++) {
            at = strchr(at + 2, '|');
            check_true("table of alpha-bar", at && lesson_agrees(at + 1, column[k], 0));
        }
        check_true(before, at != NULL);
    }
    Tensor x = four((double[]){ 1, -0.5, 0.25, 2 }), e = four((double[]){ 0.8, -0.3, 0.5, 1.1 });
    Tensor x0 = four((double[4]){0}), next = four((double[4]){0}), back = four((double[4]){0}), noise = four((double[]){ 1, 0, -1, 2 });
    ddim_step(r, &s, 601, next, x0, x, e, e, (Tensor){0}, (DdimOptions){0});
    row(d, "x0", x0);
    row(d, "x_401", next);
    ddim_inverse_step(r, &s, 601, back, next, e);
    double off = 0;
    for (int i = 0; i < 4; i++) off = fmax(off, fabs((double)back.x[i] - (double)x.x[i]));
    check_below("with the same e the step is undone", off, 1e-6);                  /* float: 2.4e-7 */
    ddim_step(r, &s, 601, next, x0, x, e, e, noise, (DdimOptions){ .eta = 1 });
    row(d, "y_401", next);
    double p = schedule_alpha_bar(&s, 401), sigma = ddim_sigma(&s, 601, 1);
    lesson_says(d, "sigma is", sigma, 0);
    lesson_says(d, "sqrt(1 - p - sigma^2) is", sqrt(1 - p - sigma * sigma), 0);
    lesson_says(d, "half of it is", ddim_sigma(&s, 601, 0.5), 0);
    Tensor e2 = four((double[]){ 0.9, -0.3, 0.5, 1.1 });
    ddim_step(r, &s, 601, next, x0, x, e2, e2, (Tensor){0}, (DdimOptions){0});
    lesson_says(d, "first number becomes", (double)next.x[0], 1e-6);
    double a = schedule_alpha_bar(&s, 601);
    lesson_says(d, "moves x_401 by", sqrt(1 - p) - sqrt(p / a) * sqrt(1 - a), 0);
    double last = schedule_alpha_bar(&s, 0);
    lesson_says(d, "alpha-bar(0) =", last, 0);
    lesson_says(d, "sqrt(p) =", sqrt(last), 0);
    lesson_says(d, "sqrt(1 - p) =", sqrt(1 - last), 0);
    lesson_says(d, "at 10 steps:", round_trip(10), 1e-4);
    lesson_says(d, "at 50 steps:", round_trip(50), 1e-4);
    lesson_says(d, "at 250 steps:", round_trip(250), 1e-4);
    free(d);
}

/* ---- runs of the bundled model ---- */

enum { STEPS = 10, TOKENS = 77 };
typedef struct {
    double share[TOKENS], x, y, spread;                   /* over all sites of up_blocks.*.attn2; the rest of one token's mean map */
} Look;
typedef struct { int token; Look at[STEPS]; } Looks;

/* Where attention goes: shares of all tokens; centroid and spread (sum A)^2 / (n sum A^2) of one, means over sites. */
static void look(const Clock *c, Run *r, const View *now, const View *const *ref, void *state)
{
    Looks *all = state;
    Look *l = &all->at[c->i];
    const View *v = now;
    const Sight *p;
    int n = 0, h, w;
    (void)ref;
    while (strcmp(v->branch, "cond")) v++;
    memset(l, 0, sizeof *l);
    for (; (p = view_see(v, SEE_PROBS, "up_blocks.*.attn2", n)); n++) {
        size_t mark = r->temp->used;
        map_size(v->h, v->w, p->val.s.d[1], &h, &w);
        Tensor A = temp(r, SHAPE(h, w));
        for (int t = 0; t < TOKENS; t++) {
            acc sum = 0, squares = 0;
            map_of(r, A, p, t);
            for (int i = 0; i < h * w; i++) sum += (acc)A.x[i], squares += (acc)A.x[i] * (acc)A.x[i];
            l->share[t] += (double)sum / (h * w);
            if (t != all->token) continue;
            Centroid k = centroid_of(A);
            l->x += (double)k.x;
            l->y += (double)k.y;
            l->spread += (double)(sum * sum / (h * w * squares));
        }
        arena_release(r->temp, mark);
    }
    for (int t = 0; t < TOKENS; t++) l->share[t] /= n;
    l->x /= n;
    l->y /= n;
    l->spread /= n;
}

static const Want maps[] = { { SEE_PROBS, "up_blocks.*.attn2" } };

/* Centroid, in parts of the frame, of the pixels that are red. */
static void red_centre(Tensor z, double *x, double *y)
{
    int W, H, n = 0;
    const uint8_t *rgb = pipeline_decode(&pl, z, &W, &H);
    *x = *y = 0;
    for (int i = 0; rgb && i < W * H; i++) {
        if (rgb[3 * i] < 150 || rgb[3 * i + 1] > 80 || rgb[3 * i + 2] > 80) continue;
        *x += (double)(i % W) / (W - 1);
        *y += (double)(i / W) / (H - 1);
        n++;
    }
    *x /= n;
    *y /= n;
}

static void run(Looks *l, const char *prompt, const char *word, double v, double red[2])
{
    static Guided g;
    size_t mark = pl.run.run->used;
    GuidedRequest q = { .base = pipeline_request(), .object = &word, .objects = 1 };
    q.base.prompt = prompt;
    q.base.seed = 7, q.base.scale = 5, q.base.W = q.base.H = 128, q.base.steps = STEPS;
    if (guided_open(&g, &pl, &q, NULL)) {
        SelfTerm term = self_term("up_blocks.*.attn2", "");
        term.tokens = 1, term.token[0] = l->token = g.object[0].token[0];
        term.x = 0.75, term.y = 0.75;
        Energy energy = { "centroid", maps, 1, NULL, -1, self_centroid, &term, 1 };
        Branch watched = { .name = "cond", .watch = true };
        Rule rule = { .energy = &energy, .energies = 1, .leaf = BY_Z, .into = TO_EPS, .gain = self_gain, .par = { v } };
        g.part[g.parts++] = (Method){ .name = "lesson", .branch = &watched, .branches = 1, .rule = &rule, .rules = v != 0,
                                      .remember = maps, .remembers = 1, .after_pass = look, .state = l };
        g.parts--;
        g.part[g.parts - 1] = g.part[g.parts];            /* in place of the watcher: one method may look after a pass */
        Tensor z;
        if (guided_sample(&g, &z, 7, false)) red_centre(z, &red[0], &red[1]);
    }
    check_true(run_ok(&pl.run) ? prompt : pl.run.status.text, run_ok(&pl.run));
    guided_close(&g);
    arena_release(pl.run.run, mark);
}

static const double SLACK = 1e-4;                         /* plain kernels without BLAS, and fast ones, agree to 2e-7 */

static double padding(const Look *l, int end)
{
    double sum = 0;
    for (int t = end + 1; t < TOKENS; t++) sum += l->share[t];
    return sum;
}

static void second_lesson(const Looks *car, const double red[2])
{
    char *d = lesson_text("docs/lessons/2-what-an-attention-map-knows.md"), before[60];
    static const int step[] = { 0, 3, 6, 9 };
    for (int k = 0; k < 4; k++) {
        const Look *l = &car->at[step[k]];
        const double column[] = { l->x, l->y, l->spread, l->share[6] };
        snprintf(before, sizeof before, "| step %d |", step[k]);
        const char *at = strstr(d, before);
        check_true(before, at != NULL);
        at = at ? at + strlen(before) - 1 : NULL;
        for (int c = 0; c < 4 && at; c++) {
            char line[120];
            snprintf(line, sizeof line, "%s column %d: computed %.6g", before, c + 1, column[c]);
            check_true(line, lesson_agrees(at + 1, column[c], SLACK));
            at = strchr(at + 1, '|');
        }
    }
    const Look *l = &car->at[6];
    static const struct { const char *before; int token; } share[] = {
        { "begin mark |", 0 }, { "red |", 5 }, { "car |", 6 }, { "grass |", 8 }, { "end mark |", 9 } };
    for (int i = 0; i < 5; i++) lesson_says(d, share[i].before, l->share[share[i].token], SLACK);
    double words = 1 - l->share[0] - padding(l, 9);
    lesson_says(d, "a, photo, of, a, on |", words - l->share[5] - l->share[6] - l->share[8] - l->share[9], SLACK);
    lesson_says(d, "among words and end mark alone", l->share[6] / words, SLACK);
    lesson_says(d, "pixel column", 127 * l->x, SLACK);
    lesson_says(d, "pixel row", 127 * l->y, SLACK);
    lesson_says(d, "cells:", 256 * l->spread, SLACK);
    lesson_says(d, "67 padding marks |", padding(l, 9), SLACK);
    lesson_says(d, "red pixels: x =", red[0], SLACK);
    lesson_says(d, "red pixels: x = 0.47, y =", red[1], SLACK);
    Looks zebra = {0};
    double none[2];
    run(&zebra, "a photo of a red zebra on grass", "zebra", 0, none);
    lesson_says(d, "zebra: spread", zebra.at[6].spread, SLACK);
    lesson_says(d, "zebra: share", zebra.at[6].share[zebra.token], SLACK);
    free(d);
}

/* ---- lesson 3: an energy ---- */

static void third_lesson(const Looks *car, const double red[2])
{
    char *d = lesson_text("docs/lessons/3-writing-an-energy.md");
    Run *r = &pl.run;
    Tensor A = tensor_in(r, r->run, SHAPE(2, 3)), g = tensor_in(r, r->run, SHAPE(2, 3));
    static const double map[] = { 1, 0, 2, 0, 1, 4 };
    for (int i = 0; i < 6; i++) A.x[i] = (real)map[i];
    Centroid c = centroid_of(A);
    lesson_says(d, "c_x is", (double)c.x, 2e-5);          /* by hand e = 0 */
    lesson_says(d, "c_y is", (double)c.y, 2e-5);
    centroid_back(g, A, c, 1, 0);
    lesson_says(d, "top left:", (double)g.x[0], 2e-5);
    lesson_says(d, "top right:", (double)g.x[2], 2e-5);
    acc along = 0, sum = 0, wrong = 0;
    for (int i = 0; i < 6; i++) {
        along += (acc)A.x[i] * (acc)g.x[i];
        sum += (acc)g.x[i];
        wrong += (acc)A.x[i] * (acc)(i % 3) / 2 / c.mass;
    }
    check_below("a scaled map has the same centroid: A . dc/dA = 0", fabs((double)along), 2e-5);    /* e c / M = 1e-5 */
    lesson_says(d, "the sum over the map is", (double)sum, 2e-5);
    lesson_says(d, "with the fault it is", (double)wrong, 2e-5);
    double right = (double)g.x[5];
    Tensor B = tensor_in(r, r->run, A.s), dB = tensor_in(r, r->run, A.s);
    double off = 0;
    for (int i = 0; i < 6; i++) B.x[i] = A.x[i / 3 * 3 + 2 - i % 3];
    centroid_back(dB, B, centroid_of(B), 1, 0);
    for (int i = 0; i < 6; i++) off = fmax(off, fabs((double)dB.x[i] + (double)g.x[i / 3 * 3 + 2 - i % 3]));
    check_below("mirrored: the other sign, the other side", off, 1e-5);             /* e/M = 1e-5 of 0.1 */
    centroid_back(g, A, c, 0, 1);
    lesson_says(d, "bottom middle:", (double)g.x[4], 2e-5);
    lesson_says(d, "bottom right:", right + (double)g.x[5], 2e-5);
    acc before = c.x;
    A.x[0] += (real)0.1;
    lesson_says(d, "h = 0.1:", (double)(centroid_of(A).x - before) / 0.1, 2e-5);
    for (int i = 0; i < 6; i++) A.x[i] = (real)(10 * map[i]);
    c = centroid_of(A);
    centroid_back(g, A, c, 1, 0);
    lesson_says(d, "ten times the map:", (double)g.x[0], 2e-5);
    Looks moved = {0};
    double at[2];
    run(&moved, "a photo of a red car on grass", "car", 200, at);
    lesson_says(d, "unguided: map at", car->at[6].x, SLACK);
    lesson_says(d, "unguided: red pixels at", red[0], SLACK);
    lesson_says(d, "under guidance: map at", moved.at[6].x, SLACK);
    lesson_says(d, "under guidance: red pixels at", at[0], SLACK);
    free(d);
}

int main(void)
{
    check_true("one unit in the last decimal shown is seen", lesson_agrees("0.25", 0.2541, 0) && !lesson_agrees("0.25", 0.26, 0) && !lesson_agrees("x", 0, 0));
    if (!pipeline_open(&pl, &(PipelineSetup){ .model = "data/tiny-model", .blas = true })) return printf("%s\n", pl.run.status.text), 2;
    first_lesson();
    Looks car = {0};
    double red[2];
    run(&car, "a photo of a red car on grass", "car", 0, red);
    second_lesson(&car, red);
    third_lesson(&car, red);
    pipeline_close(&pl);
    return check_done();
}
