/* objects.h -- what the methods for several objects share: one map an object, from the cross-attention of the conditional
 * pass, and the way back from maps to probabilities.
 *
 *     A[q,k]   = mean of P over all heads of all layers in `sites`          (all of one size h x w)
 *     S_k      = exp(s A_k) / sum_{j=1}^{last-1} exp(s A_j)                 k = 1 .. last-1;  the begin mark stays out
 *     m_c      = G * mean_{k in group c} S_k                                G: 3x3, [e^-1 1 e^-1] in each direction, reflected
 *
 * s = 100 and last = tokens - 1 in Attend-and-Excite (Chefer et al., arXiv 2301.13826) and all that came after it; with
 * the end mark left out as well last is the end mark's position.  The kernel is the released one, exp(-(d/(2 sigma))^2)
 * with sigma 1/2, not exp(-d^2/(2 sigma^2)). */
#ifndef GUIDANCE_OBJECTS_H
#define GUIDANCE_OBJECTS_H
#include "guidance/methods.h"

enum { MOST_GROUPS = 32 };
typedef struct {
    Want want;                                            /* the cross-attention layers looked at */
    int h, w;                                             /* size of a map */
    double sharp;                                         /* s; 0: S is A itself */
    bool smooth;                                          /* G, or nothing */
    int last;                                             /* 0: tokens - 1 */
    int group[MOST_GROUPS][OBJECT_TOKENS], size[MOST_GROUPS], groups;
    int of[MOST_GROUPS];                                  /* which of the input's objects it came from */
} Objects;

/* What objects_see made, temporaries of the caller: A [h w, tokens], S [last-1, h, w] (row k-1 is token k), m [groups, h, w]. */
typedef struct { Tensor A, S, m; } ObjectMaps;

void objects_see (Run *r, ObjectMaps *maps, const Objects *o, const View *now);
/* Gradients at the maps, or at all of S (either may be empty), to the adjoints of the probabilities: added. */
void objects_pull(Run *r, View *now, Tensor dm, Tensor dS, const Objects *o, const ObjectMaps *maps);

/* The pieces.  Every _back writes. */
void map_mean     (Run *r, Tensor A, const Objects *o, const View *now);
void map_mean_back(Run *r, View *now, Tensor dA, const Objects *o);                       /* added */
void map_sharpen     (Run *r, Tensor S, Tensor A, double sharp);
void map_sharpen_back(Run *r, Tensor dA, Tensor dS, Tensor S, double sharp);
void map_smooth     (Tensor y, Tensor x);                 /* [h,w] */
void map_smooth_back(Tensor dx, Tensor dy);

/* 1 where m >= fraction max m; no gradient. */
void map_hot(Tensor hot, Tensor m, double fraction);
/* weight * sum min(a,b) / sum (a+b); da, db added when not empty; at equality each gets half.  0 where both vanish. */
acc map_overlap(Tensor da, Tensor db, Tensor a, Tensor b, acc weight);

/* Maps that go from step to step.  Turned at the first look of a step: `now` becomes `before`, and is to be filled. */
typedef struct { Tensor before, now; int step; bool seen, has_before; } Carried;
Carried carried_make(Run *r, Shape s);                    /* in the run arena */
void    carried_lasts(Carried *m, const Keeper *k);        /* for Method.lasts */
void    carried_turn(Carried *m, const Clock *c);         /* an earlier step than the last: another run, all is forgotten */

/* ---- for build ---- */
/* The cross-attention layers whose maps are the latent's size halved `halvings` times (negative: twice, or less often
 * where the network has not several layers there: the middle alone does not count); one group an object, or one a
 * token.  E_OPTION when the network has none there, or there are no objects. */
bool objects_of(Run *r, Objects *o, const MethodInput *in, int halvings, bool apart);
/* Sites matching both: a comma-separated list in the run arena; NULL with E_OPTION when there are none. */
const char *objects_sites(Run *r, const MethodInput *in, const char *patterns, int h, int w);
void objects_branches(Branch b[2], const MethodInput *in);

/* ---- schedules of the Attend-and-Excite family ---- */
double object_step_size(int i, int n, double scale, double first, double last);           /* scale sqrt(linspace(first,last,n)[i]) */
/* par: scale, first, last. */
double object_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state);
/* par: strength, from, until: fractions of the run, rounded to whole steps. */
double object_strength(const Clock *c, const double *par);
bool   object_early(const Clock *c, double from, double until);
#endif
