/* bench.h -- what the timed networks share: healthy random inputs, and the end at an error. */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H
#include <stdio.h>
#include <stdlib.h>
#include "tensor/random.h"
#include "tensor/run.h"

static inline void stop_if_failed(const Status *s)
{
    if (s->code == OK) return;
    fprintf(stderr, "bench: %s\n", s->text);
    exit(1);
}

/* Normal numbers in the arena; r->temp is used and emptied. */
static inline Tensor normal(Run *r, Arena *a, Shape s, uint64_t seed)
{
    Tensor t = tensor_in(r, a, s);
    size_t n = tensor_count(t);
    float *draw = arena_take(r->temp, n * sizeof *draw);
    Random g;
    random_seed(&g, RANDOM_TORCH, seed);
    random_normal(&g, n, draw);
    for (size_t i = 0; i < n; i++) t.x[i] = (real)draw[i];
    arena_release(r->temp, 0);
    return t;
}
#endif
