/* pix2pixzero.h -- Pix2Pix-Zero (Parmar et al., arXiv 2302.03027): an edit along a direction in text space.
 *
 *     direction   mean context of the target's sentences - mean context of the source's
 *     inversion   DDIM upwards with the noise pulled towards white noise after every prediction:
 *                     L_ac(e) = sum_channels sum_levels m(x_l, r, rows)^2 + m(x_l, r, columns)^2,  m(x, r, axis) = mean( x roll(x, r, axis) )
 *                     L_kl(e) = var(e) + mean(e)^2 - 1 - log(var(e) + 1e-7),  unbiased variance over all elements
 *                 x_0 a channel, x_{l+1} its 2x2 mean; the last level is the first of at most 8 rows
 *     edit        x <- x - lambda_xa d/dx 1/(2 heads) sum_layers sum (P - P_ref)^2  over all cross-attention maps
 *                 in both branches, each on its own copy of the latent; then classifier-free guidance, and the DDIM step
 *                 from the unconditional copy.
 * Source: the authors' released code, followed wherever it differs from the paper (docs/methods/pix2pix-zero.md). */
#ifndef GUIDANCE_PIX2PIXZERO_H
#define GUIDANCE_PIX2PIXZERO_H
#include "guidance/methods.h"
#include "tensor/random.h"

/* direction [T,D] = mean over target[m,T,D] - mean over source[n,T,D] */
void pixzero_direction(Run *r, Tensor direction, Tensor source, Tensor target);

/* ---- inversion ---- */

typedef struct { double lambda_ac, lambda_kl; int rounds, ac_rolls; } PixzeroNoise;     /* 20, 20, 5, 5 */
extern const PixzeroNoise pixzero_noise;

int  pixzero_levels(int height);                          /* of the pyramid */
/* [calls, channels, levels] shifts, each uniform in 1 .. size/2 - 1 of its level (1 where there is no such number). */
void pixzero_draw(Random *g, int *rolls, int calls, int channels, int height);

/* e [C,H,W]; rolls [channels, levels].  Return the loss and write its gradient (empty: not wanted). */
acc pixzero_autocorrelation(Run *r, Tensor de, Tensor e, const int *rolls);
acc pixzero_divergence(Run *r, Tensor de, Tensor e);
/* Both, in rounds: `ac_rolls` steps of lambda_ac/ac_rolls, one of lambda_kl.  rolls [rounds * ac_rolls, C, levels];
 * log_ac [rounds * ac_rolls] and log_kl [rounds] receive the losses (NULL: not wanted). */
void pixzero_whiten(Run *r, Tensor e, const int *rolls, PixzeroNoise o, double *log_ac, double *log_kl);

/* The timesteps ascending without the first and the last: step i of pixzero_inversion_steps is at pixzero_inversion_t.
 * alpha-bar is read one below each timestep, as the authors' code does. */
int  pixzero_inversion_steps(const Schedule *s);
int  pixzero_inversion_t(const Schedule *s, int i);
/* z [C,H,W] <- one step up, from the prediction of branch `cond` (guidance 1).  raw: the noise as predicted (may be empty). */
void pixzero_inversion_step(Run *r, const Guide *g, Lane *cond, int i, const int *rolls, PixzeroNoise o, Tensor raw,
                            double *log_ac, double *log_kl);

/* ---- edit ---- */

/* 1/2 mean over heads of sum (P - P_ref)^2, summed over the cross-attention sites: with two watched branches, the mean over both. */
acc pixzero_maps(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);
double pixzero_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state);   /* par[0] */

extern const MethodInfo method_pixzero;
#endif
