/* laws_clip.c -- what must hold for CLIP's towers whatever the weights: same bits for any number of threads and in any
 * batch, with and without gradients, with and without somebody looking; and what the definitions imply. */
#include "nn/clip.h"
#include "tests/check.h"

static Arena arena, kept, scratch;
static Status status;
static const Tensor none;
static ClipText text;
static ClipImage image;
enum { T = 9, D = 64, P = 24, SIDE = 32, TOKENS = 17, LAYERS = 3 };
static int ids[2 * T] = { 40, 3, 7, 7, 12, 1, 41, 41, 41,  40, 30, 29, 28, 2, 5, 6, 11, 41 };

static Run fresh_run(int threads, bool gradients)
{
    arena_release(&kept, 0);
    arena_release(&scratch, 0);
    return (Run){ .keep = gradients ? &kept : &scratch, .temp = &scratch, .threads = threads, .blas = true, .k = kernels_pick(NULL) };
}

static Tensor fresh(Shape s)
{
    Run r = fresh_run(1, false);
    Tensor t = tensor_in(&r, &arena, s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)check_uniform();
    return t;
}

static bool same(Tensor a, Tensor b)
{
    return tensor_same(a, b) && !memcmp(a.x, b.x, tensor_count(a) * sizeof(real));
}

static double off(Tensor a, Tensor b)
{
    double worst = 0, high = 0;
    for (size_t i = 0; i < tensor_count(a); i++) {
        worst = fmax(worst, fabs((double)a.x[i] - (double)b.x[i]));
        high = fmax(high, fabs((double)b.x[i]));
    }
    return worst / high;
}

typedef struct { Tensor last, pooled, embeds, din; } Out;

static Out out(int N, int tokens, Shape in)
{
    return (Out){ fresh(SHAPE(N, tokens, D)), fresh(SHAPE(N, D)), fresh(SHAPE(N, P)), fresh(in) };
}

static bool same_out(Out a, Out b) { return same(a.last, b.last) && same(a.pooled, b.pooled) && same(a.embeds, b.embeds) && same(a.din, b.din); }

static void run_text(Run *r, Out o, Tensor x, const int *id, Tensor dlast, Tensor dembeds)
{
    ClipTextPass p;
    clip_text_forward(r, &text, o.last, o.pooled, o.embeds, &p, x, id, 0);
    if (r->keep != r->temp) clip_text_backward(r, &text, o.din, dlast, none, dembeds, &p);
}

static void run_image(Run *r, Out o, Tensor x, Tensor dlast, Tensor dembeds)
{
    ClipImagePass p;
    clip_image_forward(r, &image, o.last, o.pooled, o.embeds, &p, x);
    if (r->keep != r->temp) clip_image_backward(r, &image, o.din, dlast, none, dembeds, &p);
}

static void look(void *self, Run *r, Tensor v)
{
    (void)r;
    *(size_t *)self += tensor_count(v);
}

static void bits(bool of_text)
{
    const char *what = of_text ? "text tower" : "image tower";
    int tokens = of_text ? T : TOKENS;
    Shape in = of_text ? SHAPE(2, T, D) : SHAPE(2, 3, SIDE, SIDE), one = in;
    one.d[0] = 1;
    Tensor x = fresh(in), dlast = fresh(SHAPE(2, tokens, D)), dembeds = fresh(SHAPE(2, P));
    Out a = out(2, tokens, in), b = out(2, tokens, in), c = out(1, tokens, one);
    Run r = fresh_run(1, true);
    if (of_text) run_text(&r, a, x, ids, dlast, dembeds);
    else run_image(&r, a, x, dlast, dembeds);
    bool threads = run_ok(&r), rows = true;
    for (int n = 2; n <= 4; n++) {
        r = fresh_run(n, true);
        if (of_text) run_text(&r, b, x, ids, dlast, dembeds);
        else run_image(&r, b, x, dlast, dembeds);
        threads &= same_out(a, b);
    }
    check_line(what, "1, 2, 3, 4 threads: the same bits", threads);

    for (int n = 0; n < 2; n++) {
        r = fresh_run(2, true);
        if (of_text) run_text(&r, c, tensor_rows(x, n, 1), ids + n * T, tensor_rows(dlast, n, 1), tensor_rows(dembeds, n, 1));
        else run_image(&r, c, tensor_rows(x, n, 1), tensor_rows(dlast, n, 1), tensor_rows(dembeds, n, 1));
        rows &= same_out(c, (Out){ tensor_rows(a.last, n, 1), tensor_rows(a.pooled, n, 1), tensor_rows(a.embeds, n, 1), tensor_rows(a.din, n, 1) });
    }
    check_line(what, "alone or in a batch: the same bits", rows);

    r = fresh_run(2, false);
    b.din = a.din;
    if (of_text) run_text(&r, b, x, ids, dlast, dembeds);
    else run_image(&r, b, x, dlast, dembeds);
    check_line(what, "without gradients: the same bits, and nothing held", same_out(a, b) && scratch.used == 0);

    size_t seen = 0;
    const char *layer = of_text ? "text_model.encoder.layers.1" : "vision_model.encoder.layers.1";
    const char *attention = of_text ? "text_model.encoder.layers.2.self_attn" : "vision_model.encoder.layers.2.self_attn";
    Tap tap[2] = { { SITE_FEATURE, layer, &seen, look, NULL, false }, { SITE_PROBS, attention, &seen, look, NULL, false } };
    b.din = fresh(in);
    r = fresh_run(2, true);
    r.tap = tap;
    r.taps = 2;
    if (of_text) run_text(&r, b, x, ids, dlast, dembeds);
    else run_image(&r, b, x, dlast, dembeds);
    check_line(what, "with somebody looking: the same bits", same_out(a, b));
    check_line(what, "sites are [N,T,D] and [N,heads,T,T]", seen == (size_t)(2 * tokens * D + 2 * 4 * tokens * tokens));
}

static void copy(void *self, Run *r, Tensor v) { tensor_copy(r, *(Tensor *)self, v); }

/* The state after one layer fewer is that layer's output with the final norm on it; a causal tower does not see what follows. */
static void text_laws(void)
{
    Tensor x = fresh(SHAPE(2, T, D)), last = fresh(x.s), layer = fresh(x.s), normed = fresh(x.s), pooled = fresh(SHAPE(2, D));
    ClipTextPass p;
    NormCache c;
    Tap tap = { SITE_FEATURE, "text_model.encoder.layers.1", &layer, copy, NULL, false };
    Run r = fresh_run(2, false);
    r.tap = &tap;
    r.taps = 1;
    clip_text_forward(&r, &text, last, none, none, &p, x, ids, 0);
    r.taps = 0;
    norm_forward(&r, &text.final, normed, &c, layer, none, none);
    clip_text_forward(&r, &text, last, pooled, none, &p, x, ids, 1);
    check_true("one layer left out: the one before, with the final norm", same(last, normed));
    check_true("pooled is the end's row", !memcmp(pooled.x, last.x + 6 * D, D * sizeof(real)) && !memcmp(pooled.x + D, last.x + (2 * T - 1) * D, D * sizeof(real)));

    Tensor y = fresh(x.s), changed = fresh(x.s);
    r = fresh_run(2, false);
    clip_text_forward(&r, &text, last, none, none, &p, x, ids, 0);
    tensor_copy(&r, changed, x);
    for (int i = 5 * D; i < T * D; i++) changed.x[i] = (real)check_uniform();
    clip_text_forward(&r, &text, y, none, none, &p, changed, ids, 0);
    check_true("tokens see only what is in front of them", !memcmp(y.x, last.x, 5 * D * sizeof(real)) && memcmp(y.x + 5 * D, last.x + 5 * D, D * sizeof(real)));
}

/* Where the text ends: legacy configurations (2) take the first maximum, others the first such id, or position 0. */
static void ends(void)
{
    static const struct { int eos, id[T], end; } row[] = {
        { 41, { 40, 3, 41, 7, 41, 1, 2, 3, 4 }, 2 }, { 41, { 40, 3, 1, 7, 1, 1, 2, 3, 41 }, 8 }, { 41, { 40, 3, 1, 7, 1, 1, 2, 3, 4 }, 0 },
        { 2, { 40, 3, 41, 7, 41, 1, 2, 3, 4 }, 2 }, { 2, { 40, 3, 4, 7, 4, 1, 2, 3, 4 }, 0 }, { 2, { 1, 3, 2, 7, 7, 1, 2, 3, 4 }, 3 }, { 7, { 7, 3, 2, 7, 7, 1, 2, 3, 4 }, 0 },
    };
    Tensor x = fresh(SHAPE(1, T, D)), last = fresh(x.s), pooled = fresh(SHAPE(1, D));
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ClipText m = text;
        ClipTextPass p;
        Run r = fresh_run(1, false);
        m.config.eos = row[i].eos;
        clip_text_forward(&r, &m, last, pooled, none, &p, x, row[i].id, 0);
        check_true("the text ends where the rule says", !memcmp(pooled.x, last.x + row[i].end * D, D * sizeof(real)));
    }
}

/* Backward is linear: twice the gradient in is twice the gradient out, and parameter gradients add up. */
static void added(void)
{
    Tensor x = fresh(SHAPE(2, 3, SIDE, SIDE)), dembeds = fresh(SHAPE(2, P)), embeds = fresh(SHAPE(2, P)), once = fresh(image.patch.w.v.s);
    ClipImagePass p;
    params_want_gradients(clip_image_walk, &image, &arena, &status);
    Run r = fresh_run(2, true);
    for (int k = 0; k < 2; k++) {
        clip_image_forward(&r, &image, none, none, embeds, &p, x);
        clip_image_backward(&r, &image, none, none, none, dembeds, &p);
        if (!k) tensor_copy(&r, once, image.patch.w.grad);
    }
    for (size_t i = 0; i < tensor_count(once); i++) once.x[i] *= 2;
    check_below("a second backward adds the same gradient", off(image.patch.w.grad, once), 1e-6);
}

int main(void)
{
    ClipTextConfig c = { D, 96, 4, LAYERS, 42, 12, P, 41, POINT_QUICK_GELU, 1e-5 };
    ClipImageConfig v = { D, 96, 4, LAYERS, SIDE, 8, 3, P, POINT_GELU, 1e-5 };
    kept.poison = scratch.poison = true;
    clip_text_build(&text, &c, &arena, &status);
    clip_image_build(&image, &v, &arena, &status);
    params_randomise(clip_text_walk, &text, &arena, 1, &status);
    params_randomise(clip_image_walk, &image, &arena, 2, &status);
    bits(true);
    bits(false);
    text_laws();
    ends();
    added();
    check_line("no error on the way", status.text, status.code == OK);
    arena_free(&arena);
    arena_free(&kept);
    arena_free(&scratch);
    return check_done();
}
