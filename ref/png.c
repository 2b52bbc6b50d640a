#include <stdio.h>
#include <string.h>
#include "ref/exif.h"
#include "ref/png.h"
#include "ref/utf8.h"
#include "tensor/hash.h"

enum { SIGNATURE = 8, IHDR_END = SIGNATURE + 12 + 13, CHUNK = 12, BEST_DEFLATE = 1032 };

static uint32_t big(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static void put_big(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

bool png_begins(const uint8_t *bytes, size_t size) { return size >= SIGNATURE && !memcmp(bytes, "\x89PNG\r\n\x1a\n", SIGNATURE); }

typedef struct { size_t at; uint32_t length; const uint8_t *type, *data; } Chunk;

/* The chunk at `at`; false with E_FORMAT when it does not lie inside the file. */
static bool chunk_at(Chunk *c, const uint8_t *bytes, size_t size, size_t at, const char *name, Status *s)
{
    if (size - at < CHUNK) {
        status_fail(s, E_FORMAT, "%s: ends at byte %zu, before the end of the PNG data", name, size);
        return false;
    }
    *c = (Chunk){ at, big(bytes + at), bytes + at + 4, bytes + at + 8 };
    if (c->length <= size - at - CHUNK) return true;
    status_fail(s, E_FORMAT, "%s: PNG chunk at byte %zu claims %u bytes, %zu are left", name, at, c->length, size - at - CHUNK);
    return false;
}

static bool is(const Chunk *c, const char *type) { return !memcmp(c->type, type, 4); }

/* Bytes before compression (interlacing adds a few filter bytes: ignored). */
static bool header_check(const Chunk *c, uint64_t *raw, const char *name, Status *s)
{
    static const uint8_t channels[7] = { 1, 0, 3, 1, 2, 0, 4 };           /* by colour type; 0: no such type */
    uint32_t W = c->length == 13 ? big(c->data) : 0, H = c->length == 13 ? big(c->data + 4) : 0;
    int depth = c->length == 13 ? c->data[8] : 0, colour = c->length == 13 ? c->data[9] : 1;
    bool deep = depth == 8 || (depth == 16 && colour != 3);
    bool shallow = (depth == 1 || depth == 2 || depth == 4) && (colour == 0 || colour == 3);
    if (!is(c, "IHDR") || !W || !H || W > INT32_MAX || H > INT32_MAX || colour > 6 || !channels[colour] || !(deep || shallow)) {
        status_fail(s, E_FORMAT, "%s: the PNG header (IHDR, byte %zu) is malformed", name, c->at);
        return false;
    }
    *raw = (uint64_t)H * (((uint64_t)W * channels[colour] * (unsigned)depth + 7) / 8 + 1);
    return true;
}

bool png_check(const uint8_t *bytes, size_t size, const char *name, bool *rotated, Status *s)
{
    uint64_t raw = 0, packed = 0;
    Chunk c = { .at = SIGNATURE };
    *rotated = false;
    for (size_t at = SIGNATURE; ; at += CHUNK + c.length) {
        if (!chunk_at(&c, bytes, size, at, name, s)) return false;
        if (at == SIGNATURE && !header_check(&c, &raw, name, s)) return false;
        bool critical = !(c.type[0] & 0x20);
        if (critical && crc32_of(0, c.type, c.length + 4) != big(c.data + c.length)) {
            status_fail(s, E_FORMAT, "%s: PNG chunk at byte %zu: wrong checksum", name, at);
            return false;
        }
        if (is(&c, "eXIf")) *rotated = exif_turns(c.data, c.length);
        if (is(&c, "IDAT")) packed += c.length;
        if (is(&c, "IEND")) break;
    }
    if (packed && raw / BEST_DEFLATE <= packed) return true;
    status_fail(s, E_FORMAT, "%s: %llu bytes of PNG data cannot hold the picture", name, (unsigned long long)packed);
    return false;
}

/* Length as Latin-1 bytes; -1: some character is outside; -2: not UTF-8. */
static int64_t latin1_length(const char *text)
{
    int64_t n = 0;
    bool inside = true;
    for (int32_t c; (c = utf8_next(&text)) != 0; n++) {
        if (c < 0) return -2;
        inside = inside && (c == '\n' || (c >= 0x20 && c < 0x7f) || (c >= 0xa0 && c <= 0xff));
    }
    return inside ? n : -1;
}

static size_t chunk_size(const PngText *t, int64_t latin1)
{
    return CHUNK + strlen(t->keyword) + 1 + (latin1 >= 0 ? (size_t)latin1 : 4 + strlen(t->text));
}

static uint8_t *put_chunk(uint8_t *to, const PngText *t, int64_t latin1)
{
    size_t keyword = strlen(t->keyword) + 1, total = chunk_size(t, latin1);
    uint8_t *p = to + 8;
    put_big(to, (uint32_t)(total - CHUNK));
    memcpy(to + 4, latin1 >= 0 ? "tEXt" : "iTXt", 4);
    memcpy(p, t->keyword, keyword);
    p += keyword;
    if (latin1 >= 0) {
        const char *text = t->text;
        while (*text) *p++ = (uint8_t)utf8_next(&text);
    } else {
        memset(p, 0, 4);                                  /* not compressed, method 0, no language, no translated keyword */
        memcpy(p + 4, t->text, strlen(t->text));
    }
    put_big(to + total - 4, crc32_of(0, to + 4, total - 8));
    return to + total;
}

uint8_t *png_with_texts(Arena *a, const uint8_t *png, size_t size, const PngText *t, int n, size_t *total, Status *s)
{
    *total = size;
    for (int i = 0; i < n; i++) {
        int64_t latin1 = latin1_length(t[i].text);
        if (latin1 == -2) status_fail(s, E_FORMAT, "text \"%s\" of the picture is not UTF-8", t[i].keyword);
        *total += chunk_size(&t[i], latin1);
    }
    if (s->code != OK) return NULL;
    uint8_t *out = arena_take(a, *total), *p = out;
    if (!out) {
        status_fail(s, E_MEMORY, "out of memory: %zu bytes for a PNG file", *total);
        return NULL;
    }
    memcpy(p, png, IHDR_END);
    p += IHDR_END;
    for (int i = 0; i < n; i++) p = put_chunk(p, &t[i], latin1_length(t[i].text));
    memcpy(p, png + IHDR_END, size - IHDR_END);
    return out;
}

static const char *text_of(Arena *a, const Chunk *c, size_t keyword)
{
    size_t from = is(c, "iTXt") ? keyword + 5 : keyword + 1, n = 0;
    if (is(c, "iTXt") && (from > c->length || memcmp(c->data + keyword, "\0\0\0\0\0", 5))) return NULL;
    char *out = arena_take(a, 2 * (size_t)c->length + 1);
    for (size_t i = from; out && i < c->length; i++) {
        uint8_t b = c->data[i];
        if (is(c, "tEXt") && b >= 0x80) {
            out[n++] = (char)(0xc0 | b >> 6);
            b = 0x80 | (b & 0x3f);
        }
        out[n++] = (char)b;
    }
    if (out) out[n] = 0;
    return out;
}

const char *png_text(Arena *a, const uint8_t *png, size_t size, const char *keyword)
{
    Status ignored = {0};
    size_t n = strlen(keyword);
    Chunk c = {0};
    for (size_t at = SIGNATURE; png_begins(png, size) && chunk_at(&c, png, size, at, "", &ignored); at += CHUNK + c.length)
        if ((is(&c, "tEXt") || is(&c, "iTXt")) && c.length > n && !memcmp(c.data, keyword, n + 1)) return text_of(a, &c, n);
    return NULL;
}
