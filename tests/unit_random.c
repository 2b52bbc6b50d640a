/* unit_random.c -- random numbers against what PyTorch 2.13 (x86, AVX2 or AVX-512) returned, bit for bit.  Long draws
 * are compared by a hash (FNV-1a over the bytes, low byte first) of their bit patterns. */
#include "tensor/random.h"
#include "tests/check.h"

static float room[16384];

static uint64_t hash_floats(uint64_t h, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        for (int b = 0; b < 32; b += 8) h = (h ^ (bits >> b & 255)) * 0x100000001b3u;
    }
    return h;
}
static const uint64_t EMPTY = 0xcbf29ce484222325u;

static void fresh_calls(void)
{
    static const struct { uint64_t seed; size_t n; uint64_t hash; } expected[] = {
        { 0, 1,              0x1877733c12d64cbcu }, { 0, 15,             0x52b8f3bcc098f4b9u }, { 0, 16,          0x28d49f8f92bf21d6u },
        { 0, 17,             0x9151e09be6bcf07au }, { 0, 100,            0x6b680134d3d69e1bu }, { 0, 16384,       0xdf763936577cac18u },
        { 42, 1,             0x339a81d29fc978d3u }, { 42, 15,            0x4c7fdcb26081ae6bu }, { 42, 16,         0x080ffa5fbeb15154u },
        { 42, 17,            0x91ae8bd790a50356u }, { 42, 100,           0x7ea02704af7a98a3u }, { 42, 256,        0x631e099571e21016u },
        { 42, 16384,         0xa6f589a085841b88u }, { 4294967338u, 100,  0x7ea02704af7a98a3u }, { UINT64_MAX, 1,  0x9b4a0a0b8016c1cdu },
        { UINT64_MAX, 15,    0xc620850571f7f360u }, { UINT64_MAX, 17,    0xc48ad8ea8d0160dcu }, { UINT64_MAX, 256, 0x25277dc2bef0556bu },
        { 659662259, 16384,  0x29f79f8c48e1b52eu },
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        Random g;
        char what[80];
        random_seed(&g, RANDOM_TORCH, expected[i].seed);
        random_normal(&g, expected[i].n, room);
        snprintf(what, sizeof what, "randn(%zu), seed %llu", expected[i].n, (unsigned long long)expected[i].seed);
        check_true(what, hash_floats(EMPTY, room, expected[i].n) == expected[i].hash);
    }
}

/* The leftover of an odd short call waits through long calls for the next short one. */
static void mixed_calls(void)
{
    static const size_t sizes[] = { 3, 20, 2, 5, 16, 1, 17, 4, 100, 7, 15, 256, 1 };
    uint64_t h = EMPTY;
    Random g;
    random_seed(&g, RANDOM_TORCH, 882709079);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        random_normal(&g, sizes[i], room);
        h = hash_floats(h, room, sizes[i]);
    }
    check_true("thirteen calls of one generator", h == 0x0338b58ae2484ef3u);
    random_normal(&g, 1, room);
    check_true("one short draw leaves the second of its pair", g.has_left);
    random_normal(&g, 16, room);
    check_true("a long call does not touch it", g.has_left);
    random_normal(&g, 1, room);
    check_true("the next short one uses it", !g.has_left);
    random_normal(&g, 1, room);
    random_seed(&g, RANDOM_TORCH, 1);
    check_true("seeding drops it", !g.has_left);
}

static void other_draws(void)
{
    static const struct { uint64_t high, value[3]; } integers[] = {
        { 1, { 0, 0, 0 } },
        { 3, { 0, 2, 1 } },
        { 1000, { 542, 67, 876 } },
        { (1u << 28) - 1, { 266460267, 199900607, 56755051 } },
        { 1u << 28, { 199900595, 250975502, 127521863 } },
        { 2147483659u, { 243355028, 1149848820, 755160192 } },
        { 1099511627777u, { 441501506519u, 395908887307u, 458602999891u } },
    };
    static const int64_t shuffled[12] = { 6, 8, 1, 7, 0, 2, 10, 11, 4, 3, 5, 9 };
    int64_t order[12];
    Random g;
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        char what[80];
        int ok = 1;
        random_seed(&g, RANDOM_TORCH, 42);
        for (int k = 0; k < 3; k++) ok &= random_below(&g, integers[i].high) == integers[i].value[k];
        snprintf(what, sizeof what, "randint(%llu)", (unsigned long long)integers[i].high);
        check_true(what, ok);
    }
    check_true("below zero there is only zero", random_below(&g, 0) == 0);
    random_seed(&g, RANDOM_TORCH, 42);
    random_permutation(&g, 12, order);
    check_true("randperm(12)", !memcmp(order, shuffled, sizeof order));
    random_seed(&g, RANDOM_TORCH, 42);
    random_uniform(&g, 1000, room);
    check_true("rand(1000)", hash_floats(EMPTY, room, 1000) == 0x9a09202fcef2a2b8u);
    random_seed(&g, RANDOM_TORCH, 42);
    check_true("first output of mt19937", random_u32(&g) == 1608637542u);
    check_true("64 bits: the first draw is the high half", random_u64(&g) == ((uint64_t)3421126067u << 32 | 4083286876u));
}

/* Double precision goes through the libm: 4e-16 is one unit in the last place of numbers below 2. */
static void doubles(void)
{
    static const struct { int at; double value; } expected[] = {
        { 0, 0.2995562877502637 }, { 8, 0.17347640142361004 }, { 15, -1.4920727283504345 }, { 16, 0.4212009947066779 }, { 32, -1.990778610968323 },
    };
    double out[33];
    Random g;
    random_seed(&g, RANDOM_TORCH, 42);
    random_normal64(&g, 33, out);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        check_below("randn(33) in double", fabs(out[expected[i].at] - expected[i].value), 5e-16);
    random_seed(&g, RANDOM_TORCH, 7);
    random_normal64(&g, 5, out);
    random_seed(&g, RANDOM_TORCH, 7);
    random_normal(&g, 5, room);
    int same = 1;
    for (int i = 0; i < 5; i++) same &= (float)out[i] == room[i];
    check_true("short calls of both widths share one stream", same);
}

/* Published numbers of a CUDA device, seed 0, given to 8 digits. */
static void philox(void)
{
    static const double known[12] = { -0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709,
                                      -1.07454231, -0.36314407, -1.67105067, 2.26550497 };
    double worst = 0;
    Random g;
    random_seed(&g, RANDOM_PHILOX, 0);
    random_normal(&g, 12, room);
    for (int i = 0; i < 12; i++) worst = fmax(worst, fabs((double)room[i] - known[i]));
    check_below("philox, seed 0", worst, 3e-7);           /* measured 1.05e-7: half a float near 2.6 */
    float first = room[0];
    random_normal(&g, 12, room);
    check_true("the next call gives other numbers", room[0] != first);
    random_seed(&g, RANDOM_PHILOX, (uint64_t)1 << 32);
    random_normal(&g, 12, room);
    check_true("the high half of the seed matters", room[0] != first);
}

int main(void)
{
    fresh_calls();
    mixed_calls();
    other_draws();
    doubles();
    philox();
    return check_done();
}
