/* weights.h -- the tensors of one component folder: one safetensors file, or several behind an index.
 * For stem "diffusion_pytorch_model" or "model", in this order: STEM.safetensors, STEM.safetensors.index.json,
 * STEM.fp16.safetensors (.bf16.), STEM.non_ema.safetensors.  Pickles (.bin, .ckpt) are never loaded: the error says so. */
#ifndef NN_WEIGHTS_H
#define NN_WEIGHTS_H
#include "tensor/safetensors.h"

typedef struct {
    Safetensors *file;
    int files;
    Arena arena;                                          /* headers */
} Weights;

bool weights_open (Weights *w, const char *folder, const char *stem, Status *s);
bool weights_open_file(Weights *w, const char *path, Status *s);
void weights_close(Weights *w);
const SafeEntry *weights_find(const Weights *w, const char *name, const Safetensors **in);
#endif
