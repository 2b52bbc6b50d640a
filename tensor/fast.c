/* fast.c -- the kernels of plain.c on vector registers, float build only.  Compiled once per instruction set, with
 * -DSIMD='"tensor/simd_avx2.h"' and so on: that header gives V, LANES and the v_ operations, this file gives the
 * loops, and the object file exports one symbol: its table.
 *
 * Accuracy against exact values, in units of the last place of a float (ulp), held by tests/kernels.c over a dense
 * sweep of floats: exp 2, silu 5, gelu 6, quick_gelu 5 + |1.702 x|.  Slopes, which cross zero: 1e-6 absolute.
 * Below 1e-36 silu and quick_gelu may give 0. */
#include "tensor/tiles.h"
#include SIMD
#include "tensor/simd_exp.h"

#define INLINE static inline __attribute__((always_inline))

/* The last vector of a row may be short: what is missing reads as 0 and is not written. */
INLINE V get(const real *p, int left) { return left >= LANES ? v_load(p) : v_load_first(p, left); }

INLINE void put(real *p, int left, V a)
{
    if (left >= LANES) v_store(p, a);
    else v_store_first(p, a, left);
}

INLINE V used(V a, int left) { return left >= LANES ? a : v_first(a, left); }

/* Sums of long rows: 64 elements a lane in real, the rest in double.  i is the index of the vector just added. */
INLINE V flush(V part, int i, acc *total)
{
    if (i / LANES % 64 != 63) return part;
    *total += (acc)v_sum(part);
    return v_set(0);
}

INLINE V v_neg(V x)  { return v_sub(v_set(0), x); }
INLINE V v_size(V x) { return v_max(v_neg(x), x); }       /* |x| */

/* x sigmoid(k x) */
INLINE V v_swish(V k, V x) { return v_div(x, v_add(v_set(1), v_exp(v_neg(v_mul(k, x))))); }

/* s (1 + z (1 - s)), s = 1/(1 + e), 1 - s = e s, e = exp(-z), z = k x: no digits lost in a difference.  Beyond 80 the
 * slope is 0 or 1 within 1e-33. */
INLINE V v_swish_slope(V k, V x)
{
    V z = v_max(v_set(-80), v_min(v_set(80), v_mul(k, x)));
    V e = v_exp_within(v_neg(z)), s = v_div(v_set(1), v_add(v_set(1), e));
    return v_mul(s, v_fma(z, v_mul(e, s), v_set(1)));
}

/* For z >= 0:  Phi(-z) = e^(-z^2/2) t P(t),  t = 1/(1 + 0.3 z).  P is the polynomial of smallest relative error for
 * 0 <= z <= 14.5 (3.5e-9).  z^2 is split, since e^(-z^2/2) turns its rounding into a large relative error.  *e is e^(-z^2/2). */
INLINE V v_tail(V z, V *e)
{
    V square = v_mul(z, z), rest = v_fma(z, z, v_neg(square));
    V bell = v_exp_within(v_mul(v_set(-0.5f), square));
    *e = v_fma(v_mul(v_set(-0.5f), rest), bell, bell);
    V t = v_div(v_set(1), v_fma(v_set(0.3f), z, v_set(1)));
    V p = v_fma(v_set(-0.0206234879f), t, v_set(0.112435715f));
    p = v_fma(p, t, v_set(-0.228213836f));
    p = v_fma(p, t, v_set(0.191784846f));
    p = v_fma(p, t, v_set(-0.0794237451f));
    p = v_fma(p, t, v_set(0.0961569658f));
    p = v_fma(p, t, v_set(0.0783896048f));
    p = v_fma(p, t, v_set(0.110235434f));
    p = v_fma(p, t, v_set(0.119571813f));
    p = v_fma(p, t, v_set(0.11968669f));
    return v_mul(*e, v_mul(t, p));
}

INLINE V v_gelu_size(V x) { return v_min(v_set(14.5f), v_size(x)); }                     /* beyond, Phi(-|x|) is 0 in float */

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|) */
INLINE V v_gelu(V x)
{
    V e, z = v_gelu_size(x), tail = v_tail(z, &e);
    return v_fma(v_neg(z), tail, v_max(v_set(0), x));
}

/* Phi(x) + x phi(x) */
INLINE V v_gelu_slope(V x)
{
    V e, z = v_gelu_size(x), tail = v_tail(z, &e), cdf = v_negative(x, tail, v_sub(v_set(1), tail));
    return v_fma(v_mul(v_negative(x, v_neg(z), z), v_set(0.398942280f)), e, cdf);
}

INLINE V v_silu(V x)             { return v_swish(v_set(1), x); }
INLINE V v_quick_gelu(V x)       { return v_swish(v_set(1.702f), x); }
INLINE V v_silu_slope(V x)       { return v_swish_slope(v_set(1), x); }
INLINE V v_quick_gelu_slope(V x) { return v_swish_slope(v_set(1.702f), x); }

INLINE void map(int n, real *y, const real *x, V f(V))
{
    for (int i = 0; i < n; i += LANES) put(y + i, n - i, f(get(x + i, n - i)));
}

INLINE void map_back(int n, real *dx, const real *dy, const real *x, V slope(V))
{
    for (int i = 0; i < n; i += LANES) put(dx + i, n - i, v_mul(get(dy + i, n - i), slope(get(x + i, n - i))));
}

static void silu(int n, real *y, const real *x)       { map(n, y, x, v_silu); }
static void gelu(int n, real *y, const real *x)       { map(n, y, x, v_gelu); }
static void quick_gelu(int n, real *y, const real *x) { map(n, y, x, v_quick_gelu); }
static void silu_back(int n, real *dx, const real *dy, const real *x)       { map_back(n, dx, dy, x, v_silu_slope); }
static void gelu_back(int n, real *dx, const real *dy, const real *x)       { map_back(n, dx, dy, x, v_gelu_slope); }
static void quick_gelu_back(int n, real *dx, const real *dy, const real *x) { map_back(n, dx, dy, x, v_quick_gelu_slope); }

static void add(int n, real *y, const real *x)
{
    for (int i = 0; i < n; i += LANES) put(y + i, n - i, v_add(get(y + i, n - i), get(x + i, n - i)));
}

static void axpy(int n, real *y, real a, const real *x)
{
    V va = v_set(a);
    for (int i = 0; i < n; i += LANES) put(y + i, n - i, v_fma(va, get(x + i, n - i), get(y + i, n - i)));
}

static void affine(int n, real *y, real a, const real *x, real c)
{
    V va = v_set(a), vc = v_set(c);
    for (int i = 0; i < n; i += LANES) put(y + i, n - i, v_fma(va, get(x + i, n - i), vc));
}

static void blend(int n, real *y, real a, const real *x, real b, const real *z)
{
    V va = v_set(a), vb = v_set(b);
    for (int i = 0; i < n; i += LANES) put(y + i, n - i, v_fma(va, get(x + i, n - i), v_mul(vb, get(z + i, n - i))));
}

static void multiply(int n, real *y, const real *x, const real *z)
{
    for (int i = 0; i < n; i += LANES) put(y + i, n - i, v_mul(get(x + i, n - i), get(z + i, n - i)));
}

static acc dot(int n, const real *x, const real *z)
{
    acc total = 0;
    V part = v_set(0);
    for (int i = 0; i < n; i += LANES) part = flush(v_fma(get(x + i, n - i), get(z + i, n - i), part), i, &total);
    return total + (acc)v_sum(part);
}

static void geglu(int n, real *y, const real *a, const real *g)
{
    for (int i = 0; i < n; i += LANES) put(y + i, n - i, v_mul(get(a + i, n - i), v_gelu(get(g + i, n - i))));
}

static void geglu_back(int n, real *da, real *dg, const real *dy, const real *a, const real *g)
{
    for (int i = 0; i < n; i += LANES) {
        V d = get(dy + i, n - i), value = get(a + i, n - i), gate = get(g + i, n - i);
        put(da + i, n - i, v_mul(d, v_gelu(gate)));
        put(dg + i, n - i, v_mul(v_mul(d, value), v_gelu_slope(gate)));
    }
}

static real row_max(int n, const real *x, real scale)
{
    V high = v_set(-INFINITY);
    int i = 0;
    for (; i + LANES <= n; i += LANES) high = v_max(v_load(x + i), high);
    real m = v_highest(high);
    for (; i < n; i++)
        if (x[i] > m) m = x[i];
    return scale * m;
}

static acc row_exp(int n, real *y, const real *x, real scale, real max)
{
    acc total = 0;
    V part = v_set(0), vs = v_set(scale), vm = v_set(-max);
    for (int i = 0; i < n; i += LANES) {
        V e = v_exp(v_fma(vs, get(x + i, n - i), vm));
        put(y + i, n - i, e);
        part = flush(v_add(part, used(e, n - i)), i, &total);
    }
    return total + (acc)v_sum(part);
}

static void row_scale(int n, real *y, real a)
{
    V va = v_set(a);
    for (int i = 0; i < n; i += LANES) put(y + i, n - i, v_mul(va, get(y + i, n - i)));
}

static void row_softmax_back(int n, real *dp, const real *p, real scale)
{
    V mean = v_set((real)dot(n, dp, p)), vs = v_set(scale);
    for (int i = 0; i < n; i += LANES)
        put(dp + i, n - i, v_mul(v_mul(vs, get(p + i, n - i)), v_sub(get(dp + i, n - i), mean)));
}

/* One row after the other: several at once would spare loads of s and q, but the memory's prefetcher loses the thread
 * (65536 pixels of 256 channels: 3.5 ms against 5.5 ms for four rows at once). */
static void channel_sums(int pixels, int C, const real *x, const real *shift, real *s, real *q)
{
    for (int c = 0; c < C; c++) s[c] = q[c] = 0;
    for (int p = 0; p < pixels; p++, x += C)
        for (int c = 0; c < C; c += LANES) {
            V d = v_sub(get(x + c, C - c), get(shift + c, C - c));
            put(s + c, C - c, v_add(get(s + c, C - c), d));
            put(q + c, C - c, v_fma(d, d, get(q + c, C - c)));
        }
}

INLINE V v_same(V x) { return x; }
INLINE V v_norm(V x, const real *m, const real *a, const real *b, int left)
{
    return v_fma(get(a, left), v_sub(x, get(m, left)), get(b, left));
}

INLINE void norm_rows(int pixels, int C, real *y, const real *x, const real *m, const real *a, const real *b, V f(V))
{
    for (int p = 0; p < pixels; p++, x += C, y += C)
        for (int c = 0; c < C; c += LANES) put(y + c, C - c, f(v_norm(get(x + c, C - c), m + c, a + c, b + c, C - c)));
}

static void channel_affine(int pixels, int C, real *y, const real *x, const real *m, const real *a, const real *b)
{
    norm_rows(pixels, C, y, x, m, a, b, v_same);
}

static void channel_silu(int pixels, int C, real *y, const real *x, const real *m, const real *a, const real *b)
{
    norm_rows(pixels, C, y, x, m, a, b, v_silu);
}

INLINE V v_dv(V dy, V dev, V a, V b, V slope(V)) { return slope ? v_mul(dy, slope(v_fma(a, dev, b))) : dy; }

INLINE void back_sums(int pixels, int C, const real *dy, const real *x, const real *m, const real *a, const real *b,
                      real *s, real *q, V slope(V))
{
    for (int c = 0; c < C; c++) s[c] = q[c] = 0;
    for (int p = 0; p < pixels; p++, x += C, dy += C)
        for (int c = 0; c < C; c += LANES) {
            int left = C - c;
            V dev = v_sub(get(x + c, left), get(m + c, left));
            V dv = v_dv(get(dy + c, left), dev, get(a + c, left), get(b + c, left), slope);
            put(s + c, left, v_add(get(s + c, left), dv));
            put(q + c, left, v_fma(dv, dev, get(q + c, left)));
        }
}

static void channel_affine_sums(int pixels, int C, const real *dy, const real *x, const real *m, const real *a,
                                const real *b, real *s, real *q)
{
    back_sums(pixels, C, dy, x, m, a, b, s, q, NULL);
}

static void channel_silu_sums(int pixels, int C, const real *dy, const real *x, const real *m, const real *a,
                              const real *b, real *s, real *q)
{
    back_sums(pixels, C, dy, x, m, a, b, s, q, v_silu_slope);
}

INLINE void norm_back(int pixels, int C, real *dx, const real *dy, const real *x, const real *m, const real *a,
                      const real *b, const real *e, const real *f, V slope(V))
{
    for (int p = 0; p < pixels; p++, x += C, dy += C, dx += C)
        for (int c = 0; c < C; c += LANES) {
            int left = C - c;
            V va = get(a + c, left), dev = v_sub(get(x + c, left), get(m + c, left));
            V dv = v_dv(get(dy + c, left), dev, va, get(b + c, left), slope);
            put(dx + c, left, v_fma(va, dv, v_fma(get(e + c, left), dev, get(f + c, left))));
        }
}

static void channel_affine_back(int pixels, int C, real *dx, const real *dy, const real *x, const real *m,
                                const real *a, const real *b, const real *e, const real *f)
{
    norm_back(pixels, C, dx, dy, x, m, a, b, e, f, NULL);
}

static void channel_silu_back(int pixels, int C, real *dx, const real *dy, const real *x, const real *m,
                              const real *a, const real *b, const real *e, const real *f)
{
    norm_back(pixels, C, dx, dy, x, m, a, b, e, f, v_silu_slope);
}

static void layernorm(int n, real *y, const real *x, const real *gamma, const real *beta, real eps, real *mean, real *rstd)
{
    acc sum = 0, square = 0;
    V part = v_set(0);
    for (int i = 0; i < n; i += LANES) part = flush(v_add(part, get(x + i, n - i)), i, &sum);
    *mean = (real)((sum + (acc)v_sum(part)) / n);

    V vm = v_set(*mean);
    part = v_set(0);
    for (int i = 0; i < n; i += LANES) {
        V dev = used(v_sub(get(x + i, n - i), vm), n - i);
        part = flush(v_fma(dev, dev, part), i, &square);
    }
    *rstd = (real)(1 / sqrt((square + (acc)v_sum(part)) / n + (acc)eps));

    V vr = v_set(*rstd);
    for (int i = 0; i < n; i += LANES) {
        V u = v_mul(v_sub(get(x + i, n - i), vm), vr);
        put(y + i, n - i, v_fma(get(gamma + i, n - i), u, get(beta + i, n - i)));
    }
}

static void layernorm_back(int n, real *dx, const real *dy, const real *x, real mean, real rstd, const real *gamma)
{
    acc sum = 0, moment = 0;
    V part = v_set(0), part_u = v_set(0), vm = v_set(mean), vr = v_set(rstd);
    for (int i = 0; i < n; i += LANES) {
        V g = v_mul(get(gamma + i, n - i), get(dy + i, n - i));
        part = flush(v_add(part, g), i, &sum);
        part_u = flush(v_fma(g, v_sub(get(x + i, n - i), vm), part_u), i, &moment);
    }
    V m = v_set((real)((sum + (acc)v_sum(part)) / n));
    V mu = v_set((real)((moment + (acc)v_sum(part_u)) * (acc)rstd / n));
    for (int i = 0; i < n; i += LANES) {
        V u = v_mul(v_sub(get(x + i, n - i), vm), vr);
        V g = v_fma(get(gamma + i, n - i), get(dy + i, n - i), v_neg(m));
        put(dx + i, n - i, v_mul(vr, v_sub(g, v_mul(u, mu))));
    }
}

static void layernorm_sums(int n, real *dgamma, real *dbeta, const real *dy, const real *x, real mean, real rstd)
{
    V vm = v_set(mean), vr = v_set(rstd);
    for (int i = 0; i < n; i += LANES) {
        V d = get(dy + i, n - i), u = v_mul(v_sub(get(x + i, n - i), vm), vr);
        put(dgamma + i, n - i, v_fma(d, u, get(dgamma + i, n - i)));
        put(dbeta + i, n - i, v_add(d, get(dbeta + i, n - i)));
    }
}

INLINE void widen(int n, real *y, const uint16_t *x, V from(const uint16_t *))
{
    int i = 0;
    for (; i + LANES <= n; i += LANES) v_store(y + i, from(x + i));
    if (i == n) return;
    uint16_t rest[LANES] = {0};
    for (int j = i; j < n; j++) rest[j - i] = x[j];
    v_store_first(y + i, from(rest), n - i);
}

static void widen_f16(int n, real *y, const uint16_t *x)  { widen(n, y, x, v_f16); }
static void widen_bf16(int n, real *y, const uint16_t *x) { widen(n, y, x, v_bf16); }

const Kernels SIMD_TABLE = {
    .name = SIMD_NAME,
    .tiles = &SIMD_TILES,
    .add = add, .axpy = axpy, .affine = affine, .blend = blend, .multiply = multiply, .dot = dot,
    .act = { silu, gelu, quick_gelu },
    .act_back = { silu_back, gelu_back, quick_gelu_back },
    .geglu = geglu, .geglu_back = geglu_back,
    .row_max = row_max, .row_exp = row_exp, .row_scale = row_scale, .row_softmax_back = row_softmax_back,
    .channel_sums = channel_sums,
    .channel_norm = { channel_affine, channel_silu },
    .channel_back_sums = { channel_affine_sums, channel_silu_sums },
    .channel_norm_back = { channel_affine_back, channel_silu_back },
    .layernorm = layernorm, .layernorm_back = layernorm_back, .layernorm_sums = layernorm_sums,
    .widen_f16 = widen_f16, .widen_bf16 = widen_bf16,
};
