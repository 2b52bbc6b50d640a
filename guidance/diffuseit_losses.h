/* diffuseit_losses.h -- DiffuseIT's terms as plain functions of features (Kwon & Ye 2209.15264; the weights and what is
 * fed to them: diffuseit.h).  Each returns weight * value and adds weight * gradient to d..., which may be empty.
 *
 *     ssim     mean_ij (S(k)_ij - S(k0)_ij)^2,         S(k)_ij = k_i.k_j / max(|k_i| |k_j|, 1e-8)
 *     contra   mean_i -log( e^(s_ii) / (e^(s_ii) + sum_{j != i} e^(s_ij) + e^(-10/tau)) ),   s_ij = k_i.k0_j / (|k_i| |k0_j| tau)
 *     square   mean (x - y)^2                          class tokens, pictures
 *     range    mean (x - clamp(x,-1,1))^2
 *     toward   -mean_n (e_n / |e_n|) . t               embeddings of n cuts, one unit target
 *
 * k: keys [T,D] of a vision transformer's last block, the class token's among them; k0: the source's. */
#ifndef GUIDANCE_DIFFUSEIT_LOSSES_H
#define GUIDANCE_DIFFUSEIT_LOSSES_H
#include "tensor/run.h"

void diffuseit_similarity(Run *r, Tensor S, Tensor k);    /* S [T,T] */
acc  diffuseit_ssim  (Run *r, Tensor dk, Tensor k, Tensor S0, acc weight);
acc  diffuseit_contra(Run *r, Tensor dk, Tensor k, Tensor k0, double tau, acc weight);
acc  diffuseit_square(Run *r, Tensor dx, Tensor x, Tensor y, acc weight);
acc  diffuseit_range (Run *r, Tensor dx, Tensor x, acc weight);
acc  diffuseit_toward(Run *r, Tensor de, Tensor e, Tensor t, acc weight);
void diffuseit_units (Run *r, Tensor mean, Tensor e);     /* mean [D] over n of e_n / |e_n|; not made unit again */
#endif
