/* kernels_slots.h -- how to call each row slot in a test, and how close to plain it must come. */
#ifndef TESTS_KERNELS_SLOTS_H
#define TESTS_KERNELS_SLOTS_H
#include <time.h>
#include "tensor/kernels.h"
#include "tests/check.h"

enum { MOST = 70, PAD = 24, SIZE = 4200 };
typedef struct {
    float a[SIZE], b[SIZE], c[SIZE], d[SIZE], e[SIZE];    /* inputs */
    float y[SIZE], z[SIZE];                               /* the table's output, and plain's; equal at first */
    uint16_t half[SIZE];
} Rows;

/* y[at ...] is written; scalars go to y[0], y[1] (scaled so that they stay near 1) */
typedef struct {
    const char *name;
    void (*run)(const Kernels *k, int n, Rows *r, float *y, int at);
    int    pixels;                                        /* a slot over n channels of several pixels */
    double limit;                                         /* of |difference| / max(1, |plain|) */
    float  huge;                                          /* the huge values it is given, ... */
    double huge_room;                                     /* ... what takes the place of 1 then, ... */
    int    huge_rows;                                     /* ... and how many of the inputs a, b, c get one */
} Slot;

static int pixels_for(int n) { return n % 7 + 1; }

static void run_add     (const Kernels *k, int n, Rows *r, float *y, int at) { k->add(n, y + at, r->a + at); }
static void run_axpy    (const Kernels *k, int n, Rows *r, float *y, int at) { k->axpy(n, y + at, 0.7f, r->a + at); }
static void run_affine  (const Kernels *k, int n, Rows *r, float *y, int at) { k->affine(n, y + at, 1.3f, r->a + at, -0.2f); }
static void run_blend   (const Kernels *k, int n, Rows *r, float *y, int at) { k->blend(n, y + at, 1.3f, r->a + at, -0.4f, r->b + at + 1); }
static void run_multiply(const Kernels *k, int n, Rows *r, float *y, int at) { k->multiply(n, y + at, r->a + at, r->b + at + 1); }
static void run_dot     (const Kernels *k, int n, Rows *r, float *y, int at) { y[0] = (float)(k->dot(n, r->a + at, r->b + at) / (n + 1)); }
static void run_silu    (const Kernels *k, int n, Rows *r, float *y, int at) { k->act[0](n, y + at, r->a + at); }
static void run_gelu    (const Kernels *k, int n, Rows *r, float *y, int at) { k->act[1](n, y + at, r->a + at); }
static void run_quick   (const Kernels *k, int n, Rows *r, float *y, int at) { k->act[2](n, y + at, r->a + at); }
static void run_in_place(const Kernels *k, int n, Rows *r, float *y, int at) { (void)r; k->act[0](n, y + at, y + at); }
static void run_silu_back (const Kernels *k, int n, Rows *r, float *y, int at) { k->act_back[0](n, y + at, r->b + at, r->a + at); }
static void run_gelu_back (const Kernels *k, int n, Rows *r, float *y, int at) { k->act_back[1](n, y + at, r->b + at, r->a + at); }
static void run_quick_back(const Kernels *k, int n, Rows *r, float *y, int at) { k->act_back[2](n, y + at, y + at, r->a + at); }
static void run_geglu   (const Kernels *k, int n, Rows *r, float *y, int at) { k->geglu(n, y + at, r->a + at, r->b + at); }
static void run_geglu_back(const Kernels *k, int n, Rows *r, float *y, int at)
{
    if (n <= MOST) k->geglu_back(n, y + at, y + at + n + 3, r->b + at, r->c + at, r->a + at);
    else k->geglu_back(n, y + at, r->d, r->b + at, r->c + at, r->a + at);
}
static void run_row_max (const Kernels *k, int n, Rows *r, float *y, int at) { y[0] = k->row_max(n, r->a + at, 0.7f); }
static void run_row_exp (const Kernels *k, int n, Rows *r, float *y, int at)
{
    float high = k->row_max(n, r->a + at, 0.7f);
    y[0] = n ? (float)(k->row_exp(n, y + at, r->a + at, 0.7f, high) / (n + 1)) : (float)k->row_exp(0, y + at, r->a + at, 0.7f, 0);
}
static void run_row_scale(const Kernels *k, int n, Rows *r, float *y, int at) { (void)r; k->row_scale(n, y + at, 0.3f); }
static void run_softmax_back(const Kernels *k, int n, Rows *r, float *y, int at)
{
    static float p[SIZE];
    for (int i = 0; i < n; i++) p[i] = r->a[at + i] / (float)n;
    k->row_softmax_back(n, y + at, p, 0.7f);
}
static void run_sums    (const Kernels *k, int n, Rows *r, float *y, int at)
{
    k->channel_sums(n == MOST ? 58 : pixels_for(n), n, r->a + at, r->b + at, y + at, y + at + n + 5);
}
static void run_norm     (const Kernels *k, int n, Rows *r, float *y, int at) { k->channel_norm[0](pixels_for(n), n, y + at, r->a + at, r->b + at, r->c + at, r->d + at); }
static void run_norm_silu(const Kernels *k, int n, Rows *r, float *y, int at) { k->channel_norm[1](pixels_for(n), n, y + at, r->a + at, r->b + at, r->c + at, r->d + at); }
static void back_sums(const Kernels *k, int act, int n, Rows *r, float *y, int at)
{
    k->channel_back_sums[act](n == MOST ? 58 : pixels_for(n), n, r->e + at, r->a + at, r->b + at, r->c + at, r->d + at, y + at, y + at + n + 5);
}
static void run_back_sums     (const Kernels *k, int n, Rows *r, float *y, int at) { back_sums(k, 0, n, r, y, at); }
static void run_back_sums_silu(const Kernels *k, int n, Rows *r, float *y, int at) { back_sums(k, 1, n, r, y, at); }
static void norm_back(const Kernels *k, int act, int n, Rows *r, float *y, int at)
{
    k->channel_norm_back[act](pixels_for(n), n, y + at, r->e + at, r->a + at, r->b + at, r->c + at, r->d + at, r->e + at + 600, r->d + at + 600);
}
static void run_norm_back     (const Kernels *k, int n, Rows *r, float *y, int at) { norm_back(k, 0, n, r, y, at); }
static void run_norm_back_silu(const Kernels *k, int n, Rows *r, float *y, int at) { norm_back(k, 1, n, r, y, at); }
static void run_layernorm(const Kernels *k, int n, Rows *r, float *y, int at)
{
    if (n) k->layernorm(n, y + at, r->a + at, r->b + at, r->c + at, 1e-5f, y, y + 1);
}
static void run_layernorm_back(const Kernels *k, int n, Rows *r, float *y, int at)
{
    if (n) k->layernorm_back(n, y + at, r->b + at, r->a + at, 0.1f, 0.9f, r->c + at);
}
static void run_layernorm_sums(const Kernels *k, int n, Rows *r, float *y, int at)
{
    k->layernorm_sums(n, y + at, n <= MOST ? y + at + n + 3 : r->e, r->b + at, r->a + at, 0.1f, 0.9f);
}
static void run_f16 (const Kernels *k, int n, Rows *r, float *y, int at) { k->widen_f16(n, y + at, r->half + at); }
static void run_bf16(const Kernels *k, int n, Rows *r, float *y, int at) { k->widen_bf16(n, y + at, r->half + at); }

/* Limits: values are near 2, so one rounding is 1.2e-7 of max(1, |plain|); products of two add as much again.  Sums
 * of up to 58 products near 8 in real: 5e-6 measured.  Sums over a row are divided by n: as single values. */
static const Slot slots[] = {
    { "add",               run_add,             0, 2e-7, 1e38f, 1, 3 },
    { "axpy",              run_axpy,            0, 4e-7, 1e38f, 1, 3 },
    { "affine",            run_affine,          0, 4e-7, 1e38f, 1, 3 },
    { "blend",             run_blend,           0, 5e-7, 1e38f, 1e38, 3 },
    { "multiply",          run_multiply,        0, 1e-7, 1e38f, 1, 3 },
    { "dot",               run_dot,             0, 1e-6, 1e17f, 1e34, 3 },
    { "silu",              run_silu,            0, 1e-6, 1e38f, 1, 3 },
    { "gelu",              run_gelu,            0, 1e-6, 1e38f, 1, 3 },
    { "quick_gelu",        run_quick,           0, 1e-6, 1e38f, 1, 3 },
    { "silu in place",     run_in_place,        0, 1e-6, 1e38f, 1, 3 },
    { "silu_back",         run_silu_back,       0, 2e-6, 1e38f, 1, 1 },
    { "gelu_back",         run_gelu_back,       0, 2e-6, 1e38f, 1, 1 },
    { "quick_gelu_back",   run_quick_back,      0, 2e-6, 1e38f, 1, 1 },
    { "geglu",             run_geglu,           0, 2e-6, 1e38f, 1, 3 },
    { "geglu_back",        run_geglu_back,      0, 4e-6, 1e38f, 1, 1 },
    { "row_max",           run_row_max,         0, 1e-7, 1e38f, 1, 3 },
    { "row_exp",           run_row_exp,         0, 1e-6, 1e3f,  1, 3 },
    { "row_scale",         run_row_scale,       0, 1e-7, 1e38f, 1, 3 },
    { "row_softmax_back",  run_softmax_back,    0, 2e-6, 1e17f, 1e17, 3 },
    { "channel_sums",      run_sums,            1, 3e-6, 1e17f, 1e17, 3 },
    { "channel_norm",      run_norm,            1, 1e-6, 1e17f, 1e34, 3 },
    { "channel_norm silu", run_norm_silu,       1, 3e-6, 1e17f, 1e34, 3 },
    { "channel_back_sums", run_back_sums,       1, 1e-5, 1e17f, 1e17, 3 },
    { "channel_back_sums silu", run_back_sums_silu, 1, 1e-5, 1e17f, 1e34, 3 },
    { "channel_norm_back", run_norm_back,       1, 2e-6, 1e17f, 1e34, 3 },
    { "channel_norm_back silu", run_norm_back_silu, 1, 4e-6, 1e17f, 1e34, 3 },
    { "layernorm",         run_layernorm,       0, 4e-6, 1e17f, 1e17, 3 },
    { "layernorm_back",    run_layernorm_back,  0, 3e-6, 1e12f, 1e36, 3 },
    { "layernorm_sums",    run_layernorm_sums,  0, 1e-6, 1e17f, 1e34, 3 },
    { "widen_f16",         run_f16,             0, 1e-9, 1, 1, 3 },
    { "widen_bf16",        run_bf16,            0, 1e-9, 1, 1, 3 },
    { NULL, NULL, 0, 0, 0, 0, 0 },
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Nanoseconds a number: rows of 1024, or 5 pixels of 340 channels, in the first-level cache; the best of nine. */
static void bench(const Kernels *k)
{
    static Rows r;
    for (int i = 0; i < SIZE; i++) r.a[i] = r.b[i] = r.c[i] = r.d[i] = r.e[i] = r.y[i] = (float)check_uniform();
    for (const Slot *s = slots; s->name; s++) {
        double best = 1e9;
        int n = s->pixels ? 340 : 1024, loops = 2000;
        for (int t = 0; t < 9; t++) {
            double from = seconds();
            for (int i = 0; i < loops; i++) s->run(k, n, &r, r.y, PAD);
            best = fmin(best, seconds() - from);
        }
        printf("%-8s %-24s %7.3f ns\n", k->name, s->name, 1e9 * best / loops / n / (s->pixels ? pixels_for(n) : 1));
    }
}
#endif
