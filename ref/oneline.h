/* oneline.h -- a name from a file, fit to be printed: one line, and nothing that a terminal would obey. */
#ifndef REF_ONELINE_H
#define REF_ONELINE_H
#include <stddef.h>

enum { ONELINE = 1100 };                                  /* room for the longest name a tensor may have */
/* Copies text (cut to the room) with every control character, of ASCII or C1, as '?'.  Returns `to`. */
const char *oneline(char *to, size_t room, const char *text);
#endif
