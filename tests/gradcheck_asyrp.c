/* Gradients of Asyrp: the delta block of both kinds, to its input, its time embedding and every parameter.
 * Limit 1e-8 (measured: at most 2e-10): differences of width 1e-5, as in gradcheck_clip.c. */
#include "nn/delta.h"
#include "tests/gradcheck.h"

static const double LIMIT = 1e-8;
static Run run;
static Arena arena, kept, scratch;
static Status status;
static const Tensor none;

static Tensor fresh(Shape s)
{
    Tensor t = tensor_in(&run, &arena, s);
    grad_fill(t, 0, 1);
    return t;
}

static void forget(void)
{
    arena_release(&kept, 0);
    arena_release(&scratch, 0);
}

/* ---- the block ---- */

typedef struct { Delta d; Tensor h, e, y, weight; } Block;

static double block_loss(void *self)
{
    Block *b = self;
    DeltaCache c;
    delta_forward(&run, &b->d, b->y, &c, b->h, b->e, 0);
    forget();
    return grad_weighted(b->y, b->weight);
}

typedef struct { Walk w; const char *what; const GradCheck *g; double limit; } Each;

static void visit(Walk *w, Param *p, const char *name)
{
    Each *e = w->self;
    GradPart part = { name, p->v, p->grad };
    gradcheck(e->what, e->g, &part, 1, e->limit);
}

static void block(const char *what, DeltaKind kind, bool timed)
{
    Block b = { .h = fresh(SHAPE(2, 12, 3, 2)), .e = timed ? fresh(SHAPE(2, 7)) : none, .y = fresh(SHAPE(2, 12, 3, 2)), .weight = fresh(SHAPE(2, 12, 3, 2)) };
    DeltaConfig config = { kind, 12, 7, 4 };
    delta_build(&b.d, &config, &status);
    params_randomise(delta_walk, &b.d, &arena, 5, &status);
    params_want_gradients(delta_walk, &b.d, &arena, &status);
    GradCheck g = { block_loss, &b, 1e-5, 500 };
    Tensor dh = fresh(b.h.s), de = timed ? fresh(b.e.s) : none;
    tensor_zero(de);
    DeltaCache c;
    delta_forward(&run, &b.d, b.y, &c, b.h, b.e, 0);
    delta_backward(&run, &b.d, dh, de, b.weight, &c);
    forget();
    GradPart part[] = { { "h", b.h, dh }, { "silu_temb", b.e, de } };
    gradcheck(what, &g, part, 1 + timed, LIMIT);
    Each e = { .what = what, .g = &g, .limit = LIMIT };
    e.w = (Walk){ .visit = visit, .self = &e };
    if (!timed) return;                                   /* the time's layer is not used then: its gradient is zero */
    delta_walk(&b.d, &e.w);
    tensor_zero(dh);
    gradcheck_must_fail("a gradient of zeros is refused", &g, b.h, dh, LIMIT);
}

int main(void)
{
    run = (Run){ .keep = &kept, .temp = &scratch, .k = kernels_pick(NULL), .threads = 1 };
    kept.poison = scratch.poison = true;
    block("delta, ddpm", DELTA_DDPM, true);
    block("delta, adm", DELTA_ADM, true);
    block("delta, ddpm without time", DELTA_DDPM, false);
    check_true("no error", run_ok(&run) && status.code == OK);
    return check_done();
}
