#include <omp.h>
#include <string.h>
#include "tensor/conv.h"
#include "tensor/gemm.h"

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

static bool is_pointwise(Geometry g) { return g.K == g.I && g.stride == 1 && !g.before && g.P == g.H * g.W; }

/* Rows of col for `count` output pixels from `first` of one image. */
static void gather(Geometry g, real *col, const real *x, int first, int count)
{
    size_t run = (size_t)g.kw * (size_t)g.I;
    for (int t = first; t < first + count; t++)
        for (int p = 0; p < g.kh; p++, col += run) {
            int i = t / g.X * g.stride + p - g.before, j = t % g.X * g.stride - g.before;
            int left = most(0, -j), right = least(g.kw, g.W - j);
            if (i < 0 || i >= g.H || left >= right) {
                memset(col, 0, run * sizeof *col);
                continue;
            }
            size_t from = (size_t)left * (size_t)g.I, to = (size_t)right * (size_t)g.I;
            memset(col, 0, from * sizeof *col);
            memcpy(col + from, x + (size_t)(i * g.W + j + left) * (size_t)g.I, (to - from) * sizeof *col);
            memset(col + to, 0, (run - to) * sizeof *col);
        }
}

static void ground(real *y, int ld, int rows, int columns, const real *b, const real *more)
{
    for (int i = 0; i < rows; i++, y += ld, more += more ? ld : 0) {
        if (more && more != y) memcpy(y, more, (size_t)columns * sizeof *y);
        if (!more && b) memcpy(y, b, (size_t)columns * sizeof *y);
        else if (b) for (int j = 0; j < columns; j++) y[j] += b[j];
    }
}

/* The product of one tile: pixels t.. and output channels o.. of image n. */
typedef struct { Geometry g; real *y; const real *w, *b, *add; } Job;

static void tile(const Run *r, const Job *d, const real *col, int n, int t, int rows, int o, int columns)
{
    size_t at = ((size_t)n * (size_t)d->g.P + (size_t)t) * (size_t)d->g.O + (size_t)o;
    ground(d->y + at, d->g.O, rows, columns, d->b ? d->b + o : NULL, d->add ? d->add + at : NULL);
    gemm(r, false, true, rows, columns, d->g.K, 1, col, d->g.K, d->w + (size_t)o * (size_t)d->g.K, d->g.K,
         d->b || d->add ? 1 : 0, d->y + at, d->g.O);
}

/* Large images: every task gathers its own pixels and makes all channels of them. */
static void forward_by_pixels(Run *r, const Job *d, const real *x, int high)
{
    Geometry g = d->g;
    size_t image = (size_t)g.H * (size_t)g.W * (size_t)g.I, each = (size_t)high * (size_t)g.K;
    int down = parts(g.P, high);
    Tensor col = is_pointwise(g) ? (Tensor){0} : temp(r, SHAPE(r->threads, high, g.K));
    if (!run_ok(r)) return;

    #pragma omp parallel for collapse(2) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < g.N; n++)
        for (int i = 0; i < down; i++) {
            int t = i * high, rows = least(high, g.P - t);
            const real *from = x + (size_t)n * image + (size_t)t * (size_t)g.I;
            if (col.x) {
                real *mine = col.x + (size_t)omp_get_thread_num() * each;
                gather(g, mine, x + (size_t)n * image, t, rows);
                from = mine;
            }
            tile(r, d, from, n, t, rows, 0, g.O);
        }
}

/* Small images: the pixels of one image are gathered once, tasks are ranges of channels. */
static void forward_by_channels(Run *r, const Job *d, const real *x, int wide)
{
    Geometry g = d->g;
    Tensor col = temp(r, SHAPE(g.P, g.K));
    if (!run_ok(r)) return;
    int across = parts(g.O, wide);
    for (int n = 0; n < g.N; n++) {
        const real *image = x + (size_t)n * (size_t)g.H * (size_t)g.W * (size_t)g.I;
        #pragma omp parallel for num_threads(r->threads)
        for (int t = 0; t < g.P; t++) gather(g, col.x + (size_t)t * (size_t)g.K, image, t, 1);

        #pragma omp parallel for schedule(dynamic) num_threads(r->threads)
        for (int j = 0; j < across; j++)
            tile(r, d, col.x, n, 0, g.P, j * wide, least(wide, g.O - j * wide));
    }
}

void conv2d(Run *r, Tensor y, Tensor x, Tensor w, Tensor b, Tensor u, Tensor add, Conv2d c)
{
    (void)u;
    if (!run_ok(r) || !fits(r, "conv2d", x.s, w.s, y.s, c)) return;
    if (!x.x || !y.x || !w.x || (b.x && tensor_count(b) != (size_t)w.s.d[0]) || (add.x && !shape_same(add.s, y.s))) {
        run_fail(r, E_SHAPE, "conv2d: an empty tensor, or bias (%zu) or sum that do not fit %d channels", tensor_count(b), w.s.d[0]);
        return;
    }
    Job d = { geometry(x.s, w.s, y.s, c), y.x, w.x, b.x, add.x };
    size_t mark = r->temp->used;
    gemm_begin(r);
    if (d.g.P > 256) forward_by_pixels(r, &d, x.x, 128);
    else forward_by_channels(r, &d, x.x, most(16, parts(d.g.O, 16)));
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

static void input_back(Run *r, Geometry g, real *dx, const real *dy, const real *w)
{
    size_t row = (size_t)g.X * (size_t)g.K, image = (size_t)g.H * (size_t)g.W * (size_t)g.I;
    int high = most(1, least(g.Y, (int)(((size_t)1 << 22) / row)));       /* output rows at a time: 16 MB of floats */
    int wide = most(64, parts(g.K, 8)), across = parts(g.K, wide);
    Tensor dcol = temp(r, SHAPE(high, g.X, g.K));
    if (!run_ok(r)) return;
    memset(dx, 0, (size_t)g.N * image * sizeof *dx);
    for (int n = 0; n < g.N; n++)
        for (int y = 0; y < g.Y; y += high) {
            int count = least(high, g.Y - y), rows = count * g.X, down = parts(rows, 256);
            const real *from = dy + ((size_t)n * (size_t)g.P + (size_t)(y * g.X)) * (size_t)g.O;

            #pragma omp parallel for collapse(2) schedule(dynamic) num_threads(r->threads)
            for (int i = 0; i < down; i++)
                for (int j = 0; j < across; j++)
                    gemm(r, false, false, least(256, rows - i * 256), least(wide, g.K - j * wide), g.O, 1,
                         from + (size_t)i * 256 * (size_t)g.O, g.O, w + j * wide, g.K, 0,
                         dcol.x + (size_t)i * 256 * (size_t)g.K + j * wide, g.K);

            #pragma omp parallel for num_threads(r->threads)
            for (int i = 0; i < g.H; i++) scatter(g, dx + (size_t)n * image, dcol.x, y, count, i);
        }
}

static void weights_back(Run *r, Geometry g, real *dw, const real *dy, const real *x)
{
    size_t image = (size_t)g.H * (size_t)g.W * (size_t)g.I;
    int high = most(16, least(g.P, (int)(((size_t)1 << 21) / (size_t)g.K)));             /* pixels at a time */
    int wide = most(16, parts(g.O, 16)), across = parts(g.O, wide);
    Tensor col = temp(r, SHAPE(high, g.K));
    if (!run_ok(r)) return;
    for (int n = 0; n < g.N; n++)
        for (int t = 0; t < g.P; t += high) {
            int count = least(high, g.P - t);
            #pragma omp parallel for num_threads(r->threads)
            for (int i = 0; i < count; i++) gather(g, col.x + (size_t)i * (size_t)g.K, x + (size_t)n * image, t + i, 1);

            #pragma omp parallel for schedule(dynamic) num_threads(r->threads)
            for (int j = 0; j < across; j++)
                gemm(r, true, false, least(wide, g.O - j * wide), g.K, count, 1,
                     dy + ((size_t)n * (size_t)g.P + (size_t)t) * (size_t)g.O + j * wide, g.O, col.x, g.K, 1,
                     dw + (size_t)(j * wide) * (size_t)g.K, g.K);
        }
}

void conv2d_back(Run *r, Tensor dx, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w, Tensor u, Conv2d c)
{
    (void)u;
    Shape xs = dx.x ? dx.s : x.s, ws = w.x ? w.s : dw.x ? dw.s : w.s;
    if (!run_ok(r) || !fits(r, "conv2d_back", xs, ws, dy.s, c)) return;
    if (!dy.x || (dx.x && !w.x) || (dw.x && (!x.x || !shape_same(dw.s, ws) || !shape_same(x.s, xs))) ||
        (db.x && tensor_count(db) != (size_t)ws.d[0])) {
        run_fail(r, E_SHAPE, "conv2d_back: an empty tensor, or gradients that do not fit w[%d,%d,%d,%d]", ws.d[0], ws.d[1], ws.d[2], ws.d[3]);
        return;
    }
    Geometry g = geometry(xs, ws, dy.s, c);
    size_t mark = r->temp->used;
    gemm_begin(r);
    if (dx.x) input_back(r, g, dx.x, dy.x, w.x);
    arena_release(r->temp, mark);
    if (dw.x) weights_back(r, g, dw.x, dy.x, x.x);
    arena_release(r->temp, mark);
    if (db.x) columns_sum(r, db.x, dy.x, (size_t)g.N * (size_t)g.P, g.O);
}

bool winograd_pays(int H, int W, int I, int O)
{
    (void)H, (void)W, (void)I, (void)O;
    return false;
}

Shape winograd_shape(Shape w) { return SHAPE(4, 4, w.d[0], w.d[3]); }
