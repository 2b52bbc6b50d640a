#include <math.h>
#include "guidance/invert.h"
#include "guidance/nulltext.h"

static const Want want_next[] = { { SEE_PREV, "" } };

acc nulltext_distance(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    const NullText *s = state;
    Sight *p = view_at(now, SEE_PREV, "", 0);
    Tensor goal = s->stored[now->clock.i + 1];
    acc sum = 0, n = (acc)tensor_count(goal);
    (void)e; (void)ref;
    if (!p || !tensor_same(p->val, goal)) {
        run_fail(r, E_SHAPE, "null-text: the inversion's latents are not of the run's shape");
        return 0;
    }
    for (size_t i = 0; i < tensor_count(goal); i++) {
        acc d = (acc)p->val.x[i] - (acc)goal.x[i];
        sum += d * d;
        p->adj.x[i] += (real)(weight * 2 * d / n);
    }
    return weight * sum / n;
}

/* The step whose loss is low is still taken. */
Verdict nulltext_enough(const Clock *c, acc E, View *now, const View *ref, void *state)
{
    const NullText *s = state;
    (void)now; (void)ref;
    return (double)E < s->early + s->slope * c->i ? ONE_MORE : GO_ON;
}

double nulltext_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    (void)r; (void)g; (void)delta; (void)each; (void)state;
    return par[0] * fmax(1 - c->i / 100.0, 0);
}

static void keep_text(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state)
{
    const NullText *s = state;
    (void)z; (void)zref;
    if (s->found) tensor_copy(r, s->found[c->i], s->context);
}

static void lasts(void *state, const Keeper *k)
{
    const NullText *s = state;
    guide_keep(k, s->context);
    for (int i = 0; i < s->n && s->found; i++) guide_keep(k, s->found[i]);
}

/* The tensor that the rule moves. */
static Tensor present_text(const Clock *c, void *state)
{
    (void)c;
    return ((const NullText *)state)->context;
}

typedef struct { Branch branch[2]; Energy energy; Rule rule; } Fit;

bool nulltext_method(Run *r, Method *m, NullText *state, Tensor uncond, Tensor cond, const Tensor *stored, Tensor *found, NullTextOptions o)
{
    Fit *f = arena_take(r->run, sizeof *f);
    if (!f) {
        run_fail(r, E_MEMORY, "out of memory: null-text inversion");
        return false;
    }
    *state = (NullText){ stored, tensor_in(r, r->run, uncond.s), found, o.early, o.slope, 0 };
    tensor_copy(r, state->context, uncond);
    f->branch[0] = (Branch){ .name = "uncond", .context_at = present_text, .mix = mix_uncond, .par = { o.scale } };
    f->branch[1] = (Branch){ .name = "cond", .context = cond, .mix = mix_cond, .par = { o.scale } };
    f->energy = (Energy){ "next latent", want_next, 1, "", -1, nulltext_distance, NULL, o.inner > 0 && o.rate > 0 };
    f->rule = (Rule){ .energy = &f->energy, .energies = 1, .leaf = BY_CONTEXT, .into = TO_CONTEXT, .gain = nulltext_gain, .par = { o.rate },
                      .adam = true, .inner = o.inner, .enough = nulltext_enough, .branch = "uncond" };
    *m = (Method){ .name = "null-text", .branch = f->branch, .branches = 2, .rule = &f->rule, .rules = 1, .after_step = keep_text, .lasts = lasts, .state = state };
    return run_ok(r);
}

bool nulltext_invert(Run *r, const Guide *g, Tensor uncond, Tensor cond, Tensor *stored, Tensor *found, NullTextOptions o)
{
    size_t mark = r->run->used;
    NullText state;
    Method m;
    guide_invert(r, g, cond, stored);
    Tensor z = tensor_in(r, r->run, stored[0].s);
    tensor_copy(r, z, stored[0]);
    bool made = run_ok(r) && nulltext_method(r, &m, &state, uncond, cond, stored, found, o);
    state.n = made ? g->schedule->n : 0;
    if (made) guide_sample(r, g, &(Guidance){ &m, 1 }, z);
    arena_release(r->run, mark);
    return run_ok(r);
}

/* ---- the registry's row: what the texts reconstruct ---- */

enum { INNER, EARLY, SLOPE, RATE, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [INNER] = { "null-inner", 10,   0, 1000, "",    "most Adam steps on the unconditional text, a sampling step" },
    [EARLY] = { "null-early", 1e-5, 0, 1e6,  "",    "stop below this loss" },
    [SLOPE] = { "null-slope", 2e-5, 0, 1e6,  "",    "and let it rise by this much a sampling step" },
    [RATE]  = { "null-rate",  0.01, 0, 10,   "eta", "Adam's learning rate, times 1 - i/100 at step i" },
};

static bool invert(Run *r, const Guide *g, const MethodInput *in, Tensor *stored, Tensor *null_text, bool *with_null)
{
    const double *v = in->number;
    NullTextOptions o = { (int)v[INNER], v[EARLY], v[SLOPE], v[RATE], in->scale };
    *with_null = true;
    return nulltext_invert(r, g, in->uncond, in->source.x ? in->source : in->cond, stored, null_text, o);
}

static Tensor text_at(const Clock *c, void *state) { return ((const Tensor *)state)[c->i]; }

static bool build(Run *r, Method *m, const MethodInput *in)
{
    Branch *b = arena_take(r->run, 2 * sizeof *b);
    Tensor *text = in->null_text ? arena_take(r->run, (size_t)in->schedule->n * sizeof *text) : NULL;
    if (!b || (in->null_text && !text)) {
        run_fail(r, E_MEMORY, "out of memory: null-text inversion");
        return false;
    }
    for (int i = 0; text && i < in->schedule->n; i++) text[i] = in->null_text[i];
    b[0] = (Branch){ .name = "uncond", .context = in->uncond, .context_at = text ? text_at : NULL, .mix = mix_uncond, .par = { in->scale } };
    b[1] = (Branch){ .name = "cond", .context = in->source.x ? in->source : in->cond, .mix = mix_cond, .par = { in->scale } };
    *m = (Method){ .name = "null-text", .branch = b, .branches = 2, .state = text };
    return run_ok(r);
}

const MethodInfo method_nulltext = {
    "null-text", "Null-text inversion", "Mokady et al., arXiv 2211.09794",
    "draw a photograph again under guidance, with an unconditional text found for every step",
    "u_i = argmin_u | DDIM(z_i; e_u + w (e_c - e_u)) - z*_{i+1} |^2",
    "tiller edit --method null-text --image in.png --prompt \"a photo of a cat\"",
    option, OPTIONS, NEED_SOURCE | NEED_IMAGE | NEED_INVERSION | PULLS, false, build, invert,
};
