/* hostile_tokenizer.c -- tokenizer folders that are wrong: each is refused with a text that names file and place, or
 * loads into a tokenizer that works.  Edited by hand, cut at every length, mutated at random, short of memory. */
#include <sys/stat.h>
#include <unistd.h>
#include "nn/tokenizer.h"
#include "nn/tokenizer_unicode.h"
#include "tests/check.h"

enum { VOCAB, MERGES, CONFIG, MAP, FILES, ROOM = 1 << 15 };
static const char *const name[FILES] = { "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json" };
static char folder[200];
static char good[FILES][ROOM];

static void put(int file, const char *bytes, size_t n)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name[file]);
    FILE *f = fopen(path, "wb");
    if (f) {
        fwrite(bytes, 1, n, f);
        fclose(f);
    }
}

static void put_all(void)
{
    for (int i = 0; i < FILES; i++) put(i, good[i], strlen(good[i]));
}

static void make_good(void)
{
    char *v = good[VOCAB];
    uint32_t next = 0x100;
    v += sprintf(v, "{");
    for (int byte = 0; byte < 256; byte++) {
        char text[5] = "", escape[6];
        int plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        text[unicode_write(text, plain ? (uint32_t)byte : next++)] = 0;
        snprintf(escape, sizeof escape, "%s%s", byte == '"' || byte == '\\' ? "\\" : "", text);
        v += sprintf(v, "\"%s\":%d,\"%s</w>\":%d,", escape, byte, escape, 256 + byte);
    }
    sprintf(v, "\"th\":512,\"the</w>\":513,\"in\":514,\"<|startoftext|>\":515,\"<|endoftext|>\":516}");
    strcpy(good[MERGES], "#version: 0.2\nt h\nth e</w>\ni n\n");
    strcpy(good[CONFIG], "{\"bos_token\":\"<|startoftext|>\",\"eos_token\":\"<|endoftext|>\",\"pad_token\":\"<|endoftext|>\",\"model_max_length\":77}");
    strcpy(good[MAP], "{\"bos_token\":{\"content\":\"<|startoftext|>\"},\"pad_token\":\"!\",\"eos_token\":null}");
}

/* A loaded tokenizer must work: ids in range for an awkward text, spans inside it. */
static int works(const Tokenizer *t)
{
    static const char text[] = "The thin inn\xC3\xA9!! <|endoftext|> 12 \xF0\x9F\x99\x82";
    Arena scratch = {0};
    Status s = {0};
    Piece p[64];
    int n = tokenizer_pieces(t, &scratch, text, sizeof text, p, 64, &s), fine = n > 0 && n <= 64 && scratch.used == 0;
    for (int i = 0; fine && i < n; i++)
        fine = p[i].id >= 0 && p[i].id < tokenizer_count(t) && tokenizer_text(t, p[i].id)
            && p[i].from >= 0 && p[i].from < p[i].to && p[i].to <= (int)sizeof text;
    arena_free(&scratch);
    return fine;
}

static Code load(Status *s, int *pad, int *length)
{
    Arena a = {0};
    *s = (Status){0};
    const Tokenizer *t = tokenizer_load(&a, folder, s);
    if (t && !works(t)) s->code = E_NUMBER;
    if (!t && (s->code == OK || !s->text[0])) s->code = E_NUMBER;
    if (t && pad) *pad = tokenizer_pad(t);
    if (t && length) *length = tokenizer_length(t);
    arena_free(&a);
    return s->code;
}

typedef struct { int file; const char *before, *after; Code code; const char *says; } Edit;
static const Edit edit[] = {
    { VOCAB, "\"in\":514", "\"in\":513", E_FORMAT, "vocab.json: each id once expected, found again at \"in\"" },
    { VOCAB, "\"in\":514", "\"in\":517", E_FORMAT, "\"in\"" },
    { VOCAB, "\"in\":514", "\"in\":1000000", E_FORMAT, "below 1000000" },
    { VOCAB, "\"in\":514", "\"in\":99999999999999999999", E_FORMAT, "\"in\"" },
    { VOCAB, "\"in\":514", "\"in\":-1", E_FORMAT, "an integer from 0" },
    { VOCAB, "\"in\":514", "\"in\":1.5", E_FORMAT, "an integer from 0" },
    { VOCAB, "\"in\":514", "\"in\":5e1", E_FORMAT, "an integer from 0" },
    { VOCAB, "\"in\":514", "\"in\":\"5\"", E_FORMAT, "an integer from 0" },
    { VOCAB, "\"in\":514", "\"in\":null", E_FORMAT, "an integer from 0" },
    { VOCAB, "\"in\":514", "\"in\":{}", E_FORMAT, "an integer from 0" },
    { VOCAB, "\"in\":514", "\"in\":514,\"in\":514", E_FORMAT, "vocab.json" },
    { VOCAB, "\"in\":514", "\"in\\u0000\":514", E_FORMAT, "merges.txt: line 4" },
    { VOCAB, "\"in\":514", "\"in\":514,", E_FORMAT, "vocab.json" },
    { VOCAB, "\"in\":514", "\"in\xFF\":514", E_FORMAT, "vocab.json" },
    { VOCAB, "\"!\":33", "\"!!\":33", E_FORMAT, "no entry for byte 33, \"!\"" },
    { VOCAB, "\"!</w>\"", "\"!</v>\"", E_FORMAT, "no entry for byte 33, \"!</w>\"" },
    { VOCAB, "<|endoftext|>", "<|endoftxt|>", E_FORMAT, "no entry for the eos_token \"<|endoftext|>\"" },
    { VOCAB, "<|startoftext|>", "<|start|>", E_FORMAT, "no entry for the bos_token" },
    { VOCAB, NULL, "{}", E_FORMAT, "an object" },
    { VOCAB, NULL, "[1,2]", E_FORMAT, "an object" },
    { VOCAB, NULL, "", E_FORMAT, "vocab.json" },
    { VOCAB, NULL, "\"in\"", E_FORMAT, "an object" },
    { MERGES, "t h\n", "t  h\n", E_FORMAT, "merges.txt: line 2: two pieces" },
    { MERGES, "t h\n", "th\n", E_FORMAT, "merges.txt: line 2: two pieces" },
    { MERGES, "t h\n", " th\n", E_FORMAT, "line 2: two pieces" },
    { MERGES, "t h\n", "th \n", E_FORMAT, "line 2: two pieces" },
    { MERGES, "t h\n", "t h e\n", E_FORMAT, "line 2: two pieces" },
    { MERGES, "t h\n", "t\th\n", E_FORMAT, "line 2: two pieces" },
    { MERGES, "t h\n", "\n", E_FORMAT, "line 2: two pieces" },
    { MERGES, "t h\n", "t hh\n", E_FORMAT, "line 2: a piece that is not in the vocabulary" },
    { MERGES, "t h\n", "t \xFF\n", E_FORMAT, "line 2: a piece" },
    { MERGES, "i n\n", "i i\n", E_FORMAT, "line 4: the pieces together" },
    { MERGES, "i n\n", "i n\nt h\n", E_FORMAT, "line 5: the same pair as in line 2" },
    { MERGES, "#version: 0.2\n", "version 0.2\n", E_FORMAT, "line 1" },
    { MERGES, "#version: 0.2\n", "", OK, "" },
    { MERGES, "\nt h\n", "\r\nt h\r\n", OK, "" },
    { MERGES, "i n\n", "i n", OK, "" },
    { MERGES, NULL, "", OK, "" },
    { CONFIG, "\"model_max_length\":77", "\"model_max_length\":2", E_FORMAT, "tokenizer_config.json: model_max_length" },
    { CONFIG, "\"model_max_length\":77", "\"model_max_length\":\"77\"", E_FORMAT, "model_max_length" },
    { CONFIG, "\"model_max_length\":77", "\"model_max_length\":1000000000000000019884624838656", OK, "" },
    { CONFIG, "\"bos_token\":\"<|startoftext|>\"", "\"bos_token\":7", E_FORMAT, "tokenizer_config.json: bos_token" },
    { CONFIG, "\"bos_token\":\"<|startoftext|>\"", "\"bos_token\":{}", E_FORMAT, "\"content\"" },
    { CONFIG, "\"bos_token\":\"<|startoftext|>\"", "\"bos_token\":{\"content\":[]}", E_FORMAT, "bos_token" },
    { CONFIG, "\"bos_token\":\"<|startoftext|>\"", "\"bos_token\":\"\"", E_FORMAT, "bos_token" },
    { CONFIG, "\"eos_token\":\"<|endoftext|>\"", "\"eos_token\":\"nowhere\"", E_FORMAT, "eos_token \"nowhere\"" },
    { CONFIG, NULL, "[]", E_FORMAT, "tokenizer_config.json" },
    { CONFIG, NULL, "", E_FORMAT, "tokenizer_config.json" },
    { MAP, "\"pad_token\":\"!\"", "\"pad_token\":\"[PAD]\"", E_FORMAT, "no entry for the pad_token \"[PAD]\"" },
    { MAP, "\"pad_token\":\"!\"", "\"unk_token\":\"the</w>\"", OK, "" },
};

static void check_edits(void)
{
    for (size_t i = 0; i < sizeof edit / sizeof *edit; i++) {
        const Edit *e = &edit[i];
        char text[ROOM];
        const char *at = e->before ? strstr(good[e->file], e->before) : good[e->file];
        const char *rest = !at ? "" : e->before ? at + strlen(e->before) : "";
        snprintf(text, sizeof text, "%.*s%s%s", at ? (int)(at - good[e->file]) : 0, good[e->file], e->after, rest);
        put(e->file, text, strlen(text));
        Status s;
        load(&s, NULL, NULL);
        check_line(e->after, s.text, at && s.code == e->code && strstr(s.text, e->says));
        put_all();
    }
}

static void check_defaults(void)
{
    Status s;
    int pad = -1, length = 0;
    char path[FILES][300];
    for (int i = 0; i < FILES; i++) snprintf(path[i], sizeof path[i], "%s/%s", folder, name[i]);
    check_true("special_tokens_map.json wins over tokenizer_config.json", load(&s, &pad, &length) == OK && pad == '!' && length == 77);
    remove(path[MAP]);
    check_true("without it: the config's padding", load(&s, &pad, NULL) == OK && pad == 516);
    remove(path[CONFIG]);
    check_true("without both: padding is the end", load(&s, &pad, &length) == OK && pad == 516 && length == 77);
    remove(path[MERGES]);
    check_true("no merges.txt", load(&s, NULL, NULL) == E_FILE && strstr(s.text, "merges.txt"));
    remove(path[VOCAB]);
    check_true("no vocab.json", load(&s, NULL, NULL) == E_FILE && strstr(s.text, "vocab.json"));
    if (!mkdir(path[VOCAB], 0700)) {
        check_true("a folder called vocab.json", load(&s, NULL, NULL) == E_FILE);
        rmdir(path[VOCAB]);
    }
    char far[2000];
    memset(far, 'x', sizeof far);
    far[sizeof far - 1] = 0;
    Arena a = {0};
    Status t = {0};
    check_true("a path that is too long", !tokenizer_load(&a, far, &t) && t.code == E_FILE);
    arena_free(&a);
    put_all();
}

/* tokenizer.json, which newer folders hold instead of vocab.json and merges.txt. */
static const Edit joint[] = {
    { 0, "\"BPE\"", "\"BPE\"", OK, "" },
    { 0, "\"BPE\"", "\"WordPiece\"", E_FORMAT, "tokenizer.json: model: type \"BPE\"" },
    { 0, "\"</w>\",\"vocab\"", "\"\",\"vocab\"", E_FORMAT, "end_of_word_suffix" },
    { 0, "\"model\":", "\"mode\":", E_FORMAT, "tokenizer.json" },
    { 0, "\"vocab\":", "\"vocabulary\":", E_FORMAT, "an object with an id for each text" },
    { 0, "\"merges\":", "\"merge\":", E_FORMAT, "model.merges: a list expected" },
    { 0, "[\"t\",\"h\"]", "[\"t\"]", E_FORMAT, "model.merges" },
    { 0, "[\"t\",\"h\"]", "[\"t\",5]", E_FORMAT, "model.merges" },
    { 0, "[\"t\",\"h\"]", "7", E_FORMAT, "model.merges" },
    { 0, "[\"t\",\"h\"]", "[\"t\",\"\"]", E_FORMAT, "merge 0: two pieces" },
    { 0, "[\"t\",\"h\"]", "[\"t h\",\"e\"]", E_FORMAT, "merge 0: two pieces" },
    { 0, "\"i n\"", "\"i m\"", E_FORMAT, "tokenizer.json: merge 2: the pieces together" },
    { 0, "\"i n\"", "\"t h\"", E_FORMAT, "merge 2: the same pair as in merge 0" },
    { 0, "<|endoftext|>", "<|end|>", E_FORMAT, "tokenizer.json: no entry for the eos_token" },
};

static void check_joint(void)
{
    char vocab[300], merges[300], path[300];
    static char whole[2 * ROOM], text[2 * ROOM];
    snprintf(vocab, sizeof vocab, "%s/vocab.json", folder);
    snprintf(merges, sizeof merges, "%s/merges.txt", folder);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    remove(vocab);
    remove(merges);
    snprintf(whole, sizeof whole, "{\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\",\"vocab\":%s,"
             "\"merges\":[[\"t\",\"h\"],[\"th\",\"e</w>\"],\"i n\"]}}", good[VOCAB]);
    for (size_t i = 0; i < sizeof joint / sizeof *joint; i++) {
        const Edit *e = &joint[i];
        const char *at = strstr(whole, e->before);
        snprintf(text, sizeof text, "%.*s%s%s", at ? (int)(at - whole) : 0, whole, e->after, at ? at + strlen(e->before) : "");
        FILE *f = fopen(path, "wb");
        if (f) {
            fwrite(text, 1, strlen(text), f);
            fclose(f);
        }
        Status s;
        load(&s, NULL, NULL);
        check_line(e->after, s.text, at && s.code == e->code && strstr(s.text, e->says));
    }
    put_all();
    Status s;
    check_true("vocab.json is read where both are there", load(&s, NULL, NULL) == OK);
    remove(path);
}

/* Words that no merge makes: up to 64 beside the 512 symbols are special tokens; more, and merges.txt was cut between two lines. */
static void check_cut_merges(void)
{
    static char text[ROOM + 2000];
    Status s;
    for (int surplus = 64; surplus <= 65; surplus++) {
        char *end = text + sprintf(text, "%.*s", (int)strlen(good[VOCAB]) - 1, good[VOCAB]);
        for (int i = 0; i < surplus - 2; i++) end += sprintf(end, ",\"extra%d\":%d", i, 517 + i);
        strcpy(end, "}");
        put(VOCAB, text, strlen(text));
        load(&s, NULL, NULL);
        if (surplus == 64) check_line("64 words that no merge makes", s.text, s.code == OK);
        else check_line("65 words that no merge makes", s.text, s.code == E_FORMAT && strstr(s.text, "merges.txt: 3 merges, and 65 words"));
    }
    put_all();
}

static int acceptable(const Status *s) { return s->code == OK || s->code == E_FORMAT || s->code == E_FILE; }

static void check_prefixes(void)
{
    for (int f = 0; f < FILES; f++) {
        Status s;
        int fine = 1, refused = 0;
        size_t n = strlen(good[f]);
        for (size_t k = 0; k < n; k += f == VOCAB ? 13 : 1) {
            put(f, good[f], k);
            load(&s, NULL, NULL);
            fine &= acceptable(&s);
            refused += s.code != OK;
        }
        check_line("cut at every length", name[f], fine && refused > 0);
        put_all();
    }
}

static unsigned pick(unsigned n) { return (unsigned)((check_uniform() + 1) / 2 * n) % n; }

static void check_mutations(int rounds)
{
    int fine = 1, loaded = 0;
    for (int round = 0; round < rounds && fine; round++) {
        int f = (int)pick(FILES);
        static char text[2 * ROOM];
        size_t n = strlen(good[f]);
        memcpy(text, good[f], n);
        for (unsigned edits = 1 + pick(3); edits; edits--) {
            size_t at = pick((unsigned)n), span = 1 + pick(8);
            if (span > n - at) span = n - at;
            switch (pick(4)) {
            case 0: text[at] = (char)pick(256); break;
            case 1: memmove(text + at, text + at + span, n - at - span); n -= span; break;
            case 2: memmove(text + at + span, text + at, n - at); n += span; break;
            case 3: text[at] = "\"{}[]:,\\ \n0"[pick(11)]; break;
            }
            if (!n) break;
        }
        put(f, text, n);
        Status s;
        load(&s, NULL, NULL);
        fine = acceptable(&s);
        loaded += s.code == OK;
        if (!fine) printf("round %d, %s: %s\n", round, name[f], s.text);
        put(f, good[f], strlen(good[f]));
    }
    check_true("mutated files load or are refused", fine);
    check_true("... some of each", loaded > 0 && loaded < rounds);
}

static void check_memory(void)
{
    int worked = 0, failed = 0, clean = 1;
    for (size_t limit = 1; limit < 4000000 && !worked; limit += limit / 16 + 1) {
        Arena a = { .limit = limit };
        Status s = {0};
        worked = tokenizer_load(&a, folder, &s) != NULL;
        failed += !worked;
        clean &= worked || s.code == E_MEMORY;
        arena_free(&a);
    }
    check_true("too little memory: E_MEMORY, until it is enough", worked && failed > 10 && clean);
}

int main(int argc, char **argv)
{
    snprintf(folder, sizeof folder, "%s/tiller-tokenizer-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) return 1;
    make_good();
    put_all();
    Status s;
    load(&s, NULL, NULL);
    check_line("the unharmed folder loads", s.text, s.code == OK);
    check_edits();
    check_defaults();
    check_joint();
    check_cut_merges();
    check_prefixes();
    check_mutations(argc > 1 ? atoi(argv[1]) : 600);
    check_memory();
    for (int i = 0; i < FILES; i++) {
        char path[300];
        snprintf(path, sizeof path, "%s/%s", folder, name[i]);
        remove(path);
    }
    rmdir(folder);
    return check_done();
}
