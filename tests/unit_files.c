/* unit_files.c -- hashes, files and JSON: published vectors, round trips, accepted and refused texts. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include "tensor/hash.h"
#include "tensor/json.h"
#include "tests/check.h"
#include "tests/files.h"

/* ---- hashes -------------------------------------------------------------------------------------------- */

static void sha_is(const char *what, const char *text, size_t n, size_t piece, const char *wanted)
{
    Sha256 s;
    char hex[65];
    sha256_begin(&s);
    for (size_t i = 0; i < n; i += piece) sha256_add(&s, text + i, n - i < piece ? n - i : piece);
    sha256_end(&s, hex);
    check_line(what, hex, !strcmp(hex, wanted));
}

static void hashes(void)
{
    static const struct { const char *text, *hex; } sha[] = {                /* FIPS 180-4 examples, NIST CAVP */
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
        { "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" } };
    for (size_t i = 0; i < sizeof sha / sizeof *sha; i++)
        for (size_t piece = 1; piece < 130; piece += 43) sha_is("SHA-256 of a published text", sha[i].text, strlen(sha[i].text), piece, sha[i].hex);
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    sha_is("SHA-256 of a million a", million, 1000000, 4099, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    char whole[65], parts[65];
    int same = 1;
    for (size_t n = 0; n < 200; n++)                      /* every place where a block may end */
        for (size_t cut = 0; cut <= n; cut += 7) {
            Sha256 a, b;
            sha256_begin(&a);
            sha256_begin(&b);
            sha256_add(&a, million, n);
            sha256_add(&b, million, cut);
            sha256_add(&b, million + cut, n - cut);
            sha256_end(&a, whole);
            sha256_end(&b, parts);
            same = same && !strcmp(whole, parts);
        }
    check_true("SHA-256 does not depend on the portions", same);
    free(million);
    check_true("CRC-32 check value", crc32_of(0, "123456789", 9) == 0xCBF43926u);
    check_true("CRC-32 of IEND", crc32_of(0, "IEND", 4) == 0xAE426082u);
    check_true("CRC-32 in parts", crc32_of(crc32_of(0, "1234", 4), "56789", 5) == 0xCBF43926u);
    static unsigned char long_text[5003];
    uint32_t c = 0;
    for (int i = 0; i < 5003; i++) long_text[i] = (unsigned char)(i * i % 251);
    for (int i = 0; i < 5003; i++) c = crc32_of(c, long_text + i, 1);
    check_true("CRC-32 of a long text is that of its bytes", crc32_of(0, long_text, 5003) == c && crc32_of(crc32_of(0, long_text, 4), long_text + 4, 4999) == c);
    check_true("CRC-32 of nothing", crc32_of(0, "", 0) == 0);
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static void write_again(JsonOut *o, const Json *j, const char *key)          /* numbers as strings, to see their text */
{
    switch (j->kind) {
    case JSON_NULL:   json_null(o, key);                      break;
    case JSON_FALSE:  json_truth(o, key, false);              break;
    case JSON_TRUE:   json_truth(o, key, true);               break;
    case JSON_NUMBER: case JSON_STRING: json_text(o, key, j->text); break;
    default:
        json_open(o, key, j->kind == JSON_ARRAY ? '[' : '{');
        int n = 0;
        for (const Json *c = j->child; c; c = c->next, n++) write_again(o, c, c->key);
        json_close(o, j->kind == JSON_ARRAY ? ']' : '}');
        if (n != j->count) o->failed = true;
    }
}

static void accepted(const char *text, size_t n, const char *wanted)
{
    Arena a = {0};
    Status s = {0};
    JsonOut o = {0};
    char *exact = malloc(n + !n);                         /* exactly n bytes: an address checker sees a read past them */
    memcpy(exact, text, n);
    const Json *j = json_parse(&a, exact, n, 6, "text", &s);
    if (j) write_again(&o, j, NULL);
    check_line(text, j ? o.bytes : s.text, j && !o.failed && !strcmp(o.bytes, wanted));
    json_free(&o);
    arena_free(&a);
    free(exact);
}

static void refused(const char *text, size_t n)
{
    Arena a = {0};
    Status s = {0};
    char *exact = malloc(n + !n);
    memcpy(exact, text, n);
    check_line(text, "refused", !json_parse(&a, exact, n, 6, "text", &s) && s.code == E_FORMAT && !strncmp(s.text, "text: byte ", 11));
    arena_free(&a);
    free(exact);
}

#define ACCEPT(text, wanted) accepted(text, sizeof(text) - 1, wanted)
#define REFUSE(text)         refused(text, sizeof(text) - 1)

static void json_accepts(void)
{
    ACCEPT("null", "null");                               ACCEPT(" \t\r\n[ ]\n", "[]");
    ACCEPT("true", "true");                               ACCEPT("{ }", "{}");
    ACCEPT("false", "false");                             ACCEPT("[1 , 2]", "[\"1\",\"2\"]");
    ACCEPT("0", "\"0\"");                                 ACCEPT("-0", "\"-0\"");
    ACCEPT("-0.0e-0", "\"-0.0e-0\"");                     ACCEPT("10.25E+07", "\"10.25E+07\"");
    ACCEPT("123456789012345678901234567890", "\"123456789012345678901234567890\"");
    ACCEPT("1e999999999", "\"1e999999999\"");
    ACCEPT("\"\"", "\"\"");                               ACCEPT("\"a\\\"\\\\\\/\"", "\"a\\\"\\\\/\"");
    ACCEPT("\"\\b\\f\\n\\r\\t\"", "\"\\u0008\\u000c\\u000a\\u000d\\u0009\"");
    ACCEPT("\"\\u0041\\u00e9\\u20AC\\uD83D\\ude00\"", "\"A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    ACCEPT("\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"",
           "\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"");
    ACCEPT("\"\x7F\"", "\"\x7F\"");
    ACCEPT("{\"a\":{\"b\":[null,true,{\"c\":\"d\"}]},\"b\":1}", "{\"a\":{\"b\":[null,true,{\"c\":\"d\"}]},\"b\":\"1\"}");
    ACCEPT("[[[[[[1]]]]]]", "[[[[[[\"1\"]]]]]]");         ACCEPT("[{},{},[],[]]", "[{},{},[],[]]");
    ACCEPT("{\"\":1}", "{\"\":\"1\"}");                   ACCEPT("{\"a\":1,\"A\":1,\"aa\":1}", "{\"a\":\"1\",\"A\":\"1\",\"aa\":\"1\"}");
}

static void json_refuses(void)
{
    REFUSE("");            REFUSE(" ");            REFUSE("nul");         REFUSE("nulll");       REFUSE("True");        REFUSE("NaN");
    REFUSE("Infinity");    REFUSE("-");            REFUSE("+1");          REFUSE("01");          REFUSE("-01");         REFUSE("00");
    REFUSE("1.");          REFUSE(".5");           REFUSE("1.e5");        REFUSE("1e");          REFUSE("1e+");         REFUSE("0x10");
    REFUSE("1 2");         REFUSE("[");            REFUSE("]");           REFUSE("[1");          REFUSE("[1,");         REFUSE("[1,]");
    REFUSE("[,1]");        REFUSE("[1 2]");        REFUSE("[1}");         REFUSE("{");           REFUSE("}");           REFUSE("{]");
    REFUSE("{1:2}");       REFUSE("{\"a\"}");      REFUSE("{\"a\":}");    REFUSE("{\"a\":1,}");  REFUSE("{\"a\" 1}");   REFUSE("{,}");
    REFUSE("{\"a\":1]");   REFUSE("{'a':1}");      REFUSE("{a:1}");       REFUSE("'a'");         REFUSE("\"");          REFUSE("\"a");
    REFUSE("\"\\\"");      REFUSE("\"\\x41\"");    REFUSE("\"\\u\"");     REFUSE("\"\\u12\"");   REFUSE("\"\\u12G4\""); REFUSE("\"\\U0041\"");
    REFUSE("\"\\ud800\""); REFUSE("\"\\udc00\"");  REFUSE("\"\\ud800x\""); REFUSE("\"\\ud800\\n\""); REFUSE("\"\\ud800\\ud800\"");
    REFUSE("\"\\ud800\\u0041\"");                  REFUSE("\"\\udc00\\ud800\"");                 REFUSE("\"\\ud800\\");
    REFUSE("\"a\nb\"");    REFUSE("\"a\tb\"");     REFUSE("\"\x01\"");    REFUSE("\"a\0b\"");    REFUSE("\0");          REFUSE("1\0");
    REFUSE("\"\x80\"");    REFUSE("\"\xC0\x80\""); REFUSE("\"\xC1\xBF\""); REFUSE("\"\xE0\x9F\xBF\"");               REFUSE("\"\xED\xA0\x80\"");
    REFUSE("\"\xED\xBF\xBF\"");                    REFUSE("\"\xF0\x8F\xBF\xBF\"");               REFUSE("\"\xF4\x90\x80\x80\"");
    REFUSE("\"\xF5\x80\x80\x80\"");                REFUSE("\"\xFF\"");    REFUSE("\"\xC3\"");    REFUSE("\"\xE2\x82\""); REFUSE("\"\xF0\x9F\x98\"");
    REFUSE("\"\xE2\x28\xA1\"");                    REFUSE("\xEF\xBB\xBF{}"); REFUSE("{}x");      REFUSE("{} {}");       REFUSE("// a\n1");
    REFUSE("[1]/**/");     REFUSE("\v1");          REFUSE("\xC2\xA0" "1"); REFUSE("[[[[[[[1]]]]]]]"); REFUSE("{\"a\":[{\"b\":[[[{}]]]}]}");
    REFUSE("{\"a\":1,\"a\":2}");                   REFUSE("{\"b\":{\"a\":1,\"x\":0,\"a\":1}}");   REFUSE("{\"a\":1,\"\\u0061\":2}");
    REFUSE("{\"\":1,\"\":2}");                     REFUSE("{\"a\\u0000b\":1,\"a\\u0000b\":1}");
}

static const Json *parsed(Arena *a, const char *text)
{
    Status s = {0};
    return json_parse(a, text, strlen(text), 64, "text", &s);
}

static void json_values(void)
{
    Arena a = {0};
    uint64_t u = 77;
    int i = 77;
    double d = 77;
    bool b = false;
    check_true("u64: the largest", json_u64(parsed(&a, "18446744073709551615"), &u) && u == UINT64_MAX);
    check_true("u64: one more is refused", !json_u64(parsed(&a, "18446744073709551616"), &u) && u == UINT64_MAX);
    check_true("u64: exact above 2^53", json_u64(parsed(&a, "9007199254740993"), &u) && u == 9007199254740993u);
    check_true("u64: sign, fraction, exponent refused", !json_u64(parsed(&a, "-1"), &u) && !json_u64(parsed(&a, "1.0"), &u)
               && !json_u64(parsed(&a, "1e2"), &u) && !json_u64(parsed(&a, "\"1\""), &u) && !json_u64(NULL, &u));
    check_true("int: both ends", json_int(parsed(&a, "2147483647"), &i) && i == INT_MAX && json_int(parsed(&a, "-2147483648"), &i) && i == INT_MIN);
    check_true("int: beyond the ends", !json_int(parsed(&a, "2147483648"), &i) && !json_int(parsed(&a, "-2147483649"), &i)
               && !json_int(parsed(&a, "1.5"), &i) && !json_int(parsed(&a, "[]"), &i) && !json_int(NULL, &i));
    check_true("number: shortest decimals", json_number(parsed(&a, "0.18215"), &d) && d == 0.18215 && json_number(parsed(&a, "1e-05"), &d) && d == 1e-5);
    check_true("number: subnormal", json_number(parsed(&a, "5e-324"), &d) && d == 5e-324);
    check_true("number: not finite", !json_number(parsed(&a, "1e400"), &d) && !json_number(parsed(&a, "null"), &d));
    check_true("bool", json_bool(parsed(&a, "true"), &b) && b && json_bool(parsed(&a, "false"), &b) && !b && !json_bool(parsed(&a, "0"), &b));
    const Json *j = parsed(&a, "{\"ab\":[1,\"x\\u0000y\",{\"k\":null}],\"abc\":2}");
    check_true("get", json_get(j, "abc") && json_get(j, "abc")->kind == JSON_NUMBER && !json_get(j, "a") && !json_get(j, "") && !json_get(NULL, "a")
               && !json_get(json_get(j, "ab"), "k"));
    check_true("at", json_int(json_at(json_get(j, "ab"), 0), &i) && i == 1 && !json_at(json_get(j, "ab"), 3) && !json_at(json_get(j, "ab"), -1) && !json_at(j, 0));
    const Json *nul = json_at(json_get(j, "ab"), 1);
    check_true("a NUL is counted, and equals no C string", nul->length == 3 && !memcmp(nul->text, "x\0y", 4) && !json_is(nul, "x"));
    check_true("is", json_is(parsed(&a, "\"F32\""), "F32") && !json_is(parsed(&a, "\"F32 \""), "F32") && !json_is(parsed(&a, "32"), "32") && !json_is(NULL, ""));
    arena_free(&a);
}

/* 200 000 keys that share a long beginning: quadratic comparing would take minutes. */
static void json_many_keys(void)
{
    enum { KEYS = 200000 };
    char *text = malloc(KEYS * 48), *p = text;
    for (int twice = 0; twice < 2; twice++) {
        p = text;
        *p++ = '{';
        for (int i = 0; i < KEYS; i++) p += sprintf(p, "%s\"module.path.of.a.tensor.%06d\":%d", i ? "," : "", twice && i == KEYS - 1 ? 777 : i, i);
        *p++ = '}';
        Arena a = {0};
        Status s = {0};
        clock_t start = clock();
        const Json *j = json_parse(&a, text, (size_t)(p - text), 8, "text", &s);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (!twice) check_true("200 000 different keys", j && j->count == KEYS);
        else check_true("200 000 keys, the last one a duplicate", !j && s.code == E_FORMAT && strstr(s.text, "000777"));
        check_below("seconds for 200 000 keys", seconds, 3); /* 0.1 here, 0.4 under sanitizers */
        arena_free(&a);
    }
    free(text);
    size_t n = 40 << 20;                                  /* an array of 20 million numbers must not take a node for each */
    text = malloc(n);
    for (size_t i = 0; i < n; i += 2) memcpy(text + i, i ? ",1" : "[1", 2);
    Arena a = {0};
    Status s = {0};
    check_true("too many values are refused in bounded memory", !json_parse(&a, text, n, 8, "text", &s) && s.code == E_FORMAT && a.reserved < (size_t)400 << 20);
    arena_free(&a);
    free(text);
    text = malloc(1 << 20);
    memset(text, '[', 1 << 20);
    s = (Status){0};
    check_true("a million brackets", !json_parse(&a, text, 1 << 20, 64, "text", &s) && s.code == E_FORMAT);
    arena_free(&a);
    free(text);
}

static void json_writes(void)
{
    JsonOut o = {0};
    json_open(&o, NULL, '{');
    json_text(&o, "text", "a\"b\\c\n\x1f\xC3\xA9\xC3(\xFF");
    json_integer(&o, "integer", INT64_MIN);
    json_real(&o, "float", 0.1, 9);
    json_real(&o, "double", 0.1, 17);
    json_real(&o, "nan", (double)NAN, 9);
    json_real(&o, "inf", -(double)INFINITY, 9);
    json_open(&o, "list", '[');
    json_truth(&o, NULL, true);
    json_open(&o, NULL, '{');
    json_close(&o, '}');
    json_null(&o, NULL);
    json_close(&o, ']');
    json_close(&o, '}');
    check_line("the writer", o.bytes, !o.failed && !strcmp(o.bytes,
        "{\"text\":\"a\\\"b\\\\c\\u000a\\u001f\xC3\xA9\\ufffd(\\ufffd\",\"integer\":-9223372036854775808,\"float\":0.1,\"double\":0.10000000000000001,"
        "\"nan\":null,\"inf\":null,\"list\":[true,{},null]}"));
    Arena a = {0};
    Status s = {0};
    check_true("what it writes can be read", json_parse(&a, o.bytes, o.size, 8, "text", &s) != NULL);
    size_t one = o.size;
    json_open(&o, NULL, '[');
    json_close(&o, ']');
    check_true("a second document starts without a comma", o.size == one + 2 && !strcmp(o.bytes + one, "[]"));
    json_free(&o);
    check_true("freed", !o.bytes && !o.size);
    arena_free(&a);
}

/* ---- files --------------------------------------------------------------------------------------------- */

static Code open_code(const char *path)
{
    File f;
    Status s = {0};
    if (file_open(&f, path, &s)) file_close(&f);
    return s.code;
}

static void files_read(void)
{
    File f;
    Status s = {0};
    char b[8] = "";
    size_t n;
    put_text(at("ten"), "0123456789");
    check_true("open and read", file_open(&f, at("ten"), &s) && f.size == 10 && file_read(&f, b, 3, 4, &s) && !memcmp(b, "3456", 4));
    check_true("nothing at the end may be read", file_read(&f, b, 10, 0, &s));
    check_true("past the end", !file_read(&f, b, 8, 3, &s) && s.code == E_FILE);
    s = (Status){0};
    check_true("an offset near 2^64", !file_read(&f, b, UINT64_MAX, 2, &s) && s.code == E_FILE);
    s = (Status){0};
    check_true("shrunk while open", !truncate(at("ten"), 5) && !file_read(&f, b, 3, 4, &s) && s.code == E_FILE && strstr(s.text, "shorter"));
    file_close(&f);
    file_close(&f);
    s = (Status){0};
    check_true("a closed file", !file_read(&f, b, 0, 1, &s) && s.code == E_FILE);
    s = (Status){0};
    char *text = file_load(at("ten"), 5, &n, &s);
    check_true("load", text && n == 5 && !strcmp(text, "01234"));
    free(text);
    check_true("load too much", !file_load(at("ten"), 4, &n, &s) && s.code == E_FILE && !n);
    mkfifo(at("fifo"), 0600);
    double start = clock_seconds();
    check_true("a pipe is refused", open_code(at("fifo")) == E_FILE);
    check_below("without waiting (seconds)", clock_seconds() - start, 1);
    check_true("a folder is refused", open_code(scratch) == E_FILE);
    check_true("a device is refused", open_code("/dev/zero") == E_FILE && open_code("/dev/null") == E_FILE);
    check_true("a missing file", open_code(at("missing")) == E_FILE && open_code("") == E_FILE);
    char *deep = malloc(5000);
    memset(deep, 'x', 4999);
    deep[4999] = 0;
    check_true("a path of 5000 bytes", open_code(deep) == E_FILE);
    free(deep);
    check_true("exists", file_exists(at("ten")) && !file_exists(scratch) && folder_exists(scratch) && !folder_exists(at("ten")) && !folder_exists(at("no")));
    scratch_empty();
}

static bool holds(const char *path, const char *text)
{
    size_t n;
    Status s = {0};
    char *b = file_load(path, 1 << 20, &n, &s);
    bool same = b && n == strlen(text) && !memcmp(b, text, n);
    free(b);
    return same;
}

static void files_written(void)
{
    FileOut f = { .fd = 0 };
    Status s = {0};
    file_abandon(&f);                                     /* of a zeroed one: must not close descriptor 0 */
    check_true("abandoning nothing closes nothing", fcntl(0, F_GETFD) != -1 || errno != EBADF);
    check_true("begin and append", file_begin(&f, at("out"), &s) && file_append(&f, "ab", 2, &s) && file_append(&f, "", 0, &s) && file_append(&f, "c", 1, &s));
    check_true("not there before the end", !file_exists(at("out")) && scratch_count() == 1);
    check_true("finish", file_finish(&f, &s) && holds(at("out"), "abc") && scratch_count() == 1);
    file_abandon(&f);
    check_true("abandon after finish", holds(at("out"), "abc"));
    check_true("no append after finish", !file_append(&f, "x", 1, &s) && s.code == E_WRITE && holds(at("out"), "abc"));
    s = (Status){0};
    check_true("abandon keeps the old file", file_begin(&f, at("out"), &s) && file_append(&f, "new", 3, &s) && scratch_count() == 2);
    file_abandon(&f);
    check_true("and leaves nothing behind", holds(at("out"), "abc") && scratch_count() == 1);
    check_true("save replaces", file_save(at("out"), "second", 6, &s) && holds(at("out"), "second") && scratch_count() == 1);
    check_true("save of nothing", file_save(at("none"), "", 0, &s) && holds(at("none"), ""));
    symlink("out", at("link"));
    struct stat st;
    check_true("through a link", file_save(at("link"), "third", 5, &s) && holds(at("out"), "third") && !lstat(at("link"), &st) && S_ISLNK(st.st_mode));
    static const struct { const char *name, *why; } bad[] = { { "no/such/folder", "No such file" }, { "folder", "folder" }, { "", "name" } };
    check_true("make a folder", folder_make(at("folder"), &s) && folder_make(at("folder"), &s) && folder_exists(at("folder")));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        s = (Status){0};
        check_line("where no file can be written", bad[i].name, !file_save(at(bad[i].name), "x", 1, &s) && s.code == E_WRITE && strstr(s.text, bad[i].why)
                   && strstr(s.text, scratch));
    }
    s = (Status){0};
    check_true("a device is never replaced", !file_save("/dev/full", "x", 1, &s) && s.code == E_WRITE && strstr(s.text, "device"));
    s = (Status){0};
    check_true("a folder where a file is", !folder_make(at("out"), &s) && s.code == E_WRITE);
    check_true("nothing was left behind", scratch_count() == 4);
    s = (Status){0};
    char name[300];
    memset(name, 'n', 250);
    name[250] = 0;
    check_true("the longest file name", file_save(at(name), "x", 1, &s) && holds(at(name), "x"));
    memset(name, 'n', 299);
    name[299] = 0;
    int before = scratch_count();
    check_true("a name too long: E_WRITE, nothing left", !file_save(at(name), "x", 1, &s) && s.code == E_WRITE && scratch_count() == before);
    scratch_empty();
}

static void files_full(void)                              /* a limit on the size of files: writing fails in the middle */
{
    struct rlimit old, small = { 4096, RLIM_INFINITY };
    Status s = {0};
    char *big = calloc(1, 10000);
    file_save(at("old"), "old", 3, &s);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    bool failed = !file_save(at("old"), big, 10000, &s);
    setrlimit(RLIMIT_FSIZE, &old);
    check_line("no room: E_WRITE with path and reason", s.text, failed && s.code == E_WRITE && strstr(s.text, scratch) && strstr(s.text, "too large"));
    check_true("no room: the old file stays, nothing else", holds(at("old"), "old") && scratch_count() == 1);
    free(big);
    scratch_empty();
}

static void machine(void)
{
    double t = clock_seconds();
    check_true("a clock that does not go back", clock_seconds() >= t);
    check_true("random numbers differ", system_random() != system_random());
    check_true("processors", system_processors() >= 1 && system_processors() <= sysconf(_SC_NPROCESSORS_ONLN));
    check_true("memory: more than 16 MB, less than 2^50", system_memory() > 16 << 20 && system_memory() < (uint64_t)1 << 50);
    uint64_t before = process_peak_memory();
    volatile char *p = malloc(64 << 20);
    for (int i = 0; i < 64 << 20; i += 1024) p[i] = 1;
    check_true("64 MB show in the peak", process_peak_memory() > before + ((uint64_t)48 << 20));
    free((char *)p);
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    machine();                                            /* first: it watches the peak of memory */
    hashes();
    json_accepts();
    json_refuses();
    json_values();
    json_many_keys();
    json_writes();
    files_read();
    files_written();
    files_full();
    scratch_remove();
    return check_done();
}
