#include <string.h>
#include "nn/tokenizer_parts.h"

enum { BARRIER = 0x110000 };                              /* + which: a special token among the characters; no character is */

static bool short_of_memory(Status *s, size_t bytes)
{
    status_fail(s, E_MEMORY, "tokenizer: out of memory for a text of %zu bytes", bytes);
    return false;
}

static bool text_fits(size_t length, Status *s)
{
    if (length <= TOKENIZER_LONGEST) return true;
    status_fail(s, E_OPTION, "prompt: %zu bytes, at most %d are read", length, TOKENIZER_LONGEST);
    return false;
}

/* The first special token at or after `at`, the longest where several match: which of them; *from: where it begins.
 * SPECIALS and *from = length when there is none. */
static int next_special(const Tokenizer *t, const char *text, size_t at, size_t length, size_t *from)
{
    for (size_t i = at; i < length; i++) {
        int best = SPECIALS;
        for (int k = 0; k < SPECIALS; k++) {
            size_t n = (size_t)t->special[k].length;
            if (n <= length - i && text[i] == t->special[k].text[0] && !memcmp(text + i, t->special[k].text, n)
                && (best == SPECIALS || (int)n > t->special[best].length)) best = k;
        }
        if (best < SPECIALS) {
            *from = i;
            return best;
        }
    }
    *from = length;
    return SPECIALS;
}

static bool read_utf8(Char *c, int *n, const char *text, size_t from, size_t to, Status *s)
{
    *n = 0;
    for (size_t i = from; i < to; (*n)++) {
        int bytes = unicode_read(text + i, to - i, &c[*n].code);
        if (!bytes) {
            status_fail(s, E_OPTION, "prompt: byte %zu (0x%02X) is not UTF-8", i, (unsigned char)text[i]);
            return false;
        }
        c[*n].from = (int)i;
        c[*n].to = (int)(i += (size_t)bytes);
    }
    return true;
}

/* White space runs -> one blank, then lower case; out has room for lower_room(c, n). */
static size_t lower_room(const Char *c, int n)
{
    size_t room = (size_t)n + 1;
    uint32_t low[2];
    for (int i = 0; i < n; i++) room += c[i].code >= 0x80 && unicode_lower(c[i].code, low) > 1;
    return room;
}

static int fold(Char *out, const Char *c, int n)
{
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (unicode_class(c[i].code) == CHAR_SPACE) {
            if (!i || unicode_class(c[i - 1].code) != CHAR_SPACE) out[m++] = (Char){ ' ', c[i].from, c[i].to };
            continue;
        }
        uint32_t low[2];
        int parts = unicode_lower(c[i].code, low);
        for (int k = 0; k < parts; k++) out[m++] = (Char){ low[k], c[i].from, c[i].to };
    }
    return m;
}

/* Step 2 on text[from, to), which holds no special token.  NULL on failure; the result stays in scratch. */
static Char *normalised(Arena *scratch, const char *text, size_t from, size_t to, int *n, Status *s)
{
    Char *c = arena_take(scratch, (to - from + 1) * sizeof *c);
    if (c && !read_utf8(c, n, text, from, to, s)) return NULL;
    int room = c ? unicode_room(c, *n) : 0;
    if (c && room) {
        Char *out = arena_take(scratch, (size_t)room * sizeof *out), *work = arena_take(scratch, (size_t)room * sizeof *work);
        if (out && work) *n = unicode_compose(out, work, c, *n);
        c = out && work ? out : NULL;
    }
    Char *folded = c ? arena_take(scratch, lower_room(c, *n) * sizeof *folded) : NULL;
    if (folded) *n = fold(folded, c, *n);
    else short_of_memory(s, to - from);
    return folded;
}

static bool spells(const Char *c, int n, const char *text)
{
    int i = 0;
    while (text[i] && i < n && c[i].code == (unsigned char)text[i]) i++;
    return !text[i];
}

/* Length of the piece that begins at c[0], n >= 1, no white space there. */
static int piece_length(const Char *c, int n)
{
    static const char *const contraction[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };
    for (int k = 0; k < 7; k++)
        if (spells(c, n, contraction[k])) return (int)strlen(contraction[k]);
    CharClass class = unicode_class(c[0].code);
    int length = 1;
    while (class != CHAR_NUMBER && length < n && unicode_class(c[length].code) == class) length++;
    return length;
}

/* A mark's spelling that appears only now, in lower case, is a match of its own in the reference, split again at once into
 * "<|", its name and "|>": what follows is not joined to it.  Length of such a spelling at c[0], or 0. */
static int late_mark(const Char *c, int n)
{
    static const char *const mark[] = { "<|startoftext|>", "<|endoftext|>" };
    for (int k = 0; k < 2; k++)
        if (spells(c, n, mark[k])) return (int)strlen(mark[k]);
    return 0;
}

static bool stretch_pieces(const Tokenizer *t, Arena *scratch, const Char *c, int n, Pieces *to)
{
    bool fine = true;
    int close = -1;                                       /* where the "|>" of a late mark stands */
    for (int i = 0, length; fine && i < n; i += length) {
        length = 1;
        if (c[i].code == ' ') continue;
        int mark = late_mark(c + i, n - i);
        if (mark) close = i + mark - 2;
        length = mark || i == close ? 2 : piece_length(c + i, n - i);
        fine = word_pieces(t, scratch, c + i, length, to);
    }
    return fine;
}

int tokenizer_pieces(const Tokenizer *t, Arena *scratch, const char *text, size_t length, Piece *out, int most, Status *s)
{
    Pieces p = { out, most, 0 };
    size_t at = 0, from;
    if (!text_fits(length, s)) return -1;
    do {
        size_t mark = scratch->used;
        int n, which = next_special(t, text, at, length, &from);
        const Char *c = normalised(scratch, text, at, from, &n, s);
        bool fine = c && (stretch_pieces(t, scratch, c, n, &p) || short_of_memory(s, length));
        arena_release(scratch, mark);
        if (!fine) return -1;
        at = from;
        if (which < SPECIALS) {
            at += (size_t)t->special[which].length;
            pieces_add(&p, t->special[which].id, (int)from, (int)at);
        }
    } while (at < length);
    return p.count;
}

bool tokenizer_encode(const Tokenizer *t, Arena *scratch, const char *text, size_t bytes, int *ids, int length, int *dropped, Status *s)
{
    if (length < 2) {
        status_fail(s, E_OPTION, "tokenizer: a row of %d ids has no room for its begin and end", length);
        return false;
    }
    size_t mark = scratch->used;
    Piece *piece = arena_take(scratch, (size_t)length * sizeof *piece);
    int n = piece ? tokenizer_pieces(t, scratch, text, bytes, piece, length - 2, s) : -1;
    if (!piece) short_of_memory(s, bytes);
    int body = n < length - 2 ? n : length - 2;
    for (int i = 0; n >= 0 && i < length; i++)
        ids[i] = i == 0 ? tokenizer_bos(t) : i <= body ? piece[i - 1].id : i == body + 1 ? tokenizer_eos(t) : tokenizer_pad(t);
    if (dropped) *dropped = n > body ? n - body : 0;
    arena_release(scratch, mark);
    return n >= 0;
}

/* The whole text after steps 1 and 2, a BARRIER for each special token. */
static Char *all_normalised(const Tokenizer *t, Arena *scratch, const char *text, size_t length, int *n, Status *s)
{
    Char *all = arena_take(scratch, (length + 1) * sizeof *all);          /* no character gives more of them than it has bytes */
    size_t at = 0, from;
    *n = 0;
    if (!all) short_of_memory(s, length);
    if (!all || !text_fits(length, s)) return NULL;
    do {
        size_t mark = scratch->used;
        int part, which = next_special(t, text, at, length, &from);
        const Char *c = normalised(scratch, text, at, from, &part, s);
        if (c) memcpy(all + *n, c, (size_t)part * sizeof *c);
        arena_release(scratch, mark);
        if (!c) return NULL;
        *n += part;
        at = from;
        if (which < SPECIALS) {
            at += (size_t)t->special[which].length;
            all[(*n)++] = (Char){ BARRIER + (uint32_t)which, (int)from, (int)at };
        }
    } while (at < length);
    return all;
}

static bool wordlike(uint32_t code)
{
    CharClass k = unicode_class(code);
    return k == CHAR_LETTER || k == CHAR_NUMBER;
}

/* Where the nth occurrence of w as a whole word begins in c, -1: nowhere (Knuth, Morris, Pratt; fail has room for m). */
static int occurrence(const Char *c, int n, const Char *w, int m, int nth, int *fail)
{
    for (int i = 1, k = fail[0] = 0; i < m; i++) {
        while (k && w[i].code != w[k].code) k = fail[k - 1];
        fail[i] = k += w[i].code == w[k].code;
    }
    for (int i = 0, k = 0; i < n; i++) {
        while (k && c[i].code != w[k].code) k = fail[k - 1];
        k += c[i].code == w[k].code;
        if (k < m) continue;
        int first = i - m + 1;
        bool whole = !(first && wordlike(w[0].code) && wordlike(c[first - 1].code))
                  && !(i + 1 < n && wordlike(w[m - 1].code) && wordlike(c[i + 1].code));
        if (whole && nth-- == 0) return first;
        k = whole ? 0 : fail[k - 1];                      /* occurrences do not overlap */
    }
    return -1;
}

static int word_positions(const Tokenizer *t, Arena *scratch, const char *text, const char *word, int nth,
                          int *positions, int most, Status *s)
{
    int n, m, row = t->length - 2;
    const Char *c = all_normalised(t, scratch, text, strlen(text), &n, s);
    const Char *w = c ? all_normalised(t, scratch, word, strlen(word), &m, s) : NULL;
    if (!w) return -1;
    while (m && w[m - 1].code == ' ') m--;
    if (m && w[0].code == ' ') w++, m--;
    int *fail = arena_take(scratch, (size_t)m * sizeof *fail);
    Piece *piece = arena_take(scratch, (size_t)row * sizeof *piece);
    if (!fail || !piece) {
        short_of_memory(s, strlen(text));
        return -1;
    }
    int first = m ? occurrence(c, n, w, m, nth, fail) : -1;
    if (first < 0) return 0;
    int pieces = tokenizer_pieces(t, scratch, text, strlen(text), piece, row, s), found = 0;
    for (int i = 0; i < pieces && i < row; i++) {
        if (piece[i].to <= c[first].from || piece[i].from >= c[first + m - 1].to) continue;
        if (found < most) positions[found] = i + 1;
        found++;
    }
    return pieces < 0 ? -1 : found;
}

int tokenizer_word(const Tokenizer *t, Arena *scratch, const char *text, const char *word, int nth, int *positions, int most, Status *s)
{
    size_t mark = scratch->used;
    int found = word_positions(t, scratch, text, word, nth, positions, most, s);
    arena_release(scratch, mark);
    return found;
}

const char *tokenizer_text(const Tokenizer *t, int id) { return id >= 0 && id < t->count ? t->spelling[id] : NULL; }
int tokenizer_count (const Tokenizer *t) { return t->count; }
int tokenizer_length(const Tokenizer *t) { return t->length; }
int tokenizer_bos(const Tokenizer *t) { return t->special[BOS].id; }
int tokenizer_eos(const Tokenizer *t) { return t->special[EOS].id; }
int tokenizer_pad(const Tokenizer *t) { return t->special[PAD].id; }
