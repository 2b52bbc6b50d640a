/* The gradient of docs/examples/half.c: the shares themselves, and with a fault a reader might make. */
#include "docs/examples/half.c"
#include "tests/gradcheck.h"

static Run run;
static Arena arena, scratch;
static const Half half = { 2 };
static const Energy energy = { "half", half_want, 1, NULL, -1, half_energy, &half, 1 };

static View view(Sight *s, Tensor a, Tensor da, Tensor b, Tensor db)
{
    s[0] = (Sight){ SEE_PROBS, "up_blocks.1.attn2", a, da };
    s[1] = (Sight){ SEE_PROBS, "up_blocks.2.attn2", b, db };
    return (View){ "cond", s, 2, 6, 8, {0} };
}

typedef struct { Tensor a, b, da, db, junk_a, junk_b; } Maps;

static double loss(void *self)
{
    Maps *m = self;
    Sight s[2];
    View v = view(s, m->a, m->junk_a, m->b, m->junk_b);
    return (double)half_energy(&energy, &run, &v, NULL, 1.5, NULL);
}

static Tensor fresh(Shape s, double centre, double spread) { return grad_fresh(&run, &arena, s, centre, spread); }

int main(void)
{
    run = (Run){ .keep = &scratch, .temp = &scratch, .step = &arena, .run = &arena, .k = kernels_pick(NULL), .threads = 1 };
    const Shape big = SHAPE(2, 48, 5), small = SHAPE(3, 12, 5);
    Maps m = { fresh(big, 1, 0.8), fresh(small, 1, 0.8), fresh(big, 0, 0), fresh(small, 0, 0), fresh(big, 0, 0), fresh(small, 0, 0) };
    Sight s[2];
    View v = view(s, m.a, m.da, m.b, m.db);
    half_energy(&energy, &run, &v, NULL, 1.5, NULL);
    GradCheck g = { loss, &m, 1e-5, 2000 };
    GradPart part[] = { { "probabilities, 6x8", m.a, m.da }, { "probabilities, 3x4", m.b, m.db } };
    gradcheck("half", &g, part, 2, 1e-8);                 /* smooth, of size one: measured 2e-9 */

    /* The fault: E's denominator taken for a constant, so b/M in place of (b - E)/M. */
    Tensor wrong = fresh(small, 0, 0);
    acc M = MAP_EPS;
    for (size_t i = 2; i < tensor_count(m.b); i += 5) M += (acc)m.b.x[i] / 3;
    for (size_t i = 2; i < tensor_count(m.b); i += 5) wrong.x[i] = (real)(1.5 / 2 * (i / 5 % 4 >= 2) / M / 3);
    gradcheck_must_fail("half: a constant denominator is seen", &g, m.b, wrong, 1e-8);
    check_true(run_ok(&run) ? "no error was raised" : run.status.text, run_ok(&run));
    arena_free(&arena);
    arena_free(&scratch);
    return check_done();
}
