#include "nn/tokenizer_unicode.h"
#include "nn/tokenizer_table.h"

enum { MOST_PARTS = 4 };                                  /* of one character, fully decomposed: e.g. U+1F82 */

#define ROWS(t) ((int)(sizeof (t) / sizeof *(t)))

/* Hangul syllables: S = (L, V, T) is arithmetic (Unicode, section 3.12). */
enum { S0 = 0xAC00, L0 = 0x1100, V0 = 0x1161, T0 = 0x11A7, LS = 19, VS = 21, TS = 28, SS = LS * VS * TS };

int unicode_read(const char *bytes, size_t length, uint32_t *code)
{
    const unsigned char *b = (const unsigned char *)bytes;
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (!length) return 0;
    int n = b[0] < 0x80 ? 1 : b[0] < 0xC0 ? 0 : b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : b[0] < 0xF8 ? 4 : 0;
    if (!n || (size_t)n > length) return 0;
    uint32_t c = n == 1 ? b[0] : b[0] & (0xFFu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((b[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (b[i] & 0x3F);
    }
    if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return 0;
    *code = c;
    return n;
}

int unicode_write(char to[4], uint32_t c)
{
    static const uint32_t most[3] = { 0x7F, 0x7FF, 0xFFFF };
    static const unsigned char lead[4] = { 0, 0xC0, 0xE0, 0xF0 };
    int n = 1;
    while (n < 4 && c > most[n - 1]) n++;
    for (int i = n; i-- > 1; c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)(lead[n - 1] | c);
    return n;
}

static bool in_ranges(const uint32_t (*t)[2], int rows, uint32_t c)
{
    int low = 0, high = rows;
    while (low < high) {
        int mid = (low + high) / 2;
        if (c > t[mid][1]) low = mid + 1;
        else high = mid;
    }
    return low < rows && c >= t[low][0];
}

CharClass unicode_class(uint32_t c)
{
    if (in_ranges(letter, ROWS(letter), c)) return CHAR_LETTER;
    if (in_ranges(number, ROWS(number), c)) return CHAR_NUMBER;
    return in_ranges(space, ROWS(space), c) ? CHAR_SPACE : CHAR_OTHER;
}

int unicode_lower(uint32_t c, uint32_t to[2])
{
    to[0] = c;
    if (c == 0x130) {                                     /* capital i with dot above: the dot stays, as a mark */
        to[0] = 'i';
        to[1] = 0x307;
        return 2;
    }
    int low = 0, high = ROWS(lower);
    while (low < high) {
        int mid = (low + high) / 2;
        if (c > lower[mid].to) low = mid + 1;
        else high = mid;
    }
    if (low < ROWS(lower) && c >= lower[low].from && (c - lower[low].from) % (uint32_t)lower[low].step == 0)
        to[0] = (uint32_t)((int32_t)c + lower[low].add);
    return 1;
}

static int combining_class(uint32_t c)
{
    int low = 0, high = ROWS(combining);
    while (low < high) {
        int mid = (low + high) / 2;
        if (c > combining[mid][1]) low = mid + 1;
        else high = mid;
    }
    return low < ROWS(combining) && c >= combining[low][0] ? (int)combining[low][2] : 0;
}

static const uint32_t *decomposed(uint32_t c)
{
    int low = 0, high = ROWS(decomposition);
    while (low < high) {
        int mid = (low + high) / 2;
        if (c > decomposition[mid][0]) low = mid + 1;
        else high = mid;
    }
    return low < ROWS(decomposition) && decomposition[low][0] == c ? decomposition[low] : NULL;
}

static uint32_t composed(uint32_t a, uint32_t b)          /* 0: the two do not join */
{
    if (a >= L0 && a < L0 + LS && b >= V0 && b < V0 + VS) return S0 + ((a - L0) * VS + (b - V0)) * TS;
    if (a >= S0 && a < S0 + SS && (a - S0) % TS == 0 && b > T0 && b < T0 + TS) return a + (b - T0);
    int low = 0, high = ROWS(composition);
    while (low < high) {
        int mid = (low + high) / 2;
        const uint32_t *d = decomposition[composition[mid]];
        if (a > d[1] || (a == d[1] && b > d[2])) low = mid + 1;
        else high = mid;
    }
    const uint32_t *d = low < ROWS(composition) ? decomposition[composition[low]] : NULL;
    return d && d[1] == a && d[2] == b ? d[0] : 0;
}

static int decompose(Char *out, Char c)
{
    if (c.code >= S0 && c.code < S0 + SS) {
        uint32_t s = c.code - S0, t = s % TS;
        out[0] = (Char){ L0 + s / (VS * TS), c.from, c.to };
        out[1] = (Char){ V0 + s % (VS * TS) / TS, c.from, c.to };
        if (t) out[2] = (Char){ T0 + t, c.from, c.to };
        return t ? 3 : 2;
    }
    uint32_t tail[MOST_PARTS];
    int tails = 0, n = 0;
    for (const uint32_t *d; tails < MOST_PARTS - 1 && (d = decomposed(c.code)); c.code = d[1])
        if (d[2]) tail[tails++] = d[2];                   /* only the first part ever decomposes further */
    out[n++] = c;
    while (tails) out[n++] = (Char){ tail[--tails], c.from, c.to };
    return n;
}

/* Marks between two starters, stably by class; counting, since a run may be the whole prompt. */
static void order_marks(Char *c, int n, Char *work)
{
    int start[257] = {0};
    for (int i = 0; i < n; i++) start[combining_class(c[i].code) + 1]++;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    for (int i = 0; i < n; i++) work[start[combining_class(c[i].code)]++] = c[i];
    for (int i = 0; i < n; i++) c[i] = work[i];
}

int unicode_room(const Char *c, int n)
{
    int i = 0, room = 0;
    while (i < n && c[i].code < 0x300) i++;               /* below U+0300 everything is composed already */
    Char parts[MOST_PARTS];
    for (int k = 0; i < n && k < n; k++) room += decompose(parts, c[k]);
    return room;
}

int unicode_compose(Char *out, Char *work, const Char *c, int n)
{
    int total = 0, starter = -1, before = 0, m = 0;
    for (int i = 0; i < n; i++) total += decompose(work + total, c[i]);
    for (int i = 0; i < total; i++) {
        int first = i;
        while (i < total && combining_class(work[i].code)) i++;
        if (i - first > 1) order_marks(work + first, i - first, out);
    }
    for (int i = 0; i < total; i++) {
        int k = combining_class(work[i].code);
        bool open = starter >= 0 && (m == starter + 1 || (k && before < k));        /* nothing in between blocks it */
        uint32_t joined = open ? composed(out[starter].code, work[i].code) : 0;
        if (joined) {
            out[starter].code = joined;
            if (work[i].from < out[starter].from) out[starter].from = work[i].from;
            if (work[i].to > out[starter].to) out[starter].to = work[i].to;
            continue;
        }
        if (!k) starter = m;
        before = k;
        out[m++] = work[i];
    }
    return m;
}
