/* param_parts.h -- what param.c and param_save.c share; nobody else includes it. */
#ifndef NN_PARAM_PARTS_H
#define NN_PARAM_PARTS_H
#include "nn/param.h"

enum { PARAM_BATCH = 1 << 16 };                           /* numbers of a convolution that are permuted at a time, at least one row */

void  params_each(WalkModel *walk, void *model, void visit(Walk *w, Param *p, const char *name), void *self);
bool  param_permuted(const Param *p);                     /* is the order in memory another one than in files? */
real *params_batch(WalkModel *walk, void *model, Arena *scratch, Status *s);         /* room for the largest piece that is permuted */
#endif
