#include <math.h>
#include "guidance/classifier.h"
#include "tensor/point.h"

static acc adm_log_p(void *net, Run *r, Tensor dz, Tensor z, const Clock *c, double t, int label)
{
    AdmClassifier *a = net;
    AdmClassifierPass pass;
    size_t kept = r->keep->used, mark = r->temp->used;
    Tensor logits = temp(r, SHAPE(1, a->config.out_channels)), dlogits = temp(r, logits.s), log_p = temp(r, SHAPE(1));
    Shape one = {{ 1, z.s.d[0], z.s.d[1], z.s.d[2] }};
    (void)c;
    adm_classifier_forward(r, a, logits, &pass, (Tensor){ z.x, one }, &t, true);
    adm_classifier_logp(r, log_p, dlogits, logits, &label);
    adm_classifier_backward(r, a, (Tensor){ dz.x, one }, dlogits, &pass);
    acc value = run_ok(r) ? (acc)log_p.x[0] : 0;
    arena_release(r->temp, mark);
    arena_release(r->keep, kept);
    return value;
}

Classifier classifier_adm(AdmClassifier *net, double time_scale)
{
    return (Classifier){ net, adm_log_p, net->config.out_channels, time_scale };
}

acc classifier_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    const ClassifierTarget *p = e->par;
    const Classifier *k = &p->classifier;
    Sight *z = view_at(now, SEE_LATENT, "", 0);
    size_t mark = r->temp->used;
    (void)ref; (void)state;
    if (!z) {
        run_fail(r, E_OPTION, "classifier guidance looks at the latent of the step");
        return 0;
    }
    Tensor dz = temp(r, z->val.s);
    acc log_p = k->log_p(k->net, r, dz, z->val, &now->clock, now->clock.t * k->time_scale, p->label);
    axpy(r, z->adj, (real)-weight, dz);
    arena_release(r->temp, mark);
    return -weight * log_p;
}

static double gain_mean(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    (void)c; (void)r; (void)g; (void)delta; (void)each; (void)state;
    return par[0];
}

static double gain_eps(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    (void)r; (void)g; (void)delta; (void)each; (void)state;
    return par[0] * sqrt(1 - c->ab);
}

static const Want the_latent = { SEE_LATENT, "" };

Rule classifier_rule(const Energy *e, Sampler sampler, double s)
{
    bool mean = sampler == SAMPLER_DDPM;
    return (Rule){ .energy = e, .energies = 1, .leaf = BY_Z, .into = mean ? TO_MEAN : TO_EPS, .gain = mean ? gain_mean : gain_eps,
                   .par = { s }, .by_variance = mean };
}

/* ---- the method ---- */

enum { SCALE, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [SCALE] = { "classifier-scale", 1, 0, 1e4, "s", "strength; published: 0.5 at 128, 1 at 64 and 256, 4 at 512, 10 without a class of the model's own" },
};

typedef struct { ClassifierTarget target; Energy energy; Rule rule; Branch branch[2]; } Parts;

static bool build(Run *r, Method *m, const MethodInput *in)
{
    Parts *p = arena_take(r->run, sizeof *p);
    if (!p) run_fail(r, E_MEMORY, "out of memory: classifier guidance");
    else if (!in->classifier) run_fail(r, E_OPTION, "classifier guidance needs a classifier of noisy pictures");
    else if (in->label < 0 || in->label >= in->classifier->classes)
        run_fail(r, E_OPTION, "class %d: the classifier knows 0 to %d", in->label, in->classifier->classes - 1);
    if (!run_ok(r)) return false;
    double s = in->number[SCALE];
    p->target = (ClassifierTarget){ *in->classifier, in->label };
    p->energy = (Energy){ "classifier", &the_latent, 1, "", -1, classifier_energy, &p->target, s != 0 };
    p->rule = classifier_rule(&p->energy, in->sampler, s);
    p->branch[0] = (Branch){ .name = "cond", .context = in->cond, .mix = mix_cond, .par = { in->scale } };
    p->branch[1] = (Branch){ .name = "uncond", .context = in->uncond, .mix = mix_uncond, .par = { in->scale } };
    *m = (Method){ .name = "classifier", .branch = p->branch, .branches = in->uncond.x ? 2 : 1, .rule = &p->rule, .rules = 1 };
    return true;
}

const MethodInfo method_classifier = {
    "classifier", "Classifier guidance", "Dhariwal & Nichol, arXiv 2105.05233",
    "draw what a classifier of noisy pictures takes for a class; pixel-space models",
    "mean += s Sigma d/dz log p(y|z,t),  or with DDIM  eps -= s sigma_t d/dz log p(y|z,t)",
    "tiller generate --model adm-64 --class 207 --classifier adm-64-noisy",
    option, OPTIONS, 0, false, build, NULL,
};
