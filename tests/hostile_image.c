/* Pictures that lie: every prefix, mutated bytes with and without repaired checksums, over-full Huffman tables,
 * sizes that do not fit the data, scans without end.  Each must load or be refused with a text; what that means for
 * memory is seen in the sanitizer build. */
#include "tests/check.h"
#include "tests/hostile_pictures.h"
#include "ref/image.h"
#include "ref/jpeg_check.h"
#include "tensor/file.h"
#include "tensor/hash.h"

enum { MUTATIONS = 4000, ROOM = 8192 };
static Arena arena;
static int loaded, refused, silent;
static double slowest;

/* True when the picture was loaded. */
static bool try_bytes(const uint8_t *bytes, size_t n)
{
    Status s = {0};
    Image m = {0};
    uint8_t *exact = malloc(n ? n : 1);                   /* so that reading past the end is seen */
    memcpy(exact, bytes, n);
    double began = clock_seconds();
    bool done = image_decode(&m, &arena, exact, n, "picture", &s);
    double took = clock_seconds() - began;
    if (took > slowest) slowest = took;
    unsigned sum = 0;
    for (size_t i = 0; done && i < (size_t)m.H * (size_t)m.W * 3; i++) sum += m.rgb[i];
    silent += done ? s.code != OK : s.code == OK || !s.text[0] || strncmp(s.text, "picture: ", 9);
    loaded += done;
    refused += !done;
    free(exact);
    arena_release(&arena, 0);
    return done && sum < UINT32_MAX;
}

static void count_begin(void) { loaded = refused = silent = 0; }

static void put_big(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8), p[3] = (uint8_t)v; }
static uint32_t big(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

/* Checksums that fit again, so that mutations reach the decoder. */
static void repair(uint8_t *png, size_t n)
{
    for (size_t at = 8; n - at >= 12 && big(png + at) <= n - at - 12; at += 12 + big(png + at))
        put_big(png + at + 8 + big(png + at), crc32_of(0, png + at + 4, 4 + big(png + at)));
}

static uint32_t below(uint32_t n) { return (uint32_t)((check_uniform() + 1) / 2 * n); }

static void mutate(uint8_t *p, size_t *n, size_t from)
{
    static const uint8_t strong[] = { 0, 1, 0x7f, 0x80, 0xff, 0xc4, 0xda, 0xd9, 0xc0, 0xc2 };
    for (uint32_t k = 1 + below(6); k > 0; k--) {
        size_t at = from + below((uint32_t)(*n - from));
        switch (below(5)) {
        case 0: p[at] ^= (uint8_t)(1u << below(8));                         break;
        case 1: p[at] = (uint8_t)below(256);                                break;
        case 2: p[at] = strong[below(10)];                                  break;
        case 3: p[at] = 0xff; if (at + 1 < *n) p[at + 1] = strong[4 + below(6)];   break;
        case 4: memmove(p + at, p + at + 1, *n - at - 1); if (*n > from + 8) --*n;  break;
        }
    }
}

static void test_family(const char *what, const uint8_t *good, size_t n, bool png)
{
    char name[80];
    snprintf(name, sizeof name, "%s: loads", what);
    check_true(name, try_bytes(good, n));
    count_begin();
    for (size_t cut = 0; cut < n; cut++) try_bytes(good, cut);
    snprintf(name, sizeof name, "%s: every prefix is refused, with a text", what);
    check_true(name, !loaded && refused == (int)n && !silent);

    uint8_t p[ROOM];
    count_begin();
    for (int i = 0; i < MUTATIONS; i++) {
        size_t m = n;
        memcpy(p, good, n);
        mutate(p, &m, png ? 8 : 2);
        if (png && i % 8) repair(p, m);
        try_bytes(p, m);
    }
    snprintf(name, sizeof name, "%s: mutations load or are refused with a text", what);
    check_true(name, !silent && loaded + refused == MUTATIONS);
    snprintf(name, sizeof name, "%s: mutations reach the decoder (some load)", what);
    check_true(name, loaded > MUTATIONS / 100 && refused > MUTATIONS / 100);
}

/* FF C4, length, one table of class and place 0x10 whose 16 counts are `each`. */
static size_t put_table(uint8_t *to, uint8_t each, int codes)
{
    int length = 2 + 17 + codes;
    to[0] = 0xff, to[1] = 0xc4, to[2] = (uint8_t)(length >> 8), to[3] = (uint8_t)length, to[4] = 0x10;
    memset(to + 5, each, 16);
    memset(to + 21, 0, (size_t)codes);
    return 21 + (size_t)codes;
}

static void test_tables(void)
{
    uint8_t p[ROOM] = { 0xff, 0xd8 };
    size_t rest = sizeof jpeg_baseline - 2;
    size_t n = put_table(p + 2, 255, 16 * 255);
    memcpy(p + 2 + n, jpeg_baseline + 2, rest);
    check_true("huffman: 4080 codes refused", !try_bytes(p, 2 + n + rest) && !jpeg_tables_fit(p, 2 + n + rest));
    n = put_table(p + 2, 16, 256);
    check_true("huffman: 256 codes fit the table", jpeg_tables_fit(p, 2 + n));
    p[2 + 5] = 17;
    check_true("huffman: 257 do not", !jpeg_tables_fit(p, 2 + n));

    /* the second of two tables in one segment */
    n = put_table(p + 2, 0, 0);
    memcpy(p + 2 + n, p + 6, 17);
    memset(p + 2 + n + 1, 200, 16);
    p[5] = 2 + 17 + 17;
    check_true("huffman: the second table of a segment", !jpeg_tables_fit(p, 2 + n + 17));
    /* counts beyond the end of the file read as zero */
    check_true("huffman: cut off behind two counts", jpeg_tables_fit((const uint8_t[]){ 0xff, 0xc4, 0, 50, 0x10, 128, 128 }, 7));
    check_true("huffman: cut off, still too many", !jpeg_tables_fit((const uint8_t[]){ 0xff, 0xc4, 0, 50, 0x10, 128, 128, 1 }, 8));

    /* the same bytes inside a comment, which the decoder skips, do no harm */
    uint8_t q[ROOM] = { 0xff, 0xd8, 0xff, 0xfe, 0, 2 + 21 };
    put_table(q + 6, 255, 0);
    memcpy(q + 27, jpeg_baseline + 2, rest);
    check_true("huffman: inside a comment", try_bytes(q, 27 + rest));
    /* ... inside entropy-coded data, where the decoder could meet them, they do */
    memcpy(q, jpeg_baseline, sizeof jpeg_baseline - 2);
    n = sizeof jpeg_baseline - 2 + put_table(q + sizeof jpeg_baseline - 2, 255, 0);
    q[n++] = 0xff, q[n++] = 0xd9;
    check_true("huffman: behind the scan", !try_bytes(q, n));
}

static void test_jpeg_structure(void)
{
    uint8_t p[ROOM] = {0};
    size_t n = sizeof jpeg_baseline;
    Status s = {0};
    Image m;
    memcpy(p, jpeg_baseline, n);
    memset(p + n, 0xa5, 100);
    check_true("jpeg: bytes behind the end are left alone", try_bytes(p, n + 100));

    /* EXIF with orientation 6, directly behind SOI */
    static const uint8_t exif[] = { 0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0 };
    memcpy(p + 2, exif, sizeof exif);
    memcpy(p + 2 + sizeof exif, jpeg_baseline + 2, n - 2);
    check_true("jpeg: orientation is noticed", image_decode(&m, &arena, p, n + sizeof exif, "x", &s) && m.rotated && m.W == 20 && m.H == 24);
    check_true("jpeg: no orientation", image_decode(&m, &arena, jpeg_baseline, n, "x", &s) && !m.rotated);

    /* its pixels against an independent decoder: chroma interpolation may differ by a few levels */
    double worst[2] = {0};
    for (int k = 0; k < 2; k++) {
        const uint8_t *corner = k ? jpeg_progressive_corners : jpeg_baseline_corners;
        image_decode(&m, &arena, k ? jpeg_progressive : jpeg_baseline, k ? sizeof jpeg_progressive : n, "x", &s);
        const int place[3] = { 0, 12 * 20 + 10, 23 * 20 + 19 };
        for (int i = 0; i < 9; i++) worst[k] = fmax(worst[k], fabs((double)m.rgb[3 * place[i / 3] + i % 3] - corner[i]));
    }
    check_below("jpeg: baseline pixels", worst[0], 12);
    check_below("jpeg: progressive pixels", worst[1], 12);
    arena_release(&arena, 0);

    /* a frame of 8192 x 8192 in some hundred bytes */
    memcpy(p, jpeg_baseline, sizeof jpeg_baseline);
    for (size_t i = 0; i + 8 < sizeof jpeg_baseline; i++)
        if (p[i] == 0xff && p[i + 1] == 0xc0) p[i + 5] = 0x20, p[i + 6] = 0, p[i + 7] = 0x20, p[i + 8] = 0;
    s = (Status){0};
    check_true("jpeg: a few hundred bytes cannot be 64 megapixels", !image_decode(&m, &arena, p, sizeof jpeg_baseline, "x", &s) && strstr(s.text, "cannot hold"));

    /* 65 more scans: the last scan's header repeated */
    n = 0;
    for (size_t i = 0; i + 1 < sizeof jpeg_progressive; i++)
        if (jpeg_progressive[i] == 0xff && jpeg_progressive[i + 1] == 0xda) n = i;
    memcpy(p, jpeg_progressive, n);
    for (int i = 0; i < JPEG_SCANS + 1; i++) {
        memcpy(p + n, "\xff\xda\0\x08\x01\x01\0\x01\x3f\x10\x55", 11);
        n += 11;
    }
    p[n++] = 0xff, p[n++] = 0xd9;
    s = (Status){0};
    check_true("jpeg: too many scans", !image_decode(&m, &arena, p, n, "x", &s) && strstr(s.text, "scans"));
    arena_release(&arena, 0);
}

static void test_png_lies(void)
{
    uint8_t p[ROOM];
    Status s = {0};
    Image m;
    size_t n = sizeof png_palette;
    static const struct { size_t at; uint32_t v; const char *what; } lie[] = {
        { 16, 0, "png: width 0" }, { 16, 8193, "png: width 8193" }, { 20, 0x80000000u, "png: negative height" }, { 16, 0xffffffff, "png: width 2^32-1" },
        { 8, 0xffffffff, "png: chunk of 2^32-1 bytes" }, { 8, 12, "png: short IHDR" }, { 33, 0x7fffffff, "png: second chunk too long" } };
    for (int i = 0; i < 7; i++) {
        memcpy(p, png_palette, n);
        put_big(p + lie[i].at, lie[i].v);
        repair(p, n);
        check_true(lie[i].what, !try_bytes(p, n));
    }
    memcpy(p, png_palette, n);
    put_big(p + 16, 8192);
    put_big(p + 20, 8192);
    repair(p, n);
    check_true("png: a few hundred bytes cannot be 64 megapixels", !image_decode(&m, &arena, p, n, "x", &s) && strstr(s.text, "cannot hold"));
    memcpy(p, png_palette, n);
    p[29] ^= 1;
    s = (Status){0};
    check_true("png: wrong checksum", !image_decode(&m, &arena, p, n, "x", &s) && strstr(s.text, "checksum"));
    memcpy(p, png_palette, n);
    memcpy(p + 37, "IDAX", 4);
    repair(p, n);
    check_true("png: unknown critical chunk", !try_bytes(p, n));
    check_true("png: 16 bits a channel", try_bytes(png_sixteen, sizeof png_sixteen));
}

static void test_other_kinds(void)
{
#define BYTES(text) { text, sizeof text - 1 }
    static const struct { const char *bytes; size_t n; } other[] = {
        BYTES(""), BYTES("GIF89a\x01\0\x01\0"), BYTES("BM\x1e\0\0\0\0\0\0\0"), BYTES("8BPS\0\x01\0\0"), BYTES("P6 1 1 255 abc"),
        BYTES("#?RADIANCE\n"), BYTES("\x89PNG\r\n\x1a"), BYTES("\xff\xd8"), BYTES("\xff\xd8\xff"), BYTES("\x89PNG\r\n\x1a\n") };
    for (int i = 0; i < 10; i++) check_true("neither PNG nor JPEG", !try_bytes((const uint8_t *)other[i].bytes, other[i].n));
    Status s = {0};
    Image m;
    check_true("a file that is not there", !image_load(&m, &arena, "no/such/file.png", &s) && s.code == E_FILE && strstr(s.text, "no/such/file.png"));
    s = (Status){0};
    check_true("a folder", !image_load(&m, &arena, "/", &s) && s.code == E_FILE);
}

int main(void)
{
    test_family("PNG, palette", png_palette, sizeof png_palette, true);
    test_family("PNG, 16 bits", png_sixteen, sizeof png_sixteen, true);
    test_family("JPEG, baseline", jpeg_baseline, sizeof jpeg_baseline, false);
    test_family("JPEG, progressive", jpeg_progressive, sizeof jpeg_progressive, false);
    test_tables();
    test_jpeg_structure();
    test_png_lies();
    test_other_kinds();
    check_below("slowest picture, in seconds", slowest, 1);                  /* mutated sizes stay below 8192 a side; measured 0.02 */
    arena_free(&arena);
    return check_done();
}
