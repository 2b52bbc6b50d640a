/* Gradients of element-wise operations, normalisations and operations that only move numbers.  Limit 1e-8: differences of width
 * 1e-5 leave 1e-10 (third derivatives of order one) and 1e-16 |L| / 1e-5 of rounding, with |L| of a few tens. */
#include "tensor/norm.h"
#include "tensor/point.h"
#include "tensor/shape.h"
#include "tests/gradcheck.h"

static const double LIMIT = 1e-8;
static Run run;
static Arena arena, scratch;

/* forward writes y from the tensors of the case; the loss is <weight, y> (+ <weight2, y2>). */
typedef struct Case Case;
struct Case {
    void (*forward)(Case *c);
    Tensor x, z, y, y2, weight, weight2, mean, rstd;
    Affine a;
    PointAct f;
    NormAct act;
    int first;
};

static Tensor fresh(Shape s, double centre, double spread) { return grad_fresh(&run, &arena, s, centre, spread); }

static Tensor ones(Shape s) { return fresh(s, 1, 0); }

/* Gradients that are added to start from ones, which must still be there. */
static Tensor less_one(Tensor t)
{
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] -= 1;
    return t;
}

static double loss(void *self)
{
    Case *c = self;
    c->forward(c);
    return grad_weighted(c->y, c->weight) + grad_weighted(c->y2, c->weight2);
}

static GradCheck of(Case *c) { return (GradCheck){ loss, c, 1e-5, 2000 }; }

static void check(const char *what, Case *c, const GradPart *part, int parts)
{
    GradCheck g = of(c);
    gradcheck(what, &g, part, parts, LIMIT);
    check_true(what, run_ok(&run));
}

static void act_forward(Case *c)       { act(&run, c->f, c->y, c->x); }
static void geglu_forward(Case *c)     { geglu(&run, c->y, c->x); }
static void channels_forward(Case *c)  { tensor_copy(&run, c->y, c->x); add_channels(&run, c->y, c->z); }
static void slice_forward(Case *c)     { slice(&run, c->y, c->x, c->first); }
static void split_forward(Case *c)     { split(&run, c->y, c->y2, c->x); }
static void concat_forward(Case *c)    { concat(&run, c->y, c->x, c->z); }
static void double_forward(Case *c)    { double_nearest(&run, c->y, c->x); }
static void nhwc_forward(Case *c)      { nchw_to_nhwc(&run, c->y, c->x); }
static void transpose_forward(Case *c) { transpose(&run, c->y, c->x); }
static void group_forward(Case *c)     { groupnorm(&run, c->y, c->mean, c->rstd, c->x, c->a, (real)1e-5, c->act); }
static void layer_forward(Case *c)     { layernorm(&run, c->y, c->mean, c->rstd, c->x, c->a.gamma, c->a.beta, (real)1e-5); }

static Case make(void (*forward)(Case *), Shape x, Shape y)
{
    Case c = { .forward = forward, .x = fresh(x, 0.2, 2), .y = fresh(y, 0, 0), .weight = fresh(y, 0, 1) };
    return c;
}

static void activations(void)
{
    static const char *const name[] = { "act silu", "act gelu", "act quick_gelu" };
    Shape s = SHAPE(2, 3, 5, 7);
    for (int f = 0; f < 3; f++) {
        Case c = make(act_forward, s, s);
        c.f = (PointAct)f;
        Tensor dx = fresh(s, 0, 1), wrong = fresh(s, 0, 1);
        act_back(&run, c.f, dx, c.weight, c.x);
        check(name[f], &c, (GradPart[]){{ "x", c.x, dx }}, 1);
        act_back(&run, (PointAct)((f + 1) % 3), wrong, c.weight, c.x);
        GradCheck g = of(&c);
        gradcheck_must_fail("act_back of another function is seen", &g, c.x, wrong, LIMIT);
        tensor_copy(&run, wrong, c.weight);
        act_back(&run, c.f, wrong, wrong, c.x);
        check_true("act_back in place gives the same bits", !memcmp(wrong.x, dx.x, tensor_count(dx) * sizeof(real)));
    }
    Case c = make(geglu_forward, SHAPE(2, 5, 14), SHAPE(2, 5, 7));
    Tensor dx = fresh(c.x.s, 0, 1);
    geglu_back(&run, dx, c.weight, c.x);
    check("geglu", &c, (GradPart[]){{ "x", c.x, dx }}, 1);
}

static void moves(void)
{
    Case c = make(channels_forward, SHAPE(2, 9, 8, 70), SHAPE(2, 9, 8, 70));
    c.z = fresh(SHAPE(2, 70), 0, 1);
    Tensor dz = ones(c.z.s);
    add_channels_back(&run, dz, c.weight);
    check("add_channels", &c, (GradPart[]){{ "bias", c.z, less_one(dz) }, { "x", c.x, c.weight }}, 2);

    c = make(slice_forward, SHAPE(2, 3, 9), SHAPE(2, 3, 4));
    c.first = 2;
    Tensor dx = ones(c.x.s);
    slice_back(&run, dx, c.weight, 2);
    check("slice", &c, (GradPart[]){{ "x", c.x, less_one(dx) }}, 1);

    c = make(split_forward, SHAPE(2, 3, 2, 9), SHAPE(2, 3, 2, 4));
    c.y2 = fresh(SHAPE(2, 3, 2, 5), 0, 0);
    c.weight2 = fresh(c.y2.s, 0, 1);
    dx = fresh(c.x.s, 0, 1);
    concat(&run, dx, c.weight, c.weight2);
    check("split", &c, (GradPart[]){{ "y", c.x, dx }}, 1);

    c = make(concat_forward, SHAPE(2, 3, 4), SHAPE(2, 3, 9));
    c.z = fresh(SHAPE(2, 3, 5), 0, 1);
    Tensor da = fresh(c.x.s, 0, 1), db = fresh(c.z.s, 0, 1);
    split(&run, da, (Tensor){0}, c.weight);
    split(&run, (Tensor){0}, db, c.weight);
    check("concat", &c, (GradPart[]){{ "a", c.x, da }, { "b", c.z, db }}, 2);

    for (int odd = 0; odd < 2; odd++) {
        c = make(double_forward, SHAPE(2, 3, 4, 5), SHAPE(2, 6 - odd, 8 - odd, 5));
        dx = fresh(c.x.s, 0, 1);
        double_nearest_back(&run, dx, c.weight);
        check(odd ? "double_nearest, odd" : "double_nearest", &c, (GradPart[]){{ "x", c.x, dx }}, 1);
    }
    c = make(nhwc_forward, SHAPE(2, 3, 4, 5), SHAPE(2, 4, 5, 3));
    dx = fresh(c.x.s, 0, 1);
    nhwc_to_nchw(&run, dx, c.weight);
    check("nchw_to_nhwc", &c, (GradPart[]){{ "x", c.x, dx }}, 1);

    c = make(transpose_forward, SHAPE(2, 17, 19), SHAPE(2, 19, 17));
    dx = fresh(c.x.s, 0, 1);
    transpose(&run, dx, c.weight);
    check("transpose", &c, (GradPart[]){{ "x", c.x, dx }}, 1);
}

static void groupnorms(void)
{
    for (int kind = 0; kind < 4; kind++) {                /* without and with silu, without and with scale and shift */
        Shape s = kind == 3 ? SHAPE(2, 131, 12) : SHAPE(2, 5, 7, 12);
        Case c = make(group_forward, s, s);
        int C = 12, N = 2;
        c.act = kind & 1 ? ACT_SILU : ACT_NONE;
        c.mean = fresh(SHAPE(N, 4), 0, 0);
        c.rstd = fresh(SHAPE(N, 4), 0, 0);
        c.a.gamma = fresh(SHAPE(C), 1, 0.5);
        c.a.beta = fresh(SHAPE(C), 0, 0.5);
        if (kind & 2) {
            c.a.scale = fresh(SHAPE(N, C), 0, 0.5);
            c.a.shift = fresh(SHAPE(N, C), 0, 0.5);
        }
        group_forward(&c);
        Tensor dx = fresh(s, 0, 1);
        Affine da = { ones(c.a.gamma.s), ones(c.a.beta.s), ones(c.a.scale.s), ones(c.a.shift.s) };
        groupnorm_back(&run, dx, da, c.weight, c.x, c.mean, c.rstd, c.a, c.act);
        GradPart part[] = {{ "x", c.x, dx }, { "gamma", c.a.gamma, less_one(da.gamma) }, { "beta", c.a.beta, less_one(da.beta) },
                           { "scale", c.a.scale, less_one(da.scale) }, { "shift", c.a.shift, less_one(da.shift) }};
        static const char *const name[] = { "groupnorm", "groupnorm silu", "groupnorm scale shift", "groupnorm scale shift silu" };
        check(name[kind], &c, part, kind & 2 ? 5 : 3);

        GradCheck g = of(&c);
        Tensor wrong = fresh(s, 0, 1), flat = fresh(c.rstd.s, 0, 0);
        groupnorm_back(&run, wrong, (Affine){0}, c.weight, c.x, c.mean, c.rstd, c.a, (NormAct)!c.act);
        gradcheck_must_fail("groupnorm_back of the other act is seen", &g, c.x, wrong, LIMIT);
        for (size_t i = 0; i < tensor_count(flat); i++) flat.x[i] = c.rstd.x[i] * (real)1.0001;
        groupnorm_back(&run, wrong, (Affine){0}, c.weight, c.x, c.mean, flat, c.a, c.act);
        gradcheck_must_fail("groupnorm_back with rstd off by 1e-4 is seen", &g, c.x, wrong, LIMIT);
    }
}

static void layernorms(void)
{
    Case c = make(layer_forward, SHAPE(2, 70, 11), SHAPE(2, 70, 11));
    c.mean = fresh(SHAPE(2, 70), 0, 0);
    c.rstd = fresh(SHAPE(2, 70), 0, 0);
    c.a.gamma = fresh(SHAPE(11), 1, 0.5);
    c.a.beta = fresh(SHAPE(11), 0, 0.5);
    layer_forward(&c);
    Tensor dx = fresh(c.x.s, 0, 1), dgamma = ones(c.a.gamma.s), dbeta = ones(c.a.beta.s);
    layernorm_back(&run, dx, dgamma, dbeta, c.weight, c.x, c.mean, c.rstd, c.a.gamma);
    check("layernorm", &c, (GradPart[]){{ "x", c.x, dx }, { "gamma", c.a.gamma, less_one(dgamma) },
                                        { "beta", c.a.beta, less_one(dbeta) }}, 3);
}

/* The softmax of a row, as attention uses it. */
static void softmax_forward(Case *c)
{
    const Kernels *k = run.k;
    real high = k->row_max(21, c->x.x, (real)0.7);
    acc sum = k->row_exp(21, c->y.x, c->x.x, (real)0.7, high);
    k->row_scale(21, c->y.x, (real)(1 / sum));
}

static void softmax(void)
{
    Case c = make(softmax_forward, SHAPE(21), SHAPE(21));
    softmax_forward(&c);
    Tensor dx = fresh(c.x.s, 0, 0);
    tensor_copy(&run, dx, c.weight);
    run.k->row_softmax_back(21, dx.x, c.y.x, (real)0.7);
    check("softmax row", &c, (GradPart[]){{ "x", c.x, dx }}, 1);
}

/* The harness itself: what it must refuse. */
static void refusals(void)
{
    Shape s = SHAPE(5, 600);
    Case c = make(act_forward, s, s);
    GradCheck g = of(&c);
    Tensor dx = fresh(s, 0, 1), zero = fresh(s, 0, 0), nan = fresh(s, 0, 1);
    act_back(&run, POINT_SILU, dx, c.weight, c.x);
    check("3000 elements, sampled", &c, (GradPart[]){{ "x", c.x, dx }}, 1);
    gradcheck_must_fail("a gradient of zeros is refused", &g, c.x, zero, LIMIT);
    gradcheck_must_fail("a gradient of another shape is refused", &g, c.x, tensor_as(dx, SHAPE(3000)), LIMIT);
    tensor_copy(&run, nan, dx);
    nan.x[2999] = (real)NAN;
    gradcheck_must_fail("a NaN in an element that may not be drawn is refused", &g, c.x, nan, LIMIT);
    g.most = 1;
    for (size_t i = 0; i < tensor_count(dx); i++) nan.x[i] = dx.x[i] * (real)(1 + 1e-3 * check_uniform());
    gradcheck_must_fail("faults outside the elements drawn are seen", &g, c.x, nan, LIMIT);
}

int main(void)
{
    run = (Run){ .keep = &arena, .temp = &scratch, .k = kernels_pick("plain"), .threads = 1 };
    activations();
    moves();
    groupnorms();
    layernorms();
    softmax();
    refusals();
    check_true("scratch memory was given back", scratch.used == 0);
    check_true("no error on the way", run_ok(&run));
    arena_free(&arena);
    arena_free(&scratch);
    return check_done();
}
