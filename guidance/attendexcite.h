/* attendexcite.h -- Attend-and-Excite (Chefer et al., arXiv 2301.13826): every named token must be strong somewhere.
 *
 *     E = max_k max(0, 1 - max_p m_k(p))               m: objects.h, one token a map
 *     z <- z - s_i dE/dz,                              s_i = 20 sqrt(linspace(1, 1/2, N)[i]), first half of the steps
 *     at steps 0, 10 and 20 of 50 first repeated, while E > 1 - (.05, .5, .8), at most 20 times
 *
 * The released loop tests the loss from before an update, so a repetition that starts makes two updates at least, and
 * the one that starts at or below the target is its last. */
#ifndef GUIDANCE_ATTENDEXCITE_H
#define GUIDANCE_ATTENDEXCITE_H
#include "guidance/objects.h"

/* weight * E of maps m [n,h,w]; dm added when not empty; term[n] = max(0, 1 - max m_k), may be NULL.
 * Only the worst map, the first on a tie, has a gradient, at its first maximum. */
acc excite_worst(Tensor dm, Tensor m, acc weight, acc *term);

/* The energy; par is an Objects. */
acc attend_excite(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);

enum { REFINEMENTS = 4 };
typedef struct { double at[REFINEMENTS], threshold[REFINEMENTS]; } Refinement;            /* at: fraction of the run; < 0: none */
double  refine_strength(const Clock *c, const double *par);                              /* a curve; par is `at` */
Verdict refine_verdict(const Refinement *f, const Clock *c, acc E);
Verdict attend_refined(const Clock *c, acc E, View *now, const View *ref, void *state);  /* state is a Refinement */
Verdict attend_done   (const Clock *c, acc E, View *now, const View *ref, void *state);  /* E = 0 has no gradient */

extern const MethodInfo method_attend;
#endif
