#include <string.h>
#include "tensor/kernels.h"

static int always(void) { return 1; }
#if defined __x86_64__ && !defined TILLER_F64
static int has_avx2  (void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && has_avx2();
}
#endif

static const struct { const Kernels *k; int (*runs_here)(void); } table[] = {            /* slowest first */
    { &kernels_plain,  always },
#if defined __x86_64__ && !defined TILLER_F64
    { &kernels_avx2,   has_avx2 },
    { &kernels_avx512, has_avx512 },
#elif defined __aarch64__ && !defined TILLER_F64
    { &kernels_neon,   always },
#endif
};

const Kernels *kernels_at(int i)
{
    for (size_t t = 0; t < sizeof table / sizeof *table; t++)
        if (table[t].runs_here() && i-- == 0) return table[t].k;
    return NULL;
}

const Kernels *kernels_pick(const char *name)
{
    const Kernels *best = NULL, *k;
    for (int i = 0; (k = kernels_at(i)); i++)
        if (!name || !strcmp(name, k->name)) best = k;
    return best;
}
