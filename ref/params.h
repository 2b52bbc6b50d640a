/* params.h -- options from a file, put in front of those of the command line, which therefore win.
 *   a JSON file     an object: names of options, with - or _; values as text, number, or true for a flag
 *   a picture       what a run of ours wrote into it (metadata.h): made again, it has the same bytes */
#ifndef REF_PARAMS_H
#define REF_PARAMS_H
#include "tensor/run.h"

/* Either may be NULL.  *argc and *argv are replaced; the new words live in the arena. */
bool params_expand(Arena *a, int *argc, char ***argv, const char *json_file, const char *picture, Status *s);
/* As --params and --params-from in argv say; nothing is done where neither is. */
bool params_asked(Arena *a, int *argc, char ***argv, Status *s);
#endif
