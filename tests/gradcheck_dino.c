/* Gradients of resizing, of the preparation of pictures, and of DINO: to pixels and to every parameter.
 * Limit 1e-7 (measured: at most 4e-9): differences of width 1e-5 leave about 1e-10 of third derivatives, and rounding. */
#include "nn/dino.h"
#include "tests/gradcheck.h"

static const double LIMIT = 1e-7;
enum { TRIED = 12 };                                      /* elements of a larger tensor that are tried one by one */
static Run run;
static Arena arena, kept, scratch;
static Status status;

static Tensor fresh(Shape s) { return grad_fresh(&run, &arena, s, 0, 1); }

static void forget(void)
{
    arena_release(&kept, 0);
    arena_release(&scratch, 0);
}

/* ---- y = f(x), linear: loss = <weight, y> ---- */

typedef struct Op Op;
struct Op {
    void (*forward)(Op *o);
    Tensor x, y, weight;
    Resize how;
    Preprocess prep;
};
static const double SCALE[3] = { 0.7, -1.3, 2 }, SHIFT[3] = { 0.1, 0.2, -0.5 };

static double op_loss(void *self)
{
    Op *o = self;
    o->forward(o);
    return grad_weighted(o->y, o->weight);
}

static void planes(Op *o)  { resize(&run, o->y, o->x, o->how); }
static void maps(Op *o)    { resize_maps(&run, o->y, o->x, o->how); }
static void crop(Op *o)    { crop_planes(&run, o->y, o->x, 2, 1, SCALE, SHIFT); }
static void prepare(Op *o) { preprocess_forward(&run, &o->prep, o->y, o->x); }
static void whiten(Op *o)  { preprocess_normalise(&run, &o->prep, o->y, o->x); }

static Op op(void (*forward)(Op *), Shape x, Shape y) { return (Op){ .forward = forward, .x = fresh(x), .y = fresh(y), .weight = fresh(y) }; }

static void check_op(const char *what, Op *o, Tensor dx)
{
    GradCheck g = { op_loss, o, 1e-5, 2000 };
    gradcheck(what, &g, &(GradPart){ "x", o->x, dx }, 1, LIMIT);
    forget();
}

static void resizing(void)
{
    static const int sizes[][4] = { { 5, 7, 9, 4 }, { 3, 3, 4, 5 }, { 9, 6, 2, 3 }, { 1, 1, 3, 2 } };
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 6; k++) {
            const int *s = sizes[i];
            bool given = k >= 4;
            Resize how = { k % 2 ? RESIZE_BICUBIC : RESIZE_BILINEAR, k == 2 || k == 3, given ? (s[2] + 0.1) / s[0] : 0, given ? (s[3] + 0.1) / s[1] : 0 };
            Op a = op(planes, SHAPE(2, 3, s[0], s[1]), SHAPE(2, 3, s[2], s[3])), b = op(maps, SHAPE(2, s[0], s[1], 3), SHAPE(2, s[2], s[3], 3));
            Tensor da = fresh(a.x.s), db = fresh(b.x.s);
            a.how = b.how = how;
            resize_back(&run, da, a.weight, how);
            check_op("resize", &a, da);
            resize_maps_back(&run, db, b.weight, how);
            check_op("resize_maps", &b, db);
        }
}

static void preparing(void)
{
    static const Shape sizes[] = { SHAPE(2, 3, 9, 14), SHAPE(2, 3, 14, 9), SHAPE(2, 3, 5, 5), SHAPE(2, 3, 6, 6) };
    Op c = op(crop, SHAPE(2, 3, 6, 5), SHAPE(2, 3, 3, 4));
    Tensor dx = fresh(c.x.s);
    crop_planes_back(&run, dx, c.weight, 2, 1, SCALE);
    check_op("crop_planes", &c, dx);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++) {
            Op p = op(prepare, sizes[i], SHAPE(2, 3, 6, 6));
            p.prep = k % 2 ? preprocess_clip : preprocess_dino;
            p.prep.antialias = k / 2;
            dx = fresh(p.x.s);
            preprocess_backward(&run, &p.prep, dx, p.weight);
            check_op("preprocess", &p, dx);
        }
    Op n = op(whiten, SHAPE(1, 3, 4, 5), SHAPE(1, 3, 4, 5));
    n.prep = preprocess_clip;
    dx = fresh(n.x.s);
    preprocess_normalise_back(&run, &n.prep, dx, n.weight);
    check_op("preprocess_normalise", &n, dx);
}

/* ---- DINO: loss = <weights, cls> + <weights, last> + <weights, keys> ---- */

typedef struct { Dino m; Tensor pixels, cls, last, keys, wcls, wlast, wkeys; double pull; } Tower;

static double tower_loss(void *self)
{
    Tower *t = self;
    DinoPass p;
    dino_forward(&run, &t->m, t->cls, t->last, t->keys, &p, t->pixels);
    forget();
    return grad_weighted(t->cls, t->wcls) + grad_weighted(t->last, t->wlast) + grad_weighted(t->keys, t->wkeys) + (run.taps ? t->pull : 0);
}

static void pull_forward(void *self, Run *r, Tensor v)
{
    (void)r;
    Tower *t = self;
    t->pull = 0;
    for (size_t i = 0; i < tensor_count(v); i++) {
        v.x[i] *= (real)1.5;
        t->pull += cos(0.7 * (double)i) * (double)v.x[i];
    }
}

static void pull_backward(void *self, Run *r, Tensor dv)
{
    (void)self, (void)r;
    for (size_t i = 0; i < tensor_count(dv); i++) dv.x[i] = (real)1.5 * (dv.x[i] + (real)cos(0.7 * (double)i));
}

typedef struct { Walk w; const char *what; GradCheck g; int keys; } Each;

/* A bias on the keys is not seen by softmax: of the last block's it is seen through the keys alone, of the others' not at all. */
static void visit(Walk *w, Param *p, const char *name)
{
    Each *e = w->self;
    bool keys = (p->part == 1 && p->rank == 1) || strstr(name, "key.bias");
    double most = 0;
    if (keys && !e->keys++) {
        for (size_t i = 0; i < tensor_count(p->grad); i++) most = fmax(most, fabs((double)p->grad.x[i]));
        check_below(name, most, 1e-12);
        return;
    }
    GradPart part = { name, p->v, p->grad };
    gradcheck(e->what, &e->g, &part, 1, LIMIT);
}

static void tower(const char *what, int H, int W, bool published, int wanted, bool params, bool tapped)
{
    DinoConfig c = { .width = 12, .mlp = 20, .heads = 2, .layers = 2, .image = 12, .patch = 4, .channels = 3, .eps = 1e-6, .published = published };
    Tower t = { .pixels = fresh(SHAPE(2, 3, H, W)) };
    dino_build(&t.m, &c, &arena, &status);
    params_randomise(dino_walk, &t.m, &arena, 5, &status);
    if (params) params_want_gradients(dino_walk, &t.m, &arena, &status);
    Shape tokens = SHAPE(2, dino_tokens(&t.m, H, W), 12);
    if (wanted & 1) t.cls = fresh(SHAPE(2, 12)), t.wcls = fresh(t.cls.s);
    if (wanted & 2) t.last = fresh(tokens), t.wlast = fresh(tokens);
    if (wanted & 4) t.keys = fresh(tokens), t.wkeys = fresh(tokens);
    Tap tap = { SITE_KEY, published ? "blocks.1.attn" : "encoder.layer.1.attention", &t, pull_forward, pull_backward, true };
    run.tap = &tap;
    run.taps = tapped;
    DinoPass p;
    Tensor dx = fresh(t.pixels.s);
    dino_forward(&run, &t.m, t.cls, t.last, t.keys, &p, t.pixels);
    dino_backward(&run, &t.m, dx, t.wcls, t.wlast, t.wkeys, &p);
    check_true("the caller's taps are as they were", run.tap == &tap && run.taps == tapped);
    forget();
    GradCheck g = { tower_loss, &t, 1e-5, TRIED };
    if (H % 4 || W % 4) {                                 /* the remainder is not read */
        double most = 0;
        for (int n = 0; n < 6; n++)
            for (int y = 0; y < H; y++)
                for (int x = 0; x < W; x++)
                    if (y >= H / 4 * 4 || x >= W / 4 * 4) most = fmax(most, fabs((double)dx.x[(n * H + y) * W + x]));
        check_true("no gradient beyond the last whole patch", !(most > 0));
    }
    gradcheck(what, &g, &(GradPart){ "pixels", t.pixels, dx }, 1, LIMIT);
    Each e = { .what = what, .g = g };
    e.w = (Walk){ .visit = visit, .self = &e };
    if (params) dino_walk(&t.m, &e.w);
    run.taps = 0;
}

int main(void)
{
    run = (Run){ .keep = &kept, .temp = &scratch, .k = kernels_pick(NULL), .threads = 1, .blas = true };
    resizing();
    preparing();
    tower("dino", 12, 12, true, 7, true, false);
    tower("dino, another size", 17, 10, true, 7, true, false);
    tower("dino, transformers' names", 8, 20, false, 7, true, false);
    tower("dino, the class alone", 12, 12, true, 1, false, false);
    tower("dino, the last block alone", 16, 8, true, 2, false, false);
    tower("dino, the keys alone", 12, 12, true, 4, false, false);
    tower("dino, keys that a tap changes and pulls", 12, 16, true, 5, false, true);
    check_line("no error", run.status.text, run_ok(&run) && status.code == OK);
    arena_free(&arena);
    arena_free(&kept);
    arena_free(&scratch);
    return check_done();
}
