/* cfg.h -- mixing noise predictions: classifier-free guidance (Ho & Salimans 2207.12598) and its relatives. */
#ifndef GUIDANCE_CFG_H
#define GUIDANCE_CFG_H
#include "guidance/schedule.h"

/* e = u + w (c - u): the common convention (w = 1 is conditional).  u empty allowed when w is 1. */
void cfg_mix(Run *r, Tensor e, Tensor u, Tensor c, double w);
/* e = (1 + w) c - w u: the paper's convention; w_common = 1 + w_paper. */
void cfg_mix_paper(Run *r, Tensor e, Tensor u, Tensor c, double w);
/* e = u + sum_j w_j (c_j - u) */
void cfg_compose(Run *r, Tensor e, Tensor u, const Tensor *c, const double *w, int n);
/* Rescale (2305.08891, eq. 15-16): e <- phi e std(c)/std(e) + (1 - phi) e, unbiased std per image. */
void cfg_rescale(Run *r, Tensor e, Tensor c, double phi);
/* Adaptive projected guidance: d = c - u capped to norm r, split parallel/orthogonal to c, d' = orth + eta par;
 * e = (from_cond ? c : u) + (from_cond ? w - 1 : w) d'. */
void cfg_project(Run *r, Tensor e, Tensor u, Tensor c, double w, double eta, double norm_cap, bool from_cond);
/* The weight at a level of noise: w where lo < sigma <= hi, else 1 (2404.07724); sigma = sqrt((1-ab)/ab). */
double cfg_interval(double w, double lo, double hi, double alpha_bar);
#endif
