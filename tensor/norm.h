/* norm.h -- normalisations of [N,H,W,C] maps and [N,T,C] tokens, with gradients.
 *
 * groupnorm:   u = (x - mu_g) s_g,  s_g = 1/sqrt(var_g + eps)  over the pixels and channels of a group (biased variance)
 *              v = (gamma u + beta) (1 + scale) + shift        scale, shift [N,C]: per image; both may be empty
 *              y = act(v)                                      act: identity or silu
 * layernorm:   the same over the C channels of each token, no act.
 * mean, rstd:  [N,groups] or [N,T]: written by forward, read by backward.  y may be x itself when nothing needs x later. */
#ifndef TENSOR_NORM_H
#define TENSOR_NORM_H
#include "tensor/run.h"

typedef enum { ACT_NONE, ACT_SILU } NormAct;
typedef struct { Tensor gamma, beta, scale, shift; } Affine;              /* or their gradients */

void groupnorm(Run *r, Tensor y, Tensor mean, Tensor rstd, Tensor x, Affine a, real eps, NormAct act);
/* dx written; da.gamma, da.beta [C] and da.scale, da.shift [N,C] added to; each may be empty. */
void groupnorm_back(Run *r, Tensor dx, Affine da, Tensor dy, Tensor x, Tensor mean, Tensor rstd, Affine a, NormAct act);

void layernorm(Run *r, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor gamma, Tensor beta, real eps);
void layernorm_back(Run *r, Tensor dx, Tensor dgamma, Tensor dbeta, Tensor dy, Tensor x, Tensor mean, Tensor rstd, Tensor gamma);
#endif
