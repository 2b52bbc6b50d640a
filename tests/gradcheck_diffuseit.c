/* Gradients of DiffuseIT's cuts and terms.  Limit 1e-8: differences of width 1e-5 leave 1e-10 times the third derivative, and
 * 1e-16 |L| / 1e-5 of rounding.  Measured: at most 6e-10. */
#include "guidance/diffuseit_losses.h"
#include "tensor/cutouts.h"
#include "tests/gradcheck.h"

static const double LIMIT = 1e-8;
static Run run;
static Arena arena, scratch;

static Tensor fresh(Shape s, double centre, double spread) { return grad_fresh(&run, &arena, s, centre, spread); }

/* ---- cuts ---- */

enum { CUTS = 5 };
typedef struct { Tensor x, y, weight; Cut cut[CUTS]; } Cutting;

static double cut_loss(void *self)
{
    Cutting *c = self;
    cutouts(&run, c->y, c->x, c->cut);
    return grad_weighted(c->y, c->weight);
}

static void cuts(void)
{
    Cutting c = { fresh(SHAPE(3, 9, 11), 0, 1), fresh(SHAPE(CUTS, 3, 7, 6), 0, 1), fresh(SHAPE(CUTS, 3, 7, 6), 0, 1),
                  { { 7.5, 1, 2, 8, 7, true }, { -9.9, 0, 0, 9, 11, false }, cut_whole(9, 11), cut_centre(9, 11), { 40, 3, 4, 2, 3, true } } };
    Tensor dx = fresh(c.x.s, 0, 1);                       /* written: what is there does not count */
    GradCheck g = { cut_loss, &c, 1e-5, 2000 };
    cutouts_back(&run, dx, c.weight, c.cut);
    gradcheck("cuts: rotated, cropped, resized, mirrored", &g, &(GradPart){ "x", c.x, dx }, 1, LIMIT);
    c.cut[0].flip = false;
    gradcheck_must_fail("a cut that is not mirrored back", &g, c.x, dx, LIMIT);
    c.cut[0] = (Cut){ 7.5, 1, 2, 8, 7, true };
    c.cut[1].angle = 9.9;
    gradcheck_must_fail("a cut turned the other way", &g, c.x, dx, LIMIT);
}

/* ---- terms ---- */

typedef struct Term Term;
struct Term {
    acc (*value)(Term *t, Tensor d);
    Tensor x, y, S;
    double weight;
};

static acc ssim   (Term *t, Tensor d) { return diffuseit_ssim(&run, d, t->x, t->S, t->weight); }
static acc contra (Term *t, Tensor d) { return diffuseit_contra(&run, d, t->x, t->y, 0.07, t->weight); }
static acc square (Term *t, Tensor d) { return diffuseit_square(&run, d, t->x, t->y, t->weight); }
static acc range  (Term *t, Tensor d) { return diffuseit_range(&run, d, t->x, t->weight); }
static acc toward (Term *t, Tensor d) { return diffuseit_toward(&run, d, t->x, t->y, t->weight); }

static double term_loss(void *self)
{
    Term *t = self;
    return t->value(t, (Tensor){0});
}

/* The gradient is added to what is there. */
static Tensor gradient_of(Term *t)
{
    Tensor d = fresh(t->x.s, 1, 0);
    t->value(t, d);
    for (size_t i = 0; i < tensor_count(d); i++) d.x[i] -= 1;
    return d;
}

static void term(const char *what, acc (*value)(Term *, Tensor), Tensor x, Tensor y, double weight)
{
    Term t = { value, x, y, {0}, weight };
    if (value == ssim) {
        t.S = fresh(SHAPE(x.s.d[0], x.s.d[0]), 0, 1);
        diffuseit_similarity(&run, t.S, y);
    }
    Tensor d = gradient_of(&t);
    GradCheck g = { term_loss, &t, 1e-5, 2000 };
    gradcheck(what, &g, &(GradPart){ "x", x, d }, 1, LIMIT);
    t.weight *= 1.001;
    gradcheck_must_fail(what, &g, x, d, LIMIT);
}

static void terms(void)
{
    Shape keys = SHAPE(7, 6);
    Tensor k = fresh(keys, 0, 1), k0 = fresh(keys, 0, 1), small = fresh(keys, 0, 1e-5), wide = fresh(SHAPE(3, 4, 5), 0, 2);
    term("key self-similarity", ssim, k, k0, 10);
    term("contrast of keys", contra, k, k0, 2);
    term("squares", square, k, k0, -3);
    term("range", range, wide, wide, 20);
    term("embeddings towards a text", toward, fresh(SHAPE(4, 6), 0, 1), fresh(SHAPE(6), 0, 1), 20);
    /* Rows so short that the least product of lengths, 1e-8, counts: linear in each of them. */
    Term t = { ssim, small, k0, fresh(SHAPE(7, 7), 0, 1), 1 };
    diffuseit_similarity(&run, t.S, k0);
    GradCheck g = { term_loss, &t, 1e-9, 2000 };
    gradcheck("key self-similarity of short keys", &g, &(GradPart){ "k", small, gradient_of(&t) }, 1, 1e-6);      /* 1e-9: steps must be short too */
}

int main(void)
{
    run = (Run){ .keep = &scratch, .temp = &scratch, .run = &arena, .step = &arena, .k = kernels_pick(NULL), .threads = 1, .blas = true };
    cuts();
    terms();
    check_true(run_ok(&run) ? "no error was raised" : run.status.text, run_ok(&run));
    arena_free(&arena);
    arena_free(&scratch);
    return check_done();
}
