#include <string.h>
#include "tensor/resample.h"

enum { BITS = 22 };                                       /* of a weight's fraction: 32 - 8 for the pixel - 2 for sign and overshoot */

typedef struct {
    int *first, *count;                                   /* per output place: the input places that matter */
    int32_t *weight;                                      /* `most` of them per output place */
    int most;
} Taps;

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static bool taps_make(Run *r, Taps *t, int out, int in)
{
    double s = (double)in / out, wide = s > 1 ? s : 1, reach = 2 * wide;
    t->most = (int)ceil(reach) * 2 + 1;
    t->first  = arena_take(r->temp, (size_t)out * sizeof *t->first);
    t->count  = arena_take(r->temp, (size_t)out * sizeof *t->count);
    t->weight = arena_take(r->temp, (size_t)out * (size_t)t->most * sizeof *t->weight);
    double *k = arena_take(r->temp, (size_t)t->most * sizeof *k);
    if (!t->first || !t->count || !t->weight || !k) return false;
    for (int i = 0; i < out; i++) {
        double centre = (i + 0.5) * s, sum = 0;
        int from = (int)(centre - reach + 0.5), to = (int)(centre + reach + 0.5);
        if (from < 0) from = 0;
        if (to > in) to = in;
        for (int j = from; j < to; j++) sum += k[j - from] = cubic((j - centre + 0.5) * (1 / wide));
        for (int j = from; j < to; j++) {
            double w = (sum != 0 ? k[j - from] / sum : k[j - from]) * (1 << BITS);
            t->weight[i * t->most + j - from] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        t->first[i] = from;
        t->count[i] = to - from;
    }
    return true;
}

/* One output place: n weights on pixels `step` bytes apart. */
static uint8_t mix(const int32_t *w, int n, const uint8_t *from, size_t step)
{
    int32_t sum = 1 << (BITS - 1);
    for (int j = 0; j < n; j++) sum += w[j] * from[(size_t)j * step];
    return (uint8_t)(sum < 0 ? 0 : sum >> BITS > 255 ? 255 : sum >> BITS);
}

static bool rows_resized(Run *r, uint8_t *to, int toW, const uint8_t *from, int H, int W)
{
    Taps t;
    if (!taps_make(r, &t, toW, W)) return false;
    #pragma omp parallel for num_threads(r->threads)
    for (int y = 0; y < H; y++)
        for (int x = 0; x < toW; x++)
            for (int c = 0; c < 3; c++)
                to[((size_t)y * (size_t)toW + (size_t)x) * 3 + (size_t)c] = mix(t.weight + (size_t)x * (size_t)t.most, t.count[x],
                    from + ((size_t)y * (size_t)W + (size_t)t.first[x]) * 3 + c, 3);
    return true;
}

static bool columns_resized(Run *r, uint8_t *to, int toH, const uint8_t *from, int H, int W)
{
    Taps t;
    size_t row = (size_t)W * 3;
    if (!taps_make(r, &t, toH, H)) return false;
    #pragma omp parallel for num_threads(r->threads)
    for (int y = 0; y < toH; y++)
        for (size_t x = 0; x < row; x++)
            to[(size_t)y * row + x] = mix(t.weight + (size_t)y * (size_t)t.most, t.count[y], from + (size_t)t.first[y] * row + x, row);
    return true;
}

static bool legal(int n) { return n >= 1 && n <= RESAMPLE_MOST; }

bool resample_bicubic_8bit(Run *r, uint8_t *to, int toH, int toW, const uint8_t *from, int H, int W)
{
    if (!run_ok(r)) return false;
    if (!legal(toH) || !legal(toW) || !legal(H) || !legal(W)) {
        run_fail(r, E_SHAPE, "resample: %dx%d to %dx%d pixels; each side must be 1 to %d", H, W, toH, toW, RESAMPLE_MOST);
        return false;
    }
    size_t mark = r->temp->used;
    bool fine = true, vertical_first = toH < H && H - toH > 2 * (W - toW);
    if (toW != W && toH != H) {
        uint8_t *half = arena_take(r->temp, 3 * (vertical_first ? (size_t)toH * (size_t)W : (size_t)H * (size_t)toW));
        if (!half) fine = false;
        else if (vertical_first) fine = columns_resized(r, half, toH, from, H, W) && rows_resized(r, to, toW, half, toH, W);
        else                     fine = rows_resized(r, half, toW, from, H, W) && columns_resized(r, to, toH, half, H, toW);
    }
    else if (toW != W) fine = rows_resized(r, to, toW, from, H, W);
    else if (toH != H) fine = columns_resized(r, to, toH, from, H, W);
    else memcpy(to, from, (size_t)H * (size_t)W * 3);
    arena_release(r->temp, mark);
    if (!fine) run_fail(r, E_MEMORY, "resample: out of memory for %dx%d to %dx%d pixels", H, W, toH, toW);
    return fine;
}

void pixels_normalised(Run *r, Tensor pixels, const uint8_t *rgb, int W, int top, int left, const double mean[3], const double std[3])
{
    size_t S = (size_t)pixels.s.d[1];
    if (!pixels.x || pixels.s.d[0] != 3 || pixels.s.d[2] != pixels.s.d[1]) {
        run_fail(r, E_SHAPE, "pixels_normalised: [%d,%d,%d]; [3,S,S] expected", pixels.s.d[0], pixels.s.d[1], pixels.s.d[2]);
        return;
    }
    for (size_t y = 0; y < S; y++)
        for (size_t x = 0; x < S; x++)
            for (size_t c = 0; c < 3; c++) {
                double v = rgb[(((size_t)top + y) * (size_t)W + (size_t)left + x) * 3 + c] / 255.0;
                pixels.x[(c * S + y) * S + x] = (real)((v - mean[c]) / std[c]);
            }
}
