#include <omp.h>
#include <string.h>
#include "tensor/conv.h"
#include "tensor/gemm.h"
#include "tensor/product.h"
#include "tensor/tiles.h"
#include "tensor/winograd.h"

/* As matrices: col[pixels, K] has, for every output pixel, the kh x kw x I numbers its kernel sees, and y = col w^T.
 * P output pixels, X to a row. */
typedef struct { int N, H, W, I, O, kh, kw, K, Y, X, P, stride, before; } Geometry;

static int parts(int n, int size) { return (n + size - 1) / size; }
static int least(int a, int b) { return a < b ? a : b; }
static int most(int a, int b) { return a > b ? a : b; }

static int extent(int in, int kernel, Conv2d c)
{
    int span = in + c.before + c.after - kernel;
    return c.stride < 1 || span < 0 ? 0 : span / c.stride + 1;
}

Shape conv2d_shape(Shape x, Shape w, Conv2d c)
{
    return SHAPE(x.d[0], extent(x.d[1], w.d[1], c), extent(x.d[2], w.d[2], c), w.d[0]);
}

static Geometry geometry(Shape x, Shape w, Shape y, Conv2d c)
{
    return (Geometry){ .N = x.d[0], .H = x.d[1], .W = x.d[2], .I = x.d[3], .O = w.d[0], .kh = w.d[1], .kw = w.d[2],
        .K = w.d[1] * w.d[2] * w.d[3], .Y = y.d[1], .X = y.d[2], .P = y.d[1] * y.d[2], .stride = c.stride, .before = c.before };
}

static bool fits(Run *r, const char *who, Shape x, Shape w, Shape y, Conv2d c)
{
    if (shape_rank(x) == 4 && shape_rank(w) == 4 && shape_count(y) && x.d[3] == w.d[3] &&
        c.before >= 0 && c.after >= 0 && shape_same(y, conv2d_shape(x, w, c))) return true;
    run_fail(r, E_SHAPE, "%s: x[%d,%d,%d,%d] with w[%d,%d,%d,%d], stride %d, padding %d+%d does not give y[%d,%d,%d,%d]", who,
             x.d[0], x.d[1], x.d[2], x.d[3], w.d[0], w.d[1], w.d[2], w.d[3], c.stride, c.before, c.after, y.d[0], y.d[1], y.d[2], y.d[3]);
    return false;
}

/* Piece k .. k + count of the rows of col for output pixels first + row ... of one image: what Product.fill wants. */
typedef struct { const Geometry *g; const real *x; int first; } Pixels;

static void gather_piece(const Geometry *g, real *to, const real *x, int i, int j, int k, int count)
{
    for (int end = k + count; k < end; ) {
        int tap = k / g->I, c = k % g->I, n = least(g->I - c, end - k);
        int y = i + tap / g->kw, z = j + tap % g->kw;
        bool inside = y >= 0 && y < g->H && z >= 0 && z < g->W;
        if (inside) memcpy(to, x + ((size_t)y * (size_t)g->W + (size_t)z) * (size_t)g->I + c, (size_t)n * sizeof *to);
        else memset(to, 0, (size_t)n * sizeof *to);
        to += n;
        k += n;
    }
}

static void gather(const void *pixels, real *a, int row, int rows, int k, int count)
{
    const Pixels *p = pixels;
    const Geometry *g = p->g;
    for (int t = p->first + row; rows-- > 0; t++, a += PRODUCT_STRIDE)
        gather_piece(g, a, p->x, t / g->X * g->stride - g->before, t % g->X * g->stride - g->before, k, count);
}

/* What the product is added to: bias, the sum wanted, or both. */
static void ground(real *y, int ld, int rows, int columns, const real *b, const real *more)
{
    for (int i = 0; i < rows; i++, y += ld, more += more ? ld : 0) {
        if (more && more != y) memcpy(y, more, (size_t)columns * sizeof *y);
        if (!more && b) memcpy(y, b, (size_t)columns * sizeof *y);
        else if (b) for (int j = 0; j < columns; j++) y[j] += b[j];
    }
}

static void forward(Run *r, const Geometry *g, real *y, const real *x, const real *w, const real *b, const real *add)
{
    int down = parts(g->P, 512), high = parts(g->P, down), across = down >= 8 ? 1 : least(parts(g->O, 128), parts(8, down));
    int wide = parts(parts(g->O, across), TILE_WIDE) * TILE_WIDE;
    size_t each = product_scratch(high);
    real *scratch = scratch_take(r, each * (size_t)r->threads);
    if (!scratch) return;
    across = parts(g->O, wide);

    #pragma omp parallel for collapse(3) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < g->N; n++)
        for (int i = 0; i < down; i++)
            for (int j = 0; j < across; j++) {
                int t = i * high, o = j * wide;
                size_t at = ((size_t)n * (size_t)g->P + (size_t)t) * (size_t)g->O + (size_t)o;
                Pixels from = { g, x + (size_t)n * (size_t)g->H * (size_t)g->W * (size_t)g->I, t };
                Product p = { least(high, g->P - t), least(wide, g->O - o), g->K, gather, &from,
                              w + (size_t)o * (size_t)g->K, 1, g->K, y + at, g->O, b || add };
                ground(p.c, g->O, p.rows, p.columns, b ? b + o : NULL, add ? add + at : NULL);
                product(r, &p, scratch + (size_t)omp_get_thread_num() * each);
            }
}

static bool use_winograd(Geometry g, Tensor u, Conv2d c)
{
    return u.x && g.kh == 3 && g.kw == 3 && c.stride == 1 && c.before == 1 && c.after == 1 && winograd_pays(g.H, g.W, g.I, g.O);
}

void conv2d(Run *r, Tensor y, Tensor x, Tensor w, Tensor b, Tensor u, Tensor add, Conv2d c)
{
    if (!run_ok(r) || !fits(r, "conv2d", x.s, w.s, y.s, c)) return;
    Geometry g = geometry(x.s, w.s, y.s, c);
    bool fast = use_winograd(g, u, c);
    if (!x.x || !y.x || (!w.x && !fast) || (b.x && tensor_count(b) != (size_t)g.O) || (add.x && !shape_same(add.s, y.s)) ||
        (fast && !shape_same(u.s, winograd_shape(w.s)))) {
        run_fail(r, E_SHAPE, "conv2d: an empty tensor, or bias (%zu) or sum that do not fit %d channels", tensor_count(b), g.O);
        return;
    }
    size_t mark = r->temp->used;
    gemm_begin(r);
    if (fast) winograd(r, y, x, u, b, add, false);
    else forward(r, &g, y.x, x.x, w.x, b.x, add.x);
    arena_release(r->temp, mark);
}

/* dx[i,...] += the parts of dcol (output rows first.. of one image) that came from input row i. */
static void scatter(Geometry g, real *dx, const real *dcol, int first, int count, int i)
{
    size_t I = (size_t)g.I;
    for (int y = 0; y < count; y++) {
        int p = i + g.before - (first + y) * g.stride;
        if (p < 0 || p >= g.kh) continue;
        for (int x = 0; x < g.X; x++) {
            int j = x * g.stride - g.before, left = most(0, -j), right = least(g.kw, g.W - j);
            const real *from = dcol + (size_t)(y * g.X + x) * (size_t)g.K + (size_t)(p * g.kw) * I;
            real *to = dx + (ptrdiff_t)(i * g.W + j) * (ptrdiff_t)I;
            for (size_t k = (size_t)left * I; left < right && k < (size_t)right * I; k++) to[k] += from[k];
        }
    }
}

/* dcol = dy w for `high` output rows at a time, then every input row collects its share. */
static void input_back(Run *r, Geometry g, real *dx, const real *dy, const real *w)
{
    size_t row = (size_t)g.X * (size_t)g.K, image = (size_t)g.H * (size_t)g.W * (size_t)g.I, each = product_scratch(256);
    int high = most(1, least(g.Y, (int)(((size_t)1 << 22) / row)));       /* 16 MB of floats */
    int wide = parts(parts(g.K, 8), TILE_WIDE) * TILE_WIDE, across = parts(g.K, wide);
    Tensor dcol = temp(r, SHAPE(high, g.X, g.K));
    real *scratch = scratch_take(r, each * (size_t)r->threads);
    if (!scratch) return;
    memset(dx, 0, (size_t)g.N * image * sizeof *dx);
    for (int n = 0; n < g.N; n++)
        for (int y = 0; y < g.Y; y += high) {
            int count = least(high, g.Y - y), rows = count * g.X, down = parts(rows, 256);
            const Matrix from = { dy + ((size_t)n * (size_t)g.P + (size_t)(y * g.X)) * (size_t)g.O, g.O, 1, 1 };

            #pragma omp parallel for collapse(2) schedule(dynamic) num_threads(r->threads)
            for (int i = 0; i < down; i++)
                for (int j = 0; j < across; j++) {
                    Matrix a = { from.x + (size_t)i * 256 * (size_t)g.O, g.O, 1, 1 };
                    Product p = { least(256, rows - i * 256), least(wide, g.K - j * wide), g.O, matrix_fill, &a, w + j * wide, g.K, 1,
                                  dcol.x + (size_t)i * 256 * (size_t)g.K + j * wide, g.K, false };
                    product(r, &p, scratch + (size_t)omp_get_thread_num() * each);
                }

            #pragma omp parallel for num_threads(r->threads)
            for (int i = 0; i < g.H; i++) scatter(g, dx + (size_t)n * image, dcol.x, y, count, i);
        }
}

static void weights_back(Run *r, Geometry g, real *dw, const real *dy, const real *x)
{
    size_t image = (size_t)g.H * (size_t)g.W * (size_t)g.I;
    int high = most(16, least(g.P, (int)(((size_t)1 << 21) / (size_t)g.K)));             /* pixels at a time */
    int tall = least(56, parts(g.O, 8)), tasks = parts(g.O, tall);
    size_t each = product_scratch(tall);
    Tensor col = temp(r, SHAPE(high, g.K));
    real *scratch = scratch_take(r, each * (size_t)r->threads);
    if (!scratch) return;
    for (int n = 0; n < g.N; n++)
        for (int t = 0; t < g.P; t += high) {
            int count = least(high, g.P - t);
            #pragma omp parallel for num_threads(r->threads)
            for (int i = t; i < t + count; i++)
                gather_piece(&g, col.x + (size_t)(i - t) * (size_t)g.K, x + (size_t)n * image, i / g.X * g.stride - g.before,
                             i % g.X * g.stride - g.before, 0, g.K);

            #pragma omp parallel for schedule(dynamic) num_threads(r->threads)
            for (int i = 0; i < tasks; i++) {
                int o = i * tall;
                Matrix a = { dy + ((size_t)n * (size_t)g.P + (size_t)t) * (size_t)g.O + o, 1, g.O, 1 };
                Product p = { least(tall, g.O - o), g.K, count, matrix_fill, &a, col.x, g.K, 1, dw + (size_t)o * (size_t)g.K, g.K, true };
                product(r, &p, scratch + (size_t)omp_get_thread_num() * each);
            }
        }
}

void conv2d_back(Run *r, Tensor dx, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w, Tensor u, Conv2d c)
{
    Shape xs = dx.x ? dx.s : x.s, ws = shape_count(w.s) ? w.s : dw.s;
    if (!run_ok(r) || !fits(r, "conv2d_back", xs, ws, dy.s, c)) return;
    Geometry g = geometry(xs, ws, dy.s, c);
    bool fast = use_winograd(g, u, c);
    if (!dy.x || (dx.x && !w.x && !fast) || (dw.x && (!x.x || !shape_same(dw.s, ws) || !shape_same(x.s, xs))) ||
        (db.x && tensor_count(db) != (size_t)g.O) || (fast && !shape_same(u.s, winograd_shape(ws)))) {
        run_fail(r, E_SHAPE, "conv2d_back: an empty tensor, or gradients that do not fit w[%d,%d,%d,%d]", ws.d[0], ws.d[1], ws.d[2], ws.d[3]);
        return;
    }
    size_t mark = r->temp->used;
    gemm_begin(r);
    if (dx.x && fast) winograd(r, dx, dy, u, (Tensor){0}, (Tensor){0}, true);
    else if (dx.x) input_back(r, g, dx.x, dy.x, w.x);
    arena_release(r->temp, mark);
    if (dw.x) weights_back(r, g, dw.x, dy.x, x.x);
    arena_release(r->temp, mark);
    if (db.x) columns_sum(r, db.x, dy.x, (size_t)g.N * (size_t)g.P, g.O);
}
