/* hostile_files.c -- safetensors and JSON made to hurt: each loads or is refused with a clean error, never more.
 * Meant to run under address and undefined-behaviour checkers too. */
#include <time.h>
#include "tensor/json.h"
#include "tests/check.h"
#include "tests/files.h"

enum { ROOM = 1 << 16, SMALL = 1 << 19 };                    /* below 1 MiB an arena takes what it needs, not a block: quick */

static double busy_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }        /* of this process: others do not count */

/* Opens a file of these bytes.  OK: what was loaded keeps every promise of the header, and every tensor can be read.
 * Otherwise the status says why, naming the file, and nothing is held. */
static Code outcome(const unsigned char *bytes, size_t n, char *why, size_t limit)
{
    Arena a = { .limit = limit, .poison = true };
    Status s = {0};
    Safetensors f;
    put_bytes(at("hostile"), bytes, n);
    bool ok = safetensors_open(&f, &a, at("hostile"), &s);
    snprintf(why, sizeof s.text, "%s", s.text);
    if (ok != (s.code == OK) || (!ok && (!strstr(s.text, "hostile") || a.used || f.entries || f.file.fd > 0))) s.code = E_STOP;
    uint64_t bytes_held = 0;
    for (int i = 0; ok && i < f.entries; i++) {
        const SafeEntry *e = &f.entry[i];
        uint64_t size = e->count * dtype_size(e->type);
        static real x[ROOM];
        static int64_t v[ROOM];
        bytes_held += size;
        if (e->offset > n || size > n - e->offset || e->count > ROOM || safetensors_find(&f, e->name) != e) s.code = E_STOP;
        else if (e->type <= T_BF16 ? !safetensors_read(&f, e, x, &s) : !safetensors_read_i64(&f, e, v, &s)) s.code = E_STOP;
    }
    if (ok && (n < 10 || bytes_held > n - 10)) s.code = E_STOP;
    if (ok) safetensors_close(&f);
    arena_free(&a);
    return s.code;
}

static void file_is(const char *what, const char *header, size_t length, uint64_t stated, size_t data, int accept)
{
    unsigned char *b = malloc(length + data + 8);
    char why[480];
    Code c = outcome(b, safetensors_image(b, header, length, stated, data), why, 0);
    check_line(what, c ? why : "accepted", c == (accept ? OK : E_FORMAT));
    free(b);
}

#define GOOD(what, header, data) file_is(what, header, sizeof(header) - 1, sizeof(header) - 1, data, 1)
#define BAD(what, header, data)  file_is(what, header, sizeof(header) - 1, sizeof(header) - 1, data, 0)
#define ENTRY(type, shape, range) "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" range "}"
#define ONE(type, shape, range)   "{\"a\":" ENTRY(type, shape, range) "}"

static void headers(void)
{
    GOOD("nothing in it",              "{}", 0);
    GOOD("one tensor",                 ONE("F32", "[2,2]", "[0,16]"), 16);
    GOOD("blanks between",             "{ \"a\" : { \"shape\" :[ 2 ] ,\"data_offsets\":[0, 8],\t\"dtype\":\"F32\"}\n}   ", 8);
    GOOD("a scalar",                   ONE("I64", "[]", "[0,8]"), 8);
    GOOD("a size of 0",                ONE("F32", "[0]", "[0,0]"), 0);
    GOOD("0 before sizes that would overflow", ONE("F32", "[0,4294967296,4294967296]", "[0,0]"), 0);
    GOOD("empty between two",          "{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[0]", "[2,2]") ",\"c\":" ENTRY("U8", "[2]", "[2,4]") "}", 4);
    GOOD("empty before the first",     "{\"z\":" ENTRY("U8", "[0]", "[0,0]") ",\"a\":" ENTRY("U8", "[2]", "[0,2]") "}", 2);
    GOOD("rank 8",                     ONE("U8", "[1,1,1,1,1,1,1,2]", "[0,2]"), 2);
    GOOD("metadata",                   "{\"__metadata__\":{\"\":\"\",\"x\":\"y\"}}", 0);
    GOOD("an empty name",              "{\"\":" ENTRY("U8", "[1]", "[0,1]") "}", 1);
    BAD("nothing at all",              "", 0);
    BAD("one byte of header",          "{", 0);
    BAD("blanks only",                 "    ", 0);
    BAD("blank first",                 " {}", 0);
    BAD("byte order mark",             "\xEF\xBB\xBF{}", 0);
    BAD("new line after it",           "{}\n", 0);
    BAD("NUL after it",                "{}\0", 0);
    BAD("two objects",                 "{}{}", 0);
    BAD("an array",                    "[]", 0);
    BAD("a number",                    "12", 0);
    BAD("no closing brace",            "{\"a\":1", 0);
    BAD("cut in a string",             "{\"a}", 0);
    BAD("entry is a number",           "{\"a\":1}", 0);
    BAD("entry is an array",           "{\"a\":[]}", 0);
    BAD("entry is null",               "{\"a\":null}", 0);
    BAD("empty entry",                 "{\"a\":{}}", 0);
    BAD("no dtype",                    "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    BAD("no shape",                    "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4);
    BAD("no data_offsets",             "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4);
    BAD("one field more",              "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4);
    BAD("a field twice",               "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"shape\":[1]}}", 4);
    BAD("a field twice, spelled otherwise", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"\\u0073hape\":[1]}}", 4);
    BAD("dtype is a number",           "{\"a\":{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    BAD("dtype in small letters",      ONE("f32", "[1]", "[0,4]"), 4);
    BAD("dtype with a blank",          ONE("F32 ", "[1]", "[0,4]"), 4);
    BAD("dtype with a NUL",            ONE("F32\\u0000", "[1]", "[0,4]"), 4);
    BAD("dtype empty",                 ONE("", "[1]", "[0,4]"), 4);
    BAD("a dtype of 8-bit floats",     ONE("F8_E4M3", "[4]", "[0,4]"), 4);
    BAD("a complex dtype",             ONE("C64", "[1]", "[0,8]"), 8);
    BAD("shape is a number",           ONE("F32", "1", "[0,4]"), 4);
    BAD("shape is an object",          ONE("F32", "{\"0\":1}", "[0,4]"), 4);
    BAD("size is a string",            ONE("F32", "[\"1\"]", "[0,4]"), 4);
    BAD("size is null",                ONE("F32", "[null]", "[0,4]"), 4);
    BAD("size is negative",            ONE("F32", "[-1]", "[0,4]"), 4);
    BAD("size is -0",                  ONE("F32", "[-0]", "[0,0]"), 0);
    BAD("size with a fraction",        ONE("F32", "[1.0]", "[0,4]"), 4);
    BAD("size with an exponent",       ONE("F32", "[1e0]", "[0,4]"), 4);
    BAD("size with a huge exponent",   ONE("F32", "[1e999999999]", "[0,4]"), 4);
    BAD("size of 2^64",                ONE("F32", "[18446744073709551616]", "[0,0]"), 0);
    BAD("size of forty digits",        ONE("F32", "[1111111111111111111111111111111111111111]", "[0,4]"), 4);
    BAD("size is an array",            ONE("F32", "[[1]]", "[0,4]"), 4);
    BAD("rank 9",                      ONE("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1);
    BAD("[2^32,2^32] wraps to 0",      ONE("F32", "[4294967296,4294967296]", "[0,0]"), 0);
    BAD("[2^33,2^33,0] wraps on the way", ONE("F32", "[8589934592,8589934592,0]", "[0,0]"), 0);
    BAD("[2^63,2] wraps to 0",         ONE("U8", "[9223372036854775808,2]", "[0,0]"), 0);
    BAD("2^62 floats wrap to 0 bytes", ONE("F32", "[4611686018427387904]", "[0,0]"), 0);
    BAD("2^62+1 floats wrap to 4 bytes", ONE("F32", "[4611686018427387905]", "[0,4]"), 4);
    BAD("2^61 doubles wrap to 0 bytes", ONE("F64", "[2305843009213693952]", "[0,0]"), 0);
    BAD("2^64-1 bytes",                ONE("U8", "[18446744073709551615]", "[0,18446744073709551615]"), 4);
    BAD("begin near 2^64",             ONE("U8", "[1]", "[18446744073709551615,0]"), 1);
    BAD("begin and end near 2^64",     ONE("U8", "[1]", "[18446744073709551614,18446744073709551615]"), 1);
    BAD("begin and end at 2^63",       ONE("U8", "[1]", "[9223372036854775808,9223372036854775809]"), 1);
    BAD("begin after end",             ONE("U8", "[4]", "[4,0]"), 4);
    BAD("one offset",                  ONE("U8", "[4]", "[4]"), 4);
    BAD("three offsets",               ONE("U8", "[4]", "[0,4,4]"), 4);
    BAD("offsets are strings",         ONE("U8", "[4]", "[\"0\",\"4\"]"), 4);
    BAD("offsets with a fraction",     ONE("U8", "[4]", "[0.0,4]"), 4);
    BAD("offsets negative",            ONE("U8", "[4]", "[-4,0]"), 4);
    BAD("offsets an object",           ONE("U8", "[4]", "{\"0\":0,\"1\":4}"), 4);
    BAD("a byte too few stated",       ONE("F32", "[1]", "[0,3]"), 3);
    BAD("a byte too many stated",      ONE("F32", "[1]", "[0,5]"), 5);
    BAD("data shorter than stated",    ONE("F32", "[1]", "[0,4]"), 3);
    BAD("data longer than stated",     ONE("F32", "[1]", "[0,4]"), 5);
    BAD("data without a tensor",       "{}", 1);
    BAD("a hole before",               ONE("U8", "[4]", "[1,5]"), 5);
    BAD("a hole between",              "{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"b\":" ENTRY("U8", "[2]", "[3,5]") "}", 5);
    BAD("overlap by one",              "{\"a\":" ENTRY("U8", "[3]", "[0,3]") ",\"b\":" ENTRY("U8", "[2]", "[2,4]") "}", 4);
    BAD("one inside another",          "{\"a\":" ENTRY("U8", "[4]", "[0,4]") ",\"b\":" ENTRY("U8", "[2]", "[1,3]") "}", 4);
    BAD("two of the same data",        "{\"a\":" ENTRY("U8", "[4]", "[0,4]") ",\"b\":" ENTRY("U8", "[4]", "[0,4]") "}", 4);
    BAD("an empty one inside another", "{\"a\":" ENTRY("U8", "[4]", "[0,4]") ",\"b\":" ENTRY("U8", "[0]", "[2,2]") "}", 4);
    BAD("an empty one past the end",   "{\"a\":" ENTRY("U8", "[4]", "[0,4]") ",\"b\":" ENTRY("U8", "[0]", "[5,5]") "}", 4);
    BAD("one name twice",              "{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"a\":" ENTRY("U8", "[1]", "[1,2]") "}", 2);
    BAD("one name twice, escaped",     "{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"\\u0061\":" ENTRY("U8", "[1]", "[1,2]") "}", 2);
    BAD("a NUL in a name",             "{\"a\\u0000b\":" ENTRY("U8", "[1]", "[0,1]") "}", 1);
    BAD("a NUL after __metadata__",    "{\"__metadata__\\u0000\":" ENTRY("U8", "[1]", "[0,1]") "}", 1);
    BAD("names that differ after a NUL", "{\"a\\u0000b\":" ENTRY("U8", "[1]", "[0,1]") ",\"a\\u0000c\":" ENTRY("U8", "[1]", "[1,2]") "}", 2);
    BAD("a lone surrogate in a name",  "{\"\\ud800\":" ENTRY("U8", "[1]", "[0,1]") "}", 1);
    BAD("invalid UTF-8 in a name",     "{\"\xC3\x28\":" ENTRY("U8", "[1]", "[0,1]") "}", 1);
    BAD("a surrogate in UTF-8",        "{\"\xED\xA0\x80\":" ENTRY("U8", "[1]", "[0,1]") "}", 1);
    BAD("a control byte in a name",    "{\"\x1b[2J\":" ENTRY("U8", "[1]", "[0,1]") "}", 1);
    BAD("metadata is an array",        "{\"__metadata__\":[]}", 0);
    BAD("metadata is a string",        "{\"__metadata__\":\"x\"}", 0);
    BAD("metadata of a number",        "{\"__metadata__\":{\"a\":1}}", 0);
    BAD("metadata of null",            "{\"__metadata__\":{\"a\":null}}", 0);
    BAD("metadata of an object",       "{\"__metadata__\":{\"a\":{}}}", 0);
    BAD("metadata twice",              "{\"__metadata__\":{},\"__metadata__\":{}}", 0);
    BAD("metadata key twice",          "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0);
    BAD("metadata with a NUL",         "{\"__metadata__\":{\"a\":\"x\\u0000y\"}}", 0);
    BAD("nested 9 deep",               "{\"a\":{\"b\":[[[[[[[1]]]]]]]}}", 0);
    BAD("a comment",                   "{/**/}", 0);
    BAD("a comma at the end",          "{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",}", 1);
}

static void stated_lengths(void)                          /* the first eight bytes lie */
{
    static const uint64_t n[] = { 0, 1, 3, 61, 100000000, 100000001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, 0x7FFFFFFFFFFFFFFF,
                                  0x8000000000000000, 0xFFFFFFFFFFFFFFF7, 0xFFFFFFFFFFFFFFF8, 0xFFFFFFFFFFFFFFFF };
    static const char header[] = ONE("F32", "[1]", "[0,4]");
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) file_is("a false length", header, sizeof header - 1, n[i], 4, 0);
    for (size_t k = 0; k < 8; k++) {                      /* files of 0 to 7 bytes */
        char why[480];
        check_line("fewer than 8 bytes", why, outcome((const unsigned char *)"\2\0\0\0\0\0\0", k, why, 0) == E_FORMAT);
    }
}

static char *repeated(char *to, const char *piece, size_t times)
{
    size_t n = strlen(piece);
    for (size_t i = 0; i < times; i++, to += n) memcpy(to, piece, n);
    return to;
}

static void big_headers(void)
{
    char *h = malloc(24 << 20), *p;
    for (int n = 1023; n < 1027; n++) {
        p = h + sprintf(h, "{\"");
        p = repeated(p, "n", (size_t)n);
        p += sprintf(p, "\":" ENTRY("U8", "[1]", "[0,1]") "}");
        file_is("a name of 1023 to 1026 bytes", h, (size_t)(p - h), (uint64_t)(p - h), 1, n <= 1024);
    }
    for (int n = 199999; n < 202000; n += 1001) {         /* 199 999, and 201 000 */
        p = h;
        for (int i = 0; i < n; i++) p += sprintf(p, "%c\"%x\":" ENTRY("U8", "[1]", "[%d,%d]"), i ? ',' : '{', i * 7919 % 1000003, i, i + 1);
        *p++ = '}';
        double start = busy_seconds();
        file_is("two hundred thousand tensors", h, (size_t)(p - h), (uint64_t)(p - h), (size_t)n, n <= 200000);
        check_below("in seconds", busy_seconds() - start, 10); /* 0.6 here, reading each included; 4 under sanitizers */
    }
    p = repeated(repeated(h, "{\"a\":", 4000000), "}", 1);
    file_is("four million nested objects", h, (size_t)(p - h), (uint64_t)(p - h), 0, 0);
    p = repeated(h + sprintf(h, "{\"a\":["), "1,", 8000000);
    p += sprintf(p, "1]}");
    file_is("eight million sizes", h, (size_t)(p - h), (uint64_t)(p - h), 0, 0);
    p = repeated(h, "{", 1);
    p = repeated(p, " ", 20 << 20);
    *p++ = '}';
    file_is("twenty megabytes of blanks", h, (size_t)(p - h), (uint64_t)(p - h), 0, 1);
    free(h);
}

/* A name may hold any character, an error text no control character: it is printed on terminals. */
static void loud_names(void)
{
    static const char header[] = "{\"\\u001b]0;x\\u0007\\u009b2J\\u007f\\n\\u00e9\":" ENTRY("U8", "[2]", "[0,1]") "}";
    unsigned char b[256];
    char why[480];
    size_t n = safetensors_image(b, header, sizeof header - 1, sizeof header - 1, 1);
    Code c = outcome(b, n, why, SMALL);
    check_line("a name that would steer a terminal", why, c == E_FORMAT && strstr(why, "\"?]0;x???2J??\xC3\xA9\""));
}

/* ---- every truncation, every bit, many mutations ------------------------------------------------------- */

static const char SAMPLE[] = "{\"__metadata__\":{\"format\":\"pt\"},\"conv.weight\":" ENTRY("F16", "[2,3,1,1]", "[0,12]") ",\"caf\\u00e9\":" ENTRY("F32", "[]", "[12,16]")
    ",\"ids\":" ENTRY("I64", "[1,2]", "[16,32]") ",\"none\":" ENTRY("BF16", "[0,7]", "[32,32]") ",\"wide\":" ENTRY("F64", "[3]", "[32,56]") "}   ";

static void truncations(void)
{
    unsigned char b[1024];
    char why[480] = "";
    size_t n = safetensors_image(b, SAMPLE, sizeof SAMPLE - 1, sizeof SAMPLE - 1, 56), refused = 0;
    check_line("the sample loads", why, outcome(b, n, why, SMALL) == OK);
    for (size_t k = 0; k < n; k++) refused += outcome(b, k, why, SMALL) == E_FORMAT;
    check_true("every truncation is refused", refused == n);
}

static void bits(void)
{
    unsigned char b[1024];
    char why[480] = "", detail[64];
    size_t n = safetensors_image(b, SAMPLE, sizeof SAMPLE - 1, sizeof SAMPLE - 1, 56);
    int loaded = 0, refused = 0, wrong = 0;
    for (size_t i = 0; i < (n - 56) * 8; i++) {
        b[i / 8] ^= (unsigned char)(1 << i % 8);
        Code c = outcome(b, n, why, SMALL);
        loaded += c == OK;
        refused += c == E_FORMAT;
        wrong += c != OK && c != E_FORMAT;
        b[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    snprintf(detail, sizeof detail, "%d loaded, %d refused", loaded, refused);
    check_line("every bit of the header", detail, !wrong && loaded > 100 && refused > 1000);   /* names may change, structure may not */
}

static size_t random_below(size_t n) { return (size_t)((check_uniform() + 1) / 2 * (double)n); }

/* Replace, insert, remove or repeat; pieces are those that mean something. */
static size_t mutated(unsigned char *b, size_t n, size_t room)
{
    static const char *const piece[] = { "\"", "{", "}", "[", "]", ",", ":", "\\u0000", "\\ud800", "\xFF", "-", "0", "9", "4294967296", "18446744073709551615", "1e9", ".5",
                                         "null", "true", "\"shape\":", "\"dtype\":\"F64\"", "\"data_offsets\":[0,0]", "\"a\":{}", "__metadata__", "F16", "I8", "[0,12]", " " };
    for (size_t times = 1 + random_below(3); times-- > 0; ) {
        size_t i = random_below(n), k = 1 + random_below(12);
        const char *p = piece[random_below(sizeof piece / sizeof *piece)];
        size_t m = strlen(p);
        switch (random_below(5)) {
        case 0: b[i] = (unsigned char)random_below(256); break;
        case 1: if (i + m <= n) memcpy(b + i, p, m); break;
        case 2:
            if (n + m > room) break;
            memmove(b + i + m, b + i, n - i);
            memcpy(b + i, p, m);
            n += m;
            break;
        case 3:
            if (i + k >= n) break;
            memmove(b + i, b + i + k, n - i - k);
            n -= k;
            break;
        default:
            if (i + k > n || n + k > room) break;
            memmove(b + i + k, b + i, n - i);
            n += k;
        }
    }
    return n;
}

static void mutations(int times)
{
    unsigned char b[2048];
    char text[2048], why[480], detail[64];
    int loaded = 0, refused = 0, wrong = 0;
    double slowest = 0;
    for (int i = 0; i < times; i++) {
        size_t n = sizeof SAMPLE - 1;
        memcpy(text, SAMPLE, n);
        n = mutated((unsigned char *)text, n, 1500);
        n = safetensors_image(b, text, n, n, 56);         /* the length stays true: the mutation reaches the parser */
        if (i % 8 == 0) n = mutated(b, n, sizeof b);
        double start = busy_seconds();
        Code c = outcome(b, n, why, SMALL);
        double seconds = busy_seconds() - start;
        if (seconds > slowest) slowest = seconds;
        loaded += c == OK;
        refused += c == E_FORMAT;
        wrong += c != OK && c != E_FORMAT;
    }
    snprintf(detail, sizeof detail, "%d loaded, %d refused", loaded, refused);
    check_line("mutated files load or are refused", detail, !wrong && loaded > times / 100 && refused > times / 4);
    check_below("the slowest of them (seconds)", slowest, 0.05); /* 0.001 here; the bound for any small file */
}

static void json_mutations(int times)
{
    static const char sample[] = "{\"_class_name\":\"UNet2DConditionModel\",\"block_out_channels\":[32,64],\"eps\":1e-05,\"flag\":[true,false,null],\"s\":\"\\ud83d\\ude00 \\n\","
                                 "\"nested\":{\"a\":{\"b\":[[],{},[{\"c\":-0.5E+3}]]}}}";
    char text[2048], detail[64];
    int good = 0, bad = 0, wrong = 0;
    for (int i = 0; i < times; i++) {
        memcpy(text, sample, sizeof sample);
        size_t n = mutated((unsigned char *)text, sizeof sample - 1, 1500);
        char *exact = malloc(n + !n);
        memcpy(exact, text, n);
        Arena a = {0};
        Status s = {0};
        const Json *j = json_parse(&a, exact, n, 16, "text", &s);
        good += j != NULL;
        bad += !j && s.code == E_FORMAT;
        wrong += j ? s.code != OK : s.code != E_FORMAT;
        arena_free(&a);
        free(exact);
    }
    snprintf(detail, sizeof detail, "%d read, %d refused", good, bad);
    check_line("mutated JSON is read or refused", detail, !wrong && good > times / 100 && bad > times / 4);
}

/* ---- memory -------------------------------------------------------------------------------------------- */

static void short_memory(void)
{
    unsigned char b[1024];
    char why[480] = "";
    size_t n = safetensors_image(b, SAMPLE, sizeof SAMPLE - 1, sizeof SAMPLE - 1, 56);
    int failures = 0, wrong = 0;
    size_t limit = 64;
    for (Code c = E_MEMORY; c != OK && limit < 1 << 20; limit += 64) {
        c = outcome(b, n, why, limit);
        failures += c == E_MEMORY;
        wrong += c != E_MEMORY && c != OK;
    }
    char detail[64];
    snprintf(detail, sizeof detail, "%d limits failed, %zu bytes suffice", failures, limit - 64);
    check_line("opening with too little memory", detail, failures > 20 && !wrong && limit < 1 << 20);
    Status s = {0};
    static const char text[] = "{\"a\":[1,2,{\"b\":\"c\",\"d\":null}],\"e\":{\"f\":1,\"g\":2}}";
    failures = 0;
    for (limit = 64; limit < 1 << 20; limit += 64) {
        Arena a = { .limit = limit };
        s = (Status){0};
        const Json *j = json_parse(&a, text, sizeof text - 1, 8, "text", &s);
        bool enough = a.reserved <= limit;
        arena_free(&a);
        failures += !j && s.code == E_MEMORY && enough && !a.reserved;
        if (j) break;
    }
    check_true("JSON with too little memory", failures == (int)(limit / 64) - 1 && failures > 20 && limit < 1 << 20);
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    int free_descriptor = dup(0);
    close(free_descriptor);
    int times = argc > 1 ? atoi(argv[1]) : 10000;         /* more of them: give a number */
    headers();
    stated_lengths();
    big_headers();
    loud_names();
    truncations();
    bits();
    mutations(times);
    json_mutations(5 * times);
    short_memory();
    int still_free = dup(0);
    check_true("no descriptor is left open", still_free == free_descriptor);
    close(still_free);
    scratch_remove();
    return check_done();
}
