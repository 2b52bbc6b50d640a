/* Byte-pair encoding: the ids of every string without begin and end marks, and whole rows with their padding. */
#include <stdio.h>
#include <string.h>
#include "ref/conform.h"
#include "ref/oneline.h"

enum { MOST_PIECES = 1 << 16 };
typedef struct { Case *c; const Tokenizer *t; Piece *pieces; int64_t *ids; int *row; } Reader;

/* With the text's beginning. */
static const char *title(Case *c, const char *what, int i, const Json *text)
{
    char start[44];
    return case_name(c, "%s %d \"%s\"", what, i, oneline(start, sizeof start, text->text));
}

static void judge_string(Reader *r, int i, const Json *entry)
{
    Case *c = r->c;
    const Json *text = json_get(entry, "text");
    if (!text || text->kind != JSON_STRING) {
        run_fail(&c->run, E_FORMAT, "%s: strings[%d].text: expected a string", c->file, i);
        return;
    }
    int n = tokenizer_pieces(r->t, c->run.temp, text->text, text->length, r->pieces, MOST_PIECES, &c->run.status);
    for (int k = 0; k < n && k < MOST_PIECES; k++) r->ids[k] = r->pieces[k].id;
    if (n >= 0) judge_list(c, title(c, "string", i, text), r->ids, n < MOST_PIECES ? n : MOST_PIECES, json_get(entry, "ids"));
}

/* "padded77_eos", "padded77_bang": the row a model is given.  Padding follows the end mark; two kinds of models pad
 * with two different ids, and a tokenizer knows one of them, so the padding is set to what the case asks for. */
static void judge_row(Reader *r, int i, const Json *text, const Json *want)
{
    Case *c = r->c;
    const char *kind = strrchr(want->key, '_');
    int pad = case_int(c, kind && !strcmp(kind, "_bang") ? "pad_sd2" : "pad_sd1", tokenizer_pad(r->t));
    int length = case_int(c, "max_length", tokenizer_length(r->t)), dropped = 0;
    if (length < 2 || length > MOST_PIECES) {
        run_fail(&c->run, E_FORMAT, "%s: params.max_length: expected 2 to %d", c->file, MOST_PIECES);
        return;
    }
    if (!tokenizer_encode(r->t, c->run.temp, text->text, text->length, r->row, length, &dropped, &c->run.status)) return;
    int n = tokenizer_pieces(r->t, c->run.temp, text->text, text->length, r->pieces, MOST_PIECES, &c->run.status);
    for (int k = 0; k < length; k++) {
        bool padding = k > n + 1 && r->row[k] == tokenizer_pad(r->t);
        r->ids[k] = padding ? pad : r->row[k];
    }
    judge_list(c, title(c, want->key, i, text), r->ids, length, want);
    judge_truth(c, title(c, "tokens dropped, row", i, text), dropped == (n > length - 2 ? n - length + 2 : 0), "not those that do not fit");
}

static void judge_rows(Reader *r)
{
    const Json *rows = json_get(r->c->json, "padded");
    int i = 0;
    for (const Json *row = rows ? rows->child : NULL; row; row = row->next, i++) {
        const Json *text = json_get(row, "text");
        for (const Json *j = text && text->kind == JSON_STRING ? row->child : NULL; j; j = j->next)
            if (!strncmp(j->key, "padded", 6)) judge_row(r, i, text, j);
    }
}

void conform_tokenizer(Case *c)
{
    Reader r = { c, NULL, arena_take(c->run.run, MOST_PIECES * sizeof(Piece)), arena_take(c->run.run, MOST_PIECES * sizeof(int64_t)),
                 arena_take(c->run.run, MOST_PIECES * sizeof(int)) };
    if (!r.pieces || !r.ids || !r.row) run_fail(&c->run, E_MEMORY, "%s: no memory for %d tokens", c->file, MOST_PIECES);
    const char *folder = case_model(c, NULL);
    if (run_ok(&c->run)) r.t = tokenizer_load(c->run.run, folder, &c->run.status);
    if (!r.t) return;
    judge_truth(c, "begin mark", case_int(c, "bos", -1) == tokenizer_bos(r.t), "another id than params.bos");
    judge_truth(c, "end mark", case_int(c, "eos", -1) == tokenizer_eos(r.t), "another id than params.eos");
    const Json *strings = json_get(c->json, "strings");
    int i = 0;
    for (const Json *j = strings ? strings->child : NULL; j && run_ok(&c->run); j = j->next, i++) judge_string(&r, i, j);
    judge_rows(&r);
}
