/* The whole of DiffuseIT's guidance against differences: dE/dx0 and dE/dx of every term at fixed x or x0, and g = -dE/dx through
 * the network, in pixels and behind a decoder.  Steps of 1e-5; E is of order 1 to 100, so rounding leaves 1e-9 of a gradient. */
#include "tests/diffuseit_scene.h"
#include "tests/gradcheck.h"

static const double LIMIT = 1e-7;
enum { INDEX = 2 };
static const Cut cut[TOWERS][CUTS_EACH] = {
    { { 7.3, 1, 0, 10, 11, true }, { -4.1, 0, 2, 12, 10, false } }, { { 0.7, 0, 0, 12, 12, false }, { -9.3, 1, 1, 11, 10, true } },
};
static const Cut *const cuts[DIT_TOWERS] = { cut[0], cut[1] };

typedef struct { Translation *t; Tensor x0, x, cls; bool through; } Asking;

static double sum_of(const DiffuseitReport *p)
{
    double sum = 0;
    for (int k = 0; k < DIT_TERMS; k++) sum += isnan(p->term[k]) ? 0 : p->term[k];
    return sum;
}

/* E at x (through the network) or at x0 and x, from the same past; g or dx0 and dx receive the gradients. */
static double energy(Asking *a, Tensor g, Tensor dx0)
{
    Translation *t = a->t;
    Run *r = &t->run;
    Diffuseit d = t->d;
    DiffuseitReport p = { .frac = 1 };
    size_t mark = r->temp->used;
    Tensor mean = temp(r, a->x.s), log_variance = temp(r, a->x.s), x0 = temp(r, a->x.s), x_in = temp(r, a->x.s), cls = temp(r, d.cls.s);
    d.x_in = x_in;
    tensor_copy(r, cls, d.cls);
    d.cls = cls;
    if (a->through) diffuseit_guide(r, &d, &p, g, mean, log_variance, x0, a->x, INDEX, d.cuts ? cuts : NULL);
    else diffuseit_terms(r, &d, &p, dx0, g, (Tensor){0}, (Tensor){0}, a->x0, a->x, INDEX, d.cuts ? cuts : NULL);
    arena_release(r->temp, mark);
    return sum_of(&p);
}

static double loss(void *self)
{
    Asking *a = self;
    size_t mark = a->t->run.temp->used;
    double E = energy(a, temp(&a->t->run, a->x.s), temp(&a->t->run, a->x.s));
    arena_release(a->t->run.temp, mark);
    return E;
}

static DiffuseitOptions options(bool aug)
{
    return (DiffuseitOptions){ .weight = { 20, 10, 2, 3, 20, 30, 20 }, .skip = 1, .diff_iter = 1, .rounds = 2, .max_restarts = 1,
                               .noise_aug_all = aug, .restart_above = 0.01 };
}

static void whole(const char *what, bool latent, bool text, bool aug)
{
    Translation t;
    scene_open(&t, latent, text, options(aug));
    Asking a = { .t = &t, .x = t.x, .through = true };
    for (size_t i = 0; i < tensor_count(t.d.cls); i++) t.d.cls.x[i] += (real)(0.3 * check_uniform());      /* the previous call saw something else */
    Tensor g = numbers(&t, t.x.s, 1);
    energy(&a, g, (Tensor){0});
    for (size_t i = 0; i < tensor_count(g); i++) g.x[i] = -g.x[i];
    GradCheck check = { loss, &a, 1e-5, 60 };
    gradcheck(what, &check, &(GradPart){ "x", t.x, g }, 1, LIMIT);
    t.d.scale += 0.01;
    if (latent) gradcheck_must_fail("another weight of the text", &check, t.x, g, LIMIT);
    t.d.o.noise_aug_all = !aug;
    gradcheck_must_fail("looking at the other of estimate and mixture", &check, t.x, g, LIMIT);
    scene_close(&t);
}

static void each_term(bool text)
{
    Translation t;
    scene_open(&t, false, text, options(text));
    DiffuseitOptions all = t.d.o;
    Asking a = { .t = &t, .x = t.x, .x0 = numbers(&t, t.x.s, 1.3) };
    for (size_t i = 0; i < tensor_count(t.d.cls); i++) t.d.cls.x[i] += (real)(0.3 * check_uniform());
    for (int k = 0; k < DIT_TERMS; k++) {
        bool there = k == DIT_CLIP ? text : k == DIT_TARGET || k == DIT_L2 ? !text : true;
        for (int j = 0; j < DIT_TERMS; j++) t.d.o.weight[j] = j == k ? all.weight[j] : 0;
        if (!there) continue;
        Tensor dx0 = numbers(&t, t.x.s, 1), dx = numbers(&t, t.x.s, 1);
        GradCheck check = { loss, &a, 1e-5, 60 };
        energy(&a, dx, dx0);
        gradcheck(diffuseit_term_name[k], &check, &(GradPart){ "x0", a.x0, dx0 }, 1, LIMIT);
        if (k == DIT_CLIP || (t.d.o.noise_aug_all && k != DIT_RANGE)) gradcheck(diffuseit_term_name[k], &check, &(GradPart){ "x", a.x, dx }, 1, LIMIT);
        else check_true("x counts through the mixture alone", !moves(dx));
    }
    scene_close(&t);
}

int main(void)
{
    each_term(false);
    each_term(true);
    whole("pixels, a target picture", false, false, true);
    whole("pixels, a text, terms at the estimate", false, true, false);
    whole("behind a decoder, a target picture, two texts", true, false, true);
    whole("behind a decoder, a text, terms at the estimate", true, true, false);
    return check_done();
}
