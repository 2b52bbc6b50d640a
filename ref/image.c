#include <stdlib.h>
#include <string.h>
#include "ref/image.h"
#include "ref/jpeg_check.h"
#include "tensor/file.h"
#include "tensor/hash.h"

/* The decoder's memory: counted, and refused above a cap, so that a short file cannot ask for gigabytes. */
enum { HEAD = 16, PIXEL_MOST = 24 };                      /* bytes per pixel: 16-bit RGBA inflated, unfiltered and narrowed */
static _Thread_local size_t live, cap;

static void *counted_malloc(size_t bytes)
{
    if (bytes > cap || live > cap - bytes) return NULL;
    size_t *p = malloc(bytes + HEAD);
    if (!p) return NULL;
    *p = bytes;
    live += bytes;
    return (char *)p + HEAD;
}

static void counted_free(void *at)
{
    if (!at) return;
    size_t *p = (size_t *)((char *)at - HEAD);
    live -= *p;
    free(p);
}

static void *counted_realloc(void *at, size_t bytes)
{
    if (!at) return counted_malloc(bytes);
    size_t before = *(size_t *)((char *)at - HEAD);
    void *to = counted_malloc(bytes);
    if (!to) return NULL;
    memcpy(to, at, before < bytes ? before : bytes);
    counted_free(at);
    return to;
}

enum { SIDE_MOST = 8192, PIXELS_MOST = 64 << 20, FILE_MOST = 64 << 20, LEAST_DENSITY = 1024 };
#define STBI_MAX_DIMENSIONS 8192
#define STBI_MALLOC(n)      counted_malloc(n)
#define STBI_REALLOC(p, n)  counted_realloc(p, n)
#define STBI_FREE(p)        counted_free(p)
#define STBI_ASSERT(x)      ((void)0)
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_NO_SIMD
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#pragma GCC diagnostic ignored "-Wunused-function"        /* static declarations of what is configured out */
#include <stb_image.h>
#define STBIW_MALLOC(n)     counted_malloc(n)
#define STBIW_REALLOC(p, n) counted_realloc(p, n)
#define STBIW_FREE(p)       counted_free(p)
#define STBIW_ASSERT(x)     ((void)0)
#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>

const char *image_decoder(void) { return TILLER_STB; }

static bool size_check(const uint8_t *bytes, size_t size, int *H, int *W, const char *name, Status *s)
{
    int channels;
    cap = 1 << 20;
    live = 0;
    if (!stbi_info_from_memory(bytes, (int)size, W, H, &channels)) {
        status_fail(s, E_FORMAT, "%s: %s, or more than %d pixels a side", name, stbi_failure_reason(), SIDE_MOST);
        return false;
    }
    if (*W < 1 || *H < 1 || *W > SIDE_MOST || *H > SIDE_MOST || (int64_t)*W * *H > PIXELS_MOST) {
        status_fail(s, E_FORMAT, "%s: %d x %d pixels; at most %d a side are read", name, *W, *H, SIDE_MOST);
        return false;
    }
    if ((size_t)*W * (size_t)*H / LEAST_DENSITY <= size) return true;
    status_fail(s, E_FORMAT, "%s: %zu bytes cannot hold %d x %d pixels", name, size, *W, *H);
    return false;
}

bool image_decode(Image *m, Arena *a, const void *bytes, size_t size, const char *name, Status *s)
{
    int H = 0, W = 0, channels;
    size_t mark = a->used;
    bool rotated = false;
    const uint8_t *from = bytes;
    if (size > FILE_MOST) status_fail(s, E_FORMAT, "%s: %zu bytes; at most 64 MiB are read", name, size);
    else if (png_begins(bytes, size)) png_check(bytes, size, name, &rotated, s);
    else if (jpeg_begins(bytes, size)) from = jpeg_check(a, bytes, size, name, &size, &rotated, s);
    else status_fail(s, E_FORMAT, "%s: neither a PNG nor a JPEG picture", name);
    if (s->code != OK || !size_check(from, size, &H, &W, name, s)) return false;

    size_t pixels = (size_t)H * (size_t)W;
    cap = (1 << 20) + 2 * size + PIXEL_MOST * pixels;
    live = 0;
    uint8_t *decoded = stbi_load_from_memory(from, (int)size, &W, &H, &channels, 3);
    arena_release(a, mark);
    if (!decoded || pixels != (size_t)H * (size_t)W) {
        status_fail(s, E_FORMAT, "%s: %s", name, decoded ? "its size changes while it is decoded" : stbi_failure_reason());
        counted_free(decoded);
        return false;
    }
    *m = (Image){ arena_take(a, 3 * pixels), H, W, rotated };
    if (m->rgb) memcpy(m->rgb, decoded, 3 * pixels);
    else status_fail(s, E_MEMORY, "%s: out of memory: %zu bytes for a picture", name, 3 * pixels);
    counted_free(decoded);
    return m->rgb;
}

bool image_load(Image *m, Arena *a, const char *path, Status *s)
{
    size_t size;
    char *bytes = file_load(path, FILE_MOST, &size, s);
    bool done = bytes && image_decode(m, a, bytes, size, path, s);
    free(bytes);
    return done;
}

uint8_t *image_png(Arena *a, const Image *m, const PngText *texts, int n, size_t *size, Status *s)
{
    size_t raw = (size_t)m->H * ((size_t)m->W * 3 + 1);
    int bytes = 0;
    cap = (8 << 20) + 8 * raw;
    live = 0;
    void *room = counted_malloc(cap);                     /* the encoder does not survive a failing realloc: ask beforehand */
    counted_free(room);
    uint8_t *png = room ? stbi_write_png_to_mem(m->rgb, 0, m->W, m->H, 3, &bytes) : NULL;
    if (!png) {
        status_fail(s, E_MEMORY, "out of memory: %zu bytes to encode a picture", cap);
        return NULL;
    }
    uint8_t *out = png_with_texts(a, png, (size_t)bytes, texts, n, size, s);
    counted_free(png);
    return out;
}

bool image_save(const char *path, Arena *a, const Image *m, const PngText *texts, int n, char *hex, Status *s)
{
    size_t size = 0;
    uint8_t *png = image_png(a, m, texts, n, &size, s);
    Sha256 h;
    if (!png || !file_save(path, png, size, s)) return false;
    if (!hex) return true;
    sha256_begin(&h);
    sha256_add(&h, png, size);
    sha256_end(&h, hex);
    return true;
}
