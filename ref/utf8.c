#include "ref/utf8.h"

int32_t utf8_next(const char **p)
{
    static const int32_t least[4] = { 0, 0x80, 0x800, 0x10000 };
    const uint8_t *b = (const uint8_t *)*p;
    int more = b[0] < 0x80 ? 0 : b[0] >> 5 == 6 ? 1 : b[0] >> 4 == 14 ? 2 : b[0] >> 3 == 30 ? 3 : -1;
    if (more < 0) return -1;
    int32_t c = more ? b[0] & (0x3f >> more) : b[0];
    for (int i = 1; i <= more; i++) {
        if (b[i] >> 6 != 2) return -1;
        c = c << 6 | (b[i] & 0x3f);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return -1;
    *p += b[0] ? 1 + more : 0;
    return c;
}
