#include "guidance/asyrp.h"

enum { STRENGTH, T_EDIT, T_BOOST, ORIGIN, SLERP, TRAIN_STEPS, TIMELESS, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [STRENGTH]    = { "strength",    1, -20, 20, "s", "of the shift; negative goes the other way, 0 leaves the picture as it is" },
    [T_EDIT]      = { "t-edit",      ASYRP_T_EDIT, 0, 1000, "t_edit", "times from here up are edited" },
    [T_BOOST]     = { "t-boost",     ASYRP_T_BOOST, 0, 1000, "t_boost", "times below get fresh noise (eta 1); 0: none do" },
    [ORIGIN]      = { "origin",      1, -2, 2, "c_0", "factor of h itself" },
    [SLERP]       = { "slerp",       0, 0, 1, "", "0: the shift is added; else h goes this part of the way towards it, on a sphere" },
    [TRAIN_STEPS] = { "train-steps", 0, 0, 1000, "n", "steps of the chain the blocks were learned on; 0: as their file says, else as now" },
    [TIMELESS]    = { "timeless",    0, 0, 1, "", "1: blocks are not told the time" },
};

typedef struct { AsyrpShift shift; Branch branch[4]; } State;

/* par: w, t_edit, whether anything is shifted */
static bool edits(const Clock *c, const double *par) { return par[2] != 0 && c->t >= par[1]; }

static double plain_uncond  (const Clock *c, const double *par) { return edits(c, par) ? 0 : 1 - par[0]; }
static double plain_cond    (const Clock *c, const double *par) { return edits(c, par) ? 0 : par[0]; }
static double shifted_uncond(const Clock *c, const double *par) { return edits(c, par) ? 1 - par[0] : 0; }
static double shifted_cond  (const Clock *c, const double *par) { return edits(c, par) ? par[0] : 0; }
static double along_uncond  (const Clock *c, const double *par) { return c->n ? 1 - par[0] : 0; }
static double along_cond    (const Clock *c, const double *par) { return c->n ? par[0] : 0; }
static double never         (const Clock *c, const double *par) { (void)c; (void)par; return 0; }
static double boost         (const Clock *c, const double *par) { return c->t < par[0]; }

static void shifted_h(const Clock *c, Run *r, Tensor y, Tensor h, Tensor silu_temb, void *state)
{
    const State *s = state;
    asyrp_shift(r, y, &s->shift, NULL, h, silu_temb, c->t);
}

static bool build(Run *r, Method *m, const MethodInput *in)
{
    const double *x = in->number;
    State *s = arena_take(r->run, sizeof *s);
    if (!s) run_fail(r, E_MEMORY, "out of memory: asyrp");
    else if (!in->deltas) run_fail(r, E_OPTION, "asyrp adds what a delta block says; --delta names its file, tiller train asyrp makes one");
    else if (in->deltas > ASYRP_DELTAS) run_fail(r, E_OPTION, "asyrp: %d delta blocks, at most %d go together", in->deltas, ASYRP_DELTAS);
    if (!run_ok(r)) return false;
    *s = (State){ .shift = { .delta = in->delta, .deltas = in->deltas, .c0 = x[ORIGIN], .slerp = x[SLERP], .timeless = x[TIMELESS] != 0 } };
    int now = in->schedule->n, train = x[TRAIN_STEPS] > 0 ? (int)x[TRAIN_STEPS] : in->train_steps ? in->train_steps : now;
    asyrp_coefficients(&s->shift, in->weight, x[STRENGTH], train, now);
    double on = x[STRENGTH] != 0 || x[ORIGIN] != 1;
    Branch u = { .name = "uncond", .context = in->uncond, .mix = plain_uncond, .mix_dir = along_uncond, .par = { in->scale, x[T_EDIT], on } };
    Branch c = { .name = "cond", .context = in->cond, .mix = plain_cond, .mix_dir = along_cond, .par = { in->scale, x[T_EDIT], on } };
    s->branch[0] = u;
    s->branch[1] = c;
    s->branch[2] = (Branch){ .name = "uncond shifted", .mix = shifted_uncond, .mix_dir = never, .par = { in->scale, x[T_EDIT], on }, .h_of = "uncond", .h_at = shifted_h };
    s->branch[3] = (Branch){ .name = "cond shifted", .mix = shifted_cond, .mix_dir = never, .par = { in->scale, x[T_EDIT], on }, .h_of = "cond", .h_at = shifted_h };
    *m = (Method){ .name = "asyrp", .branch = s->branch, .branches = 4, .state = s };
    if (on != 0 && x[T_BOOST] > 0) {
        m->eta = boost;
        m->eta_par[0] = x[T_BOOST];
    }
    return run_ok(r);
}

const MethodInfo method_asyrp = {
    "asyrp", "Asymmetric reverse process in h-space", "Kwon et al., arXiv 2210.10960",
    "attributes that a small network has learned, added to what the middle block says",
    "P = (x - sqrt(1-a) eps(x | h + s f(h,t)))/sqrt(a);   x' = sqrt(a') P + sqrt(1-a') eps(x | h)",
    "tiller edit --method asyrp --delta snow.safetensors -p \"a car on grass\" -s 7",
    option, OPTIONS, NEED_INVERSION, false, build, NULL,
};
