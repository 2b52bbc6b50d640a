#include <math.h>
#include "tensor/resize.h"

/* What one direction does: output place i of n reads count[i] of m inputs from first[i] on, with weights w[i * most ...]. */
typedef struct { int n, m, most, *first, *count; double *w; } Taps;

static double kernel(ResizeKernel k, bool antialias, double d)
{
    double a = antialias ? -0.5 : -0.75;
    d = fabs(d);
    if (k == RESIZE_BILINEAR) return d < 1 ? 1 - d : 0;
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((d - 5) * d + 8) * d * a - 4 * a : 0;
}

static int clamp_to(int i, int n) { return i < 0 ? 0 : i < n ? i : n - 1; }

/* Every place of the support; those beyond the edge fall onto it. */
static void plain_taps(Taps *t, int i, Resize how, double centre)
{
    int support = how.kernel == RESIZE_BILINEAR ? 1 : 2, from = (int)floor(centre - 0.5) - support + 1;
    double *w = t->w + (size_t)i * t->most;
    t->first[i] = clamp_to(from, t->m);
    t->count[i] = clamp_to(from + 2 * support - 1, t->m) - t->first[i] + 1;
    for (int k = 0; k < t->count[i]; k++) w[k] = 0;
    for (int k = from; k < from + 2 * support; k++)
        w[clamp_to(k, t->m) - t->first[i]] += kernel(how.kernel, false, k + 0.5 - centre);
}

static void antialias_taps(Taps *t, int i, Resize how, double centre, double f)
{
    double support = (how.kernel == RESIZE_BILINEAR ? 1 : 2) * f, sum = 0, *w = t->w + (size_t)i * t->most;
    int lo = (int)fmax(0, floor(centre - support + 0.5)), hi = (int)fmin(t->m, floor(centre + support + 0.5));
    for (int k = lo; k < hi; k++) sum += w[k - lo] = kernel(how.kernel, true, (k + 0.5 - centre) / f);
    for (int k = lo; k < hi; k++) w[k - lo] /= sum;
    t->first[i] = lo;
    t->count[i] = hi - lo;
}

static bool taps_make(Run *r, Taps *t, int n, int m, double s, Resize how)
{
    double step = s > 0 ? 1 / s : (double)m / n, f = how.antialias && step > 1 ? step : 1;
    int most = (how.kernel == RESIZE_BILINEAR ? 2 : 4) * (int)ceil(f) + 2;
    *t = (Taps){ n, m, most, arena_take(r->temp, (size_t)n * sizeof(int)), arena_take(r->temp, (size_t)n * sizeof(int)),
                 arena_take(r->temp, (size_t)n * (size_t)most * sizeof(double)) };
    if (!t->first || !t->count || !t->w) {
        run_fail(r, E_MEMORY, "out of memory: resize");
        return false;
    }
    for (int i = 0; i < n; i++) {
        double centre = (i + 0.5) * step;
        if (how.antialias) antialias_taps(t, i, how, centre, f);
        else plain_taps(t, i, how, centre);
    }
    return true;
}

/* Along one direction of [P,m,I]: y[p,i,c] = sum_k w_ik x[p,k,c]; or, back, its transpose, x written. */
static void along(Run *r, real *y, real *x, const Taps *t, size_t P, size_t I, bool back)
{
    #pragma omp parallel for num_threads(r->threads)
    for (size_t p = 0; p < P; p++) {
        real *to = y + p * (size_t)t->n * I, *from = x + p * (size_t)t->m * I;
        for (size_t k = 0; back && k < (size_t)t->m * I; k++) from[k] = 0;
        for (int i = 0; i < t->n; i++) {
            const double *w = t->w + (size_t)i * t->most;
            real *a = to + (size_t)i * I, *b = from + (size_t)t->first[i] * I;
            for (size_t c = 0; c < I; c++) {
                acc sum = 0;
                for (int k = 0; k < t->count[i]; k++)
                    if (back) b[(size_t)k * I + c] += (real)(w[k] * (acc)a[c]);
                    else sum += w[k] * (acc)b[(size_t)k * I + c];
                if (!back) a[c] = (real)sum;
            }
        }
    }
}

/* x [P,h,w,I] <-> y [P,H,W,I] */
static void both(Run *r, Tensor y, Tensor x, const int P[2], const int from[2], const int to[2], const int I[2], Resize how, bool back)
{
    size_t mark = r->temp->used, planes = (size_t)P[0], inner = (size_t)I[0];
    int h = from[0], w = from[1], H = to[0], W = to[1];
    Taps rows, columns;
    if (!y.x || !x.x || P[0] != P[1] || I[0] != I[1] || h < 1 || w < 1 || H < 1 || W < 1) {
        run_fail(r, E_SHAPE, "resize: %d maps of %d to %d of %d", P[0], I[0], P[1], I[1]);
        return;
    }
    Tensor wide = temp(r, SHAPE(P[0], h, W, I[0]));
    if (wide.x && taps_make(r, &rows, H, h, how.sy, how) && taps_make(r, &columns, W, w, how.sx, how)) {
        if (!back) along(r, wide.x, x.x, &columns, planes * (size_t)h, inner, false);
        along(r, y.x, wide.x, &rows, planes, (size_t)W * inner, back);
        if (back) along(r, wide.x, x.x, &columns, planes * (size_t)h, inner, true);
    }
    arena_release(r->temp, mark);
}

static void planes(Run *r, Tensor y, Tensor x, Resize how, bool back)
{
    const int *a = x.s.d, *b = y.s.d, one[2] = { 1, 1 };
    both(r, y, x, (int[2]){ a[0] * a[1], a[1] == b[1] ? b[0] * b[1] : 0 }, a + 2, b + 2, one, how, back);
}

static void maps(Run *r, Tensor y, Tensor x, Resize how, bool back)
{
    const int *a = x.s.d, *b = y.s.d;
    both(r, y, x, (int[2]){ a[0], b[0] }, a + 1, b + 1, (int[2]){ a[3], b[3] }, how, back);
}

void resize          (Run *r, Tensor y, Tensor x, Resize how)   { planes(r, y, x, how, false); }
void resize_back     (Run *r, Tensor dx, Tensor dy, Resize how) { planes(r, dy, dx, how, true); }
void resize_maps     (Run *r, Tensor y, Tensor x, Resize how)   { maps(r, y, x, how, false); }
void resize_maps_back(Run *r, Tensor dx, Tensor dy, Resize how) { maps(r, dy, dx, how, true); }

static bool window_fits(Run *r, Tensor y, Tensor x, int top, int left)
{
    const int *a = x.s.d, *b = y.s.d;
    if (y.x && x.x && a[0] == b[0] && a[1] == b[1] && top >= 0 && left >= 0 && b[2] <= a[2] - top && b[3] <= a[3] - left) return true;
    run_fail(r, E_SHAPE, "crop_planes: [%d,%d] at (%d,%d) of [%d,%d]", b[2], b[3], top, left, a[2], a[3]);
    return false;
}

static real *window_row(Tensor x, int plane, int row, int column)
{
    return x.x + ((size_t)plane * (size_t)x.s.d[2] + (size_t)row) * (size_t)x.s.d[3] + column;
}

void crop_planes(Run *r, Tensor y, Tensor x, int top, int left, const double *a, const double *b)
{
    if (!window_fits(r, y, x, top, left)) return;
    int C = y.s.d[1], planes = y.s.d[0] * C;
    #pragma omp parallel for num_threads(r->threads)
    for (int p = 0; p < planes; p++)
        for (int i = 0; i < y.s.d[2]; i++) {
            const real *from = window_row(x, p, top + i, left);
            real *to = window_row(y, p, i, 0);
            for (int j = 0; j < y.s.d[3]; j++) to[j] = (real)(a[p % C] * (double)from[j] + b[p % C]);
        }
}

void crop_planes_back(Run *r, Tensor dx, Tensor dy, int top, int left, const double *a)
{
    if (!window_fits(r, dy, dx, top, left)) return;
    int C = dy.s.d[1], planes = dy.s.d[0] * C;
    tensor_zero(dx);
    #pragma omp parallel for num_threads(r->threads)
    for (int p = 0; p < planes; p++)
        for (int i = 0; i < dy.s.d[2]; i++) {
            const real *from = window_row(dy, p, i, 0);
            real *to = window_row(dx, p, top + i, left);
            for (int j = 0; j < dy.s.d[3]; j++) to[j] = (real)(a[p % C] * (double)from[j]);
        }
}

static const Resize SMOOTH = { .antialias = true };
static Tensor batch(Tensor t) { return (Tensor){ t.x, SHAPE(1, t.s.d[0], t.s.d[1], t.s.d[2]) }; }

void resize_bilinear     (Run *r, Tensor y, Tensor x)   { resize(r, batch(y), batch(x), SMOOTH); }
void resize_bilinear_back(Run *r, Tensor dx, Tensor dy) { resize_back(r, batch(dx), batch(dy), SMOOTH); }
