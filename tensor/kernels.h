/* kernels.h -- the inner loops, as a table.  plain.c is the definition of every slot; fast.c holds the
 * same slots on vector registers and is compiled once per instruction set (float build only).  A kernel
 * works on one row, or a run of pixels, in one thread and never allocates: its caller owns the memory and
 * the threads.  Lengths may be 0.  Where inputs are NaN outputs are NaN; inputs whose true result
 * overflows give infinities.  y may be x wherever both are rows of the same length.
 *
 * Vector kernels keep sums in real over at most 64 pixels, or 64 elements a lane, and in double beyond. */
#ifndef TENSOR_KERNELS_H
#define TENSOR_KERNELS_H
#include <stddef.h>
#include <stdint.h>
#include "tensor/real.h"

typedef struct Tiles Tiles;                               /* tiles.h: what matrix products and convolutions use */

typedef struct {
    const char *name;
    const Tiles *tiles;

    /* element by element */
    void (*add)     (int n, real *y, const real *x);                                     /* y += x */
    void (*axpy)    (int n, real *y, real a, const real *x);                             /* y += a x */
    void (*affine)  (int n, real *y, real a, const real *x, real c);                     /* y = a x + c */
    void (*blend)   (int n, real *y, real a, const real *x, real b, const real *z);      /* y = a x + b z */
    void (*multiply)(int n, real *y, const real *x, const real *z);                      /* y = x z */
    acc  (*dot)     (int n, const real *x, const real *z);                               /* sum x z */

    /* silu, gelu, quick_gelu in the order of PointAct (point.h); dx = dy f'(x) */
    void (*act[3])     (int n, real *y, const real *x);
    void (*act_back[3])(int n, real *dx, const real *dy, const real *x);
    /* y = a gelu(g) */
    void (*geglu)     (int n, real *y, const real *a, const real *g);
    void (*geglu_back)(int n, real *da, real *dg, const real *dy, const real *a, const real *g);

    /* softmax of a row: m = row_max(x, s);  sum = row_exp(y, x, s, m);  row_scale(y, 1/sum) */
    real (*row_max)  (int n, const real *x, real scale);                                 /* max scale x, scale > 0; NaN skipped; -inf for n = 0 */
    acc  (*row_exp)  (int n, real *y, const real *x, real scale, real max);              /* y = exp(scale x - max), max finite; returns sum y */
    void (*row_scale)(int n, real *y, real a);                                           /* y *= a */
    void (*row_softmax_back)(int n, real *dp, const real *p, real scale);                /* dp := scale p (dp - sum dp p) */

    /* runs of pixels, x[pixels,C]; m, a, b, e, f, shift [C].   v = a (x - m) + b */
    void (*channel_sums)(int pixels, int C, const real *x, const real *shift,
                         real *s, real *q);                                              /* s = sum x - shift, q = sum (x - shift)^2; at most 64 pixels */
    void (*channel_norm[2])(int pixels, int C, real *y, const real *x,
                            const real *m, const real *a, const real *b);                /* y = v; y = silu(v) */
    /* with dv = dy, or dy silu'(v) */
    void (*channel_back_sums[2])(int pixels, int C, const real *dy, const real *x, const real *m, const real *a, const real *b,
                                 real *s, real *q);                                      /* s = sum dv, q = sum dv (x - m); at most 64 pixels */
    void (*channel_norm_back[2])(int pixels, int C, real *dx, const real *dy, const real *x, const real *m, const real *a,
                                 const real *b, const real *e, const real *f);           /* dx = a dv + e (x - m) + f */

    /* u = (x - mean) rstd */
    void (*layernorm)     (int n, real *y, const real *x, const real *gamma, const real *beta, real eps,
                           real *mean, real *rstd);                                      /* y = gamma u + beta */
    void (*layernorm_back)(int n, real *dx, const real *dy, const real *x, real mean, real rstd, const real *gamma);
    void (*layernorm_sums)(int n, real *dgamma, real *dbeta, const real *dy, const real *x, real mean, real rstd);   /* += dy u, += dy */

    /* IEEE half precision and bfloat16 to real: exact, subnormals and infinities included */
    void (*widen_f16) (int n, real *y, const uint16_t *x);
    void (*widen_bf16)(int n, real *y, const uint16_t *x);
} Kernels;

extern const Kernels kernels_plain, kernels_avx2, kernels_avx512, kernels_neon;

const Kernels *kernels_at(int i);                         /* the i-th this processor runs: 0 is plain; NULL at the end */
const Kernels *kernels_pick(const char *name);            /* by name; NULL asks for the best; NULL if there is none */
#endif
