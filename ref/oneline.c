#include "ref/oneline.h"

const char *oneline(char *to, size_t room, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t n = 0;
    while (*p && n + 1 < room) {
        int c1 = p[0] == 0xC2 && p[1] >= 0x80 && p[1] < 0xA0;             /* U+0080 to U+009F in UTF-8 */
        to[n++] = *p < 32 || *p == 127 || c1 ? '?' : (char)*p;
        p += 1 + c1;
    }
    while (*p && n && ((unsigned char)to[n - 1] & 0xC0) == 0x80) n--;     /* cut: not inside a character */
    if (*p && n && (unsigned char)to[n - 1] >= 0xC0) n--;
    to[n] = 0;
    return to;
}
