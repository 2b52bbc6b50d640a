/* progress.h -- how far a long computation is: a bar on a terminal, a plain line now and then elsewhere.
 * A terminal is redrawn at most five times a second; without one (or with TERM=dumb) a line comes at most
 * every ten seconds.  All on stderr; silent with -q. */
#ifndef REF_PROGRESS_H
#define REF_PROGRESS_H
#include "ref/console.h"

typedef struct {
    const char *what;                                     /* "image 1 of 4" */
    int total;
    bool silent, bar, drawn;
    double begun, last;
} Progress;

void progress_begin(Progress *g, const Console *p, const char *what, int total);
void progress_step (Progress *g, int done);               /* done: steps finished, 1..total */
void progress_clear(Progress *g);                         /* before other text, and at the end */
/* "step 12 of 50, 0.31 s/step, 12 s left": the text of both forms. */
void progress_text(char *to, size_t room, const char *what, int done, int total, double seconds);
#endif
