/* pool.h -- what convolutional classifiers have between convolutions, on [N,H,W,C] maps. */
#ifndef TENSOR_POOL_H
#define TENSOR_POOL_H
#include "tensor/run.h"

/* y[N,H/s,W/s,C] = mean over s x s places; rows and columns beyond the last whole window are not read. */
void mean_pool     (Run *r, Tensor y, Tensor x, int s);
void mean_pool_back(Run *r, Tensor dx, Tensor dy, int s);            /* written */
/* y[i,j] = max over the size x size window at (i stride, j stride); y [N,(H - size)/stride + 1,...].  The gradient goes to the
 * first place, row by row, that holds the maximum. */
void max_pool     (Run *r, Tensor y, Tensor x, int size, int stride);
void max_pool_back(Run *r, Tensor dx, Tensor dy, Tensor x, int size, int stride);    /* written */
void relu     (Run *r, Tensor y, Tensor x);               /* y may be x */
void relu_back(Run *r, Tensor dx, Tensor dy, Tensor y);   /* dx = dy where y > 0, else 0; y is the forward's result */

/* Batch normalisation in inference form:  y = f(gamma (x - mean) / sqrt(var + eps) + beta + base),  f = relu or identity;
 * base may be empty; y may be x. */
typedef struct { Tensor gamma, beta, mean, var; } BatchNorm;          /* [C] each */
void batchnorm(Run *r, Tensor y, Tensor x, BatchNorm n, real eps, Tensor base, bool rectify);
/* y: the forward's result when it was rectified, else empty.  dx and dbase written (may be empty, dx may be dy); dgamma and dbeta
 * added to (may be empty); x is read only for dgamma. */
void batchnorm_back(Run *r, Tensor dx, Tensor dgamma, Tensor dbeta, Tensor dbase, Tensor dy, Tensor x, Tensor y, BatchNorm n, real eps);
#endif
