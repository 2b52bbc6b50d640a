/* laws_pixel.c -- what must hold of the pixel-space models' process, of the engine running on it, and of classifier guidance.
 * EPS is the unit roundoff of the build; limits are multiples of it, two to five times what either build measures. */
#include <limits.h>
#include "guidance/classifier.h"
#include "guidance/ddim.h"
#include "guidance/ddpm.h"
#include "guidance/respace.h"
#include "tensor/point.h"
#include "tests/check.h"
#include "tests/guide_scene.h"

static const double EPS = sizeof(real) == 4 ? 6e-8 : 1.2e-16;
static Arena arena;
static Run run;

static Tensor empty(Shape s) { return tensor_in(&run, &arena, s); }
static Tensor drawn(Shape s, double spread)
{
    Tensor t = empty(s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)(spread * check_uniform());
    return t;
}

static double apart(Tensor a, Tensor b)                   /* max|a - b| / max|b| */
{
    double worst = 0, size = 0;
    for (size_t i = 0; i < tensor_count(b); i++) {
        worst = fmax(worst, isnan(a.x[i]) ? (double)HUGE_VAL : fabs((double)a.x[i] - (double)b.x[i]));
        size = fmax(size, fabs((double)b.x[i]));
    }
    return tensor_same(a, b) && size > 0 ? worst / size : (double)HUGE_VAL;
}
static int same_bits(Tensor a, Tensor b) { return tensor_same(a, b) && !memcmp(a.x, b.x, tensor_count(b) * sizeof(real)); }

/* ---- respacing ---- */

static void kept(const char *text, int T, const int *expected, int n)
{
    Status s = {0};
    int *t, found = respace_times(&t, text, T, &arena, &s);
    check_true(*text ? text : "no respacing", found == n && !memcmp(t, expected, (size_t)n * sizeof *t));
}

static void respacing(void)
{
    kept("", 4, (int[]){ 0, 1, 2, 3 }, 4);
    kept("ddim4", 10, (int[]){ 0, 3, 6, 9 }, 4);          /* stride 3 is the first with exactly four */
    kept("ddim5", 10, (int[]){ 0, 2, 4, 6, 8 }, 5);
    kept("3", 10, (int[]){ 0, 4, 9 }, 3);                 /* 4.5 rounds to even */
    kept("1", 10, (int[]){ 0 }, 1);
    kept("2,1,3", 10, (int[]){ 0, 3, 4, 7, 8, 9 }, 6);    /* sections 0-3, 4-6, 7-9 */
    kept("0,2", 10, (int[]){ 5, 9 }, 2);
    static const char *const wrong[] = { "ddim", "ddim7", "ddim0", "ddim4x", "11", "4,4,4", "3,", ",3", "-3", "3;4", "three", "0", "99999999999999999999" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Status s = {0};
        int *t;
        check_true(wrong[i], !respace_times(&t, wrong[i], 10, &arena, &s) && s.code == E_OPTION);
    }
}

/* ---- the process ---- */

static Gaussian process_of(const char *respacing_text, Variance v, bool clamp)
{
    Gaussian g;
    ScheduleConfig c = gaussian_config(BETA_LINEAR, 1000);
    c.clip_sample = clamp;
    gaussian_make(&g, &c, respacing_text, v, &arena, &run.status);
    return g;
}

static void process(void)
{
    Gaussian g = process_of("50", VARIANCE_SMALL, false);
    Shape S = SHAPE(2, 3, 5, 4);
    Tensor x0 = drawn(S, 1), n = drawn(S, 2), x = empty(S), y = empty(S), e = empty(S), mean = empty(S), logvar = empty(S), z = drawn(S, 2);
    double worst_x0 = 0, worst_eps = 0, worst_ddim = 0, worst_ddpm = 0, worst_level = 0;
    for (int j = 0; j < g.n; j++) {
        double a = g.alpha_bar[j];
        worst_level = fmax(worst_level, fabs(a / g.schedule.alpha_bar[g.t[j]] - 1));
        gaussian_noised(&run, &g, j, x, x0, n);
        gaussian_x0(&run, &g, j, y, x, n);
        gaussian_eps(&run, &g, j, e, x, x0);
        worst_x0 = fmax(worst_x0, apart(y, x0) * sqrt(a));
        worst_eps = fmax(worst_eps, apart(e, n) * sqrt(1 - a));
        gaussian_ddim(&run, &g, j, y, x0, n, z, 0.3);     /* against the samplers that ask by time */
        ddim_step(&run, &g.schedule, g.t[j], e, (Tensor){0}, x, n, n, z, (DdimOptions){ j ? 0.3 : 0, false });
        worst_ddim = fmax(worst_ddim, apart(y, e) * sqrt(a));
        gaussian_predict(&run, &g, j, mean, logvar, (Tensor){0}, x, n);
        gaussian_ancestral(&run, &g, j, y, mean, logvar, z);
        ddpm_step(&run, &g.schedule, g.t[j], e, (Tensor){0}, x, n, z);
        worst_ddpm = fmax(worst_ddpm, apart(y, e) * sqrt(a));
    }
    check_below("levels of the respaced process are those of the whole", worst_level, 1e-13);      /* products of 50 in double: 2e-15 */
    check_below("x0 returns from its noised self", worst_x0, 8 * EPS + 5e-14);                     /* measured 6 EPS; 7e-15 in double: 1/a - 1 next to a = 1 */
    check_below("and the noise", worst_eps, 8 * EPS + 5e-14);                                      /* 2 EPS; 4e-15 */
    check_below("DDIM by index is DDIM by time", worst_ddim, 8 * EPS);                             /* 2 EPS */
    check_below("the ancestral step with the posterior's variance is DDPM's", worst_ddpm, 8 * EPS + 5e-14);     /* 1.2 EPS; 7e-15 */
    gaussian_reverse(&run, &g, 7, y, x0, n);
    gaussian_noised(&run, &g, 8, e, x0, n);
    check_below("the reverse step lands on the next level", apart(y, e), 2 * EPS);
    gaussian_reverse(&run, &g, g.n - 1, y, x0, n);
    check_true("after the last level all is noise", same_bits(y, n));
}

static void variances(void)
{
    Shape S = SHAPE(1, 3, 2, 2), twice = SHAPE(1, 6, 2, 2);
    Gaussian g = process_of("ddim25", VARIANCE_LEARNED, true);
    Tensor x = drawn(S, 1), m = drawn(twice, 1), mean = empty(S), logvar = empty(S), x0 = empty(S), z = drawn(S, 1), to = empty(S), v = empty(S), e = empty(S);
    for (size_t i = 0; i < 12; i++) m.x[12 + i] = i % 2 ? 1 : -1;
    gaussian_predict(&run, &g, 9, mean, logvar, x0, x, m);
    int ends = 1, inside = 1;
    for (size_t i = 0; i < 12; i++) {
        ends &= logvar.x[i] == (real)(i % 2 ? log(g.beta[9]) : g.log_posterior[9]);
        inside &= x0.x[i] >= -1 && x0.x[i] <= 1;
    }
    check_true("a learned variance at its two ends", ends);
    check_true("x0 is clamped", inside);
    m.x[12] = 3;
    gaussian_predict(&run, &g, 9, mean, logvar, x0, x, m);
    check_true("v is not", logvar.x[0] > (real)log(g.beta[9]));
    g.variance = VARIANCE_LARGE;
    gaussian_log_variance(&run, &g, 9, logvar, (Tensor){0});
    check_true("large is beta", logvar.x[3] == (real)log(g.beta[9]));
    gaussian_log_variance(&run, &g, 0, logvar, (Tensor){0});
    check_true("at 0 the posterior's at 1", logvar.x[3] == (real)log(g.posterior[1]));
    gaussian_ancestral(&run, &g, 0, to, mean, logvar, z);
    check_true("the last step adds no noise", same_bits(to, mean));

    Tensor two = drawn(SHAPE(2, 6, 2, 2), 1), e2 = empty(SHAPE(2, 3, 2, 2)), v2 = empty(SHAPE(2, 3, 2, 2));
    gaussian_split(&run, e2, v2, two);
    gaussian_split(&run, e, v, tensor_rows(two, 1, 1));
    check_true("a batch is split image by image", same_bits(e, tensor_rows(e2, 1, 1)) && same_bits(v, tensor_rows(v2, 1, 1)) && v.x[0] == two.x[36]);

    static const struct { double x; int byte; } bytes[] = { { -2, 0 }, { -1, 0 }, { 0, 127 }, { 0.999, 254 }, { 1, 255 }, { 7, 255 } };
    int right = 1;
    for (size_t i = 0; i < 6; i++) right &= gaussian_byte((real)bytes[i].x) == bytes[i].byte;
    check_true("bytes are cut off, not rounded", right);

    gaussian_x0(&run, &g, 25, to, x, z);
    check_true("an index beyond the process", run.status.code == E_OPTION);
    run.status = (Status){0};
    g.variance = VARIANCE_LEARNED;
    gaussian_predict(&run, &g, 9, mean, logvar, x0, x, tensor_as(drawn(S, 1), S));
    check_true("a learned variance that the network does not give", run.status.code == E_SHAPE);
    run.status = (Status){0};
    Gaussian cosine;
    ScheduleConfig c = gaussian_config(BETA_COSINE, 1000);
    gaussian_make(&cosine, &c, "", VARIANCE_LARGE, &arena, &run.status);
    check_true("cosine betas end at 0.999", cosine.n == 1000 && fabs(cosine.beta[999] - 0.999) < 1e-12);
    check_true("a kept time has an index, another none", gaussian_index(&g, 40) == 1 && gaussian_index(&g, 41) == -1 && gaussian_index(&g, 999) == -1);
    check_true("one time alone is no process", !gaussian_make(&cosine, &c, "1", VARIANCE_LARGE, &arena, &run.status) && run.status.code == E_OPTION);
    run.status = (Status){0};
}

/* ---- the engine on such a process ---- */

static const char *const UNET_SIX =
    "{\"in_channels\":3,\"out_channels\":6,\"block_out_channels\":[8,12],\"layers_per_block\":1,\"norm_num_groups\":2,"
    "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\"],"
    "\"attention_head_dim\":2,\"cross_attention_dim\":6}";

enum { STEPS = 6, CLASSES = 4 };
typedef struct { SceneG s; Gaussian g; Tensor w; int asked; GuideReport report[STEPS]; Branch branch; Tensor x0; } SceneP;

static bool see(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    SceneP *p = (SceneP *)((char *)user - offsetof(SceneP, s));
    (void)z;
    p->report[report->clock.i] = *report;
    tensor_copy(&p->s.run, p->x0, x0);
    return true;
}

static double all(const Clock *c, const double *par)
{
    (void)c; (void)par;
    return 1;
}

static void open_pixel(SceneP *p, Sampler sampler, double eta)
{
    memset(p, 0, sizeof *p);
    check_seed = 5;
    scene_open(&p->s, PREDICT_EPS, 10);
    tiny_unet(&p->s.unet, UNET_SIX, &p->s.weights, &p->s.run.status);
    ScheduleConfig c = gaussian_config(BETA_LINEAR, 1000);
    gaussian_make(&p->g, &c, "6", VARIANCE_LEARNED, &p->s.whole, &p->s.run.status);
    p->s.guide.schedule = &p->g.schedule;
    p->s.guide.process = &p->g;
    p->s.guide.sampler = sampler;
    p->s.guide.eta = eta;
    p->s.guide.watch = see;
    p->w = scene_numbers(&p->s, SHAPE(CLASSES, 72), 1);
    p->x0 = scene_numbers(&p->s, SHAPE(3, 6, 4), 1);
    p->branch = (Branch){ .name = "cond", .context = p->s.text[0], .mix = all };
}

/* logits = W z / 10 */
static acc linear_log_p(void *net, Run *r, Tensor dz, Tensor z, const Clock *c, double t, int label)
{
    SceneP *p = net;
    double l[CLASSES], sum = 0;
    (void)r;
    p->asked += t == c->t;
    for (int k = 0; k < CLASSES; k++) {
        l[k] = 0;
        for (int i = 0; i < 72; i++) l[k] += (double)p->w.x[k * 72 + i] * (double)z.x[i] / 10;
        sum += exp(l[k]);
    }
    for (int i = 0; i < 72; i++) {
        double d = (double)p->w.x[label * 72 + i];
        for (int k = 0; k < CLASSES; k++) d -= exp(l[k]) / sum * (double)p->w.x[k * 72 + i];
        dz.x[i] = (real)(d / 10);
    }
    return (acc)(l[label] - log(sum));
}

static Method guided(SceneP *p, double scale, int label)
{
    Method m = {0};
    static Classifier k;
    k = (Classifier){ p, linear_log_p, CLASSES, 1 };
    MethodInput in = { .number = &scale, .cond = p->s.text[0], .scale = 1, .classifier = &k, .label = label, .sampler = p->s.guide.sampler,
                       .schedule = &p->g.schedule, .unet = &p->s.unet };
    method_classifier.build(&p->s.run, &m, &in);
    return m;
}

static Tensor engine_run(SceneP *p, const Method *m)
{
    Tensor z = tensor_in(&p->s.run, &p->s.whole, p->s.z.s);
    tensor_copy(&p->s.run, z, p->s.z);
    guide_sample(&p->s.run, &p->s.guide, &(Guidance){ m, 1 }, z);
    return z;
}

/* The published loop, written out with the pieces: the network, the process, the gradient. */
static Tensor loop_run(SceneP *p, double scale, int label, double *largest)
{
    Run *r = &p->s.run;
    const Gaussian *g = &p->g;
    Shape one = SHAPE(1, 3, 6, 4);
    Tensor z = tensor_in(r, &p->s.whole, one), m = tensor_in(r, &p->s.whole, SHAPE(1, 6, 6, 4)), mean = tensor_in(r, &p->s.whole, one);
    Tensor x0 = tensor_in(r, &p->s.whole, one), logvar = tensor_in(r, &p->s.whole, one), n = tensor_in(r, &p->s.whole, one), eps = tensor_in(r, &p->s.whole, one);
    Tensor grad = tensor_in(r, &p->s.whole, one), text = p->s.text[0];
    text.s = SHAPE(1, 5, 6);
    tensor_copy(r, z, p->s.z);
    *largest = 0;
    for (int j = g->n - 1; j >= 0; j--) {
        UnetPass pass;
        double t = g->t[j];
        Clock c = guide_clock(&g->schedule, g->n - 1 - j);
        size_t mark = r->temp->used;
        unet_forward(r, &p->s.unet, m, &pass, z, &t, text, false);
        arena_release(r->temp, mark);
        arena_release(r->keep, 0);
        linear_log_p(p, r, grad, z, &c, t, label);
        scene_noise(&p->s, NOISE_SAMPLER, &c, n);
        gaussian_predict(r, g, j, mean, logvar, x0, z, m);
        if (p->s.guide.sampler == SAMPLER_DDPM) {
            for (int i = 0; i < 72; i++) mean.x[i] += (real)(scale * exp((double)logvar.x[i]) * (double)grad.x[i]);
            gaussian_ancestral(r, g, j, z, mean, logvar, n);
        } else {
            gaussian_eps(r, g, j, eps, z, x0);
            axpy(r, eps, (real)(-scale * sqrt(1 - g->alpha_bar[j])), grad);
            gaussian_x0(r, g, j, x0, z, eps);
            gaussian_ddim(r, g, j, z, x0, eps, n, p->s.guide.eta);
        }
        for (int i = 0; i < 72; i++) *largest = fmax(*largest, fabs((double)x0.x[i]));
    }
    z.s = p->s.z.s;
    return z;
}

static void runs(Sampler sampler, double eta, const char *what)
{
    static SceneP p;
    char said[100];
    double largest;
    open_pixel(&p, sampler, eta);
    Method plain = { .name = "plain", .branch = &p.branch, .branches = 1 };
    Tensor a = engine_run(&p, &plain), b = loop_run(&p, 0, 1, &largest);
    snprintf(said, sizeof said, "%s: the engine is the published loop", what);
    check_below(said, apart(a, b), 600 * EPS);            /* measured 0 (ancestral) and at most 180 EPS */
    Method none = guided(&p, 0, 1), strong = guided(&p, 8, 1);
    p.asked = 0;
    check_true("    scale 0 is plain sampling, bit for bit, and asks no classifier", same_bits(engine_run(&p, &none), a) && !p.asked);
    Tensor c = engine_run(&p, &strong);
    check_true("    one pass forward a step, none backward, the classifier once at the mapped time",
               p.report[3].forwards == 1 && p.report[3].backwards == 0 && p.asked == STEPS);
    Tensor d = loop_run(&p, 8, 1, &largest);
    snprintf(said, sizeof said, "%s, guided: likewise", what);
    check_below(said, apart(c, d), 600 * EPS);            /* measured at most 170 EPS */
    check_true("    and it moves towards the class", p.report[STEPS - 1].energy < 0.9 * p.report[0].energy && apart(c, a) > 0.01);
    if (sampler == SAMPLER_DDIM) check_true("    x0 is not clamped again", largest > 1.001);
    scene_close(&p.s);
}

static const char *const UNET_BESIDE =
    "{\"in_channels\":5,\"out_channels\":6,\"block_out_channels\":[8,12],\"layers_per_block\":1,\"norm_num_groups\":2,"
    "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\"],"
    "\"attention_head_dim\":2,\"cross_attention_dim\":6}";

/* An upsampler: two more channels go in beside z, and only z has a gradient. */
static void beside(void)
{
    static SceneP p;
    open_pixel(&p, SAMPLER_DDPM, 0);
    Run *r = &p.s.run;
    tiny_unet(&p.s.unet, UNET_BESIDE, &p.s.weights, &r->status);
    p.s.guide.beside = scene_numbers(&p.s, SHAPE(2, 6, 4), 1);
    Tensor both = tensor_in(r, &p.s.whole, SHAPE(1, 5, 6, 4)), out = tensor_in(r, &p.s.whole, SHAPE(1, 6, 6, 4)), dout = scene_numbers(&p.s, SHAPE(1, 6, 6, 4), 1);
    Tensor dboth = tensor_in(r, &p.s.whole, both.s), dz = tensor_in(r, &p.s.whole, p.s.z.s), text = p.s.text[0];
    text.s = SHAPE(1, 5, 6);
    memcpy(both.x, p.s.z.x, 72 * sizeof(real));
    memcpy(both.x + 72, p.s.guide.beside.x, 48 * sizeof(real));
    memset(dout.x + 72, 0, 72 * sizeof(real));            /* of the learned variance */
    UnetPass pass;
    Clock c = guide_clock(&p.g.schedule, 2);
    double t = c.t;
    unet_forward(r, &p.s.unet, out, &pass, both, &t, text, false);
    unet_backward(r, &p.s.unet, dboth, (Tensor){0}, dout, &pass);
    Lane l = lane_make(&p.branch, NULL);
    l.z = p.s.z;
    guide_observe(r, &p.s.guide, &l, &c, NULL, 0, NULL, true, true);
    Tensor three = { out.x, p.s.z.s }, last = { out.x + 72, p.s.z.s }, first = { dboth.x, p.s.z.s };
    check_true("channels beside z: the network reads both", same_bits(l.eps, three) && same_bits(l.range, last));
    dout.s = p.s.z.s;
    guide_pull(r, &p.s.guide, &l, dz, (Tensor){0}, dout);
    check_true("    and the gradient is z's", same_bits(dz, first));
    Method plain = { .name = "plain", .branch = &p.branch, .branches = 1 };
    engine_run(&p, &plain);
    p.s.guide.beside = scene_numbers(&p.s, SHAPE(2, 4, 6), 1);
    check_true("    no error so far", run_ok(r));
    engine_run(&p, &plain);
    check_true("    of another size", r->status.code == E_SHAPE);
    r->status = (Status){0};
    scene_close(&p.s);
}

static void refusals(void)
{
    static SceneP p;
    open_pixel(&p, SAMPLER_DDPM, 0);
    double scale = 1;
    Method m = {0};
    MethodInput in = { .number = &scale, .cond = p.s.text[0], .scale = 1 };
    check_true("no classifier", !method_classifier.build(&p.s.run, &m, &in) && p.s.run.status.code == E_OPTION);
    p.s.run.status = (Status){0};
    guided(&p, 1, CLASSES);
    check_true("a class that the classifier does not know", p.s.run.status.code == E_OPTION);
    p.s.run.status = (Status){0};
    guided(&p, 1, -1);
    check_true("and one below the first", p.s.run.status.code == E_OPTION);
    p.s.run.status = (Status){0};
    scene_close(&p.s);
}

int main(void)
{
    run = (Run){ .keep = &arena, .temp = &arena, .step = &arena, .run = &arena, .k = kernels_pick(NULL), .threads = 2, .blas = true };
    respacing();
    process();
    variances();
    runs(SAMPLER_DDPM, 0, "ancestral");
    runs(SAMPLER_DDIM, 0, "DDIM");
    runs(SAMPLER_DDIM, 0.7, "DDIM with noise");
    beside();
    refusals();
    check_true("no error was left behind", run_ok(&run));
    arena_free(&arena);
    return check_done();
}
