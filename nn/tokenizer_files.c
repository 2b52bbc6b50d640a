#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nn/tokenizer_parts.h"
#include "tensor/file.h"
#include "tensor/json.h"

enum { ROW = 77, SHORTEST_ROW = 3, MOST_MERGES_BYTES = 64 << 20, MOST_PATH = 900 };

typedef struct {
    Tokenizer *t;
    Arena *keep;                                          /* what the tokenizer holds */
    Arena work;                                           /* parsed files, dropped at the end */
    Status *s;
    char path[MOST_PATH + 40], vocabulary[MOST_PATH + 40];            /* the file being read; the one with the ids */
    const char *unit;                                     /* what the merges are counted in */
} Loading;

static bool bad(Loading *l, const char *what) { return status_fail(l->s, E_FORMAT, "%s: %s", l->path, what), false; }

static void *room_for(Loading *l, Arena *a, size_t count, size_t size)
{
    void *p = count <= SIZE_MAX / size ? arena_take(a, count * size) : NULL;
    if (!p) status_fail(l->s, E_MEMORY, "%s: out of memory for %zu entries", l->path, count);
    return p;
}

static int text_order(const char *a, size_t m, const char *b, size_t n)
{
    int d = memcmp(a, b, m < n ? m : n);
    return d ? d : (m > n) - (m < n);
}

static int word_order(const void *a, const void *b)
{
    const Word *v = a, *w = b;
    return text_order(v->text, (size_t)v->length, w->text, (size_t)w->length);
}

static int merge_order(const void *a, const void *b)
{
    const Merge *m = a, *n = b;
    int d = (m->left > n->left) - (m->left < n->left);
    if (!d) d = (m->right > n->right) - (m->right < n->right);
    return d ? d : (m->rank > n->rank) - (m->rank < n->rank);
}

const Word *word_find(const Word *word, int count, const char *text, size_t length)
{
    int low = 0, high = count;
    while (low < high) {
        int mid = (low + high) / 2;
        if (text_order(word[mid].text, (size_t)word[mid].length, text, length) < 0) low = mid + 1;
        else high = mid;
    }
    return low < count && !text_order(word[low].text, (size_t)word[low].length, text, length) ? &word[low] : NULL;
}

/* {"text": id, ...}; the ids are 0 .. n-1, each once. */
static bool load_words(Loading *l, const Json *j)
{
    Tokenizer *t = l->t;
    if (!j || j->kind != JSON_OBJECT || !j->count) return bad(l, "expected an object with an id for each text");
    if (j->count > TOKENIZER_MOST_IDS) return bad(l, "more than 1000000 entries");
    t->word = room_for(l, l->keep, (size_t)j->count, sizeof *t->word);
    t->spelling = room_for(l, l->keep, (size_t)j->count, sizeof *t->spelling);
    if (!t->word || !t->spelling) return false;
    size_t bytes = 0;
    for (const Json *e = j->child; e; e = e->next) bytes += e->key_length + 1;
    char *text = room_for(l, l->keep, bytes, 1);
    if (!text) return false;
    for (int i = 0; i < j->count; i++) t->spelling[i] = NULL;
    for (const Json *e = j->child; e; e = e->next) {
        uint64_t id;
        const char *wrong = !json_u64(e, &id) ? "an integer from 0 expected as the id of"
                          : id >= TOKENIZER_MOST_IDS ? "an id below 1000000 expected for"
                          : id >= (uint64_t)j->count ? "ids below the number of entries expected, found a higher one at"
                          : t->spelling[id] ? "each id once expected, found again at" : NULL;
        if (wrong) {
            status_fail(l->s, E_FORMAT, "%s: %s \"%.60s\"", l->path, wrong, e->key);
            return false;
        }
        memcpy(text, e->key, e->key_length + 1);
        t->word[t->count++] = (Word){ text, (int)e->key_length, (int)id };
        t->spelling[id] = text;
        text += e->key_length + 1;
    }
    qsort(t->word, (size_t)t->count, sizeof *t->word, word_order);
    return true;
}

/* Printable bytes stand for the character of the same number, the other 68, in order, for U+0100, U+0101, ... */
static bool find_symbols(Loading *l)
{
    uint32_t next = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        char text[12];
        int n = unicode_write(text, plain ? (uint32_t)byte : next++);
        memcpy(text + n, "</w>", 5);
        const Word *symbol = word_find(l->t->word, l->t->count, text, (size_t)n);
        const Word *last = word_find(l->t->word, l->t->count, text, (size_t)n + 4);
        if (!symbol || !last) {
            if (!symbol) text[n] = 0;
            status_fail(l->s, E_FORMAT, "%s: no entry for byte %d, \"%s\"", l->path, byte, text);
            return false;
        }
        l->t->symbol[byte] = symbol->id;
        l->t->last_symbol[byte] = last->id;
    }
    return true;
}

static bool bad_merge(Loading *l, int rank, const char *what, const char *text, size_t length)
{
    status_fail(l->s, E_FORMAT, "%s: %s %d: %s: \"%.*s\"", l->path, l->unit, rank, what, length < 80 ? (int)length : 80, text);
    return false;
}

/* text: "left right".  join has room for it. */
static bool add_merge(Loading *l, int rank, const char *text, size_t length, char *join)
{
    Tokenizer *t = l->t;
    const char *blank = memchr(text, ' ', length);
    size_t left = blank ? (size_t)(blank - text) : 0, right = blank ? length - left - 1 : 0;
    if (!left || !right || memchr(blank + 1, ' ', right)) return bad_merge(l, rank, "two pieces with one blank between expected", text, length);
    memcpy(join, text, left);
    memcpy(join + left, blank + 1, right);
    const Word *a = word_find(t->word, t->count, text, left), *b = word_find(t->word, t->count, blank + 1, right);
    const Word *c = word_find(t->word, t->count, join, left + right);
    if (!a || !b) return bad_merge(l, rank, "a piece that is not in the vocabulary", text, length);
    if (!c) return bad_merge(l, rank, "the pieces together are not in the vocabulary", text, length);
    t->merge[t->merges++] = (Merge){ a->id, b->id, rank, c->id };
    return true;
}

/* Words of a vocabulary: a symbol for each byte, inside and at the end of a word; one for each merge; special tokens
 * (2 in every published CLIP vocabulary; room for a family's own).  More: lines are missing at the end of the merges. */
enum { BYTE_SYMBOLS = 512, ALONE_MOST = 64 };

static bool order_merges(Loading *l)
{
    Merge *m = l->t->merge;
    qsort(m, (size_t)l->t->merges, sizeof *m, merge_order);
    for (int i = 1; i < l->t->merges; i++)
        if (m[i].left == m[i - 1].left && m[i].right == m[i - 1].right) {
            status_fail(l->s, E_FORMAT, "%s: %s %d: the same pair as in %s %d", l->path, l->unit, m[i].rank, l->unit, m[i - 1].rank);
            return false;
        }
    int alone = l->t->count - l->t->merges - BYTE_SYMBOLS;
    if (alone <= ALONE_MOST) return true;
    status_fail(l->s, E_FORMAT, "%s: %d merges, and %d words of the vocabulary that no merge makes: it is cut off", l->path, l->t->merges, alone);
    return false;
}

/* merges.txt: an optional line "#version...", then "left right" per line, the most frequent first: the line is the rank. */
static bool load_merges(Loading *l)
{
    size_t size, lines = 1, longest = 0;
    char *text = file_load(l->path, MOST_MERGES_BYTES, &size, l->s);
    if (!text) return false;
    for (size_t i = 0, from = 0; i <= size; i++)
        if (i == size || text[i] == '\n') {
            if (i - from > longest) longest = i - from;
            from = i + 1;
            lines++;
        }
    l->t->merge = room_for(l, l->keep, lines, sizeof *l->t->merge);
    char *join = room_for(l, &l->work, longest + 1, 1);
    bool fine = l->t->merge && join;
    for (size_t from = 0, to, line = 1; fine && from < size; from = to + 1, line++) {
        for (to = from; to < size && text[to] != '\n'; ) to++;
        size_t length = to - from;
        if (length && text[to - 1] == '\r') length--;
        if (line == 1 && length >= 8 && !memcmp(text, "#version", 8)) continue;
        fine = add_merge(l, (int)line, text + from, length, join);
    }
    free(text);
    return fine && order_merges(l);
}

/* tokenizer.json's "merges": ["left right", ...] or [["left", "right"], ...]; the index is the rank. */
static bool load_merge_list(Loading *l, const Json *j)
{
    size_t longest = 0;
    if (!j || j->kind != JSON_ARRAY) return bad(l, "model.merges: a list expected");
    for (const Json *e = j->child; e; e = e->next) {
        const Json *a = json_at(e, 0), *b = json_at(e, 1);
        bool pair = e->kind == JSON_ARRAY && e->count == 2 && a->kind == JSON_STRING && b->kind == JSON_STRING;
        size_t length = pair ? a->length + b->length + 1 : e->length;
        if (!pair && e->kind != JSON_STRING) return bad(l, "model.merges: two texts, or one with a blank between, expected");
        if (length > longest) longest = length;
    }
    l->t->merge = room_for(l, l->keep, (size_t)j->count + 1, sizeof *l->t->merge);
    char *join = room_for(l, &l->work, longest + 1, 1), *line = room_for(l, &l->work, longest + 1, 1);
    bool fine = l->t->merge && join && line;
    int rank = 0;
    for (const Json *e = j->child; fine && e; e = e->next) {
        if (e->kind == JSON_ARRAY) {
            const Json *a = json_at(e, 0), *b = json_at(e, 1);
            memcpy(line, a->text, a->length);
            line[a->length] = ' ';
            memcpy(line + a->length + 1, b->text, b->length);
            fine = add_merge(l, rank++, line, a->length + b->length + 1, join);
        } else
            fine = add_merge(l, rank++, e->text, e->length, join);
    }
    return fine && order_merges(l);
}

/* vocab.json and merges.txt; without the first, tokenizer.json, which newer folders hold instead of both. */
static bool load_vocabulary(Loading *l, const char *folder)
{
    snprintf(l->path, sizeof l->path, "%s/tokenizer.json", folder);
    bool joint = file_exists(l->path);
    snprintf(l->vocabulary, sizeof l->vocabulary, "%s/vocab.json", folder);
    joint = joint && !file_exists(l->vocabulary);
    snprintf(l->vocabulary, sizeof l->vocabulary, "%s/%s", folder, joint ? "tokenizer.json" : "vocab.json");
    memcpy(l->path, l->vocabulary, sizeof l->path);
    const Json *j = json_load(&l->work, l->path, l->s), *model = j && joint ? json_get(j, "model") : NULL;
    if (!j) return false;
    if (!joint) {
        if (!load_words(l, j) || !find_symbols(l)) return false;
        snprintf(l->path, sizeof l->path, "%s/merges.txt", folder);
        l->unit = "line";
        return load_merges(l);
    }
    if (!json_is(json_get(model, "type"), "BPE") || !json_is(json_get(model, "end_of_word_suffix"), "</w>"))
        return bad(l, "model: type \"BPE\" with end_of_word_suffix \"</w>\" expected");
    l->unit = "merge";
    return load_words(l, json_get(model, "vocab")) && find_symbols(l) && load_merge_list(l, json_get(model, "merges"));
}

/* A special token in a config file: absent or null, a string, or an object with "content".  False when malformed. */
static bool special_text(Loading *l, const Json *file, const char *name, const Json **text)
{
    const Json *j = json_get(file, name);
    if (j && j->kind == JSON_OBJECT) {
        j = json_get(j, "content");
        if (!j) return status_fail(l->s, E_FORMAT, "%s: %s: an object with \"content\" expected", l->path, name), false;
    }
    if (!j || j->kind == JSON_NULL) return true;
    if (j->kind != JSON_STRING || !j->length) {
        status_fail(l->s, E_FORMAT, "%s: %s: a token's text expected", l->path, name);
        return false;
    }
    *text = j;
    return true;
}

static bool load_specials(Loading *l, const char *folder)
{
    static const char *const file[] = { "tokenizer_config.json", "special_tokens_map.json" };    /* the second wins */
    static const char *const name[SPECIALS] = { "bos_token", "eos_token", "pad_token", "unk_token" };
    static const char *const usual[SPECIALS] = { "<|startoftext|>", "<|endoftext|>", NULL, NULL };
    const Json *text[SPECIALS] = {0};
    Tokenizer *t = l->t;
    t->length = ROW;
    for (int f = 0; f < 2; f++) {
        snprintf(l->path, sizeof l->path, "%.*s/%s", MOST_PATH, folder, file[f]);
        if (!file_exists(l->path)) continue;
        const Json *j = json_load(&l->work, l->path, l->s), *length = j ? json_get(j, "model_max_length") : NULL;
        if (!j) return false;
        if (j->kind != JSON_OBJECT) return bad(l, "an object expected");
        for (int k = 0; k < SPECIALS; k++)
            if (!special_text(l, j, name[k], &text[k])) return false;
        double n;                                         /* 1e30 stands for "no limit": then CLIP's own */
        if (length && (!json_number(length, &n) || !(n >= SHORTEST_ROW))) return bad(l, "model_max_length: a number from 3 expected");
        if (length && n <= TOKENIZER_MOST_IDS) t->length = (int)n;
    }
    for (int k = 0; k < SPECIALS; k++) {
        const char *string = text[k] ? text[k]->text : usual[k];
        size_t bytes = text[k] ? text[k]->length : string ? strlen(string) : 0;
        const Word *w = string ? word_find(t->word, t->count, string, bytes) : &t->special[EOS];
        if (!w) {
            status_fail(l->s, E_FORMAT, "%s: no entry for the %s \"%.60s\"", l->vocabulary, name[k], string);
            return false;
        }
        t->special[k] = *w;
    }
    return true;
}

Tokenizer *tokenizer_load(Arena *a, const char *folder, Status *s)
{
    Loading l = { .keep = a, .work = { .limit = a->limit }, .s = s };
    snprintf(l.path, sizeof l.path, "%.*s/vocab.json", MOST_PATH, folder);
    if (strlen(folder) > MOST_PATH) return status_fail(s, E_FILE, "%.80s...: the path is too long", folder), NULL;
    l.t = room_for(&l, a, 1, sizeof *l.t);
    bool fine = l.t != NULL;
    if (fine) {
        *l.t = (Tokenizer){0};
        fine = load_vocabulary(&l, folder) && load_specials(&l, folder);
    }
    arena_free(&l.work);
    return fine ? l.t : NULL;
}
