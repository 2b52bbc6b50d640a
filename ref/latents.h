/* latents.h -- latents from a file: the tensor "latents", F32 or F64, [C,h,w] or [N,C,h,w], as [N,C,h,w] in the run arena.
 * C: the channels that are expected; 0: any.  E_FILE; E_FORMAT for another shape or type, and for numbers that are not finite. */
#ifndef REF_LATENTS_H
#define REF_LATENTS_H
#include "tensor/run.h"

Tensor latents_read(Run *r, const char *file, int C);
#endif
