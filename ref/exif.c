#include <string.h>
#include "ref/exif.h"

static uint32_t number(const uint8_t *p, int bytes, bool little)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint32_t)p[i] << 8 * (little ? i : bytes - 1 - i);
    return v;
}

bool exif_turns(const uint8_t *tiff, size_t size)
{
    enum { ENTRY = 12, ORIENTATION = 0x0112 };
    if (size < 8 || (memcmp(tiff, "II*\0", 4) && memcmp(tiff, "MM\0*", 4))) return false;
    bool little = tiff[0] == 'I';
    size_t at = number(tiff + 4, 4, little);
    if (at > size - 2) return false;
    size_t entries = number(tiff + at, 2, little);
    at += 2;
    for (; entries-- > 0 && size - at >= ENTRY; at += ENTRY)
        if (number(tiff + at, 2, little) == ORIENTATION) return number(tiff + at + 8, 2, little) != 1;
    return false;
}
