#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ref/progress.h"
#include "tensor/file.h"

enum { BAR = 20 };

void progress_begin(Progress *g, const Console *p, const char *what, int total)
{
    const char *term = getenv("TERM");
    bool terminal = isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb"));
    double now = clock_seconds();
    *g = (Progress){ what, total, p->quiet, terminal, false, now, now };
}

void progress_text(char *to, size_t room, const char *what, int done, int total, double seconds)
{
    double each = done > 0 ? seconds / done : 0, left = each * (total - done);
    int n = snprintf(to, room, "%s: step %d of %d, %.3g s/step, ", what, done, total, each);
    if (n < 0 || (size_t)n >= room) return;
    if (left < 100) snprintf(to + n, room - (size_t)n, "%.0f s left", left);
    else snprintf(to + n, room - (size_t)n, "%.0f min %02.0f s left", (double)(int)(left / 60), left - 60 * (double)(int)(left / 60));
}

void progress_step(Progress *g, int done)
{
    double now = clock_seconds();
    char text[120];
    if (g->silent || now - g->last < (g->bar ? 0.2 : 10)) return;
    g->last = now;
    progress_text(text, sizeof text, g->what, done, g->total, now - g->begun);
    if (!g->bar) {
        fprintf(stderr, "%s\n", text);
        return;
    }
    int full = g->total ? BAR * done / g->total : 0;
    fprintf(stderr, "\r[%.*s%.*s] %s\033[K", full, "####################", BAR - full, "....................", text);
    fflush(stderr);
    g->drawn = true;
}

void progress_clear(Progress *g)
{
    if (g->drawn) fputs("\r\033[K", stderr);
    g->drawn = false;
}
