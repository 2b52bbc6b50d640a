#include <stdlib.h>
#include <string.h>
#include "nn/tokenizer.h"
#include "ref/oneline.h"
#include "ref/verbs.h"

typedef struct { Common common; bool padded; } Tokenize;

static const Option row[] = {
    MODEL_OPTION,
    { "padded", 0, OPTION_FLAG, offsetof(Tokenize, padded), 0, 0, NULL, NULL, "the whole row the text encoder reads, with begin, end and padding", NULL },
    JSON_OPTION,
};
static const OptionPage page = {
    "tokenize", "The tokens of a text.", "tiller tokenize \"a photo of a red car on grass\"", "TEXT", 1, 1,
    "Each line: position in the row (1 is the first word's), id, the vocabulary's spelling, the part of the text.", { TABLE("What", row), COMMON_TABLE }
};

typedef struct { int count, most, dropped; Piece *piece; int *row; } Tokens;

static bool read_tokens(Tokens *k, const Tokenizer *t, Arena *a, const char *text, Status *s)
{
    size_t bytes = strlen(text), most = bytes + 1;
    int length = tokenizer_length(t);
    k->piece = arena_take(a, most * sizeof *k->piece);
    k->row = arena_take(a, (size_t)length * sizeof *k->row);
    if (!k->piece || !k->row) {
        status_fail(s, E_MEMORY, "out of memory: the tokens of %zu bytes", bytes);
        return false;
    }
    k->most = most < INT32_MAX ? (int)most : INT32_MAX;
    k->count = tokenizer_pieces(t, a, text, bytes, k->piece, k->most, s);
    if (k->count < 0) return false;
    if (k->count > k->most) k->count = k->most;
    return tokenizer_encode(t, a, text, bytes, k->row, length, &k->dropped, s);
}

static void print_piece(int place, const Piece *p, const char *spelling, const char *text, const char *note)
{
    char part[ONELINE], whole[ONELINE];
    snprintf(part, sizeof part, "%.*s", p->to - p->from, text + p->from);
    printf("%4d  %6d  %-24s  %s%s\n", place, p->id, spelling, oneline(whole, sizeof whole, part), note);
}

static void print_tokens(const Tokens *k, const Tokenizer *t, const char *text, bool padded)
{
    int length = tokenizer_length(t), kept = k->count - k->dropped;
    if (padded) {
        for (int i = 0; i < length; i++) printf("%4d  %6d  %s\n", i, k->row[i], tokenizer_text(t, k->row[i]));
        return;
    }
    for (int i = 0; i < k->count; i++)
        print_piece(i + 1, &k->piece[i], tokenizer_text(t, k->piece[i].id), text, i < kept ? "" : "  (dropped)");
}

static void send(const Console *c, const Tokens *k, const Tokenizer *t)
{
    JsonOut o = {0};
    console_event(&o, "tokens");
    json_open(&o, "pieces", '[');
    for (int i = 0; i < k->count; i++) {
        json_open(&o, NULL, '{');
        json_integer(&o, "id", k->piece[i].id);
        json_text(&o, "text", tokenizer_text(t, k->piece[i].id));
        json_integer(&o, "from", k->piece[i].from);
        json_integer(&o, "to", k->piece[i].to);
        json_close(&o, '}');
    }
    json_close(&o, ']');
    json_open(&o, "ids", '[');
    for (int i = 0; i < tokenizer_length(t); i++) json_integer(&o, NULL, k->row[i]);
    json_close(&o, ']');
    json_integer(&o, "dropped", k->dropped);
    console_send(c, &o);
}

static void tokenize(const Tokenize *g, const Console *c, const char *text, Arena *a, Status *s)
{
    char folder[1024], path[1100];
    Tokens k = {0};
    if (!common_model(&g->common, folder, sizeof folder, s)) return;
    snprintf(path, sizeof path, "%s/tokenizer", folder);
    const Tokenizer *t = tokenizer_load(a, path, s);
    if (!t || !read_tokens(&k, t, a, text, s)) return;
    if (c->json) send(c, &k, t);
    else print_tokens(&k, t, text, g->padded);
    if (k.dropped) console_warning(c, "%d tokens do not fit into the %d the model reads and are dropped", k.dropped, tokenizer_length(t));
    else console_note(c, "%d token%s, room for %d", k.count, k.count == 1 ? "" : "s", tokenizer_length(t) - 2);
}

int verb_tokenize(int argc, char **argv)
{
    Tokenize g = {0};
    Console c;
    Status s = {0};
    Arena a = {0};
    char *rest[1];
    int rests, code;
    if (!verb_begin(&c, &page, &g, argc, argv, rest, &rests, &code)) return code;
    if (utf8_valid(rest[0])) tokenize(&g, &c, rest[0], &a, &s);
    else status_fail(&s, E_OPTION, "the text is not valid UTF-8");
    arena_free(&a);
    return verb_end(&c, &s);
}
