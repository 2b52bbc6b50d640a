/* ddpm.h -- one ancestral step (Ho et al. 2006.11239, eq. 7), without clipping:
 *
 *     b = 1 - a/p,   mean = sqrt(p) b/(1-a) x0 + sqrt(a/p) (1-p)/(1-a) x,   var = max(b (1-p)/(1-a), 1e-20)   ("fixed small")
 *     x_prev = mean + sqrt(var) noise      (noise when t > 0)
 *
 * with a = alpha-bar at t, p = alpha-bar at the previous level, 1 before the first. */
#ifndef GUIDANCE_DDPM_H
#define GUIDANCE_DDPM_H
#include "guidance/schedule.h"

/* m: the model's output, of config.prediction's kind.  x0 (empty: not wanted) receives the estimate. */
void ddpm_step(Run *r, const Schedule *s, int t, Tensor x_prev, Tensor x0, Tensor x, Tensor m, Tensor noise);
double ddpm_variance(const Schedule *s, int t);
#endif
