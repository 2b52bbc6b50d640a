/* resample.h -- changing the size of pictures. */
#ifndef TENSOR_RESAMPLE_H
#define TENSOR_RESAMPLE_H
#include <stdint.h>
#include "tensor/run.h"

/* Bicubic (a = -0.5) with antialiasing, horizontal pass then vertical pass, each rounded to 8 bits: the
 * resize of 8-bit RGB pictures [H,W,3] that CLIP's preparation uses (as PIL does it). */
bool resample_bicubic_8bit(Run *r, uint8_t *to, int toH, int toW, const uint8_t *from, int H, int W);
#endif
