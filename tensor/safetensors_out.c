#include <stdlib.h>
#include <string.h>
#include "tensor/json.h"
#include "tensor/safetensors.h"

enum { LONGEST_NAME = 1024, CHUNK = 1 << 15 };

/* Larger items first, then by name: every tensor starts at a multiple of its item. */
static int by_layout(const void *a, const void *b)
{
    const SafeOut *x = a, *y = b;
    size_t m = dtype_size(x->type), n = dtype_size(y->type);
    return m != n ? (m > n ? -1 : 1) : strcmp(x->name, y->name);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static uint64_t elements(const SafeOut *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= (uint64_t)t->size[i];
    return n;
}

static bool refuse(const char *path, const SafeOut *t, const char *why, Status *s)
{
    status_fail(s, E_OPTION, "%.200s: tensor \"%.160s\": %s", path, t->name, why);
    return false;
}

static bool describable(const char *path, const SafeOut *t, int n, Status *s)
{
    Arena a = {0};
    const char **name = arena_take(&a, (size_t)n * sizeof *name);
    if (!name) status_fail(s, E_MEMORY, "%s: no memory for %d names", path, n);
    for (int i = 0; i < n && name; i++) {
        name[i] = t[i].name;
        if (strlen(t[i].name) > LONGEST_NAME) refuse(path, &t[i], "its name is longer than 1024 bytes", s);
        if (!utf8_valid(t[i].name)) refuse(path, &t[i], "its name is not UTF-8", s);
        if (!strcmp(t[i].name, "__metadata__")) refuse(path, &t[i], "this name is reserved", s);
        if (t[i].rank < 0 || t[i].rank > 8) refuse(path, &t[i], "0 to 8 dimensions are possible", s);
        if (t[i].is_real && t[i].type > T_BF16) refuse(path, &t[i], "real numbers become F64, F32, F16 or BF16", s);
        for (int k = 0; k < t[i].rank && k < 8; k++)
            if (t[i].size[k] < 0) refuse(path, &t[i], "a negative dimension", s);
    }
    if (name) qsort(name, (size_t)n, sizeof *name, by_text);
    for (int i = 1; i < n && name; i++)
        if (!strcmp(name[i - 1], name[i])) refuse(path, &(SafeOut){ .name = name[i] }, "two tensors of this name", s);
    arena_free(&a);
    return s->code == OK;
}

static void header_text(JsonOut *o, const SafeOut *t, int n, const char *const *meta, int metas)
{
    uint64_t at = 0;
    json_open(o, NULL, '{');
    if (metas) {
        json_open(o, "__metadata__", '{');
        for (int i = 0; i < metas; i++) json_text(o, meta[2 * i], meta[2 * i + 1]);
        json_close(o, '}');
    }
    for (int i = 0; i < n; i++) {
        json_open(o, t[i].name, '{');
        json_text(o, "dtype", dtype_name(t[i].type));
        json_open(o, "shape", '[');
        for (int k = 0; k < t[i].rank; k++) json_integer(o, NULL, t[i].size[k]);
        json_close(o, ']');
        json_open(o, "data_offsets", '[');
        json_integer(o, NULL, (int64_t)at);
        at += elements(&t[i]) * dtype_size(t[i].type);
        json_integer(o, NULL, (int64_t)at);
        json_close(o, ']');
        json_close(o, '}');
    }
    json_close(o, '}');
}

static void put_little(unsigned char *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++, v >>= 8) p[i] = (unsigned char)v;
}

bool safetensors_begin(SafeWriter *w, const char *path, SafeOut *t, int n, const char *const *meta, int metas, Status *s)
{
    *w = (SafeWriter){ .out = { .fd = -1 }, .t = t, .n = n };
    if (s->code != OK || !describable(path, t, n, s)) return false;
    qsort(t, (size_t)n, sizeof *t, by_layout);
    JsonOut o = { .bytes = NULL };
    unsigned char size[8];
    header_text(&o, t, n, meta, metas);
    if (o.failed) status_fail(s, E_MEMORY, "%s: no memory for its header", path);
    size_t blanks = (8 - o.size % 8) % 8;
    put_little(size, o.size + blanks, 8);
    bool ok = !o.failed && file_begin(&w->out, path, s) && file_append(&w->out, size, 8, s)
           && file_append(&w->out, o.bytes, o.size, s) && file_append(&w->out, "       ", blanks, s);
    json_free(&o);
    return ok;
}

/* Rounding to nearest even in a format with `fraction` bits and exponents from `least` up: x = n 2^(e - fraction).  A
 * number below 2^least has exponent `least` and n < 2^fraction, one that rounds up carries into the exponent: all in one
 * sum.  Adding 2^52 rounds n to an integer. */
static uint64_t narrow(double x, int bits, int fraction)
{
    uint64_t u, sign, infinity = (((uint64_t)1 << (bits - fraction - 1)) - 1) << fraction;
    memcpy(&u, &x, sizeof u);
    sign = u >> 63 << (bits - 1);
    int least = 2 - (1 << (bits - fraction - 2)), e = (int)(u >> 52 & 2047) - 1023;
    if (isnan(x)) return sign | infinity | (uint64_t)1 << (fraction - 1);
    if (e > 1 - least) return sign | infinity;
    if (e < least) e = least;
    double scale, n;
    u = (uint64_t)(1023 + fraction - e) << 52;            /* the bits of 2^(fraction - e) */
    memcpy(&scale, &u, sizeof scale);
    n = fabs(x) * scale + 0x1p52;
    uint64_t code = ((uint64_t)(e - least) << fraction) + (uint64_t)(n - 0x1p52);
    return sign | (code < infinity ? code : infinity);
}

static void from_real(Dtype t, const real *x, size_t n, unsigned char *p)
{
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        float f = (float)v;
        uint64_t d = 0;
        uint32_t s;
        switch (t) {
        case T_F64:  memcpy(&d, &v, 8);                 put_little(p + 8 * i, d, 8);  break;
        case T_F32:  memcpy(&s, &f, 4);                 put_little(p + 4 * i, s, 4);  break;
        case T_F16:  put_little(p + 2 * i, narrow(v, 16, 10), 2);                     break;
        default:     put_little(p + 2 * i, narrow(v, 16, 7), 2);                      break;
        }
    }
}

static void from_stored(size_t w, const char *x, size_t n, unsigned char *p)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t d = 0;
        uint32_t s = 0;
        uint16_t h = 0;
        if (w == 8) memcpy(&d, x + 8 * i, 8);
        if (w == 4) memcpy(&s, x + 4 * i, 4);
        if (w == 2) memcpy(&h, x + 2 * i, 2);
        if (w == 1) h = (unsigned char)x[i];
        put_little(p + w * i, d | s | h, w);
    }
}

bool safetensors_put(SafeWriter *w, const void *from, uint64_t count, Status *s)
{
    unsigned char buffer[CHUNK];
    while (w->at < w->n && w->done == elements(&w->t[w->at])) {
        w->at++;
        w->done = 0;
    }
    const SafeOut *t = w->at < w->n ? &w->t[w->at] : NULL;
    if (s->code != OK || !count) return s->code == OK;
    if (!t || count > elements(t) - w->done) {
        status_fail(s, E_SHAPE, "%s: more numbers than described%s%.160s", w->out.path, t ? " for " : "", t ? t->name : "");
        safetensors_abandon(w);
        return false;
    }
    size_t width = dtype_size(t->type);
    for (uint64_t i = 0; i < count; ) {
        size_t n = count - i < CHUNK / width ? (size_t)(count - i) : CHUNK / width;
        if (t->is_real) from_real(t->type, (const real *)from + i, n, buffer);
        else from_stored(width, (const char *)from + i * width, n, buffer);
        if (!file_append(&w->out, buffer, n * width, s)) return false;
        i += n;
    }
    w->done += count;
    return true;
}

bool safetensors_finish(SafeWriter *w, Status *s)
{
    while (w->at < w->n && w->done == elements(&w->t[w->at])) {
        w->at++;
        w->done = 0;
    }
    if (w->at < w->n) status_fail(s, E_SHAPE, "%s: numbers of %.160s are missing", w->out.path, w->t[w->at].name);
    if (s->code == OK) return file_finish(&w->out, s);
    safetensors_abandon(w);
    return false;
}

void safetensors_abandon(SafeWriter *w) { file_abandon(&w->out); }

bool safetensors_save(const char *path, const SafeOut *t, int n, const char *const *meta, int metas, Status *s)
{
    Arena a = {0};
    SafeWriter w = { .out = { .fd = -1 } };
    SafeOut *sorted = arena_take(&a, (size_t)n * sizeof *sorted);
    if (!sorted) status_fail(s, E_MEMORY, "%s: no memory for its header", path);
    else if (n) memcpy(sorted, t, (size_t)n * sizeof *sorted);
    bool ok = sorted && safetensors_begin(&w, path, sorted, n, meta, metas, s);
    for (int i = 0; i < n && ok; i++) ok = safetensors_put(&w, sorted[i].from, elements(&sorted[i]), s);
    ok = ok && safetensors_finish(&w, s);
    if (!ok) safetensors_abandon(&w);
    arena_free(&a);
    return ok;
}
