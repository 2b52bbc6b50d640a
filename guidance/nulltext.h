/* nulltext.h -- null-text inversion (Mokady et al., arXiv 2211.09794): DDIM inversion made exact under guidance by an
 * unconditional text of its own for every step.
 *
 *     z*_n .. z*_0   DDIM inversion at scale 1 under the image's prompt (here stored[n] .. stored[0], clean to noise)
 *     u_i = argmin_u  mean | DDIM(z_i; e_u + w (e_c - e_u)) - stored[i+1] |^2,   from u_{i-1}, by Adam with rate 0.01 (1 - i/100),
 *           at most 10 steps, stopping after the step whose loss was below 1e-5 + 2e-5 i
 *     z_{i+1} = DDIM(z_i) with u_i
 * Source: the authors' released code. */
#ifndef GUIDANCE_NULLTEXT_H
#define GUIDANCE_NULLTEXT_H
#include "guidance/methods.h"

typedef struct {
    int inner;                                            /* most Adam steps; 10 */
    double early, slope, rate;                            /* 1e-5, 2e-5, 0.01 */
    double scale;                                         /* of classifier-free guidance; 7.5 */
} NullTextOptions;

/* The state of such a run, first in whatever a caller passes as Method.state. */
typedef struct {
    const Tensor *stored;                                 /* [n+1] */
    Tensor context;                                       /* u: moves */
    Tensor *found;                                        /* [n], receives u_i; NULL: not kept */
    double early, slope;
    int n;                                                /* of them are kept when a fit is interrupted and goes on */
} NullText;

/* The optimisation as a method; what it is made of lives in the run arena, *state where the caller put it. */
bool nulltext_method(Run *r, Method *m, NullText *state, Tensor uncond, Tensor cond, const Tensor *stored, Tensor *found, NullTextOptions o);
/* All of it: stored[n] is given, stored[n-1..0] and found[0..n-1] (tensors made by the caller) are filled. */
bool nulltext_invert(Run *r, const Guide *g, Tensor uncond, Tensor cond, Tensor *stored, Tensor *found, NullTextOptions o);

acc     nulltext_distance(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);
Verdict nulltext_enough(const Clock *c, acc E, View *now, const View *ref, void *state);
double  nulltext_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state);   /* par[0]: rate */

extern const MethodInfo method_nulltext;                  /* the reconstruction, from in->null_text */
#endif
