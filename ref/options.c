#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "ref/options.h"

enum { COLUMN = 29, WIDTH = 79, WORD = 63 };

int word_distance(const char *a, const char *b)
{
    int n = (int)strnlen(a, WORD), m = (int)strnlen(b, WORD), d[WORD + 1][WORD + 1];
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

/* Calls f for each name of "a|b|c" until it returns true. */
static bool each_name(const char *list, bool (*f)(void *self, const char *name, size_t length), void *self)
{
    while (list && *list) {
        size_t n = strcspn(list, "|");
        if (f(self, list, n)) return true;
        list += n + (list[n] == '|');
    }
    return false;
}

typedef struct { const char *word; size_t length; int place; } Wanted;

static bool is_wanted(void *self, const char *name, size_t length)
{
    Wanted *w = self;
    if (length == w->length && !memcmp(name, w->word, length)) return true;
    w->place++;
    return false;
}

static bool in_list(const char *list, const char *word, size_t length, int *place)
{
    Wanted w = { word, length, 0 };
    bool found = each_name(list, is_wanted, &w);
    if (found && place) *place = w.place;
    return found;
}

const char *choice_name(const Option *o, int i, char *to, size_t room)
{
    const char *p = o->shown;
    while (i-- > 0 && *p) {
        p += strcspn(p, "|");
        p += *p == '|';
    }
    snprintf(to, room, "%.*s", (int)strcspn(p, "|"), p);
    return to;
}

static const Option *by_name(const OptionPage *page, const char *name, size_t length)
{
    for (int t = 0; t < OPTION_TABLES; t++)
        for (int i = 0; i < page->table[t].rows; i++) {
            const Option *o = &page->table[t].row[i];
            if (strlen(o->name) == length && !memcmp(o->name, name, length)) return o;
            if (in_list(o->aliases, name, length, NULL)) return o;
        }
    return NULL;
}

static const Option *by_letter(const OptionPage *page, char letter)
{
    for (int t = 0; t < OPTION_TABLES; t++)
        for (int i = 0; i < page->table[t].rows; i++)
            if (page->table[t].row[i].letter == letter) return &page->table[t].row[i];
    return NULL;
}

typedef struct { char word[WORD + 1], best[WORD + 1]; int distance; } Nearest;

static bool is_nearer(void *self, const char *name, size_t length)
{
    Nearest *n = self;
    char candidate[WORD + 1];
    snprintf(candidate, sizeof candidate, "%.*s", (int)length, name);
    int d = word_distance(n->word, candidate);
    if (d < n->distance) {
        n->distance = d;
        memcpy(n->best, candidate, sizeof candidate);
    }
    return false;
}

static void unknown(const OptionPage *page, const char *name, size_t length, Status *s)
{
    Nearest n = { .best = "help", .distance = WORD + 1 };
    snprintf(n.word, sizeof n.word, "%.*s", (int)(length < WORD ? length : WORD), name);
    for (int t = 0; t < OPTION_TABLES; t++)
        for (int i = 0; i < page->table[t].rows; i++) {
            each_name(page->table[t].row[i].name, is_nearer, &n);
            each_name(page->table[t].row[i].aliases, is_nearer, &n);
        }
    status_fail(s, E_OPTION, "%s: unknown option --%s; the nearest is --%s", page->verb, n.word, n.best);
}

static bool whole(const char *text, long long least, long long most, long long *v)
{
    char *end;
    const char *digits = text + (*text == '-' || *text == '+');
    if (!isdigit((unsigned char)*digits)) return false;
    errno = 0;
    *v = strtoll(text, &end, 10);
    return !errno && !*end && *v >= least && *v <= most;
}

static bool take_int(const Option *o, int *to, const char *text, Status *s)
{
    long long v;
    if (whole(text, (long long)o->least, (long long)o->most, &v)) {
        *to = (int)v;
        return true;
    }
    status_fail(s, E_OPTION, "--%s: a whole number from %.0f to %.0f is wanted, found \"%.60s\"", o->name, o->least, o->most, text);
    return false;
}

static bool take_real(const Option *o, double *to, const char *text, Status *s)
{
    char *end = NULL;
    double v = text[strspn(text, "0123456789+-.eE")] ? 0 : strtod(text, &end);
    if (end && end != text && !*end && v >= o->least && v <= o->most) {
        *to = v;
        return true;
    }
    status_fail(s, E_OPTION, "--%s: a number from %g to %g is wanted, found \"%.60s\"", o->name, o->least, o->most, text);
    return false;
}

static bool take_seed(const Option *o, Seed *to, const char *text, Status *s)
{
    char *end = NULL;
    long long negative;
    if (*text == '-' && whole(text, INT64_MIN, 0, &negative)) {
        *to = (Seed){ true, (uint64_t)negative };
        return true;
    }
    errno = 0;
    uint64_t v = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
    if (end && !*end && !errno) {
        *to = (Seed){ true, v };
        return true;
    }
    status_fail(s, E_OPTION, "--%s: a whole number from -2^63 to 2^64-1 is wanted, found \"%.60s\"", o->name, text);
    return false;
}

static bool take_bytes(const Option *o, uint64_t *to, const char *text, Status *s)
{
    char *end = NULL;
    errno = 0;
    uint64_t v = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
    int unit = end ? toupper((unsigned char)*end) : 0, shift = unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0;
    if (end && !errno && v && !end[shift != 0] && (v << shift) >> shift == v) {
        *to = v << shift;
        return true;
    }
    status_fail(s, E_OPTION, "--%s: bytes, as 500M or 8G, are wanted, found \"%.60s\"", o->name, text);
    return false;
}

static bool take_list(const Option *o, TextList *to, const char *text, Status *s)
{
    if (to->n < LIST_MOST) to->text[to->n++] = text;
    else status_fail(s, E_OPTION, "--%s: given more than %d times", o->name, LIST_MOST);
    return s->code == OK;
}

static bool take(const Option *o, void *settings, const char *text, Status *s)
{
    void *to = (char *)settings + o->at;
    switch (o->kind) {
    case OPTION_FLAG:   *(bool *)to = true;            return true;
    case OPTION_TEXT:   *(const char **)to = text;     return true;
    case OPTION_LIST:   return take_list(o, to, text, s);
    case OPTION_INT:    return take_int(o, to, text, s);
    case OPTION_REAL:   return take_real(o, to, text, s);
    case OPTION_SEED:   return take_seed(o, to, text, s);
    case OPTION_BYTES:  return take_bytes(o, to, text, s);
    case OPTION_CHOICE:
        if (in_list(o->shown, text, strlen(text), to)) return true;
        status_fail(s, E_OPTION, "--%s: one of %s is wanted, found \"%.60s\"", o->name, o->shown, text);
    }
    return false;
}

static bool presets(const OptionPage *page, void *settings, Status *s)
{
    for (int t = 0; t < OPTION_TABLES; t++)
        for (int i = 0; i < page->table[t].rows; i++) {
            const Option *o = &page->table[t].row[i];
            if (o->preset && !take(o, settings, o->preset, s)) return false;
        }
    return true;
}

/* --name, --name=value, --name value; *at moves past a value taken. */
static bool parse_long(const OptionPage *page, void *settings, int argc, char **argv, int *at, Status *s)
{
    const char *name = argv[*at] + 2;
    size_t length = strcspn(name, "=");
    const Option *o = by_name(page, name, length);
    if (!o) {
        unknown(page, name, length, s);
        return false;
    }
    const char *value = name[length] ? name + length + 1 : NULL;
    if (o->kind == OPTION_FLAG) {
        if (!value) return take(o, settings, NULL, s);
        status_fail(s, E_OPTION, "--%s takes no value, found \"%.60s\"", o->name, value);
        return false;
    }
    if (!value && *at + 1 < argc) value = argv[++*at];
    if (value) return take(o, settings, value, s);
    status_fail(s, E_OPTION, "--%s needs a value", o->name);
    return false;
}

static bool parse_short(const OptionPage *page, void *settings, int argc, char **argv, int *at, Status *s)
{
    for (const char *p = argv[*at] + 1; *p; p++) {
        const Option *o = by_letter(page, *p);
        if (!o) {
            status_fail(s, E_OPTION, "%s: unknown option -%c; tiller %s --help lists them", page->verb, *p, page->verb);
            return false;
        }
        if (o->kind == OPTION_FLAG) {
            if (!take(o, settings, NULL, s)) return false;
            continue;
        }
        const char *value = p[1] ? p + 1 : *at + 1 < argc ? argv[++*at] : NULL;
        if (value) return take(o, settings, value, s);
        status_fail(s, E_OPTION, "-%c (--%s) needs a value", o->letter, o->name);
        return false;
    }
    return true;
}

bool options_parse(const OptionPage *page, void *settings, int argc, char **argv, char **rest, int *rests, bool *help, Status *s)
{
    bool options = true;
    *rests = 0;
    *help = false;
    if (!presets(page, settings, s)) return false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (options && !strcmp(word, "--")) {
            options = false;
        } else if (options && (!strcmp(word, "--help") || !strcmp(word, "-h"))) {
            *help = true;
            return true;
        } else if (options && word[0] == '-' && word[1] == '-') {
            if (!parse_long(page, settings, argc, argv, &i, s)) return false;
        } else if (options && word[0] == '-' && word[1]) {
            if (!parse_short(page, settings, argc, argv, &i, s)) return false;
        } else if (*rests == page->most) {
            status_fail(s, E_OPTION, "%s: one argument too many: \"%.80s\"", page->verb, word);
            return false;
        } else {
            rest[(*rests)++] = argv[i];
        }
    }
    if (*rests < page->least) status_fail(s, E_OPTION, "%s: missing argument: %s", page->verb, page->arguments);
    return s->code == OK;
}

/* Words of `text` from column `at` on, continued in column `indent`. */
static void wrapped(FILE *to, const char *text, int at, int indent)
{
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > indent && at + 1 + n > WIDTH) {
            fprintf(to, "\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            fputc(' ', to);
            at++;
        }
        fprintf(to, "%.*s", n, text);
        at += n;
        text += n;
        text += strspn(text, " ");
    }
    fputc('\n', to);
}

static void help_row(const Option *o, FILE *to)
{
    char left[200], right[600], letter[8] = "    ";
    bool choice = o->kind == OPTION_CHOICE, flag = o->kind == OPTION_FLAG, preset = o->preset && *o->preset;
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, flag ? "" : " ", flag ? "" : choice ? "NAME" : o->shown);
    snprintf(right, sizeof right, "%s%s%s%s%s%s%s%s%s", o->help, choice ? ": " : "", choice ? o->shown : "",
             o->aliases ? " (also --" : "", o->aliases ? o->aliases : "", o->aliases ? ")" : "",
             preset ? " [default: " : "", preset ? o->preset : "", preset ? "]" : "");
    int at = fprintf(to, "%s", left);
    if (at >= COLUMN - 1) {
        fputc('\n', to);
        at = 0;
    }
    fprintf(to, "%*s", COLUMN - at, "");
    wrapped(to, right, COLUMN, COLUMN);
}

void options_help(const OptionPage *page, FILE *to)
{
    fprintf(to, "  %s\n\n", page->example);
    fprintf(to, "tiller %s [options]%s%s\n", page->verb, page->arguments ? " " : "", page->arguments ? page->arguments : "");
    wrapped(to, page->line, 0, 0);
    if (page->about) {
        fputc('\n', to);
        wrapped(to, page->about, 0, 0);
    }
    for (int t = 0; t < OPTION_TABLES; t++) {
        if (!page->table[t].rows) continue;
        fprintf(to, "\n%s:\n", page->table[t].title);
        for (int i = 0; i < page->table[t].rows; i++) help_row(&page->table[t].row[i], to);
    }
    fprintf(to, "  -h, --help                 this page\n");
}
