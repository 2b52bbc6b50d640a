#include <stdio.h>
#include <string.h>
#include "nn/config.h"
#include "nn/detector.h"
#include "tensor/shape.h"

static const double presence_shift = 5.5;                 /* the network learnt its presence logits under this one */
enum { WIDEST = 16384, NAMES_MOST = 4096 };

/* ---- configuration ---- */

/* What config.json says of the computation must be what is computed here. */
static const char *const forward_text[] = {
    "x = conv 3x3 stride 2 pad 1 (c1); groupnorm+silu (n1)",
    "x = conv 3x3 stride 2 pad 1 (c2)",
    "x = x + conv2(silu(norm2(conv1(silu(norm1(x))))))  (r2)",
    "x = conv 3x3 stride 2 pad 1 (c3)",
    "three residual blocks as above (r3.0, r3.1, r3.2)",
    "h = silu(groupnorm(x)) (n3)",
    "cell = conv 1x1 (cell); pres = logsumexp_cells(conv 1x1 (pres)) - 5.5",
    "style, bg = linear (glob) of [mean over cells, max over cells] of h, split",
};
enum { FORWARD_LINES = sizeof forward_text / sizeof *forward_text };

static void check_forward(Config *c)
{
    const Json *j = json_get(c->json, "forward");
    config_ignore(c, "forward");
    if (!j) return;
    if (j->kind != JSON_ARRAY || j->count != FORWARD_LINES) {
        config_fail(c, "forward", "expected a list of %d lines", FORWARD_LINES);
        return;
    }
    int i = 0;
    for (const Json *e = j->child; e; e = e->next, i++)
        if (!json_is(e, forward_text[i]))
            config_fail(c, "forward", "line %d: expected \"%s\", found \"%.80s\"", i + 1, forward_text[i], e->text ? e->text : "");
}

static Names names_of(Config *c, const char *field, Arena *a)
{
    const Json *j = json_get(c->json, field);
    config_ignore(c, field);
    if (!j || j->kind != JSON_ARRAY || j->count < 1 || j->count > NAMES_MOST) {
        config_fail(c, field, "expected a list of 1 to %d names", NAMES_MOST);
        return (Names){0};
    }
    const char **name = arena_take(a, (size_t)j->count * sizeof *name);
    if (!name) {
        status_fail(c->status, E_MEMORY, "%s: %s: out of memory", c->file, field);
        return (Names){0};
    }
    int n = 0;
    for (const Json *e = j->child; e; e = e->next) {
        if (e->kind != JSON_STRING || !e->length || strlen(e->text) != e->length) config_fail(c, field, "entry %d: expected a name", n + 1);
        for (int i = 0; i < n; i++)
            if (e->kind == JSON_STRING && !strcmp(name[i], e->text)) config_fail(c, field, "\"%.60s\" is there twice", e->text);
        name[n++] = e->text ? e->text : "";
    }
    return (Names){ name, n };
}

bool detector_config(DetectorConfig *d, const Json *j, const char *file, Arena *a, Status *s)
{
    static const char *const architecture[] = { "scene detector", NULL };
    static const int channels[DETECTOR_LEVELS] = { 32, 64, 128 };
    Config c;
    memset(d, 0, sizeof *d);
    config_begin(&c, j, file, "SceneDetector", s);
    if (s->code != OK) return false;
    config_word(&c, "architecture", 0, architecture);
    int n = config_list(&c, "channels", channels, DETECTOR_LEVELS, 1, WIDEST, DETECTOR_LEVELS, d->channels);
    if (s->code == OK && n != DETECTOR_LEVELS) config_fail(&c, "channels", "expected %d widths, found %d", DETECTOR_LEVELS, n);
    d->groups      = config_int(&c, "groups", 8, 1, WIDEST);
    d->eps         = config_number(&c, "eps", 1e-5, 0, 1);
    d->classes     = names_of(&c, "classes", a);
    d->styles      = names_of(&c, "styles", a);
    d->backgrounds = names_of(&c, "backgrounds", a);
    config_ignore(&c, "input");                           /* sentences for people */
    config_ignore(&c, "outputs");
    check_forward(&c);
    for (int i = 0; i < DETECTOR_LEVELS && s->code == OK; i++)
        if (d->channels[i] % d->groups) config_fail(&c, "channels", "%d is not a multiple of groups %d", d->channels[i], d->groups);
    return config_end(&c);
}

/* ---- the network ---- */

bool detector_build(Detector *d, const DetectorConfig *c, Status *s)
{
    static const char *const path[1 + DETECTOR_DEEP] = { "r2.conv2", "r3.0.conv2", "r3.1.conv2", "r3.2.conv2" };
    const int *C = c->channels;
    if (s->code != OK) return false;
    *d = (Detector){
        .config = *c,
        .c1 = conv_make(3, C[0], 3, 2, 1, 1), .n1 = norm_make(C[0], c->groups, c->eps, ACT_SILU),
        .c2 = conv_make(C[0], C[1], 3, 2, 1, 1), .r2 = resblock_make(C[1], C[1], 0, c->groups, c->eps, false, 1),
        .c3 = conv_make(C[1], C[2], 3, 2, 1, 1), .n3 = norm_make(C[2], c->groups, c->eps, ACT_SILU),
        .cell = linear_make_1x1(C[2], c->classes.n + 1), .pres = linear_make_1x1(C[2], c->classes.n),
        .glob = linear_make(2 * C[2], c->styles.n + c->backgrounds.n, true),
    };
    d->r2.conv2_path = path[0];
    for (int i = 0; i < DETECTOR_DEEP; i++) {
        d->r3[i] = resblock_make(C[2], C[2], 0, c->groups, c->eps, false, 1);
        d->r3[i].conv2_path = path[1 + i];
    }
    return true;
}

void detector_walk(void *detector, Walk *w)
{
    Detector *d = detector;
    conv_walk(&d->c1, w, "c1");
    norm_walk(&d->n1, w, "n1");
    conv_walk(&d->c2, w, "c2");
    size_t before = walk_enter(w, "r2");
    resblock_walk(&d->r2, w);
    walk_leave(w, before);
    conv_walk(&d->c3, w, "c3");
    for (int i = 0; i < DETECTOR_DEEP; i++) {
        before = walk_enter_at(w, "r3", i);
        resblock_walk(&d->r3[i], w);
        walk_leave(w, before);
    }
    norm_walk(&d->n3, w, "n3");
    linear_walk(&d->cell, w, "cell");
    linear_walk(&d->pres, w, "pres");
    linear_walk(&d->glob, w, "glob");
}

bool detector_load(Detector *d, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    char file[520];
    DetectorConfig c;
    Weights w = {0};
    LoadReport own;
    snprintf(file, sizeof file, "%s/config.json", folder);
    const Json *j = json_load(weights, file, s);
    if (!j || !detector_config(&c, j, file, weights, s) || !detector_build(d, &c, s)) return false;
    bool ok = weights_open(&w, folder, "model", s) && params_load(detector_walk, d, &w, weights, report ? report : &own, s);
    weights_close(&w);
    return ok;
}

static int cells_along(int pixels)
{
    for (int i = 0; i < DETECTOR_LEVELS; i++) pixels = (pixels + 1) / 2;
    return pixels;
}

Shape detector_cells(const Detector *d, Shape image)
{
    return SHAPE(image.d[0], d->config.classes.n + 1, cells_along(image.d[2]), cells_along(image.d[3]));
}

static Tensor half_size(Run *r, const Conv *l, Tensor x)
{
    ConvCache none;
    Tensor y = temp(r, conv2d_shape(x.s, param_shape(&l->w), l->at));
    conv_forward(r, l, y, &none, x, (Tensor){0});
    return y;
}

static Tensor residual(Run *r, const ResBlock *l, Tensor x)
{
    ResBlockCache none;
    Tensor y = temp(r, x.s);
    resblock_forward(r, l, y, &none, x, (Tensor){0});
    return y;
}

/* h [N,h,w,C] */
static Tensor features(Run *r, const Detector *d, Tensor image)
{
    NormCache none;
    Tensor x = temp(r, SHAPE(image.s.d[0], image.s.d[2], image.s.d[3], 3));
    nchw_to_nhwc(r, x, image);
    x = half_size(r, &d->c1, x);
    norm_forward(r, &d->n1, x, &none, x, (Tensor){0}, (Tensor){0});
    x = residual(r, &d->r2, half_size(r, &d->c2, x));
    x = half_size(r, &d->c3, x);
    for (int i = 0; i < DETECTOR_DEEP; i++) x = residual(r, &d->r3[i], x);
    norm_forward(r, &d->n3, x, &none, x, (Tensor){0}, (Tensor){0});
    return x;
}

/* A 1x1 convolution of h, [N,h,w,outputs]. */
static Tensor head(Run *r, const Linear *l, Tensor h)
{
    LinearCache none;
    Tensor y = temp(r, shape_channels(h.s, l->w.size[0]));
    linear_forward(r, l, y, &none, h);
    return y;
}

/* pres[n,k] = log sum over cells exp v - 5.5 */
static void presence(Tensor pres, Tensor v)
{
    int K = v.s.d[3], cells = v.s.d[1] * v.s.d[2];
    for (int n = 0; n < v.s.d[0]; n++)
        for (int k = 0; k < K; k++) {
            const real *at = v.x + (size_t)n * (size_t)cells * (size_t)K + k;
            acc most = (acc)at[0], sum = 0;
            for (int i = 1; i < cells; i++) if ((acc)at[(size_t)i * (size_t)K] > most) most = (acc)at[(size_t)i * (size_t)K];
            for (int i = 0; i < cells; i++) sum += exp((acc)at[(size_t)i * (size_t)K] - most);
            pres.x[n * K + k] = (real)(most + log(sum) - presence_shift);
        }
}

/* [mean over cells, max over cells] of h */
static Tensor pooled(Run *r, Tensor h)
{
    int N = h.s.d[0], C = h.s.d[3], cells = h.s.d[1] * h.s.d[2];
    Tensor p = temp(r, SHAPE(N, 2 * C));
    for (int n = 0; n < N && run_ok(r); n++)
        for (int c = 0; c < C; c++) {
            const real *at = h.x + (size_t)n * (size_t)cells * (size_t)C + c;
            acc sum = 0;
            real most = at[0];
            for (int i = 0; i < cells; i++) {
                real v = at[(size_t)i * (size_t)C];
                sum += (acc)v;
                if (v > most) most = v;
            }
            p.x[n * 2 * C + c] = (real)(sum / cells);
            p.x[n * 2 * C + C + c] = most;
        }
    return p;
}

static bool fits(Run *r, const char *what, Tensor t, Shape s)
{
    if (run_ok(r) && t.x && !shape_same(t.s, s))
        run_fail(r, E_SHAPE, "detector: %s is [%d,%d,%d,%d], expected [%d,%d,%d,%d]", what, t.s.d[0], t.s.d[1], t.s.d[2], t.s.d[3],
                 s.d[0], s.d[1], s.d[2], s.d[3]);
    return run_ok(r);
}

static void outputs(Run *r, const Detector *d, DetectorOut out, Tensor h)
{
    if (out.cell.x) nhwc_to_nchw(r, out.cell, head(r, &d->cell, h));
    if (out.pres.x) {
        Tensor v = head(r, &d->pres, h);
        if (run_ok(r)) presence(out.pres, v);
    }
    if (!out.style.x && !out.background.x) return;
    LinearCache none;
    Tensor p = pooled(r, h), g = temp(r, SHAPE(h.s.d[0], d->glob.w.size[0]));
    linear_forward(r, &d->glob, g, &none, p);
    if (out.style.x) slice(r, out.style, g, 0);
    if (out.background.x) slice(r, out.background, g, d->config.styles.n);
}

void detector_forward(Run *r, const Detector *d, DetectorOut out, Tensor image)
{
    if (run_ok(r) && (!image.x || shape_rank(image.s) != 4 || image.s.d[1] != 3))
        run_fail(r, E_SHAPE, "detector: pictures [N,3,H,W] are expected, found [%d,%d,%d,%d]", image.s.d[0], image.s.d[1], image.s.d[2], image.s.d[3]);
    int N = image.s.d[0];
    const DetectorConfig *c = &d->config;
    if (!run_ok(r) || !fits(r, "cell", out.cell, detector_cells(d, image.s)) || !fits(r, "pres", out.pres, SHAPE(N, c->classes.n)) ||
        !fits(r, "style", out.style, SHAPE(N, c->styles.n)) || !fits(r, "background", out.background, SHAPE(N, c->backgrounds.n))) return;
    size_t mark = r->temp->used;
    Run alone = *r;                                       /* nothing is kept for a backward, nothing is tapped */
    alone.keep = r->temp;
    alone.taps = 0;
    outputs(&alone, d, out, features(&alone, d, image));
    r->status = alone.status;
    arena_release(r->temp, mark);
}

/* ---- reading the outputs ---- */

int names_place(Names list, const char *name)
{
    for (int i = 0; i < list.n; i++)
        if (!strcmp(list.name[i], name)) return i;
    return -1;
}

/* The likeliest class of a cell, and the softmax of class k there. */
static int likeliest(Tensor cell, int image, size_t at, int k, double *p)
{
    int K = cell.s.d[1], best = 0;
    size_t cells = (size_t)cell.s.d[2] * (size_t)cell.s.d[3];
    const real *v = cell.x + (size_t)image * (size_t)K * cells + at;
    for (int j = 1; j < K; j++) if (v[(size_t)j * cells] > v[(size_t)best * cells]) best = j;
    acc sum = 0, most = (acc)v[(size_t)best * cells];
    for (int j = 0; j < K; j++) sum += exp((acc)v[(size_t)j * cells] - most);
    *p = exp((acc)v[(size_t)k * cells] - most) / sum;
    return best;
}

Sighting detector_find(const DetectorOut *out, int image, int class_)
{
    int h = out->cell.s.d[2], w = out->cell.s.d[3];
    Sighting s = { .there = out->pres.x[image * out->pres.s.d[1] + class_] > 0 };
    for (int i = 0; i < h; i++)
        for (int j = 0; j < w; j++) {
            double p;
            if (likeliest(out->cell, image, (size_t)(i * w + j), class_, &p) != class_) continue;
            s.cells++;
            s.area += p;
            s.x += p * (j + 0.5);
            s.y += p * (i + 0.5);
        }
    s.x *= DETECTOR_CELL / s.area;                        /* 0 * inf: no cells */
    s.y *= DETECTOR_CELL / s.area;
    return s;
}

void detector_background(const DetectorOut *out, int image, bool *at)
{
    int last = out->cell.s.d[1] - 1, cells = out->cell.s.d[2] * out->cell.s.d[3];
    double p;
    for (int i = 0; i < cells; i++) at[i] = likeliest(out->cell, image, (size_t)i, last, &p) == last;
}
