#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "ref/words.h"
#include "ref/verbs.h"
#include "tensor/file.h"

enum { WORD = 64, WORDS_MOST = 200, PIECES_MOST = 1024 };

char *text_copy(Arena *a, const char *from, size_t length)
{
    char *to = arena_take(a, length + 1);
    if (!to) return NULL;
    memcpy(to, from, length);
    to[length] = 0;
    return to;
}

static bool out_of_memory(Status *s)
{
    status_fail(s, E_MEMORY, "out of memory: the words of a prompt");
    return false;
}

/* ---- a prompt's words ---- */

static bool spans_of(PromptWords *w, int (*span)[2], const Piece *piece, int n, const size_t (*bytes)[2])
{
    for (int k = 0; k < w->words; k++) {
        int first = 0, past = 0;
        for (int i = 0; i < n && i < w->length - 2; i++) {
            if ((size_t)piece[i].to <= bytes[k][0] || (size_t)piece[i].from >= bytes[k][1]) continue;
            if (!first) first = i + 1;
            past = i + 2;
        }
        span[k][0] = first;
        span[k][1] = past;
    }
    return true;
}

bool words_of(PromptWords *w, Arena *a, const Tokenizer *t, const char *prompt, int length, Status *s)
{
    size_t bytes = strlen(prompt);
    int *ids = arena_take(a, (size_t)length * sizeof *ids);
    const char **word = arena_take(a, WORDS_MOST * sizeof *word);
    int (*span)[2] = arena_take(a, WORDS_MOST * sizeof *span);
    size_t (*at)[2] = arena_take(a, WORDS_MOST * sizeof *at);
    Piece *piece = arena_take(a, PIECES_MOST * sizeof *piece);
    if (!ids || !word || !span || !at || !piece) return out_of_memory(s);
    if (!tokenizer_encode(t, a, prompt, bytes, ids, length, NULL, s)) return false;
    int n = tokenizer_pieces(t, a, prompt, bytes, piece, PIECES_MOST, s);
    if (n < 0) return false;
    *w = (PromptWords){ .id = ids, .word = word, .span = (const int (*)[2])span, .length = length, .ids = (n < length - 2 ? n : length - 2) + 2 };
    for (size_t i = 0; i < bytes && w->words < WORDS_MOST; ) {
        size_t blank = strspn(prompt + i, " \t\r\n"), letters = strcspn(prompt + i + blank, " \t\r\n");
        if (!letters) break;
        at[w->words][0] = i + blank;
        at[w->words][1] = i + blank + letters;
        word[w->words] = text_copy(a, prompt + i + blank, letters);
        if (!word[w->words++]) return out_of_memory(s);
        i += blank + letters;
    }
    return spans_of(w, span, piece, n < PIECES_MOST ? n : PIECES_MOST, (const size_t (*)[2])at);
}

/* ---- one and many ---- */

static const char *const irregular[][2] = {
    { "man", "men" }, { "woman", "women" }, { "child", "children" }, { "person", "people" }, { "mouse", "mice" }, { "goose", "geese" },
    { "foot", "feet" }, { "tooth", "teeth" }, { "wolf", "wolves" }, { "knife", "knives" }, { "leaf", "leaves" }, { "loaf", "loaves" },
    { "shelf", "shelves" }, { "ox", "oxen" }, { "calf", "calves" },
};

static bool ends(const char *word, const char *end)
{
    size_t n = strlen(word), k = strlen(end);
    return n > k && !strcmp(word + n - k, end);
}

/* The nth other spelling of a word, singular or plural; false past the last. */
static bool other_number(char to[WORD], const char *word, int nth)
{
    size_t n = strlen(word);
    if (n == 0 || n > WORD - 8) return false;
    for (size_t i = 0; i < sizeof irregular / sizeof *irregular; i++)
        for (int side = 0; side < 2; side++)
            if (!strcmp(word, irregular[i][side])) return snprintf(to, WORD, "%s", irregular[i][!side]) > 0 && nth == 0;
    switch (nth) {
    case 0: snprintf(to, WORD, "%ss", word); return true;
    case 1: snprintf(to, WORD, "%ses", word); return true;
    case 2: snprintf(to, WORD, "%.*sies", (int)n - 1, word); return true;
    case 3: snprintf(to, WORD, "%.*s", (int)n - (ends(word, "s") && !ends(word, "ss")), word); return true;
    case 4: snprintf(to, WORD, "%.*s", (int)n - 2 * ends(word, "es"), word); return true;
    case 5: snprintf(to, WORD, ends(word, "ies") ? "%.*sy" : "%.*s", (int)n - 3 * ends(word, "ies"), word); return true;
    default: return false;
    }
}

/* Positions of the word, or of its other number, in a text. */
static int positions(const Tokenizer *t, Arena *a, const char *text, const char *word, int nth, int *at, Status *s)
{
    char other[WORD];
    int n = tokenizer_word(t, a, text, word, nth, at, OBJECT_TOKENS, s);
    for (int k = 0; n == 0 && s->code == OK && other_number(other, word, k); k++)
        n = tokenizer_word(t, a, text, other, nth, at, OBJECT_TOKENS, s);
    return n > OBJECT_TOKENS ? OBJECT_TOKENS : n;
}

bool words_find(Object *o, Arena *a, const Tokenizer *t, const char *word, const char *prompt, const char *source, bool either, Status *s)
{
    const char *hash = strrchr(word, '#');
    int nth = hash && isdigit((unsigned char)hash[1]) ? atoi(hash + 1) - 1 : 0;
    char *plain = text_copy(a, word, hash && nth >= 0 && hash[1] ? (size_t)(hash - word) : strlen(word));
    if (!plain) return out_of_memory(s);
    *o = (Object){ .word = word };
    if (nth < 0) nth = 0;
    o->tokens = positions(t, a, prompt, plain, nth, o->token, s);
    o->sources = positions(t, a, source ? source : prompt, plain, nth, o->source, s);
    if (s->code != OK) return false;
    if (!o->tokens && !(either && o->sources))
        status_fail(s, E_OPTION, "\"%.60s\" is not %sin the prompt \"%.200s\"", plain, nth ? "that often " : "", prompt);
    return s->code == OK;
}

/* ---- lists ---- */

static char *trimmed(char *from, char *end)
{
    while (from < end && isspace((unsigned char)*from)) from++;
    while (end > from && isspace((unsigned char)end[-1])) end--;
    *end = 0;
    return from;
}

int words_split(const char **word, int most, Arena *a, const char *list)
{
    char *text = text_copy(a, list, strlen(list));
    int n = 0;
    while (text && *text && n < most) {
        size_t length = strcspn(text, ",");
        char *next = text + length + (text[length] == ',');
        char *one = trimmed(text, text + length);
        if (*one) word[n++] = one;
        text = next;
    }
    return n;
}

int text_lines(const char **line, int most, Arena *a, const char *file, Status *s)
{
    enum { BYTES_MOST = 1 << 24 };
    size_t size;
    char *bytes = file_load(file, BYTES_MOST, &size, s), *text = bytes ? text_copy(a, bytes, size) : NULL;
    int n = 0;
    if (!bytes) return -1;
    if (text && (strlen(text) != size || !utf8_valid(text))) status_fail(s, E_FORMAT, "%s: it is not UTF-8 text", file);
    free(bytes);
    if (!text) out_of_memory(s);
    for (char *p = text; s->code == OK && *p && n < most; ) {
        size_t length = strcspn(p, "\n");
        char *next = p + length + (p[length] == '\n'), *one = trimmed(p, p + length);
        if (*one && *one != '#') line[n++] = one;
        p = next;
    }
    return s->code == OK ? n : -1;
}

static bool listed(const char *const *noun, int n, const char *word)
{
    char other[WORD];
    for (int i = 0; i < n; i++)
        if (!strcmp(noun[i], word)) return true;
    for (int k = 3; other_number(other, word, k); k++)    /* what is listed is the singular */
        for (int i = 0; i < n; i++)
            if (!strcmp(noun[i], other)) return true;
    for (size_t j = 0; j < sizeof irregular / sizeof *irregular; j++)
        for (int i = 0; i < n && !strcmp(irregular[j][1], word); i++)
            if (!strcmp(noun[i], irregular[j][0])) return true;
    return false;
}

/* Lower case, without punctuation at the ends. */
static void bare(char to[WORD], const char *word)
{
    size_t n = strlen(word), from = 0, k = 0;
    while (from < n && ispunct((unsigned char)word[from])) from++;
    while (n > from && ispunct((unsigned char)word[n - 1])) n--;
    while (from < n && k < WORD - 1) to[k++] = (char)tolower((unsigned char)word[from++]);
    to[k] = 0;
}

static const char *numbered(Arena *a, const char *const *found, int n, const char *word)
{
    int before = 0;
    char text[3 * WORD];
    for (int i = 0; i < n; i++) before += !strncmp(found[i], word, strlen(word)) && strchr("#", found[i][strlen(word)]);
    if (before) snprintf(text, sizeof text, "%.130s#%d", word, before + 1);
    else snprintf(text, sizeof text, "%.130s", word);
    return text_copy(a, text, strlen(text));
}

int words_nouns(const char **found, int most, Arena *a, const char *nouns_file, const char *prompt, Status *s)
{
    enum { NOUNS_MOST = 4000 };
    const char **noun = arena_take(a, NOUNS_MOST * sizeof *noun), **word = arena_take(a, WORDS_MOST * sizeof *word);
    char *text = text_copy(a, prompt, strlen(prompt));
    int n = noun ? text_lines(noun, NOUNS_MOST, a, nouns_file, s) : 0, words = 0, k = 0;
    if (!noun || !word || !text) return out_of_memory(s) - 1;
    if (n < 0) return -1;
    for (char *save = NULL, *one = strtok_r(text, " \t\r\n", &save); one && words < WORDS_MOST; one = strtok_r(NULL, " \t\r\n", &save)) word[words++] = one;
    for (int i = 0; i < words && k < most; i++) {
        char one[WORD], two[WORD], pair[2 * WORD];
        bare(one, word[i]);
        bare(two, i + 1 < words ? word[i + 1] : "");
        snprintf(pair, sizeof pair, "%s %s", one, two);
        bool both = *two && strlen(pair) < WORD - 8 && listed(noun, n, pair);
        if (!both && (!*one || !listed(noun, n, one))) continue;
        found[k] = numbered(a, found, k, both ? pair : one);
        if (!found[k++]) return out_of_memory(s) - 1;
        i += both;
    }
    return k;
}
