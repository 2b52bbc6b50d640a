/* Every table of tiles against the plain definition, and Winograd against the direct convolution, float build.
 * Limits: a chain of n multiply-adds in float is off by about sqrt(n) 6e-8 of the size of the sum (measured 1-3e-7 for
 * n <= 320); chunks of 320 keep longer sums there.  Winograd's transforms double that: 5-7e-7 measured. */
#include "tensor/attention.h"
#include "tensor/conv.h"
#include "tensor/gemm.h"
#include "tensor/tiles.h"
#include "tests/check.h"

static Arena arena, temporary;

static Run run_on(const Kernels *k, bool blas)
{
    return (Run){ .keep = &arena, .temp = &temporary, .k = k, .threads = 2, .blas = blas };
}

static real *numbers(size_t n)
{
    real *x = arena_take(&arena, n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (real)check_uniform();
    return x;
}

static Tensor fresh(Shape s) { return (Tensor){ numbers(shape_count(s)), s }; }

static double relative(size_t n, const real *a, const double *b)         /* L2 */
{
    double off = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        all += b[i] * b[i];
    }
    return sqrt(off / all);
}

static double difference(size_t n, const real *a, const real *b)         /* max |a - b| / max |b| */
{
    double off = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        off = fmax(off, isnan(a[i]) != isnan(b[i]) ? (double)INFINITY : fabs((double)a[i] - (double)b[i]));
        high = fmax(high, fabs((double)b[i]));
    }
    return off / high;
}

static void tile_product(const char *name, const Tiles *t)
{
    enum { K = 37, LD = 61 };
    double worst = 0;
    int touched = 0;
    real *a = numbers(TILE_HIGH * LD * 2), *b = numbers(K * LD);
    for (int rows = 1; rows <= t->high; rows++)
        for (int turned = 0; turned < 2; turned++)
            for (int add = 0; add < 2; add++) {
                real c[TILE_HIGH * LD], before[TILE_HIGH * LD];
                ptrdiff_t ai = turned ? 1 : LD, ak = turned ? 23 : 1;
                for (int i = 0; i < TILE_HIGH * LD; i++) before[i] = c[i] = (real)check_uniform();
                t->product(rows, K, a, ai, ak, b, LD, c, LD, add);
                for (int i = 0; i < TILE_HIGH; i++)
                    for (int j = 0; j < LD; j++) {
                        double sum = add ? (double)before[i * LD + j] : 0;
                        for (int k = 0; k < K; k++) sum += (double)a[i * ai + k * ak] * (double)b[k * LD + j];
                        if (i < rows && j < t->wide) worst = fmax(worst, fabs(sum - (double)c[i * LD + j]));
                        else touched += before[i * LD + j] != c[i * LD + j];
                    }
            }
    char line[80];
    snprintf(line, sizeof line, "%s: product", name);
    check_below(line, worst, 3e-6);                       /* sums of size 4: 37 roundings of 2e-7 at most */
    snprintf(line, sizeof line, "%s: nothing outside the tile is written", name);
    check_true(line, touched == 0);
}

static void tile_turn(const char *name, const Tiles *t)
{
    enum { LD = 53 };
    int wrong = 0;
    real *from = numbers(TILE_WIDE * LD), to[LD * TILE_WIDE];
    for (int K = 0; K < 40; K++)
        for (int n = 1; n <= t->wide; n++) {
            t->turn(K, n, to, from, LD);
            for (int k = 0; k < K; k++)
                for (int j = 0; j < t->wide; j++) wrong += to[k * t->wide + j] != (j < n ? from[j * LD + k] : 0);
        }
    char line[80];
    snprintf(line, sizeof line, "%s: turn", name);
    check_true(line, wrong == 0);
}

static void tile_winograd(const char *name, const Tiles *t)
{
    enum { C = 64, PLANE = 70 };
    const real *d[16], *add[4];
    real v[16 * PLANE], expected[16 * PLANE], *y[4], *z[4], *bias = numbers(C), out[4 * C], other[4 * C];
    for (int i = 0; i < 16; i++) d[i] = numbers(C);
    for (int i = 0; i < 4; i++) add[i] = numbers(C), y[i] = i == 2 ? NULL : out + i * C, z[i] = i == 2 ? NULL : other + i * C;
    for (int i = 0; i < 16 * PLANE; i++) v[i] = expected[i] = 7;
    t->winograd_in(C, v, PLANE, d);
    tiles_plain.winograd_in(C, expected, PLANE, d);
    char line[80];
    snprintf(line, sizeof line, "%s: winograd_in", name);
    check_below(line, difference(16 * PLANE, v, expected), 3e-7);         /* three roundings */
    for (int more = 0; more < 2; more++) {
        memset(out, 0, sizeof out);
        memset(other, 0, sizeof other);
        t->winograd_out(C, y, v, PLANE, more ? bias : NULL, more ? add : NULL);
        tiles_plain.winograd_out(C, z, v, PLANE, more ? bias : NULL, more ? add : NULL);
        snprintf(line, sizeof line, "%s: winograd_out%s", name, more ? " with bias and sum" : "");
        check_below(line, difference(4 * C, out, other), 6e-7);           /* ten roundings */
    }
}

/* One column at a time by the definition, in double. */
static void tile_softmax(const char *name, const Tiles *t)
{
    static const int lengths[] = { 1, 2, 63, 64, 65, 77, 300 };
    double worst = 0, again = 0, back = 0;
    for (int l = 0; l < 7; l++) {
        int n = lengths[l], w = t->wide;
        real *x = numbers((size_t)(n * w)), *p = numbers((size_t)(n * w)), *q = numbers((size_t)(n * w)), *d = numbers((size_t)(n * w));
        real high[TILE_WIDE], part[TILE_WIDE], scale = (real)0.3;
        for (int i = 0; i < n * w; i++) x[i] *= 40, p[i] = q[i] = x[i];
        t->softmax(n, p, scale, high, part);
        t->softmax_again(n, q, scale, high, part);
        again = fmax(again, memcmp(p, q, (size_t)(n * w) * sizeof *p) ? 1 : 0);
        for (int i = 0; i < n * w; i++) q[i] = d[i];
        t->softmax_back(n, q, p, scale);
        for (int j = 0; j < w; j++) {
            double sum = 0, dot = 0;
            for (int i = 0; i < n; i++) sum += exp((double)(x[i * w + j] * scale - high[j]));
            for (int i = 0; i < n; i++) dot += (double)p[i * w + j] * (double)d[i * w + j];
            for (int i = 0; i < n; i++) {
                worst = fmax(worst, fabs((double)p[i * w + j] - exp((double)(x[i * w + j] * scale - high[j])) / sum));
                back = fmax(back, fabs((double)q[i * w + j] - (double)scale * (double)p[i * w + j] * ((double)d[i * w + j] - dot)));
            }
        }
    }
    char line[80];
    snprintf(line, sizeof line, "%s: softmax", name);
    check_below(line, worst, 1e-6);                       /* of 1: exponential 2 ulp, sum and quotient */
    snprintf(line, sizeof line, "%s: softmax_back", name);
    check_below(line, back, 3e-7);
    snprintf(line, sizeof line, "%s: softmax_again gives the same bits", name);
    check_true(line, again == 0);
}

static void products_on(const Kernels *k, bool blas)
{
    static const int sizes[][3] = { {1,1,1}, {3,5,7}, {14,32,320}, {29,33,321}, {70,97,700}, {130,64,1281} };
    Run r = run_on(k, blas);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int form = 0; form < 4; form++) {
            int M = sizes[s][0], N = sizes[s][1], K = sizes[s][2];
            bool ta = form & 1, tb = form & 2;
            size_t MN = (size_t)(M * N);
            real *A = numbers((size_t)(M * K)), *B = numbers((size_t)(K * N)), *C = numbers(MN);
            double *expected = malloc(MN * sizeof *expected);
            if (!expected) exit(2);
            for (int i = 0; i < M; i++)
                for (int j = 0; j < N; j++) {
                    double sum = 0.5 * (double)C[i * N + j];
                    for (int l = 0; l < K; l++) sum += 2 * (double)(ta ? A[l * M + i] : A[i * K + l]) * (double)(tb ? B[j * K + l] : B[l * N + j]);
                    expected[i * N + j] = sum;
                }
            gemm_begin(&r);
            gemm(&r, ta, tb, M, N, K, 2, A, ta ? M : K, B, tb ? K : N, (real)0.5, C, N);
            char line[100];
            snprintf(line, sizeof line, "%s%s: gemm %dx%dx%d%s%s", k->name, blas ? " (blas)" : "", M, N, K, ta ? " A^T" : "", tb ? " B^T" : "");
            check_below(line, relative(MN, C, expected), 6e-7);           /* measured 0.5-3e-7 */
            free(expected);
        }
}

/* An inner size of 0: C = beta C. */
static void nothing_to_sum_on(const Kernels *k)
{
    Run r = run_on(k, false);
    real C[6] = { 1, 2, 3, 4, 5, 6 }, none[1] = {0};
    gemm(&r, false, false, 2, 3, 0, 1, none, 1, none, 3, 2, C, 3);
    check_true("gemm: nothing to sum leaves beta C", C[0] == 2 && C[5] == 12);
    gemm(&r, false, true, 2, 3, 0, 1, none, 1, none, 1, 0, C, 3);
    check_true("gemm: or zeros", C[0] == 0 && C[5] == 0);
}

/* y and dx by the definition, in double. */
static void direct(Tensor x, Tensor w, Tensor dy, double *y, double *dx)
{
    int H = x.s.d[1], W = x.s.d[2], I = x.s.d[3], O = w.s.d[0];
    for (int i = 0; i < H; i++)
        for (int j = 0; j < W; j++)
            for (int p = 0; p < 9; p++) {
                int a = i + p / 3 - 1, b = j + p % 3 - 1;
                if (a < 0 || a >= H || b < 0 || b >= W) continue;
                for (int o = 0; o < O; o++)
                    for (int c = 0; c < I; c++) {
                        double g = (double)w.x[(o * 9 + p) * I + c];
                        y[(i * W + j) * O + o] += (double)x.x[(a * W + b) * I + c] * g;
                        dx[(a * W + b) * I + c] += (double)dy.x[(i * W + j) * O + o] * g;
                    }
            }
}

static void winograd_on(const Kernels *k, int H, int W, int I, int O)
{
    Run r = run_on(k, false);
    Conv2d same = { 1, 1, 1 };
    Tensor x = fresh(SHAPE(1, H, W, I)), w = fresh(SHAPE(O, 3, 3, I)), dy = fresh(SHAPE(1, H, W, O)), none = {0};
    Tensor y = fresh(dy.s), z = fresh(dy.s), dx = fresh(x.s), dz = fresh(x.s), u = fresh(winograd_shape(w.s));
    double *ey = calloc(tensor_count(y), sizeof *ey), *ex = calloc(tensor_count(x), sizeof *ex);
    if (!ey || !ex) exit(2);
    winograd_weights(&r, u, w);
    direct(x, w, dy, ey, ex);
    Tensor missing = { NULL, w.s };
    conv2d(&r, y, x, missing, none, u, none, same);
    conv2d_back(&r, dx, none, none, dy, none, missing, u, same);
    conv2d(&r, z, x, w, none, none, none, same);
    conv2d_back(&r, dz, none, none, dy, none, w, none, same);
    char line[100];
    double e[4] = { relative(tensor_count(y), y.x, ey), relative(tensor_count(x), dx.x, ex), relative(tensor_count(y), z.x, ey), relative(tensor_count(x), dz.x, ex) };
    static const char *const what[] = { "winograd", "winograd dx", "direct", "direct dx" };
    for (int i = 0; i < 4; i++) {
        snprintf(line, sizeof line, "%s: %s %dx%d %d->%d", k->name, what[i], H, W, I, O);
        check_below(line, e[i], 1e-6);                    /* measured: winograd 3-6e-7, direct 1-3e-7 */
    }
    Tensor b = fresh(SHAPE(O)), sum = fresh(y.s);
    tensor_copy(&r, z, sum);
    conv2d(&r, z, x, w, b, u, z, same);                   /* add is y itself */
    for (size_t i = 0; i < tensor_count(y); i++) ey[i] += (double)b.x[i % (size_t)O] + (double)sum.x[i];
    snprintf(line, sizeof line, "%s: winograd with bias and sum %dx%d %d->%d", k->name, H, W, I, O);
    check_below(line, relative(tensor_count(y), z.x, ey), 1e-6);
    check_true("no error", run_ok(&r));
    free(ey);
    free(ex);
}

int main(void)
{
    const Kernels *k;
    for (int i = 0; (k = kernels_at(i)); i++) {
        tile_product(k->name, k->tiles);
        tile_turn(k->name, k->tiles);
        tile_winograd(k->name, k->tiles);
        tile_softmax(k->name, k->tiles);
        products_on(k, false);
        if (i == 0) products_on(k, true);
        nothing_to_sum_on(k);
        winograd_on(k, 16, 16, 64, 32);
        winograd_on(k, 17, 33, 32, 64);
        winograd_on(k, 33, 35, 32, 32);
        arena_release(&arena, 0);
    }
    arena_free(&arena);
    arena_free(&temporary);
    return check_done();
}
