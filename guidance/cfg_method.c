#include "guidance/cfg.h"
#include "guidance/cfg_method.h"
#include "tensor/point.h"

static const MethodOption option[CFG_NUMBERS] = {
    [CFG_LOW]        = { "interval-low",  0, 0, 1e4, "sigma_lo", "guide only above this level of noise, sigma = sqrt((1 - alpha-bar)/alpha-bar)" },
    [CFG_HIGH]       = { "interval-high", 0, 0, 1e4, "sigma_hi", "and only up to this one; 0: at every level" },
    [CFG_PROJECTION] = { "projection",    1, 0, 10,  "eta",      "adaptive projected guidance: share of the difference's part along the prediction; 1: all of it" },
    [CFG_NORM_CAP]   = { "norm-cap",      0, 0, 1e6, "r",        "adaptive projected guidance: the difference is shortened to this length; 0: never" },
    [CFG_RESCALE]    = { "rescale",       0, 0, 1,   "phi",      "share of guidance rescale; 0.7 in its paper" },
};

static Tensor one(Tensor t) { return (Tensor){ t.x, SHAPE(1, t.s.d[0], t.s.d[1], t.s.d[2]) }; }

void cfg_remix(const Clock *c, Run *r, const Tensor *b, Tensor eps, void *state)
{
    const CfgRemix *s = state;
    Tensor cond = s->cond >= 0 ? b[s->cond] : (Tensor){0}, uncond = s->uncond >= 0 ? b[s->uncond] : (Tensor){0};
    size_t mark = r->temp->used;
    (void)c;
    if (!cond.x) return;
    if (uncond.x && (s->eta != 1 || s->norm_cap > 0)) {
        Tensor plain = temp(r, one(eps).s), projected = temp(r, plain.s);
        cfg_mix(r, plain, one(uncond), one(cond), s->scale);
        cfg_project(r, projected, one(uncond), one(cond), s->scale, s->eta, s->norm_cap, false);
        axpy(r, one(eps), 1, projected);
        axpy(r, one(eps), -1, plain);
    }
    cfg_rescale(r, one(eps), one(cond), s->phi);
    arena_release(r->temp, mark);
}

static bool build(Run *r, Method *m, const MethodInput *in)
{
    Branch *b = arena_take(r->run, 2 * sizeof *b);
    CfgRemix *s = arena_take(r->run, sizeof *s);
    if (!b || !s) {
        run_fail(r, E_MEMORY, "out of memory: classifier-free guidance");
        return false;
    }
    const double *v = in->number;
    double interval[2] = { v ? v[CFG_LOW] : 0, v ? v[CFG_HIGH] : 0 };
    *s = (CfgRemix){ in->scale, v ? v[CFG_PROJECTION] : 1, v ? v[CFG_NORM_CAP] : 0, v ? v[CFG_RESCALE] : 0, 0, 1 };
    b[0] = (Branch){ .name = "uncond", .context = in->uncond, .mix = mix_uncond, .par = { in->scale, interval[0], interval[1] } };
    b[1] = (Branch){ .name = "cond",   .context = in->cond,   .mix = mix_cond,   .par = { in->scale, interval[0], interval[1] } };
    *m = (Method){ .name = "classifier-free guidance", .branch = b, .branches = 2, .state = s };
    if (s->eta != 1 || s->norm_cap > 0 || s->phi > 0) m->remix = cfg_remix;
    return true;
}

const MethodInfo method_cfg = {
    "classifier-free", "Classifier-free guidance", "Ho and Salimans, arXiv 2207.12598; variants 2206.01714, 2305.08891, 2404.07724, 2410.02416",
    "what every other method mixes by: negative and composed prompts, an interval of noise, projection, rescale",
    "e = u + w (c - u) + sum_j w_j (c_j - u);   u: the negative prompt's prediction, c, c_j: the prompts'",
    "tiller generate -p \"a photo of a cat\" --compose \"snow=2\" --interval-low 0.3 --interval-high 5 --rescale 0.7",
    option, CFG_NUMBERS, 0, false, build, NULL,
};
