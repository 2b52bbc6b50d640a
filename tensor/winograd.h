/* winograd.h -- the 3x3 convolution of conv.h as F(2x2,3x3) (Winograd 1980; Lavin & Gray 2016), stride 1, padding 1:
 *
 *     Y = A^T [ sum_c (G g G^T) . (B^T d B) ] A       for every tile of 2x2 outputs, d its 4x4 inputs
 *
 * 16 products [tiles,I] [I,O] take the place of one [4 tiles,9 I] [9 I,O]: 2.25 times fewer multiplications.
 * u holds G g G^T as u[p][O/32][I][32], p = 4 i + j.
 * The gradient with respect to the input is the convolution with the kernel turned by 180 degrees, inputs and
 * outputs exchanged.  Turning g exchanges rows 0 and 3 of G g and leaves 1 and 2, so backward reads plane
 * (s(i), s(j)), s = 3 1 2 0, of the same u. */
#ifndef TENSOR_WINOGRAD_H
#define TENSOR_WINOGRAD_H
#include "tensor/run.h"

/* back: x is dy, y is dx.  Scratch comes from temp and is not given back. */
void winograd(Run *r, Tensor y, Tensor x, Tensor u, Tensor b, Tensor add, bool back);
#endif
