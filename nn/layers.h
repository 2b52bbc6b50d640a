/* layers.h -- parameters bound to one operation: linear, convolution, normalisation.
 * Every layer: parameters, a cache that belongs to one Run, x_forward (run, layer, out, cache, in) and x_backward
 * (run, layer, din, dout, cache).  Input gradients are written, parameter gradients added; empty means not wanted. */
#ifndef NN_LAYERS_H
#define NN_LAYERS_H
#include "nn/param.h"
#include "tensor/conv.h"
#include "tensor/gemm.h"
#include "tensor/norm.h"
#include "tensor/point.h"

typedef struct { Param w, b; } Linear;                    /* w [out,in]; b may be absent */
typedef struct { Param w, b; Conv2d at; } Conv;
typedef struct { Param gamma, beta; int groups; double eps; NormAct act; } Norm;     /* groups 0: layer norm */

typedef struct { Tensor x; } LinearCache;
typedef struct { Tensor x; } ConvCache;
typedef struct { Tensor x, mean, rstd; } NormCache;

Shape  shape_channels(Shape s, int channels);             /* s with another last size */

Linear linear_make(int in, int out, bool bias);
Linear linear_make_1x1(int in, int out);                  /* a 1x1 convolution in the checkpoint ([out,in,1,1]): on NHWC the same thing */
Conv   conv_make(int in, int out, int kernel, int stride, int before, int after);
Norm   norm_make(int channels, int groups, double eps, NormAct act);
void   linear_walk(Linear *l, Walk *w, const char *module);
void   conv_walk(Conv *l, Walk *w, const char *module);
void   norm_walk(Norm *l, Walk *w, const char *module);

/* The input is kept (by reference: its owner keeps it alive) and read by backward only when a weight gradient is wanted. */
void linear_forward (Run *r, const Linear *l, Tensor y, LinearCache *c, Tensor x);
void linear_forward_onto(Run *r, const Linear *l, Tensor y, LinearCache *c, Tensor x, Tensor base);   /* y = base + l(x); base may be y */
void linear_backward(Run *r, Linear *l, Tensor dx, Tensor dy, const LinearCache *c);
void conv_forward (Run *r, const Conv *l, Tensor y, ConvCache *c, Tensor x, Tensor base);     /* y = base + conv(x); base may be y or empty */
void conv_backward(Run *r, Conv *l, Tensor dx, Tensor dy, const ConvCache *c);
/* scale, shift [N,C]: see norm.h; empty for all but scale-and-shift residual blocks. */
void norm_forward (Run *r, const Norm *l, Tensor y, NormCache *c, Tensor x, Tensor scale, Tensor shift);
void norm_backward(Run *r, Norm *l, Tensor dx, Tensor dscale, Tensor dshift, Tensor dy, const NormCache *c, Tensor scale, Tensor shift);
/* The forward output once more, for a weight gradient that reads it; nothing is remembered. */
void norm_again(Run *r, const Norm *l, Tensor y, const NormCache *c, Tensor scale, Tensor shift);
bool linear_trains(const Linear *l);                      /* does a parameter of it want a gradient? */
bool conv_trains(const Conv *l);
/* How the kernels are to be held for images of H x W: as WINOGRAD where that pays and H x W is at least `least` pixels.  True
 * when values were there in another form; they are forgotten and must be loaded anew.  E_OPTION (from conv_forward) for an
 * image where Winograd does not pay: which algorithm runs depends on shapes alone. */
bool conv_plan(Conv *l, int H, int W, int least);
#endif
