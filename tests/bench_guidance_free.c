/* bench_guidance_free.c -- variants of classifier-free guidance as methods of their own.
 *
 *     interval   w where 0.28 < sigma <= 5.42, else 1         (Kynkaanniemi et al. 2404.07724, their numbers for SD-XL)
 *     composed   u + w/2 (c_prompt - u) + w/2 (c_source - u)  (Liu et al. 2206.01714); the second text is the source prompt */
#include "guidance/cfg.h"
#include "tests/bench_guidance.h"

static double interval_cond(const Clock *c, const double *par)   { return cfg_interval(par[0], 0.28, 5.42, c->ab); }
static double interval_uncond(const Clock *c, const double *par) { return 1 - interval_cond(c, par); }
static double composed_half(const Clock *c, const double *par)   { return c->n ? par[0] / 2 : 0; }

static bool branches(Run *r, Method *m, const MethodInput *in, Curve *uncond, Curve *cond, bool second)
{
    Branch *b = arena_take(r->run, 3 * sizeof *b);
    if (!b) return run_fail(r, E_MEMORY, "out of memory: branches"), false;
    b[0] = (Branch){ .name = "uncond", .context = in->uncond, .mix = uncond, .par = { in->scale } };
    b[1] = (Branch){ .name = "cond", .context = in->cond, .mix = cond, .par = { in->scale } };
    b[2] = (Branch){ .name = "second", .context = in->source, .mix = cond, .par = { in->scale } };
    *m = (Method){ .name = second ? "composed" : "interval", .branch = b, .branches = 2 + second };
    return run_ok(r);
}

static bool interval(Run *r, Method *m, const MethodInput *in) { return branches(r, m, in, interval_uncond, interval_cond, false); }
static bool composed(Run *r, Method *m, const MethodInput *in) { return branches(r, m, in, mix_uncond, composed_half, true); }

const MethodInfo bench_interval = { .name = "interval", .build = interval };
const MethodInfo bench_composed = { .name = "composed", .build = composed };
