/* tensor_list.h -- the tensors of a file, for eyes and for programs: no number is read. */
#ifndef REF_TENSOR_LIST_H
#define REF_TENSOR_LIST_H
#include "nn/weights.h"
#include "ref/console.h"

typedef struct { int tensors; uint64_t numbers, bytes; } TensorSum;

void tensor_line(const Console *c, TensorSum *sum, const char *name, Dtype type, int rank, const uint64_t *size);
void tensor_sum (const Console *c, const TensorSum *sum, const char *file);
/* All tensors of a file, of every branch: a checkpoint of torch or safetensors. */
bool tensor_list(const Console *c, const char *path, Status *s);
#endif
