#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "ref/plot.h"
#include "tensor/file.h"

enum { WIDTH = 640, PANEL = 180, LEFT = 64, RIGHT = 16, TOP = 34, GAP = 44 };

typedef struct { char *bytes; size_t used, room; } Text;

static void put(Text *t, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (t->used < t->room) {
        int n = vsnprintf(t->bytes + t->used, t->room - t->used, format, ap);
        t->used += n > 0 ? (size_t)n : 0;
    }
    va_end(ap);
}

static void put_escaped(Text *t, const char *text)
{
    for (; *text; text++)
        if (*text == '<') put(t, "&lt;");
        else if (*text == '&') put(t, "&amp;");
        else put(t, "%c", *text);
}

static bool guided(const GuideReport *p) { return p->grad_norm != 0 || p->energy != 0; }
static double value_of(const GuideReport *p, int panel) { return panel ? p->push : (double)p->energy; }

static double x_of(int i, int n) { return LEFT + (i + 0.5) * (WIDTH - LEFT - RIGHT) / n; }

static void panel(Text *t, const GuideReport *p, int n, int which, const char *name, const char *color)
{
    double least = 0, most = 0, top = TOP + which * (PANEL + GAP), width = (double)(WIDTH - LEFT - RIGHT) / n;
    for (int i = 0; i < n; i++) {
        double v = value_of(&p[i], which);
        if (!isfinite(v)) continue;
        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    double span = most > least ? most - least : 1;
    for (int i = 0; i < n; i++)
        if (!guided(&p[i])) put(t, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%d\" fill=\"#f0f0f0\"/>\n", x_of(i, n) - width / 2, top, width, PANEL);
    put(t, "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", LEFT, top, WIDTH - LEFT - RIGHT, PANEL);
    put(t, "<text x=\"%d\" y=\"%.1f\">%s</text>\n", LEFT, top - 6, name);
    put(t, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n",
        LEFT - 6, top + 11, least + span, LEFT - 6, top + PANEL, least);
    put(t, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"", color);
    for (int i = 0; i < n; i++)
        if (guided(&p[i])) put(t, "%.1f,%.1f ", x_of(i, n), top + PANEL * (1 - (value_of(&p[i], which) - least) / span));
    put(t, "\"/>\n");
    for (int i = 0; i < n; i++)
        if (guided(&p[i])) put(t, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"%s\"/>\n", x_of(i, n), top + PANEL * (1 - (value_of(&p[i], which) - least) / span), color);
}

bool plot_save(const char *path, const GuideReport *report, int n, const char *title, Status *s)
{
    int height = TOP + 2 * PANEL + GAP + 34;
    Text t = { NULL, 0, 4096 + (size_t)n * 512 };
    t.bytes = malloc(t.room);
    if (!t.bytes) {
        status_fail(s, E_MEMORY, "out of memory: a plot of %d steps", n);
        return false;
    }
    put(&t, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"%d\" y=\"14\" text-anchor=\"end\" fill=\"#555\">", WIDTH, height, WIDTH - RIGHT);
    put_escaped(&t, title);
    put(&t, "</text>\n");
    panel(&t, report, n, 0, "energy", "#b03060");
    panel(&t, report, n, 1, "push: length of the shift over that of what it shifts", "#2060b0");
    put(&t, "<text x=\"%d\" y=\"%d\">step 1</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%d</text>\n</svg>\n", LEFT, height - 14, WIDTH - RIGHT, height - 14, n);
    bool good = t.used < t.room;
    if (good) good = file_save(path, t.bytes, t.used, s);
    else status_fail(s, E_OPTION, "%s: a title this long is not drawn", path);
    free(t.bytes);
    return good;
}
