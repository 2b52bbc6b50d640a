/* conv.h -- two-dimensional convolution on [N,H,W,C] maps, and its gradients.
 *
 *     y[n,i,j,o] = b[o] + sum_{p,q,c}  x[n, i s + p - before, j s + q - before, c]  w[o,p,q,c]
 *
 * Weights in memory are [O,kh,kw,I] (files hold [O,I,kh,kw]; param.h converts).  Zero padding `before`
 * rows and columns at the top and left, `after` at the bottom and right.
 * Output size: (H + before + after - kh) / stride + 1, rounded down.
 * 3x3 stride-1 maps may use Winograd F(2,3) (float build only) where the shape of one image pays: then
 * `u` holds the transformed kernels and is used both ways.  The choice depends on shapes alone. */
#ifndef TENSOR_CONV_H
#define TENSOR_CONV_H
#include "tensor/run.h"

typedef struct { int stride, before, after; } Conv2d;

Shape conv2d_shape(Shape x, Shape w, Conv2d c);           /* of y */

/* b, u and add may be empty.  `add` (y's shape, may be y itself) is added to the result: a residual costs no extra pass. */
void conv2d(Run *r, Tensor y, Tensor x, Tensor w, Tensor b, Tensor u, Tensor add, Conv2d c);
/* dx written, dw and db added to; each may be empty.  x is read only for dw; w not when u serves. */
void conv2d_back(Run *r, Tensor dx, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w, Tensor u, Conv2d c);

enum { WINOGRAD_ROWS = 32 };                              /* outputs that lie side by side in u */
bool winograd_pays(int H, int W, int I, int O);           /* for a 3x3, stride 1, padding 1 convolution of this image size */
Shape winograd_shape(Shape w);                            /* of u */
void winograd_weights(Run *r, Tensor u, Tensor w);
/* The same for outputs first .. first + count (multiples of WINOGRAD_ROWS) from kernels as files hold them, [count,I,3,3]. */
void winograd_rows(Tensor u, const real *kernels, int first, int count);
#endif
