/* multi_build.c -- the composite as a method; the excite refinement of Attend-and-Excite is off unless asked for. */
#include <stdio.h>
#include <string.h>
#include "guidance/multi.h"

enum { SCALE, FIRST, LAST, W_EXCITE, W_SEGREGATE, W_RETAIN, W_SUPPRESS, W_BOX, FRACTION, EARLY, REFINE, MOST, HALVINGS, SHARP, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [SCALE]       = { "scale",       20,  0, 1e6, "s", "step size at the first step" },
    [FIRST]       = { "range-first", 1,   0, 100, "", "the step is scale sqrt(linspace(range-first, range-last, N))" },
    [LAST]        = { "range-last",  0.5, 0, 100, "", "see range-first" },
    [W_EXCITE]    = { "w-excite",    1,   0, 1e6, "", "weight of every object being strong somewhere" },
    [W_SEGREGATE] = { "w-segregate", 1,   0, 1e6, "", "weight of keeping objects apart" },
    [W_RETAIN]    = { "w-retain",    1,   0, 1e6, "", "weight of keeping objects where they were" },
    [W_SUPPRESS]  = { "w-suppress",  0.5, 0, 1e6, "", "weight of weakening an object where another one is" },
    [W_BOX]       = { "w-box",       1.5, 0, 1e6, "", "weight of lying in the given box" },
    [FRACTION]    = { "mask-fraction", 0.5, 0, 1, "", "where an object is: at least this part of its maximum" },
    [EARLY]       = { "early",       0.5, 0, 1,   "", "excite, suppress and box act in this first part of the steps" },
    [REFINE]      = { "refine",      0,   0, 1,   "", "repeat the step on excite as Attend-and-Excite does" },
    [MOST]        = { "refinements", 20,  1, 1000, "", "at most so many repetitions" },
    [HALVINGS]    = { "halvings",    -1,   -1, 8,   "", "maps are the latent\'s size halved so often; -1: twice (16 x 16 of 64 x 64), or where there are layers" },
    [SHARP]       = { "sharpness",   100, 0, 1e4, "", "factor of the softmax over tokens; 0: probabilities as they are" },
};

typedef struct {
    Multi multi;
    MultiState state;
    Want want[2];
    Energy excite, all;
    Rule rule[2];
    Branch branch[2];
} Parts;

static Verdict refined(const Clock *c, acc E, View *now, const View *ref, void *state)
{
    (void)now; (void)ref;
    return refine_verdict(&((MultiState *)state)->refine, c, E);
}

/* The box term looks at the decoder's layers of the maps' size, and at the middle. */
static void boxes(Run *r, Parts *p, const MethodInput *in)
{
    Multi *m = &p->multi;
    bool any = false;
    for (int c = 0; c < m->objects.groups && in->box; c++) {
        memcpy(m->box[c], in->box[m->objects.of[c]], sizeof m->box[c]);
        any |= m->box[c][2] > m->box[c][0];
    }
    if (!any || m->weight[MULTI_BOX] == 0) return;
    static const char middle[] = "mid_block*attn2,";
    const char *up = objects_sites(r, in, "up_blocks*attn2", m->objects.h, m->objects.w);
    size_t room = up ? strlen(up) + sizeof middle : 0;
    char *sites = up ? arena_take(r->run, room) : NULL;
    if (up && !sites) run_fail(r, E_MEMORY, "out of memory: attention sites");
    if (!sites) return;
    snprintf(sites, room, "%s%s", middle, up);
    m->box_want = p->want[1] = (Want){ SEE_PROBS, sites };
}

static void lasts(void *state, const Keeper *k) { carried_lasts(&((MultiState *)state)->hot, k); }

static bool build(Run *r, Method *m, const MethodInput *in)
{
    const double *v = in->number;
    Parts *p = arena_take(r->run, sizeof *p);
    if (!p) {
        run_fail(r, E_MEMORY, "out of memory: multi");
        return false;
    }
    p->multi = (Multi){ .weight = { v[W_EXCITE], v[W_SEGREGATE], v[W_RETAIN], v[W_SUPPRESS], v[W_BOX] }, .fraction = v[FRACTION], .early = v[EARLY] };
    p->want[1] = (Want){0};
    if (!objects_of(r, &p->multi.objects, in, (int)v[HALVINGS], false)) return false;
    p->multi.objects.sharp = v[SHARP];
    boxes(r, p, in);
    p->state = multi_state(r, &p->multi);
    p->state.refine = (Refinement){ { 0, 0.2, 0.4, -1 }, { 0.05, 0.5, 0.8, 0 } };
    p->want[0] = p->multi.objects.want;
    bool on = false;
    for (int k = 0; k < MULTI_TERMS; k++) on |= v[SCALE] != 0 && p->multi.weight[k] != 0;
    p->excite = (Energy){ "excite", p->want, 1, NULL, -1, attend_excite, &p->multi.objects, v[REFINE] != 0 && v[SCALE] != 0 };
    p->all = (Energy){ "multi", p->want, p->want[1].sites ? 2 : 1, NULL, -1, multi_energy, &p->multi, on };
    p->rule[0] = (Rule){ .energy = &p->excite, .energies = 1, .leaf = BY_Z, .into = TO_Z, .gain = object_gain, .par = { v[SCALE], v[FIRST], v[LAST] },
                         .strength = refine_strength, .when = { 0, 0.2, 0.4, -1 }, .inner = (int)v[MOST], .enough = refined };
    p->rule[1] = p->rule[0];
    p->rule[1].energy = &p->all;
    p->rule[1].strength = NULL;
    p->rule[1].inner = 1;
    p->rule[1].enough = NULL;
    objects_branches(p->branch, in);
    int first = p->excite.weight == 0;                    /* without refinement another method may iterate */
    *m = (Method){ .name = "multi", .branch = p->branch, .branches = 2, .rule = p->rule + first, .rules = 2 - first, .lasts = lasts, .state = &p->state };
    return run_ok(r);
}

const MethodInfo method_multi = {
    "multi", "Multi", "terms of arXiv 2301.13826, 2306.14544, 2307.10816, 2304.03373",
    "several objects in one picture: each strong somewhere, apart from the others, where it was, in its box if given",
    "z <- z - s_i d/dz [ excite + segregate + retain + w suppress + v box ]",
    "tiller generate --method multi --prompt \"a photo of a cat and a frog on grass\" --objects \"cat,frog\"",
    option, OPTIONS, PULLS | READS_BOX, true, build, NULL,
};
