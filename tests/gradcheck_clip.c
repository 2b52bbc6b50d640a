/* Gradients of token operations, the pre-norm transformer and CLIP's towers: to every input and every parameter.
 * Limit 1e-7 (measured: at most 8e-9): differences of width 1e-5 leave about 1e-10 of third derivatives, and rounding of
 * 1e-16 |L| / 1e-5 on gradients of which the smallest tensors have a hundredth of the loss. */
#include "nn/clip.h"
#include "tensor/tokens.h"
#include "tests/gradcheck.h"

static const double LIMIT = 1e-7;
enum { TRIED = 16 };                                      /* elements of a larger tensor that are tried one by one */
static Run run;
static Arena arena, kept, scratch;
static Status status;
static const Tensor none;

static Tensor fresh(Shape s) { return grad_fresh(&run, &arena, s, 0, 1); }

/* ---- operations on tokens: y = f(x, z), loss = <weight, y> ---- */

typedef struct Op Op;
struct Op {
    void (*forward)(Op *o);
    Tensor x, z, y, weight;
    const int *at;
};

static double op_loss(void *self)
{
    Op *o = self;
    o->forward(o);
    return grad_weighted(o->y, o->weight);
}

static void embed_forward(Op *o)     { embed(&run, o->y, o->x, o->at); }
static void positions_forward(Op *o) { tensor_copy(&run, o->y, o->z); add_positions(&run, o->y, o->x); }
static void pick_forward(Op *o)      { pick_tokens(&run, o->y, o->x, o->at); }
static void prepend_forward(Op *o)   { prepend_token(&run, o->y, o->z, o->x); }

static Op op(void (*forward)(Op *), Shape x, Shape z, Shape y, const int *at)
{
    return (Op){ forward, fresh(x), fresh(z), fresh(y), fresh(y), at };
}

/* Gradients that are added to start from ones, which must still be there. */
static Tensor ones(Shape s)
{
    Tensor t = fresh(s);
    grad_fill(t, 1, 0);
    return t;
}

static Tensor less_one(Tensor t)
{
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] -= 1;
    return t;
}

static void check_op(const char *what, Op *o, const char *name, Tensor value, Tensor grad)
{
    GradCheck g = { op_loss, o, 1e-5, 500 };
    GradPart part = { name, value, grad };
    gradcheck(what, &g, &part, 1, LIMIT);
}

static void operations(void)
{
    static const int ids[] = { 3, 0, 3, 1, 4, 3 }, at[] = { 2, 0 };
    Op e = op(embed_forward, SHAPE(5, 4), SHAPE(1), SHAPE(2, 3, 4), ids);
    Tensor d = ones(e.x.s);
    embed_back(&run, d, e.weight, ids);
    check_op("embed", &e, "table", e.x, less_one(d));

    Op p = op(positions_forward, SHAPE(5, 4), SHAPE(2, 3, 4), SHAPE(2, 3, 4), NULL);
    d = ones(p.x.s);
    add_positions_back(&run, d, p.weight);
    check_op("add_positions", &p, "table", p.x, less_one(d));

    Op k = op(pick_forward, SHAPE(2, 3, 4), SHAPE(1), SHAPE(2, 4), at);
    d = ones(k.x.s);
    pick_tokens_back(&run, d, k.weight, at);
    check_op("pick_tokens", &k, "x", k.x, less_one(d));

    Op q = op(prepend_forward, SHAPE(2, 3, 4), SHAPE(4), SHAPE(2, 4, 4), NULL);
    Tensor dtoken = ones(q.z.s), dx = fresh(q.x.s);
    prepend_token_back(&run, dtoken, dx, q.weight);
    check_op("prepend_token", &q, "x", q.x, dx);
    check_op("prepend_token", &q, "token", q.z, less_one(dtoken));
}

/* ---- parameters of a model ---- */

typedef struct { Walk w; const char *what; GradCheck g; } Each;

/* A bias on the keys adds the same to every score of a row, and softmax does not see it: its gradient is zero. */
static void visit(Walk *w, Param *p, const char *name)
{
    Each *e = w->self;
    size_t n = strlen(name);
    if (n > 11 && !strcmp(name + n - 11, "k_proj.bias")) {
        double most = 0;
        for (size_t i = 0; i < tensor_count(p->grad); i++) most = fmax(most, fabs((double)p->grad.x[i]));
        check_below(name, most, 1e-12);
        return;
    }
    GradPart part = { name, p->v, p->grad };
    gradcheck(e->what, &e->g, &part, 1, LIMIT);
}

static void check_params(const char *what, WalkModel *walk, void *model, GradCheck g)
{
    Each e = { .what = what, .g = g };
    e.w = (Walk){ .visit = visit, .self = &e };
    walk(model, &e.w);
}

static void zero_visit(Walk *w, Param *p, const char *name)
{
    (void)w, (void)name;
    tensor_zero(p->grad);
}

static void zero_gradients(WalkModel *walk, void *model)
{
    Walk w = { .visit = zero_visit };
    walk(model, &w);
}

static void forget(void)
{
    arena_release(&kept, 0);
    arena_release(&scratch, 0);
}

/* ---- the transformer, alone and under taps ---- */

typedef struct { Transformer t; Tensor x, y, weight; int layers; bool by_tap; double pull; } Body;

/* A tap with the energy sum cos(0.7 i) v_i, and one that halves what it sees. */
static void pull_forward(void *self, Run *r, Tensor v)
{
    (void)r;
    Body *b = self;
    b->pull = 0;
    for (size_t i = 0; i < tensor_count(v); i++) b->pull += cos(0.7 * (double)i) * (double)v.x[i];
}

static void pull_backward(void *self, Run *r, Tensor dv)
{
    (void)self, (void)r;
    for (size_t i = 0; i < tensor_count(dv); i++) dv.x[i] += (real)cos(0.7 * (double)i);
}

static void halve(void *self, Run *r, Tensor v)
{
    (void)self;
    scale(r, v, (real)0.5, v, 0);
}

static double body_loss(void *self)
{
    Body *b = self;
    TransformerPass p;
    transformer_forward(&run, &b->t, b->y, &p, b->x, b->layers);
    forget();
    return (b->by_tap ? 0 : grad_weighted(b->y, b->weight)) + (run.taps ? b->pull : 0);
}

static void body_walk(void *model, Walk *w) { transformer_walk(model, w); }

static void body(const char *what, PointAct f, bool causal, int layers, const Tap *tap, int taps, bool by_tap, bool params)
{
    TransformerConfig c = { 3, 8, 12, 2, f, 1e-5, causal };
    Shape s = SHAPE(2, 5, 8);
    Body b = { .x = fresh(s), .y = fresh(s), .weight = fresh(s), .layers = layers, .by_tap = by_tap };
    Tap mine[2];
    for (int i = 0; i < taps; i++) {
        mine[i] = tap[i];
        mine[i].self = &b;
    }
    run.tap = mine;
    run.taps = taps;
    transformer_build(&b.t, &c, &transformer_clip_text, &arena, &status);
    params_randomise(body_walk, &b.t, &arena, 7, &status);
    if (params) params_want_gradients(body_walk, &b.t, &arena, &status);
    GradCheck g = { body_loss, &b, 1e-5, TRIED };
    TransformerPass p;
    Tensor dx = fresh(s), untouched = fresh(s);
    tensor_copy(&run, untouched, b.weight);
    transformer_forward(&run, &b.t, b.y, &p, b.x, layers);
    transformer_backward(&run, &b.t, dx, by_tap ? none : b.weight, &p);
    forget();
    GradPart part = { "x", b.x, dx };
    gradcheck(what, &g, &part, 1, LIMIT);
    check_true("dy is left as it was", !memcmp(untouched.x, b.weight.x, tensor_count(b.weight) * sizeof(real)));
    if (params && layers == c.layers) check_params(what, body_walk, &b.t, g);
    run.taps = 0;
}

static void bodies(void)
{
    static const char last[] = "text_model.encoder.layers.2", mid[] = "text_model.encoder.layers.1", at[] = "text_model.encoder.layers.1.self_attn";
    Tap feature = { SITE_FEATURE, mid, NULL, pull_forward, pull_backward, true };
    Tap probs = { SITE_PROBS, at, NULL, pull_forward, pull_backward, true };
    Tap query = { SITE_QUERY, at, NULL, pull_forward, pull_backward, true };
    Tap both[2] = { { SITE_FEATURE, last, NULL, halve, halve, false }, { SITE_FEATURE, mid, NULL, pull_forward, pull_backward, true } };
    body("transformer, gelu", POINT_GELU, false, 3, NULL, 0, false, true);
    body("transformer, quick_gelu, causal", POINT_QUICK_GELU, true, 3, NULL, 0, false, true);
    body("transformer, nothing trains", POINT_GELU, true, 3, NULL, 0, false, false);
    body("transformer, two of three layers", POINT_GELU, true, 2, NULL, 0, false, false);
    body("transformer, a tap on a feature", POINT_GELU, false, 3, &feature, 1, false, false);
    body("transformer, the tap alone", POINT_GELU, true, 3, &feature, 1, true, false);
    body("transformer, a tap on probabilities", POINT_GELU, true, 3, &probs, 1, true, false);
    body("transformer, a tap on queries", POINT_GELU, true, 3, &query, 1, true, false);
    body("transformer, one tap changes, one pulls", POINT_GELU, false, 3, both, 2, false, false);
}

/* ---- towers: loss = <weight, last> + <weight, pooled> + <weight, embeds> ---- */

typedef struct {
    ClipText text;
    ClipImage image;
    const int *ids;
    Tensor x, given;                                      /* given: embedded tokens, or pixels */
    Tensor last, pooled, embeds, wlast, wpooled, wembeds;
    int skip;
    bool from_ids;
} Tower;

static void outputs(Tower *t, int N, int T, int D, int projection)
{
    t->last = fresh(SHAPE(N, T, D));
    t->pooled = fresh(SHAPE(N, D));
    t->embeds = projection ? fresh(SHAPE(N, projection)) : none;
    t->wlast = fresh(t->last.s);
    t->wpooled = fresh(t->pooled.s);
    t->wembeds = projection ? fresh(t->embeds.s) : none;
}

static double outputs_loss(const Tower *t)
{
    return grad_weighted(t->last, t->wlast) + grad_weighted(t->pooled, t->wpooled) + (t->embeds.x ? grad_weighted(t->embeds, t->wembeds) : 0);
}

static double text_loss(void *self)
{
    Tower *t = self;
    ClipTextPass p;
    if (t->from_ids) clip_text_embed(&run, &t->text, t->x, t->ids);
    else tensor_copy(&run, t->x, t->given);
    clip_text_forward(&run, &t->text, t->last, t->pooled, t->embeds, &p, t->x, t->ids, t->skip);
    forget();
    return outputs_loss(t);
}

static void text(const char *what, PointAct f, int eos, int projection, int skip)
{
    static const int ids[] = { 9, 3, 10, 1, 10, 0,  9, 4, 4, 2, 5, 10 };
    ClipTextConfig c = { 8, 12, 2, 2, 11, 7, projection, eos, f, 1e-5 };
    Tower t = { .ids = ids, .x = fresh(SHAPE(2, 6, 8)), .given = fresh(SHAPE(2, 6, 8)), .skip = skip };
    ClipTextPass p;
    clip_text_build(&t.text, &c, &arena, &status);
    params_randomise(clip_text_walk, &t.text, &arena, 3, &status);
    outputs(&t, 2, 6, 8, projection);
    GradCheck g = { text_loss, &t, 1e-5, TRIED };

    Tensor dx = fresh(t.x.s);
    clip_text_forward(&run, &t.text, t.last, t.pooled, t.embeds, &p, t.given, ids, skip);
    clip_text_backward(&run, &t.text, dx, t.wlast, t.wpooled, t.wembeds, &p);
    forget();
    GradPart part = { "x", t.given, dx };
    gradcheck(what, &g, &part, 1, LIMIT);
    if (skip) return;

    params_want_gradients(clip_text_walk, &t.text, &arena, &status);
    t.from_ids = true;
    clip_text_embed(&run, &t.text, t.x, ids);
    clip_text_forward(&run, &t.text, t.last, t.pooled, t.embeds, &p, t.x, ids, 0);
    clip_text_backward(&run, &t.text, dx, t.wlast, t.wpooled, t.wembeds, &p);
    clip_text_embed_backward(&run, &t.text, dx, ids);
    check_params(what, clip_text_walk, &t.text, g);
    zero_gradients(clip_text_walk, &t.text);              /* the positions' gradient does not need dx */
    clip_text_forward(&run, &t.text, t.last, t.pooled, t.embeds, &p, t.x, ids, 0);
    clip_text_backward(&run, &t.text, none, t.wlast, t.wpooled, t.wembeds, &p);
    forget();
    GradPart positions = { "positions, without dx", t.text.positions.v, t.text.positions.grad };
    gradcheck(what, &g, &positions, 1, LIMIT);
}

static double image_loss(void *self)
{
    Tower *t = self;
    ClipImagePass p;
    clip_image_forward(&run, &t->image, t->last, t->pooled, t->embeds, &p, t->given);
    forget();
    return outputs_loss(t);
}

static void image(const char *what, PointAct f, int side, int projection)
{
    ClipImageConfig c = { 8, 12, 2, 2, side, 3, 3, projection, f, 1e-5 };
    Tower t = { .given = fresh(SHAPE(2, 3, side, side)) };
    ClipImagePass p;
    clip_image_build(&t.image, &c, &arena, &status);
    params_randomise(clip_image_walk, &t.image, &arena, 4, &status);
    outputs(&t, 2, 1 + side / 3 * (side / 3), 8, projection);
    GradCheck g = { image_loss, &t, 1e-5, TRIED };

    Tensor dpixels = fresh(t.given.s);
    clip_image_forward(&run, &t.image, t.last, t.pooled, t.embeds, &p, t.given);
    clip_image_backward(&run, &t.image, dpixels, t.wlast, t.wpooled, t.wembeds, &p);
    forget();
    GradPart part = { "pixels", t.given, dpixels };
    gradcheck(what, &g, &part, 1, LIMIT);

    params_want_gradients(clip_image_walk, &t.image, &arena, &status);
    clip_image_forward(&run, &t.image, t.last, t.pooled, t.embeds, &p, t.given);
    clip_image_backward(&run, &t.image, none, t.wlast, t.wpooled, t.wembeds, &p);
    check_params(what, clip_image_walk, &t.image, g);
    forget();
}

/* Each gradient that comes in, alone; and a backward known to be wrong. */
static void alone(void)
{
    ClipImageConfig c = { 8, 12, 2, 2, 6, 3, 3, 5, POINT_GELU, 1e-5 };
    for (int which = 0; which < 3; which++) {
        Tower t = { .given = fresh(SHAPE(1, 3, 6, 6)) };
        ClipImagePass p;
        clip_image_build(&t.image, &c, &arena, &status);
        params_randomise(clip_image_walk, &t.image, &arena, 5, &status);
        outputs(&t, 1, 5, 8, 5);
        Tensor dpixels = fresh(t.given.s), *w[3] = { &t.wlast, &t.wpooled, &t.wembeds };
        for (int i = 0; i < 3; i++)
            if (i != which) tensor_zero(*w[i]);
        clip_image_forward(&run, &t.image, t.last, t.pooled, t.embeds, &p, t.given);
        clip_image_backward(&run, &t.image, dpixels, which == 0 ? t.wlast : none, which == 1 ? t.wpooled : none, which == 2 ? t.wembeds : none, &p);
        forget();
        GradCheck g = { image_loss, &t, 1e-5, TRIED };
        GradPart part = { "pixels, one gradient alone", t.given, dpixels };
        gradcheck("image tower", &g, &part, 1, LIMIT);
        Tensor wrong = fresh(dpixels.s);
        scale(&run, wrong, (real)1.01, dpixels, 0);
        gradcheck_must_fail("a gradient one per cent too large is seen", &g, t.given, wrong, LIMIT);
    }
}

int main(void)
{
    run = (Run){ .keep = &kept, .temp = &scratch, .threads = 1, .blas = true, .k = kernels_pick(NULL) };
    kept.poison = scratch.poison = true;
    operations();
    bodies();
    text("text tower, quick_gelu, end by id", POINT_QUICK_GELU, 10, 5, 0);
    text("text tower, gelu, end by maximum", POINT_GELU, 2, 0, 0);
    text("text tower, one layer left out", POINT_GELU, 10, 5, 1);
    image("image tower, gelu", POINT_GELU, 6, 5);
    image("image tower, quick_gelu, a rest beside the patches", POINT_QUICK_GELU, 7, 0);
    alone();
    check_line("no error on the way", run.status.text, run_ok(&run) && status.code == OK);
    arena_free(&arena);
    arena_free(&kept);
    arena_free(&scratch);
    return check_done();
}
