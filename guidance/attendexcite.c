#include <math.h>
#include "guidance/attendexcite.h"

acc excite_worst(Tensor dm, Tensor m, acc weight, acc *term)
{
    int n = m.s.d[0], worst = 0;
    size_t count = n ? tensor_count(m) / (size_t)n : 0, peak = 0;
    acc E = -1;
    for (int c = 0; c < n; c++) {
        const real *x = m.x + (size_t)c * count;
        size_t top = 0;
        for (size_t i = 1; i < count; i++)
            if (x[i] > x[top]) top = i;
        acc lack = fmax(0, 1 - (acc)x[top]);
        if (term) term[c] = lack;
        if (lack <= E) continue;
        E = lack;
        worst = c;
        peak = top;
    }
    if (n && E > 0 && dm.x) dm.x[(size_t)worst * count + peak] -= (real)weight;
    return weight * fmax(0, E);
}

acc attend_excite(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)ref; (void)state;
    const Objects *o = e->par;
    size_t mark = r->temp->used;
    ObjectMaps maps;
    objects_see(r, &maps, o, now);
    Tensor dm = temp(r, maps.m.s);
    acc E = 0;
    if (run_ok(r)) {
        tensor_zero(dm);
        E = excite_worst(dm, maps.m, weight, NULL);
        if (E != 0) objects_pull(r, now, dm, (Tensor){0}, o, &maps);
    }
    arena_release(r->temp, mark);
    return E;
}

double refine_strength(const Clock *c, const double *par)
{
    for (int k = 0; k < REFINEMENTS; k++)
        if (par[k] >= 0 && lround(par[k] * c->n) == c->i) return 1;
    return 0;
}

Verdict refine_verdict(const Refinement *f, const Clock *c, acc E)
{
    for (int k = 0; k < REFINEMENTS; k++) {
        if (f->at[k] < 0 || lround(f->at[k] * c->n) != c->i) continue;
        if (E > fmax(0, 1 - f->threshold[k])) return GO_ON;
        return c->inner ? ONE_MORE : ENOUGH;
    }
    return ENOUGH;
}

Verdict attend_refined(const Clock *c, acc E, View *now, const View *ref, void *state)
{
    (void)now; (void)ref;
    return refine_verdict(state, c, E);
}

Verdict attend_done(const Clock *c, acc E, View *now, const View *ref, void *state)
{
    (void)c; (void)now; (void)ref; (void)state;
    return E != 0 ? GO_ON : ENOUGH;
}

/* ---- the method ---- */

enum { SCALE, FIRST, LAST, UNTIL, AT1, TH1, AT2, TH2, AT3, TH3, MOST, HALVINGS, END_MARK, SHARP, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [SCALE]    = { "scale",      20,   0, 1e6,  "alpha", "step size at the first step" },
    [FIRST]    = { "range-first", 1,   0, 100,  "",  "the step is scale sqrt(linspace(range-first, range-last, N))" },
    [LAST]     = { "range-last", 0.5,  0, 100,  "",  "see range-first" },
    [UNTIL]    = { "until",      0.5,  0, 1,    "",  "guide this first part of the steps" },
    [AT1]      = { "refine-1",   0,   -1, 1,    "t1", "fraction of the run where the step is repeated; -1: never" },
    [TH1]      = { "reach-1",    0.05, 0, 1,    "T1", "until every token reaches this" },
    [AT2]      = { "refine-2",   0.2, -1, 1,    "t2", "likewise" },
    [TH2]      = { "reach-2",    0.5,  0, 1,    "T2", "likewise" },
    [AT3]      = { "refine-3",   0.4, -1, 1,    "t3", "likewise" },
    [TH3]      = { "reach-3",    0.8,  0, 1,    "T3", "likewise" },
    [MOST]     = { "refinements", 20,  1, 1000, "",  "at most so many repetitions" },
    [HALVINGS] = { "halvings",   -1,    -1, 8,    "",  "maps are the latent\'s size halved so often; -1: twice (16 x 16 of 64 x 64), or where there are layers" },
    [END_MARK] = { "without-end", 0,   0, 1,    "",  "leave the end mark and what follows out of the softmax" },
    [SHARP]    = { "sharpness",  100,  0, 1e4, "", "factor of the softmax over tokens; 0: probabilities as they are" },
};

typedef struct { Objects objects; Refinement refine; Energy energy; Rule rule[2]; Branch branch[2]; } Parts;

static bool build(Run *r, Method *m, const MethodInput *in)
{
    const double *v = in->number;
    Parts *p = arena_take(r->run, sizeof *p);
    if (!p) {
        run_fail(r, E_MEMORY, "out of memory: attend-and-excite");
        return false;
    }
    if (!objects_of(r, &p->objects, in, (int)v[HALVINGS], true)) return false;
    p->objects.sharp = v[SHARP];
    if (v[END_MARK] != 0 && in->words.ids > 2) p->objects.last = in->words.ids - 1;
    p->energy = (Energy){ "excite", &p->objects.want, 1, NULL, -1, attend_excite, &p->objects, v[SCALE] != 0 };
    p->refine = (Refinement){ { v[AT1], v[AT2], v[AT3], -1 }, { v[TH1], v[TH2], v[TH3], 0 } };
    p->rule[0] = (Rule){ .energy = &p->energy, .energies = 1, .leaf = BY_Z, .into = TO_Z, .gain = object_gain, .par = { v[SCALE], v[FIRST], v[LAST] },
                         .strength = refine_strength, .when = { v[AT1], v[AT2], v[AT3], -1 }, .inner = (int)v[MOST], .enough = attend_refined };
    p->rule[1] = p->rule[0];
    p->rule[1].strength = object_strength;
    p->rule[1].when[0] = 1;
    p->rule[1].when[1] = 0;
    p->rule[1].when[2] = v[UNTIL];
    p->rule[1].inner = 1;
    p->rule[1].enough = attend_done;
    objects_branches(p->branch, in);
    *m = (Method){ .name = "attend-and-excite", .branch = p->branch, .branches = 2, .rule = p->rule, .rules = 2, .state = &p->refine };
    return run_ok(r);
}

const MethodInfo method_attend = {
    "attend-and-excite", "Attend-and-Excite", "Chefer et al., arXiv 2301.13826",
    "make every named object appear: raise the best pixel of the weakest one's attention",
    "z <- z - s_i d/dz max_k (1 - max_p m_k(p)),  repeated at three steps until every object reaches a level",
    "tiller generate --method attend-and-excite --prompt \"a photo of a cat and a frog on grass\" --objects \"cat,frog\"",
    option, OPTIONS, PULLS, true, build, NULL,
};
