/* ddim.h -- one DDIM step (Song et al. 2010.02502, eq. 12), and its inversion.
 *
 * With a = alpha-bar at t and the model's output m:
 *
 *     eps    x0 = (x - sqrt(1-a) m) / sqrt(a)             e = m
 *     x0     x0 = m                                       e = (x - sqrt(a) x0) / sqrt(1-a)
 *     v      x0 = sqrt(a) x - sqrt(1-a) m                 e = sqrt(a) m + sqrt(1-a) x          (2202.00512, appendix D)
 *
 *     thresholding   per image: s = clamp(quantile_q |x0|, 1, max);  x0 = clamp(x0, -s, s) / s      (2205.11487, section 2.3)
 *     else clipping  x0 = clamp(x0, -range, range)
 *
 *     x_prev = sqrt(p) x0 + sqrt(1 - p - sigma^2) e + sigma noise,   sigma = eta sqrt((1-p)/(1-a)) sqrt(1 - a/p)
 *
 * with p = alpha-bar at the previous level.  Two noises: the one that gives x0 and the one that gives the direction;
 * equal for all methods but Asyrp and DragonDiffusion.
 * Tensors are [N,...], all of x's shape; coefficients are formed in double.  Errors: E_SHAPE; E_OPTION for t or eta out
 * of range, for eta > 0 without noise, and where a prediction would divide by zero. */
#ifndef GUIDANCE_DDIM_H
#define GUIDANCE_DDIM_H
#include "guidance/schedule.h"

typedef struct { double eta; bool use_clipped; } DdimOptions;         /* eta in [0,1]; use_clipped: direction re-derived from the clipped x0 */

/* Model output m -> x0 and eps.  Thresholding and clipping of x0 are applied; eps is as predicted.  Either may be
 * empty; x0 may be x or m only when eps is empty. */
void ddim_predict(Run *r, const Schedule *s, int t, Tensor x0, Tensor eps, Tensor x, Tensor m);
/* The step itself from x0 and the direction's eps; noise empty when eta is 0.  x_prev may be x0 or eps_dir. */
void ddim_combine(Run *r, const Schedule *s, int t, Tensor x_prev, Tensor x0, Tensor eps_dir, Tensor noise, double eta);
/* Both: m_x0 for x0, m_dir for the direction (may be the same tensor).  x0 (empty: not wanted) receives the estimate;
 * x_prev may be x. */
void ddim_step(Run *r, const Schedule *s, int t, Tensor x_prev, Tensor x0, Tensor x, Tensor m_x0, Tensor m_dir, Tensor noise, DdimOptions o);
double ddim_sigma(const Schedule *s, int t, double eta);

/* Inversion: the ascending list of model timesteps, and the step from level `from` = t - T/N (< 0: final) to level t:
 *     x0, e from m at level `from`;  clipping, not thresholding;  x_next = sqrt(a_t) x0 + sqrt(1 - a_t) e
 * The model is asked at (x, t) although x is at level `from`: that is the approximation of the method. */
int  ddim_inverse_t(const Schedule *s, int i);            /* i = 0 .. n-1, ascending */
int  ddim_inverse_from(const Schedule *s, int t);
void ddim_inverse_step(Run *r, const Schedule *s, int t, Tensor x_next, Tensor x, Tensor m);     /* x_next may be x */
void ddim_add_noise(Run *r, const Schedule *s, int t, Tensor x_t, Tensor x0, Tensor noise);      /* sqrt(a) x0 + sqrt(1-a) noise */
#endif
