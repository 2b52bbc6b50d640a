/* suppress_build.c -- the method: with masks as first released, without them as its authors wanted it. */
#include "guidance/suppress.h"
#include "tensor/resize.h"

enum { SCALE, FIRST, LAST, UNTIL, W_SUPPRESS, W_EVEN, W_EXCLUSIVE, W_EMPHASISE, LEVEL, THRESHOLD, SOFTNESS, MEMORY, SHAPE_FROM, CV2,
       BCE, CONTRAST, CENTROID, TOTAL, HALVINGS, SHARP, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [SCALE]       = { "scale",       10,   0, 1e6,  "s", "step size at the first step" },
    [FIRST]       = { "range-first", 1,    0, 100,  "",  "the step is scale sqrt(linspace(range-first, range-last, N))" },
    [LAST]        = { "range-last",  0.5,  0, 100,  "",  "see range-first" },
    [UNTIL]       = { "until",       0.5,  0, 1,    "",  "guide this first part of the steps (without masks)" },
    [W_SUPPRESS]  = { "w-suppress",  0.2,  0, 1e6,  "w1", "weight of weakening attention outside an object's own region" },
    [W_EVEN]      = { "w-even",      0.4,  0, 1e6,  "w2", "weight of even attention inside it" },
    [W_EXCLUSIVE] = { "w-exclusive", 0.1,  0, 1e6,  "w3", "weight of objects being in different places" },
    [W_EMPHASISE] = { "w-emphasise", 0.4,  0, 1e6,  "w4", "weight of every object being there" },
    [LEVEL]       = { "level",       0.5,  1e-6, 1, "kappa", "mean level asked of an object inside its region" },
    [THRESHOLD]   = { "threshold-mean", 0, 0, 1,    "",  "regions lie above the map's mean, not above Otsu's threshold" },
    [SOFTNESS]    = { "softness",    0.1,  0, 100,  "tau", "softness of a region's border; 0: hard" },
    [MEMORY]      = { "memory",      0.5,  0, 1,    "lambda", "how much of the running map stays from step to step" },
    [SHAPE_FROM]  = { "shape-from",  0.04, 0, 1,    "",  "suppress and even begin after this part of the steps" },
    [CV2]         = { "even-cv2",    0,    0, 1,    "",  "evenness as squared coefficient of variation, not as divergence" },
    [BCE]         = { "w-bce",       10,   0, 1e6,  "",  "with masks: weight of the cross-entropy" },
    [CONTRAST]    = { "w-contrast",  1,    0, 1e6,  "",  "with masks: weight of the contrast with rivals" },
    [CENTROID]    = { "w-centroid",  0,    0, 1e6,  "",  "with masks: weight of the centroid's distance (released, never called)" },
    [TOTAL]       = { "inner",       25,   1, 1000, "R", "with masks: evaluations at step i are this less i less one" },
    [HALVINGS]    = { "halvings",    -1,    -1, 8,    "",  "maps are the latent\'s size halved so often; -1: twice (16 x 16 of 64 x 64), or where there are layers" },
    [SHARP]       = { "sharpness",   100,  0, 1e4, "", "factor of the softmax over tokens; 0: probabilities as they are" },
};

typedef struct {
    Suppress suppress;
    SuppressState state;
    Masked masked;
    Energy energy[2];
    Rule rule;
    Branch branch[2];
} Parts;

static void masks_of(Run *r, Masked *p, const MethodInput *in)
{
    const Objects *o = &p->objects;
    p->mask = tensor_in(r, r->run, SHAPE(o->groups, o->h, o->w));
    for (int c = 0; c < o->groups && run_ok(r); c++) {
        Tensor from = in->mask[o->of[c]], to = tensor_row(p->mask, c);
        if (shape_rank(from.s) != 2) {
            run_fail(r, E_OPTION, "suppress-to-impress: %s has no mask", in->object[o->of[c]].word);
            return;
        }
        resize_bilinear(r, (Tensor){ to.x, SHAPE(1, o->h, o->w) }, (Tensor){ from.x, SHAPE(1, from.s.d[0], from.s.d[1]) });
        int inside = 0;
        for (int i = 0; i < o->h * o->w; i++) inside += to.x[i] > 0;
        if (!inside || inside == o->h * o->w)
            run_fail(r, E_OPTION, "suppress-to-impress: the mask of %s %s at %d x %d", in->object[o->of[c]].word,
                     inside ? "covers the whole frame" : "is empty", o->h, o->w);
    }
}

static void lasts(void *state, const Keeper *k) { carried_lasts(&((SuppressState *)state)->memory, k); }

static bool build(Run *r, Method *m, const MethodInput *in)
{
    const double *v = in->number;
    Parts *p = arena_take(r->run, sizeof *p);
    if (!p) {
        run_fail(r, E_MEMORY, "out of memory: suppress-to-impress");
        return false;
    }
    Rule rule = { .energy = p->energy, .energies = 1, .leaf = BY_Z, .into = TO_Z, .gain = object_gain, .par = { v[SCALE], v[FIRST], v[LAST] },
                  .strength = object_strength, .when = { 1, 0, v[UNTIL] }, .inner = 1 };
    bool on = v[SCALE] != 0;
    if (in->mask) {
        p->masked = (Masked){ .bce = v[BCE], .contrast = v[CONTRAST], .scale = v[SCALE], .first = v[FIRST], .last = v[LAST], .total = (int)v[TOTAL] };
        if (!objects_of(r, &p->masked.objects, in, (int)v[HALVINGS], true)) return false;
        p->masked.objects.smooth = false;
        p->masked.objects.sharp = v[SHARP];
        masks_of(r, &p->masked, in);
        on = on && (v[BCE] != 0 || v[CONTRAST] != 0);
        p->energy[0] = (Energy){ "masked", &p->masked.objects.want, 1, NULL, -1, masked_energy, &p->masked, on };
        p->energy[1] = (Energy){ "centroid", &p->masked.objects.want, 1, NULL, -1, masked_centroid, &p->masked, v[SCALE] != 0 ? v[CENTROID] : 0 };
        rule.energies = 2;
        rule.strength = masked_strength;
        rule.when[1] = v[TOTAL];
    } else {
        p->suppress = (Suppress){ .region = { v[THRESHOLD] != 0 ? THRESHOLD_MEAN : THRESHOLD_OTSU, v[SOFTNESS] }, .memory = v[MEMORY],
                                  .weight = { v[W_SUPPRESS], v[W_EVEN], v[W_EXCLUSIVE], v[W_EMPHASISE] }, .level = v[LEVEL],
                                  .cv2 = v[CV2] != 0, .shape_from = v[SHAPE_FROM] };
        if (!objects_of(r, &p->suppress.objects, in, (int)v[HALVINGS], false)) return false;
        p->suppress.objects.sharp = v[SHARP];
        p->state = suppress_state(r, &p->suppress);
        on = on && (v[W_SUPPRESS] != 0 || v[W_EVEN] != 0 || v[W_EXCLUSIVE] != 0 || v[W_EMPHASISE] != 0);
        p->energy[0] = (Energy){ "suppress", &p->suppress.objects.want, 1, NULL, -1, suppress_energy, &p->suppress, on };
    }
    p->rule = rule;
    objects_branches(p->branch, in);
    *m = (Method){ .name = "suppress-to-impress", .branch = p->branch, .branches = 2, .rule = &p->rule, .rules = 1, .lasts = lasts, .state = &p->state };
    return run_ok(r);
}

const MethodInfo method_suppress = {
    "suppress-to-impress", "Suppress to Impress", "Suppress to Impress: Attenuating Distractions in Attention Maps for Diffusion Model Inference",
    "weaken each object's attention outside its own region, so that several objects can be there",
    "z <- z - s_i d/dz [ w1 suppress + w2 even + w3 exclusive + w4 emphasise ],  regions from a running map of each object",
    "tiller generate --method suppress-to-impress --prompt \"a photo of a cat and a frog on grass\" --objects \"cat,frog\"",
    option, OPTIONS, PULLS | READS_MASK, true, build, NULL,
};
