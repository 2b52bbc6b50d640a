#include <math.h>
#include "ref/plot.h"
#include "ref/svg.h"

enum { WIDTH = 640, PANEL = 180, LEFT = 64, RIGHT = 16, TOP = 34, GAP = 44 };

static bool guided(const GuideReport *p) { return p->grad_norm != 0 || p->energy != 0; }
static double value_of(const GuideReport *p, int panel) { return panel ? p->push : (double)p->energy; }

static double x_of(int i, int n) { return LEFT + (i + 0.5) * (WIDTH - LEFT - RIGHT) / n; }

static void panel(Svg *t, const GuideReport *p, int n, int which, const char *name, const char *color)
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
        if (!guided(&p[i])) svg_put(t, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%d\" fill=\"#f0f0f0\"/>\n", x_of(i, n) - width / 2, top, width, PANEL);
    svg_put(t, "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", LEFT, top, WIDTH - LEFT - RIGHT, PANEL);
    svg_put(t, "<text x=\"%d\" y=\"%.1f\">%s</text>\n", LEFT, top - 6, name);
    svg_put(t, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n",
        LEFT - 6, top + 11, least + span, LEFT - 6, top + PANEL, least);
    svg_put(t, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"", color);
    for (int i = 0; i < n; i++)
        if (guided(&p[i])) svg_put(t, "%.1f,%.1f ", x_of(i, n), top + PANEL * (1 - (value_of(&p[i], which) - least) / span));
    svg_put(t, "\"/>\n");
    for (int i = 0; i < n; i++)
        if (guided(&p[i])) svg_put(t, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"%s\"/>\n", x_of(i, n), top + PANEL * (1 - (value_of(&p[i], which) - least) / span), color);
}

bool plot_save(const char *path, const GuideReport *report, int n, const char *title, Status *s)
{
    int height = TOP + 2 * PANEL + GAP + 34;
    Svg t;
    if (!svg_begin(&t, 4096 + (size_t)n * 512, WIDTH, height)) {
        status_fail(s, E_MEMORY, "out of memory: a plot of %d steps", n);
        return false;
    }
    svg_put(&t, "<text x=\"%d\" y=\"14\" text-anchor=\"end\" fill=\"#555\">", WIDTH - RIGHT);
    svg_escape(&t, title);
    svg_put(&t, "</text>\n");
    panel(&t, report, n, 0, "energy", "#b03060");
    panel(&t, report, n, 1, "push: length of the shift over that of what it shifts", "#2060b0");
    svg_put(&t, "<text x=\"%d\" y=\"%d\">step 1</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%d</text>\n", LEFT, height - 14, WIDTH - RIGHT, height - 14, n);
    return svg_end(&t, path, "a title this long is not drawn", s);
}
