/* unit_safetensors.c -- safetensors: the golden list of files, round trips in every type, what the writer refuses. */
#include "tensor/safetensors.h"
#include "tensor/json.h"
#include "tests/check.h"
#include "tests/files.h"

static void manifest(void)
{
    Arena a = {0};
    Status s = {0};
    const char *folder = "tests/golden/safetensors";
    char path[300];
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    const Json *j = json_load(&a, path, &s);
    check_line("the list of golden files", s.text, j && j->count >= 36);
    for (const Json *c = j ? j->child : NULL; c; c = c->next) {
        bool accept = false;
        Safetensors f;
        s = (Status){0};
        snprintf(path, sizeof path, "%s/%s", folder, c->key);
        bool known = json_bool(json_get(c, "accept"), &accept), ok = safetensors_open(&f, &a, path, &s);
        check_line(c->key, ok ? "accepted" : s.text, known && file_exists(path) && ok == accept && (ok || (s.code == E_FORMAT && strstr(s.text, path))));
        safetensors_close(&f);
    }
    Safetensors f;
    s = (Status){0};
    real x[4];
    snprintf(path, sizeof path, "%s/ok-unicode-name.safetensors", folder);
    check_true("the name with an escape", safetensors_open(&f, &a, path, &s) && f.entries == 1 && safetensors_find(&f, f.entry[0].name) == f.entry);
    safetensors_close(&f);
    snprintf(path, sizeof path, "%s/ok-misaligned.safetensors", folder);
    check_true("misaligned numbers", safetensors_open(&f, &a, path, &s));
    for (int i = 0; i < f.entries; i++)
        if (f.entry[i].type <= T_BF16 && f.entry[i].count <= 4) check_true("are read", safetensors_read(&f, &f.entry[i], x, &s));
    safetensors_close(&f);
    arena_free(&a);
}

static void round_trip(void)
{
    static const real x[6] = { 0, (real)-1.5, (real)65504, (real)6.103515625e-05, (real)INFINITY, (real)0.333251953125 };   /* halves all */
    static const int64_t i64[3] = { INT64_MIN, -1, INT64_MAX };
    static const int32_t i32[2] = { INT32_MIN, 7 };
    static const int16_t i16[2] = { INT16_MIN, 7 };
    static const int8_t  i8[2]  = { INT8_MIN, 7 };
    static const uint8_t u8[2]  = { 255, 7 };
    static const uint16_t u16[2] = { 65535, 7 };
    static const uint32_t u32[2] = { UINT32_MAX, 7 };
    static const uint64_t u64[2] = { UINT64_MAX, 7 };
    const SafeOut t[] = {
        { "u8", T_U8, 1, { 2 }, u8, false }, { "bool", T_BOOL, 1, { 2 }, u8, false }, { "i8", T_I8, 1, { 2 }, i8, false },
        { "half", T_F16, 3, { 1, 2, 3 }, x, true }, { "brain", T_BF16, 2, { 3, 2 }, x, true }, { "single", T_F32, 1, { 6 }, x, true },
        { "double", T_F64, 2, { 6, 1 }, x, true }, { "i64", T_I64, 1, { 3 }, i64, false }, { "i32", T_I32, 1, { 2 }, i32, false },
        { "i16", T_I16, 1, { 2 }, i16, false }, { "u16", T_U16, 1, { 2 }, u16, false }, { "u32", T_U32, 1, { 2 }, u32, false },
        { "u64", T_U64, 1, { 2 }, u64, false }, { "scalar", T_F32, 0, { 0 }, x + 1, true }, { "empty", T_F32, 2, { 0, 5 }, x, true },
        { "na\"me\\ \xC3\xA9\n", T_F32, 1, { 1 }, x + 1, true } };
    static const char *const meta[] = { "format", "pt", "a\"b", "line\nbreak" };
    int n = sizeof t / sizeof *t;
    Arena a = {0};
    Status s = {0};
    Safetensors f;
    Shape shape;
    check_line("save", s.text, safetensors_save(at("all.safetensors"), t, n, meta, 2, &s));
    check_line("open", s.text, safetensors_open(&f, &a, at("all.safetensors"), &s) && f.entries == n && f.metas == 2);
    check_true("metadata", !strcmp(f.meta[0], "format") && !strcmp(f.meta[1], "pt") && !strcmp(f.meta[2], "a\"b") && !strcmp(f.meta[3], "line\nbreak"));
    for (int i = 1; i < f.entries; i++) check_true("in order of name", strcmp(f.entry[i - 1].name, f.entry[i].name) < 0);
    for (int i = 0; i < n; i++) {
        const SafeEntry *e = safetensors_find(&f, t[i].name);
        real y[6] = { 0 };
        int64_t v[3] = { 0 };
        bool good = e && e->type == t[i].type && e->rank == t[i].rank && e->offset % dtype_size(e->type) == 0;
        for (int k = 0; good && k < e->rank; k++) good = e->size[k] == (uint64_t)t[i].size[k];
        if (good && t[i].is_real) {
            good = safetensors_read(&f, e, y, &s) && !safetensors_read_i64(&f, e, v, &(Status){0});
            for (uint64_t k = 0; good && k < e->count; k++)
                good = t[i].type == T_BF16 ? fabs((double)(y[k] - ((const real *)t[i].from)[k])) <= fabs((double)y[k]) / 256 || y[k] == ((const real *)t[i].from)[k]
                                           : y[k] == ((const real *)t[i].from)[k];
        } else if (good) {
            unsigned char b[24];
            good = safetensors_bytes(&f, e, b, &s) && !memcmp(b, t[i].from, e->count * dtype_size(e->type)) && safetensors_read_i64(&f, e, v, &s)
                && !safetensors_read(&f, e, y, &(Status){0});
        }
        check_line("round trip", t[i].name, good);
    }
    int64_t v[3];
    check_true("i8 with its sign", safetensors_read_i64(&f, safetensors_find(&f, "i8"), v, &s) && v[0] == -128 && v[1] == 7);
    check_true("i32 with its sign", safetensors_read_i64(&f, safetensors_find(&f, "i32"), v, &s) && v[0] == INT32_MIN);
    check_true("u32 without", safetensors_read_i64(&f, safetensors_find(&f, "u32"), v, &s) && v[0] == UINT32_MAX);
    check_true("a shape", safetensors_shape(safetensors_find(&f, "half"), &shape) && shape_same(shape, SHAPE(1, 2, 3)));
    check_true("the shape of a scalar", safetensors_shape(safetensors_find(&f, "scalar"), &shape) && shape_same(shape, SHAPE(1)));
    check_true("no shape for an empty tensor", !safetensors_shape(safetensors_find(&f, "empty"), &shape));
    check_true("not there", !safetensors_find(&f, "hal") && !safetensors_find(&f, ""));
    real part[2];
    check_true("a part", safetensors_read_part(&f, safetensors_find(&f, "half"), 1, 2, part, &s) && part[0] == x[1] && part[1] == x[2]);
    check_true("a part past the end", !safetensors_read_part(&f, safetensors_find(&f, "half"), 5, 2, part, &s) && s.code == E_SHAPE);
    s = (Status){0};
    check_true("the file shrinks under the reader", !truncate(at("all.safetensors"), 100) && !safetensors_read(&f, safetensors_find(&f, "half"), part, &s) && s.code == E_FILE);
    safetensors_close(&f);
    check_true("after closing", !safetensors_find(&f, "half"));
    arena_free(&a);
    scratch_empty();
}

/* Every 16-bit number is read as its definition says, and written back as itself; what lies between two goes to the
 * nearer, a tie to the even one. */
static void sixteen_bits(Dtype type, int fraction)
{
    enum { ALL = 65536 };
    uint16_t *raw = malloc(ALL * 2), *again = malloc(ALL * 2);
    real *x = malloc(ALL * sizeof *x), *between = malloc(3 * ALL * sizeof *between);
    int bias = (1 << (14 - fraction)) - 1, special = (2 * bias + 1) << fraction;
    Arena a = {0};
    Status s = {0};
    Safetensors f;
    for (int i = 0; i < ALL; i++) raw[i] = (uint16_t)i;
    SafeOut t = { "x", type, 1, { ALL }, raw, false };
    bool ok = safetensors_save(at("h"), &t, 1, NULL, 0, &s) && safetensors_open(&f, &a, at("h"), &s) && safetensors_read(&f, f.entry, x, &s);
    int bad = 0;
    for (int i = 0; i < ALL; i++) {
        int m = i & ((1 << fraction) - 1), e = (i & 0x7FFF) >> fraction;
        double v = e ? ldexp((1 << fraction) + m, e - bias - fraction) : ldexp(m, 1 - bias - fraction);
        if (e == 2 * bias + 1) v = m ? (double)NAN : (double)INFINITY;
        if (i & 0x8000) v = -v;
        bad += isnan(v) ? !isnan(x[i]) : (double)x[i] != v || !signbit(x[i]) != !signbit(v);
    }
    check_true("every 16-bit number is read right", ok && !bad);
    safetensors_close(&f);
    t = (SafeOut){ "x", type, 1, { ALL }, x, true };
    ok = safetensors_save(at("h"), &t, 1, NULL, 0, &s) && safetensors_open(&f, &a, at("h"), &s) && safetensors_bytes(&f, f.entry, again, &s);
    bad = 0;
    for (int i = 0; i < ALL; i++) bad += isnan(x[i]) ? (again[i] & 0x7FFF) <= special : again[i] != i;
    check_true("and written as itself", ok && !bad);
    safetensors_close(&f);
    int n = special - 1;                                  /* pairs of finite neighbours, and the first beyond the largest */
    for (int i = 0; i < n; i++) {
        real mid = x[i] + (x[i + 1] - x[i]) / 2;
        between[3 * i] = nextafter(mid, x[i]);
        between[3 * i + 1] = mid;
        between[3 * i + 2] = nextafter(mid, x[i + 1]);
    }
    t = (SafeOut){ "x", type, 1, { 3 * n }, between, true };
    again = realloc(again, 3 * ALL * 2);
    ok = safetensors_save(at("h"), &t, 1, NULL, 0, &s) && safetensors_open(&f, &a, at("h"), &s) && safetensors_bytes(&f, f.entry, again, &s);
    bad = 0;
    for (int i = 0; i < n; i++) bad += again[3 * i] != i || again[3 * i + 1] != i + (i & 1) || again[3 * i + 2] != i + 1;
    check_true("numbers between go to the nearer, ties to even", ok && !bad);
    safetensors_close(&f);
    real largest = x[special - 1], edge = largest + (largest - x[special - 2]) / 2, past[3] = { nextafter(edge, (real)0), edge, -edge };
    t = (SafeOut){ "x", type, 1, { 3 }, past, true };
    ok = safetensors_save(at("h"), &t, 1, NULL, 0, &s) && safetensors_open(&f, &a, at("h"), &s) && safetensors_bytes(&f, f.entry, again, &s);
    check_true("the largest, and infinity", ok && again[0] == special - 1 && again[1] == special && again[2] == (special | 0x8000));
    safetensors_close(&f);
    arena_free(&a);
    free(raw);
    free(again);
    free(x);
    free(between);
    scratch_empty();
}

static void writer_refuses(void)
{
    static const real x[4] = { 1, 2, 3, 4 };
    char name[1026];
    memset(name, 'n', 1025);
    name[1025] = 0;
    const struct { const char *what; SafeOut t[2]; int n; } bad[] = {
        { "two of one name", { { "a", T_F32, 1, { 1 }, x, true }, { "a", T_F16, 1, { 1 }, x, true } }, 2 },
        { "the reserved name", { { "__metadata__", T_F32, 1, { 1 }, x, true } }, 1 },
        { "a long name", { { name, T_F32, 1, { 1 }, x, true } }, 1 },
        { "a name that is not UTF-8", { { "a\xFF", T_F32, 1, { 1 }, x, true } }, 1 },
        { "rank 9", { { "a", T_F32, 9, { 1 }, x, true } }, 1 },
        { "a negative size", { { "a", T_F32, 1, { -1 }, x, true } }, 1 },
        { "reals as integers", { { "a", T_I64, 1, { 1 }, x, true } }, 1 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Status s = {0};
        check_line(bad[i].what, s.text, !safetensors_save(at("bad"), bad[i].t, bad[i].n, NULL, 0, &s) && s.code == E_OPTION && !scratch_count());
    }
    SafeOut t[2] = { { "b", T_F32, 1, { 3 }, NULL, true }, { "a", T_F32, 1, { 2 }, NULL, true } };
    SafeWriter w;
    Status s = {0};
    check_true("in portions", safetensors_begin(&w, at("w"), t, 2, NULL, 0, &s) && !strcmp(t[0].name, "a") && safetensors_put(&w, x, 1, &s) && safetensors_put(&w, x + 1, 1, &s)
               && safetensors_put(&w, x, 3, &s) && safetensors_finish(&w, &s) && file_exists(at("w")) && scratch_count() == 1);
    remove(at("w"));
    check_true("a portion across two tensors", safetensors_begin(&w, at("w"), t, 2, NULL, 0, &s) && !safetensors_put(&w, x, 3, &s) && s.code == E_SHAPE && !scratch_count());
    s = (Status){0};
    check_true("too few numbers", safetensors_begin(&w, at("w"), t, 2, NULL, 0, &s) && safetensors_put(&w, x, 2, &s) && !safetensors_finish(&w, &s) && s.code == E_SHAPE && !scratch_count());
    s = (Status){0};
    check_true("abandoned", safetensors_begin(&w, at("w"), t, 2, NULL, 0, &s) && scratch_count() == 1);
    safetensors_abandon(&w);
    check_true("leaves nothing", !scratch_count());
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    manifest();
    round_trip();
    sixteen_bits(T_F16, 10);
    sixteen_bits(T_BF16, 7);
    writer_refuses();
    scratch_remove();
    return check_done();
}
