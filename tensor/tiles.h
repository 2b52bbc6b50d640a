/* tiles.h -- the inner loops of matrix products, Winograd convolutions and attention, as a table beside Kernels.
 * plain_tiles.c is the definition; fast_tiles.c holds the same on vector registers, compiled once per instruction set.
 *
 * A panel is [K, wide]: `wide` neighbouring columns of a matrix, one row after the other.  Every element of a
 * product is one chain of multiply-adds in the order of k, so results do not depend on how a matrix is cut. */
#ifndef TENSOR_TILES_H
#define TENSOR_TILES_H
#include <stdbool.h>
#include <stddef.h>
#include "tensor/kernels.h"

enum { TILE_HIGH = 14, TILE_WIDE = 32 };                  /* the most any table has */

struct Tiles {
    bool fast;                                            /* vectors: a match for BLAS */
    int high, wide;                                       /* a tile of a product: at most high rows, exactly wide columns */

    /* c[i,j] = sum_k a[i ai + k ak] b[k bk + j]  (+ c[i,j] when add);  c has row stride ci */
    void (*product)(int rows, int K, const real *a, ptrdiff_t ai, ptrdiff_t ak, const real *b, ptrdiff_t bk,
                    real *c, ptrdiff_t ci, bool add);
    /* to[k wide + j] = from[j ld + k] for j < n, 0 for n <= j < wide */
    void (*turn)(int K, int n, real *to, const real *from, ptrdiff_t ld);

    /* F(2x2,3x3), C channels (a multiple of 32) of one tile.  v_p = (B^T d B)_p for the 4x4 pixels d, p = 0..15, planes
     * `plane` numbers apart;  y = A^T m A + bias + add for 2x2 pixels, of which those outside are NULL.  add may be y. */
    void (*winograd_in) (int C, real *v, size_t plane, const real *const d[16]);
    void (*winograd_out)(int C, real *const y[4], const real *m, size_t plane, const real *bias, const real *const add[4]);

    /* Columns of s[n, wide]: high_j = max_i scale s_ij;  s = exp(scale s - high) part;  part_j = 1 / sum_i exp(scale s_ij - high_j) */
    void (*softmax)      (int n, real *s, real scale, real *high, real *part);
    void (*softmax_again)(int n, real *s, real scale, const real *high, const real *part);   /* s from a known high and part */
    void (*softmax_back) (int n, real *d, const real *p, real scale);                        /* d := scale p (d - sum_i d p) */
};

extern const Tiles tiles_plain, tiles_avx2, tiles_avx512, tiles_neon;
#endif
