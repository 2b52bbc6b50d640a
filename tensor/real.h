/* real.h -- the number type.  One source, two builds: float is the product, double is the oracle. */
#ifndef TENSOR_REAL_H
#define TENSOR_REAL_H
#include <tgmath.h>             /* sqrt, exp, ... follow the type of their argument */
#undef I                        /* <complex.h> comes along; a loop bound may be called I */
#ifdef TILLER_F64
typedef double real;
#else
typedef float real;
#endif
typedef double acc;             /* sums in plain.c are taken in double in both builds */
#endif
