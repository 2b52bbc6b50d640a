/* laws_optim.c -- descent: PyTorch's numbers, step by step; training cut in two and resumed from files is the same training. */
#include "nn/optim.h"
#include "tensor/point.h"
#include "tests/check.h"
#include "tests/files.h"

typedef struct { Param x, conv, frozen; } Toy;            /* conv: held in another order than files have it */

static void toy_walk(void *model, Walk *w)
{
    Toy *t = model;
    size_t mark = walk_enter(w, "toy");
    walk_param(w, &t->x, "x");
    walk_param(w, &t->conv, "conv.weight");
    walk_param(w, &t->frozen, "frozen");
    walk_leave(w, mark);
}

static Toy toy_make(Arena *a, Status *s)
{
    static const real start[3] = { (real)0.5, (real)-1.25, 3 };
    Toy t = { param_vector(3), param_conv(2, 3, 2, 2), param_vector(2) };
    params_randomise(toy_walk, &t, a, 1, s);
    params_want_gradients(toy_walk, &t, a, s);
    t.frozen.grad = (Tensor){0};
    memcpy(t.x.v.x, start, sizeof start);
    return t;
}

/* E = (x0^2 + 2 x1^2 + 0.001 x2^2) / 2 + x0 x1 + |conv|^2 / 2 */
static void toy_gradient(Toy *t)
{
    real *x = t->x.v.x, *g = t->x.grad.x;
    g[0] += x[0] + x[1];
    g[1] += 2 * x[1] + x[0];
    g[2] += (real)0.001 * x[2];
    for (size_t i = 0; i < tensor_count(t->conv.v); i++) t->conv.grad.x[i] += t->conv.v.x[i];
}

/* PyTorch 2.13, float64, learning rate 0.1 */
static const double SGD[5][3] = {
    { 0.57499999999999996, -1.05, 2.9996999999999998 },               { 0.62249999999999994, -0.89750000000000008, 2.9994000299999999 },
    { 0.64999999999999991, -0.78025, 2.999100089997 },                { 0.66302499999999998, -0.68920000000000003, 2.9988001799880002 },
    { 0.66564250000000003, -0.6176625, 2.9985002999700012 } };
static const double ADAM[5][3] = {
    { 0.59999999866666665, -1.1500000005, 2.9000003333322222 },       { 0.69804423745235089, -1.0507484433796059, 2.8001033786024792 },
    { 0.79156875544355698, -0.95296328374000661, 2.7003825370941632 }, { 0.8765055651095135, -0.85756346787682169, 2.6009148911024824 },
    { 0.94725687980200957, -0.7656685924703196, 2.5017811660716776 } };
static const double FIRST[3] = { -0.13050283863716894, -0.55298400491164967, 0.0011381743154154425 };
static const double SECOND[3] = { 0.0010123793113418033, 0.01077494195208613, 3.9223288778265187e-08 };

static double distance(const real *x, const double *y, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, fabs((double)x[i] - y[i]) / fabs(y[i]));
    return most;
}

static void against_pytorch(OptimKind kind, const double truth[5][3])
{
    Arena a = {0}, temp_arena = {0};
    Run r = { .k = kernels_pick(NULL), .threads = 1, .temp = &temp_arena };
    Toy t = toy_make(&a, &r.status);
    Optim o;
    const double limit = sizeof(real) == 4 ? 3e-7 : 1e-15;               /* 1e-7, a rounding or two, and 1.2e-16 here */
    real frozen = t.frozen.v.x[0], before = t.conv.v.x[0];
    check_true("begin", optim_begin(&o, kind, toy_walk, &t, &a, &r.status) && o.entries == 2);
    for (int k = 0; k < 5; k++) {
        toy_gradient(&t);
        optim_step(&r, &o, 0.1);
        check_below(kind == OPTIM_ADAM ? "Adam, as PyTorch" : "SGD, as PyTorch", distance(t.x.v.x, truth[k], 3), limit);
        check_true("gradients are used up", t.x.grad.x[0] == 0 && t.conv.grad.x[5] == 0);
    }
    check_true("five steps", run_ok(&r) && optim_steps(&o) == 5);
    check_true("a frozen parameter stays, the convolution moves", t.frozen.v.x[0] == frozen && t.conv.v.x[0] != before);
    if (kind == OPTIM_ADAM) {
        Param *m = params_find(optim_walk, &o, "toy.x.exp_avg"), *v = params_find(optim_walk, &o, "toy.x.exp_avg_sq");
        check_below("the first moment", m ? distance(m->v.x, FIRST, 3) : (double)NAN, limit);
        check_below("the second moment", v ? distance(v->v.x, SECOND, 3) : (double)NAN, limit);
    }
    toy_gradient(&t);
    check_below("the norm of the gradients", fabs(optim_gradient_norm(&r, &o) / sqrt((double)(dot(&r, t.x.grad, t.x.grad) + dot(&r, t.conv.grad, t.conv.grad))) - 1), 1e-12);
    t.conv.grad.x[3] = (real)NAN;
    real x0 = t.x.v.x[0];
    optim_step(&r, &o, 0.1);
    check_line("a gradient that is not finite", r.status.text, r.status.code == E_NUMBER && strstr(r.status.text, "toy.conv.weight") && t.x.v.x[0] == x0 && optim_steps(&o) == 5);
    arena_free(&a);
    arena_free(&temp_arena);
}

static void train(Run *r, Toy *t, Optim *o, int steps)
{
    for (int k = 0; k < steps; k++) {
        toy_gradient(t);
        optim_step(r, o, 0.1);
    }
}

static void whole_walk(void *model, Walk *w)              /* a model and its optimiser in one file */
{
    void **both = model;
    toy_walk(both[0], w);
    optim_walk(both[1], w);
}

static void resumed(OptimKind kind)
{
    Arena a = {0}, temp_arena = {0};
    Run r = { .k = kernels_pick(NULL), .threads = 1, .temp = &temp_arena };
    Dtype type = sizeof(real) == 4 ? T_F32 : T_F64;
    Toy t = toy_make(&a, &r.status), u = toy_make(&a, &r.status);
    Optim o, p;
    Weights w;
    void *first[2] = { &t, &o }, *second[2] = { &u, &p };
    optim_begin(&o, kind, toy_walk, &t, &a, &r.status);
    optim_begin(&p, kind, toy_walk, &u, &a, &r.status);
    train(&r, &t, &o, 3);
    check_true("save", params_save(whole_walk, first, at("state.safetensors"), type, &a, &r.status));
    check_true("load", weights_open_file(&w, at("state.safetensors"), &r.status) && params_load(whole_walk, second, &w, &a, NULL, &r.status));
    const SafeEntry *e = weights_find(&w, "toy.conv.weight.exp_avg", NULL);
    check_true("moments have the checkpoint's shape", kind == OPTIM_SGD ? !e : e && e->rank == 4 && e->size[1] == 3 && e->size[3] == 2);
    weights_close(&w);
    train(&r, &t, &o, 4);
    train(&r, &u, &p, 4);
    check_true("resumed: the same bits", run_ok(&r) && optim_steps(&p) == 7 && !memcmp(t.x.v.x, u.x.v.x, 3 * sizeof(real))
               && !memcmp(t.conv.v.x, u.conv.v.x, 24 * sizeof(real)));
    arena_free(&a);
    arena_free(&temp_arena);
}

static void refusals(void)
{
    Arena a = {0}, tight = { .limit = 200 };
    Status s = {0};
    Toy t = toy_make(&a, &s);
    Optim o;
    check_true("no memory", !optim_begin(&o, OPTIM_ADAM, toy_walk, &t, &tight, &s) && s.code == E_MEMORY && !tight.used && !o.entries);
    s = (Status){0};
    t.conv.layout = WINOGRAD;
    check_line("transformed kernels", s.text, !optim_begin(&o, OPTIM_SGD, toy_walk, &t, &a, &s) && s.code == E_OPTION && strstr(s.text, "toy.conv.weight"));
    s = (Status){0};
    t = (Toy){ param_vector(3), param_none(), param_none() };
    check_true("nothing to train", !optim_begin(&o, OPTIM_SGD, toy_walk, &t, &a, &s) && s.code == E_OPTION);
    arena_free(&a);
    arena_free(&tight);
}

int main(int argc, char **argv)
{
    /* lr of PyTorch's StepLR(step_size 3, gamma 0.1) from 0.2: the same bits */
    static const double rate[8] = { 0.20000000000000001, 0.20000000000000001, 0.20000000000000001, 0.020000000000000004, 0.020000000000000004, 0.020000000000000004,
                                    0.0020000000000000005, 0.0020000000000000005 };
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    against_pytorch(OPTIM_SGD, SGD);
    against_pytorch(OPTIM_ADAM, ADAM);
    resumed(OPTIM_SGD);
    resumed(OPTIM_ADAM);
    refusals();
    for (int i = 0; i < 8; i++) check_true("StepLR, as PyTorch", optim_decayed(0.2, 0.1, 3, i) == rate[i]);
    check_true("without steps", optim_decayed(0.2, 0.1, 0, 9) == 0.2);
    scratch_remove();
    return check_done();
}
