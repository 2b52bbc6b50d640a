/* random.h -- random numbers that agree with PyTorch's, bit for bit (Specification of the numbers:
 * Matsumoto & Nishimura 1998 for mt19937; the normal transform is PyTorch 2.13's on x86).
 * Only the element count matters, never the shape; values fill a tensor in its PyTorch (NCHW) order. */
#ifndef TENSOR_RANDOM_H
#define TENSOR_RANDOM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { RANDOM_TORCH, RANDOM_PHILOX } RandomKind;
typedef struct {
    RandomKind kind;
    uint64_t seed;
    uint32_t state[624];                                  /* torch: mt19937 */
    int      at;
    bool     has_left;                                    /* a leftover of the n < 16 path; survives across calls */
    double   left;
    uint32_t call;                                        /* philox: number of calls so far */
} Random;

void     random_seed(Random *g, RandomKind kind, uint64_t seed);     /* negative seeds: two's complement */
uint32_t random_u32(Random *g);
uint64_t random_u64(Random *g);
void     random_uniform(Random *g, size_t n, float *out);            /* torch.rand, float32 */
void     random_normal (Random *g, size_t n, float *out);            /* torch.randn, float32; philox: CUDA's numbers */
void     random_normal64(Random *g, size_t n, double *out);          /* torch.randn, float64 (torch kind only) */
uint64_t random_below(Random *g, uint64_t high);                     /* torch.randint(high), high >= 1 */
void     random_permutation(Random *g, size_t n, int64_t *out);      /* torch.randperm */
#endif
