/* console.h -- what the program says, and the number it ends with.
 * stdout carries results only: JSON Lines with --json, else tables.  All for eyes goes to stderr. */
#ifndef REF_CONSOLE_H
#define REF_CONSOLE_H
#include <stdio.h>
#include "tensor/json.h"
#include "tensor/run.h"

enum {
    EXIT_DONE = 0, EXIT_DIFFERENT = 1, EXIT_USAGE = 2, EXIT_INPUT = 3, EXIT_MEMORY = 4, EXIT_OUTPUT = 5, EXIT_NUMBER = 6,
    EXIT_INTERNAL = 70, EXIT_INTERRUPTED = 130, EXIT_TERMINATED = 143
};

typedef enum { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER } Color;
typedef struct {
    bool quiet, verbose, json, color;                     /* color: of stderr */
    bool computing;                                       /* inputs are read: tensors that do not fit are our own mistake from here on */
} Console;

Console console_begin(bool quiet, bool verbose, bool json, Color color);
bool   console_colors(Color color, FILE *stream);          /* a terminal and NO_COLOR empty, unless the option decides */
void   console_note   (const Console *p, const char *format, ...) __attribute__((format(printf, 2, 3)));  /* unless -q */
void   console_detail (const Console *p, const char *format, ...) __attribute__((format(printf, 2, 3)));  /* with -v */
void   console_warning(const Console *p, const char *format, ...) __attribute__((format(printf, 2, 3)));  /* unless -q; an event */
/* "tiller: error: ...", and a hint where there is one (NULL: none).  Returns the exit code of the error. */
int    console_error(const Console *p, const Status *s, const char *hint);
int    console_exit_code(const Console *p, Code code);

/* An event: console_event, then members, then console_send.  Nothing happens without --json. */
void console_event(JsonOut *o, const char *event);
void console_send (const Console *p, JsonOut *o);
/* The last call of every verb: EXIT_OUTPUT when stdout took not all that was written, else `code`. */
int  console_end(const Console *p, int code);
#endif
