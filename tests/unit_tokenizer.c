/* unit_tokenizer.c -- the tokenizer on the bundled vocabulary.  Expected ids are those of the reference tokenizer
 * (Hugging Face's CLIPTokenizer with the same vocabulary); the long list is in the golden cases sd-tokenizer-*. */
#include <time.h>
#include "nn/tokenizer.h"
#include "nn/tokenizer_unicode.h"
#include "tests/check.h"

static Tokenizer *t;
static Arena scratch;

typedef struct { const char *text; int length, ids[24]; } Row;       /* length 0: strlen; ids end at -1 */
static const Row row[] = {
    { "", 0, { -1 } },
    { " \t\n", 0, { -1 } },
    { "a photo of an astronaut riding a horse", 0, { 320, 1125, 539, 550, 18376, 6765, 320, 4558, -1 } },
    { "Hello, World!", 0, { 3306, 267, 1002, 256, -1 } },
    { "IT'S", 0, { 585, 568, -1 } },
    { "'sup 'tis 'rexx 'll 'd's", 0, { 568, 705, 713, 533, 982, 3553, 1342, 1896, 568, -1 } },
    { "the cat\xE2\x80\x99s", 0, { 518, 2368, 728, 503, 338, -1 } },
    { "2023", 0, { 273, 271, 273, 274, -1 } },
    { "\xC2\xBD \xE2\x85\xA8", 0, { 33613, 158, 227, 372, -1 } },
    { "cafe\xCC\x81", 0, { 15304, -1 } },
    { "A\xCC\x8Angstro\xCC\x88m", 0, { 23176, 10352, 807, 7255, 332, -1 } },
    { "\xC4\xB0", 0, { 328, 16384, -1 } },
    { "\xCE\x9F\xCE\x94\xCE\x9F\xCE\xA3", 0, { 138, 123, 138, 112, 138, 123, 139, 481, -1 } },
    { "nul\0byte", 8, { 1156, 331, 444, 42798, -1 } },
    { "a\xC2\x85" "b", 0, { 320, 321, -1 } },
    { "a\xE2\x80\x8B" "b", 0, { 320, 9844, 321, -1 } },
    { "a <|endoftext|> b", 0, { 320, 49407, 321, -1 } },
    { "x<|startoftext|>y", 0, { 343, 49406, 344, -1 } },
    { "<|ENDOFTEXT|>", 0, { 27, 347, 40786, 4160, 91, 285, -1 } },
    { "!<|ENDOFTEXT|>!", 0, { 0, 27, 347, 40786, 4160, 91, 29, 256, -1 } },
    { "<|STARTOFTEXT|>!!", 0, { 27, 347, 993, 6659, 4160, 91, 285, 748, -1 } },
    { "q\xCC\x87\xCC\xA3", 0, { 336, 136, 96, 16384, -1 } },
    { "a\xCC\x85\xCC\x81", 0, { 320, 136, 227, 136, 479, -1 } },
    { "a\xCC\xB6\xCC\x81", 0, { 22229, 136, 370, -1 } },
    { "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", 0, { 15197, 506, -1 } },
    { "\xED\x95\x9C\xE1\x86\xA8", 0, { 15197, 250, 157, 228, 357, -1 } },
    { "\xEA\xB0\x80\xE1\x86\xA7", 0, { 21122, 222, 157, 228, 356, -1 } },
    { "<|start|>", 0, { 27, 347, 1572, 91, 285, -1 } },
};

static void check_rows(void)
{
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        Status s = {0};
        Piece p[64];
        int n = tokenizer_pieces(t, &scratch, row[i].text, row[i].length ? (size_t)row[i].length : strlen(row[i].text), p, 64, &s);
        int same = n >= 0, k = 0;
        for (; same && row[i].ids[k] >= 0; k++) same = k < n && p[k].id == row[i].ids[k];
        check_line("ids of", row[i].text, same && k == n);
    }
}

static void check_encoding(void)
{
    Status s = {0};
    int ids[77], dropped;
    char many[400] = "";
    for (int i = 0; i < 100; i++) strcat(many, "x ");
    int fine = tokenizer_encode(t, &scratch, many, strlen(many), ids, 77, &dropped, &s);
    check_true("100 words: 75 fit, 25 are dropped", fine && dropped == 25 && ids[0] == 49406 && ids[1] == 343 && ids[75] == 343 && ids[76] == 49407);
    fine = tokenizer_encode(t, &scratch, many, 150, ids, 77, &dropped, &s);
    check_true("75 words fit exactly", fine && dropped == 0 && ids[75] == 343 && ids[76] == 49407);
    fine = tokenizer_encode(t, &scratch, "a", 1, ids, 77, NULL, &s);
    int padding = 1;
    for (int i = 3; i < 77; i++) padding &= ids[i] == tokenizer_pad(t);
    check_true("begin, word, end, padding", fine && ids[0] == tokenizer_bos(t) && ids[1] == 320 && ids[2] == tokenizer_eos(t) && padding);
    check_true("a row of two has its marks", tokenizer_encode(t, &scratch, "a", 1, ids, 2, &dropped, &s) && ids[0] == 49406 && ids[1] == 49407 && dropped == 1);
    check_true("a row of one is refused", !tokenizer_encode(t, &scratch, "a", 1, ids, 1, &dropped, &s) && s.code == E_OPTION);
    check_true("spellings", !strcmp(tokenizer_text(t, 320), "a</w>") && !tokenizer_text(t, -1) && !tokenizer_text(t, tokenizer_count(t)));
    check_true("row length", tokenizer_length(t) == 77);
}

static void check_utf8(void)
{
    static const struct { const char *text; int at; } bad[] = {
        { "ab\xFF", 2 }, { "\xC0\x80", 0 }, { "a\xED\xA0\x80", 1 }, { "\xF4\x90\x80\x80", 0 }, { "\xE2\x82", 0 }, { "a\x80", 1 },
        { "<|endoftext|>\xC3", 13 }, { "\xE0\x9F\xBF", 0 }, { "\xF0\x8F\xBF\xBF", 0 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Status s = {0};
        char where[40];
        snprintf(where, sizeof where, "byte %d ", bad[i].at);
        int n = tokenizer_pieces(t, &scratch, bad[i].text, strlen(bad[i].text), NULL, 0, &s);
        check_line("bytes that are not UTF-8 are named", where, n < 0 && s.code == E_OPTION && strstr(s.text, where));
    }
    int same = 1;
    for (uint32_t c = 0; c < 0x110000; c++) {
        char b[4];
        uint32_t back = 0;
        int n = unicode_write(b, c), m = unicode_read(b, (size_t)n, &back);
        same &= c >= 0xD800 && c < 0xE000 ? m == 0 : m == n && back == c;
    }
    check_true("UTF-8 of every code point reads back", same);
}

/* Laws of normalisation form C, over all code points: it never has more characters than UTF-8 bytes, and doing it
 * twice changes nothing. */
static void check_nfc(void)
{
    int small = 1, stable = 1;
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        char b[4];
        Char in[2] = { { 'q', 0, 1 }, { c, 1, 5 } }, one[16], two[16], work[16];
        int room = unicode_room(in, 2), n = room ? unicode_compose(one, work, in, 2) : 0;
        small &= n <= 1 + unicode_write(b, c) && room <= 16;
        if (!room || !unicode_room(one, n)) continue;
        int m = unicode_compose(two, work, one, n);
        stable &= m == n;
        for (int i = 0; i < n && m == n; i++) stable &= one[i].code == two[i].code;
    }
    check_true("NFC: no more characters than bytes", small);
    check_true("NFC twice is NFC", stable);
}

static void check_spans(void)
{
    Status s = {0};
    Piece p[16];
    const char *text = "A  Cafe\xCC\x81's \xF0\x9F\x99\x82";             /* bytes 0; 3-8; 9-10; 12-15 */
    int n = tokenizer_pieces(t, &scratch, text, strlen(text), p, 16, &s);
    check_true("spans are the prompt's bytes", n == 4 && p[0].from == 0 && p[0].to == 1 && p[1].from == 3 && p[1].to == 9
               && p[2].from == 9 && p[2].to == 11 && p[3].from == 12 && p[3].to == 16);
    text = "<|endoftext|>one";
    n = tokenizer_pieces(t, &scratch, text, strlen(text), p, 16, &s);
    check_true("... also behind a special token", n == 2 && p[0].from == 0 && p[0].to == 13 && p[1].from == 13 && p[1].to == 16);
}

static void check_words(void)
{
    static const struct { const char *text, *word; int nth, positions[12]; } w[] = {         /* positions end at 0 */
        { "a photo of an astronaut riding a horse", "Astronaut", 0, { 5 } },
        { "a photo of an astronaut riding a horse", "a", 1, { 7 } },
        { "a photo of an astronaut riding a horse", "a", 2, { 0 } },
        { "A Red  Car and a red car", "red car", 1, { 6, 7 } },
        { "concatenate cat", "cat", 0, { 5 } },
        { "the cat's hat", "cat", 0, { 2 } },
        { "supercalifragilisticexpialidocious cat", "supercalifragilisticexpialidocious", 0, { 1, 2, 3, 4, 5, 6, 7, 8, 9 } },
        { "Caf\xC3\xA9 latte", "CAFE\xCC\x81", 0, { 1 } },
        { "in 2023, not 12023", "2023", 0, { 2, 3, 4, 5 } },
        { "in 2023, not 12023", "2023", 1, { 0 } },
        { "a b a b a", "a b a", 0, { 1, 2, 3 } },
        { "a b a b a", "a b a", 1, { 0 } },
        { "aaab aab", "aab", 0, { 3 } },
        { "ba a a", "a a", 0, { 2, 3 } },
        { "a cat.", "  cat ", 0, { 2 } },
        { "cat<|endoftext|>dog", "dog", 0, { 3 } },
        { "a photo of *, here", "*", 0, { 4 } },
        { "x", "dog", 0, { 0 } },
        { "x", "", 0, { 0 } },
        { "x x", "  ", 0, { 0 } },
    };
    for (size_t i = 0; i < sizeof w / sizeof *w; i++) {
        Status s = {0};
        int at[12] = {0}, n = tokenizer_word(t, &scratch, w[i].text, w[i].word, w[i].nth, at, 12, &s), k = 0;
        int same = n >= 0;
        for (; same && k < 12 && w[i].positions[k]; k++) same = at[k] == w[i].positions[k];
        check_line(w[i].text, w[i].word, same && n == k);
    }
    char far[400] = "";
    for (int i = 0; i < 80; i++) strcat(far, "x ");
    strcat(far, "cat");
    Status s = {0};
    check_true("a word behind the row's end has no position", tokenizer_word(t, &scratch, far, "cat", 0, NULL, 0, &s) == 0);
}

/* Twenty times the text may take at most sixty times the time (measured: 20 to 25), so nothing is quadratic. */
static void check_long(void)
{
    enum { SHORT = 20000, LONG = 400000 };
    static char text[LONG];
    for (int kind = 0; kind < 3; kind++) {
        clock_t before = clock();
        double took[2];
        for (int i = 0; i + 2 <= LONG; i += 2)
            memcpy(text + i, kind == 0 ? "aa" : kind == 1 ? "\xCC\x81" : "a ", 2);
        int found[2];
        for (int k = 0; k < 2; k++) {
            Status s = {0};
            before = clock();
            found[k] = tokenizer_pieces(t, &scratch, text, k ? LONG : SHORT, NULL, 0, &s);
            took[k] = (double)(clock() - before) / CLOCKS_PER_SEC;
        }
        check_true("a word of 400000 bytes gives as many times the pieces", found[0] > 0 && found[1] >= 19 * found[0]);
        check_below("... in about as many times the time", took[1] / (took[0] + 0.002), 60);
    }
}

static void check_memory(void)
{
    int failed = 0, worked = 0, clean = 1;
    for (size_t limit = 1; limit < 200000 && !worked; limit += 997) {
        Arena tight = { .limit = limit };
        Status s = {0};
        int at[4], n = tokenizer_word(t, &tight, "I\xCC\x87 saw a red cat", "red cat", 0, at, 4, &s);
        if (n < 0) failed++, clean &= s.code == E_MEMORY;
        else worked = n == 2;
        clean &= tight.used == 0;
        arena_free(&tight);
    }
    check_true("too little memory: E_MEMORY, until it is enough", failed > 0 && worked && clean);
}

int main(void)
{
    Arena a = {0};
    Status s = {0};
    t = tokenizer_load(&a, "data/tiny-model/tokenizer", &s);
    check_line("the bundled vocabulary loads", s.text, t != NULL);
    if (t) {
        check_rows();
        check_encoding();
        check_utf8();
        check_nfc();
        check_spans();
        check_words();
        check_long();
        check_memory();
    }
    arena_free(&a);
    arena_free(&scratch);
    return check_done();
}
