/* product.h -- C[rows,columns] (+)= A B for the operations of gemm.h and conv.h, in one thread.
 *
 * A need not exist as a matrix: `fill` writes any piece of it (a convolution gathers pixels there).  K is taken in
 * chunks of at most PRODUCT_DEEP; each element of C is a chain of multiply-adds within a chunk, and a sum over
 * chunks in order, so with our own kernels the bits depend on K alone and not on how C is cut into tasks.
 * Who multiplies: vector tiles (tiles.h) where the processor has them, else BLAS if allowed, else plain tiles. */
#ifndef TENSOR_PRODUCT_H
#define TENSOR_PRODUCT_H
#include "tensor/run.h"

enum { PRODUCT_DEEP = 320, PRODUCT_STRIDE = PRODUCT_DEEP + 16 };          /* the 16: rows of a power of two would share cache sets */

typedef struct {
    int rows, columns, K;
    void (*fill)(const void *self, real *a, int row, int rows, int k, int count);        /* a[i * PRODUCT_STRIDE + j] = A[row + i, k + j] */
    const void *self;
    const real *b;                                        /* B[k,j] = b[k bk + j bj]; one of the strides is 1 */
    ptrdiff_t bk, bj;
    real *c;
    ptrdiff_t ldc;
    bool add;
} Product;

size_t product_scratch(int rows);                         /* numbers */
void   product(const Run *r, const Product *p, real *scratch);
real  *scratch_take(Run *r, size_t count);                /* from temp; NULL and status set when memory is short */
bool   product_needs_blas(const Run *r);                  /* then call gemm_begin before the parallel region */
int    product_chunk(int K);                              /* the depth K is cut into */

/* A[i,k] = f x[i row + k column]: what `fill` and `self` are for a matrix in memory. */
typedef struct { const real *x; ptrdiff_t row, column; real f; } Matrix;
void matrix_fill(const void *matrix, real *a, int row, int rows, int k, int count);
#endif
