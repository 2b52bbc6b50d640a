/* suppress.h -- Suppress to Impress: attention is weakened where it is not wanted, so that several objects can be there.
 * Two forms.
 *
 * Without masks (ours; the goal its authors set): the model chooses the places.  Of maps m_c (objects.h), with regions
 * r_c from a running map, constants:
 *
 *     T_c <- lambda T_c + (1-lambda) m_c (first: m_c),   r_c = sigmoid((T_c - th(T_c)) / (tau (max T_c - min T_c)))
 *     suppress    sum (1-r) m / sum m                                  weaken everything outside an object's own region
 *     even        sum r m log(m/mu) / sum r m,  mu = sum r m / sum r    the same strength all over the object
 *     exclusive   cos(m_c, m_d), mean over pairs                       different objects in different places
 *     emphasise   max(0, 1 - mu/kappa)                                 and none may vanish
 *     z <- z - s_i d/dz sum w term,   s_i = 10 sqrt(linspace(1, 1/2, N)[i]), first half of the steps
 *
 * With masks (as first released, its defects included: docs/methods/suppress-to-impress.md names them).  U are the
 * sharpened maps of all tokens, moved R - 2 times UP the loss in map space, R = max(1, 25 - i); then one step of z down:
 *
 *     L = 10 sum_t mean_p (softplus(U_t) - U_t M_t) + mean_t [ 2 mean_{p in M_t} max_k U_k - mean_{p in M_t} q_t(argmax) ]
 *     U <- U + s_i dL/dU;     z <- z - s_i (dS/dz)^T dL/dU */
#ifndef GUIDANCE_SUPPRESS_H
#define GUIDANCE_SUPPRESS_H
#include "guidance/objects.h"

/* ---- regions ---- */
typedef enum { THRESHOLD_OTSU, THRESHOLD_MEAN } Threshold;
typedef struct { Threshold threshold; double softness; } RegionRule;                      /* softness is tau; 0: [T > th] */
/* The middle of the gap in the sorted values v with the largest k (N-k) (mean above - mean below)^2; the first of equals. */
acc  otsu_threshold(Run *r, Tensor m);
void region_of(Run *r, Tensor region, Tensor m, RegionRule how);                          /* all ones where m is constant */

/* ---- terms: weight * term of one map [h,w]; dm added when not empty.  0 with no gradient where a sum vanishes. ---- */
acc suppress_term (Tensor dm, Tensor m, Tensor region, acc weight);
acc even_term     (Tensor dm, Tensor m, Tensor region, acc weight);
acc even_cv2_term (Tensor dm, Tensor m, Tensor region, acc weight);                       /* sum r (m-mu)^2 / (R mu^2) */
acc emphasise_term(Tensor dm, Tensor m, Tensor region, double level, acc weight);
acc exclusive_term(Tensor dm, Tensor m, acc weight);                                      /* m [n,h,w]: mean over pairs; 0 for one */

enum { TERM_SUPPRESS, TERM_EVEN, TERM_EXCLUSIVE, TERM_EMPHASISE, TERMS };
typedef struct {
    Objects objects;
    RegionRule region;
    double memory;                                        /* lambda */
    double weight[TERMS];
    double level;                                         /* kappa */
    bool cv2;                                             /* even in its second form */
    double shape_from;                                    /* suppress and even only from this part of the run */
} Suppress;
typedef struct { Carried memory; Tensor region; acc term[TERMS]; } SuppressState;         /* [n,h,w]; terms unweighted, means over objects */
SuppressState suppress_state(Run *r, const Suppress *p);
/* The energy; par is a Suppress, state a SuppressState. */
acc suppress_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);

/* ---- the released form ---- */
typedef struct {
    Objects objects;                                      /* not smoothed; one token a group */
    Tensor mask;                                          /* [groups,h,w], 0 .. 1; inside is > 0; neither empty nor full */
    double bce, contrast;                                 /* 10, 1 */
    double scale, first, last;                            /* of s_i */
    int total;                                            /* 25 */
} Masked;
int masked_evaluations(const Masked *p, int i);           /* max(1, total - i) - 1 */
/* L at U [tokens,h,w], its gradient written to dU; part (may be NULL): BCE and contrast without their weights. */
acc masked_loss(Run *r, Tensor dU, Tensor U, const Masked *p, acc part[2]);
/* `evaluations` of it with moves up between; U is left at the last, dU is its gradient.  part: one row each, or NULL. */
acc masked_moves(Run *r, Tensor dU, Tensor U, const Masked *p, double step, int evaluations, acc (*part)[2]);
/* Energies; par is a Masked.  The second, sum_t |c(S_t) - c(M_t)|_1 in pixels, was released and never called. */
acc masked_energy  (const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);
acc masked_centroid(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);
double masked_strength(const Clock *c, const double *par);                                /* par: strength, total */
typedef struct { acc x, y, mass; } PixelCentre;
PixelCentre pixel_centre(const real *m, int h, int w);

extern const MethodInfo method_suppress;
#endif
