/* resize.h -- changing the size of maps of real numbers: half-pixel centres, corners not aligned, as torch's interpolate.
 *
 *     y[i] = sum_k w((k + 1/2 - c) / f) x[k],   c = (i + 1/2) / s        along each direction; s: the scale factor
 *     bilinear   w(d) = 1 - |d|                                                    for |d| < 1
 *     bicubic    w(d) = (a + 2)|d|^3 - (a + 3)|d|^2 + 1                            for |d| < 1
 *                       a|d|^3 - 5a|d|^2 + 8a|d| - 4a                              for |d| < 2
 *
 * Plain: f = 1, places beyond the edge count as the edge, a = -3/4.  Antialias: f = max(1, 1 / s), so that the support grows
 * with the reduction, places beyond the edge are left out, weights are divided by their sum, a = -1/2.
 * Linear, so the backward is the transpose; it is written. */
#ifndef TENSOR_RESIZE_H
#define TENSOR_RESIZE_H
#include "tensor/run.h"

typedef enum { RESIZE_BILINEAR, RESIZE_BICUBIC } ResizeKernel;
typedef struct {
    ResizeKernel kernel;
    bool antialias;
    double sy, sx;                                        /* scale factors; 0: size out / size in */
} Resize;

void resize     (Run *r, Tensor y, Tensor x, Resize how); /* y[N,C,H,W] from x[N,C,h,w] */
void resize_back(Run *r, Tensor dx, Tensor dy, Resize how);
void resize_maps     (Run *r, Tensor y, Tensor x, Resize how);       /* y[N,H,W,C] from x[N,h,w,C] */
void resize_maps_back(Run *r, Tensor dx, Tensor dy, Resize how);

/* The window of y's size that begins at (top, left): y[n,c,i,j] = a[c] x[n,c,top + i,left + j] + b[c].  Back: dx written, 0 outside. */
void crop_planes     (Run *r, Tensor y, Tensor x, int top, int left, const double *a, const double *b);
void crop_planes_back(Run *r, Tensor dx, Tensor dy, int top, int left, const double *a);

void resize_bilinear     (Run *r, Tensor y, Tensor x);    /* with antialias, y[C,H,W] from x[C,h,w] */
void resize_bilinear_back(Run *r, Tensor dx, Tensor dy);
#endif
