/* unit_files.c -- hashes, files, JSON and safetensors: published vectors, round trips, accepted and refused texts. */
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

/* ---- safetensors --------------------------------------------------------------------------------------- */

static void manifest(void)
{
    Arena a = {0};
    Status s = {0};
    const char *folder = "tests/golden/safetensors";
    char path[300];
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    const Json *j = json_load(&a, path, &s);
    check_line("the list of golden files", s.text, j && j->count >= 36);
    for (const Json *c = j ? j->child : NULL; c; c = c->next) {
        bool accept = false;
        Safetensors f;
        s = (Status){0};
        snprintf(path, sizeof path, "%s/%s", folder, c->key);
        bool known = json_bool(json_get(c, "accept"), &accept), ok = safetensors_open(&f, &a, path, &s);
        check_line(c->key, ok ? "accepted" : s.text, known && file_exists(path) && ok == accept && (ok || (s.code == E_FORMAT && strstr(s.text, path))));
        safetensors_close(&f);
    }
    Safetensors f;
    s = (Status){0};
    real x[4];
    snprintf(path, sizeof path, "%s/ok-unicode-name.safetensors", folder);
    check_true("the name with an escape", safetensors_open(&f, &a, path, &s) && f.entries == 1 && safetensors_find(&f, f.entry[0].name) == f.entry);
    safetensors_close(&f);
    snprintf(path, sizeof path, "%s/ok-misaligned.safetensors", folder);
    check_true("misaligned numbers", safetensors_open(&f, &a, path, &s));
    for (int i = 0; i < f.entries; i++)
        if (f.entry[i].type <= T_BF16 && f.entry[i].count <= 4) check_true("are read", safetensors_read(&f, &f.entry[i], x, &s));
    safetensors_close(&f);
    arena_free(&a);
}

static void round_trip(void)
{
    static const real x[6] = { 0, (real)-1.5, (real)65504, (real)6.103515625e-05, (real)INFINITY, (real)0.333251953125 };   /* halves all */
    static const int64_t i64[3] = { INT64_MIN, -1, INT64_MAX };
    static const int32_t i32[2] = { INT32_MIN, 7 };
    static const int16_t i16[2] = { INT16_MIN, 7 };
    static const int8_t  i8[2]  = { INT8_MIN, 7 };
    static const uint8_t u8[2]  = { 255, 7 };
    static const uint16_t u16[2] = { 65535, 7 };
    static const uint32_t u32[2] = { UINT32_MAX, 7 };
    static const uint64_t u64[2] = { UINT64_MAX, 7 };
    const SafeOut t[] = {
        { "u8", T_U8, 1, { 2 }, u8, false }, { "bool", T_BOOL, 1, { 2 }, u8, false }, { "i8", T_I8, 1, { 2 }, i8, false },
        { "half", T_F16, 3, { 1, 2, 3 }, x, true }, { "brain", T_BF16, 2, { 3, 2 }, x, true }, { "single", T_F32, 1, { 6 }, x, true },
        { "double", T_F64, 2, { 6, 1 }, x, true }, { "i64", T_I64, 1, { 3 }, i64, false }, { "i32", T_I32, 1, { 2 }, i32, false },
        { "i16", T_I16, 1, { 2 }, i16, false }, { "u16", T_U16, 1, { 2 }, u16, false }, { "u32", T_U32, 1, { 2 }, u32, false },
        { "u64", T_U64, 1, { 2 }, u64, false }, { "scalar", T_F32, 0, { 0 }, x + 1, true }, { "empty", T_F32, 2, { 0, 5 }, x, true },
        { "na\"me\\ \xC3\xA9\n", T_F32, 1, { 1 }, x + 1, true } };
    static const char *const meta[] = { "format", "pt", "a\"b", "line\nbreak" };
    int n = sizeof t / sizeof *t;
    Arena a = {0};
    Status s = {0};
    Safetensors f;
    Shape shape;
    check_line("save", s.text, safetensors_save(at("all.safetensors"), t, n, meta, 2, &s));
    check_line("open", s.text, safetensors_open(&f, &a, at("all.safetensors"), &s) && f.entries == n && f.metas == 2);
    check_true("metadata", !strcmp(f.meta[0], "format") && !strcmp(f.meta[1], "pt") && !strcmp(f.meta[2], "a\"b") && !strcmp(f.meta[3], "line\nbreak"));
    for (int i = 1; i < f.entries; i++) check_true("in order of name", strcmp(f.entry[i - 1].name, f.entry[i].name) < 0);
    for (int i = 0; i < n; i++) {
        const SafeEntry *e = safetensors_find(&f, t[i].name);
        real y[6] = { 0 };
        int64_t v[3] = { 0 };
        bool good = e && e->type == t[i].type && e->rank == t[i].rank && e->offset % dtype_size(e->type) == 0;
        for (int k = 0; good && k < e->rank; k++) good = e->size[k] == (uint64_t)t[i].size[k];
        if (good && t[i].is_real) {
            good = safetensors_read(&f, e, y, &s) && !safetensors_read_i64(&f, e, v, &(Status){0});
            for (uint64_t k = 0; good && k < e->count; k++)
                good = t[i].type == T_BF16 ? fabs((double)(y[k] - ((const real *)t[i].from)[k])) <= fabs((double)y[k]) / 256 || y[k] == ((const real *)t[i].from)[k]
                                           : y[k] == ((const real *)t[i].from)[k];
        } else if (good) {
            unsigned char b[24];
            good = safetensors_bytes(&f, e, b, &s) && !memcmp(b, t[i].from, e->count * dtype_size(e->type)) && safetensors_read_i64(&f, e, v, &s)
                && !safetensors_read(&f, e, y, &(Status){0});
        }
        check_line("round trip", t[i].name, good);
    }
    int64_t v[3];
    check_true("i8 with its sign", safetensors_read_i64(&f, safetensors_find(&f, "i8"), v, &s) && v[0] == -128 && v[1] == 7);
    check_true("i32 with its sign", safetensors_read_i64(&f, safetensors_find(&f, "i32"), v, &s) && v[0] == INT32_MIN);
    check_true("u32 without", safetensors_read_i64(&f, safetensors_find(&f, "u32"), v, &s) && v[0] == UINT32_MAX);
    check_true("a shape", safetensors_shape(safetensors_find(&f, "half"), &shape) && shape_same(shape, SHAPE(1, 2, 3)));
    check_true("the shape of a scalar", safetensors_shape(safetensors_find(&f, "scalar"), &shape) && shape_same(shape, SHAPE(1)));
    check_true("no shape for an empty tensor", !safetensors_shape(safetensors_find(&f, "empty"), &shape));
    check_true("not there", !safetensors_find(&f, "hal") && !safetensors_find(&f, ""));
    real part[2];
    check_true("a part", safetensors_read_part(&f, safetensors_find(&f, "half"), 1, 2, part, &s) && part[0] == x[1] && part[1] == x[2]);
    check_true("a part past the end", !safetensors_read_part(&f, safetensors_find(&f, "half"), 5, 2, part, &s) && s.code == E_SHAPE);
    s = (Status){0};
    check_true("the file shrinks under the reader", !truncate(at("all.safetensors"), 100) && !safetensors_read(&f, safetensors_find(&f, "half"), part, &s) && s.code == E_FILE);
    safetensors_close(&f);
    check_true("after closing", !safetensors_find(&f, "half"));
    arena_free(&a);
    scratch_empty();
}

/* Every 16-bit number is read as its definition says, and written back as itself; what lies between two goes to the
 * nearer, a tie to the even one. */
static void sixteen_bits(Dtype type, int fraction)
{
    enum { ALL = 65536 };
    uint16_t *raw = malloc(ALL * 2), *again = malloc(ALL * 2);
    real *x = malloc(ALL * sizeof *x), *between = malloc(3 * ALL * sizeof *between);
    int bias = (1 << (14 - fraction)) - 1, special = (2 * bias + 1) << fraction;
    Arena a = {0};
    Status s = {0};
    Safetensors f;
    for (int i = 0; i < ALL; i++) raw[i] = (uint16_t)i;
    SafeOut t = { "x", type, 1, { ALL }, raw, false };
    bool ok = safetensors_save(at("h"), &t, 1, NULL, 0, &s) && safetensors_open(&f, &a, at("h"), &s) && safetensors_read(&f, f.entry, x, &s);
    int bad = 0;
    for (int i = 0; i < ALL; i++) {
        int m = i & ((1 << fraction) - 1), e = (i & 0x7FFF) >> fraction;
        double v = e ? ldexp((1 << fraction) + m, e - bias - fraction) : ldexp(m, 1 - bias - fraction);
        if (e == 2 * bias + 1) v = m ? (double)NAN : (double)INFINITY;
        if (i & 0x8000) v = -v;
        bad += isnan(v) ? !isnan(x[i]) : (double)x[i] != v || !signbit(x[i]) != !signbit(v);
    }
    check_true("every 16-bit number is read right", ok && !bad);
    safetensors_close(&f);
    t = (SafeOut){ "x", type, 1, { ALL }, x, true };
    ok = safetensors_save(at("h"), &t, 1, NULL, 0, &s) && safetensors_open(&f, &a, at("h"), &s) && safetensors_bytes(&f, f.entry, again, &s);
    bad = 0;
    for (int i = 0; i < ALL; i++) bad += isnan(x[i]) ? (again[i] & 0x7FFF) <= special : again[i] != i;
    check_true("and written as itself", ok && !bad);
    safetensors_close(&f);
    int n = special - 1;                                  /* pairs of finite neighbours, and the first beyond the largest */
    for (int i = 0; i < n; i++) {
        real mid = x[i] + (x[i + 1] - x[i]) / 2;
        between[3 * i] = nextafter(mid, x[i]);
        between[3 * i + 1] = mid;
        between[3 * i + 2] = nextafter(mid, x[i + 1]);
    }
    t = (SafeOut){ "x", type, 1, { 3 * n }, between, true };
    again = realloc(again, 3 * ALL * 2);
    ok = safetensors_save(at("h"), &t, 1, NULL, 0, &s) && safetensors_open(&f, &a, at("h"), &s) && safetensors_bytes(&f, f.entry, again, &s);
    bad = 0;
    for (int i = 0; i < n; i++) bad += again[3 * i] != i || again[3 * i + 1] != i + (i & 1) || again[3 * i + 2] != i + 1;
    check_true("numbers between go to the nearer, ties to even", ok && !bad);
    safetensors_close(&f);
    real largest = x[special - 1], edge = largest + (largest - x[special - 2]) / 2, past[3] = { nextafter(edge, (real)0), edge, -edge };
    t = (SafeOut){ "x", type, 1, { 3 }, past, true };
    ok = safetensors_save(at("h"), &t, 1, NULL, 0, &s) && safetensors_open(&f, &a, at("h"), &s) && safetensors_bytes(&f, f.entry, again, &s);
    check_true("the largest, and infinity", ok && again[0] == special - 1 && again[1] == special && again[2] == (special | 0x8000));
    safetensors_close(&f);
    arena_free(&a);
    free(raw);
    free(again);
    free(x);
    free(between);
    scratch_empty();
}

static void writer_refuses(void)
{
    static const real x[4] = { 1, 2, 3, 4 };
    char name[1026];
    memset(name, 'n', 1025);
    name[1025] = 0;
    const struct { const char *what; SafeOut t[2]; int n; } bad[] = {
        { "two of one name", { { "a", T_F32, 1, { 1 }, x, true }, { "a", T_F16, 1, { 1 }, x, true } }, 2 },
        { "the reserved name", { { "__metadata__", T_F32, 1, { 1 }, x, true } }, 1 },
        { "a long name", { { name, T_F32, 1, { 1 }, x, true } }, 1 },
        { "a name that is not UTF-8", { { "a\xFF", T_F32, 1, { 1 }, x, true } }, 1 },
        { "rank 9", { { "a", T_F32, 9, { 1 }, x, true } }, 1 },
        { "a negative size", { { "a", T_F32, 1, { -1 }, x, true } }, 1 },
        { "reals as integers", { { "a", T_I64, 1, { 1 }, x, true } }, 1 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Status s = {0};
        check_line(bad[i].what, s.text, !safetensors_save(at("bad"), bad[i].t, bad[i].n, NULL, 0, &s) && s.code == E_OPTION && !scratch_count());
    }
    SafeOut t[2] = { { "b", T_F32, 1, { 3 }, NULL, true }, { "a", T_F32, 1, { 2 }, NULL, true } };
    SafeWriter w;
    Status s = {0};
    check_true("in portions", safetensors_begin(&w, at("w"), t, 2, NULL, 0, &s) && !strcmp(t[0].name, "a") && safetensors_put(&w, x, 1, &s) && safetensors_put(&w, x + 1, 1, &s)
               && safetensors_put(&w, x, 3, &s) && safetensors_finish(&w, &s) && file_exists(at("w")) && scratch_count() == 1);
    remove(at("w"));
    check_true("a portion across two tensors", safetensors_begin(&w, at("w"), t, 2, NULL, 0, &s) && !safetensors_put(&w, x, 3, &s) && s.code == E_SHAPE && !scratch_count());
    s = (Status){0};
    check_true("too few numbers", safetensors_begin(&w, at("w"), t, 2, NULL, 0, &s) && safetensors_put(&w, x, 2, &s) && !safetensors_finish(&w, &s) && s.code == E_SHAPE && !scratch_count());
    s = (Status){0};
    check_true("abandoned", safetensors_begin(&w, at("w"), t, 2, NULL, 0, &s) && scratch_count() == 1);
    safetensors_abandon(&w);
    check_true("leaves nothing", !scratch_count());
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
    manifest();
    round_trip();
    sixteen_bits(T_F16, 10);
    sixteen_bits(T_BF16, 7);
    writer_refuses();
    scratch_remove();
    return check_done();
}
