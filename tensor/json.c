#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tensor/file.h"
#include "tensor/json.h"

enum { NODES_AT_ONCE = 256, MOST_VALUES = 1 << 22, LARGEST_FILE = 64 << 20 };

typedef struct {
    Arena *arena;
    const char *start, *at, *end;
    char *text;                                           /* where the next decoded string goes */
    Json *node;                                           /* unused nodes of the last batch */
    int nodes, values, depth, deepest;
    const char *name;
    Status *status;
} Parser;

static bool bad(Parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool bad(Parser *p, const char *format, ...)
{
    char what[200];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    status_fail(p->status, E_FORMAT, "%s: byte %zu: %s", p->name, (size_t)(p->at - p->start), what);
    return false;
}

static bool short_of_memory(Parser *p)
{
    status_fail(p->status, E_MEMORY, "%s: no memory for its contents", p->name);
    return false;
}

static void skip_blanks(Parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')) p->at++;
}

static bool next_is(const Parser *p, char c) { return p->at < p->end && *p->at == c; }
static bool digit(const Parser *p) { return p->at < p->end && *p->at >= '0' && *p->at <= '9'; }

static Json *new_node(Parser *p)
{
    if (++p->values > MOST_VALUES) {
        bad(p, "more than %d values", MOST_VALUES);
        return NULL;
    }
    if (!p->nodes) {
        p->node = arena_take(p->arena, NODES_AT_ONCE * sizeof(Json));
        if (!p->node) {
            short_of_memory(p);
            return NULL;
        }
        p->nodes = NODES_AT_ONCE;
    }
    p->nodes--;
    *p->node = (Json){ .key = NULL };
    return p->node++;
}

/* ---- strings ------------------------------------------------------------------------------------------- */

/* Bytes of the well-formed UTF-8 sequence at p (Unicode 15, table 3-7), 0 when there is none. */
static int utf8_length(const char *at, const char *end)
{
    const unsigned char *p = (const unsigned char *)at;
    int n = *p < 0x80 ? 1 : *p < 0xC2 ? 0 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 0;
    if (!n || end - at < n) return 0;
    if (n == 1) return 1;
    int low = *p == 0xE0 ? 0xA0 : *p == 0xF0 ? 0x90 : 0x80, high = *p == 0xED ? 0x9F : *p == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) return 0;
    for (int i = 2; i < n; i++)
        if (p[i] < 0x80 || p[i] > 0xBF) return 0;
    return n;
}

bool utf8_valid_bytes(const char *text, size_t bytes)
{
    const char *end = text + bytes;
    for (int n; text < end; text += n)
        if (!(n = utf8_length(text, end))) return false;
    return true;
}

bool utf8_valid(const char *text) { return utf8_valid_bytes(text, strlen(text)); }

static void utf8_put(Parser *p, uint32_t c)
{
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char lead[4] = { 0, 0xC0, 0xE0, 0xF0 };
    *p->text++ = (char)(lead[more] | c >> 6 * more);
    while (more-- > 0) *p->text++ = (char)(0x80 | ((c >> 6 * more) & 0x3F));
}

static bool parse_hex(Parser *p, uint32_t *v)             /* the four digits of \uXXXX */
{
    *v = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        if (p->at == p->end) return bad(p, "the text ends inside an escape");
        char c = *p->at, low = (char)(c | 0x20);
        if (c >= '0' && c <= '9') *v = *v << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f') *v = *v << 4 | (uint32_t)(low - 'a' + 10);
        else return bad(p, "four hexadecimal digits belong after \\u");
    }
    return true;
}

static bool parse_escape(Parser *p)                       /* p->at is behind the backslash */
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (p->at == p->end) return bad(p, "the text ends inside an escape");
    char c = *p->at;
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        *p->text++ = to[known - from];
        p->at++;
        return true;
    }
    if (c != 'u') return bad(p, "unknown escape");
    uint32_t v, second;
    p->at++;
    if (!parse_hex(p, &v)) return false;
    if (v >= 0xDC00 && v <= 0xDFFF) return bad(p, "lone surrogate");
    if (v >= 0xD800 && v <= 0xDBFF) {
        if (p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u') return bad(p, "lone surrogate");
        p->at += 2;
        if (!parse_hex(p, &second)) return false;
        if (second < 0xDC00 || second > 0xDFFF) return bad(p, "lone surrogate");
        v = 0x10000 + ((v - 0xD800) << 10) + (second - 0xDC00);
    }
    utf8_put(p, v);
    return true;
}

static bool parse_string(Parser *p, const char **text, size_t *length)       /* p->at is behind the opening quote */
{
    char *first = p->text;
    while (!next_is(p, '"')) {
        if (p->at == p->end) return bad(p, "the text ends inside a string");
        if ((unsigned char)*p->at < 0x20) return bad(p, "control character in a string");
        if (*p->at == '\\') {
            p->at++;
            if (!parse_escape(p)) return false;
            continue;
        }
        int n = utf8_length(p->at, p->end);
        if (!n) return bad(p, "invalid UTF-8");
        while (n-- > 0) *p->text++ = *p->at++;
    }
    p->at++;
    *text = first;
    *length = (size_t)(p->text - first);
    *p->text++ = 0;
    return true;
}

/* ---- values -------------------------------------------------------------------------------------------- */

static bool parse_number(Parser *p, Json *j)
{
    const char *first = p->at;
    if (next_is(p, '-')) p->at++;
    if (!digit(p)) return bad(p, "a value is wanted");
    if (next_is(p, '0')) p->at++;
    else while (digit(p)) p->at++;
    if (digit(p)) return bad(p, "a number starts with 0");
    if (next_is(p, '.')) {
        p->at++;
        if (!digit(p)) return bad(p, "a digit belongs after the point");
        while (digit(p)) p->at++;
    }
    if (next_is(p, 'e') || next_is(p, 'E')) {
        p->at++;
        if (next_is(p, '+') || next_is(p, '-')) p->at++;
        if (!digit(p)) return bad(p, "a digit belongs in the exponent");
        while (digit(p)) p->at++;
    }
    j->kind = JSON_NUMBER;
    j->length = (size_t)(p->at - first);
    j->text = memcpy(p->text, first, j->length);
    p->text[j->length] = 0;
    p->text += j->length + 1;
    return true;
}

static bool parse_word(Parser *p, Json *j)
{
    static const char *const word[] = { "null", "false", "true" };           /* in the order of JsonKind */
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(word[i]);
        if ((size_t)(p->end - p->at) < n || memcmp(p->at, word[i], n)) continue;
        j->kind = (JsonKind)i;
        p->at += n;
        return true;
    }
    return bad(p, "a value is wanted");
}

static int by_key(const void *a, const void *b)
{
    const Json *x = *(const Json *const *)a, *y = *(const Json *const *)b;
    if (x->key_length != y->key_length) return x->key_length < y->key_length ? -1 : 1;
    return memcmp(x->key, y->key, x->key_length);
}

/* Sorted, so that 200 000 keys cost no more than reading them; called at the closing brace. */
static bool keys_differ(Parser *p, const Json *object)
{
    size_t mark = p->arena->used;
    const Json **k = arena_take(p->arena, (size_t)object->count * sizeof *k);
    if (!k) return short_of_memory(p);
    int n = 0;
    for (const Json *c = object->child; c; c = c->next) k[n++] = c;
    qsort(k, (size_t)n, sizeof *k, by_key);
    for (int i = 1; i < n; i++)
        if (!by_key(&k[i - 1], &k[i])) return bad(p, "duplicate key \"%.100s\" in the object that ends here", k[i]->key);
    arena_release(p->arena, mark);
    return true;
}

static bool parse_value(Parser *p, Json *j);

static bool parse_members(Parser *p, Json *j)             /* p->at is behind the opening bracket */
{
    bool object = j->kind == JSON_OBJECT;
    char close = object ? '}' : ']';
    const Json **link = &j->child;
    skip_blanks(p);
    while (!(next_is(p, close) && !j->count)) {
        Json *c = new_node(p);
        if (!c) return false;
        if (object) {
            if (!next_is(p, '"')) return bad(p, "a key in quotes is wanted");
            p->at++;
            if (!parse_string(p, &c->key, &c->key_length)) return false;
            skip_blanks(p);
            if (!next_is(p, ':')) return bad(p, "a colon is wanted");
            p->at++;
            skip_blanks(p);
        }
        if (!parse_value(p, c)) return false;
        *link = c;
        link = &c->next;
        j->count++;
        skip_blanks(p);
        if (next_is(p, close)) break;
        if (p->at == p->end) return bad(p, "the text ends too early");
        if (!next_is(p, ',')) return bad(p, "a comma or %c is wanted", close);
        p->at++;
        skip_blanks(p);
    }
    if (object && j->count > 1 && !keys_differ(p, j)) return false;
    p->at++;
    return true;
}

static bool parse_value(Parser *p, Json *j)
{
    if (p->at == p->end) return bad(p, "the text ends too early");
    switch (*p->at) {
    case '"':
        p->at++;
        j->kind = JSON_STRING;
        return parse_string(p, &j->text, &j->length);
    case '{': case '[':
        if (p->depth == p->deepest) return bad(p, "nested more than %d deep", p->deepest);
        j->kind = *p->at++ == '{' ? JSON_OBJECT : JSON_ARRAY;
        p->depth++;
        if (!parse_members(p, j)) return false;
        p->depth--;
        return true;
    case 'n': case 'f': case 't':
        return parse_word(p, j);
    default:
        return parse_number(p, j);
    }
}

/* Decoded text never needs more room than its source: a string loses two quotes and gains a NUL, a number is
 * followed by a byte of punctuation except at the very end. */
const Json *json_parse(Arena *a, const char *bytes, size_t size, int deepest, const char *name, Status *s)
{
    Parser p = { .arena = a, .start = bytes, .at = bytes, .end = bytes + size, .deepest = deepest, .name = name, .status = s };
    p.text = size < SIZE_MAX ? arena_take(a, size + 1) : NULL;
    if (!p.text) {
        short_of_memory(&p);
        return NULL;
    }
    Json *j = new_node(&p);
    skip_blanks(&p);
    if (!j || !parse_value(&p, j)) return NULL;
    skip_blanks(&p);
    if (p.at == p.end) return j;
    bad(&p, "text after the end of the value");
    return NULL;
}

const Json *json_load(Arena *a, const char *path, Status *s)
{
    size_t size;
    char *text = file_load(path, LARGEST_FILE, &size, s);
    const Json *j = text ? json_parse(a, text, size, 64, path, s) : NULL;
    free(text);
    return j;
}

const Json *json_get(const Json *object, const char *key)
{
    size_t n = strlen(key);
    for (const Json *c = object && object->kind == JSON_OBJECT ? object->child : NULL; c; c = c->next)
        if (c->key_length == n && !memcmp(c->key, key, n)) return c;
    return NULL;
}

const Json *json_at(const Json *array, int i)
{
    const Json *c = array && array->kind == JSON_ARRAY && i >= 0 ? array->child : NULL;
    while (c && i-- > 0) c = c->next;
    return c;
}

bool json_u64(const Json *j, uint64_t *v)
{
    if (!j || j->kind != JSON_NUMBER) return false;
    uint64_t u = 0;
    for (const char *p = j->text; *p; p++) {
        uint64_t d = (uint64_t)(*p - '0');
        if (*p < '0' || *p > '9' || u > (UINT64_MAX - d) / 10) return false;
        u = u * 10 + d;
    }
    *v = u;
    return true;
}

bool json_int(const Json *j, int *v)
{
    if (!j || j->kind != JSON_NUMBER) return false;
    bool minus = j->text[0] == '-';
    Json size = *j;
    uint64_t u;
    size.text += minus;
    if (!json_u64(&size, &u) || u > (uint64_t)INT_MAX + minus) return false;
    *v = minus ? (int)-(int64_t)u : (int)u;
    return true;
}

bool json_number(const Json *j, double *v)
{
    if (!j || j->kind != JSON_NUMBER) return false;
    char *end;
    double d = strtod(j->text, &end);
    if (*end || !isfinite(d)) return false;
    *v = d;
    return true;
}

bool json_bool(const Json *j, bool *v)
{
    if (!j || (j->kind != JSON_TRUE && j->kind != JSON_FALSE)) return false;
    *v = j->kind == JSON_TRUE;
    return true;
}

bool json_is(const Json *j, const char *text)
{
    return j && j->kind == JSON_STRING && j->length == strlen(text) && !memcmp(j->text, text, j->length);
}

/* ---- writer -------------------------------------------------------------------------------------------- */

static void put(JsonOut *o, const char *bytes, size_t n)
{
    if (o->failed) return;
    if (n >= o->room - o->size) {                         /* one byte of room is kept for a NUL */
        size_t room = o->room ? o->room : 256;
        while (room <= SIZE_MAX / 2 && room - o->size <= n) room *= 2;
        char *more = room - o->size > n ? realloc(o->bytes, room) : NULL;
        if (!more) {
            o->failed = true;
            return;
        }
        o->bytes = more;
        o->room = room;
    }
    memcpy(o->bytes + o->size, bytes, n);
    o->size += n;
    o->bytes[o->size] = 0;
}

static void quoted(JsonOut *o, const char *text)
{
    char escape[8];
    const char *end = text + strlen(text), *plain = text;
    put(o, "\"", 1);
    for (const char *p = text; p < end; ) {
        int n = utf8_length(p, end);
        if (n && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\') {
            p += n;
            continue;
        }
        put(o, plain, (size_t)(p - plain));
        if (n && (unsigned char)*p >= 0x20) snprintf(escape, sizeof escape, "\\%c", *p);
        else snprintf(escape, sizeof escape, "\\u%04x", n ? (unsigned)*p : 0xFFFDu);
        put(o, escape, strlen(escape));
        plain = ++p;
    }
    put(o, plain, (size_t)(end - plain));
    put(o, "\"", 1);
}

static void before_value(JsonOut *o, const char *key)
{
    if (o->comma) put(o, ",", 1);
    if (key) {
        quoted(o, key);
        put(o, ":", 1);
    }
    o->comma = o->depth > 0;
}

static void word(JsonOut *o, const char *key, const char *text)
{
    before_value(o, key);
    put(o, text, strlen(text));
}

void json_open(JsonOut *o, const char *key, char bracket)
{
    before_value(o, key);
    put(o, &bracket, 1);
    o->depth++;
    o->comma = false;
}

void json_close(JsonOut *o, char bracket)
{
    put(o, &bracket, 1);
    o->depth--;
    o->comma = o->depth > 0;
}

void json_text(JsonOut *o, const char *key, const char *text)
{
    before_value(o, key);
    quoted(o, text);
}

void json_integer(JsonOut *o, const char *key, int64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)v);
    word(o, key, text);
}

void json_real(JsonOut *o, const char *key, double v, int digits)
{
    char text[64];
    snprintf(text, sizeof text, "%.*g", digits < 1 ? 1 : digits > 17 ? 17 : digits, v);
    for (char *c = text; *c; c++)
        if (*c == ',') *c = '.';                          /* some locales write a comma */
    word(o, key, isfinite(v) ? text : "null");
}

void json_truth(JsonOut *o, const char *key, bool v) { word(o, key, v ? "true" : "false"); }
void json_null (JsonOut *o, const char *key)         { word(o, key, "null"); }

void json_free(JsonOut *o)
{
    free(o->bytes);
    *o = (JsonOut){ .bytes = NULL };
}
