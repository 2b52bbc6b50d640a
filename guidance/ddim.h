/* ddim.h -- one DDIM step (Song et al. 2010.02502, eq. 12), and its inversion.
 *
 *     x_prev = sqrt(p) x0 + sqrt(1 - p - sigma^2) e + sigma noise,   sigma = eta sqrt((1-p)/(1-a)) sqrt(1 - a/p)
 *
 * with a = alpha-bar at t, p = alpha-bar at the previous level.  Two noises: the one that gives x0 and the one that
 * gives the direction; equal for all methods but Asyrp and DragonDiffusion. */
#ifndef GUIDANCE_DDIM_H
#define GUIDANCE_DDIM_H
#include "guidance/schedule.h"

typedef struct { double eta; bool use_clipped; } DdimOptions;         /* use_clipped: direction re-derived from the clipped x0 */

/* Model output m (eps, x0 or v as config.prediction says) -> x0 and eps, both of x's shape [N,...].  Thresholding and
 * clipping of x0 are applied (per image).  Either may be empty. */
void ddim_predict(Run *r, const Schedule *s, int t, Tensor x0, Tensor eps, Tensor x, Tensor m);
/* The step itself from x0 and the direction's eps; noise empty when eta is 0. */
void ddim_combine(Run *r, const Schedule *s, int t, Tensor x_prev, Tensor x0, Tensor eps_dir, Tensor noise, double eta);
/* Both: m_x0 for x0, m_dir for the direction (may be the same tensor).  x0 (empty: not wanted) receives the estimate. */
void ddim_step(Run *r, const Schedule *s, int t, Tensor x_prev, Tensor x0, Tensor x, Tensor m_x0, Tensor m_dir, Tensor noise, DdimOptions o);

/* Inversion: the ascending list of model timesteps, and the step from level `from` (t - T/N; < 0: final) to level t. */
int  ddim_inverse_t(const Schedule *s, int i);            /* i = 0 .. n-1, ascending */
int  ddim_inverse_from(const Schedule *s, int t);
void ddim_inverse_step(Run *r, const Schedule *s, int t, Tensor x_next, Tensor x, Tensor m);
void ddim_add_noise(Run *r, const Schedule *s, int t, Tensor x_t, Tensor x0, Tensor noise);
#endif
