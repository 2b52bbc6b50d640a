/* resample.h -- changing the size of pictures. */
#ifndef TENSOR_RESAMPLE_H
#define TENSOR_RESAMPLE_H
#include <stdint.h>
#include "tensor/run.h"

/* Bicubic (a = -1/2) with antialiasing of 8-bit RGB pictures [H,W,3], bit for bit as Pillow (13) does it for CLIP's
 * preparation: the horizontal pass, then the vertical one, each rounded to 8 bits; a pass that keeps its size is left out.
 * The vertical pass comes first when it takes away rows, and more than twice as many as the other takes away columns
 * (very tall pictures; earlier Pillows never did so).
 *
 *     out[i] = sum_j w_ij in[j] / sum_j w_ij,   w_ij = k((j + 1/2 - (i + 1/2) s) / max(s, 1)),   s = size in / size out
 *     k(x) = 3/2 |x|^3 - 5/2 x^2 + 1   for |x| < 1,      -1/2 |x|^3 + 5/2 x^2 - 4 |x| + 2   for |x| < 2
 *
 * with the normalised weights rounded to multiples of 2^-22.  E_SHAPE for a size below 1 or above RESAMPLE_MOST. */
enum { RESAMPLE_MOST = 1 << 16 };
bool resample_bicubic_8bit(Run *r, uint8_t *to, int toH, int toW, const uint8_t *from, int H, int W);
/* The window [top, top + S) x [left, left + S) of an RGB picture W pixels wide: pixels [3,S,S] = (v / 255 - mean) / std. */
void pixels_normalised(Run *r, Tensor pixels, const uint8_t *rgb, int W, int top, int left, const double mean[3], const double std[3]);
#endif
