/* Laws of products, convolutions and attention, in both builds: backward is the adjoint of forward; neither threads nor
 * the batch nor a map kept or not kept changes a bit; a causal row does not see later keys. */
#include "tensor/attention.h"
#include "tensor/conv.h"
#include "tensor/gemm.h"
#include "tests/check.h"

static Arena arena, temporary = { .poison = true };
static Run run;
static const Tensor none = {0};
enum { BITS = 1 << 22 };                                  /* numbers a comparison may collect */

static Tensor fresh(Shape s)
{
    Tensor t = tensor_in(&run, &arena, s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)check_uniform();
    return t;
}

static double inner(Tensor a, Tensor b)
{
    double sum = 0;
    for (size_t i = 0; i < tensor_count(a); i++) sum += (double)a.x[i] * (double)b.x[i];
    return sum;
}

static double size(Tensor a) { return sqrt(inner(a, a)); }
static bool same(Tensor a, Tensor b) { return tensor_same(a, b) && !memcmp(a.x, b.x, tensor_count(a) * sizeof *a.x); }

/* <J v, w> = <v, J' w>, relative to |J v| |w|.  Limit 1e-5; float rounding leaves about 1e-7 (measured 1e-9 to 2e-7). */
static void adjoint(const char *what, Tensor Jv, Tensor w, Tensor v, Tensor Jw)
{
    char line[140];
    snprintf(line, sizeof line, "%s, %s%s: <Jv,w> = <v,J'w>", what, run.k->name, run.blas ? " with BLAS" : "");
    check_below(line, fabs(inner(Jv, w) - inner(v, Jw)) / (size(Jv) * size(w)), 1e-5);
}

typedef struct { int N, H, W, I, O, kernel; Conv2d c; bool fast; } ConvCase;
static const ConvCase convs[] = {
    { 2, 16, 16, 64, 32, 3, { 1, 1, 1 }, true },  { 2, 17, 16, 32, 64, 3, { 1, 1, 1 }, true },  { 1, 33, 32, 32, 32, 3, { 1, 1, 1 }, true },
    { 2, 17, 19, 5, 7, 3, { 1, 1, 1 }, false },   { 2, 8, 8, 40, 36, 3, { 1, 1, 1 }, false },   { 2, 20, 20, 6, 10, 3, { 2, 1, 1 }, false },
    { 2, 16, 18, 8, 8, 3, { 2, 0, 1 }, false },   { 2, 28, 28, 3, 33, 14, { 14, 0, 0 }, false }, { 2, 9, 9, 33, 17, 1, { 1, 0, 0 }, false },
    { 1, 32, 64, 256, 4, 3, { 1, 1, 1 }, false },         /* backward goes by pieces: two of the input's, three of the weights' */
};

static void conv_laws(const ConvCase *s)
{
    char name[100];
    snprintf(name, sizeof name, "conv %dx%d %d->%d kernel %d stride %d%s", s->H, s->W, s->I, s->O, s->kernel, s->c.stride, s->fast ? " winograd" : "");
    Tensor x = fresh(SHAPE(s->N, s->H, s->W, s->I)), w = fresh(SHAPE(s->O, s->kernel, s->kernel, s->I));
    Shape out = conv2d_shape(x.s, w.s, s->c);
    Tensor y = fresh(out), dy = fresh(out), dx = fresh(x.s), dw = fresh(w.s), u = none;
    if (s->fast && sizeof(real) == sizeof(float)) {
        u = fresh(winograd_shape(w.s));
        winograd_weights(&run, u, w);
    }
    tensor_zero(dw);
    conv2d(&run, y, x, w, none, u, none, s->c);
    conv2d_back(&run, dx, dw, none, dy, x, w, u, s->c);
    adjoint(name, y, dy, x, dx);
    adjoint(name, y, dy, w, dw);
}

static void linear_laws(int N, int T, int I, int O)
{
    char name[100];
    snprintf(name, sizeof name, "linear %dx%dx%d->%d", N, T, I, O);
    Tensor x = fresh(SHAPE(N, T, I)), w = fresh(SHAPE(O, I)), y = fresh(SHAPE(N, T, O)), dy = fresh(y.s), dx = fresh(x.s), dw = fresh(w.s);
    tensor_zero(dw);
    linear(&run, y, x, w, none, false);
    linear_back(&run, dx, dw, none, dy, x, w);
    adjoint(name, y, dy, x, dx);
    adjoint(name, y, dy, w, dw);
}

/* Attention is linear in v alone. */
static void attention_laws(int N, int Tq, int Tk, int heads, int D, bool causal)
{
    char name[100], line[160];
    snprintf(name, sizeof name, "attention %dx%dx%d %d of %d%s", N, Tq, Tk, heads, D, causal ? " causal" : "");
    Shape qs = SHAPE(N, Tq, heads * D), ks = SHAPE(N, Tk, heads * D);
    Tensor q = fresh(qs), k = fresh(ks), v = fresh(ks), dout = fresh(qs), stat = fresh(SHAPE(N, heads, Tq, 2)), P = fresh(SHAPE(N, heads, Tq, Tk));
    Tensor a = fresh(qs), b = fresh(qs), dq = fresh(qs), dk = fresh(ks), dv = fresh(ks), eq = fresh(qs), ek = fresh(ks), ev = fresh(ks), dP = fresh(P.s);
    attention(&run, a, stat, q, k, v, heads, causal);
    attention_back(&run, dq, dk, dv, dout, stat, q, k, v, heads, causal);
    attention_probs(&run, P, q, k, heads, causal);
    attention_mix(&run, b, P, v);
    attention_mix_back(&run, dP, ev, dout, P, v);
    attention_probs_back(&run, eq, ek, dP, P, q, k, heads);
    adjoint(name, a, dout, v, dv);
    snprintf(line, sizeof line, "%s, %s: q and k enter as a product: <q,dq> = <k,dk>", name, run.k->name);
    check_below(line, fabs(inner(q, dq) - inner(k, dk)) / (size(q) * size(dq)), 1e-6);       /* measured at most 2e-8 */
    snprintf(line, sizeof line, "%s, %s: a kept map gives the same bits", name, run.k->name);
    check_true(line, same(a, b) && same(dq, eq) && same(dk, ek) && same(dv, ev));
    double worst = 0, later = 0;
    for (size_t i = 0; i < tensor_count(P) / (size_t)Tk; i++) {
        double sum = 0;
        for (int j = 0; j < Tk; j++) {
            sum += (double)P.x[i * (size_t)Tk + (size_t)j];
            if (causal && j > (int)(i % (size_t)Tq)) later += fabs((double)P.x[i * (size_t)Tk + (size_t)j]);
        }
        worst = fmax(worst, fabs(sum - 1));
    }
    snprintf(line, sizeof line, "%s, %s: rows sum to 1", name, run.k->name);
    check_below(line, worst, 1e-6);                       /* roundings of Tk terms of size 1/Tk: measured 1-3e-7 */
    if (causal) check_true("a causal row does not see later keys", later == 0);
}

/* Everything once; all results one after the other. */
static size_t everything(real *to, int threads)
{
    size_t n = 0, mark = arena.used;
    run.threads = threads;
    check_seed = 5;
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) {
        const ConvCase *s = &convs[i];
        Tensor x = fresh(SHAPE(2, s->H, s->W, s->I)), w = fresh(SHAPE(s->O, s->kernel, s->kernel, s->I)), u = none;
        Shape out = conv2d_shape(SHAPE(2, s->H, s->W, s->I), w.s, s->c);
        Tensor dy = fresh(out), y = fresh(dy.s), dx = fresh(x.s), dw = fresh(w.s);
        if (s->fast && sizeof(real) == sizeof(float)) {
            u = fresh(winograd_shape(w.s));
            winograd_weights(&run, u, w);
        }
        tensor_zero(dw);
        conv2d(&run, y, x, w, none, u, none, s->c);
        conv2d_back(&run, dx, dw, none, dy, x, w, u, s->c);
        Tensor all[] = { y, dx, dw };
        for (int t = 0; t < 3; t++, n += tensor_count(all[t - 1])) memcpy(to + n, all[t].x, tensor_count(all[t]) * sizeof *to);
    }
    static const int lines[][3] = { { 300, 70, 130 }, { 77, 96, 64 }, { 1, 33, 400 }, { 1025, 13, 17 } };
    for (int i = 0; i < 4; i++) {
        int T = lines[i][0], I = lines[i][1], O = lines[i][2];
        Tensor x = fresh(SHAPE(2, T, I)), dy = fresh(SHAPE(2, T, O));
        Tensor w = fresh(SHAPE(O, I)), y = fresh(dy.s), dx = fresh(x.s);
        linear(&run, y, x, w, none, false);
        linear_back(&run, dx, none, none, dy, none, w);
        Tensor all[] = { y, dx };
        for (int t = 0; t < 2; t++, n += tensor_count(all[t - 1])) memcpy(to + n, all[t].x, tensor_count(all[t]) * sizeof *to);
    }
    static const int maps[][4] = { { 300, 77, 3, 5 }, { 40, 40, 1, 24 }, { 65, 9, 2, 40 } };
    for (int i = 0; i < 3; i++) {
        Shape qs = SHAPE(2, maps[i][0], maps[i][2] * maps[i][3]), ks = SHAPE(2, maps[i][1], maps[i][2] * maps[i][3]);
        Tensor q = fresh(qs), k = fresh(ks), v = fresh(ks);
        Tensor dout = fresh(qs), out = fresh(q.s), dq = fresh(q.s), dk = fresh(k.s), dv = fresh(k.s);
        Tensor stat = fresh(SHAPE(2, maps[i][2], maps[i][0], 2));
        attention(&run, out, stat, q, k, v, maps[i][2], i == 1);
        attention_back(&run, dq, dk, dv, dout, stat, q, k, v, maps[i][2], i == 1);
        Tensor all[] = { out, dq, dk, dv };
        for (int t = 0; t < 4; t++, n += tensor_count(all[t - 1])) memcpy(to + n, all[t].x, tensor_count(all[t]) * sizeof *to);
    }
    arena_release(&arena, mark);
    return n;
}

static void threads_change_nothing(real *a, real *b)
{
    size_t n = everything(a, 1);
    bool equal = n < BITS;
    for (int threads = 2; threads <= 4; threads++) equal &= everything(b, threads) == n && !memcmp(a, b, n * sizeof *a);
    char line[100];
    snprintf(line, sizeof line, "%s%s: 1, 2, 3 and 4 threads give the same bits", run.k->name, run.blas ? " with BLAS" : "");
    check_true(line, equal);
}

/* Two images together, and each by itself. */
static void batch_changes_nothing(void)
{
    run.threads = 2;
    bool equal = true;
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) {
        const ConvCase *s = &convs[i];
        Tensor x = fresh(SHAPE(2, s->H, s->W, s->I)), w = fresh(SHAPE(s->O, s->kernel, s->kernel, s->I)), u = none;
        Shape out = conv2d_shape(x.s, w.s, s->c);
        Tensor dy = fresh(out), y = fresh(out), dx = fresh(x.s);
        if (s->fast && sizeof(real) == sizeof(float)) {
            u = fresh(winograd_shape(w.s));
            winograd_weights(&run, u, w);
        }
        conv2d(&run, y, x, w, none, u, none, s->c);
        conv2d_back(&run, dx, none, none, dy, x, w, u, s->c);
        for (int n = 0; n < 2; n++) {
            Tensor y1 = fresh(tensor_rows(y, n, 1).s), dx1 = fresh(tensor_rows(x, n, 1).s);
            conv2d(&run, y1, tensor_rows(x, n, 1), w, none, u, none, s->c);
            conv2d_back(&run, dx1, none, none, tensor_rows(dy, n, 1), none, w, u, s->c);
            equal &= same(y1, tensor_rows(y, n, 1)) && same(dx1, tensor_rows(dx, n, 1));
        }
    }
    static const int lines[][3] = { { 300, 70, 130 }, { 77, 96, 64 }, { 1, 33, 400 } };
    for (int i = 0; i < 3; i++) {
        Tensor x = fresh(SHAPE(2, lines[i][0], lines[i][1])), w = fresh(SHAPE(lines[i][2], lines[i][1])), y = fresh(SHAPE(2, lines[i][0], lines[i][2]));
        linear(&run, y, x, w, none, false);
        for (int n = 0; n < 2; n++) {
            Tensor one = fresh(tensor_rows(y, n, 1).s);
            linear(&run, one, tensor_rows(x, n, 1), w, none, false);
            equal &= same(one, tensor_rows(y, n, 1));
        }
    }
    Tensor q = fresh(SHAPE(2, 70, 15)), k = fresh(SHAPE(2, 33, 15)), v = fresh(k.s), out = fresh(q.s), stat = fresh(SHAPE(2, 3, 70, 2));
    Tensor dout = fresh(q.s), dq = fresh(q.s), dk = fresh(k.s), dv = fresh(k.s);
    attention(&run, out, stat, q, k, v, 3, false);
    attention_back(&run, dq, dk, dv, dout, stat, q, k, v, 3, false);
    for (int n = 0; n < 2; n++) {
        Tensor one = fresh(SHAPE(1, 70, 15)), eq = fresh(one.s), ek = fresh(SHAPE(1, 33, 15)), ev = fresh(ek.s);
        attention(&run, one, none, tensor_rows(q, n, 1), tensor_rows(k, n, 1), tensor_rows(v, n, 1), 3, false);
        attention_back(&run, eq, ek, ev, tensor_rows(dout, n, 1), tensor_rows(stat, n, 1), tensor_rows(q, n, 1), tensor_rows(k, n, 1), tensor_rows(v, n, 1), 3, false);
        equal &= same(one, tensor_rows(out, n, 1)) && same(eq, tensor_rows(dq, n, 1)) && same(ek, tensor_rows(dk, n, 1)) && same(ev, tensor_rows(dv, n, 1));
    }
    char line[100];
    snprintf(line, sizeof line, "%s%s: a batch of 2 and two of 1 give the same bits", run.k->name, run.blas ? " with BLAS" : "");
    check_true(line, equal);
}

/* What fails must fail by status, and write nothing. */
static void refusals(void)
{
    Tensor x = fresh(SHAPE(1, 4, 6)), w = fresh(SHAPE(3, 5)), y = fresh(SHAPE(1, 4, 3));
    linear(&run, y, x, w, none, false);
    check_true("linear: widths that do not fit", run.status.code == E_SHAPE);
    run.status.code = OK;
    conv2d(&run, y, x, w, none, none, none, (Conv2d){ 1, 1, 1 });
    check_true("conv2d: no maps", run.status.code == E_SHAPE);
    run.status.code = OK;
    attention(&run, y, none, y, x, x, 2, false);
    check_true("attention: widths that do not fit", run.status.code == E_SHAPE);
    run.status.code = OK;
    linear(&run, none, none, none, none, false);
    check_true("linear: empty tensors", run.status.code == E_SHAPE);
    run.status.code = OK;
    Arena small = { .limit = 64 };
    run.temp = &small;
    attention(&run, x, none, x, x, x, 2, false);
    check_true("attention: no memory", run.status.code == E_MEMORY);
    run.status.code = OK;
    run.temp = &temporary;
    arena_free(&small);
}

int main(void)
{
    real *a = malloc(BITS * sizeof *a), *b = malloc(BITS * sizeof *b);
    if (!a || !b) return 2;
    const Kernels *k;
    for (int i = 0; (k = kernels_at(i)); i++)
        for (int blas = 0; blas < (i ? 1 : 2); blas++) {
            run = (Run){ .keep = &arena, .temp = &temporary, .k = k, .threads = 2, .blas = blas };
            for (size_t c = 0; c < sizeof convs / sizeof *convs; c++) conv_laws(&convs[c]);
            linear_laws(2, 33, 70, 45);
            linear_laws(1, 1, 5, 77);
            attention_laws(2, 70, 33, 3, 5, false);
            attention_laws(1, 40, 40, 2, 16, true);
            attention_laws(1, 100, 700, 1, 40, false);
            attention_laws(1, 260, 4096, 1, 4, false);    /* backward goes by more than one block of panels */
            threads_change_nothing(a, b);
            batch_changes_nothing();
            check_true("no error", run_ok(&run));
            arena_release(&arena, 0);
        }
    refusals();
    arena_free(&arena);
    arena_free(&temporary);
    free(a);
    free(b);
    return check_done();
}
