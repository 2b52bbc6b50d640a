/* net_parts.h -- a network under a gradient check: its parts, and taps that read, overwrite and pull. */
#ifndef TESTS_NET_PARTS_H
#define TESTS_NET_PARTS_H
#include "tests/gradcheck.h"
#include "tests/tiny_nets.h"

enum { MOST_PARTS = 400, MOST_TAPS = 16 };
static Arena weights, kept, scratch, data, steer_arena;
static Run run;
static Tap taps[MOST_TAPS];
static Steer steer[MOST_TAPS];

typedef struct { GradPart part[MOST_PARTS]; char name[MOST_PARTS][160]; int parts; } Parts;

static inline Tensor fresh(Shape s, double centre, double spread) { return grad_fresh(&run, &data, s, centre, spread); }

static inline void part(Parts *all, const char *name, Tensor value, Tensor grad)
{
    if (all->parts == MOST_PARTS) exit(2);
    snprintf(all->name[all->parts], sizeof all->name[0], "%s", name);
    all->part[all->parts] = (GradPart){ all->name[all->parts], value, grad };
    all->parts++;
}

static inline Tensor wanted(Parts *all, const char *name, Tensor value, double start)
{
    Tensor grad = fresh(value.s, start, 0);
    part(all, name, value, grad);
    return grad;
}

/* What was added to ones: the ones go.  Gradients that are written (the first `written` parts) stay as they are. */
static inline void less_ones(Parts *all, int written)
{
    for (int i = written; i < all->parts; i++)
        for (size_t k = 0; k < tensor_count(all->part[i].grad); k++) all->part[i].grad.x[k] -= 1;
}

static inline void tap_parts(Parts *all, int from)
{
    for (int i = from; i < run.taps; i++) {
        char name[160];
        snprintf(name, sizeof name, "value added at %.130s", taps[i].path);
        part(all, name, steer[i].leaf, steer[i].dleaf);
    }
}

/* <weight, y> and the energies of the taps; gives back what the forward took. */
static inline double net_loss(Tensor y, Tensor weight, size_t keeps, size_t temps)
{
    double sum = grad_weighted(y, weight);
    for (int i = 0; i < run.taps; i++) sum += steer[i].E;
    arena_release(&kept, keeps);
    arena_release(&scratch, temps);
    return sum;
}

static inline void forget_all(void)
{
    run.taps = 0;
    arena_release(&kept, 0);
    arena_release(&scratch, 0);
    arena_release(&data, 0);
    arena_release(&steer_arena, 0);
}
#endif
