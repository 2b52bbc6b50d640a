#include <math.h>
#include "tensor/tiles.h"
#include SIMD
#include "tensor/simd_exp.h"

/* Registers: HIGH x 2 sums, two of b, one of a. */
enum { HIGH = LANES == 8 ? 6 : 14, WIDE = 2 * LANES };
#define INSIDE static inline __attribute__((always_inline))

INSIDE void block(const int rows, int K, const real *a, ptrdiff_t ai, ptrdiff_t ak, const real *b, ptrdiff_t bk,
                  real *c, ptrdiff_t ci, bool add)
{
    V s[HIGH][2];
    #pragma GCC unroll 16
    for (int i = 0; i < rows; i++) s[i][0] = s[i][1] = v_set(0);
    for (int k = 0; k < K; k++, a += ak, b += bk) {
        V b0 = v_load(b), b1 = v_load(b + LANES);
        #pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            V x = v_set(a[i * ai]);
            s[i][0] = v_fma(x, b0, s[i][0]);
            s[i][1] = v_fma(x, b1, s[i][1]);
        }
    }
    #pragma GCC unroll 16
    for (int i = 0; i < rows; i++, c += ci) {
        v_store(c, add ? v_add(s[i][0], v_load(c)) : s[i][0]);
        v_store(c + LANES, add ? v_add(s[i][1], v_load(c + LANES)) : s[i][1]);
    }
}

/* One body for every height: HIGH is a constant, the cases above it vanish. */
static void product(int rows, int K, const real *a, ptrdiff_t ai, ptrdiff_t ak, const real *b, ptrdiff_t bk,
                    real *c, ptrdiff_t ci, bool add)
{
    switch (rows) {
    case 1: block(1, K, a, ai, ak, b, bk, c, ci, add); break;
    case 2: block(2, K, a, ai, ak, b, bk, c, ci, add); break;
    case 3: block(3, K, a, ai, ak, b, bk, c, ci, add); break;
    case 4: block(4, K, a, ai, ak, b, bk, c, ci, add); break;
    case 5: block(5, K, a, ai, ak, b, bk, c, ci, add); break;
    case 6: block(6, K, a, ai, ak, b, bk, c, ci, add); break;
    case 7: if (HIGH > 6) block(HIGH > 6 ? 7 : 1, K, a, ai, ak, b, bk, c, ci, add); break;
    case 8: if (HIGH > 6) block(HIGH > 6 ? 8 : 1, K, a, ai, ak, b, bk, c, ci, add); break;
    case 9: if (HIGH > 6) block(HIGH > 6 ? 9 : 1, K, a, ai, ak, b, bk, c, ci, add); break;
    case 10: if (HIGH > 6) block(HIGH > 6 ? 10 : 1, K, a, ai, ak, b, bk, c, ci, add); break;
    case 11: if (HIGH > 6) block(HIGH > 6 ? 11 : 1, K, a, ai, ak, b, bk, c, ci, add); break;
    case 12: if (HIGH > 6) block(HIGH > 6 ? 12 : 1, K, a, ai, ak, b, bk, c, ci, add); break;
    case 13: if (HIGH > 6) block(HIGH > 6 ? 13 : 1, K, a, ai, ak, b, bk, c, ci, add); break;
    case 14: if (HIGH > 6) block(HIGH > 6 ? 14 : 1, K, a, ai, ak, b, bk, c, ci, add); break;
    }
}

static void turn_part(int K, int n, real *to, const real *from, ptrdiff_t ld)
{
    for (int k = 0; k < K; k++)
        for (int j = 0; j < WIDE; j++) to[k * WIDE + j] = j < n ? from[j * ld + k] : 0;
}

static void turn(int K, int n, real *to, const real *from, ptrdiff_t ld)
{
    int k = 0;
    if (n == WIDE)
        for (; k + LANES <= K; k += LANES)
            for (int half = 0; half < WIDE; half += LANES) {
                V square[LANES];
                #pragma GCC unroll 16
                for (int j = 0; j < LANES; j++) square[j] = v_load(from + (half + j) * ld + k);
                v_turn(square);
                #pragma GCC unroll 16
                for (int j = 0; j < LANES; j++) v_store(to + (k + j) * WIDE + half, square[j]);
            }
    turn_part(K - k, n, to + k * WIDE, from + k, ld);
}

INSIDE void in4(V *t, V a, V b, V c, V d)
{
    t[0] = v_sub(a, c);
    t[1] = v_add(b, c);
    t[2] = v_sub(c, b);
    t[3] = v_sub(b, d);
}

static void winograd_in(int C, real *v, size_t plane, const real *const d[16])
{
    for (int k = 0; k < C; k += LANES) {
        V t[4][4], u[4];
        #pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            in4(t[i], v_load(d[4 * i] + k), v_load(d[4 * i + 1] + k), v_load(d[4 * i + 2] + k), v_load(d[4 * i + 3] + k));
        #pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            in4(u, t[0][j], t[1][j], t[2][j], t[3][j]);
            #pragma GCC unroll 4
            for (int i = 0; i < 4; i++) v_store(v + (size_t)(4 * i + j) * plane + k, u[i]);
        }
    }
}

static void winograd_out(int C, real *const y[4], const real *m, size_t plane, const real *bias, const real *const add[4])
{
    for (int k = 0; k < C; k += LANES) {
        V s[4], t[2][4];
        #pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const real *at = m + (size_t)j * plane + k;
            V b = v_load(at + 4 * plane), c = v_load(at + 8 * plane);
            t[0][j] = v_add(v_add(v_load(at), b), c);
            t[1][j] = v_sub(v_sub(b, c), v_load(at + 12 * plane));
        }
        V more = bias ? v_load(bias + k) : v_set(0);
        #pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            s[2 * i]     = v_add(v_add(v_add(t[i][0], t[i][1]), t[i][2]), more);
            s[2 * i + 1] = v_add(v_sub(v_sub(t[i][1], t[i][2]), t[i][3]), more);
        }
        #pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            if (y[i]) v_store(y[i] + k, add ? v_add(s[i], v_load(add[i] + k)) : s[i]);
    }
}

/* exp of n rows of two registers; sums over 64 rows each, then of those. */
static void exponentials(int n, real *s, real scale, const V high[2], V sum[2])
{
    V a = v_set(scale);
    sum[0] = sum[1] = v_set(0);
    for (int i = 0; i < n; ) {
        V part[2] = { v_set(0), v_set(0) };
        int end = n - i < 64 ? n : i + 64;
        for (; i < end; i++, s += WIDE)
            for (int h = 0; h < 2; h++) {
                V e = v_exp(v_sub(v_mul(v_load(s + h * LANES), a), high[h]));
                part[h] = v_add(part[h], e);
                v_store(s + h * LANES, e);
            }
        sum[0] = v_add(sum[0], part[0]);
        sum[1] = v_add(sum[1], part[1]);
    }
}

static void times(int n, real *s, const V part[2])
{
    for (int i = 0; i < n; i++, s += WIDE)
        for (int h = 0; h < 2; h++) v_store(s + h * LANES, v_mul(v_load(s + h * LANES), part[h]));
}

static void softmax(int n, real *s, real scale, real *high, real *part)
{
    V m[2] = { v_set(-INFINITY), v_set(-INFINITY) }, sum[2], a = v_set(scale), one = v_set(1);
    for (int i = 0; i < n; i++)
        for (int h = 0; h < 2; h++) m[h] = v_max(m[h], v_mul(v_load(s + i * WIDE + h * LANES), a));
    exponentials(n, s, scale, m, sum);
    for (int h = 0; h < 2; h++) {
        sum[h] = v_div(one, sum[h]);
        v_store(high + h * LANES, m[h]);
        v_store(part + h * LANES, sum[h]);
    }
    times(n, s, sum);
}

static void softmax_again(int n, real *s, real scale, const real *high, const real *part)
{
    V m[2] = { v_load(high), v_load(high + LANES) }, f[2] = { v_load(part), v_load(part + LANES) }, sum[2];
    exponentials(n, s, scale, m, sum);
    times(n, s, f);
}

static void softmax_back(int n, real *d, const real *p, real scale)
{
    V sum[2] = { v_set(0), v_set(0) }, a = v_set(scale);
    for (int i = 0; i < n; ) {
        V part[2] = { v_set(0), v_set(0) };
        int end = n - i < 64 ? n : i + 64;
        for (; i < end; i++)
            for (int h = 0; h < 2; h++) {
                int at = i * WIDE + h * LANES;
                part[h] = v_fma(v_load(d + at), v_load(p + at), part[h]);
            }
        sum[0] = v_add(sum[0], part[0]);
        sum[1] = v_add(sum[1], part[1]);
    }
    for (int i = 0; i < n; i++)
        for (int h = 0; h < 2; h++) {
            int at = i * WIDE + h * LANES;
            v_store(d + at, v_mul(v_mul(a, v_load(p + at)), v_sub(v_load(d + at), sum[h])));
        }
}

const Tiles SIMD_TILES = {
    .fast = true, .high = HIGH, .wide = WIDE, .product = product, .turn = turn,
    .winograd_in = winograd_in, .winograd_out = winograd_out,
    .softmax = softmax, .softmax_again = softmax_again, .softmax_back = softmax_back,
};
