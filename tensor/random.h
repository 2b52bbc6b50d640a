/* random.h -- random numbers that agree with PyTorch's, bit for bit.
 *
 * Integers: the Mersenne twister mt19937 (Matsumoto & Nishimura 1998), seeded with the low 32 bits of the seed.
 * Normal numbers: Box & Muller (1958) in the order, and with the float32 log, sin and cos, of PyTorch 2.13 on x86;
 * they are the same bits on every IEEE machine.  Calls for fewer than 16 numbers take another path, which keeps the
 * second number of a pair for the next such call.
 * Only the element count matters, never the shape; values fill a tensor in its PyTorch (NCHW) order. */
#ifndef TENSOR_RANDOM_H
#define TENSOR_RANDOM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { RANDOM_TORCH, RANDOM_PHILOX } RandomKind;
typedef struct {
    RandomKind kind;                                      /* philox: random_normal gives a CUDA device's numbers; all else is the same */
    uint64_t seed;
    uint32_t state[624];                                  /* mt19937 */
    int      at;
    bool     has_left;                                    /* a leftover of the n < 16 path; survives across calls */
    double   left;
    uint32_t call;                                        /* philox: number of calls so far */
} Random;

void     random_seed(Random *g, RandomKind kind, uint64_t seed);     /* negative seeds: two's complement */
uint32_t random_u32(Random *g);
uint64_t random_u64(Random *g);                                      /* the first of two draws is the high half */
void     random_uniform(Random *g, size_t n, float *out);            /* torch.rand, float32: [0, 1) in steps of 2^-24 */
void     random_normal (Random *g, size_t n, float *out);            /* torch.randn, float32 */
void     random_normal64(Random *g, size_t n, double *out);          /* torch.randn, float64: up to the libm's last bit */
uint64_t random_below(Random *g, uint64_t high);                     /* torch.randint(high): in [0, high); 0 for high 0 */
void     random_permutation(Random *g, size_t n, int64_t *out);      /* torch.randperm, n < 2^32 */
#endif
