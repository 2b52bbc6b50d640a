#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ref/compare_pairs.h"
#include "ref/console.h"
#include "ref/image.h"
#include "ref/oneline.h"
#include "ref/options.h"
#include "tensor/json.h"

/* The relative rms a number type explains by itself over a network: bits, float32, float16, bfloat16. */
static const struct { const char *name; double rel_rms; } PROFILES[] = { { "exact", 0 }, { "f32", 1e-5 }, { "f16", 5e-3 }, { "bf16", 3e-2 } };
enum { EXACT, WORST = 10 };

typedef struct { bool json, all; const char *map; int profile; double rtol, atol; } Settings;
typedef struct { Settings set; bool elements, pictures; Pair *pair; int n; Arena arena; Status status; } Comparison;

/* ---- verdicts ---- */

static bool passes(const Comparison *c, const Difference *d)
{
    if (d->nan_mismatch || d->inf_mismatch) return false;
    if (c->elements) return !d->beyond;
    if (c->set.profile == EXACT) return !d->differing;
    return d->rel_rms <= PROFILES[c->set.profile].rel_rms;
}

static bool measure_all(Comparison *c)
{
    Arena scratch = {0};
    for (int i = 0; i < c->n && c->status.code == OK; i++) {
        Pair *p = &c->pair[i];
        if (p->kind != PAIR_BOTH || !pair_measure(p, c->set.rtol, c->set.atol, &scratch, &c->status)) continue;
        p->pass = passes(c, &p->d);
    }
    arena_free(&scratch);
    return c->status.code == OK;
}

static int count(const Comparison *c, PairKind kind, bool pass)
{
    int n = 0;
    for (int i = 0; i < c->n; i++) n += c->pair[i].kind == kind && c->pair[i].pass == pass;
    return n;
}

/* ---- words ---- */

static const char *sizes(const Source *s, char text[200])
{
    int n = snprintf(text, 200, "[");
    for (int k = 0; k < s->rank; k++) n += snprintf(text + n, 200 - (size_t)n, "%s%llu", k ? "," : "", (unsigned long long)s->size[k]);
    snprintf(text + n, 200 - (size_t)n, "]");
    return text;
}

static const char *place(const Source *s, size_t at, char text[200])
{
    uint64_t i[RANK] = {0};
    for (int k = s->rank; k-- > 0; at /= s->size[k] ? s->size[k] : 1) i[k] = s->size[k] ? at % s->size[k] : 0;
    Source index = { .rank = s->rank };
    memcpy(index.size, i, sizeof i);
    return sizes(&index, text);
}

static void print_heading(void)
{
    printf("      %-56s %9s %9s %9s %11s %9s %9s %9s %7s  %s\n", "tensor", "max abs", "max rel", "rel rms", "cosine", "ulp max", "99 %",
           "median", "nan/inf", "worst at: a, b");
}

static void print_row(const Comparison *c, const Pair *p)
{
    char text[200], name[ONELINE];
    const Difference *d = &p->d;
    printf("%s  %-56s %9.2e %9.2e %9.2e %11.8f %9.0f %9.0f %9.0f %3zu/%-3zu  %s: %.9g, %.9g", p->pass ? "ok  " : "DIFF", oneline(name, sizeof name, p->b.name),
           d->max_abs, d->max_rel, d->rel_rms, d->cosine, d->ulp_max, d->ulp_99, d->ulp_median, d->nan_mismatch, d->inf_mismatch,
           place(&p->b, d->at, text), d->a, d->b);
    if (c->pictures) printf("  PSNR %.2f dB, %zu of %zu bytes differ", d->psnr, d->differing, d->n);
    putchar('\n');
}

static void print_unmatched(const Comparison *c)
{
    char x[200], y[200], name[ONELINE];
    for (int i = 0; i < c->n; i++) {
        const Pair *p = &c->pair[i];
        oneline(name, sizeof name, p->b.name);
        if (p->kind == PAIR_MISSING) printf("missing  %s %s: only in the second\n", name, sizes(&p->b, y));
        if (p->kind == PAIR_EXTRA) printf("extra    %s %s: only in the first\n", name, sizes(&p->a, x));
        if (p->kind == PAIR_SHAPE) printf("shape    %s: %s in the first, %s in the second\n", name, sizes(&p->a, x), sizes(&p->b, y));
    }
}

static double badness(const Pair *p) { return p->d.nan_mismatch || p->d.inf_mismatch ? (double)INFINITY : p->d.rel_rms; }

static int by_badness(const void *p, const void *q)
{
    const Pair *x = *(Pair *const *)p, *y = *(Pair *const *)q;
    double a = badness(x), b = badness(y);
    return a != b ? (a > b ? -1 : 1) : (x > y) - (x < y);        /* equal: in the order of the file */
}

static void print_worst(Comparison *c)
{
    Pair **list = arena_take(&c->arena, (size_t)c->n * sizeof *list);
    char name[ONELINE];
    int n = 0;
    for (int i = 0; list && i < c->n; i++)
        if (c->pair[i].kind == PAIR_BOTH) list[n++] = &c->pair[i];
    if (!n) return;
    for (int i = 0; i < c->n && !c->set.all; i++)
        if (c->pair[i].kind == PAIR_BOTH && !c->pair[i].pass) {
            printf("first difference, in the order of the second file: %s\n", oneline(name, sizeof name, c->pair[i].b.name));
            break;
        }
    if (!c->set.all) qsort(list, (size_t)n, sizeof *list, by_badness);
    print_heading();
    for (int i = 0; i < n && (c->set.all || i < WORST); i++) print_row(c, list[i]);
}

static void tolerance_text(const Comparison *c, char *text, size_t room)
{
    const char *name = PROFILES[c->set.profile].name;
    if (c->elements) snprintf(text, room, "|a-b| <= %g + %g |b|", c->set.atol, c->set.rtol);
    else if (c->set.profile == EXACT) snprintf(text, room, "%s: the same bits", name);
    else snprintf(text, room, "%s: rel rms <= %g", name, PROFILES[c->set.profile].rel_rms);
}

/* ---- JSON: one event per tensor ---- */

static void finite_or_null(JsonOut *o, const char *key, double v)
{
    if (isfinite(v)) json_real(o, key, v, 9);
    else json_null(o, key);
}

static void print_event(JsonOut *o)
{
    json_close(o, '}');
    if (!o->failed) printf("%.*s\n", (int)o->size, o->bytes);
    json_free(o);
}

static void list_sizes(JsonOut *o, const char *key, const Source *s)
{
    json_open(o, key, '[');
    for (int k = 0; k < s->rank; k++) json_integer(o, NULL, (int64_t)s->size[k]);
    json_close(o, ']');
}

static void json_pair(const Comparison *c, const Pair *p)
{
    static const char *const verdict[] = { "", "missing", "extra", "shape" };
    const Difference *d = &p->d;
    JsonOut o = {0};
    json_open(&o, NULL, '{');
    json_text(&o, "event", "tensor");
    json_text(&o, "name", p->b.name);
    json_text(&o, "verdict", p->kind != PAIR_BOTH ? verdict[p->kind] : p->pass ? "equal" : "different");
    if (p->a.count || p->a.entry) list_sizes(&o, "a_shape", &p->a);
    if (p->b.count || p->b.entry) list_sizes(&o, "b_shape", &p->b);
    if (p->kind == PAIR_BOTH) {
        finite_or_null(&o, "max_abs", d->max_abs);
        finite_or_null(&o, "max_rel", d->max_rel);
        finite_or_null(&o, "rel_rms", d->rel_rms);
        finite_or_null(&o, "cosine", d->cosine);
        finite_or_null(&o, "ulp_max", d->ulp_max);
        finite_or_null(&o, "ulp_99", d->ulp_99);
        finite_or_null(&o, "ulp_median", d->ulp_median);
        json_integer(&o, "nan_mismatch", (int64_t)d->nan_mismatch);
        json_integer(&o, "inf_mismatch", (int64_t)d->inf_mismatch);
        json_integer(&o, "differing", (int64_t)d->differing);
        json_integer(&o, "count", (int64_t)d->n);
        json_integer(&o, "worst_at", (int64_t)d->at);
        finite_or_null(&o, "a", d->a);
        finite_or_null(&o, "b", d->b);
        if (c->pictures) finite_or_null(&o, "psnr", d->psnr);
    }
    print_event(&o);
}

static bool report(Comparison *c)
{
    int equal = count(c, PAIR_BOTH, true), differ = count(c, PAIR_BOTH, false), missing = count(c, PAIR_MISSING, false);
    int extra = count(c, PAIR_EXTRA, false), shape = count(c, PAIR_SHAPE, false);
    char tolerance[100];
    tolerance_text(c, tolerance, sizeof tolerance);
    if (c->set.json) {
        JsonOut o = {0};
        for (int i = 0; i < c->n; i++) json_pair(c, &c->pair[i]);
        json_open(&o, NULL, '{');
        json_text(&o, "event", "done");
        json_text(&o, "tolerance", tolerance);
        json_integer(&o, "equal", equal);
        json_integer(&o, "different", differ);
        json_integer(&o, "missing", missing);
        json_integer(&o, "extra", extra);
        json_integer(&o, "shape", shape);
        print_event(&o);
    } else {
        print_unmatched(c);
        print_worst(c);
        printf("%d equal, %d different, %d missing, %d extra, %d of another shape (%s)\n", equal, differ, missing, extra, shape, tolerance);
    }
    return !differ && !missing && !extra && !shape;
}

/* ---- inputs ---- */

static bool is_picture(const char *path, Status *s)
{
    File f;
    unsigned char b[4] = {0};
    if (!file_open(&f, path, s)) return false;
    bool good = f.size < sizeof b || file_read(&f, b, 0, sizeof b, s);
    file_close(&f);
    return good && (!memcmp(b, "\x89PNG", 4) || !memcmp(b, "\xFF\xD8\xFF", 3));
}

static bool compare_pictures(Comparison *c, const char *const path[2])
{
    Image m[2];
    Source s[2];
    for (int i = 0; i < 2; i++) {
        if (!image_load(&m[i], &c->arena, path[i], &c->status)) return false;
        s[i] = (Source){ .name = "pixels", .rank = 3, .size = { (uint64_t)m[i].H, (uint64_t)m[i].W, 3 },
                         .count = (uint64_t)m[i].H * (uint64_t)m[i].W * 3, .bytes = m[i].rgb };
    }
    c->pair = arena_take(&c->arena, sizeof *c->pair);
    if (!c->pair) {
        status_fail(&c->status, E_MEMORY, "no memory for a comparison");
        return false;
    }
    bool same = m[0].H == m[1].H && m[0].W == m[1].W;
    *c->pair = (Pair){ .kind = same ? PAIR_BOTH : PAIR_SHAPE, .a = s[0], .b = s[1] };
    c->n = 1;
    c->pictures = true;
    return measure_all(c);
}

static bool compare_tensors(Comparison *c, const char *const path[2])
{
    Safetensors f[2] = {0};
    bool good = safetensors_open(&f[0], &c->arena, path[0], &c->status);
    if (good && !safetensors_open(&f[1], &c->arena, path[1], &c->status)) {
        safetensors_close(&f[0]);
        return false;
    }
    if (!good) return false;
    c->pair = pairs_match(&c->arena, &f[0], &f[1], c->set.map, &c->n, &c->status);
    good = c->pair && measure_all(c);
    safetensors_close(&f[0]);
    safetensors_close(&f[1]);
    return good;
}

static bool compare_files(Comparison *c, const char *const path[2])
{
    bool first = is_picture(path[0], &c->status), second = is_picture(path[1], &c->status);
    if (c->status.code != OK) return false;
    if (first == second) return first ? compare_pictures(c, path) : compare_tensors(c, path);
    status_fail(&c->status, E_FORMAT, "%s is a picture and %s is not", path[!first], path[first]);
    return false;
}

/* ---- the verb ---- */

static const Option OPTIONS[] = {
    { "profile", 0, OPTION_CHOICE, offsetof(Settings, profile), 0, 0, "f32", "exact|f32|f16|bf16", "what difference is allowed: the same bits, or rel rms 1e-5, 5e-3, 3e-2", NULL },
    { "rtol", 0, OPTION_REAL, offsetof(Settings, rtol), 0, 1e30, NULL, "R", "instead: every |a-b| at most atol + rtol |b|", NULL },
    { "atol", 0, OPTION_REAL, offsetof(Settings, atol), 0, 1e30, NULL, "A", "see rtol; the one not given is 0", NULL },
    { "map", 0, OPTION_TEXT, offsetof(Settings, map), 0, 0, NULL, "FILE", "lines theirs<TAB>ours[<TAB>perm=0,3,1,2] for names and axes that differ", NULL },
    { "all", 0, OPTION_FLAG, offsetof(Settings, all), 0, 0, NULL, NULL, "the whole table, in the order of the second file", NULL },
    { "json", 0, OPTION_FLAG, offsetof(Settings, json), 0, 0, NULL, NULL, "one JSON object per tensor, on a line of its own", NULL },
};
static const OptionPage PAGE = {
    .verb = "compare", .line = "how far two files of tensors, or two pictures, are apart",
    .example = "tiller compare theirs.safetensors ours.safetensors", .arguments = "A B", .least = 2, .most = 2,
    .about = "B is the reference. Tensors are matched by name; missing, extra and wrongly shaped ones come first, then the "
             "first that differs, then the worst ten. Exit 0: all equal within the tolerance; 1: not; 3: a file cannot be read.",
    .table = { { "Options", OPTIONS, sizeof OPTIONS / sizeof *OPTIONS } },
};

int verb_compare(int argc, char **argv)
{
    Comparison c = { .set = { .rtol = -1, .atol = -1 } };
    char *path[2];
    int paths = 0, code = EXIT_DONE;
    bool help = false;
    bool good = options_parse(&PAGE, &c.set, argc, argv, path, &paths, &help, &c.status);
    Console console = console_begin(false, false, c.set.json, COLOR_AUTO);
    if (good && help) options_help(&PAGE, stdout);
    c.elements = c.set.rtol >= 0 || c.set.atol >= 0;
    c.set.rtol = fmax(c.set.rtol, 0);
    c.set.atol = fmax(c.set.atol, 0);
    if (good && !help) {
        good = compare_files(&c, (const char *const[2]){ path[0], path[1] });
        if (good && !report(&c)) code = EXIT_DIFFERENT;
    }
    if (!good) code = console_error(&console, &c.status, NULL);
    arena_free(&c.arena);
    return console_end(&console, code);
}
