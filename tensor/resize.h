/* resize.h -- bilinear resizing of [C,h,w] planes with half-pixel centres and antialiasing (the support of the triangle
 * grows with the reduction factor, weights sum to one), as torch's interpolate(mode="bilinear", antialias=True);
 * enlarging is plain bilinear.  Linear, so its backward is the transpose. */
#ifndef TENSOR_RESIZE_H
#define TENSOR_RESIZE_H
#include "tensor/run.h"

void resize_bilinear     (Run *r, Tensor y, Tensor x);    /* y[C,H,W] from x[C,h,w] */
void resize_bilinear_back(Run *r, Tensor dx, Tensor dy);  /* written */
#endif
