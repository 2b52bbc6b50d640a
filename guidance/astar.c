#include "guidance/astar.h"

static Tensor row_or_none(Tensor t, int i) { return t.x ? tensor_row(t, i) : (Tensor){0}; }

acc astar_segregate(Tensor dm, Tensor m, acc weight)
{
    acc E = 0;
    for (int i = 0; i < m.s.d[0]; i++)
        for (int j = 0; j < i; j++)
            E += map_overlap(row_or_none(dm, i), row_or_none(dm, j), tensor_row(m, i), tensor_row(m, j), weight);
    return E;
}

acc astar_retain(Tensor dm, Tensor m, Tensor before, acc weight)
{
    acc E = 0;
    for (int i = 0; i < m.s.d[0] && before.x; i++)
        E += weight + map_overlap(row_or_none(dm, i), (Tensor){0}, tensor_row(m, i), tensor_row(before, i), -weight);
    return E;
}

acc astar_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)ref;
    const Astar *p = e->par;
    Carried *b = state;
    size_t mark = r->temp->used;
    ObjectMaps maps;
    objects_see(r, &maps, &p->objects, now);
    Tensor dm = temp(r, maps.m.s);
    acc E = 0;
    if (run_ok(r)) {
        carried_turn(b, &now->clock);
        for (int c = 0; c < p->objects.groups; c++) map_hot(tensor_row(b->now, c), tensor_row(maps.m, c), p->fraction);
        tensor_zero(dm);
        E = astar_segregate(dm, maps.m, weight * p->segregate);
        E += astar_retain(dm, maps.m, p->mask.x ? p->mask : b->has_before ? b->before : (Tensor){0}, weight * p->retain);
        objects_pull(r, now, dm, (Tensor){0}, &p->objects, &maps);
    }
    arena_release(r->temp, mark);
    return E;
}

/* ---- the method ---- */

enum { SCALE, FIRST, LAST, UNTIL, SEGREGATE, RETAIN, FRACTION, HALVINGS, SHARP, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [SCALE]     = { "scale",       20,  0, 1e6, "alpha", "step size at the first step" },
    [FIRST]     = { "range-first", 1,   0, 100, "", "the step is scale sqrt(linspace(range-first, range-last, N))" },
    [LAST]      = { "range-last",  0.5, 0, 100, "", "see range-first" },
    [UNTIL]     = { "until",       1,   0, 1,   "", "guide this first part of the steps" },
    [SEGREGATE] = { "w-segregate", 1,   0, 1e6, "L_seg", "weight of keeping objects apart" },
    [RETAIN]    = { "w-retain",    1,   0, 1e6, "L_ret", "weight of keeping objects where they were" },
    [FRACTION]  = { "mask-fraction", 0.5, 0, 1, "", "where an object was: at least this part of its maximum" },
    [HALVINGS]  = { "halvings",    -1,   -1, 8,   "", "maps are the latent\'s size halved so often; -1: twice (16 x 16 of 64 x 64), or where there are layers" },
    [SHARP]     = { "sharpness",   100, 0, 1e4, "", "factor of the softmax over tokens; 0: probabilities as they are" },
};

typedef struct { Astar astar; Carried carried; Energy energy; Rule rule; Branch branch[2]; } Parts;

static void lasts(void *state, const Keeper *k) { carried_lasts(state, k); }

static bool build(Run *r, Method *m, const MethodInput *in)
{
    const double *v = in->number;
    Parts *p = arena_take(r->run, sizeof *p);
    if (!p) {
        run_fail(r, E_MEMORY, "out of memory: a-star");
        return false;
    }
    p->astar = (Astar){ .segregate = v[SEGREGATE], .retain = v[RETAIN], .fraction = v[FRACTION] };
    if (!objects_of(r, &p->astar.objects, in, (int)v[HALVINGS], false)) return false;
    p->astar.objects.sharp = v[SHARP];
    p->carried = carried_make(r, SHAPE(p->astar.objects.groups, p->astar.objects.h, p->astar.objects.w));
    bool on = v[SCALE] != 0 && (v[SEGREGATE] != 0 || v[RETAIN] != 0);
    p->energy = (Energy){ "segregate and retain", &p->astar.objects.want, 1, NULL, -1, astar_energy, &p->astar, on };
    p->rule = (Rule){ .energy = &p->energy, .energies = 1, .leaf = BY_Z, .into = TO_Z, .gain = object_gain, .par = { v[SCALE], v[FIRST], v[LAST] },
                      .strength = object_strength, .when = { 1, 0, v[UNTIL] }, .inner = 1 };
    objects_branches(p->branch, in);
    *m = (Method){ .name = "a-star", .branch = p->branch, .branches = 2, .rule = &p->rule, .rules = 1, .lasts = lasts, .state = &p->carried };
    return run_ok(r);
}

const MethodInfo method_astar = {
    "a-star", "A-STAR", "Agarwal et al., arXiv 2306.14544",
    "keep objects apart from each other, and each where it was the step before",
    "z <- z - s_i d/dz [ sum_{c>d} overlap(m_c, m_d) + sum_c (1 - overlap(m_c, B_c)) ],  overlap = sum min / sum of both",
    "tiller generate --method a-star --prompt \"a photo of a cat and a frog on grass\" --objects \"cat,frog\"",
    option, OPTIONS, PULLS, true, build, NULL,
};
