/* unit_compare.c -- the statistics against values worked out by hand, the reading of every number type in pieces, and
 * the matching of two files by name, by map and by moved axes. */
#include "tests/check.h"
#include "ref/compare_pairs.h"
#include "ref/oneline.h"

static DifferenceSum sum;                                 /* large: not for the stack */

static Difference differ(const double *a, const double *b, size_t n, size_t piece, double rtol, double atol)
{
    difference_begin(&sum, rtol, atol);
    for (size_t i = 0; i < n; i += piece) difference_add(&sum, a + i, b + i, n - i < piece ? n - i : piece);
    difference_middle(&sum);
    for (size_t i = 0; i < n; i += piece) difference_again(&sum, a + i, b + i, n - i < piece ? n - i : piece);
    difference_end(&sum);
    return sum.d;
}

static int near(double a, double b) { return fabs(a - b) <= 1e-14 * fabs(b); }

static void by_hand(void)
{
    const double a[] = { 1, 2, -3, 4.5 }, b[] = { 1, 2, -3, 4 };
    for (size_t piece = 1; piece <= 4; piece++) {
        Difference d = differ(a, b, 4, piece, 0.1, 0);
        check_true("max abs, and where", near(d.max_abs, 0.5) && d.at == 3 && near(d.a, 4.5) && near(d.b, 4));
        check_true("max rel", near(d.max_rel, 0.125));
        check_true("rel rms: 0.5 / sqrt(30)", near(d.rel_rms, 0.5 / sqrt(30.0)));
        check_true("cosine: 32 / sqrt(34.25 30)", near(d.cosine, 32 / sqrt(34.25) / sqrt(30.0)));
        check_true("ulp of 4.5 from 4: 2^20", near(d.ulp_max, 1048576) && near(d.ulp_99, 1048576) && d.ulp_median < 0.5);
        check_true("one number has other bits", d.differing == 1 && d.n == 4);
        check_true("one is beyond 0.1 |b|", d.beyond == 1);
        check_true("psnr: 10 log10(255^2 4 / 0.25)", near(d.psnr, 10 * log10(255.0 * 255.0 * 16)));
    }
    check_true("atol takes it in", differ(a, b, 4, 4, 0.1, 0.2).beyond == 0);
}

static void small_reference(void)                         /* denominators are at least 1e-6 rms b: rms is 1 here */
{
    const double a[] = { 1e-9, 1, 1, 1 }, b[] = { 0, sqrt(4.0 / 3), sqrt(4.0 / 3), sqrt(4.0 / 3) };
    double r = 1 - 1 / b[1];
    check_below("max rel does not blow up at a zero", fabs(differ(a, b, 4, 2, 0, 0).max_rel - r), 1e-12);
    const double c[] = { 1, 1, 1, 1 };
    check_below("nor hides a wrong value there", fabs(differ(c, b, 4, 2, 0, 0).max_rel - 1e6), 1e-3);
}

static void ulps(void)
{
    float f = 1, g = nextafterf(nextafterf(f, 2), 2);
    double a[] = { (double)f, 0.0, (double)nextafterf(0, -1), 1 }, b[] = { (double)g, -0.0, (double)nextafterf(0, 1), 1 };
    Difference d = differ(a, b, 4, 4, 0, 0);
    check_true("two values apart; -0 and 0 are one; across zero is two", near(d.ulp_max, 2) && near(d.ulp_99, 2));
    check_true("-0 has other bits than 0", d.differing == 3);
    enum { N = 1000 };
    static double x[N], y[N];
    for (int i = 0; i < N; i++) {
        float v = 1;
        for (int k = 0; k < i; k++) v = nextafterf(v, 2);
        x[i] = (double)v;
        y[i] = 1;
    }
    d = differ(x, y, N, 77, 0, 0);
    check_true("0..999 apart: median 499, 99 % 989, largest 999", near(d.ulp_median, 499) && near(d.ulp_99, 989) && near(d.ulp_max, 999));
    double far[] = { 2, 2, 2 }, from[] = { 1, 1, 1 };
    check_below("far ones: within 0.2 %", fabs(differ(far, from, 3, 3, 0, 0).ulp_median / 8388608 - 1), 0.002);
}

static void not_numbers(void)
{
    const double nan = (double)NAN, inf = (double)INFINITY;
    double a[] = { 1, nan, inf, nan, -inf, 3 }, b[] = { 1, nan, inf, 2, inf, 2 };
    Difference d = differ(a, b, 6, 3, 0, 0);
    check_true("NaN beside a number, and another infinity", d.nan_mismatch == 1 && d.inf_mismatch == 1);
    check_true("the first of them is shown", d.at == 3 && isnan(d.a) && near(d.b, 2));
    check_true("they enter no other figure", near(d.max_abs, 1) && isfinite(d.rel_rms) && isfinite(d.cosine));
    d = differ(a, b, 3, 3, 0, 0);
    check_true("equal NaN and infinities agree", !d.nan_mismatch && !d.inf_mismatch && d.max_abs < 1e-300 && d.rel_rms < 1e-300);
    const double zero[] = { 0, 0 }, one[] = { 0, 1 };
    check_true("zeros are equal", differ(zero, zero, 2, 1, 0, 0).rel_rms < 1e-300);
    check_true("something beside zeros is not", !(differ(one, zero, 2, 1, 0, 0).rel_rms < 1e300));
}

/* ---- files ---- */

static char folder[256];
static Arena arena;

static const char *path_of(const char *name)
{
    char *path = arena_take(&arena, 400);
    snprintf(path, 400, "%s/%s", folder, name);
    return path;
}

static void save(const char *name, const SafeOut *t, int n)
{
    Status s = {0};
    check_true(name, safetensors_save(path_of(name), t, n, NULL, 0, &s));
}

static Pair *match(const char *x, const char *y, const char *map, int *n, Safetensors f[2], Status *s)
{
    if (!safetensors_open(&f[0], &arena, path_of(x), s) || !safetensors_open(&f[1], &arena, path_of(y), s)) return NULL;
    return pairs_match(&arena, &f[0], &f[1], map ? path_of(map) : NULL, n, s);
}

static const Pair *pair_named(const Pair *p, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(p[i].b.name, name)) return &p[i];
    static const Pair none = { .kind = PAIR_SHAPE };
    return &none;
}

static void write_map(const char *name, const char *text)
{
    Status s = {0};
    check_true(name, file_save(path_of(name), text, strlen(text), &s));
}

static void number_types(void)
{
    const real x[4] = { 1.5f, -2, 0.25f, 1024 };
    const int64_t wide[4] = { 1, -2, (int64_t)1 << 52, -7 };
    const int8_t narrow[4] = { 127, -128, 0, 1 };
    const uint8_t bytes[4] = { 255, 0, 1, 2 };
    SafeOut t[] = {
        { "f64", T_F64, 1, { 4 }, x, true },   { "f32", T_F32, 1, { 4 }, x, true },     { "f16", T_F16, 1, { 4 }, x, true },
        { "bf16", T_BF16, 1, { 4 }, x, true }, { "i64", T_I64, 1, { 4 }, wide, false }, { "i8", T_I8, 1, { 4 }, narrow, false },
        { "u8", T_U8, 1, { 4 }, bytes, false },
    };
    const double want[][4] = { { 1.5, -2, 0.25, 1024 }, { 1, -2, 4503599627370496.0, -7 }, { 127, -128, 0, 1 }, { 255, 0, 1, 2 } };
    save("types", t, 7);
    Safetensors f[2];
    Status s = {0};
    int n = 0;
    Pair *p = match("types", "types", NULL, &n, f, &s);
    check_true("all types are matched", p && n == 7);
    for (int i = 0; p && i < 7; i++) {
        const Pair *q = pair_named(p, n, t[i].name);
        double got[4] = {0};
        int row = i < 4 ? 0 : i - 3;
        bool good = source_read(&q->a, 0, 1, got, &arena, &s) && source_read(&q->a, 1, 3, got + 1, &arena, &s);
        check_true(t[i].name, good && !memcmp(got, want[row], sizeof got));
    }
    safetensors_close(&f[0]);
    safetensors_close(&f[1]);
}

static void names_and_shapes(void)
{
    const real x[6] = { 1, 2, 3, 4, 5, 6 };
    SafeOut a[] = { { "same", T_F32, 2, { 2, 3 }, x, true }, { "turned", T_F32, 2, { 3, 2 }, x, true }, { "extra", T_F32, 1, { 6 }, x, true } };
    SafeOut b[] = { { "same", T_F32, 2, { 2, 3 }, x, true }, { "turned", T_F32, 2, { 2, 3 }, x, true }, { "missing", T_F32, 1, { 6 }, x, true } };
    save("a", a, 3);
    save("b", b, 3);
    Safetensors f[2];
    Status s = {0};
    int n = 0;
    Pair *p = match("a", "b", NULL, &n, f, &s);
    check_true("four pairs", p && n == 4);
    if (!p) return;
    check_true("a pair of one name and shape", pair_named(p, n, "same")->kind == PAIR_BOTH);
    check_true("another shape", pair_named(p, n, "turned")->kind == PAIR_SHAPE);
    check_true("only in the reference", pair_named(p, n, "missing")->kind == PAIR_MISSING);
    check_true("only in the other, at the end", p[3].kind == PAIR_EXTRA && !strcmp(p[3].a.name, "extra"));
    safetensors_close(&f[0]);
    safetensors_close(&f[1]);
}

/* theirs [y][x][c] is ours [c][y][x] */
static void moved_axes(void)
{
    real theirs[24], ours[24];
    for (int y = 0; y < 2; y++)
        for (int x = 0; x < 3; x++)
            for (int c = 0; c < 4; c++) theirs[(y * 3 + x) * 4 + c] = ours[(c * 2 + y) * 3 + x] = (real)(100 * y + 10 * x + c);
    SafeOut a = { "hwc", T_F32, 3, { 2, 3, 4 }, theirs, true }, b = { "chw", T_F64, 3, { 4, 2, 3 }, ours, true };
    save("theirs", &a, 1);
    save("ours", &b, 1);
    write_map("map", "# comment\r\n\nhwc\tchw\tperm=2,0,1\r\n");
    for (int turn = 0; turn < 2; turn++) {                /* either file may come first */
        Safetensors f[2];
        Status s = {0};
        int n = 0;
        Pair *p = match(turn ? "ours" : "theirs", turn ? "theirs" : "ours", "map", &n, f, &s);
        bool good = p && n == 1 && p->kind == PAIR_BOTH && pair_measure(p, 0, 0, &arena, &s);
        check_true("moved axes: all equal", good && p->d.differing == 0 && p->d.n == 24);
        safetensors_close(&f[0]);
        safetensors_close(&f[1]);
    }
}

static void bad_maps(void)
{
    static const struct { const char *text, *says; } bad[] = {
        { "hwc chw\n", "a tab between" },         { "hwc\tchw\tperm=2,0,2\n", "permutation" },  { "hwc\tchw\tperm=1,0\n", "number of axes" },
        { "hwc\tchw\tperm=2,0,1,\n", "perm" },    { "hwc\tnothing\n", "do not hold" },          { "hwc\tchw\nhwc\tchw\n", "second time" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Safetensors f[2];
        Status s = {0};
        int n = 0;
        write_map("bad map", bad[i].text);
        Pair *p = match("theirs", "ours", "bad map", &n, f, &s);
        check_true(bad[i].says, !p && s.code == E_FORMAT && strstr(s.text, bad[i].says) && strstr(s.text, "bad map"));
        safetensors_close(&f[0]);
        safetensors_close(&f[1]);
    }
}

/* Longer than one piece, with one wrong number in the last: found, at its place. */
static void long_tensors(void)
{
    enum { N = 70001 };
    real *x = arena_take(&arena, N * sizeof *x), *y = arena_take(&arena, N * sizeof *y);
    for (int i = 0; i < N; i++) x[i] = y[i] = (real)check_uniform();
    y[N - 1] += 1;
    SafeOut a = { "x", T_F32, 1, { N }, x, true }, b = { "x", T_F32, 1, { N }, y, true };
    save("long a", &a, 1);
    save("long b", &b, 1);
    Safetensors f[2];
    Status s = {0};
    int n = 0;
    Pair *p = match("long a", "long b", NULL, &n, f, &s);
    check_true("one number of 70001", p && pair_measure(p, 0, 0, &arena, &s) && p->d.at == N - 1 && p->d.differing == 1 && p->d.n == N);
    safetensors_close(&f[0]);
    safetensors_close(&f[1]);
}

static void names_on_one_line(void)
{
    char to[ONELINE], small[6];
    check_true("controls do not pass", !strcmp(oneline(to, sizeof to, "a\n\033[2J\177\302\233\303\251"), "a??[2J??\303\251"));
    check_true("cut to the room", !strcmp(oneline(small, sizeof small, "abcdefgh"), "abcde"));
    check_true("not inside a character", !strcmp(oneline(small, sizeof small, "abc\342\202\254"), "abc"));
    check_true("a whole one at the end stays", !strcmp(oneline(small, sizeof small, "ab\342\202\254"), "ab\342\202\254"));
}

int main(void)
{
    snprintf(folder, sizeof folder, "%s/tiller-compare-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) return 1;
    by_hand();
    small_reference();
    ulps();
    not_numbers();
    number_types();
    names_and_shapes();
    moved_axes();
    bad_maps();
    long_tensors();
    names_on_one_line();
    static const char *const files[] = { "types", "a", "b", "theirs", "ours", "map", "bad map", "long a", "long b" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) remove(path_of(files[i]));
    remove(folder);
    arena_free(&arena);
    return check_done();
}
