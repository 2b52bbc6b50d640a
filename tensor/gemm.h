/* gemm.h -- matrix products: BLAS when built in (single-threaded, called inside our own tasks), else own
 * blocked loops in a fixed order.  Tasks have borders that depend on the shape of ONE image alone, so the
 * result has the same bits for any number of threads and any batch. */
#ifndef TENSOR_GEMM_H
#define TENSOR_GEMM_H
#include "tensor/run.h"

/* C[M,N] = alpha op(A) op(B) + beta C, row-major; op(A) is A[M,K], or A[K,M] transposed when ta; likewise B.
 * Leading dimensions are row strides.  One thread; may be called from inside a parallel region. */
void gemm(const Run *r, bool ta, bool tb, int M, int N, int K, real alpha, const real *A, int lda,
          const real *B, int ldb, real beta, real *C, int ldc);

/* y[N,T,O] = x[N,T,I] w[O,I]^T + b[O]  (+ y when `add`).  Also takes [N,H,W,C] maps (T = H*W) and [T,I]
 * matrices (one image of T rows).  b may be empty. */
void linear(Run *r, Tensor y, Tensor x, Tensor w, Tensor b, bool add);
/* dx = dy w (written);  dw += dy^T x;  db += sum dy.  Any of dx, dw, db may be empty.  x is read only for dw. */
void linear_back(Run *r, Tensor dx, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w);

/* For operations built on products: */
void  gemm_begin(const Run *r);                           /* before a parallel region whose tasks multiply */
void  gemm_blas(bool tb, int M, int N, int K, const real *A, int lda, const real *B, int ldb, bool add, real *C, int ldc);
void  columns_sum(Run *r, real *out, const real *x, size_t rows, int columns);       /* out[columns] += sum of the rows of x */


bool gemm_has_blas(void);
const char *gemm_name(void);                              /* what BLAS this is, for `tiller info` */
#endif
