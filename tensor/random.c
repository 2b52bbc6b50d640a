#include <math.h>
#include "tensor/random.h"

enum { STATES = 624, MIDDLE = 397, BLOCK = 16, HALF = BLOCK / 2 };
static const double TWO_PI = 6.283185307179586476925286766559;

/* ---- integers: mt19937 ---- */

void random_seed(Random *g, RandomKind kind, uint64_t seed)
{
    *g = (Random){ .kind = kind, .seed = seed, .at = STATES };
    g->state[0] = (uint32_t)seed;
    for (uint32_t j = 1; j < STATES; j++)
        g->state[j] = 1812433253u * (g->state[j - 1] ^ g->state[j - 1] >> 30) + j;
}

static void twist(uint32_t *s)
{
    for (int k = 0; k < STATES; k++) {
        uint32_t y = (s[k] & 0x80000000u) | (s[(k + 1) % STATES] & 0x7FFFFFFFu);
        s[k] = s[(k + MIDDLE) % STATES] ^ y >> 1 ^ (y & 1 ? 0x9908B0DFu : 0);
    }
}

uint32_t random_u32(Random *g)
{
    if (g->at == STATES) {
        twist(g->state);
        g->at = 0;
    }
    uint32_t y = g->state[g->at++];
    y ^= y >> 11;
    y ^= y << 7  & 0x9D2C5680u;
    y ^= y << 15 & 0xEFC60000u;
    return y ^ y >> 18;
}

uint64_t random_u64(Random *g)
{
    uint64_t high = random_u32(g);
    return high << 32 | random_u32(g);
}

uint64_t random_below(Random *g, uint64_t high)
{
    if (!high) return 0;
    return high < (uint64_t)1 << 28 ? random_u32(g) % high : random_u64(g) % high;
}

void random_permutation(Random *g, size_t n, int64_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = (int64_t)i;
    for (size_t i = 0; i + 1 < n; i++) {
        size_t j = i + random_u32(g) % (n - i);
        int64_t was = out[i];
        out[i] = out[j];
        out[j] = was;
    }
}

static float  uniform  (Random *g) { return (float)(random_u32(g) & 0xFFFFFFu) * 0x1p-24f; }
static double uniform64(Random *g) { return (double)(random_u64(g) & 0x1FFFFFFFFFFFFFu) * 0x1p-53; }

void random_uniform(Random *g, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = uniform(g);
}

/* ---- float32 log, sin and cos as PyTorch's vectors compute them, after Cephes ----
 * Every operation rounds once, fmaf included; the compiler must not contract the others. */

static float horner(const float *c, int n, float x)
{
    float y = c[0];
    for (int i = 1; i < n; i++) y = fmaf(y, x, c[i]);
    return y;
}

/* 2^-24 <= v <= 1.  v = m 2^e with m in [sqrt(1/2), sqrt(2));  f = m - 1;  log v = e log 2 + log(1 + f), and log 2 is
 * split into a part that times e is exact, and a correction. */
static float log_x86(float v)
{
    static const float P[] = { 7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                               -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f };
    int exponent;
    float m = frexpf(v, &exponent), f;
    if (m < 0.707106781186547524f) {
        exponent--;
        f = m + m - 1;
    } else f = m - 1;
    float e = (float)exponent, z = f * f;
    float y = horner(P, 9, f) * f;
    y = fmaf(y, z, e * -2.12194440e-4f);
    y = fmaf(-0.5f, z, y);
    return fmaf(e, 0.693359375f, f + y);
}

/* a >= 0.  a = q pi/2 + r with |r| <= pi/4, pi/2 subtracted in three exact parts; then both series, and the quadrant. */
static void sin_cos_x86(float a, float *sine, float *cosine)
{
    static const float S[] = { -1.9515295891e-4f, 8.3321608736e-3f, -1.6666654611e-1f };
    static const float C[] = { 2.443315711809948e-5f, -1.388731625493765e-3f, 4.166664568298827e-2f };
    int j = ((int)(a * 1.27323954473516f) + 1) & ~1, q = j / 2;
    float k = (float)j;
    float r = fmaf(k, -0.78515625f, a);
    r = fmaf(k, -2.4187564849853515625e-4f, r);
    r = fmaf(k, -3.77489497744594108e-8f, r);
    float z = r * r;
    float s = fmaf(horner(S, 3, z) * z, r, r);
    float c = fmaf(horner(C, 3, z) * z, z, -0.5f * z) + 1;
    *sine   = q & 1 ? c : s;
    *cosine = q & 1 ? s : c;
    if (q & 2) *sine = -*sine;
    if ((q + 1) & 2) *cosine = -*cosine;
}

/* ---- normal numbers ---- */

/* 16 uniforms -> 16 normals: the first eight give radii, the last eight angles.  The + 0 turns -0 into +0. */
static void block_normal(float *d)
{
    for (int j = 0; j < HALF; j++) {
        float radius = sqrtf(-2 * log_x86(1 - d[j])), s, c;
        sin_cos_x86((float)TWO_PI * d[j + HALF], &s, &c);
        d[j]        = radius * c + 0;
        d[j + HALF] = radius * s + 0;
    }
}

static void block_normal64(double *d)
{
    for (int j = 0; j < HALF; j++) {
        double radius = sqrt(-2 * log(1 - d[j])), a = TWO_PI * d[j + HALF];
        d[j]        = radius * cos(a) + 0;
        d[j + HALF] = radius * sin(a) + 0;
    }
}

static double next_normal(Random *g)
{
    if (g->has_left) {
        g->has_left = false;
        return g->left;
    }
    double u = uniform64(g), w = uniform64(g), radius = sqrt(-2 * log1p(-w));
    g->left = radius * sin(TWO_PI * u);
    g->has_left = true;
    return radius * cos(TWO_PI * u);
}

/* Philox-4x32-10 (Salmon et al. 2011): the first two of four outputs for counter (call, 0, i, 0). */
static void philox(uint32_t call, uint32_t i, uint64_t seed, uint32_t *x, uint32_t *y)
{
    uint32_t c[4] = { call, 0, i, 0 }, key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xD2511F53u * c[0], q = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t c0 = (uint32_t)(q >> 32) ^ c[1] ^ key0, c2 = (uint32_t)(p >> 32) ^ c[3] ^ key1;
        c[1] = (uint32_t)q;
        c[3] = (uint32_t)p;
        c[0] = c0;
        c[2] = c2;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    *x = c[0];
    *y = c[1];
}

static double philox_normal(const Random *g, size_t i)
{
    uint32_t x, y;
    philox(g->call, (uint32_t)i, g->seed, &x, &y);
    double u = ((double)x + 0.5) * 0x1p-32, v = ((double)y + 0.5) * 0x1p-32 * TWO_PI;
    return sqrt(-2 * log(u)) * sin(v);
}

void random_normal(Random *g, size_t n, float *out)
{
    if (g->kind == RANDOM_PHILOX) {
        for (size_t i = 0; i < n; i++) out[i] = (float)philox_normal(g, i);
        g->call++;
        return;
    }
    if (n < BLOCK) {
        for (size_t i = 0; i < n; i++) out[i] = (float)next_normal(g);
        return;
    }
    random_uniform(g, n, out);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK) block_normal(out + i);
    if (n % BLOCK) {                                      /* the last 16 places anew, over values already made */
        random_uniform(g, BLOCK, out + n - BLOCK);
        block_normal(out + n - BLOCK);
    }
}

void random_normal64(Random *g, size_t n, double *out)
{
    if (g->kind == RANDOM_PHILOX) {
        for (size_t i = 0; i < n; i++) out[i] = philox_normal(g, i);
        g->call++;
        return;
    }
    if (n < BLOCK) {
        for (size_t i = 0; i < n; i++) out[i] = next_normal(g);
        return;
    }
    for (size_t i = 0; i < n; i++) out[i] = uniform64(g);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK) block_normal64(out + i);
    if (n % BLOCK) {
        for (size_t i = n - BLOCK; i < n; i++) out[i] = uniform64(g);
        block_normal64(out + n - BLOCK);
    }
}
