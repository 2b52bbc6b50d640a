/* shape.h -- operations that only move numbers. */
#ifndef TENSOR_SHAPE_H
#define TENSOR_SHAPE_H
#include "tensor/run.h"

void nchw_to_nhwc(Run *r, Tensor y, Tensor x);            /* y[N,H,W,C] = x[N,C,H,W]: the border of every network */
void nhwc_to_nchw(Run *r, Tensor y, Tensor x);
void concat(Run *r, Tensor y, Tensor a, Tensor b);        /* along the last size: y[...,A+B], a first */
void split(Run *r, Tensor a, Tensor b, Tensor y);         /* its inverse, which is its backward; a or b may be empty */
void slice(Run *r, Tensor y, Tensor x, int first);        /* y[...,D] = x[..., first : first + D], last size */
void slice_back(Run *r, Tensor dx, Tensor dy, int first); /* dx[..., first : first + D] += dy */
void double_nearest(Run *r, Tensor y, Tensor x);          /* y[n,i,j] = x[n,i/2,j/2]; y is [N,2H or 2H-1, 2W or 2W-1, C] */
void double_nearest_back(Run *r, Tensor dx, Tensor dy);   /* written */
void transpose(Run *r, Tensor y, Tensor x);               /* y[N,B,A] = x[N,A,B] (or rank 2) */
#endif
