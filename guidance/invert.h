/* invert.h -- DDIM upwards (Dhariwal & Nichol 2105.05233, appendix F; Song et al. 2010.02502), one prediction a step, scale 1.
 * Latents are [C,h,w]; stored[i] is the latent that step i of sampling starts from, stored[n] the clean one.
 * With a process (guide.h) the network is asked at the level where the latent is, the clean one taken for level 0, and x0 is
 * clamped: step i leads from t[i] to the level above it, of which the noisiest has none (gaussian.h, reverse). */
#ifndef GUIDANCE_INVERT_H
#define GUIDANCE_INVERT_H
#include "guidance/guide.h"

/* From the level below schedule->t[i] to that of t[i]; `to` may be `from`.  E_NUMBER when a number is no longer finite. */
void guide_invert_step(Run *r, const Guide *g, Tensor context, int i, Tensor to, Tensor from);
/* stored[n] is given; fills stored[n-1] .. stored[0] (tensors made by the caller). */
void guide_invert(Run *r, const Guide *g, Tensor context, Tensor *stored);
#endif
