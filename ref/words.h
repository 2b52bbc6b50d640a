/* words.h -- from words to token positions: prompts cut into words, objects named by hand or found in a list of nouns. */
#ifndef REF_WORDS_H
#define REF_WORDS_H
#include "guidance/methods.h"
#include "nn/tokenizer.h"

enum { WORDS_OBJECTS = 16 };

/* ids, the words between spaces and their token positions; `length` is the row's (77).  Everything in the arena. */
bool words_of(PromptWords *w, Arena *a, const Tokenizer *t, const char *prompt, int length, Status *s);

/* Fills token and source positions of `word` ("frog", "teddy bear", "frog#2": its second occurrence; a plural where the prompt has one
 * and the other way round).  E_OPTION when it is not in the prompt: names the prompt's words.  It need not be in `source`
 * (NULL: the same prompt).  either: it may be in the source's prompt alone. */
bool words_find(Object *o, Arena *a, const Tokenizer *t, const char *word, const char *prompt, const char *source, bool either, Status *s);

/* The words of the prompt that are in a list of nouns (one a line, '#' begins a comment), in the prompt's order, each plural as
 * its singular is listed; "a cat and a cat" gives "cat" and "cat#2".  Returns how many; -1 on failure. */
int words_nouns(const char **found, int most, Arena *a, const char *nouns_file, const char *prompt, Status *s);

/* "cat,frog" -> "cat", "frog", blanks around them dropped. */
int words_split(const char **word, int most, Arena *a, const char *list);
char *text_copy(Arena *a, const char *from, size_t length);      /* NUL-terminated; NULL when memory is out */
/* The lines of a text file, blanks at the ends dropped; empty ones and those that begin with '#' are left out. */
int text_lines(const char **line, int most, Arena *a, const char *file, Status *s);
#endif
