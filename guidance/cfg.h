/* cfg.h -- mixing noise predictions: classifier-free guidance (Ho & Salimans 2207.12598) and its relatives.
 * u: unconditional, or for a negative prompt; c: conditional; all [N,...] of one shape.  e may be c; it may not be u. */
#ifndef GUIDANCE_CFG_H
#define GUIDANCE_CFG_H
#include "guidance/schedule.h"

/* e = u + w (c - u): the common convention.  w = 1 is conditional: e is then c, bit for bit, and u may be empty. */
void cfg_mix(Run *r, Tensor e, Tensor u, Tensor c, double w);
/* e = (1 + w) c - w u: the paper's convention; w_common = 1 + w_paper.  At w = 0 u may be empty. */
void cfg_mix_paper(Run *r, Tensor e, Tensor u, Tensor c, double w);
/* e = u + sum_j w_j (c_j - u), j < n; weights may be negative (Liu et al. 2206.01714).  e may be none of its inputs. */
void cfg_compose(Run *r, Tensor e, Tensor u, const Tensor *c, const double *w, int n);
/* Rescale (Lin et al. 2305.08891, eq. 15-16), per image: e <- phi e std(c)/std(e) + (1 - phi) e, unbiased std. */
void cfg_rescale(Run *r, Tensor e, Tensor c, double phi);
/* Adaptive projected guidance (Sadat et al. 2410.02416), per image: d = c - u, shortened to length norm_cap if longer
 * (0: never); par = its part along c, orth = d - par; d' = orth + eta par.
 * e = u + w d', or, from_cond, e = c + (w - 1) d'.  e may be none of its inputs. */
void cfg_project(Run *r, Tensor e, Tensor u, Tensor c, double w, double eta, double norm_cap, bool from_cond);
/* The weight at a level of noise (Kynkaanniemi et al. 2404.07724): w where lo < sigma <= hi, else 1; sigma = sqrt((1-ab)/ab). */
double cfg_interval(double w, double lo, double hi, double alpha_bar);
bool   cfg_inside(double lo, double hi, double alpha_bar);
#endif
