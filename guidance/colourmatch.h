/* colourmatch.h -- the linear map of colours that carries one picture's mean and covariance onto another's, moving least
 * (Monge-Kantorovich; Pitie & Kokaram 2007):
 *
 *     x' = T (x - mean x) + mean y,     T = A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2)
 *
 * A, B: covariances of the colours of x and y (n - 1).  An eigenvalue v of A counts as 1 / (sqrt v + 2.2e-16) in A^(-1/2). */
#ifndef GUIDANCE_COLOURMATCH_H
#define GUIDANCE_COLOURMATCH_H
#include "tensor/run.h"

/* Eigenvalues w and vectors (columns of V) of a symmetric matrix, by rotations (Jacobi 1846). */
void colourmatch_eigen(double w[3], double V[3][3], const double A[3][3]);
/* Colours are planes [3,...]; x and y may differ in size.  out may be x.  E_SHAPE for fewer than two pixels. */
void colourmatch(Run *r, Tensor out, Tensor x, Tensor y);

typedef enum { COLOURMATCH_NONE, COLOURMATCH_MKL, COLOURMATCH_STRETCH } ColourMatch;
/* A finished picture x [3,H,W] in [-1,1] in the colours of y [3,h,w], in place.  Both are stretched by their own least and
 * greatest number to [0,1], matched, and cut off at 0 and 1 (MKL), or stretched once more (STRETCH: the full range always). */
void colourmatch_picture(Run *r, Tensor x, Tensor y, ColourMatch how);
#endif
