/* asyrp.h -- Asyrp (Kwon, Jeong, Uh 2022, arXiv:2210.10960): an unconditional diffusion model has a semantic space, the output h of
 * its middle block, and x0 alone is predicted from the shifted h.
 *
 *     h~ = c0 h + sum_k c_k f_k(h, t)                           f_k: delta.h; every block sees the unshifted h
 *     P  = (x - sqrt(1-a) eps(x | h~)) / sqrt(a)                where t >= t_edit, else from h itself
 *     x' = sqrt(a') P + sqrt(1-a'-s^2) eps(x | h) + s z         s of DDIM with eta = 1 where t < t_boost, else 0
 *
 * One pass of the encoder, two of the decoder.  In a Stable Diffusion h is the same place, and both branches of classifier-free
 * guidance are shifted. */
#ifndef GUIDANCE_ASYRP_H
#define GUIDANCE_ASYRP_H
#include "guidance/methods.h"
#include "nn/delta.h"

enum { ASYRP_DELTAS = 8, ASYRP_T_EDIT = 500, ASYRP_T_BOOST = 200 };

typedef struct {
    const Delta *const *delta;
    double c[ASYRP_DELTAS], c0;
    int deltas;
    bool timeless;                                        /* blocks without their time */
    double slerp;                                         /* > 0: instead, h~ = slerp(slerp; h, d |h| / |d|), d = sum_k c_k f_k */
} AsyrpShift;

/* y = h~ of h [N,C,h,w], silu(time embedding) [N,4*C0] at time t.  cache[deltas] for asyrp_shift_back, or NULL. */
void asyrp_shift     (Run *r, Tensor y, const AsyrpShift *a, DeltaCache *cache, Tensor h, Tensor silu_temb, double t);
/* Gradients of the blocks' parameters (delta[k] is written through) from dy; not for slerp. */
void asyrp_shift_back(Run *r, const AsyrpShift *a, Delta *const *delta, Tensor dy, const DeltaCache *cache);
/* Per image, theta = angle of u and v over all their numbers: y = sin((1-w) theta)/sin(theta) u + sin(w theta)/sin(theta) v, with their
 * lengths as they are; linear where sin(theta) < 1e-6.  y may be u. */
void asyrp_slerp(Run *r, Tensor y, Tensor u, Tensor v, double w);
void asyrp_lerp (Run *r, Tensor y, Tensor u, Tensor v, double w);
/* c_k = strength w_k (n_train / n_test) / sqrt(k): several attributes at once (k blocks). */
void asyrp_coefficients(AsyrpShift *a, const double *weight, double strength, int n_train, int n_test);

/* n times from 0 to t0: int(i t0 / (n-1) + 1e-6), ascending.  E_OPTION when two are equal. */
bool asyrp_sequence(int *t, int n, int t0, Status *s);
/* A model's schedule with such a list: the level before an entry is the next lower entry's, 1 at the end; nothing is clipped. */
bool asyrp_schedule(Schedule *s, const ScheduleConfig *c, AlphaKind alphas, const int *t, int n, Arena *a, Status *status);
/* Network output m (eps, v, x0) to the unedited level t_next > t: the way up, and its image is at level t[0], not at 0. */
void asyrp_invert_step(Run *r, const Schedule *s, int t, int t_next, Tensor x_next, Tensor x, Tensor m);

/* The published tables: t_edit, where LPIPS(P_t, x0) reaches 0.33 cosine, and t_boost, where LPIPS(x_t, x0) reaches 1.2, linear between
 * the columns 0.20 .. 0.34 and to the nearest integer.  cosine: of the two texts' CLIP features.  E_OPTION names the sets, or the range. */
bool asyrp_interval(int *t_edit, int *t_boost, const char *set, double cosine, Status *s);

/* Outputs of x [N,C,H,W] at t, one pass of the encoder: eps as it is, eps_edit from the shifted h (empty: not wanted), h itself
 * (may be empty).  A learned variance is left out. */
void asyrp_predict(Run *r, const Unet *u, Tensor eps, Tensor eps_edit, Tensor h, const AsyrpShift *a, Tensor x, double t, Tensor context);

extern const MethodInfo method_asyrp;
#endif
