#include <string.h>
#include "ref/exif.h"
#include "ref/jpeg_check.h"

enum { SOI = 0xd8, EOI = 0xd9, SOS = 0xda, DHT = 0xc4, RST0 = 0xd0, RST7 = 0xd7, APP0 = 0xe0, APP1 = 0xe1, APP14 = 0xee, APP15 = 0xef,
       COM = 0xfe, CODES = 256 };

bool jpeg_begins(const uint8_t *bytes, size_t size) { return size >= 3 && bytes[0] == 0xff && bytes[1] == SOI && bytes[2] == 0xff; }

static int byte_at(const uint8_t *bytes, size_t size, size_t at) { return at < size ? bytes[at] : 0; }

/* The tables of one DHT segment, walked as the decoder walks them: until the length is used up. */
static bool tables_at(const uint8_t *bytes, size_t size, size_t at)
{
    int left = (byte_at(bytes, size, at) << 8 | byte_at(bytes, size, at + 1)) - 2;
    for (at += 2; left > 0; ) {
        int codes = 0;
        for (size_t i = 1; i <= 16; i++) codes += byte_at(bytes, size, at + i);
        if (codes > CODES) return false;
        at += 17 + (size_t)codes;
        left -= 17 + codes;
    }
    return true;
}

bool jpeg_tables_fit(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i + 1 < size; i++)
        if (bytes[i] == 0xff && bytes[i + 1] == DHT && !tables_at(bytes, size, i + 2)) return false;
    return true;
}

/* From entropy-coded data to the 0xff of the next marker that is neither stuffing, fill nor a restart. */
static size_t next_marker(const uint8_t *bytes, size_t size, size_t at)
{
    for (; at + 1 < size; at++)
        if (bytes[at] == 0xff && bytes[at + 1] && bytes[at + 1] != 0xff && !(bytes[at + 1] >= RST0 && bytes[at + 1] <= RST7)) return at;
    return size;
}

static bool skipped_by_decoder(int marker) { return (marker > APP0 && marker <= APP15 && marker != APP14) || marker == COM; }

/* Length of the segment whose marker stands at `at`, marker included; 0 when it does not fit into the file. */
static size_t segment(const uint8_t *bytes, size_t size, size_t at)
{
    size_t length = size - at >= 4 ? (size_t)bytes[at + 2] << 8 | bytes[at + 3] : 0;
    return length >= 2 && length <= size - at - 2 ? length + 2 : 0;
}

static bool has_orientation(const uint8_t *segment_bytes, size_t size)
{
    return segment_bytes[1] == APP1 && size > 10 && !memcmp(segment_bytes + 4, "Exif\0\0", 6) && exif_turns(segment_bytes + 10, size - 10);
}

/* Copy what the decoder needs; the number of bytes, or 0 with *broken at the place that is malformed. */
static size_t reduce(uint8_t *to, const uint8_t *bytes, size_t size, bool *rotated, size_t *broken)
{
    size_t n = 2, at = 2;
    memcpy(to, bytes, 2);
    for (;;) {
        while (at + 1 < size && bytes[at] == 0xff && bytes[at + 1] == 0xff) at++;       /* fill */
        *broken = at;
        if (at + 1 >= size || bytes[at] != 0xff) return 0;
        int marker = bytes[at + 1];
        if (marker == EOI) {
            memcpy(to + n, bytes + at, 2);
            return n + 2;
        }
        size_t length = marker >= 0xc0 && !(marker >= RST0 && marker <= SOI) ? segment(bytes, size, at) : 0;
        if (!length) return 0;
        if (has_orientation(bytes + at, length)) *rotated = true;
        if (!skipped_by_decoder(marker)) {
            if (marker == SOS) length = next_marker(bytes, size, at + length) - at;
            memcpy(to + n, bytes + at, length);
            n += length;
        }
        at += length;
    }
}

uint8_t *jpeg_check(Arena *a, const uint8_t *bytes, size_t size, const char *name, size_t *kept, bool *rotated, Status *s)
{
    uint8_t *to = arena_take(a, size);
    size_t broken = 0;
    int scans = 0;
    *rotated = false;
    if (!to) {
        status_fail(s, E_MEMORY, "%s: out of memory: %zu bytes for a picture", name, size);
        return NULL;
    }
    *kept = reduce(to, bytes, size, rotated, &broken);
    for (size_t i = 0; i + 1 < *kept; i++) scans += to[i] == 0xff && to[i + 1] == SOS;
    if (!*kept && broken + 1 >= size) status_fail(s, E_FORMAT, "%s: the JPEG data end at byte %zu, before the end of the picture", name, size);
    else if (!*kept) status_fail(s, E_FORMAT, "%s: malformed JPEG segment at byte %zu", name, broken);
    else if (!scans) status_fail(s, E_FORMAT, "%s: a JPEG file without a picture", name);
    else if (scans > JPEG_SCANS) status_fail(s, E_FORMAT, "%s: %d JPEG scans, at most %d are accepted", name, scans, JPEG_SCANS);
    else if (!jpeg_tables_fit(to, *kept)) status_fail(s, E_FORMAT, "%s: a JPEG Huffman table of more than %d codes", name, CODES);
    return s->code == OK ? to : NULL;
}
