/* point.h -- operations element by element.  y may be x in every forward; dx may be dy in every backward.
 *   silu(x) = x sigmoid(x)     gelu(x) = x Phi(x), exact erf     quick_gelu(x) = x sigmoid(1.702 x)
 *   geglu: x[...,2D] -> y[...,D] = a gelu(g), a = first half (value), g = second half (gate) */
#ifndef TENSOR_POINT_H
#define TENSOR_POINT_H
#include "tensor/run.h"

typedef enum { POINT_SILU, POINT_GELU, POINT_QUICK_GELU } PointAct;

void act(Run *r, PointAct f, Tensor y, Tensor x);
void act_back(Run *r, PointAct f, Tensor dx, Tensor dy, Tensor x);       /* written */
void geglu(Run *r, Tensor y, Tensor x);
void geglu_back(Run *r, Tensor dx, Tensor dy, Tensor x);                 /* written */
void add(Run *r, Tensor y, Tensor x);                                    /* y += x */
void axpy(Run *r, Tensor y, real a, Tensor x);                           /* y += a x */
void blend(Run *r, Tensor y, real a, Tensor x, real b, Tensor z);        /* y = a x + b z */
void scale(Run *r, Tensor y, real a, Tensor x, real c);                  /* y = a x + c */
void multiply(Run *r, Tensor y, Tensor x, Tensor z);                     /* y = x z */
/* y[N,...,C] += bias[N,C] of its image; back: dbias[N,C] += sum of dy over the places */
void add_channels(Run *r, Tensor y, Tensor bias);
void add_channels_back(Run *r, Tensor dbias, Tensor dy);
/* Adam's step k = 1, 2, ... (Kingma, Ba 2015), in the order of PyTorch's operations; betas 0.9, 0.999, eps 1e-8; d may be g:
 *   m += (1 - b1)(g - m)     v = b2 v + (1 - b2) g g     d = rate / (1 - b1^k) m / (sqrt(v) / sqrt(1 - b2^k) + eps) */
void adam(Run *r, Tensor d, Tensor m, Tensor v, Tensor g, double rate, int k);
acc  dot(Run *r, Tensor x, Tensor y);                                    /* sum x y, fixed order */
size_t count_nonfinite(Tensor x);
#endif
