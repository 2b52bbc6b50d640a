/* astar.h -- A-STAR (Agarwal et al., arXiv 2306.14544): objects in different places, and each where it was the step before.
 *
 *     segregate   sum_{c>d} sum_p min(m_c,m_d) / sum_p (m_c + m_d)
 *     retain      sum_c 1 - sum_p min(m_c,B_c) / sum_p (m_c + B_c)
 *     z <- z - s_i d(segregate + retain)/dz        every step, s_i of Attend-and-Excite
 *
 * No code was released.  Ours: m of objects.h; B_c = [m_c >= max m_c / 2] of the step before, taken before its update,
 * no gradient; no retain at the first step. */
#ifndef GUIDANCE_ASTAR_H
#define GUIDANCE_ASTAR_H
#include "guidance/objects.h"

/* weight * term of maps m [n,h,w]; dm added when not empty. */
acc astar_segregate(Tensor dm, Tensor m, acc weight);
acc astar_retain(Tensor dm, Tensor m, Tensor before, acc weight);

typedef struct {
    Objects objects;
    double segregate, retain;                             /* weights */
    double fraction;                                      /* of the maximum, for B */
    Tensor mask;                                          /* [n,h,w] in place of B; empty: B */
} Astar;

/* The energy; par is an Astar, state a Carried of [n,h,w]. */
acc astar_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);

extern const MethodInfo method_astar;
#endif
