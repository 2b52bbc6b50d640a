/* plain.c -- the meaning of every kernel.  Sums and transcendental functions are taken in double. */
#include "tensor/tiles.h"

static void add(int n, real *y, const real *x)
{
    for (int i = 0; i < n; i++) y[i] += x[i];
}

static void axpy(int n, real *y, real a, const real *x)
{
    for (int i = 0; i < n; i++) y[i] += a * x[i];
}

static void affine(int n, real *y, real a, const real *x, real c)
{
    for (int i = 0; i < n; i++) y[i] = a * x[i] + c;
}

static void blend(int n, real *y, real a, const real *x, real b, const real *z)
{
    for (int i = 0; i < n; i++) y[i] = a * x[i] + b * z[i];
}

static void multiply(int n, real *y, const real *x, const real *z)
{
    for (int i = 0; i < n; i++) y[i] = x[i] * z[i];
}

static acc dot(int n, const real *x, const real *z)
{
    acc sum = 0;
    for (int i = 0; i < n; i++) sum += (acc)x[i] * (acc)z[i];
    return sum;
}

static acc sigmoid(acc x) { return 1 / (1 + exp(-x)); }

/* d/dx of x sigmoid(k x) */
static acc swish_slope(acc k, acc x)
{
    acc s = sigmoid(k * x);
    return s > 0 ? s * (1 + k * x * sigmoid(-k * x)) : s;
}

static acc normal_cdf(acc x)   { return erfc(-x * 0.70710678118654752440) / 2; }
static acc normal_pdf(acc x)   { return exp(-x * x / 2) * 0.39894228040143267794; }
static acc gelu_of(acc x)      { return x * normal_cdf(x); }
static acc gelu_slope(acc x)   { return normal_cdf(x) + x * normal_pdf(x); }

static void silu(int n, real *y, const real *x)
{
    for (int i = 0; i < n; i++) y[i] = (real)((acc)x[i] * sigmoid((acc)x[i]));
}

static void gelu(int n, real *y, const real *x)
{
    for (int i = 0; i < n; i++) y[i] = (real)gelu_of((acc)x[i]);
}

static void quick_gelu(int n, real *y, const real *x)
{
    for (int i = 0; i < n; i++) y[i] = (real)((acc)x[i] * sigmoid(1.702 * (acc)x[i]));
}

static void silu_back(int n, real *dx, const real *dy, const real *x)
{
    for (int i = 0; i < n; i++) dx[i] = (real)((acc)dy[i] * swish_slope(1, (acc)x[i]));
}

static void gelu_back(int n, real *dx, const real *dy, const real *x)
{
    for (int i = 0; i < n; i++) dx[i] = (real)((acc)dy[i] * gelu_slope((acc)x[i]));
}

static void quick_gelu_back(int n, real *dx, const real *dy, const real *x)
{
    for (int i = 0; i < n; i++) dx[i] = (real)((acc)dy[i] * swish_slope(1.702, (acc)x[i]));
}

static void geglu(int n, real *y, const real *a, const real *g)
{
    for (int i = 0; i < n; i++) y[i] = (real)((acc)a[i] * gelu_of((acc)g[i]));
}

static void geglu_back(int n, real *da, real *dg, const real *dy, const real *a, const real *g)
{
    for (int i = 0; i < n; i++) {
        acc d = (acc)dy[i], value = (acc)a[i], gate = (acc)g[i];
        da[i] = (real)(d * gelu_of(gate));
        dg[i] = (real)(d * value * gelu_slope(gate));
    }
}

static real row_max(int n, const real *x, real scale)
{
    real m = (real)-INFINITY;
    for (int i = 0; i < n; i++)
        if (x[i] > m) m = x[i];
    return scale * m;
}

static acc row_exp(int n, real *y, const real *x, real scale, real max)
{
    acc sum = 0;
    for (int i = 0; i < n; i++) {
        y[i] = (real)exp((acc)scale * (acc)x[i] - (acc)max);
        sum += (acc)y[i];
    }
    return sum;
}

static void row_scale(int n, real *y, real a)
{
    for (int i = 0; i < n; i++) y[i] *= a;
}

static void row_softmax_back(int n, real *dp, const real *p, real scale)
{
    real mean = (real)dot(n, dp, p);
    for (int i = 0; i < n; i++) dp[i] = scale * p[i] * (dp[i] - mean);
}

static void channel_sums(int pixels, int C, const real *x, const real *shift, real *s, real *q)
{
    for (int c = 0; c < C; c++) {
        acc sum = 0, square = 0;
        for (int p = 0; p < pixels; p++) {
            acc d = (acc)x[(size_t)p * (size_t)C + (size_t)c] - (acc)shift[c];
            sum += d;
            square += d * d;
        }
        s[c] = (real)sum;
        q[c] = (real)square;
    }
}

static void channel_affine(int pixels, int C, real *y, const real *x, const real *m, const real *a, const real *b)
{
    for (int p = 0; p < pixels; p++, x += C, y += C)
        for (int c = 0; c < C; c++) y[c] = a[c] * (x[c] - m[c]) + b[c];
}

static void channel_silu(int pixels, int C, real *y, const real *x, const real *m, const real *a, const real *b)
{
    channel_affine(pixels, C, y, x, m, a, b);
    for (int p = 0; p < pixels; p++, y += C) silu(C, y, y);
}

static real norm_dv(int silu_follows, real dy, real x, real m, real a, real b)
{
    return silu_follows ? (real)((acc)dy * swish_slope(1, (acc)(a * (x - m) + b))) : dy;
}

static void back_sums(int silu_follows, int pixels, int C, const real *dy, const real *x, const real *m, const real *a,
                      const real *b, real *s, real *q)
{
    for (int c = 0; c < C; c++) {
        acc sum = 0, moment = 0;
        for (int p = 0; p < pixels; p++) {
            size_t i = (size_t)p * (size_t)C + (size_t)c;
            acc dv = (acc)norm_dv(silu_follows, dy[i], x[i], m[c], a[c], b[c]);
            sum += dv;
            moment += dv * ((acc)x[i] - (acc)m[c]);
        }
        s[c] = (real)sum;
        q[c] = (real)moment;
    }
}

static void norm_back(int silu_follows, int pixels, int C, real *dx, const real *dy, const real *x, const real *m,
                      const real *a, const real *b, const real *e, const real *f)
{
    for (int p = 0; p < pixels; p++, x += C, dy += C, dx += C)
        for (int c = 0; c < C; c++)
            dx[c] = a[c] * norm_dv(silu_follows, dy[c], x[c], m[c], a[c], b[c]) + (e[c] * (x[c] - m[c]) + f[c]);
}

static void channel_affine_sums(int pixels, int C, const real *dy, const real *x, const real *m, const real *a,
                                const real *b, real *s, real *q)
{
    back_sums(0, pixels, C, dy, x, m, a, b, s, q);
}

static void channel_silu_sums(int pixels, int C, const real *dy, const real *x, const real *m, const real *a,
                              const real *b, real *s, real *q)
{
    back_sums(1, pixels, C, dy, x, m, a, b, s, q);
}

static void channel_affine_back(int pixels, int C, real *dx, const real *dy, const real *x, const real *m,
                                const real *a, const real *b, const real *e, const real *f)
{
    norm_back(0, pixels, C, dx, dy, x, m, a, b, e, f);
}

static void channel_silu_back(int pixels, int C, real *dx, const real *dy, const real *x, const real *m,
                              const real *a, const real *b, const real *e, const real *f)
{
    norm_back(1, pixels, C, dx, dy, x, m, a, b, e, f);
}

static void layernorm(int n, real *y, const real *x, const real *gamma, const real *beta, real eps, real *mean, real *rstd)
{
    acc sum = 0, square = 0;
    for (int i = 0; i < n; i++) sum += (acc)x[i];
    acc m = sum / n;
    for (int i = 0; i < n; i++) square += ((acc)x[i] - m) * ((acc)x[i] - m);
    *mean = (real)m;
    *rstd = (real)(1 / sqrt(square / n + (acc)eps));
    for (int i = 0; i < n; i++) y[i] = gamma[i] * ((x[i] - *mean) * *rstd) + beta[i];
}

/* dx = rstd (gamma dy - M[gamma dy] - u M[gamma dy u]), M the mean over the row */
static void layernorm_back(int n, real *dx, const real *dy, const real *x, real mean, real rstd, const real *gamma)
{
    acc sum = 0, moment = 0;
    for (int i = 0; i < n; i++) {
        acc g = (acc)gamma[i] * (acc)dy[i];
        sum += g;
        moment += g * ((acc)x[i] - (acc)mean);
    }
    real m = (real)(sum / n), mu = (real)(moment * (acc)rstd / n);
    for (int i = 0; i < n; i++) dx[i] = rstd * (gamma[i] * dy[i] - m - (x[i] - mean) * rstd * mu);
}

static void layernorm_sums(int n, real *dgamma, real *dbeta, const real *dy, const real *x, real mean, real rstd)
{
    for (int i = 0; i < n; i++) {
        dgamma[i] += dy[i] * ((x[i] - mean) * rstd);
        dbeta[i] += dy[i];
    }
}

static void widen_f16(int n, real *y, const uint16_t *x)
{
    for (int i = 0; i < n; i++) {
        int exponent = x[i] >> 10 & 31, fraction = x[i] & 1023;
        acc v = exponent == 31 ? (fraction ? (acc)NAN : (acc)INFINITY)
              : exponent ? ldexp((acc)(1024 + fraction), exponent - 25) : ldexp((acc)fraction, -24);
        y[i] = (real)(x[i] >> 15 ? -v : v);
    }
}

static void widen_bf16(int n, real *y, const uint16_t *x)
{
    for (int i = 0; i < n; i++) {
        union { uint32_t bits; float value; } u = { (uint32_t)x[i] << 16 };
        y[i] = (real)u.value;
    }
}

const Kernels kernels_plain = {
    .name = "plain",
    .tiles = &tiles_plain,
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
