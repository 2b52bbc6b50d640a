/* Gradients of pooling, batch normalisation, CLIP's image towers and LPIPS, from pictures on: to every input and parameter.
 * Limit 1e-7 (measured: at most 2e-8, of small gradients to pixels).  Relu and maximum have kinks: with the numbers that are
 * drawn here none lies within a step. */
#include "nn/clip_tower.h"
#include "nn/lpips.h"
#include "tensor/pool.h"
#include "tests/gradcheck.h"

static const double LIMIT = 1e-7;
enum { TRIED = 12 };                                      /* elements of a larger tensor that are tried one by one */
static Run run;
static Arena arena, kept, scratch;
static Status status;
static const Tensor none = {0};

static Tensor fresh(Shape s) { return grad_fresh(&run, &arena, s, 0, 1); }
static Tensor about(Shape s, double centre, double spread) { return grad_fresh(&run, &arena, s, centre, spread); }

static void forget(void)
{
    arena_release(&kept, 0);
    arena_release(&scratch, 0);
}

/* ---- operations: loss = <weight, y> ---- */

typedef struct Op Op;
struct Op {
    void (*forward)(Op *o);
    Tensor x, y, weight, base;
    BatchNorm n;
    int size, stride;
    bool rectify;
};

static double op_loss(void *self)
{
    Op *o = self;
    o->forward(o);
    return grad_weighted(o->y, o->weight);
}

static void mean_forward(Op *o) { mean_pool(&run, o->y, o->x, o->size); }
static void max_forward(Op *o)  { max_pool(&run, o->y, o->x, o->size, o->stride); }
static void relu_forward(Op *o) { relu(&run, o->y, o->x); }
static void batch_forward(Op *o) { batchnorm(&run, o->y, o->x, o->n, (real)1e-5, o->base, o->rectify); }

static Op op(void (*forward)(Op *), Shape x, Shape y) { return (Op){ .forward = forward, .x = fresh(x), .y = fresh(y), .weight = fresh(y) }; }

static void check_op(const char *what, Op *o, const char *name, Tensor value, Tensor grad)
{
    GradCheck g = { op_loss, o, 1e-6, 2000 };
    gradcheck(what, &g, &(GradPart){ name, value, grad }, 1, LIMIT);
    forget();
}

static void pooling(void)
{
    Op m = op(mean_forward, SHAPE(2, 7, 5, 3), SHAPE(2, 3, 2, 3));
    Tensor d = fresh(m.x.s);
    m.size = 2;
    mean_pool_back(&run, d, m.weight, 2);
    check_op("mean_pool", &m, "x", m.x, d);
    static const int windows[][3] = { { 3, 2, 3 }, { 2, 2, 3 }, { 3, 1, 5 } };
    for (int i = 0; i < 3; i++) {
        Op p = op(max_forward, SHAPE(2, 7, 7, 3), SHAPE(2, windows[i][2], windows[i][2], 3));
        d = fresh(p.x.s);
        p.size = windows[i][0];
        p.stride = windows[i][1];
        max_pool_back(&run, d, p.weight, p.x, p.size, p.stride);
        check_op("max_pool", &p, "x", p.x, d);
    }
    Op q = op(relu_forward, SHAPE(2, 4, 3, 2), SHAPE(2, 4, 3, 2));
    d = fresh(q.x.s);
    relu(&run, q.y, q.x);
    relu_back(&run, d, q.weight, q.y);
    check_op("relu", &q, "x", q.x, d);
}

static void batch_norms(void)
{
    for (int k = 0; k < 4; k++) {
        Shape s = SHAPE(2, 3, 4, 5), c = SHAPE(5);
        Op o = op(batch_forward, s, s);
        o.n = (BatchNorm){ about(c, 1, 0.3), fresh(c), fresh(c), about(c, 0.6, 0.4) };
        o.rectify = k & 1;
        if (k & 2) o.base = fresh(s);
        Tensor dx = fresh(s), dbase = k & 2 ? fresh(s) : none, dgamma = about(c, 1, 0), dbeta = about(c, 1, 0);
        o.forward(&o);
        batchnorm_back(&run, dx, dgamma, dbeta, dbase, o.weight, o.x, o.rectify ? o.y : none, o.n, (real)1e-5);
        for (int i = 0; i < 5; i++) dgamma.x[i] -= 1, dbeta.x[i] -= 1;       /* parameter gradients are added to */
        check_op("batchnorm", &o, "x", o.x, dx);
        check_op("batchnorm", &o, "gamma", o.n.gamma, dgamma);
        check_op("batchnorm", &o, "beta", o.n.beta, dbeta);
        if (k & 2) check_op("batchnorm", &o, "base", o.base, dbase);
    }
}

/* ---- towers: loss = <weight, embeds> ---- */

typedef struct { ClipTower t; Tensor image, embeds, weight; double pull; } Tower;

static double tower_loss(void *self)
{
    Tower *k = self;
    ClipTowerPass p;
    clip_tower_embed(&run, &k->t, k->embeds, &p, k->image);
    forget();
    return grad_weighted(k->embeds, k->weight) + (run.taps ? k->pull : 0);
}

static double pixel_loss(void *self)                      /* the image is the tower's own pixels */
{
    Tower *k = self;
    ClipTowerPass p;
    clip_tower_forward(&run, &k->t, k->embeds, &p, k->image);
    forget();
    return grad_weighted(k->embeds, k->weight);
}

static void pull_forward(void *self, Run *r, Tensor v)
{
    (void)r;
    Tower *k = self;
    k->pull = 0;
    for (size_t i = 0; i < tensor_count(v); i++) {
        v.x[i] = (real)(1.5 * (double)v.x[i] - 0.1);
        k->pull += cos(0.7 * (double)i) * (double)v.x[i];
    }
}

static void pull_backward(void *self, Run *r, Tensor dv)
{
    (void)self, (void)r;
    for (size_t i = 0; i < tensor_count(dv); i++) dv.x[i] = (real)1.5 * (dv.x[i] + (real)cos(0.7 * (double)i));
}

typedef struct { Walk w; const char *what; GradCheck g; } Each;

static void visit(Walk *w, Param *p, const char *name)
{
    Each *e = w->self;
    if (strstr(name, "running_")) return;                 /* statistics, not parameters */
    if (strstr(name, "k_proj.bias") || (p->part == 1 && p->rank == 1)) {     /* softmax does not see it */
        double most = 0;
        for (size_t i = 0; i < tensor_count(p->grad); i++) most = fmax(most, fabs((double)p->grad.x[i]));
        check_below(name, most, 1e-12);
        return;
    }
    gradcheck(e->what, &e->g, &(GradPart){ name, p->v, p->grad }, 1, LIMIT);
}

static Tower tower_of(bool resnet, bool openai, int H, int W)
{
    Tower k = { .t = { .resnet = resnet, .size = resnet ? 64 : 6, .width = 5, .preprocess = preprocess_clip }, .image = fresh(SHAPE(2, 3, H, W)) };
    ClipResnetConfig rn = { 4, { 1, 2, 1, 1 }, 64, 5 };
    ClipImageConfig vit = { 8, 12, 2, 2, 6, 3, 3, 5, POINT_QUICK_GELU, 1e-5 };
    if (resnet) clip_resnet_build(&k.t.rn, &rn, &arena, &status);
    else (openai ? clip_image_build_openai : clip_image_build)(&k.t.vit, &vit, &arena, &status);
    params_randomise(clip_tower_walk, &k.t, &arena, 11, &status);
    k.embeds = fresh(SHAPE(2, 5));
    k.weight = fresh(SHAPE(2, 5));
    return k;
}

static void tower(const char *what, bool resnet, bool openai, int H, int W, bool params, const char *site)
{
    Tower k = tower_of(resnet, openai, H, W);
    if (params) params_want_gradients(clip_tower_walk, &k.t, &arena, &status);
    Tap tap = { SITE_FEATURE, site, &k, pull_forward, pull_backward, true };
    run.tap = &tap;
    run.taps = site != NULL;
    ClipTowerPass p;
    Tensor dx = fresh(k.image.s);
    clip_tower_embed(&run, &k.t, k.embeds, &p, k.image);
    clip_tower_embed_backward(&run, &k.t, dx, k.weight, &p);
    forget();
    GradCheck g = { tower_loss, &k, 1e-5, TRIED };
    gradcheck(what, &g, &(GradPart){ "image", k.image, dx }, 1, LIMIT);
    g.step = 1e-6;                                        /* a bias moves every relu of its channel */
    Each e = { .what = what, .g = g };
    e.w = (Walk){ .visit = visit, .self = &e };
    if (params) clip_tower_walk(&k.t, &e.w);
    run.taps = 0;
}

static void pixels(bool resnet)
{
    Tower k = tower_of(resnet, false, resnet ? 64 : 6, resnet ? 64 : 6);
    ClipTowerPass p;
    Tensor dx = fresh(k.image.s);
    clip_tower_forward(&run, &k.t, k.embeds, &p, k.image);
    clip_tower_backward(&run, &k.t, dx, k.weight, &p);
    forget();
    GradCheck g = { pixel_loss, &k, 1e-5, TRIED };
    gradcheck("clip_tower_backward", &g, &(GradPart){ "pixels", k.image, dx }, 1, LIMIT);
    if (!resnet) return;
    clip_resnet_forward(&run, &k.t.rn, k.embeds, &p.rn, k.image);            /* the same without the tower around it */
    clip_resnet_backward(&run, &k.t.rn, dx, k.weight, &p.rn);
    forget();
    gradcheck("clip_resnet_backward", &g, &(GradPart){ "pixels", k.image, dx }, 1, LIMIT);
}

/* ---- LPIPS: loss = <weight, distances> ---- */

typedef struct { Lpips m; Tensor f, g, lin, a, b, d, weight; } Judge;

static double level_loss(void *self)
{
    Judge *j = self;
    tensor_zero(j->d);
    lpips_level(&run, j->d, j->f, j->g, j->lin);
    return grad_weighted(j->d, j->weight);
}

static double distance_loss(void *self)
{
    Judge *j = self;
    LpipsPass p;
    lpips_forward(&run, &j->m, j->d, &p, j->a, j->b);
    forget();
    return grad_weighted(j->d, j->weight);
}

static void distances(LpipsKind kind, const char *what, int H, int W)
{
    Shape s = SHAPE(2, 3, 4, 5), image = SHAPE(2, 3, H, W);
    Judge j = { .f = fresh(s), .g = fresh(s), .lin = about(SHAPE(5), 1, 0.8), .a = fresh(image), .b = fresh(image), .d = fresh(SHAPE(2)), .weight = fresh(SHAPE(2)) };
    Tensor df = fresh(s), dg = fresh(s), da = fresh(image), db = fresh(image);
    GradCheck level = { level_loss, &j, 1e-6, 500 }, whole = { distance_loss, &j, 4e-6, 6 };
    LpipsPass p;
    lpips_level_back(&run, df, dg, j.weight, j.f, j.g, j.lin);
    GradPart part[2] = { { "f", j.f, df }, { "g", j.g, dg } };
    gradcheck("lpips_level", &level, part, 2, LIMIT);
    lpips_build(&j.m, kind);
    params_randomise(lpips_walk, &j.m, &arena, 3, &status);
    lpips_forward(&run, &j.m, j.d, &p, j.a, j.b);
    lpips_backward(&run, &j.m, da, db, j.weight, &p);
    forget();
    GradPart picture[2] = { { "a", j.a, da }, { "b", j.b, db } };
    gradcheck(what, &whole, picture, 2, LIMIT);
}

int main(void)
{
    run = (Run){ .keep = &kept, .temp = &scratch, .k = kernels_pick(NULL), .threads = 1, .blas = true };
    pooling();
    batch_norms();
    tower("resnet", true, false, 20, 31, true, NULL);
    tower("resnet, nothing trains", true, false, 64, 64, false, NULL);
    tower("resnet, a tap changes and pulls", true, false, 20, 20, false, "visual.layer2.0");
    tower("vit", false, false, 9, 7, true, NULL);
    tower("vit, OpenAI's names", false, true, 9, 7, true, NULL);
    pixels(false);
    pixels(true);
    distances(LPIPS_ALEX, "lpips, AlexNet", 35, 39);
    distances(LPIPS_VGG, "lpips, VGG16", 16, 17);
    check_line("no error", run.status.text, run_ok(&run) && status.code == OK);
    arena_free(&arena);
    arena_free(&kept);
    arena_free(&scratch);
    return check_done();
}
