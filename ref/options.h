/* options.h -- one table of options per verb: it feeds the parser, the help page and the defaults.
 *
 * Accepted forms: --name value, --name=value, -n value, -nvalue, flags as -qv; "--" ends options, and "-"
 * alone is an argument.  The last of several equal options wins.  Every refusal is E_OPTION with one line
 * that names the option, what was found and what is accepted. */
#ifndef REF_OPTIONS_H
#define REF_OPTIONS_H
#include <stdint.h>
#include <stdio.h>
#include "tensor/run.h"

typedef enum {
    OPTION_FLAG,                /* bool: true when given */
    OPTION_TEXT,                /* const char * */
    OPTION_LIST,                /* TextList: may be given several times, each with one text */
    OPTION_INT,                 /* int in least..most */
    OPTION_REAL,                /* double in least..most; finite */
    OPTION_SEED,                /* Seed: 0 .. 2^64-1, or -2^63 .. -1 as two's complement */
    OPTION_BYTES,               /* uint64_t: a number with K, M, G (powers of 1024), or none */
    OPTION_CHOICE               /* int: place in the list `shown`, "a|b|c" */
} OptionKind;

typedef struct { bool given; uint64_t value; } Seed;

enum { LIST_MOST = 16 };
typedef struct { int n; const char *text[LIST_MOST]; } TextList;

typedef struct {
    const char *name;           /* without dashes */
    char letter;                /* short form, or 0 */
    OptionKind kind;
    size_t at;                  /* place of the value in the settings */
    double least, most;
    const char *preset;         /* value when not given, as text; NULL: the settings keep what they hold */
    const char *shown;          /* the value's name in the help, or the choices */
    const char *help;           /* one sentence; the preset is added to it */
    const char *aliases;        /* further long names, "a|b", or NULL */
} Option;

typedef struct { const char *title; const Option *row; int rows; } OptionTable;

enum { OPTION_TABLES = 6 };
typedef struct {
    const char *verb, *line;    /* its name, and its line in the list of verbs */
    const char *example;        /* a command that works */
    const char *arguments;      /* "IMAGE", "[MODEL]", or NULL: none */
    int least, most;            /* how many arguments */
    const char *about;          /* more, for the help page; may be NULL */
    OptionTable table[OPTION_TABLES];
} OptionPage;

/* Fill `settings` (zeroed by the caller) from the presets and then from argv[1..].  Arguments are left in
 * `rest`, room for page->most.  *help: --help was met, and parsing ended there. */
bool options_parse(const OptionPage *page, void *settings, int argc, char **argv, char **rest, int *rests, bool *help, Status *s);
void options_help(const OptionPage *page, FILE *to);      /* at most 80 columns */

const char *choice_name(const Option *o, int i, char *to, size_t room);    /* the i-th of "a|b|c" */
/* Damerau-Levenshtein distance of two words (of at most 63 bytes; longer ones are cut). */
int word_distance(const char *a, const char *b);
#endif
