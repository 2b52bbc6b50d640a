#include <string.h>
#include "tensor/kernels.h"

static int always(void) { return 1; }

static const struct { const Kernels *k; int (*runs_here)(void); } table[] = {            /* slowest first */
    { &kernels_plain, always },
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
