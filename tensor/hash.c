#include <stdio.h>
#include <string.h>
#include "tensor/hash.h"

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* One round of FIPS 180-4, section 6.2.2: instead of moving a..h along, the caller names them one further each time. */
static inline void turn_once(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f, uint32_t g, uint32_t *h, uint32_t kw)
{
    uint32_t t = *h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + kw;
    *d += t;
    *h = t + (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
}

static void mix(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) + (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
    for (int i = 0; i < 64; i += 8) {
        turn_once(a, b, c, &d, e, f, g, &h, ROUND[i]     + w[i]);
        turn_once(h, a, b, &c, d, e, f, &g, ROUND[i + 1] + w[i + 1]);
        turn_once(g, h, a, &b, c, d, e, &f, ROUND[i + 2] + w[i + 2]);
        turn_once(f, g, h, &a, b, c, d, &e, ROUND[i + 3] + w[i + 3]);
        turn_once(e, f, g, &h, a, b, c, &d, ROUND[i + 4] + w[i + 4]);
        turn_once(d, e, f, &g, h, a, b, &c, ROUND[i + 5] + w[i + 5]);
        turn_once(c, d, e, &f, g, h, a, &b, ROUND[i + 6] + w[i + 6]);
        turn_once(b, c, d, &e, f, g, h, &a, ROUND[i + 7] + w[i + 7]);
    }
    const uint32_t add[8] = { a, b, c, d, e, f, g, h };
    for (int i = 0; i < 8; i++) state[i] += add[i];
}

void sha256_begin(Sha256 *s)
{
    *s = (Sha256){ .h = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 } };
}

void sha256_add(Sha256 *s, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    size_t held = (size_t)(s->bytes % 64);
    s->bytes += n;
    if (held && held + n >= 64) {
        memcpy(s->block + held, p, 64 - held);
        mix(s->h, s->block);
        p += 64 - held;
        n -= 64 - held;
        held = 0;
    }
    for (; n >= 64; p += 64, n -= 64) mix(s->h, p);
    if (n) memcpy(s->block + held, p, n);
}

void sha256_end(Sha256 *s, char hex[65])
{
    uint64_t bits = s->bytes * 8;
    uint8_t tail[72] = { 0x80 };
    size_t pad = 1 + (119 - (size_t)(s->bytes % 64)) % 64;
    for (int i = 0; i < 8; i++) tail[pad + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(s, tail, pad + 8);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", s->h[i]);
}

/* Four bits at a time: the remainders of x^32 .. times the reflected polynomial 0xEDB88320. */
static const uint32_t NIBBLE[16] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c
};

/* Eight bytes at a time (Kounavis, Berry 2005) through tables made here, which take 3 us: 2.3 GB/s beside 0.22 GB/s below. */
static uint32_t crc32_long(uint32_t c, const uint8_t *p, size_t eights)
{
    uint32_t t[8][256];
    for (uint32_t i = 0; i < 256; i++) {
        t[0][i] = NIBBLE[i & 15] ^ i >> 4;
        t[0][i] = NIBBLE[t[0][i] & 15] ^ t[0][i] >> 4;
    }
    for (int k = 1; k < 8; k++)
        for (int i = 0; i < 256; i++) t[k][i] = t[0][t[k - 1][i] & 255] ^ t[k - 1][i] >> 8;
    for (; eights > 0; eights--, p += 8) {
        c ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        c = t[7][c & 255] ^ t[6][c >> 8 & 255] ^ t[5][c >> 16 & 255] ^ t[4][c >> 24] ^ t[3][p[4]] ^ t[2][p[5]] ^ t[1][p[6]] ^ t[0][p[7]];
    }
    return c;
}

uint32_t crc32_of(uint32_t before, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint32_t c = ~before;
    if (n >= 4096) {
        c = crc32_long(c, p, n / 8);
        p += n / 8 * 8;
        n %= 8;
    }
    for (size_t i = 0; i < n; i++) {
        c = NIBBLE[(c ^ p[i]) & 15] ^ c >> 4;
        c = NIBBLE[(c ^ p[i] >> 4) & 15] ^ c >> 4;
    }
    return ~c;
}
