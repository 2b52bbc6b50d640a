/* Gradients of the attention-editing energies and of the writes that let a gradient through. */
#include "guidance/nulltext.h"
#include "guidance/pix2pixzero.h"
#include "guidance/prompt2prompt.h"
#include "tests/gradcheck.h"

/* Polynomials and one logarithm, whose value is small against its parts: measured 2e-8 there, 2e-10 elsewhere. */
static const double LIMIT = 1e-7;
static Run run;
static Arena arena, scratch;

static Tensor fresh(Shape s, double centre, double spread) { return grad_fresh(&run, &arena, s, centre, spread); }

/* ---- white noise ---- */

typedef struct { Tensor e; const int *rolls; } Noise;

static double correlation_loss(void *self)
{
    Noise *n = self;
    return (double)pixzero_autocorrelation(&run, (Tensor){0}, n->e, n->rolls);
}

static double divergence_loss(void *self) { return (double)pixzero_divergence(&run, (Tensor){0}, ((Noise *)self)->e); }

static void noise(void)
{
    static const int size[][3] = { { 3, 20, 18 }, { 2, 17, 34 }, { 2, 8, 5 }, { 1, 3, 3 } };        /* levels of odd size, one level, no legal shift */
    Random random;
    random_seed(&random, RANDOM_TORCH, 5);
    for (int i = 0; i < 4; i++) {
        int rolls[32], C = size[i][0], h = size[i][1], levels = pixzero_levels(h);
        pixzero_draw(&random, rolls, 1, C, h);
        for (int k = 0; k < C * levels; k++) {
            int half = (h >> (k % levels)) / 2;
            check_true("a shift is from 1 to half the size less one", rolls[k] >= 1 && (rolls[k] < half || half <= 2));
        }
        Noise n = { fresh(SHAPE(C, h, size[i][2]), 0.1, 1), rolls };
        Tensor g = fresh(n.e.s, 7, 1);
        pixzero_autocorrelation(&run, g, n.e, rolls);
        gradcheck("pixzero_autocorrelation", &(GradCheck){ correlation_loss, &n, 1e-5, 300 }, &(GradPart){ "e", n.e, g }, 1, LIMIT);
        pixzero_divergence(&run, g, n.e);
        gradcheck("pixzero_divergence", &(GradCheck){ divergence_loss, &n, 1e-5, 300 }, &(GradPart){ "e", n.e, g }, 1, LIMIT);
    }
}

/* ---- energies on made-up views ---- */

typedef struct { Energy e; View now, ref; void *state; } Score;

static double score_loss(void *self)
{
    Score *s = self;
    Sight copy[4];
    size_t mark = arena.used;
    View quiet = s->now;
    for (int i = 0; i < quiet.sights; i++) {
        copy[i] = s->now.sight[i];
        copy[i].adj = fresh(copy[i].val.s, 0, 0);
    }
    quiet.sight = copy;
    double E = (double)s->e.eval(&s->e, &run, &quiet, &s->ref, 1.5, s->state);
    arena_release(&arena, mark);
    return E;
}

static Sight sight(See kind, const char *site, Shape s, bool grads)
{
    return (Sight){ kind, site, fresh(s, 0.5, 0.4), grads ? fresh(s, 0, 0) : (Tensor){0} };
}

static void maps(void)
{
    static const Want want = { SEE_PROBS, "*.attn2" };
    Sight now[3] = { sight(SEE_PROBS, "a.attn2", SHAPE(2, 9, 5), true), sight(SEE_PROBS, "b.attn1", SHAPE(2, 4, 4), true),
                     sight(SEE_PROBS, "c.attn2", SHAPE(3, 4, 5), true) };
    Sight ref[2] = { sight(SEE_PROBS, "c.attn2", SHAPE(3, 4, 5), false), sight(SEE_PROBS, "a.attn2", SHAPE(2, 9, 5), false) };
    Score s = { { .name = "maps", .want = &want, .wants = 1, .eval = pixzero_maps, .weight = 1.5 }, { .sight = now, .sights = 3 }, { .sight = ref, .sights = 2 }, NULL };
    pixzero_maps(&s.e, &run, &s.now, &s.ref, 1.5, NULL);
    GradPart part[] = { { "a.attn2", now[0].val, now[0].adj }, { "c.attn2", now[2].val, now[2].adj } };
    gradcheck("pixzero_maps", &(GradCheck){ score_loss, &s, 1e-5, 300 }, part, 2, LIMIT);
    check_true("pixzero_maps: self-attention is not looked at", now[1].adj.x[0] == 0);
}

static void distance_to_inversion(void)
{
    Shape z = SHAPE(2, 3, 4);
    Tensor stored[3] = { fresh(z, 0, 1), fresh(z, 0, 1), fresh(z, 0, 1) };
    NullText state = { .stored = stored };
    Sight now = sight(SEE_PREV, "", z, true);
    Score s = { { .name = "next latent", .eval = nulltext_distance, .weight = 1.5 }, { .branch = "", .sight = &now, .sights = 1, .clock = { .i = 1, .n = 2 } }, {0}, &state };
    nulltext_distance(&s.e, &run, &s.now, NULL, 1.5, &state);
    gradcheck("nulltext_distance", &(GradCheck){ score_loss, &s, 1e-5, 300 }, &(GradPart){ "prev", now.val, now.adj }, 1, LIMIT);
}

/* ---- the write into cross-attention ---- */

typedef struct { Write w; Clock c; Tensor x, y, weight; Sight ref; } Put;

static double put_loss(void *self)
{
    Put *p = self;
    tensor_copy(&run, p->y, p->x);
    p->w.put(&p->w, &run, &p->c, "a.attn2", p->y, &p->ref, NULL);
    return grad_weighted(p->y, p->weight);
}

/* out = alpha eq (P* M + own P) + (1 - alpha) P with the dense matrix. */
static double dense_error(const Put *p, Tensor M, const PromptEdit *e)
{
    int n = e->tokens;
    double worst = 0;
    for (int row = 0; row < (int)tensor_count(p->x) / n; row++)
        for (int j = 0; j < n; j++) {
            double sum = (double)e->own.x[j] * (double)p->x.x[row * n + j], a = (double)e->alpha.x[p->c.i * n + j];
            for (int i = 0; i < n; i++) sum += (double)p->ref.val.x[row * n + i] * (double)M.x[i * n + j];
            double want = a * (double)e->equalizer.x[j] * sum + (1 - a) * (double)p->x.x[row * n + j];
            worst = fmax(worst, fabs(want - (double)p->y.x[row * n + j]));
        }
    return worst;
}

static void cross_write(void)
{
    enum { T = 6 };
    Tensor M = fresh(SHAPE(T, T), 0, 0), own = fresh(SHAPE(T), 0.5, 0.4), eq = fresh(SHAPE(T), 1, 2), alpha = fresh(SHAPE(4, T), 0.5, 0.4);
    for (int i = 0; i < 2 * T; i++) M.x[(i * 7) % (T * T)] = 0.5;
    alpha.x[2 * T + 1] = 0;
    alpha.x[2 * T + 3] = 1;
    PromptEdit e;
    check_true("prompt_edit", prompt_edit(&run, &e, M, own, eq, alpha));
    Put p = { .c = { .i = 2, .n = 3 }, .x = fresh(SHAPE(2, 3, T), 0.5, 0.4), .y = fresh(SHAPE(2, 3, T), 0, 0), .weight = fresh(SHAPE(2, 3, T), 0, 1),
              .ref = sight(SEE_PROBS, "a.attn2", SHAPE(2, 3, T), false) };
    Write w[2];
    check_true("two writes where self-attention has sites, else one", prompt_writes(w, &e, "", 0, 1) == 1 && prompt_writes(w, &e, "b", 0, 1) == 2);
    p.w = w[0];
    Tensor dx = fresh(p.x.s, 0, 0);
    tensor_copy(&run, dx, p.weight);
    prompt_back(&p.w, &run, &p.c, "a.attn2", dx, NULL);
    gradcheck("prompt_back", &(GradCheck){ put_loss, &p, 1e-5, 300 }, &(GradPart){ "P", p.x, dx }, 1, LIMIT);
    put_loss(&p);
    check_below("prompt_put is the dense product", dense_error(&p, M, &e), 1e-14);
}

int main(void)
{
    run = (Run){ .keep = &scratch, .temp = &scratch, .step = &arena, .run = &arena, .k = &kernels_plain, .threads = 1 };
    noise();
    maps();
    distance_to_inversion();
    cross_write();
    check_true(run_ok(&run) ? "no error was raised" : run.status.text, run_ok(&run));
    arena_free(&arena);
    arena_free(&scratch);
    return check_done();
}
