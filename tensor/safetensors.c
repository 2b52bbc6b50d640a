#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tensor/json.h"
#include "tensor/safetensors.h"

enum { DEEPEST = 8, MOST_TENSORS = 200000, LONGEST_NAME = 1024, LARGEST_HEADER = 100000000, CHUNK = 1 << 15 };

static const struct { const char *name; size_t size; } DTYPE[] = {
    [T_F64] = { "F64", 8 }, [T_F32] = { "F32", 4 }, [T_F16] = { "F16", 2 }, [T_BF16] = { "BF16", 2 },
    [T_I64] = { "I64", 8 }, [T_I32] = { "I32", 4 }, [T_I16] = { "I16", 2 }, [T_I8]   = { "I8", 1 },
    [T_U8]  = { "U8", 1 },  [T_BOOL] = { "BOOL", 1 }, [T_U16] = { "U16", 2 }, [T_U32] = { "U32", 4 }, [T_U64] = { "U64", 8 }
};
enum { DTYPES = sizeof DTYPE / sizeof *DTYPE };

size_t dtype_size(Dtype t) { return DTYPE[t].size; }
const char *dtype_name(Dtype t) { return DTYPE[t].name; }

/* ---- opening ------------------------------------------------------------------------------------------- */

typedef struct { Safetensors *f; Arena header; uint64_t data, bytes; Status *status; } Opening;      /* data: where it starts; its bytes */

static bool wrong(const Opening *o, const char *name, const char *what)
{
    status_fail(o->status, E_FORMAT, "%s: %s%.160s%s%s", o->f->file.name, name ? "tensor \"" : "", name ? name : "", name ? "\": " : "", what);
    return false;
}

static bool short_of_memory(const Opening *o)
{
    status_fail(o->status, E_MEMORY, "%s: no memory for its header", o->f->file.name);
    return false;
}

static const Json *read_header(Opening *o)
{
    const File *file = &o->f->file;
    unsigned char b[8];
    uint64_t n = 0;
    char what[120];
    if (file->size < 8) {
        wrong(o, NULL, "shorter than the 8 bytes that a safetensors file starts with");
        return NULL;
    }
    if (!file_read(file, b, 0, 8, o->status)) return NULL;
    for (int i = 8; i-- > 0; ) n = n << 8 | b[i];
    if (n < 2 || n > LARGEST_HEADER || n > file->size - 8) {
        snprintf(what, sizeof what, "a header of %llu bytes is stated; 2 to %llu are possible", (unsigned long long)n,
                 (unsigned long long)(file->size - 8 < LARGEST_HEADER ? file->size - 8 : LARGEST_HEADER));
        wrong(o, NULL, what);
        return NULL;
    }
    char *text = arena_take(&o->header, (size_t)n);
    if (!text) {
        short_of_memory(o);
        return NULL;
    }
    if (!file_read(file, text, 8, (size_t)n, o->status)) return NULL;
    o->data = 8 + n;
    o->bytes = file->size - 8 - n;
    while (n > 2 && text[n - 1] == ' ') n--;
    if (text[0] != '{' || text[n - 1] != '}') {
        wrong(o, NULL, "its header is not a JSON object followed by blanks (not a safetensors file?)");
        return NULL;
    }
    return json_parse(&o->header, text, (size_t)n, DEEPEST, file->name, o->status);
}


/* Strings short enough to be counted in the hundreds of thousands share one piece of the arena. */
typedef struct { char *at; } Shelf;

static const char *shelve(Shelf *s, const char *text, size_t length)
{
    char *to = memcpy(s->at, text, length + 1);
    s->at += length + 1;
    return to;
}

static bool read_metadata(Opening *o, const Json *m)
{
    if (m->kind != JSON_OBJECT) return wrong(o, "__metadata__", "must be an object of strings");
    size_t bytes = 0;
    for (const Json *c = m->child; c; c = c->next) {
        if (c->kind != JSON_STRING) return wrong(o, "__metadata__", "its values must be strings");
        if (strlen(c->key) != c->key_length || strlen(c->text) != c->length) return wrong(o, "__metadata__", "NUL in a string");
        bytes += c->key_length + c->length + 2;
    }
    const char **meta = arena_take(o->f->arena, 2 * sizeof *meta * (size_t)m->count);
    Shelf shelf = { arena_take(o->f->arena, bytes) };
    if (!meta || !shelf.at) return short_of_memory(o);
    o->f->meta = meta;
    for (const Json *c = m->child; c; c = c->next) {
        *meta++ = shelve(&shelf, c->key, c->key_length);
        *meta++ = shelve(&shelf, c->text, c->length);
    }
    o->f->metas = m->count;
    return true;
}

static bool read_shape(const Opening *o, SafeEntry *e, const Json *shape)
{
    if (!shape || shape->kind != JSON_ARRAY) return wrong(o, e->name, "\"shape\" must be an array");
    if (shape->count > 8) return wrong(o, e->name, "more than 8 dimensions");
    e->rank = shape->count;
    e->count = 1;
    const Json *c = shape->child;
    for (int i = 0; i < e->rank; i++, c = c->next) {
        if (!json_u64(c, &e->size[i])) return wrong(o, e->name, "a dimension is not an unsigned 64-bit integer");
        if (__builtin_mul_overflow(e->count, e->size[i], &e->count)) return wrong(o, e->name, "its number of elements does not fit 64 bits");
    }
    return true;
}

/* [2^33, 2^33, 0] must not pass for its product 0: partial products are checked from the left, whatever follows. */
static bool read_entry(const Opening *o, SafeEntry *e, const Json *j)
{
    if (j->kind != JSON_OBJECT) return wrong(o, e->name, "its description must be an object");
    const Json *type = json_get(j, "dtype"), *range = json_get(j, "data_offsets");
    if (!type || type->kind != JSON_STRING) return wrong(o, e->name, "\"dtype\" must be a string");
    int t = 0;
    while (t < DTYPES && !json_is(type, DTYPE[t].name)) t++;
    if (t == DTYPES) {
        char what[80];
        snprintf(what, sizeof what, "unknown dtype \"%.40s\"", type->text);
        return wrong(o, e->name, what);
    }
    e->type = (Dtype)t;
    if (!read_shape(o, e, json_get(j, "shape"))) return false;
    uint64_t begin, end, bytes;
    if (!range || range->kind != JSON_ARRAY || range->count != 2 || !json_u64(json_at(range, 0), &begin) || !json_u64(json_at(range, 1), &end))
        return wrong(o, e->name, "\"data_offsets\" must be two unsigned 64-bit integers");
    if (j->count != 3) return wrong(o, e->name, "fields beside dtype, shape and data_offsets");
    if (begin > end) return wrong(o, e->name, "its data ends before it begins");
    if (end > o->bytes) return wrong(o, e->name, "its data ends after the end of the file");
    if (__builtin_mul_overflow(e->count, (uint64_t)DTYPE[t].size, &bytes) || bytes != end - begin) {
        char what[120];
        snprintf(what, sizeof what, "%llu elements of %s do not fill the %llu bytes between its data_offsets",
                 (unsigned long long)e->count, DTYPE[t].name, (unsigned long long)(end - begin));
        return wrong(o, e->name, what);
    }
    e->offset = o->data + begin;
    return true;
}

static bool read_entries(Opening *o, const Json *top)
{
    Safetensors *f = o->f;
    size_t bytes = 0;
    int n = 0;
    for (const Json *c = top->child; c; c = c->next) {
        if (!strcmp(c->key, "__metadata__") && c->key_length == 12) {
            if (!read_metadata(o, c)) return false;
            continue;
        }
        if (strlen(c->key) != c->key_length) return wrong(o, c->key, "NUL in its name");
        if (c->key_length > LONGEST_NAME) return wrong(o, c->key, "its name is longer than 1024 bytes");
        bytes += c->key_length + 1;
        n++;
    }
    if (n > MOST_TENSORS) return wrong(o, NULL, "more than 200000 tensors");
    f->entry = arena_take(f->arena, (size_t)n * sizeof *f->entry);
    Shelf names = { arena_take(f->arena, bytes) };
    if (!f->entry || !names.at) return short_of_memory(o);
    for (const Json *c = top->child; c; c = c->next) {
        if (!strcmp(c->key, "__metadata__")) continue;
        SafeEntry *e = &f->entry[f->entries];
        *e = (SafeEntry){ .name = shelve(&names, c->key, c->key_length) };
        if (!read_entry(o, e, c)) return false;
        f->entries++;
    }
    return true;
}

static int by_place(const void *a, const void *b)
{
    const SafeEntry *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->count > 0) - (y->count > 0);               /* an empty tensor stands before what begins where it does */
}

static int by_name(const void *a, const void *b) { return strcmp(((const SafeEntry *)a)->name, ((const SafeEntry *)b)->name); }

static bool tiles_exactly(const Opening *o)
{
    SafeEntry *e = o->f->entry;
    uint64_t at = o->data;
    qsort(e, (size_t)o->f->entries, sizeof *e, by_place);
    for (int i = 0; i < o->f->entries; i++) {
        if (e[i].offset < at) return wrong(o, e[i].name, "its data overlaps that of another tensor");
        if (e[i].offset > at) return wrong(o, e[i].name, "there are bytes of no tensor before its data");
        at += e[i].count * DTYPE[e[i].type].size;
    }
    if (at != o->data + o->bytes) return wrong(o, NULL, "there are bytes of no tensor at its end");
    qsort(e, (size_t)o->f->entries, sizeof *e, by_name);
    return true;
}

/* The JSON lives in an arena of its own, under what is left of the caller's limit, and goes when the entries are made. */
bool safetensors_open(Safetensors *f, Arena *a, const char *path, Status *s)
{
    *f = (Safetensors){ .arena = a };
    size_t mark = a->used, left = a->limit > a->reserved ? a->limit - a->reserved : 1;
    Opening o = { .f = f, .header = { .limit = a->limit ? left : 0, .poison = a->poison }, .status = s };
    if (!file_open(&f->file, path, s)) return false;
    const Json *top = read_header(&o);
    bool ok = top && read_entries(&o, top) && tiles_exactly(&o);
    arena_free(&o.header);
    if (ok) return true;
    safetensors_close(f);
    arena_release(a, mark);
    return false;
}

void safetensors_close(Safetensors *f)
{
    file_close(&f->file);
    f->entry = NULL;
    f->meta = NULL;
    f->entries = f->metas = 0;
}

const SafeEntry *safetensors_find(const Safetensors *f, const char *name)
{
    SafeEntry wanted = { .name = name };
    return f->entries ? bsearch(&wanted, f->entry, (size_t)f->entries, sizeof wanted, by_name) : NULL;
}

bool safetensors_shape(const SafeEntry *e, Shape *shape)
{
    Shape s = {{ 1 }};
    if (e->rank > 4) return false;
    for (int i = 0; i < e->rank; i++) {
        if (!e->size[i] || e->size[i] > INT_MAX) return false;
        s.d[i] = (int)e->size[i];
    }
    *shape = s;
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static uint64_t little(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    while (n-- > 0) v = v << 8 | p[n];
    return v;
}

static uint32_t little16(const unsigned char *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t little32(const unsigned char *p) { return little16(p) | little16(p + 2) << 16; }
static uint64_t little64(const unsigned char *p) { return little32(p) | (uint64_t)little32(p + 4) << 32; }

static float float_of(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static double double_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. */
static float half_of(uint32_t h)
{
    uint32_t sign = (h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3FF;
    if (!e) return sign ? -(float)m * 0x1p-24f : (float)m * 0x1p-24f;
    return float_of(sign | (e == 31 ? 0x7F800000 : (e + 112) << 23) | m << 13);
}

void dtype_to_real(Dtype t, const unsigned char *p, size_t n, real *to)
{
    switch (t) {
    case T_F64:  for (size_t i = 0; i < n; i++) to[i] = (real)double_of(little64(p + 8 * i));         break;
    case T_F32:  for (size_t i = 0; i < n; i++) to[i] = (real)float_of(little32(p + 4 * i));          break;
    case T_F16:  for (size_t i = 0; i < n; i++) to[i] = (real)half_of(little16(p + 2 * i));           break;
    default:     for (size_t i = 0; i < n; i++) to[i] = (real)float_of(little16(p + 2 * i) << 16);    break;
    }
}

void dtype_to_i64(Dtype t, const unsigned char *p, size_t n, int64_t *to)
{
    size_t w = DTYPE[t].size;
    bool has_sign = t == T_I8 || t == T_I16 || t == T_I32;
    uint64_t top = (uint64_t)1 << (8 * w - 1);
    for (size_t i = 0; i < n; i++) {
        uint64_t v = little(p + w * i, w);
        to[i] = (int64_t)(has_sign ? (v ^ top) - top : v);
    }
}

static bool not_of_kind(const Safetensors *f, const SafeEntry *e, const char *wanted, Status *s)
{
    status_fail(s, E_FORMAT, "%s: tensor \"%.160s\" is stored as %s, %s wanted", f->file.name, e->name, DTYPE[e->type].name, wanted);
    return false;
}

bool safetensors_read_part(const Safetensors *f, const SafeEntry *e, uint64_t first, uint64_t count, real *to, Status *s)
{
    unsigned char buffer[CHUNK];
    size_t w = DTYPE[e->type].size;
    if (e->type > T_BF16) return not_of_kind(f, e, "F64, F32, F16 or BF16 is", s);
    if (first > e->count || count > e->count - first) {
        status_fail(s, E_SHAPE, "%s: tensor \"%.160s\": elements past its end", f->file.name, e->name);
        return false;
    }
    for (uint64_t i = 0; i < count; ) {
        size_t n = count - i < CHUNK / w ? (size_t)(count - i) : CHUNK / w;
        if (!file_read(&f->file, buffer, e->offset + (first + i) * w, n * w, s)) return false;
        dtype_to_real(e->type, buffer, n, to + i);
        i += n;
    }
    return true;
}

bool safetensors_read(const Safetensors *f, const SafeEntry *e, real *to, Status *s)
{
    return safetensors_read_part(f, e, 0, e->count, to, s);
}

bool safetensors_read_i64(const Safetensors *f, const SafeEntry *e, int64_t *to, Status *s)
{
    unsigned char buffer[CHUNK];
    size_t w = DTYPE[e->type].size;
    if (e->type < T_I64) return not_of_kind(f, e, "an integer type is", s);
    for (uint64_t i = 0; i < e->count; ) {
        size_t n = e->count - i < CHUNK / w ? (size_t)(e->count - i) : CHUNK / w;
        if (!file_read(&f->file, buffer, e->offset + i * w, n * w, s)) return false;
        dtype_to_i64(e->type, buffer, n, to + i);
        i += n;
    }
    return true;
}

bool safetensors_bytes(const Safetensors *f, const SafeEntry *e, void *to, Status *s)
{
    return file_read(&f->file, to, e->offset, (size_t)(e->count * DTYPE[e->type].size), s);
}
