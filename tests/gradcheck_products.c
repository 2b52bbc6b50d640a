/* Gradients of matrix products, convolutions and attention against central differences, in double.
 * Limit 1e-7 of the largest element: differences of width 1e-5 leave about 1e-10 (third derivatives of the softmax)
 * plus rounding 1e-16 x |L| / 1e-5. */
#include "tensor/attention.h"
#include "tensor/conv.h"
#include "tensor/gemm.h"
#include "tests/gradcheck.h"

static const double LIMIT = 1e-7;
static Run run;
static Arena arena;

typedef struct {
    Tensor x, w, b, add, q, k, v, y, dy, map, stat;       /* dy: fixed weights of the loss <dy, y> */
    Conv2d c;
    int heads;
    bool causal, add_y;
    void (*forward)(void *self);
} Case;

static Tensor fresh(Shape s)
{
    Tensor t = tensor_in(&run, &arena, s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)check_uniform();
    return t;
}

static double loss(void *self)
{
    Case *c = self;
    c->forward(c);
    return grad_weighted(c->y, c->dy);
}

static void row(const char *what, const char *of, Case *c, Tensor x, Tensor dx)
{
    GradCheck g = { loss, c, 1e-5, 400 };
    GradPart part = { of, x, dx };
    gradcheck(what, &g, &part, 1, LIMIT);
}

/* A gradient that is added to starts from ones, and has them taken off again. */
static Tensor ones(Shape s)
{
    Tensor t = fresh(s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = 1;
    return t;
}

static Tensor minus_one(Tensor t)
{
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] -= 1;
    return t;
}

static void run_linear(void *self)
{
    Case *c = self;
    if (c->add.x) tensor_copy(&run, c->y, c->add);
    linear(&run, c->y, c->x, c->w, c->b, c->add.x != NULL);
}

static void linears(int N, int T, int I, int O, bool bias, bool add)
{
    char name[80];
    snprintf(name, sizeof name, "linear %dx%dx%d->%d%s%s", N, T, I, O, bias ? " bias" : "", add ? " add" : "");
    Shape in = SHAPE(N, T, I), out = SHAPE(N, T, O);
    Case c = { .x = fresh(in), .w = fresh(SHAPE(O, I)), .y = fresh(out), .dy = fresh(out), .forward = run_linear };
    if (bias) c.b = fresh(SHAPE(O));
    if (add) c.add = fresh(out);
    Tensor dx = fresh(in), dw = ones(c.w.s), db = bias ? ones(c.b.s) : c.b;
    linear_back(&run, dx, dw, db, c.dy, c.x, c.w);
    row(name, "x", &c, c.x, dx);
    row(name, "w", &c, c.w, minus_one(dw));
    if (bias) row(name, "b", &c, c.b, minus_one(db));
}

static void run_conv(void *self)
{
    Case *c = self;
    if (c->add_y) tensor_copy(&run, c->y, c->add);
    conv2d(&run, c->y, c->x, c->w, c->b, (Tensor){0}, c->add_y ? c->y : c->add, c->c);
}

static void convs(int N, int H, int W, int I, int O, int kernel, Conv2d g, int extra)
{
    char name[80];
    snprintf(name, sizeof name, "conv %dx%dx%d %d->%d kernel %d stride %d pad %d+%d", N, H, W, I, O, kernel, g.stride, g.before, g.after);
    Case c = { .x = fresh(SHAPE(N, H, W, I)), .w = fresh(SHAPE(O, kernel, kernel, I)), .c = g, .forward = run_conv };
    Shape out = conv2d_shape(c.x.s, c.w.s, g);
    c.y = fresh(out);
    c.dy = fresh(out);
    if (extra) c.b = fresh(SHAPE(O)), c.add = fresh(out);
    c.add_y = extra == 2;
    Tensor dx = fresh(c.x.s), dw = ones(c.w.s), db = extra ? ones(c.b.s) : c.b;
    conv2d_back(&run, dx, dw, db, c.dy, c.x, c.w, (Tensor){0}, g);
    row(name, "x", &c, c.x, dx);
    row(name, "w", &c, c.w, minus_one(dw));
    if (extra) row(name, "b", &c, c.b, minus_one(db));
}

static void run_attention(void *self)
{
    Case *c = self;
    attention(&run, c->y, c->stat, c->q, c->k, c->v, c->heads, c->causal);
}

static void run_maps(void *self)
{
    Case *c = self;
    attention_probs(&run, c->map, c->q, c->k, c->heads, c->causal);
    attention_mix(&run, c->y, c->map, c->v);
}

static void attentions(int N, int Tq, int Tk, int heads, int D, bool causal)
{
    char name[80];
    snprintf(name, sizeof name, "attention %dx%dx%d %d heads of %d%s", N, Tq, Tk, heads, D, causal ? " causal" : "");
    Shape query = SHAPE(N, Tq, heads * D), key = SHAPE(N, Tk, heads * D);
    Case c = { .q = fresh(query), .k = fresh(key), .v = fresh(key), .y = fresh(query), .dy = fresh(query), .heads = heads,
               .causal = causal, .stat = fresh(SHAPE(N, heads, Tq, 2)), .map = fresh(SHAPE(N, heads, Tq, Tk)), .forward = run_attention };
    for (size_t i = 0; i < tensor_count(c.q); i++) c.q.x[i] *= 3;         /* rows that are not flat */
    Tensor dq = fresh(query), dk = fresh(key), dv = fresh(key);
    loss(&c);
    attention_back(&run, dq, dk, dv, c.dy, c.stat, c.q, c.k, c.v, heads, causal);
    row(name, "q", &c, c.q, dq);
    row(name, "k", &c, c.k, dk);
    row(name, "v", &c, c.v, dv);

    c.forward = run_maps;
    Tensor dP = fresh(c.map.s);
    loss(&c);
    attention_mix_back(&run, dP, dv, c.dy, c.map, c.v);
    attention_probs_back(&run, dq, dk, dP, c.map, c.q, c.k, heads);
    row(name, "q through maps", &c, c.q, dq);
    row(name, "k through maps", &c, c.k, dk);
    row(name, "v through maps", &c, c.v, dv);
}

/* The check must see a fault: a gradient whose largest element is off by a millionth of it. */
static void planted(void)
{
    Case c = { .x = fresh(SHAPE(1, 3, 4)), .w = fresh(SHAPE(5, 4)), .y = fresh(SHAPE(1, 3, 5)), .dy = fresh(SHAPE(1, 3, 5)), .forward = run_linear };
    Tensor dx = fresh(c.x.s);
    linear_back(&run, dx, (Tensor){0}, (Tensor){0}, c.dy, c.x, c.w);
    size_t at = 0;
    for (size_t i = 0; i < tensor_count(dx); i++) at = fabs(dx.x[i]) > fabs(dx.x[at]) ? i : at;
    dx.x[at] *= (real)(1 + 1e-6);
    GradCheck g = { loss, &c, 1e-5, 400 };
    gradcheck_must_fail("a fault of 1e-6 of the largest element is seen", &g, c.x, dx, LIMIT);
}

int main(void)
{
    Arena temporary = { .poison = true };
    run = (Run){ .keep = &arena, .temp = &temporary, .k = kernels_at(0), .threads = 2 };
    for (int b = 0; b < 2; b++) {
        run.blas = b;
        linears(2, 7, 5, 3, true, false);
        linears(1, 1, 33, 70, true, true);
        linears(3, 3, 1, 1, false, true);
        linears(1, 37, 19, 41, false, false);
        static const int size[] = { 1, 3, 7 };
        for (int i = 0; i < 3; i++) {
            convs(2, size[i], size[i], 3, 5, 3, (Conv2d){ 1, 1, 1 }, 1);
            convs(1, size[i], 7, 2, 3, 1, (Conv2d){ 1, 0, 0 }, 2);
            convs(1, 7, size[i], 3, 2, 5, (Conv2d){ 1, 2, 2 }, 0);
            convs(1, size[i], size[i], 2, 3, 3, (Conv2d){ 2, 1, 1 }, 2);
        }
        convs(2, 6, 8, 3, 4, 3, (Conv2d){ 2, 0, 1 }, 1);
        convs(1, 7, 5, 3, 4, 3, (Conv2d){ 2, 0, 1 }, 0);
        convs(1, 8, 12, 3, 5, 4, (Conv2d){ 4, 0, 0 }, 1);
        convs(1, 9, 8, 2, 3, 2, (Conv2d){ 3, 0, 0 }, 1);
        convs(1, 6, 5, 2, 3, 1, (Conv2d){ 2, 0, 0 }, 0);
        convs(1, 17, 18, 2, 2, 3, (Conv2d){ 1, 1, 1 }, 1);
        attentions(2, 7, 5, 2, 3, false);
        attentions(1, 6, 6, 2, 4, true);
        attentions(1, 3, 11, 1, 7, false);
        attentions(1, 1, 2, 1, 1, false);
    }
    planted();
    check_true("no error", run_ok(&run));
    arena_free(&arena);
    arena_free(&temporary);
    return check_done();
}
