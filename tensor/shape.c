#include <string.h>
#include "tensor/shape.h"

enum { SERIAL = 1 << 14, TILE = 16 };                     /* below SERIAL numbers one thread does it */

static bool wrong(Run *r, const char *what, Tensor y, Tensor x)
{
    run_fail(r, E_SHAPE, "%s: [%d,%d,%d,%d] and [%d,%d,%d,%d] do not fit", what, y.s.d[0], y.s.d[1], y.s.d[2], y.s.d[3],
             x.s.d[0], x.s.d[1], x.s.d[2], x.s.d[3]);
    return false;
}

/* y[n,b,a] = x[n,a,b], in tiles that fit the first-level cache both ways; threads share out bands of y */
static void swap_sizes(const Run *r, real *y, const real *x, size_t N, size_t A, size_t B)
{
    size_t bands = (B + TILE - 1) / TILE;
    #pragma omp parallel for num_threads(r->threads) if (N * A * B > SERIAL)
    for (size_t task = 0; task < N * bands; task++) {
        size_t at = task / bands * A * B, first = task % bands * TILE, last = first + TILE < B ? first + TILE : B;
        for (size_t a0 = 0; a0 < A; a0 += TILE)
            for (size_t b = first; b < last; b++)
                for (size_t a = a0; a < A && a < a0 + TILE; a++) y[at + b * A + a] = x[at + a * B + b];
    }
}

void nchw_to_nhwc(Run *r, Tensor y, Tensor x)
{
    size_t N = (size_t)x.s.d[0], C = (size_t)x.s.d[1], P = (size_t)x.s.d[2] * (size_t)x.s.d[3];
    Shape s = SHAPE(x.s.d[0], x.s.d[2], x.s.d[3], x.s.d[1]);
    if (!y.x || !x.x || !shape_same(y.s, s)) { wrong(r, "nchw_to_nhwc", y, x); return; }
    swap_sizes(r, y.x, x.x, N, C, P);
}

void nhwc_to_nchw(Run *r, Tensor y, Tensor x)
{
    size_t N = (size_t)x.s.d[0], C = (size_t)x.s.d[3], P = (size_t)x.s.d[1] * (size_t)x.s.d[2];
    Shape s = SHAPE(x.s.d[0], x.s.d[3], x.s.d[1], x.s.d[2]);
    if (!y.x || !x.x || !shape_same(y.s, s)) { wrong(r, "nhwc_to_nchw", y, x); return; }
    swap_sizes(r, y.x, x.x, N, P, C);
}

void transpose(Run *r, Tensor y, Tensor x)
{
    int rank = shape_rank(x.s);
    bool flat = rank == 2;
    Shape s = flat ? SHAPE(x.s.d[1], x.s.d[0]) : SHAPE(x.s.d[0], x.s.d[2], x.s.d[1]);
    if (!y.x || !x.x || rank < 2 || rank > 3 || !shape_same(y.s, s)) { wrong(r, "transpose", y, x); return; }
    swap_sizes(r, y.x, x.x, flat ? 1 : (size_t)x.s.d[0], (size_t)x.s.d[rank - 2], (size_t)x.s.d[rank - 1]);
}

/* The last size of t; every other size must be y's. */
static bool last_size(Tensor y, Tensor t, int *width)
{
    int rank = shape_rank(y.s);
    if (!y.x || !t.x || !rank || shape_rank(t.s) != rank || memcmp(y.s.d, t.s.d, (size_t)(rank - 1) * sizeof(int))) return false;
    *width = t.s.d[rank - 1];
    return true;
}

static size_t row_count(Tensor y, int width) { return tensor_count(y) / (size_t)width; }

void concat(Run *r, Tensor y, Tensor a, Tensor b)
{
    int A, B, C;
    if (!last_size(y, a, &A) || !last_size(y, b, &B) || !last_size(y, y, &C) || A + B != C) { wrong(r, "concat", a, b); return; }
    size_t rows = row_count(y, C), wa = (size_t)A, wb = (size_t)B;
    #pragma omp parallel for num_threads(r->threads) if (tensor_count(y) > SERIAL)
    for (size_t t = 0; t < rows; t++) {
        memcpy(y.x + t * (wa + wb), a.x + t * wa, wa * sizeof(real));
        memcpy(y.x + t * (wa + wb) + wa, b.x + t * wb, wb * sizeof(real));
    }
}

void split(Run *r, Tensor a, Tensor b, Tensor y)
{
    int A = 0, B = 0, C = 0;
    bool good = last_size(y, y, &C) && (!a.x || last_size(y, a, &A)) && (!b.x || last_size(y, b, &B));
    if (good && !a.x) A = C - B;
    if (good && !b.x) B = C - A;
    if (!good || A + B != C || A < 0 || B < 0) { wrong(r, "split", a, b); return; }
    size_t rows = row_count(y, C), wa = (size_t)A, wb = (size_t)B;
    #pragma omp parallel for num_threads(r->threads) if (tensor_count(y) > SERIAL)
    for (size_t t = 0; t < rows; t++) {
        if (a.x) memcpy(a.x + t * wa, y.x + t * (wa + wb), wa * sizeof(real));
        if (b.x) memcpy(b.x + t * wb, y.x + t * (wa + wb) + wa, wb * sizeof(real));
    }
}

void slice(Run *r, Tensor y, Tensor x, int first)
{
    int D, C;
    if (!last_size(x, y, &D) || !last_size(x, x, &C) || first < 0 || first > C - D) { wrong(r, "slice", y, x); return; }
    size_t rows = row_count(y, D);
    #pragma omp parallel for num_threads(r->threads) if (tensor_count(y) > SERIAL)
    for (size_t t = 0; t < rows; t++)
        memcpy(y.x + t * (size_t)D, x.x + t * (size_t)C + first, (size_t)D * sizeof(real));
}

void slice_back(Run *r, Tensor dx, Tensor dy, int first)
{
    int D, C;
    if (!last_size(dx, dy, &D) || !last_size(dx, dx, &C) || first < 0 || first > C - D) { wrong(r, "slice_back", dx, dy); return; }
    size_t rows = row_count(dy, D);
    #pragma omp parallel for num_threads(r->threads) if (tensor_count(dy) > SERIAL)
    for (size_t t = 0; t < rows; t++) r->k->add(D, dx.x + t * (size_t)C + first, dy.x + t * (size_t)D);
}

/* big is [N, 2H or 2H-1, 2W or 2W-1, C] to small's [N,H,W,C] */
static bool doubles(Run *r, const char *what, Tensor big, Tensor small)
{
    const int *b = big.s.d, *s = small.s.d;
    if (big.x && small.x && shape_rank(small.s) == 4 && b[0] == s[0] && b[3] == s[3] &&
        (b[1] + 1) / 2 == s[1] && (b[2] + 1) / 2 == s[2]) return true;
    return wrong(r, what, big, small);
}

void double_nearest(Run *r, Tensor y, Tensor x)
{
    if (!doubles(r, "double_nearest", y, x)) return;
    int H = y.s.d[1], W = y.s.d[2], rows = y.s.d[0] * H;
    size_t C = (size_t)y.s.d[3], bytes = C * sizeof(real);
    #pragma omp parallel for num_threads(r->threads) if (tensor_count(y) > SERIAL)
    for (int t = 0; t < rows; t++) {
        real *to = y.x + (size_t)t * (size_t)W * C;
        const real *from = x.x + ((size_t)(t / H) * (size_t)x.s.d[1] + (size_t)(t % H / 2)) * (size_t)x.s.d[2] * C;
        for (int j = 0; j < W; j++) memcpy(to + (size_t)j * C, from + (size_t)(j / 2) * C, bytes);
    }
}

void double_nearest_back(Run *r, Tensor dx, Tensor dy)
{
    if (!doubles(r, "double_nearest_back", dy, dx)) return;
    int h = dx.s.d[1], w = dx.s.d[2], H = dy.s.d[1], W = dy.s.d[2], C = dx.s.d[3], rows = dx.s.d[0] * h;
    #pragma omp parallel for num_threads(r->threads) if (tensor_count(dy) > SERIAL)
    for (int t = 0; t < rows; t++)
        for (int j = 0; j < w; j++) {
            real *to = dx.x + ((size_t)t * (size_t)w + (size_t)j) * (size_t)C;
            memset(to, 0, (size_t)C * sizeof(real));
            for (int p = t % h * 2; p < H && p < t % h * 2 + 2; p++)
                for (int q = 2 * j; q < W && q < 2 * j + 2; q++)
                    r->k->add(C, to, dy.x + (((size_t)(t / h) * (size_t)H + (size_t)p) * (size_t)W + (size_t)q) * (size_t)C);
        }
}
