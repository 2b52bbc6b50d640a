#include <math.h>
#include "tensor/resize.h"

/* Weights of output place i of n from m inputs: w[0 .. count) starting at *first. */
static int taps_of(int i, int n, int m, int *first, double *w)
{
    double step = (double)m / n, support = step > 1 ? step : 1, centre = (i + 0.5) * step, sum = 0;
    int lo = (int)fmax(0, floor(centre - support + 0.5)), hi = (int)fmin(m, floor(centre + support + 0.5));
    for (int k = lo; k < hi; k++) {
        double far = fabs((k + 0.5 - centre) / support);
        sum += w[k - lo] = far < 1 ? 1 - far : 0;
    }
    for (int k = lo; k < hi; k++) w[k - lo] /= sum;
    *first = lo;
    return hi - lo;
}

/* y[n] += T x[m] (or its transpose, when back: x[m] += T^T y[n]) along one direction of strided numbers. */
static void resize_line(real *y, int n, size_t ystep, real *x, int m, size_t xstep, bool back, double *w)
{
    for (int i = 0; i < n; i++) {
        int first, count = taps_of(i, n, m, &first, w);
        acc sum = 0;
        for (int k = 0; k < count; k++) {
            real *at = &x[(size_t)(first + k) * xstep];
            if (back) *at += (real)(w[k] * (acc)y[(size_t)i * ystep]);
            else sum += w[k] * (acc)*at;
        }
        if (!back) y[(size_t)i * ystep] = (real)sum;
    }
}

static void resize_planes(Run *r, Tensor y, Tensor x, bool back)
{
    if (!y.x || !x.x || y.s.d[0] != x.s.d[0] || !y.s.d[2] || !x.s.d[2]) {
        run_fail(r, E_SHAPE, "resize_bilinear: planes [C,h,w] of equal number are wanted");
        return;
    }
    int C = x.s.d[0], h = x.s.d[1], w = x.s.d[2], H = y.s.d[1], W = y.s.d[2];
    size_t mark = r->temp->used;
    Tensor wide = temp(r, SHAPE(C, h, W));
    double *weight = arena_take(r->temp, (size_t)((h > w ? h : w) + 2) * sizeof *weight);
    if (!wide.x || !weight) {
        run_fail(r, E_MEMORY, "out of memory: resize");
        return;
    }
    if (back) {
        tensor_zero(x);
        tensor_zero(wide);
    }
    for (int c = 0; c < C; c++) {
        real *px = x.x + (size_t)c * h * w, *pw = wide.x + (size_t)c * h * W, *py = y.x + (size_t)c * H * W;
        for (int j = 0; j < W && back; j++) resize_line(py + j, H, (size_t)W, pw + j, h, (size_t)W, true, weight);
        for (int i = 0; i < h; i++) resize_line(pw + (size_t)i * W, W, 1, px + (size_t)i * w, w, 1, back, weight);
        for (int j = 0; j < W && !back; j++) resize_line(py + j, H, (size_t)W, pw + j, h, (size_t)W, false, weight);
    }
    arena_release(r->temp, mark);
}

void resize_bilinear(Run *r, Tensor y, Tensor x) { resize_planes(r, y, x, false); }
void resize_bilinear_back(Run *r, Tensor dx, Tensor dy) { resize_planes(r, dy, dx, true); }
