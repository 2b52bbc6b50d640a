#include <stdio.h>
#include "nn/lpips.h"
#include "tensor/pool.h"
#include "tensor/resize.h"
#include "tensor/shape.h"

static const Tensor none = {0};
static const double SHIFT[3] = { -0.030, -0.088, -0.188 }, SCALE[3] = { 0.458, 0.448, 0.450 }, TINY = 1e-10;

/* place: N of features.N; pool: a maximum over 3x3 (AlexNet) or 2x2 (VGG16), stride 2, comes before; level: d reads its relu. */
typedef struct { int place, out, kernel, stride; bool pool; int level; } Layer;
static const Layer ALEX[] = { { 0, 64, 11, 4, false, 0 }, { 3, 192, 5, 1, true, 1 }, { 6, 384, 3, 1, true, 2 }, { 8, 256, 3, 1, false, 3 }, { 10, 256, 3, 1, false, 4 } };
static const Layer VGG[] = {
    { 0, 64, 3, 1, false, -1 },  { 2, 64, 3, 1, false, 0 },    { 5, 128, 3, 1, true, -1 },   { 7, 128, 3, 1, false, 1 },
    { 10, 256, 3, 1, true, -1 }, { 12, 256, 3, 1, false, -1 }, { 14, 256, 3, 1, false, 2 },
    { 17, 512, 3, 1, true, -1 }, { 19, 512, 3, 1, false, -1 }, { 21, 512, 3, 1, false, 3 },
    { 24, 512, 3, 1, true, -1 }, { 26, 512, 3, 1, false, -1 }, { 28, 512, 3, 1, false, 4 },
};

static const Layer *layers_of(const Lpips *m) { return m->kind == LPIPS_VGG ? VGG : ALEX; }
static int window(const Lpips *m) { return m->kind == LPIPS_VGG ? 2 : 3; }

void lpips_build(Lpips *m, LpipsKind kind)
{
    int in = 3;
    *m = (Lpips){ .kind = kind, .convs = kind == LPIPS_VGG ? 13 : 5 };
    const Layer *l = layers_of(m);
    for (int i = 0; i < m->convs; in = l[i++].out) {
        int pad = l[i].kernel == 11 ? 2 : l[i].kernel / 2;
        m->conv[i] = conv_make(in, l[i].out, l[i].kernel, l[i].stride, pad, pad);
        if (l[i].level >= 0) m->lin[l[i].level] = param_conv(1, l[i].out, 1, 1);
    }
}

static void features_walk(void *model, Walk *w)
{
    Lpips *m = model;
    for (int i = 0; i < m->convs; i++) {
        size_t before = walk_enter_at(w, "features", layers_of(m)[i].place);
        walk_param(w, &m->conv[i].w, "weight");
        walk_param(w, &m->conv[i].b, "bias");
        walk_leave(w, before);
    }
}

static void heads_walk(void *model, Walk *w)
{
    Lpips *m = model;
    for (int k = 0; k < LPIPS_LEVELS; k++) {
        char name[32];
        snprintf(name, sizeof name, "lin%d.model.1.weight", k);
        walk_param(w, &m->lin[k], name);
    }
}

void lpips_walk(void *model, Walk *w)
{
    features_walk(model, w);
    heads_walk(model, w);
}

bool lpips_load(Lpips *m, const char *features, const char *heads, Arena *weights, Status *s)
{
    Weights w = {0};
    bool good = weights_open_file(&w, features, s);
    const SafeEntry *e = good ? weights_find(&w, "features.0.weight", NULL) : NULL;
    if (good && (!e || e->rank != 4 || (e->size[2] != 3 && e->size[2] != 11)))
        status_fail(s, E_FORMAT, "%.300s: features.0.weight: kernels of 11x11 (AlexNet) or 3x3 (VGG16) expected, found %s", features, e ? "others" : "none");
    lpips_build(m, e && e->rank == 4 && e->size[2] == 3 ? LPIPS_VGG : LPIPS_ALEX);
    good = s->code == OK && params_load(features_walk, m, &w, weights, NULL, s) && (heads || params_load(heads_walk, m, &w, weights, NULL, s));
    weights_close(&w);
    if (!good || !heads) return good;
    good = weights_open_file(&w, heads, s) && params_load(heads_walk, m, &w, weights, NULL, s);
    weights_close(&w);
    return good;
}

/* ---- one level ---- */

static bool level_fits(Run *r, Tensor d, Tensor f, Tensor g, Tensor w)
{
    bool fit = tensor_same(f, g) && shape_rank(f.s) == 4 && tensor_count(d) == (size_t)f.s.d[0] && tensor_count(w) == (size_t)f.s.d[3];
    if (!fit) run_fail(r, E_SHAPE, "lpips_level: [%d,%d,%d,%d] with %zu weights, for %zu distances", f.s.d[0], f.s.d[1], f.s.d[2], f.s.d[3], tensor_count(w), tensor_count(d));
    return fit;
}

static acc length(const real *x, int n)
{
    acc sum = 0;
    for (int i = 0; i < n; i++) sum += (acc)x[i] * (acc)x[i];
    return sqrt(sum);
}

void lpips_level(Run *r, Tensor d, Tensor f, Tensor g, Tensor w)
{
    if (!level_fits(r, d, f, g, w)) return;
    int C = f.s.d[3], P = f.s.d[1] * f.s.d[2];
    for (int n = 0; n < f.s.d[0]; n++) {
        acc sum = 0;
        for (int p = 0; p < P; p++) {
            const real *x = f.x + ((size_t)n * (size_t)P + (size_t)p) * (size_t)C, *y = g.x + (x - f.x);
            acc a = 1 / (length(x, C) + TINY), b = 1 / (length(y, C) + TINY);
            for (int c = 0; c < C; c++) {
                acc e = a * (acc)x[c] - b * (acc)y[c];
                sum += (acc)w.x[c] * e * e;
            }
        }
        d.x[n] += (real)(sum / P);
    }
}

/* With e = d distance / d n(x):   dx = e / (|x| + tiny) - x <e, x> / (|x| (|x| + tiny)^2) */
static void unit_back(real *dx, const real *x, const real *y, const real *w, int C, acc share)
{
    acc s = length(x, C), a = 1 / (s + TINY), b = 1 / (length(y, C) + TINY), along = 0;
    for (int c = 0; c < C; c++) along += 2 * share * (acc)w[c] * (a * (acc)x[c] - b * (acc)y[c]) * (acc)x[c];
    acc back = s > 0 ? along * a * a / s : 0;
    for (int c = 0; c < C; c++) dx[c] = (real)(2 * share * (acc)w[c] * (a * (acc)x[c] - b * (acc)y[c]) * a - back * (acc)x[c]);
}

void lpips_level_back(Run *r, Tensor df, Tensor dg, Tensor dd, Tensor f, Tensor g, Tensor w)
{
    if (!level_fits(r, dd, f, g, w)) return;
    if ((df.x && !tensor_same(df, f)) || (dg.x && !tensor_same(dg, f))) {
        run_fail(r, E_SHAPE, "lpips_level_back: gradient and features differ in shape");
        return;
    }
    int C = f.s.d[3], P = f.s.d[1] * f.s.d[2];
    for (int k = 0; k < f.s.d[0] * P; k++) {
        size_t at = (size_t)k * (size_t)C;
        acc share = (acc)dd.x[k / P] / P;
        if (df.x) unit_back(df.x + at, f.x + at, g.x + at, w.x, C, share);
        if (dg.x) unit_back(dg.x + at, g.x + at, f.x + at, w.x, C, share);
    }
}

/* ---- the network ---- */

static Tensor pooled(Run *r, const Lpips *m, LpipsLayer *l, Tensor x)
{
    int k = window(m);
    if (x.s.d[1] < k || x.s.d[2] < k) {
        run_fail(r, E_SHAPE, "lpips: the picture is too small for the network");
        return none;
    }
    Tensor y = keep(r, SHAPE(x.s.d[0], (x.s.d[1] - k) / 2 + 1, (x.s.d[2] - k) / 2 + 1, x.s.d[3]));
    l->in = x;
    if (run_ok(r)) max_pool(r, y, x, k, 2);
    return y;
}

static void features(Run *r, const Lpips *m, LpipsFeatures *f, Tensor image)
{
    const int *s = image.s.d;
    size_t mark = r->temp->used;
    double a[3], b[3];
    for (int c = 0; c < 3; c++) a[c] = 1 / SCALE[c], b[c] = -SHIFT[c] / SCALE[c];
    *f = (LpipsFeatures){ .layer = { { .in = none } } };
    Tensor x = keep(r, SHAPE(s[0], s[2], s[3], 3)), planes = temp(r, image.s);
    if (run_ok(r)) crop_planes(r, planes, image, 0, 0, a, b);
    if (run_ok(r)) nchw_to_nhwc(r, x, planes);
    if (r->keep != r->temp) arena_release(r->temp, mark);
    for (int i = 0; i < m->convs && run_ok(r); i++) {
        LpipsLayer *l = &f->layer[i];
        if (layers_of(m)[i].pool) x = pooled(r, m, l, x);
        if (!run_ok(r)) return;
        l->out = keep(r, conv2d_shape(x.s, param_shape(&m->conv[i].w), m->conv[i].at));
        if (run_ok(r)) conv_forward(r, &m->conv[i], l->out, &l->conv, x, none);
        if (run_ok(r)) relu(r, l->out, l->out);
        x = l->out;
    }
}

static Tensor weights_of(const Lpips *m, int level) { return tensor_as(m->lin[level].v, SHAPE(m->lin[level].size[1])); }

void lpips_forward(Run *r, const Lpips *m, Tensor d, LpipsPass *p, Tensor a, Tensor b)
{
    size_t mark = r->temp->used;
    if (!run_ok(r)) return;
    if (!tensor_same(a, b) || shape_rank(a.s) != 4 || a.s.d[1] != 3 || !d.x || tensor_count(d) != (size_t)a.s.d[0]) {
        run_fail(r, E_SHAPE, "lpips: pictures [%d,%d,%d,%d] and [%d,%d,%d,%d]; two of [N,3,H,W] expected", a.s.d[0], a.s.d[1], a.s.d[2], a.s.d[3],
                 b.s.d[0], b.s.d[1], b.s.d[2], b.s.d[3]);
        return;
    }
    features(r, m, &p->a, a);
    features(r, m, &p->b, b);
    tensor_zero(d);
    for (int i = 0; i < m->convs && run_ok(r); i++) {
        int level = layers_of(m)[i].level;
        if (level >= 0) lpips_level(r, d, p->a.layer[i].out, p->b.layer[i].out, weights_of(m, level));
    }
    arena_release(r->temp, mark);
}

/* The gradient at relu i (of which the levels' share is computed here) down to the picture. */
static void features_backward(Run *r, Lpips *m, Tensor dimage, Tensor dd, const LpipsFeatures *f, const LpipsFeatures *g)
{
    size_t mark = r->temp->used;
    double a[3];
    Tensor d = none;
    for (int c = 0; c < 3; c++) a[c] = 1 / SCALE[c];
    for (int i = m->convs; i-- > 0 && run_ok(r); ) {
        const LpipsLayer *l = &f->layer[i];
        int level = layers_of(m)[i].level;
        if (level >= 0) {
            Tensor own = temp(r, l->out.s);
            if (run_ok(r)) lpips_level_back(r, own, none, dd, l->out, g->layer[i].out, weights_of(m, level));
            if (d.x && run_ok(r)) add(r, own, d);
            d = own;
        }
        Tensor dx = temp(r, l->conv.x.s), din = l->in.x ? temp(r, l->in.s) : dx;
        if (run_ok(r)) relu_back(r, d, d, l->out);
        if (run_ok(r)) conv_backward(r, &m->conv[i], dx, d, &(ConvCache){ l->conv.x });
        if (l->in.x && run_ok(r)) max_pool_back(r, din, dx, l->in, window(m), 2);
        d = din;
    }
    Tensor planes = temp(r, dimage.s);
    if (run_ok(r)) nhwc_to_nchw(r, planes, d);
    if (run_ok(r)) crop_planes_back(r, dimage, planes, 0, 0, a);
    arena_release(r->temp, mark);
}

void lpips_backward(Run *r, Lpips *m, Tensor da, Tensor db, Tensor dd, const LpipsPass *p)
{
    if (da.x && run_ok(r)) features_backward(r, m, da, dd, &p->a, &p->b);
    if (db.x && run_ok(r)) features_backward(r, m, db, dd, &p->b, &p->a);
}
