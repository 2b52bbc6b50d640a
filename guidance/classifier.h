/* classifier.h -- classifier guidance (Dhariwal & Nichol 2105.05233, algorithms 1 and 2): towards what a classifier that was
 * trained on noisy z takes for class y.  With  E = -log p(y | z, t)  and  g = dE/dz  at z_t (not at the mean),
 *
 *     ancestral   mean <- mean - s var g              var the step's variance, element by element, learned ones too
 *     DDIM        eps  <- eps + s sqrt(1-ab) g        then x0 anew from eps, not clamped again
 *
 * A step costs one pass of the network, forward alone, and one of the classifier, forward and backward. */
#ifndef GUIDANCE_CLASSIFIER_H
#define GUIDANCE_CLASSIFIER_H
#include "guidance/methods.h"
#include "nn/adm_classifier.h"

/* Any classifier of noisy z.  log_p returns log p(label | z, t) and writes its gradient to dz; t as the networks are told it. */
typedef struct Classifier {
    void *net;
    acc (*log_p)(void *net, Run *r, Tensor dz, Tensor z, const Clock *c, double t, int label);
    int classes;
    double time_scale;                                    /* of the process: see Gaussian */
} Classifier;

Classifier classifier_adm(AdmClassifier *net, double time_scale);
typedef struct { Classifier classifier; int label; } ClassifierTarget;

/* The energy: par is a ClassifierTarget; sees SEE_LATENT of the step; needs r->keep apart from r->temp. */
acc classifier_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);
/* The rule for a sampler; par[0] is s. */
Rule classifier_rule(const Energy *e, Sampler sampler, double s);
extern const MethodInfo method_classifier;
#endif
