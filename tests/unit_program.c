/* The program's own parts: options, text chunks, EXIF, fitting pictures, progress, names. */
#include "tests/check.h"
#include "ref/console.h"
#include "ref/exif.h"
#include "ref/image.h"
#include "ref/jpeg_check.h"
#include "ref/metadata.h"
#include "ref/options.h"
#include "ref/progress.h"
#include "tensor/hash.h"

typedef struct { bool flag, other; const char *text; int count, kind; double scale; Seed seed; uint64_t bytes; } Settings;
#define AT(m) offsetof(Settings, m)
static const Option row[] = {
    { "flag",   'f', OPTION_FLAG,   AT(flag),  0, 0,   NULL,  NULL,    "a flag", NULL },
    { "other",  'x', OPTION_FLAG,   AT(other), 0, 0,   NULL,  NULL,    "another", NULL },
    { "prompt", 'p', OPTION_TEXT,   AT(text),  0, 0,   NULL,  "TEXT",  "words", NULL },
    { "steps",  0,   OPTION_INT,    AT(count), 1, 100, "50",  "N",     "how many", NULL },
    { "kind",   0,   OPTION_CHOICE, AT(kind),  0, 0,   "own", "own|shared|none", "which", NULL },
    { "guidance-scale", 0, OPTION_REAL, AT(scale), -2, 30, "7.5", "X", "how much of something that takes a long sentence to explain, so long that it needs several lines of the page", "cfg-scale|cfg" },
    { "seed",   's', OPTION_SEED,   AT(seed),  0, 0,   NULL,  "N",     "a seed", NULL },
    { "memory", 0,   OPTION_BYTES,  AT(bytes), 0, 0,   NULL,  "BYTES", "most memory", NULL },
};
static const OptionPage page = { "verb", "A verb.", "tiller verb --steps 3", "FILE...", 0, 2, "About it.", { { "Options", row, 8 } } };

static Settings got;
static char *rest[2];
static int rests;
static bool help;
static Status status;

static bool parse(const char *const *words)
{
    char *argv[20] = { (char[]){ "verb" } };
    int n = 1;
    for (; *words; words++) argv[n++] = (char *)(uintptr_t)*words;
    got = (Settings){0};
    status = (Status){0};
    return options_parse(&page, &got, n, argv, rest, &rests, &help, &status);
}
#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL })

static bool refused(const char *with) { return status.code == E_OPTION && strstr(status.text, with) && !strchr(status.text, '\n'); }

static void test_options(void)
{
    check_true("options: presets", parse((const char *const[]){ NULL }) && got.count == 50 && got.scale == 7.5 && got.kind == 0 && !got.text && !got.seed.given);
    check_true("options: --name value", PARSE("--steps", "7", "--prompt", "a b") && got.count == 7 && !strcmp(got.text, "a b"));
    check_true("options: --name=value", PARSE("--steps=8", "--prompt=--x=y") && got.count == 8 && !strcmp(got.text, "--x=y"));
    check_true("options: empty value", PARSE("--prompt=") && got.text && !*got.text);
    check_true("options: short forms", PARSE("-fx", "-s-5", "-p", "q") && got.flag && got.other && got.seed.value == (uint64_t)-5 && !strcmp(got.text, "q"));
    check_true("options: aliases", PARSE("--cfg-scale", "3") && got.scale == 3 && PARSE("--cfg=-1.5e0") && got.scale == -1.5);
    check_true("options: the last one wins", PARSE("--steps", "3", "--steps", "4") && got.count == 4);
    check_true("options: -- ends them", PARSE("a", "--", "--steps") && rests == 2 && !strcmp(rest[1], "--steps"));
    check_true("options: - is an argument", PARSE("-") && rests == 1 && !strcmp(rest[0], "-"));
    check_true("options: choice", PARSE("--kind", "none") && got.kind == 2);
    check_true("options: seed range", PARSE("--seed", "18446744073709551615") && got.seed.value == UINT64_MAX && got.seed.given);
    check_true("options: least seed", PARSE("--seed", "-9223372036854775808") && got.seed.value == (uint64_t)1 << 63);
    check_true("options: bytes", PARSE("--memory", "8G") && got.bytes == (uint64_t)8 << 30 && PARSE("--memory=500m") && got.bytes == 500u << 20 &&
               PARSE("--memory=77") && got.bytes == 77);
    check_true("options: help stops", PARSE("--help", "--nonsense") && help);

    check_true("options: unknown, nearest named", !PARSE("--stesp", "3") && refused("--stesp") && refused("--steps"));
    check_true("options: unknown, alias named", !PARSE("--cfg-scal=3") && refused("--cfg-scale"));
    check_true("options: unknown letter", !PARSE("-z") && refused("-z"));
    check_true("options: below", !PARSE("--steps", "0") && refused("1 to 100") && refused("\"0\""));
    check_true("options: above", !PARSE("--steps", "101") && refused("1 to 100"));
    check_true("options: trailing garbage", !PARSE("--steps", "5x") && refused("5x") && !PARSE("--steps", "5 ") && !PARSE("--steps", " 5") && !PARSE("--steps", ""));
    check_true("options: overflow", !PARSE("--steps", "99999999999999999999") && refused("--steps"));
    check_true("options: real garbage", !PARSE("--cfg", "nan") && !PARSE("--cfg", "inf") && !PARSE("--cfg", "0x1") && !PARSE("--cfg", "1e") &&
               !PARSE("--cfg", "") && !PARSE("--cfg", "1.5.2") && refused("--guidance-scale"));
    check_true("options: seed garbage", !PARSE("--seed", "18446744073709551616") && !PARSE("--seed", "-9223372036854775809") && !PARSE("--seed", "1.5") &&
               !PARSE("--seed", "") && !PARSE("--seed", "+") && !PARSE("--seed", "-") && refused("--seed"));
    check_true("options: bytes garbage", !PARSE("--memory", "0") && !PARSE("--memory", "8GB") && !PARSE("--memory", "-1") && !PARSE("--memory", "20000000000G") && refused("--memory"));
    check_true("options: choice garbage", !PARSE("--kind", "own|shared") && refused("own|shared|none"));
    check_true("options: value missing", !PARSE("--steps") && refused("--steps") && !PARSE("-s") && refused("--seed"));
    check_true("options: flag with a value", !PARSE("--flag=1") && refused("--flag"));
    check_true("options: too many arguments", !PARSE("a", "b", "c") && refused("\"c\""));
    char name[20];
    check_true("options: name of a choice", !strcmp(choice_name(&row[4], 1, name, sizeof name), "shared") && !*choice_name(&row[4], 9, name, sizeof name));
}

static void test_distance(void)
{
    static const struct { const char *a, *b; int d; } t[] = {
        { "", "", 0 }, { "abc", "abc", 0 }, { "steps", "stesp", 1 }, { "kitten", "sitting", 3 }, { "", "abc", 3 }, { "a", "", 1 }, { "seed", "sed", 1 } };
    for (int i = 0; i < 7; i++) check_true("word distance", word_distance(t[i].a, t[i].b) == t[i].d && word_distance(t[i].b, t[i].a) == t[i].d);
    char longer[300];
    memset(longer, 'x', sizeof longer - 1);
    longer[299] = 0;
    check_true("word distance: long words are cut", word_distance(longer, "") == 63);
}

static void test_help(void)
{
    char *text = NULL;
    size_t size = 0, longest = 0;
    FILE *f = open_memstream(&text, &size);
    options_help(&page, f);
    fclose(f);
    for (const char *p = text; *p; p += strcspn(p, "\n") + (p[strcspn(p, "\n")] != 0))
        if (strcspn(p, "\n") > longest) longest = strcspn(p, "\n");
    check_true("help: at most 80 columns", longest <= 80);
    check_true("help: the example comes first", !strncmp(text, "  tiller verb --steps 3\n", 24));
    for (int i = 0; i < 8; i++) {
        char name[40];
        snprintf(name, sizeof name, "--%s", row[i].name);
        check_true("help: every option", strstr(text, name) != NULL);
        snprintf(name, sizeof name, "[default: %s]", row[i].preset ? row[i].preset : "");
        check_true("help: every default", !row[i].preset || strstr(text, name) != NULL);
    }
    free(text);
}

/* A PNG of 2 x 1 pixels made by hand: red, blue; one stored deflate block. */
static const uint8_t tiny_png[] = {
    0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0, 0, 0, 2, 0, 0, 0, 1, 8, 2, 0, 0, 0, 0x7b, 0x40, 0xe8, 0xdd,
    0, 0, 0, 18, 'I', 'D', 'A', 'T', 0x78, 0x01, 0x01, 7, 0, 0xf8, 0xff, 0, 255, 0, 0, 0, 0, 255, 0x07, 0x00, 0x01, 0xff, 0x55, 0x36, 0xba, 0xc7,
    0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xae, 0x42, 0x60, 0x82 };

static void test_chunks(void)
{
    Arena a = {0};
    Status s = {0};
    size_t size;
    /* CRC of "tEXt" "Software\0x": computed with zlib's crc32 */
    static const uint8_t software[] = { 0, 0, 0, 10, 't', 'E', 'X', 't', 'S', 'o', 'f', 't', 'w', 'a', 'r', 'e', 0, 'x' };
    PngText t[] = { { "Software", "x" } };
    uint8_t *p = png_with_texts(&a, tiny_png, sizeof tiny_png, t, 1, &size, &s);
    check_true("png: a chunk right behind IHDR", p && size == sizeof tiny_png + sizeof software + 4 && !memcmp(p + 33, software, sizeof software) && !memcmp(p, tiny_png, 33));
    check_true("png: its checksum", p && p[51] == 0x4a && p[52] == 0x8d && p[53] == 0xbf && p[54] == 0xce);
    check_true("png: the rest follows", p && !memcmp(p + 55, tiny_png + 33, sizeof tiny_png - 33));

    static const struct { const char *text, *type; } choice[] = {
        { "plain", "tEXt" }, { "two\nlines", "tEXt" }, { "caf\xc3\xa9", "tEXt" }, { "\xc2\xa0", "tEXt" }, { "tab\there", "iTXt" },
        { "\xe2\x82\xac", "iTXt" }, { "\xf0\x9f\x98\x80", "iTXt" }, { "\xc2\x80", "iTXt" }, { "\x7f", "iTXt" }, { "", "tEXt" } };
    for (int i = 0; i < 10; i++) {
        PngText one = { "parameters", choice[i].text };
        Image m;
        p = png_with_texts(&a, tiny_png, sizeof tiny_png, &one, 1, &size, &s);
        check_true("png: tEXt or iTXt", p && !memcmp(p + 37, choice[i].type, 4));
        check_true("png: text comes back", p && !strcmp(png_text(&a, p, size, "parameters"), choice[i].text));
        check_true("png: still a picture", p && image_decode(&m, &a, p, size, "x", &s) && m.H == 1 && m.W == 2 && m.rgb[0] == 255 && m.rgb[5] == 255);
    }
    check_true("png: no such text", !png_text(&a, tiny_png, sizeof tiny_png, "parameters"));
    PngText bad = { "parameters", "\xff" };
    check_true("png: text that is not UTF-8", !png_with_texts(&a, tiny_png, sizeof tiny_png, &bad, 1, &size, &s) && s.code == E_FORMAT);
    arena_free(&a);
}

static void test_utf8(void)
{
    static const char *const good[] = { "", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf", "\xef\xbf\xbf" };
    static const char *const bad[] = { "\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "a\xff" };
    for (int i = 0; i < 7; i++) check_true("utf-8: accepted", utf8_valid(good[i]));
    for (int i = 0; i < 8; i++) check_true("utf-8: refused", !utf8_valid(bad[i]));
}

static void test_exif(void)
{
    uint8_t little[26] = { 'I', 'I', '*', 0, 8, 0, 0, 0, 1, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0 };
    uint8_t big[26] = { 'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 8 };
    check_true("exif: orientation 6, little-endian", exif_turns(little, 26));
    check_true("exif: orientation 8, big-endian", exif_turns(big, 26));
    little[18] = 1;
    check_true("exif: orientation 1 is upright", !exif_turns(little, 26));
    little[4] = 0xff, little[5] = little[6] = little[7] = 0xff;
    check_true("exif: directory outside", !exif_turns(little, 26));
    big[8] = 0xff;
    check_true("exif: more entries than bytes", exif_turns(big, 26));
    for (size_t n = 0; n < 22; n++) check_true("exif: cut short", !exif_turns(big, n));
}

static Run run_make(Arena *a)
{
    return (Run){ .keep = a, .temp = a, .step = a, .run = a, .k = kernels_pick("plain"), .threads = 1 };
}

static void test_fit(void)
{
    Arena a = {0};
    Run r = run_make(&a);
    char said[200];
    uint8_t pixels[4 * 8 * 3];
    for (int i = 0; i < 4 * 8; i++) memset(pixels + 3 * i, 10 * (i % 8), 3);              /* value = 10 x */
    Image in = { pixels, 4, 8, false }, out;
    check_true("fit: the right size is left alone", image_fit(&r, &out, &a, &in, 4, 8, FIT_CROP, said, sizeof said) && out.rgb == pixels && !*said);
    check_true("fit: crop takes the middle", image_fit(&r, &out, &a, &in, 4, 4, FIT_CROP, said, sizeof said) && out.H == 4 && out.W == 4 &&
               out.rgb[0] == 20 && out.rgb[9] == 50 && strstr(said, "4 x 4"));
    check_true("fit: pad keeps all, borders black", image_fit(&r, &out, &a, &in, 8, 8, FIT_PAD, said, sizeof said) && out.H == 8 && out.rgb[0] == 0 &&
               out.rgb[3 * (8 * 2 + 7)] == 70 && out.rgb[3 * (8 * 6)] == 0 && out.rgb[3 * (8 * 7 + 7)] == 0 && strstr(said, "borders"));
    check_true("fit: stretch", image_fit(&r, &out, &a, &in, 8, 8, FIT_STRETCH, said, sizeof said) && out.H == 8 && out.rgb[3 * 63] == 70 && strstr(said, "stretched"));
    check_true("fit: from one pixel", image_fit(&r, &out, &a, &(Image){ pixels + 3, 1, 1, false }, 5, 3, FIT_CROP, said, sizeof said) && out.rgb[44] == 10);
    arena_free(&a);
}

static void test_network(void)
{
    Arena a = {0};
    Run r = run_make(&a);
    Status s = {0};
    Image in = { arena_take(&a, 768), 16, 16, false }, out;
    for (int i = 0; i < 768; i++) in.rgb[i] = (uint8_t)(i % 256);
    Tensor x = temp(&r, SHAPE(3, 16, 16));
    image_to_network(x, &in);
    check_true("network: 0 is -1, 255 is 1", x.x[0] == -1 && x.x[0 * 256 + 85] == 1);
    check_true("network: there and back", image_from_network(&out, &a, x, &s) && !memcmp(in.rgb, out.rgb, 768));
    x.x[0] = -7, x.x[256] = 7, x.x[512] = 0;
    check_true("network: clamped; 127.5 goes to even", image_from_network(&out, &a, x, &s) && out.rgb[0] == 0 && out.rgb[1] == 255 && out.rgb[2] == 128);
    x.x[3] = (real)NAN;
    check_true("network: NaN is an error", !image_from_network(&out, &a, x, &s) && s.code == E_NUMBER);
    arena_free(&a);
}

static void test_encode(void)
{
    Arena a = {0};
    Status s = {0};
    uint8_t pixels[31 * 17 * 3];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(127 * (check_uniform() + 1));
    Image in = { pixels, 17, 31, false }, out;
    PngText t = { "parameters", "a cat" };
    size_t n1, n2;
    uint8_t *p1 = image_png(&a, &in, &t, 1, &n1, &s), *p2 = image_png(&a, &in, &t, 1, &n2, &s);
    check_true("image: same picture, same bytes", p1 && p2 && n1 == n2 && !memcmp(p1, p2, n1));
    check_true("image: PNG comes back", image_decode(&out, &a, p1, n1, "x", &s) && out.H == 17 && out.W == 31 && !memcmp(out.rgb, pixels, sizeof pixels));
    check_true("image: its text", !strcmp(png_text(&a, p1, n1, "parameters"), "a cat"));
    arena_free(&a);
}

static void test_progress(void)
{
    char text[120];
    progress_text(text, sizeof text, "picture 1 of 2", 10, 50, 5);
    check_true("progress: text", !strcmp(text, "picture 1 of 2: step 10 of 50, 0.5 s/step, 20 s left"));
    progress_text(text, sizeof text, "x", 1, 50, 8);
    check_true("progress: minutes", !strcmp(text, "x: step 1 of 50, 8 s/step, 6 min 32 s left"));
    progress_text(text, 10, "a long name", 1, 2, 3);
    check_true("progress: short room", strlen(text) == 9);
}

static void test_exit_codes(void)
{
    Console c = {0};
    static const struct { Code code; int exit; } t[] = { { OK, 0 }, { E_OPTION, 2 }, { E_FILE, 3 }, { E_FORMAT, 3 }, { E_SHAPE, 3 },
                                                         { E_MEMORY, 4 }, { E_WRITE, 5 }, { E_NUMBER, 6 }, { E_STOP, 130 } };
    for (int i = 0; i < 9; i++) check_true("exit codes", console_exit_code(&c, t[i].code) == t[i].exit);
    c.computing = true;
    check_true("exit codes: a shape of our own", console_exit_code(&c, E_SHAPE) == 70);
}

static void test_names(void)
{
    static const struct { const char *path, *insert, *wanted; } t[] = {
        { "a/x.png", "-3", "a/x-3.png" }, { "x", "-3", "x-3" }, { "a.b/x", "-0", "a.b/x-0" }, { ".png", "-1", ".png-1" }, { "x.y.png", "", "x.y.png" } };
    static const char *const base[][2] = { { "a/b", "b" }, { "a/b//", "b" }, { "b", "b" }, { "/", "" }, { "a b/c d", "c d" } };
    char to[64];
    Status s = {0};
    for (int i = 0; i < 5; i++) {
        output_name(to, sizeof to, t[i].path, t[i].insert);
        check_true("names: before the extension", !strcmp(to, t[i].wanted));
        check_true("names: the last part", !strcmp(base_name(base[i][0], to, sizeof to), base[i][1]));
    }
    check_true("size: multiples", size_check(64, 8, 8, &s) && !size_check(64, 12, 8, &s) && s.code == E_OPTION && strstr(s.text, "8 and 16") && strstr(s.text, "height"));
    s = (Status){0};
    check_true("size: below the factor", !size_check(3, 8, 8, &s) && strstr(s.text, "the least is 8"));
}

static void test_metadata(void)
{
    Arena a = {0};
    Status s = {0};
    PipelineRequest q = { .prompt = "a \"red\" car", .negative = "blue", .steps = 4, .scale = 7.5, .W = 128, .H = 64, .count = 1 };
    ScheduleConfig schedule = { .prediction = PREDICT_V };
    WeightHashes h = { .file = { { "unet/x.safetensors", "0123456789abcdef" } }, .files = 1, .model = "0123456789abcdef" };
    Metadata m = { &q, "models/a, b", "fast", "plain", &schedule, &h, .image = 2, .seed = 44 };
    PngText t[METADATA_TEXTS];
    bool made = metadata_texts(t, &a, &m, &s);
    check_true("metadata: parameters", made && !strcmp(t[0].text, "a \"red\" car\nNegative prompt: blue\nSteps: 4, Sampler: DDIM, CFG scale: 7.5, Seed: 44, "
               "Size: 128x64, Model hash: 0123456789, Model: \"a, b\", Version: tiller " TILLER_VERSION));
    const Json *j = made ? json_parse(&a, t[1].text, strlen(t[1].text), 8, "tiller", &s) : NULL;
    check_true("metadata: JSON", j && json_is(json_get(j, "prompt"), q.prompt) && json_is(json_get(j, "prediction_type"), "v_prediction") &&
               json_is(json_get(json_get(j, "weights_sha256"), "unet/x.safetensors"), "0123456789abcdef") && !json_get(j, "latents"));
    check_true("metadata: no folders", j && !strstr(t[1].text, "models/"));
    q.negative = "";
    made = metadata_texts(t, &a, &m, &s);
    check_true("metadata: no negative prompt", made && !strstr(t[0].text, "Negative"));
    arena_free(&a);
}

int main(void)
{
    test_options();
    test_distance();
    test_help();
    test_chunks();
    test_utf8();
    test_exif();
    test_fit();
    test_network();
    test_encode();
    test_progress();
    test_exit_codes();
    test_names();
    test_metadata();
    return check_done();
}
