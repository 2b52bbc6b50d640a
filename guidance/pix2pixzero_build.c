#include "guidance/pix2pixzero.h"
#include "tensor/point.h"

enum { XA_GUIDANCE, ONE_LATENT, BESIDE, LAMBDA_AC, LAMBDA_KL, ROUNDS, AC_ROLLS, ROLL_SEED, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [XA_GUIDANCE] = { "xa-guidance", 0.1, 0, 1e4, "lambda_xa", "step along the gradient of the attention difference; 0.1 for photographs, 0.15 for generated pictures" },
    [ONE_LATENT]  = { "one-latent",  0,  0, 1,   "",          "1: both texts share a latent, as in the paper; 0: one each, and the unconditional one goes on, as in the authors' code" },
    [BESIDE]      = { "reference-scale", 0,  0, 100, "w", "of a picture: guidance scale of the run beside; 1 draws the picture itself; 0: the edit's scale" },
    [LAMBDA_AC]   = { "lambda-ac",   20, 0, 1e4, "lambda_ac", "inversion: step along the gradient of the auto-correlation" },
    [LAMBDA_KL]   = { "lambda-kl",   20, 0, 1e4, "lambda_kl", "inversion: step along the gradient of the divergence from white noise" },
    [ROUNDS]      = { "reg-steps",   5,  0, 100, "",          "inversion: rounds of both, a step" },
    [AC_ROLLS]    = { "ac-rolls",    5,  1, 100, "",          "inversion: auto-correlation steps a round" },
    [ROLL_SEED]   = { "roll-seed",   0,  0, 1e9, "",          "inversion: seed of the shifts" },
};

static const Want want_maps[] = { { SEE_PROBS, "*.attn2" } };
static double always(const Clock *c, const double *par) { return c->n ? par[0] : 0; }

typedef struct { Branch branch[4]; Reference reference; Energy energy; Rule rule; } Edit;

/* The reference follows the source's text, the edit the source's text + direction (without a direction: the prompt). */
static bool build(Run *r, Method *m, const MethodInput *in)
{
    Edit *e = arena_take(r->run, sizeof *e);
    Tensor source = in->source.x ? in->source : in->cond, cond = in->cond;
    if (!e) {
        run_fail(r, E_MEMORY, "out of memory: pix2pix-zero");
        return false;
    }
    if (in->direction.x) {
        cond = tensor_in(r, r->run, source.s);
        blend(r, cond, 1, source, 1, tensor_as(in->direction, source.s));
    }
    Branch *b = e->branch;
    bool apart = in->number[ONE_LATENT] == 0;
    b[0] = b[2] = (Branch){ .name = "uncond", .context = in->uncond, .mix = mix_uncond, .par = { in->scale }, .watch = true, .own_z = apart };
    b[1] = b[3] = (Branch){ .name = "cond", .context = cond, .mix = mix_cond, .par = { in->scale }, .watch = true, .own_z = apart };
    b[3].context = source;
    if (in->stored && in->number[BESIDE] > 0) b[2].par[0] = b[3].par[0] = in->number[BESIDE];
    e->reference = (Reference){ REFERENCE_LOCKSTEP, b + 2, 2, {0}, NULL, NULL };
    e->energy = (Energy){ "maps", want_maps, 1, NULL, 0, pixzero_maps, NULL, 1 };
    e->rule = (Rule){ .energy = &e->energy, .energies = 1, .leaf = BY_Z, .into = TO_Z, .gain = pixzero_gain, .par = { in->number[XA_GUIDANCE] },
                      .strength = always, .when = { in->number[XA_GUIDANCE] > 0 }, .inner = 1 };
    *m = (Method){ .name = "pix2pix-zero", .reference = &e->reference, .references = 1, .branch = b, .branches = 2, .rule = &e->rule, .rules = 1,
                   .carries = apart ? "uncond" : NULL };
    return run_ok(r);
}

/* n-2 steps lead from the clean latents, which stand for the two lowest levels too, to stored[0]. */
static bool invert(Run *r, const Guide *g, const MethodInput *in, Tensor *stored, Tensor *null_text, bool *with_null)
{
    const double *v = in->number;
    PixzeroNoise o = { v[LAMBDA_AC], v[LAMBDA_KL], (int)v[ROUNDS], (int)v[AC_ROLLS] };
    int n = g->schedule->n, channels = in->unet->config.in_channels, calls = o.rounds * o.ac_rolls;
    size_t mark = r->run->used;
    int *rolls = arena_take(r->run, (size_t)(calls * channels * pixzero_levels(in->h) + 1) * sizeof *rolls);
    Random random;
    Branch cond = { .name = "cond", .context = in->source.x ? in->source : in->cond };
    Lane l = lane_make(&cond, NULL);
    (void)null_text;
    *with_null = false;
    if (!rolls) run_fail(r, E_MEMORY, "out of memory: inversion");
    l.z = tensor_in(r, r->run, stored[n].s);
    tensor_copy(r, l.z, stored[n]);
    random_seed(&random, RANDOM_TORCH, (uint64_t)v[ROLL_SEED]);
    for (int i = n - 1; i >= 0 && run_ok(r); i--) {
        int step = n - 3 - i;                             /* the two lowest levels are the clean latents */
        if (step >= 0 && step < pixzero_inversion_steps(g->schedule)) {
            pixzero_draw(&random, rolls, calls, channels, in->h);
            pixzero_inversion_step(r, g, &l, step, rolls, o, (Tensor){0}, NULL, NULL);
        }
        tensor_copy(r, stored[i], l.z);
        size_t bad = run_ok(r) ? count_nonfinite(l.z) : 0;
        if (bad) run_fail(r, E_NUMBER, "%zu numbers of the latent are not finite after inverting to step %d of %d", bad, i + 1, n);
        Clock c = guide_clock(g->schedule, i);
        if (run_ok(r) && g->inverted && !g->inverted(g->user, &c)) run_fail(r, E_STOP, "stopped");
    }
    arena_release(r->run, mark);
    return run_ok(r);
}

const MethodInfo method_pixzero = {
    "pix2pix-zero", "Pix2Pix-Zero", "Parmar et al., arXiv 2302.03027",
    "turn one thing into another along a direction between two sets of sentences, keeping the layout",
    "x <- x - lambda_xa d/dx sum_layers |M - M_ref|^2,  text c + (mean E(target) - mean E(source))",
    "tiller edit --method pix2pix-zero --image in.png --source cat --target dog",
    option, OPTIONS, NEED_SOURCE | NEED_INVERSION | NEED_DIRECTION | PULLS_TWICE, false, build, invert,
};
