#include <math.h>
#include "ref/train.h"
#include "ref/svg.h"

enum { WIDTH = 640, HEIGHT = 300, LEFT = 64, RIGHT = 16, TOP = 34, BOTTOM = 40, ROOM = 160 };

typedef struct { const real *loss; int n, of, pass; double least, span; } Losses;

static double x_of(const Losses *c, double i) { return LEFT + (i + 0.5) * (WIDTH - LEFT - RIGHT) / c->of; }
static double y_of(const Losses *c, double v) { return HEIGHT - BOTTOM - (v - c->least) / c->span * (HEIGHT - TOP - BOTTOM); }

static void draw(Svg *t, const Losses *c)
{
    for (int i = 0; i < c->n; i++)
        svg_put(t, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2\" fill=\"#c08090\"/>\n", x_of(c, i), y_of(c, (double)c->loss[i]));
    svg_put(t, "<polyline fill=\"none\" stroke=\"#b03060\" stroke-width=\"2\" points=\"");
    for (int first = 0; first < c->n; first += c->pass) {
        double sum = 0;
        int count = c->n - first < c->pass ? c->n - first : c->pass;
        for (int i = 0; i < count; i++) sum += (double)c->loss[first + i];
        svg_put(t, "%.1f,%.1f ", x_of(c, first + (count - 1) / 2.0), y_of(c, sum / count));
    }
    svg_put(t, "\"/>\n");
}

bool train_plot(const TrainRun *w, const char *path)
{
    Status *s = &w->r->status;
    Losses c = { .loss = w->losses.v.x, .n = train_done(w), .of = w->pictures * w->o->passes, .pass = w->pictures };
    double most = (double)-INFINITY;
    Svg t;
    if (!svg_begin(&t, 8192 + (size_t)(c.n + w->o->passes) * ROOM, WIDTH, HEIGHT)) {
        status_fail(s, E_MEMORY, "out of memory: a plot of %d pictures", c.n);
        return false;
    }
    c.least = (double)INFINITY;
    for (int i = 0; i < c.n; i++) {
        c.least = fmin(c.least, (double)c.loss[i]);
        most = fmax(most, (double)c.loss[i]);
    }
    if (!c.n) c.least = most = 0;
    c.span = most > c.least ? most - c.least : 1;
    svg_put(&t, "<text x=\"%d\" y=\"14\">", LEFT);
    svg_escape(&t, w->o->source);
    svg_put(&t, " to ");
    svg_escape(&t, w->o->target);
    svg_put(&t, "</text>\n<text x=\"%d\" y=\"28\" fill=\"#555\">loss of each picture, and the mean of each pass</text>\n", LEFT);
    svg_put(&t, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    svg_put(&t, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.3g</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.3g</text>\n", LEFT - 6, TOP + 11, c.least + c.span,
        LEFT - 6, HEIGHT - BOTTOM, c.least);
    draw(&t, &c);
    svg_put(&t, "<text x=\"%d\" y=\"%d\">picture 1</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%d</text>\n", LEFT, HEIGHT - 20, WIDTH - RIGHT, HEIGHT - 20, c.of);
    return svg_end(&t, path, "texts this long are not drawn", s);
}
