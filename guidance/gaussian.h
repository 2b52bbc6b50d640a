/* gaussian.h -- the diffusion process of the pixel-space models (Ho et al. 2006.11239; Nichol & Dhariwal 2102.09672;
 * Dhariwal & Nichol 2105.05233), over the times that a respacing keeps.
 *
 *     beta'_j = 1 - ab[t_j] / ab[t_{j-1}],  ab[t_{-1}] = 1;   below, a index j is written and a = ab_j, p = ab_{j-1}, b = beta'_j
 *
 *     x0 = sqrt(1/a) x - sqrt(1/a - 1) eps,      eps = (sqrt(1/a) x - x0) / sqrt(1/a - 1)
 *     mean = b sqrt(p)/(1-a) x0 + (1-p) sqrt(1-b)/(1-a) x
 *     posterior variance = b (1-p)/(1-a);  its logarithm at 0 is that at 1
 *     variance   small: the posterior's;   large: b, at 0 the posterior's at 1;
 *                learned: log = f log b + (1-f) log posterior,  f = (v+1)/2,  v the second half of the network's channels
 *     ancestral  x' = mean + exp(log variance / 2) z
 *     DDIM       sigma = eta sqrt((1-p)/(1-a)) sqrt(1 - a/p);   x' = sqrt(p) x0 + sqrt(1-p-sigma^2) eps + sigma z
 *     reverse    x' = sqrt(n) x0 + sqrt(1-n) eps,  n = ab_{j+1}, 0 after the last
 *
 * At j = 0 no noise is added (z is drawn all the same where a sampler draws).  Coefficients are formed in double; tensors of
 * one call have one shape [N,C,H,W] or [C,H,W].  Errors: E_SHAPE; E_OPTION for an index that is not there. */
#ifndef GUIDANCE_GAUSSIAN_H
#define GUIDANCE_GAUSSIAN_H
#include "guidance/schedule.h"

typedef enum { VARIANCE_SMALL, VARIANCE_LARGE, VARIANCE_LEARNED } Variance;

typedef struct {
    Schedule schedule;                                    /* the same process for what asks by time: t descending, previous by list */
    Variance variance;
    bool clamp;                                           /* x0 is clamped to [-1,1] */
    double time_scale;                                    /* the network is told t time_scale; 1, or 1000/T */
    int n;
    int *t;                                               /* [n] ascending: training times */
    double *beta, *alpha_bar, *alpha_bar_prev;            /* [n] each */
    double *posterior, *log_posterior;                    /* variance; its clipped logarithm */
    double *mean_x0, *mean_x;                             /* the two coefficients of the mean */
} Gaussian;

/* Linear betas scaled to T steps (1e-4 .. 0.02 at 1000), or cosine ones; noise prediction, clamped to [-1,1]. */
ScheduleConfig gaussian_config(BetaKind beta, int T);
/* c: betas, T and clip_sample (with range 1) are used.  E_OPTION: see respace_times; fewer than 2 times. */
bool gaussian_make(Gaussian *g, const ScheduleConfig *c, const char *respacing, Variance variance, Arena *a, Status *s);
int  gaussian_index(const Gaussian *g, int t);            /* j of a kept time; -1: it is not kept */

void gaussian_x0 (Run *r, const Gaussian *g, int j, Tensor x0, Tensor x, Tensor eps);            /* never clamped; x0 may be x or eps */
void gaussian_eps(Run *r, const Gaussian *g, int j, Tensor eps, Tensor x, Tensor x0);            /* eps may be x or x0 */
void gaussian_clamp(Run *r, const Gaussian *g, Tensor x0);                                       /* when g->clamp */
void gaussian_mean(Run *r, const Gaussian *g, int j, Tensor mean, Tensor x0, Tensor x);          /* mean may be either */
/* v is read by the learned variance only (and may be empty otherwise); log_variance may be v. */
void gaussian_log_variance(Run *r, const Gaussian *g, int j, Tensor log_variance, Tensor v);
void gaussian_variance    (Run *r, const Gaussian *g, int j, Tensor variance, Tensor v);
/* A network's output m of x's shape, or of twice its channels (eps, then v), in two.  v may be empty. */
void gaussian_split(Run *r, Tensor eps, Tensor v, Tensor m);
/* All of the above for a network's output m: mean, log_variance and the (clamped) x0, each of which may be empty. */
void gaussian_predict(Run *r, const Gaussian *g, int j, Tensor mean, Tensor log_variance, Tensor x0, Tensor x, Tensor m);

void gaussian_ancestral(Run *r, const Gaussian *g, int j, Tensor x_prev, Tensor mean, Tensor log_variance, Tensor noise);
double gaussian_sigma(const Gaussian *g, int j, double eta);                                     /* of DDIM */
void gaussian_ddim   (Run *r, const Gaussian *g, int j, Tensor x_prev, Tensor x0, Tensor eps, Tensor noise, double eta);
void gaussian_reverse(Run *r, const Gaussian *g, int j, Tensor x_next, Tensor x0, Tensor eps);
void gaussian_noised (Run *r, const Gaussian *g, int j, Tensor x_t, Tensor x0, Tensor noise);    /* sqrt(a) x0 + sqrt(1-a) noise */
/* A sample in [-1,1] as these models' authors store it: (x + 1) 127.5, kept in 0 .. 255, truncated. */
uint8_t gaussian_byte(real x);
#endif
