#include <math.h>
#include "tensor/tiles.h"

enum { HIGH = 4, WIDE = 8 };

static void product(int rows, int K, const real *a, ptrdiff_t ai, ptrdiff_t ak, const real *b, ptrdiff_t bk,
                    real *c, ptrdiff_t ci, bool add)
{
    for (int i = 0; i < rows; i++, a += ai, c += ci) {
        acc s[WIDE] = {0};
        for (int k = 0; k < K; k++)
            for (int j = 0; j < WIDE; j++) s[j] += (acc)a[k * ak] * (acc)b[k * bk + j];
        for (int j = 0; j < WIDE; j++) c[j] = (real)(s[j] + (add ? (acc)c[j] : 0));
    }
}

static void turn(int K, int n, real *to, const real *from, ptrdiff_t ld)
{
    for (int k = 0; k < K; k++)
        for (int j = 0; j < WIDE; j++) to[k * WIDE + j] = j < n ? from[j * ld + k] : 0;
}

/* The four numbers of B^T d, B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]. */
static void in4(acc t[4], acc a, acc b, acc c, acc d)
{
    t[0] = a - c;
    t[1] = b + c;
    t[2] = c - b;
    t[3] = b - d;
}

static void winograd_in(int C, real *v, size_t plane, const real *const d[16])
{
    for (int k = 0; k < C; k++) {
        acc t[4][4], u[4];
        for (int i = 0; i < 4; i++) in4(t[i], (acc)d[4 * i][k], (acc)d[4 * i + 1][k], (acc)d[4 * i + 2][k], (acc)d[4 * i + 3][k]);
        for (int j = 0; j < 4; j++) {
            in4(u, t[0][j], t[1][j], t[2][j], t[3][j]);
            for (int i = 0; i < 4; i++) v[(size_t)(4 * i + j) * plane + (size_t)k] = (real)u[i];
        }
    }
}

/* y = A^T m A, A^T = [1 1 1 0; 0 1 -1 -1]. */
static void winograd_out(int C, real *const y[4], const real *m, size_t plane, const real *bias, const real *const add[4])
{
    for (int k = 0; k < C; k++) {
        acc t[2][4];
        for (int j = 0; j < 4; j++) {
            const real *at = m + (size_t)j * plane + (size_t)k;
            acc a = (acc)at[0], b = (acc)at[4 * plane], c = (acc)at[8 * plane], d = (acc)at[12 * plane];
            t[0][j] = a + b + c;
            t[1][j] = b - c - d;
        }
        for (int i = 0; i < 4; i++) {
            const acc *s = t[i / 2];
            acc more = (bias ? (acc)bias[k] : 0) + (add && y[i] ? (acc)add[i][k] : 0);
            if (y[i]) y[i][k] = (real)(more + (i % 2 ? s[1] - s[2] - s[3] : s[0] + s[1] + s[2]));
        }
    }
}

static void softmax_again(int n, real *s, real scale, const real *high, const real *part)
{
    for (int i = 0; i < n; i++, s += WIDE)
        for (int j = 0; j < WIDE; j++) s[j] = exp(s[j] * scale - high[j]) * part[j];
}

static void softmax(int n, real *s, real scale, real *high, real *part)
{
    for (int j = 0; j < WIDE; j++) {
        acc sum = 0;
        high[j] = (real)-INFINITY;
        for (int i = 0; i < n; i++) high[j] = fmax(high[j], s[i * WIDE + j] * scale);
        for (int i = 0; i < n; i++) sum += (acc)exp(s[i * WIDE + j] * scale - high[j]);
        part[j] = (real)(1 / sum);
    }
    softmax_again(n, s, scale, high, part);
}

static void softmax_back(int n, real *d, const real *p, real scale)
{
    for (int j = 0; j < WIDE; j++) {
        acc sum = 0;
        for (int i = 0; i < n; i++) sum += (acc)d[i * WIDE + j] * (acc)p[i * WIDE + j];
        for (int i = 0; i < n; i++) d[i * WIDE + j] = (real)((acc)(scale * p[i * WIDE + j]) * ((acc)d[i * WIDE + j] - sum));
    }
}

const Tiles tiles_plain = {
    .fast = false, .high = HIGH, .wide = WIDE, .product = product, .turn = turn,
    .winograd_in = winograd_in, .winograd_out = winograd_out,
    .softmax = softmax, .softmax_again = softmax_again, .softmax_back = softmax_back,
};
