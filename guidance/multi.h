/* multi.h -- several objects from published terms, one update a step.  Of maps m_c (objects.h), n of them:
 *
 *     excite      max_c max(0, 1 - max m_c)                                         Attend-and-Excite, 2301.13826
 *     segregate   sum_{c>d} sum min(m_c,m_d) / sum (m_c + m_d)                      A-STAR, 2306.14544
 *     retain      sum_c 1 - sum min(m_c,B_c) / sum (m_c + B_c)                      A-STAR
 *     suppress    1/(n(n-1)) sum_{c != d} sum(m_c O_d) / max(1, sum O_d)            BoxDiff 2307.10816, a found region for the box
 *     box         mean over layers, boxed objects, tokens and heads of (1 - sum_{in box} P / sum P)^2         2304.03373
 *
 * O_d = [d = argmax_c m_c, the first of equals, and m_d >= max m_d / 2], B_c = [m_c >= max m_c / 2] of the step before;
 * both constants.  Excite, suppress and box in the first half of the steps, segregate and retain always. */
#ifndef GUIDANCE_MULTI_H
#define GUIDANCE_MULTI_H
#include "guidance/astar.h"
#include "guidance/attendexcite.h"

enum { MULTI_EXCITE, MULTI_SEGREGATE, MULTI_RETAIN, MULTI_SUPPRESS, MULTI_BOX, MULTI_TERMS };
typedef struct {
    Objects objects;
    double weight[MULTI_TERMS];
    double fraction, early;                               /* 1/2: of a maximum; of the steps */
    Want box_want;                                        /* layers of the box term */
    double box[MOST_GROUPS][4];                           /* x0, y0, x1, y1 in fractions, ends truncated to cells; x1 <= x0: no box */
} Multi;
typedef struct { Refinement refine; Carried hot; Tensor owner; acc term[MULTI_TERMS]; } MultiState;       /* [n,h,w]; terms unweighted, box while it acts */
MultiState multi_state(Run *r, const Multi *p);

void multi_owners(Tensor owner, Tensor m, double fraction);
acc  multi_suppress(Tensor dm, Tensor m, Tensor owner, acc weight);
/* weight * box term, adjoints added where there are any. */
acc  multi_box(Run *r, View *now, const Multi *p, acc weight);

/* The energy; par is a Multi, state a MultiState. */
acc multi_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);

extern const MethodInfo method_multi;
#endif
