/* unit_torch.c -- checkpoints of torch: what every opcode means, views, zip64, branches and prefixes, loading from them. */
#include "nn/param.h"
#include "tests/check.h"
#include "tests/files.h"
#include "tests/torch_archive.h"

/* ---- pickles: the machine ------------------------------------------------------------------------------ */

static Arena arena;
static Torchfile file;

/* Opens the pickle as a checkpoint's; its kind, TORCH_FINE when it opens. */
static TorchKind opens(const Bytes *p)
{
    Bytes z = {0};
    Status s = {0};
    torchfile_close(&file);
    arena_free(&arena);
    checkpoint(&z, p, false);
    put_bytes(at("x.pt"), z.b, z.n);
    bytes_free(&z);
    torchfile_open(&file, &arena, at("x.pt"), &s);
    if ((s.code == OK) != (file.refused == TORCH_FINE) || (s.code != OK && (s.code != E_FORMAT || arena.used || file.tensors))) return TORCH_KINDS;
    return file.refused;
}

static void begin(Bytes *p)
{
    p->n = 0;
    op_byte(p, 0x80);
    op_byte(p, 2);
}

static const View SIX = { .numel = 24, .rank = 1, .size = { 6 }, .stride = { 1 } };

/* The pickle "80 02 TEXT": '@' stands for a tensor of six elements, '$' for the name OrderedDict, "word" for a text, #8a for a byte. */
static TorchKind machine(const char *text)
{
    Bytes p = {0};
    begin(&p);
    for (const char *c = text; *c; c++) {
        unsigned hex;
        if (*c == '@') op_view(&p, SIX);
        else if (*c == '$') op_global(&p, "collections", "OrderedDict");
        else if (*c == '"') {
            char word[80];
            size_t n = strcspn(c + 1, "\"");
            snprintf(word, sizeof word, "%.*s", (int)n, c + 1);
            op_text(&p, word);
            c += n + 1;
        } else if (*c == '#' && sscanf(c + 1, "%2x", &hex) == 1) op_byte(&p, (int)hex), c += 2;
        else if (*c != ' ') op_byte(&p, *c);
    }
    TorchKind k = opens(&p);
    bytes_free(&p);
    return k;
}

static bool holds(const char *names)                      /* the tensors' names, in order, with blanks between */
{
    char all[2000] = "";
    for (int i = 0; i < file.tensors; i++) snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? " " : "", file.tensor[i].name);
    return !strcmp(all, names);
}

static void meanings(void)
{
    static const struct { const char *text, *names; } good[] = {
        { "]@a.", "0" }, { "](@@e.", "0 1" }, { "](e.", "" }, { ")0@.", "" }, { "@#85.", "0" }, { "@@#86.", "0 1" }, { "@@@#87.", "0 1 2" },
        { "(@@@@t.", "0 1 2 3" }, { "(t.", "" }, { "}\"a\"@s.", "a" }, { "}(\"b\"@\"a\"@u.", "a b" }, { "}(u.", "" },
        { "}K#07@s.", "7" }, { "}J#ff#ff#ff#ff@s.", "-1" }, { "}M#00#01@s.", "256" }, { "}#8a#00@s.", "0" }, { "}#8a#01#ff@s.", "-1" },
        { "}#8a#02#00#80@s.", "-32768" }, { "}#8a#08#00#00#00#00#00#00#00#80@s.", "-9223372036854775808" }, { "}#8a#08#ff#ff#ff#ff#ff#ff#ff#7f@s.", "9223372036854775807" },
        { "}U#02ab@s.", "ab" }, { "}T#02#00#00#00ab@s.", "ab" }, { "}X#02#00#00#00#c3#a9@s.", "\xC3\xA9" },
        { "@q#050]h#05ah#05a.", "0 1" }, { "@r#07#00#00#000]j#07#00#00#00a.", "0" }, { "}q#00\"a\"@s0h#00.", "a" },
        { "$)R\"a\"@s.", "a" }, { "$)R\"a\"@s}\"_metadata\"$)Rsb.", "a" }, { "$)R\"a\"@sNb.", "a" },
        { "}\"x\"}\"y\"](@@ess.", "x/y/0 x/y/1" },
        { "](N#88#89K#01G#40#00#00#00#00#00#00#00\"text\"@e.", "6" }, { "]@aq#000]h#00ah#00a.", "0/0 1/0" } };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        TorchKind k = machine(good[i].text);
        check_line(good[i].text, torch_kind_name(k < TORCH_KINDS ? k : TORCH_FINE), k == TORCH_FINE && holds(good[i].names));
    }
    check_true("a tensor alone", machine("@.") == TORCH_FINE && file.tensors == 1 && !*file.tensor->name);
}

static void refused(void)
{
    static const struct { const char *text; TorchKind kind; } bad[] = {
        { "", TORCH_TRUNCATED_PICKLE }, { "]", TORCH_TRUNCATED_PICKLE }, { "K", TORCH_TRUNCATED_PICKLE }, { "G#00", TORCH_TRUNCATED_PICKLE },
        { "ccollections\nOrderedDict", TORCH_TRUNCATED_PICKLE }, { "ccollections", TORCH_TRUNCATED_PICKLE }, { "U#05ab", TORCH_TRUNCATED_PICKLE },
        { "T#ff#ff#ff#ffab", TORCH_TRUNCATED_PICKLE }, { "#8a", TORCH_TRUNCATED_PICKLE }, { "#8a#02#00", TORCH_TRUNCATED_PICKLE },
        { ".", TORCH_STACK }, { "0.", TORCH_STACK }, { "(0.", TORCH_STACK }, { "N(0N.", TORCH_STACK }, { "a.", TORCH_STACK }, { "Na.", TORCH_STACK }, { "e.", TORCH_STACK },
        { "(Ne.", TORCH_STACK }, { "u.", TORCH_STACK }, { "q#00.", TORCH_STACK }, { "(q#00.", TORCH_STACK }, { "#85.", TORCH_STACK }, { "N#86.", TORCH_STACK },
        { "N(N#86.", TORCH_STACK }, { "R.", TORCH_STACK }, { "$R.", TORCH_STACK }, { "b.", TORCH_STACK }, { "Nb.", TORCH_STACK }, { "Q.", TORCH_STACK }, { "NN.", TORCH_STACK },
        { "}(Ns.", TORCH_STACK }, { "}\"a\"s.", TORCH_STACK }, { "](a.", TORCH_STACK },
        { "NNa.", TORCH_STRUCTURE }, { "}Na.", TORCH_STRUCTURE }, { ")Na.", TORCH_STRUCTURE }, { "]NNs.", TORCH_STRUCTURE }, { "N(NNu.", TORCH_STRUCTURE },
        { "}NNs.", TORCH_STRUCTURE }, { "}#88@s.", TORCH_STRUCTURE }, { "}])s.", TORCH_STRUCTURE }, { "}G#00#00#00#00#00#00#00#00Ns.", TORCH_STRUCTURE },
        { "}$Ns.", TORCH_STRUCTURE }, { "].N", TORCH_STRUCTURE }, { "]..", TORCH_STRUCTURE },
        { "#8a#09#00#00#00#00#00#00#00#00#00.", TORCH_INTEGER }, { "U#01#ff.", TORCH_STRING }, { "X#03#00#00#00#ed#a0#80.", TORCH_STRING },
        { "X#02#00#00#00#c0#80.", TORCH_STRING }, { "}X#03#00#00#00a#00b@s.", TORCH_STRING },
        { "h#00.", TORCH_MEMO }, { "]q#ff.", TORCH_MEMO }, { "Nq#000h#01.", TORCH_MEMO }, { "j#ff#ff#ff#ff.", TORCH_MEMO },
        { "]q#00h#00a.", TORCH_CYCLE }, { "]q#00]h#00aa.", TORCH_CYCLE }, { "}q#00\"a\"]h#00as.", TORCH_CYCLE }, { "]q#00h#00#85a.", TORCH_CYCLE },
        { "}(\"a\"N\"a\"Nu.", TORCH_DUPLICATE_KEY }, { "}(K#01NM#01#00Nu.", TORCH_DUPLICATE_KEY }, { "}(K#01@\"1\"@u.", TORCH_DUPLICATE_KEY },
        { "}(\"a/b\"@\"a\"}\"b\"@su.", TORCH_DUPLICATE_KEY }, { "]}(\"a\"N\"b\"N\"a\"Nua.", TORCH_DUPLICATE_KEY },
        { "NQ.", TORCH_PERSISTENT_ID }, { ")Q.", TORCH_PERSISTENT_ID }, { "(\"storage\"$\"0\"\"cpu\"K#06tQ.", TORCH_PERSISTENT_ID },
        { "(\"storage\"ctorch\nFloatStorage\n\"0\"\"cpu\"#88tQ.", TORCH_PERSISTENT_ID }, { "(\"storage\"ctorch\nFloatStorage\n\"0\"NK#18tQ.", TORCH_PERSISTENT_ID },
        { "(\"storage\"ctorch\nFloatStorage\n\"0\"\"cpu\"K#18NtQ.", TORCH_PERSISTENT_ID }, { "(\"storage\"ctorch\nFloatStorage\n\"9\"\"cpu\"K#18tQ.", TORCH_STORAGE_MISSING },
        { "(\"storage\"ctorch\nFloatStorage\n\"\"\"cpu\"K#18tQ.", TORCH_STORAGE_MISSING }, { "(\"storage\"ctorch\nFloatStorage\nX#03#00#00#000#00a\"cpu\"K#18tQ.", TORCH_STORAGE_MISSING },
        { "(\"storage\"ctorch\nFloatStorage\n\"0\"\"cpu\"K#17tQ.", TORCH_STORAGE_SIZE }, { "(\"storage\"ctorch\nDoubleStorage\n\"0\"\"cpu\"K#18tQ.", TORCH_STORAGE_SIZE },
        { "@0(\"storage\"ctorch\nIntStorage\n\"0\"\"cpu\"K#18tQ.", TORCH_STORAGE_CONFLICT }, { "ctorch\nfloatStorage\n.", TORCH_GLOBAL_NOT_ALLOWED },
        { "c torch\nFloatStorage\n.", TORCH_FINE }, { "ctorch\nFloatStorage\r\n.", TORCH_GLOBAL_NOT_ALLOWED }, { "ctorch\nFloatStorage#00\n.", TORCH_GLOBAL_NOT_ALLOWED },
        { "c\n\n.", TORCH_GLOBAL_NOT_ALLOWED }, { "ctorch._utils\n_rebuild_tensor\n.", TORCH_GLOBAL_NOT_ALLOWED }, { "cargparse\nNamespace\n.", TORCH_GLOBAL_NOT_ALLOWED },
        { "$N R.", TORCH_BAD_REDUCE }, { "$]R.", TORCH_BAD_REDUCE }, { "$N#85R.", TORCH_BAD_REDUCE }, { "N)R.", TORCH_BAD_REDUCE },
        { "ctorch._utils\n_rebuild_parameter\n@#89#86R.", TORCH_BAD_REDUCE }, { "ctorch._utils\n_rebuild_parameter\nN#89}#87R.", TORCH_BAD_REDUCE },
        { "}(\"a\"u.", TORCH_STACK }, { "ctorch._utils\n_rebuild_parameter\n@K#01}#87R.", TORCH_BAD_REDUCE }, { "ctorch._utils\n_rebuild_tensor_v2\n)R.", TORCH_BAD_REDUCE },
        { "}Nb.", TORCH_BAD_BUILD }, { "]Nb.", TORCH_BAD_BUILD }, { "@Nb.", TORCH_BAD_BUILD } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        TorchKind k = machine(bad[i].text);
        check_line(bad[i].text, torch_kind_name(k < TORCH_KINDS ? k : TORCH_FINE), k == bad[i].kind);
    }
    static const char known[] = "}])(tNKMJGXUTqrhj0aesucQRb.\x80\x85\x86\x87\x88\x89\x8A";
    int unknown = 0;
    for (int c = 0; c < 256; c++) {
        char text[8];
        if (c && memchr(known, c, sizeof known - 1)) continue;
        snprintf(text, sizeof text, "#%02x.", (unsigned)c);
        unknown += machine(text) == TORCH_OPCODE;
    }
    check_true("all 222 other bytes are no opcodes", unknown == 256 - (int)(sizeof known - 1));
    check_true("PROTO again", machine("#80#02].") == TORCH_OPCODE);
    check_true("a parameter is its tensor", machine("}\"w\"ctorch._utils\n_rebuild_parameter\n@#88$)R#87Rs.") == TORCH_FINE && holds("w"));
}

static void nesting(void)
{
    Bytes p = {0};
    for (int lists = 63; lists <= 66; lists++)
        for (int tuples = 0; tuples < 2; tuples++) {
            begin(&p);
            for (int i = 0; i < lists && !tuples; i++) op(&p, "]");
            op_view(&p, SIX);
            for (int i = 0; i < lists && !tuples; i++) op(&p, "a");
            for (int i = 0; i < lists && tuples; i++) op_byte(&p, 0x85);
            op(&p, ".");
            TorchKind k = opens(&p);
            check_line("64 containers in each other, no more", torch_kind_name(k), k == (lists <= 64 ? TORCH_FINE : TORCH_DEPTH) && (lists > 64 || file.tensors == 1));
        }
    for (int lists = 64; lists <= 65; lists++) {          /* from outside inwards: only the walk at the end sees how deep it is */
        begin(&p);
        op(&p, "]q");
        op_byte(&p, 0);
        for (int i = 1; i < lists; i++) {
            op(&p, "]q");
            op_byte(&p, i);
            op(&p, "a0h");
            op_byte(&p, i);
        }
        op(&p, "0h");
        op_byte(&p, 0);
        op(&p, ".");
        TorchKind k = opens(&p);
        check_line("lists filled from outside", torch_kind_name(k), k == (lists <= 64 ? TORCH_FINE : TORCH_DEPTH));
    }
    begin(&p);                                            /* a chain of 40, and another, filled from outside, that ends in it */
    op(&p, "]q");
    op_byte(&p, 99);
    for (int chain = 0; chain < 2; chain++) {
        op(&p, "]q");
        op_byte(&p, 50 * chain);
        op(&p, "a0h");
        op_byte(&p, 50 * chain);
        for (int i = 1; i < 40; i++) {
            op(&p, "]q");
            op_byte(&p, 50 * chain + i);
            op(&p, "a0h");
            op_byte(&p, 50 * chain + i);
        }
        if (chain) op(&p, "h"), op_byte(&p, 0), op(&p, "a");
        op(&p, "0h");
        op_byte(&p, 99);
    }
    op(&p, ".");
    check_true("deep by a way that was short before", opens(&p) == TORCH_DEPTH);
    begin(&p);                                            /* a long key, and a list that holds its dict a hundred times */
    char key[1000];
    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = 0;
    op(&p, "]}");
    op_text(&p, key);
    op_view(&p, SIX);
    op(&p, "sq");
    op_byte(&p, 0);
    for (int i = 0; i < 100; i++) op(&p, "ah"), op_byte(&p, 0);
    op(&p, "a.");
    check_true("names that take more than the file", opens(&p) == TORCH_STRUCTURE);
    begin(&p);                                            /* each list holds the one before twice: 2^40 ways to one tensor */
    op(&p, "]");
    op_view(&p, SIX);
    op(&p, "a");
    for (int i = 0; i < 40; i++) op(&p, "q"), op_byte(&p, i), op(&p, "0]h"), op_byte(&p, i), op(&p, "ah"), op_byte(&p, i), op(&p, "a");
    op(&p, ".");
    check_true("containers that unfold without end", opens(&p) == TORCH_STRUCTURE);
    begin(&p);                                            /* the same without a tensor is nothing */
    op(&p, "]");
    for (int i = 0; i < 40; i++) op(&p, "q"), op_byte(&p, i), op(&p, "0]h"), op_byte(&p, i), op(&p, "ah"), op_byte(&p, i), op(&p, "a");
    op(&p, ".");
    check_true("without a tensor they are nothing", opens(&p) == TORCH_FINE && !file.tensors);
    char name[1100];
    for (int n = 1022; n <= 1025; n++) {
        memset(name, 'n', sizeof name);
        name[n] = 0;
        begin(&p);
        op(&p, "}");
        op_text(&p, name);
        op_view(&p, SIX);
        op(&p, "s.");
        check_true("a name of 1023 bytes, not 1024", opens(&p) == (n <= 1023 ? TORCH_FINE : TORCH_STRING));
    }
    bytes_free(&p);
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

static TorchKind view(View v)
{
    Bytes p = {0};
    begin(&p);
    op(&p, "}");
    op_text(&p, "w");
    op_view(&p, v);
    op(&p, "s.");
    TorchKind k = opens(&p);
    bytes_free(&p);
    return k;
}

static bool reads(const double *wanted, int n)            /* storage 0 holds i / 2 at i; whole, and from every place on */
{
    real x[64];
    Status s = {0};
    const TorchTensor *t = torchfile_find(&file, "w");
    bool good = t && t->count == (uint64_t)n && torchfile_read(&file, t, x, &s);
    for (int i = 0; i < n && good; i++) good = (double)x[i] == wanted[i] / 2;
    for (int from = 0; from <= n && good; from++) {
        good = torchfile_read_part(&file, t, (uint64_t)from, (uint64_t)(n - from), x, &s);
        for (int i = from; i < n && good; i++) good = (double)x[i - from] == wanted[i] / 2;
    }
    return good && !torchfile_read_part(&file, t, (uint64_t)n, 1, x, &s) && s.code == E_SHAPE;
}

#define READS(what, v, ...) do { \
    const double wanted[] = { __VA_ARGS__ }; \
    check_true(what, view((View)v) == TORCH_FINE && reads(wanted, (int)(sizeof wanted / sizeof *wanted))); } while (0)
#define V(...) { .numel = 24, __VA_ARGS__ }

static void views(void)
{
    READS("dense", V(.rank = 2, .size = { 2, 3 }, .stride = { 3, 1 }), 0, 1, 2, 3, 4, 5);
    READS("with an offset", V(.offset = 18, .rank = 2, .size = { 2, 3 }, .stride = { 3, 1 }), 18, 19, 20, 21, 22, 23);
    READS("transposed", V(.rank = 2, .size = { 3, 2 }, .stride = { 1, 3 }), 0, 3, 1, 4, 2, 5);
    READS("every second", V(.offset = 1, .rank = 1, .size = { 4 }, .stride = { 2 }), 1, 3, 5, 7);
    READS("expanded", V(.offset = 7, .rank = 3, .size = { 2, 2, 2 }, .stride = { 0, 1, 0 }), 7, 7, 8, 8, 7, 7, 8, 8);
    READS("channels last", V(.rank = 4, .size = { 1, 2, 2, 2 }, .stride = { 8, 1, 4, 2 }), 0, 2, 4, 6, 1, 3, 5, 7);
    READS("a scalar", V(.offset = 5), 5);
    READS("sizes 1, strides of any kind", V(.rank = 3, .size = { 1, 3, 1 }, .stride = { 999, 1, 12345 }), 0, 1, 2);
    check_true("and it is dense", torchfile_find(&file, "w")->dense);
    READS("rank 8", V(.rank = 8, .size = { 1, 1, 1, 1, 1, 1, 1, 2 }, .stride = { 1, 1, 1, 1, 1, 1, 1, 1 }), 0, 1);
    check_true("empty", view((View)V(.rank = 2, .size = { 0, 4 }, .stride = { 4, 1 })) == TORCH_FINE && reads(NULL, 0));
    check_true("empty, at the end", view((View)V(.offset = 24, .rank = 1, .size = { 0 }, .stride = { 1 })) == TORCH_FINE && reads(NULL, 0));
    check_true("empty, of an empty storage", view((View){ .key = "2", .rank = 1, .size = { 0 }, .stride = { 1 } }) == TORCH_FINE && reads(NULL, 0));
    static const View bad[] = {
        V(.offset = 25, .rank = 1, .size = { 0 }, .stride = { 1 }), V(.offset = 24), V(.offset = -1), V(.rank = 1, .size = { 25 }, .stride = { 1 }),
        V(.rank = 1, .size = { 2 }, .stride = { 24 }), V(.rank = 2, .size = { 2, 2 }, .stride = { 23, 1 }), V(.rank = 1, .size = { -1 }, .stride = { 1 }),
        V(.rank = 1, .size = { 1 }, .stride = { -1 }), V(.rank = 9, .size = { 1, 1, 1, 1, 1, 1, 1, 1, 1 }, .stride = { 1, 1, 1, 1, 1, 1, 1, 1, 1 }),
        V(.rank = 1, .size = { 24 * 4096 + 1 }, .stride = { 0 }), V(.rank = 2, .size = { INT64_MAX, 3 }, .stride = { 0, 0 }), V(.rank = 2, .size = { 2, 2 }, .stride = { INT64_MAX, INT64_MAX }),
        V(.rank = 3, .size = { 0, INT64_MAX, 4 }, .stride = { 0, 0, 0 }), V(.offset = INT64_MAX, .rank = 1, .size = { 3 }, .stride = { INT64_MAX }),
        V(.rank = 1, .size = { 5 }, .stride = { (int64_t)1 << 62 }),          /* 4 x 2^62 wraps to 0 */
        { .key = "2", .rank = 0 }, { .key = "2", .rank = 1, .size = { 1 }, .stride = { 0 } } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) check_true("a view that leaves its storage", view(bad[i]) == TORCH_TENSOR_BOUNDS);
    check_true("repeated 4096 times, no more", view((View)V(.rank = 1, .size = { 24 * 4096 }, .stride = { 0 })) == TORCH_FINE);
    static const char *const part[] = { "K#00K#02#85K#01#85#89N", "K#00K#02#85K#01#85N}", "N K#02#85K#01#85#89}", "K#00]K#01#85#89}", "K#00K#02#85N#85#89}" };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        char text[300];
        snprintf(text, sizeof text, "}\"w\"ctorch._utils\n_rebuild_tensor_v2\n((\"storage\"ctorch\nFloatStorage\n\"0\"\"cpu\"K#18tQ%stRs.", part[i]);
        check_line("arguments of another kind", part[i], machine(text) == TORCH_BAD_REDUCE);
    }
    /* metadata: nothing, or an empty dict; "neg" would change the sign of what is stored */
    static const struct { const char *meta; TorchKind kind; } more[] = { { "N", TORCH_FINE }, { "}", TORCH_FINE }, { "$)R", TORCH_FINE }, { "}\"neg\"#88s", TORCH_BAD_REDUCE },
                                                                        { "K#01", TORCH_BAD_REDUCE }, { "NN", TORCH_BAD_REDUCE } };
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char text[300];
        snprintf(text, sizeof text, "}\"w\"ctorch._utils\n_rebuild_tensor_v2\n((\"storage\"ctorch\nFloatStorage\n\"0\"\"cpu\"K#18tQK#00K#02#85K#01#85#89$)R%stRs.", more[i].meta);
        check_line("metadata", more[i].meta, machine(text) == more[i].kind);
    }
}

static void types(void)                                   /* the same 96 bytes as items of every kind */
{
    static const struct { const char *name; Dtype type; } kind[] = {
        { "FloatStorage", T_F32 }, { "HalfStorage", T_F16 }, { "BFloat16Storage", T_BF16 }, { "DoubleStorage", T_F64 }, { "LongStorage", T_I64 }, { "IntStorage", T_I32 },
        { "ShortStorage", T_I16 }, { "CharStorage", T_I8 }, { "ByteStorage", T_U8 }, { "BoolStorage", T_BOOL } };
    unsigned char stored[96];
    float x[ARCHIVE_NUMBERS];
    for (int i = 0; i < ARCHIVE_NUMBERS; i++) x[i] = (float)i / 2;
    memcpy(stored, x, sizeof x);
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        size_t width = dtype_size(kind[i].type), n = sizeof stored / width;
        unsigned char raw[96], turned[96];
        real r[96], rt[96];
        int64_t v[96], vt[96];
        Status s = {0};
        View whole = { .storage = kind[i].name, .key = "1", .numel = (int64_t)n, .rank = 1, .size = { (int64_t)n }, .stride = { 1 } };
        bool good = view(whole) == TORCH_FINE && file.tensor->type == kind[i].type && torchfile_bytes(&file, file.tensor, 0, n, raw, &s) && !memcmp(raw, stored, sizeof raw);
        good = good && (kind[i].type <= T_BF16 ? torchfile_read(&file, file.tensor, r, &s) : torchfile_read_i64(&file, file.tensor, v, &s));
        View half = { .storage = kind[i].name, .key = "1", .numel = (int64_t)n, .rank = 2, .size = { (int64_t)n / 2, 2 }, .stride = { 1, (int64_t)n / 2 } };
        good = good && view(half) == TORCH_FINE && torchfile_bytes(&file, file.tensor, 0, n, turned, &s);
        good = good && (kind[i].type <= T_BF16 ? torchfile_read(&file, file.tensor, rt, &s) : torchfile_read_i64(&file, file.tensor, vt, &s));
        for (size_t k = 0; k < n && good; k++) {
            size_t from = k % 2 * (n / 2) + k / 2;
            good = !memcmp(turned + k * width, stored + from * width, width) && (kind[i].type <= T_BF16 ? !memcmp(&rt[k], &r[from], sizeof *r) : vt[k] == v[from]);
        }
        check_line("every type, dense and turned", kind[i].name, good);
    }
}

/* ---- archives ------------------------------------------------------------------------------------------ */

static void wide(void)
{
    Bytes p = {0}, z = {0};
    Status s = {0};
    real x[6];
    begin(&p);
    op_view(&p, SIX);
    op(&p, ".");
    checkpoint(&z, &p, true);
    torchfile_close(&file);
    put_bytes(at("wide.pt"), z.b, z.n);
    check_line("zip64 fields throughout", s.text, torchfile_open(&file, &arena, at("wide.pt"), &s) && torchfile_read(&file, file.tensor, x, &s) && x[5] == (real)2.5);
    torchfile_close(&file);
    for (int k = 0; k < 3; k++) {                         /* a zip64 field too short, of another kind, absent */
        Bytes y = {0};
        bytes_put(&y, z.b, z.n);
        size_t from = (size_t)archive_number(z.b + z.n - 98 + 48, 8) + 46 + strlen("a/data.pkl");
        if (k == 0) y.b[from + 2] = 16;
        if (k == 1) y.b[from] = 2;
        if (k == 2) y.b[from + 2] = 40;
        put_bytes(at("wide.pt"), y.b, y.n);
        s = (Status){0};
        check_true("a zip64 field that is not in order", !torchfile_open(&file, &arena, at("wide.pt"), &s) && file.refused == TORCH_ZIP_BOUNDS);
        bytes_free(&y);
    }
    bytes_free(&p);
    bytes_free(&z);
}

/* Fields of the archive, one wrong at a time.  In entry k of the directory (data.pkl, byteorder, data/0, data/1, data/2, version), in the
 * local header of that entry, in the zip64 end record, in its locator, in the end record. */
typedef enum { CENTRAL, LOCAL, END64, LOCATOR, END } Where;
static unsigned char *place_of(Bytes *z, Where where, int k)
{
    unsigned char *end = z->b + z->n - 22, *p = z->b + archive_number(end + 16, 4);
    if (where == END) return end;
    if (where == LOCATOR) return end - 20;
    if (where == END64) return end - 76;
    while (k-- > 0) p += 46 + archive_number(p + 28, 2) + archive_number(p + 30, 2) + archive_number(p + 32, 2);
    return where == CENTRAL ? p : z->b + archive_number(p + 42, 4);
}

static void fields(void)
{
    static const struct { const char *what; Where where; int entry, at, bytes; int64_t value; bool add; TorchKind kind; } row[] = {
        { "as it is", CENTRAL, 0, 4, 2, 45, false, TORCH_FINE },                                  { "a date", CENTRAL, 0, 12, 4, 77, false, TORCH_FINE },
        { "signature of an entry", CENTRAL, 2, 0, 1, 'Q', false, TORCH_ZIP_BOUNDS },              { "another method", CENTRAL, 2, 10, 2, 8, false, TORCH_ZIP_COMPRESSED },
        { "stored size", CENTRAL, 2, 20, 4, 1, true, TORCH_ZIP_COMPRESSED },                      { "a disk", CENTRAL, 2, 34, 2, 1, false, TORCH_ZIP_BOUNDS },
        { "CRC-32", CENTRAL, 0, 16, 4, 1, true, TORCH_ZIP_CRC },                                  { "a name that is longer", CENTRAL, 5, 28, 2, 1, true, TORCH_ZIP_BOUNDS },
        { "a longer extra field", CENTRAL, 5, 30, 2, 1, true, TORCH_ZIP_BOUNDS },                 { "a longer comment", CENTRAL, 5, 32, 2, 1, true, TORCH_ZIP_BOUNDS },
        { "encrypted", CENTRAL, 5, 8, 2, 1, true, TORCH_ZIP_FLAGS },                              { "strong encryption", CENTRAL, 3, 8, 2, 0x40, true, TORCH_ZIP_FLAGS },
        { "place in another entry", CENTRAL, 5, 42, 4, 0, false, TORCH_ZIP_HEADER_MISMATCH },    { "place past the end", CENTRAL, 5, 42, 4, 0x7FFFFFFF, false, TORCH_ZIP_BOUNDS },
        { "place in the directory", CENTRAL, 5, 42, 4, 60, true, TORCH_ZIP_BOUNDS },              { "a name with a control character", CENTRAL, 5, 48, 1, 7, false, TORCH_BAD_NAME },
        { "a name with a backslash", CENTRAL, 5, 48, 1, '\\', false, TORCH_BAD_NAME },            { "a name beyond ASCII", CENTRAL, 5, 48, 1, 0xE9, false, TORCH_BAD_NAME },
        { "an absolute name", CENTRAL, 5, 46, 1, '/', false, TORCH_BAD_NAME },                    { "another name there", LOCAL, 5, 33, 1, 'V', false, TORCH_ZIP_HEADER_MISMATCH },
        { "signature there", LOCAL, 5, 3, 1, 5, false, TORCH_ZIP_HEADER_MISMATCH },               { "method there", LOCAL, 2, 8, 2, 8, false, TORCH_ZIP_HEADER_MISMATCH },
        { "flags there", LOCAL, 2, 6, 2, 0x800, false, TORCH_ZIP_FLAGS },                         { "CRC-32 there", LOCAL, 2, 14, 4, 7, false, TORCH_ZIP_HEADER_MISMATCH },
        { "stored size there", LOCAL, 2, 18, 4, 7, false, TORCH_ZIP_HEADER_MISMATCH },            { "size there", LOCAL, 2, 22, 4, 7, false, TORCH_ZIP_HEADER_MISMATCH },
        { "size there, right", LOCAL, 2, 22, 4, 96, false, TORCH_FINE },                          { "size there, in a zip64 field", LOCAL, 2, 22, 4, 0xFFFFFFFF, false, TORCH_FINE },
        { "length of the name there", LOCAL, 2, 26, 2, 1, true, TORCH_ZIP_HEADER_MISMATCH },      { "an extra field beyond the end", LOCAL, 5, 28, 2, 600, true, TORCH_ZIP_BOUNDS },
        { "an extra field over the next entry", LOCAL, 1, 28, 2, 60, true, TORCH_ZIP_BOUNDS },    { "zip64: signature", END64, 0, 3, 1, 7, false, TORCH_ZIP_BOUNDS },
        { "zip64: its size", END64, 0, 4, 8, 1, true, TORCH_ZIP_BOUNDS },                         { "zip64: a disk", END64, 0, 16, 4, 1, false, TORCH_ZIP_BOUNDS },
        { "zip64: the directory's disk", END64, 0, 20, 4, 1, false, TORCH_ZIP_BOUNDS },           { "zip64: entries on this disk", END64, 0, 24, 8, -1, true, TORCH_ZIP_BOUNDS },
        { "zip64: entries, not as at the end", END64, 0, 32, 8, -1, true, TORCH_ZIP_BOUNDS },     { "zip64: size of the directory", END64, 0, 40, 8, -1, true, TORCH_ZIP_BOUNDS },
        { "zip64: place of the directory", END64, 0, 48, 8, 1, true, TORCH_ZIP_BOUNDS },          { "locator: a disk", LOCATOR, 0, 4, 4, 1, false, TORCH_ZIP_BOUNDS },
        { "locator: the place", LOCATOR, 0, 8, 8, 1, true, TORCH_ZIP_BOUNDS },                    { "locator: before", LOCATOR, 0, 8, 8, -1, true, TORCH_ZIP_BOUNDS },
        { "locator: past the end", LOCATOR, 0, 8, 8, INT64_MAX, false, TORCH_ZIP_BOUNDS },        { "locator: disks", LOCATOR, 0, 16, 4, 2, false, TORCH_ZIP_BOUNDS },
        { "no locator", LOCATOR, 0, 3, 1, 8, false, TORCH_ZIP_BOUNDS },                           { "end: a disk", END, 0, 4, 2, 1, false, TORCH_ZIP_BOUNDS },
        { "end: the directory's disk", END, 0, 6, 2, 1, false, TORCH_ZIP_BOUNDS },                { "end: entries on this disk", END, 0, 8, 2, -1, true, TORCH_ZIP_BOUNDS },
        { "end: entries saturated on one side", END, 0, 10, 2, 0xFFFF, false, TORCH_ZIP_BOUNDS }, { "end: size of the directory", END, 0, 12, 4, -1, true, TORCH_ZIP_BOUNDS },
        { "end: a comment that is not there", END, 0, 20, 2, 1, false, TORCH_NOT_ZIP },           { "end: signature", END, 0, 3, 1, 7, false, TORCH_NOT_ZIP },
        { "the first bytes", LOCAL, 0, 3, 1, 5, false, TORCH_NOT_ZIP },                           { "byteorder", LOCAL, 1, 46, 1, 'L', false, TORCH_BYTEORDER } };
    Bytes p = {0}, z = {0};
    begin(&p);
    op_view(&p, SIX);
    op(&p, ".");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        Status s = {0};
        checkpoint(&z, &p, false);
        unsigned char *to = place_of(&z, row[i].where, row[i].entry) + row[i].at;
        archive_store(to, (uint64_t)row[i].value + (row[i].add ? archive_number(to, row[i].bytes) : 0), row[i].bytes);
        put_bytes(at("x.pt"), z.b, z.n);
        bool ok = torchfile_open(&file, &arena, at("x.pt"), &s) && torchfile_verify(&file, &s);
        check_line(row[i].what, s.text, file.refused == row[i].kind && ok == (row[i].kind == TORCH_FINE));
        torchfile_close(&file);
    }
    /* An entry that is one byte longer than there is room, one that reaches into the next, an entry fewer in all the places that count. */
    for (int k = 0; k < 4; k++) {
        Status s = {0};
        checkpoint(&z, &p, false);
        unsigned char *e = place_of(&z, CENTRAL, k == 0 ? 5 : 1), *end64 = place_of(&z, END64, 0), *end = place_of(&z, END, 0);
        for (int i = 20; i <= 24 && k < 2; i += 4) archive_store(e + i, archive_number(e + i, 4) + (k ? 60 : 1), 4);
        for (int i = 0; i < 2 && k >= 2; i++) archive_store(end64 + 24 + 8 * i, 5, 8), archive_store(end + 8 + 2 * i, 5, 2);
        if (k == 3) archive_store(end64 + 40, archive_number(end64 + 40, 8) - 55, 8), archive_store(end + 12, archive_number(end + 12, 4) - 55, 4);
        put_bytes(at("x.pt"), z.b, z.n);
        check_line("entries that do not fill the archive", s.text, !torchfile_open(&file, &arena, at("x.pt"), &s) && file.refused == TORCH_ZIP_BOUNDS);
    }
    Status s = {0};
    checkpoint(&z, &p, false);
    archive_store(z.b + z.n - 2, 5, 2);
    bytes_put(&z, "PK\5\6!", 5);
    put_bytes(at("x.pt"), z.b, z.n);
    check_line("a comment", s.text, torchfile_open(&file, &arena, at("x.pt"), &s));
    torchfile_close(&file);
    bytes_free(&p);
    bytes_free(&z);
}

/* A storage of 4 GiB and 16 bytes, all zero but for the last four: a hole in the file, so it takes no place on the disk. */
static void beyond_32_bits(void)
{
    enum { ITEMS_AFTER = 4 };
    const uint64_t big = ((uint64_t)1 << 32) + 16, items = big / 4;
    Bytes p = {0}, head = {0}, tail = {0}, z = {0};
    Status s = {0};
    float last = 42;
    real x[2];
    begin(&p);
    op(&p, "}");
    op_text(&p, "far");
    op_view(&p, (View){ .key = "1", .numel = 6, .rank = 1, .size = { 2 }, .stride = { 5 } });
    op(&p, "s");
    op_text(&p, "large");
    op_view(&p, (View){ .numel = (int64_t)items, .offset = (int64_t)items - 2, .rank = 1, .size = { 2 }, .stride = { 1 } });
    op(&p, "s.");
    float six[6] = { 0, 1, 2, 3, 4, 5 };
    const Part part[] = { { "a/data.pkl", p.b, p.n }, { "a/data/0", &last, 4 }, { "a/data/1", six, sizeof six } };
    archive(&z, part, 3, true);                           /* then the second part is stretched, and what follows moved */
    size_t stretch = (size_t)(big - 4), cut = 0, record, end = z.n - 98;
    for (size_t i = 0; i + 10 < z.n && !cut; i++)
        if (!memcmp(z.b + i, "a/data/1", 8)) cut = i - 30;
    bytes_put(&head, z.b, cut - 4);
    bytes_put(&tail, z.b + cut, z.n - cut);
    record = (size_t)archive_number(z.b + end + 48, 8) - cut;
    unsigned char *d = tail.b + record + 46 + strlen("a/data.pkl") + 28;     /* of "a/data/0" */
    archive_store(d + 46 + 8 + 4, big, 8);
    archive_store(d + 46 + 8 + 12, big, 8);
    d += 46 + 8 + 28;                                     /* of "a/data/1" */
    archive_store(d + 46 + 8 + 20, cut + stretch, 8);
    archive_store(tail.b + tail.n - 98 + 48, record + cut + stretch, 8);
    archive_store(tail.b + tail.n - 42 + 8, end + stretch, 8);
    FILE *f = fopen(at("large.pt"), "wb");
    bool made = f && fwrite(head.b, 1, head.n, f) == head.n && !fseeko(f, (off_t)(cut + stretch - 4), SEEK_SET) && fwrite(&last, 1, 4, f) == 4
             && fwrite(tail.b, 1, tail.n, f) == tail.n;
    if (f && fclose(f)) made = false;
    check_line("a file of 4 GiB opens", s.text, made && torchfile_open(&file, &arena, at("large.pt"), &s) && file.file.size > big && file.tensors == 2);
    const TorchTensor *far = torchfile_find(&file, "far"), *large = torchfile_find(&file, "large");
    check_true("a storage that lies beyond 4 GiB is read", far && torchfile_read(&file, far, x, &s) && x[0] == 0 && x[1] == 5);
    check_true("a storage of more than 4 GiB is in place", large && large->offset == items - 2 && file.storage[large->storage].count == items);
    unsigned char four[4];
    check_true("and ends where it should", large && file_read(&file.file, four, file.storage[large->storage].at + big - 4, 4, &s) && !memcmp(four, &last, 4));
    torchfile_close(&file);
    bytes_free(&p);
    bytes_free(&z);
    bytes_free(&head);
    bytes_free(&tail);
    remove(at("large.pt"));
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static void write_pt(const char *name, const char *text)  /* as machine() */
{
    machine(text);
    torchfile_close(&file);
    rename(at("x.pt"), at(name));
}

static void branches(void)
{
    static const struct { const char *text, *branch, *strip, *names; Code code; } row[] = {
        { "}(\"a\"@\"b\"@\"opt\"}\"c\"@su.", NULL, NULL, "a b", OK },                     /* the top */
        { "}(\"state_dict\"}\"a\"@s\"teacher\"}\"b\"@su.", NULL, NULL, "a", OK },
        { "}(\"student\"}\"a\"@s\"teacher\"}(\"module.backbone.b\"@\"head.c\"@uu.", NULL, NULL, "b head.c", OK },
        { "](}\"a\"@sNNN}\"e\"@se.", NULL, NULL, "e", OK },                               /* place 4 of a list */
        { "](}\"a\"@s}\"e\"@se.", NULL, NULL, "a", OK },
        { "}(\"0\"}\"a\"@s\"4\"}\"e\"@su.", NULL, NULL, "a", OK },                         /* of a dict, 4 is a name as any other */
        { "}(\"0\"@\"520\"@u.", NULL, NULL, "0 520", OK },
        { "}(\"model\"}\"a\"@s\"epoch\"K#01u.", NULL, NULL, "a", OK },                     /* the only one */
        { "}(\"x\"}\"a\"@s\"y\"}\"b\"@su.", NULL, NULL, "", E_FORMAT },
        { "}\"a\"Ns.", NULL, NULL, "", E_FORMAT },
        { "}(\"x\"}\"a\"@s\"y\"}\"b\"@su.", "y", NULL, "b", OK },
        { "}(\"x\"}\"a\"@s\"y\"}\"b\"@su.", "", NULL, "x/a y/b", OK },
        { "}(\"x\"}\"a\"}\"c\"@ss\"y\"}\"b\"@su.", "x", NULL, "a/c", OK },
        { "}(\"x\"}\"a\"}\"c\"@ss\"y\"}\"b\"@su.", "x/a", NULL, "c", OK },
        { "}\"x\"}\"a\"@ss.", "z", NULL, "", E_OPTION },
        { "}(\"module.a\"@\"backbone.b\"@\"module.backbone.c\"@\"backbone.module.d\"@u.", NULL, NULL, "a b c module.d", OK },
        { "}(\"module.a\"@\"b\"@u.", NULL, "", "b module.a", OK },
        { "}(\"model.a\"@\"b\"@u.", NULL, "model.", "a b", OK },
        { "}(\"module.a\"@\"a\"@u.", NULL, NULL, "", E_FORMAT } };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        Weights w;
        Status s = {0};
        char all[200] = "";
        write_pt("w.pt", row[i].text);
        weights_open_branch(&w, at("w.pt"), row[i].branch, row[i].strip, &s);
        for (int k = 0; s.code == OK && k < w.file->entries; k++) snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", k ? " " : "", w.file->entry[k].name);
        check_line(row[i].text, s.text, s.code == row[i].code && !strcmp(all, row[i].names));
        weights_close(&w);
    }
    Weights w;
    Status s = {0};
    real x[6];
    const Safetensors *in = NULL;
    write_pt("w.pt", "}(\"x\"}\"a\"@s\"y\"}\"b\"@su.");
    check_true("its numbers", weights_open_branch(&w, at("w.pt"), "y", NULL, &s) && weights_find(&w, "b", &in) && weights_read_part(&w, in, weights_find(&w, "b", NULL), 2, 4, x, &s) && x[3] == (real)2.5);
    check_true("a list of tensors cannot be read as safetensors", !safetensors_read_part(in, in->entry, 0, 1, x, &s) && s.code == E_FILE);
    weights_close(&w);
}

typedef struct { Param a, b; } Pair;

static void pair_walk(void *model, Walk *w)
{
    Pair *m = model;
    walk_param(w, &m->a, "a.weight");
    walk_param(w, &m->b, "b");
}

static Pair load_pair(LoadReport *report, Status *s)      /* from the scratch folder */
{
    Pair m = { param_matrix(2, 3), param_vector(6) };
    Weights w;
    *s = (Status){0};
    *report = (LoadReport){0};
    if (weights_open(&w, scratch, "model", s)) params_load(pair_walk, &m, &w, &arena, report, s);
    weights_close(&w);
    return m;
}

static void loading(void)
{
    LoadReport report;
    Status s;
    Bytes p = {0}, z = {0};
    const View turned = { .numel = 24, .rank = 2, .size = { 2, 3 }, .stride = { 1, 2 } };
    begin(&p);
    op(&p, "}");
    op_text(&p, "state_dict");
    op(&p, "}(");
    op_text(&p, "module.a.weight");
    op_view(&p, turned);
    op_text(&p, "module.b");
    op_view(&p, (View){ .key = "1", .numel = 24, .offset = 18, .rank = 1, .size = { 6 }, .stride = { 1 } });
    op_text(&p, "module.more");
    op_view(&p, SIX);
    op(&p, "us.");
    scratch_empty();
    opens(&p);
    torchfile_close(&file);
    rename(at("x.pt"), at("celeba_hq.ckpt"));
    Pair m = load_pair(&report, &s);
    check_line("a folder with one checkpoint", s.text, s.code == OK && report.loaded == 2 && report.surplus == 1 && !strcmp(report.first_surplus, "more") && !report.nonfinite);
    check_true("its numbers, turned", m.a.v.x && m.a.v.x[1] == 1 && m.a.v.x[3] == (real)0.5 && m.b.v.x[5] == (real)11.5);
    put_text(at("second.pth"), "x");
    load_pair(&report, &s);
    check_line("two checkpoints", s.text, s.code == E_FILE && strstr(s.text, "2 checkpoints"));
    rename(at("celeba_hq.ckpt"), at("pytorch_model.bin"));
    load_pair(&report, &s);
    check_line("a usual name goes before", s.text, s.code == OK && report.loaded == 2);
    remove(at("second.pth"));
    remove(at("pytorch_model.bin"));
    float numbers[ARCHIVE_NUMBERS] = { 1, 2, 3, 4, (float)NAN, 6 };
    const Part part[] = { { "a/data.pkl", p.b, p.n }, { "a/data/0", numbers, sizeof numbers }, { "a/data/1", numbers, sizeof numbers } };
    archive(&z, part, 3, false);
    put_bytes(at("model.pt"), z.b, z.n);
    m = load_pair(&report, &s);
    check_true("NaN is told of", s.code == OK && report.nonfinite == 1 && !strcmp(report.first_nonfinite, "a.weight") && isnan(m.a.v.x[2]));
    for (size_t i = 0; i + 4 < z.n; i++)
        if (!memcmp(z.b + i, &numbers[3], 4)) z.b[i] ^= 1;
    put_bytes(at("model.pt"), z.b, z.n);
    m = load_pair(&report, &s);
    check_line("damaged numbers", s.text, s.code == E_FORMAT && strstr(s.text, "zip_crc") && !m.a.v.x);
    write_pt("model.pt", "}\"b\"@s.");
    load_pair(&report, &s);
    check_line("a tensor is missing", s.text, s.code == E_FORMAT && strstr(s.text, "1 missing: a.weight"));
    write_pt("model.pt", "}(\"b\"@\"a.weight\"@u.");
    load_pair(&report, &s);
    check_line("of another shape", s.text, s.code == E_FORMAT && strstr(s.text, "a.weight is [6], not [2,3]"));
    put_text(at("model.pt"), "\x80\2.");
    load_pair(&report, &s);
    check_line("an old format", torch_advice(&s) ? torch_advice(&s) : "", s.code == E_FORMAT && strstr(s.text, "legacy_format") && torch_advice(&s) && strstr(torch_advice(&s), "torch.save"));
    bytes_free(&p);
    bytes_free(&z);
    scratch_empty();
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    file.cached = -1;
    meanings();
    refused();
    nesting();
    views();
    types();
    wide();
    fields();
    beyond_32_bits();
    branches();
    loading();
    torchfile_close(&file);
    arena_free(&arena);
    scratch_remove();
    return check_done();
}
