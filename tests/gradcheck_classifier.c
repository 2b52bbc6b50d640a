/* The gradient of classifier guidance: -log p(y | z, t) through the noisy classifier, and inside the engine's step. */
#include "guidance/classifier.h"
#include "tests/gradcheck.h"
#include "tests/pixel_nets.h"

static Run run;
static Arena kept, scratch, step, whole, weights;
static AdmClassifier net;

typedef struct { Energy energy; Tensor z, junk; Clock clock; double weight; } Looked;

static acc looked(Looked *l, Tensor adj)
{
    Sight s = { SEE_LATENT, "", l->z, adj };
    View v = { "", &s, 1, l->z.s.d[1], l->z.s.d[2], l->clock };
    return classifier_energy(&l->energy, &run, &v, NULL, (acc)l->weight, NULL);
}

static double loss(void *self)
{
    Looked *l = self;
    return (double)looked(l, l->junk);
}

int main(void)
{
    run = (Run){ .keep = &kept, .temp = &scratch, .step = &step, .run = &whole, .k = kernels_pick(NULL), .threads = 1, .blas = true };
    kept.poison = scratch.poison = true;
    pixel_classifier(&net, CLASSIFIER_TINY, &weights, &run.status);
    ClassifierTarget target = { classifier_adm(&net, 0.5), 3 };
    Shape S = SHAPE(3, 4, 4);
    Looked l = { .energy = { .name = "classifier", .par = &target, .weight = 1 }, .z = tensor_in(&run, &whole, S), .junk = tensor_in(&run, &whole, S),
                 .clock = { .n = 10, .t = 481, .ab = 0.4 }, .weight = 1.7 };
    Tensor g = tensor_in(&run, &whole, S), other = tensor_in(&run, &whole, S), twice = tensor_in(&run, &whole, S);
    grad_fill(l.z, 0, 1.5);
    tensor_zero(g);
    tensor_zero(other);
    tensor_zero(l.junk);
    looked(&l, g);
    GradCheck check = { loss, &l, 1e-5, 2000 };
    GradPart part = { "z", l.z, g };
    gradcheck("-1.7 log p(y | z, t) of the noisy classifier", &check, &part, 1, 1e-8);     /* measured 3e-10 */
    check_true("memory is as it was", kept.used == 0 && scratch.used == 0);

    tensor_copy(&run, twice, g);
    looked(&l, twice);
    double worst = 0;
    for (size_t i = 0; i < tensor_count(g); i++) worst = fmax(worst, fabs((double)twice.x[i] - 2 * (double)g.x[i]));
    check_below("an energy adds its gradient", worst, 1e-15);                                /* one rounding: measured 0 */

    target.label = 1;
    looked(&l, other);
    target.label = 3;
    gradcheck_must_fail("another class is seen", &check, l.z, other, 1e-8);
    tensor_zero(other);
    l.clock.t = 482;
    looked(&l, other);
    l.clock.t = 481;
    gradcheck_must_fail("another time is seen", &check, l.z, other, 1e-8);

    check_true(run_ok(&run) ? "no error was raised" : run.status.text, run_ok(&run));
    target.label = 5;
    looked(&l, other);
    check_true("a class beyond the last", run.status.code == E_OPTION);
    Arena *all[] = { &kept, &scratch, &step, &whole, &weights };
    for (int i = 0; i < 5; i++) arena_free(all[i]);
    return check_done();
}
