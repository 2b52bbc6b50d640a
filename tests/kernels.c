/* kernels.c -- every row slot of every table this processor runs, against plain.c: lengths 0 to MOST and some long ones, odd
 * addresses, everything around the output as it was, NaN and huge values; accuracy over a sweep of all floats; all half
 * precision numbers.  With --bench: what each slot costs. */
#include "tensor/norm.h"
#include "tensor/point.h"
#include "tests/kernels_slots.h"

enum { ORDINARY, WITH_NAN, WITH_HUGE, MODES };
static const char *const mode_name[MODES] = { "", ", a NaN", ", huge" };

static void fill(Rows *r, int mode, int n, int at, const Slot *s)
{
    float *row[] = { r->a, r->b, r->c, r->d, r->e };
    for (int i = 0; i < SIZE; i++) {
        for (int k = 0; k < 5; k++) row[k][i] = (float)(2 * check_uniform());
        r->y[i] = r->z[i] = (float)check_uniform();
        r->half[i] = (uint16_t)((unsigned)(check_uniform() * 32768) & 0xffff);
    }
    for (int k = 0; k < 3 && n && mode != ORDINARY; k++) {
        int i = at + (int)((check_uniform() + 1) / 2 * n) % n;
        if (mode == WITH_NAN && k < 2) row[k][i] = NAN;
        if (mode == WITH_HUGE && k < s->huge_rows) row[k][i] = check_uniform() > 0 ? s->huge : -s->huge;
    }
}

/* In units of the tolerance: 0 equal, 1 just acceptable.  Only what both have as NaN, or as the same infinity, agrees. */
static double furthest(const Rows *r, double room)
{
    double worst = 0;
    for (int i = 0; i < SIZE; i++) {
        double y = (double)r->y[i], z = (double)r->z[i];
        if (y == z || (isnan(y) && isnan(z))) continue;
        double off = fabs(y - z) / fmax(room, fabs(z));
        if (!(off <= worst)) worst = isnan(off) ? (double)INFINITY : off;
    }
    return worst;
}

static void equality(const Kernels *k, const Slot *s)
{
    static Rows r;
    static const int longer[] = { 255, 256, 511, 1023, 1024, 1025, 2049, 4099 };
    for (int mode = 0; mode < MODES; mode++) {
        double worst = 0;
        char what[80];
        for (int t = 0; t <= MOST + (int)(sizeof longer / sizeof *longer); t++) {
            int n = t <= MOST ? t : longer[t - MOST - 1];
            if (n > MOST && s->pixels) continue;
            for (int at = 0; at < 17; at += n > MOST ? 13 : 3) {
                fill(&r, mode, n, PAD + at, s);
                s->run(k, n, &r, r.y, PAD + at);
                s->run(&kernels_plain, n, &r, r.z, PAD + at);
                worst = fmax(worst, furthest(&r, mode == WITH_HUGE ? s->huge_room : 1));
            }
        }
        snprintf(what, sizeof what, "%s %s%s", k->name, s->name, mode_name[mode]);
        check_below(what, worst, s->limit);
    }
}

/* A table with one number wrong, at one length, in one mode, must be seen. */
static void spoilt_silu(int n, float *y, const float *x)
{
    kernels_plain.act[0](n, y, x);
    if (n == 37) y[36] += 1e-5f;
}
static void spoilt_scale(int n, float *y, float a)
{
    kernels_plain.row_scale(n, y, a);
    if (n == 16) y[16] = 0;
}

static void planted(void)
{
    Kernels k = kernels_plain;
    k.name = "spoilt";
    k.act[0] = spoilt_silu;
    k.row_scale = spoilt_scale;
    int before = check_bad, seen;
    FILE *out = stdout;
    stdout = fopen("/dev/null", "w");
    for (const Slot *s = slots; s->name; s++)
        if (!strcmp(s->name, "silu") || !strcmp(s->name, "row_scale")) equality(&k, s);
    if (stdout) fclose(stdout);
    stdout = out;
    seen = check_bad - before;
    check_bad = before;
    check_true("a wrong number, and a write behind the row, are seen", seen == 6);
}

/* Accuracy.  Reference values are double's. */
static double exact_sigmoid(double x)    { return 1 / (1 + exp(-x)); }
static double exact_swish(double k, double x) { return x < -1000 ? 0 : x * exact_sigmoid(k * x); }
static double exact_slope(double k, double x)
{
    double s = exact_sigmoid(k * x);
    return s > 0 ? s + k * x * s * exact_sigmoid(-k * x) : 0;
}
static double exact_silu(double x)       { return exact_swish(1, x); }
static double exact_quick(double x)      { return exact_swish(1.702, x); }
static double exact_silu_slope(double x) { return exact_slope(1, x); }
static double exact_quick_slope(double x){ return exact_slope(1.702, x); }
static double exact_gelu(double x)       { return x < -1000 ? 0 : x * erfc(-x * 0.70710678118654752440) / 2; }
static double exact_gelu_slope(double x)
{
    return erfc(-x * 0.70710678118654752440) / 2 + (fabs(x) > 1000 ? 0 : x * exp(-x * x / 2) * 0.39894228040143267794);
}

/* Limits in ulp of the exact value, but never of one below `floor` (where sigmoid's exponential overflows, x e^x < 3e-37
 * becomes 0); for slopes, which cross zero, in 1e-6.  Measured: exp 1.1, silu 2.6, gelu 5.5, slopes 0.22.  quick_gelu rounds
 * 1.702 x, which its exponential turns into up to |1.702 x| ulp: 77 at the far end, where the value is 1e-36. */
static const struct { const char *name; int act, back; double (*exact)(double), limit, floor; } function[] = {
    { "exp",              -1, 0, exp,               2, 1e-45 },
    { "silu",              0, 0, exact_silu,        5, 1e-37 },
    { "gelu",              1, 0, exact_gelu,        6, 1e-37 },
    { "quick_gelu",        2, 0, exact_quick,      99, 1e-37 },
    { "silu slope",        0, 1, exact_silu_slope,  1, 0 },
    { "gelu slope",        1, 1, exact_gelu_slope,  1, 0 },
    { "quick_gelu slope",  2, 1, exact_quick_slope, 1, 0 },
};

enum { STRIP = 4096 };
static float xs[STRIP], ys[STRIP], unit[STRIP];
static double want[STRIP];

static double ulps(float y, double exact, double floor)
{
    if (fabs(exact) > 3.4028234e38) return fabs((double)y) > 3.40282e38 && (y > 0) == (exact > 0) ? 0 : (double)INFINITY;
    int exponent;
    frexp(exact, &exponent);
    return fabs((double)y - exact) / fmax(ldexp(1, exponent - 24), floor);
}

static void sweep_strip(int f, double *worst)
{
    const Kernels *k;
    for (int i = 0; i < STRIP; i++) want[i] = function[f].exact((double)xs[i]);
    for (int t = 0; (k = kernels_at(t)); t++) {
        if (function[f].act < 0) k->row_exp(STRIP, ys, xs, 1, 0);
        else if (function[f].back) k->act_back[function[f].act](STRIP, ys, unit, xs);
        else k->act[function[f].act](STRIP, ys, xs);
        for (int i = 0; i < STRIP; i++) {
            double off = function[f].back ? fabs((double)ys[i] - want[i]) / 1e-6 : ulps(ys[i], want[i], function[f].floor);
            if (!(off <= worst[t])) worst[t] = isnan(off) ? (double)INFINITY : off;
        }
    }
}

static void accuracy(void)
{
    for (int f = 0; f < (int)(sizeof function / sizeof *function); f++) {
        double worst[8] = {0};
        uint32_t bits = 1;
        for (int strip = 0; strip < 160; strip++) {       /* 120 strips over all finite floats, 40 between -106 and 95 */
            for (int i = 0; i < STRIP; i++) {
                memcpy(xs + i, &bits, 4);
                bits += 8731;
                if (strip >= 120) xs[i] = -106.0f + 201.0f * (float)((strip - 120) * STRIP + i) / (40.0f * STRIP);
                else if (!isfinite(xs[i])) xs[i] = (float)(3 * check_uniform());
                unit[i] = 1;
            }
            sweep_strip(f, worst);
        }
        for (int t = 0; kernels_at(t); t++) {
            char what[80];
            snprintf(what, sizeof what, "%s %s over all floats", kernels_at(t)->name, function[f].name);
            check_below(what, worst[t], function[f].limit);
        }
    }
}

static void halves(void)
{
    static uint16_t all[65536];
    static float y[65536], z[65536];
    static const struct { uint16_t f16; float value; } known[] = {
        { 0x3c00, 1 }, { 0xc000, -2 }, { 0x7bff, 65504 }, { 0x0001, 0x1p-24f }, { 0x03ff, 0x1.ff8p-15f }, { 0x0400, 0x1p-14f },
        { 0x3555, 0x1.554p-2f }, { 0x7c00, INFINITY }, { 0xfc00, -INFINITY }, { 0x8000, -0.0f },
    };
    for (int i = 0; i < 65536; i++) all[i] = (uint16_t)i;
    kernels_plain.widen_f16(65536, z, all);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        check_true("plain f16: a known value", !memcmp(z + known[i].f16, &known[i].value, 4));
    check_true("plain f16: NaN", isnan(z[0x7c01]) && isnan(z[0xffff]));
    const Kernels *k;
    for (int t = 1; (k = kernels_at(t)); t++)
        for (int brain = 0; brain < 2; brain++) {
            int bad = 0;
            (brain ? k->widen_bf16 : k->widen_f16)(65536, y, all);
            (brain ? kernels_plain.widen_bf16 : kernels_plain.widen_f16)(65536, z, all);
            for (int i = 0; i < 65536; i++) bad += memcmp(y + i, z + i, 4) && !(isnan(y[i]) && isnan(z[i]));
            check_below(brain ? "all bf16 numbers" : "all f16 numbers", bad, 1);
        }
}

/* Groupnorm with silu reads its input twice and writes once: three streams, like the triad y = a x + b z it is measured
 * against, on maps of the same size.  Backward: reads x and dy twice, writes once. */
static void bench_groupnorm(const Kernels *k, int threads, int side, int C)
{
    Arena arena = {0};
    Run r = { .keep = &arena, .temp = &arena, .k = k, .threads = threads };
    Shape s = SHAPE(1, side, side, C);
    Tensor x = keep(&r, s), y = keep(&r, s), z = keep(&r, s), mean = keep(&r, SHAPE(1, 32)), rstd = keep(&r, SHAPE(1, 32));
    Affine a = { keep(&r, SHAPE(C)), keep(&r, SHAPE(C)), {0}, {0} };
    for (size_t i = 0; i < tensor_count(x); i++) x.x[i] = y.x[i] = z.x[i] = (float)check_uniform();
    for (int c = 0; c < C; c++) a.gamma.x[c] = 1, a.beta.x[c] = 0;
    double best[3] = { 1e9, 1e9, 1e9 }, bytes = 4 * (double)tensor_count(x);
    for (int t = 0; t < 60; t++) {
        double at[4];
        at[0] = seconds();
        blend(&r, y, 0.5f, x, 0.25f, z);
        at[1] = seconds();
        groupnorm(&r, y, mean, rstd, x, a, 1e-5f, ACT_SILU);
        at[2] = seconds();
        groupnorm_back(&r, y, (Affine){0}, z, x, mean, rstd, a, ACT_SILU);
        at[3] = seconds();
        for (int i = 0; i < 3; i++) best[i] = fmin(best[i], at[i + 1] - at[i]);
    }
    printf("%-8s %d threads, %dx%dx%d: triad %5.1f GB/s, groupnorm + silu %.3f ms = %.2f of it, backward %.3f ms = %.2f\n", k->name, threads,
           side, side, C, 3 * bytes / best[0] / 1e9, 1e3 * best[1], best[0] / best[1], 1e3 * best[2], best[0] / best[2] * 5 / 3);
    arena_free(&arena);
}

int main(int argc, char **argv)
{
    const Kernels *k;
    if (argc > 1 && !strcmp(argv[1], "--bench")) {
        for (int t = 0; (k = kernels_at(t)); t++) bench(k);
        for (int t = 1; (k = kernels_at(t)); t++)
            for (int threads = 1; threads <= 2; threads++) {
                bench_groupnorm(k, threads, 64, 320);
                bench_groupnorm(k, threads, 256, 256);
            }
        return 0;
    }
    for (int t = 1; (k = kernels_at(t)); t++)
        for (const Slot *s = slots; s->name; s++) equality(k, s);
    planted();
    accuracy();
    halves();
    check_true("tables are picked by name", kernels_pick("plain") == &kernels_plain && !kernels_pick("none such"));
    check_true("the best table comes last", kernels_pick(NULL) && kernels_pick(NULL) == kernels_pick(kernels_pick(NULL)->name));
    return check_done();
}
