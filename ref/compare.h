/* compare.h -- how far two sets of numbers are apart: safetensors files matched by name, or two pictures.
 *
 *     max abs   max |a-b|                         rel rms   |a-b|_2 / |b|_2
 *     max rel   max |a-b| / max(|b|, 1e-6 rms b)   cosine    a.b / (|a|_2 |b|_2)
 *     ulp       float32 values between a and b: largest, 99 %, median
 *
 * b is the reference.  Where both are NaN, or the same infinity, they agree; other non-finite pairs are mismatches.
 * Non-finite pairs enter no other figure.  Numbers are read in pieces: memory does not grow with a tensor. */
#ifndef REF_COMPARE_H
#define REF_COMPARE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int verb_compare(int argc, char **argv);                  /* exit code: 0 equal within the tolerance, 1 not, 2 usage, 3 unreadable */

typedef struct {
    size_t n, differing;                                  /* elements; those whose bits differ */
    double max_abs, max_rel, rel_rms, cosine;
    double ulp_max, ulp_99, ulp_median;                   /* exact below 1024, within 0.2 % above */
    size_t nan_mismatch, inf_mismatch, beyond;            /* beyond: |a-b| > atol + rtol |b| */
    size_t at;                                            /* the first mismatch, or the element of max abs */
    double a, b;                                          /* both values there */
    double psnr;                                          /* dB, against a peak of 255; pictures only */
} Difference;

enum { ULP_EXACT = 1024, ULP_PARTS = 512, ULP_BUCKETS = ULP_EXACT + 23 * ULP_PARTS };
typedef struct {
    Difference d;
    double rtol, atol, aa, bb, ab, dd, floor;
    size_t seen, ulp[ULP_BUCKETS];
} DifferenceSum;

/* Two passes over the same pairs: all of difference_add, then difference_middle, then all of difference_again. */
void difference_begin (DifferenceSum *s, double rtol, double atol);
void difference_add   (DifferenceSum *s, const double *a, const double *b, size_t n);
void difference_middle(DifferenceSum *s);
void difference_again (DifferenceSum *s, const double *a, const double *b, size_t n);
void difference_end   (DifferenceSum *s);                 /* the result is s->d */
#endif
