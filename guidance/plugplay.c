#include <math.h>
#include <stdio.h>
#include <string.h>
#include "guidance/invert.h"
#include "guidance/plugplay.h"

bool plugplay_sites(Run *r, PlugSites *s, const UnetConfig *c)
{
    int block = c->levels > 1, used = 0;
    snprintf(s->feature, sizeof s->feature, "up_blocks.%d.resnets.1.conv2", block);
    s->attention[0] = 0;
    for (int i = block; i < c->levels; i++) {
        int attentions = i == block ? c->layers[c->levels - 1 - i] : 0;      /* an up block has one more than its level */
        for (int k = 1; k <= attentions && used < PLUG_SITES; k++)
            used += snprintf(s->attention + used, (size_t)(PLUG_SITES - used), "%sup_blocks.%d.attentions.%d.*.attn1", used ? "," : "", i, k);
        if (i > block && used < PLUG_SITES)
            used += snprintf(s->attention + used, (size_t)(PLUG_SITES - used), "%sup_blocks.%d.*.attn1", used ? "," : "", i);
    }
    if (used >= PLUG_SITES) run_fail(r, E_OPTION, "plug-and-play: a decoder with too many attention layers");
    return run_ok(r);
}

void plugplay_put(const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state)
{
    (void)w; (void)c; (void)state;
    if (!ref) run_fail(r, E_OPTION, "plug-and-play: the source shows nothing at %s", site);
    else tensor_copy(r, val, ref->val);
}

double plugplay_until(const Clock *c, const double *par) { return c->i < (int)(c->n * par[0]); }

void plugplay_writes(Write *write, const char *feature, const char *attention, double f, double a)
{
    Write one = { .reference = 0, .put = plugplay_put, .when = plugplay_until };
    static const See kind[3] = { SEE_FEATURE, SEE_QUERY, SEE_KEY };
    for (int i = 0; i < 3; i++) {
        write[i] = one;
        write[i].kind = kind[i];
        write[i].sites = i ? attention : feature;
        write[i].when_par[0] = i ? a : f;
    }
}

/* ---- the registry's row ---- */

enum { FEATURES, ATTENTION, INVERSION_STEPS, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [FEATURES]        = { "features",        0.8, 0, 1,    "tau_f", "part of the steps whose decoder feature comes from the source" },
    [ATTENTION]       = { "self-attention",  0.5, 0, 1,    "tau_A", "part of the steps whose self-attention comes from the source" },
    [INVERSION_STEPS] = { "inversion-steps", 999, 1, 1000, "",      "steps of the inversion; at least those of the sampling" },
};

static Tensor source_text(const MethodInput *in) { return in->source.x ? in->source : in->uncond; }

/* Finer steps than the sampler's: each stored latent is the one whose timestep is nearest. */
static bool invert(Run *r, const Guide *g, const MethodInput *in, Tensor *stored, Tensor *null_text, bool *with_null)
{
    const Schedule *s = g->schedule;
    Schedule fine;
    int steps = (int)in->number[INVERSION_STEPS], most = s->config.train_steps - (s->config.train_steps > 1 && s->config.steps_offset > 0);
    size_t mark = r->run->used;
    (void)null_text;
    *with_null = false;
    steps = steps < s->n ? s->n : steps > most ? most : steps;
    if (!schedule_make(&fine, &s->config, ALPHAS_FLOAT64, steps, r->run, &r->status)) return false;
    fine.alpha_bar = s->alpha_bar;                        /* the run's own table */
    fine.final_alpha_bar = s->final_alpha_bar;
    Guide up = *g;
    up.schedule = &fine;
    Tensor z = tensor_in(r, r->run, stored[s->n].s);
    int *miss = arena_take(r->run, (size_t)s->n * sizeof *miss);
    if (!miss) run_fail(r, E_MEMORY, "out of memory: inversion");
    for (int i = 0; miss && i < s->n; i++) miss[i] = s->config.train_steps + 1;
    tensor_copy(r, z, stored[s->n]);
    for (int k = fine.n - 1; k >= 0 && run_ok(r); k--) {
        guide_invert_step(r, &up, source_text(in), k, z, z);
        for (int i = 0; i < s->n && run_ok(r); i++) {
            int off = s->t[i] > fine.t[k] ? s->t[i] - fine.t[k] : fine.t[k] - s->t[i];
            if (off >= miss[i]) continue;
            miss[i] = off;
            tensor_copy(r, stored[i], z);
        }
    }
    arena_release(r->run, mark);
    return run_ok(r);
}

typedef struct { PlugSites sites; Write write[3]; Branch branch[4]; Reference reference; } Plug;

static bool build(Run *r, Method *m, const MethodInput *in)
{
    Plug *p = arena_take(r->run, sizeof *p);
    if (!p) {
        run_fail(r, E_MEMORY, "out of memory: plug-and-play");
        return false;
    }
    if (!plugplay_sites(r, &p->sites, &in->unet->config)) return false;
    plugplay_writes(p->write, p->sites.feature, p->sites.attention, in->number[FEATURES], in->number[ATTENTION]);
    Branch *b = p->branch;
    b[0] = b[2] = (Branch){ .name = "uncond", .context = in->uncond, .mix = mix_uncond, .par = { in->scale }, .watch = true };
    b[1] = b[3] = (Branch){ .name = "cond", .context = in->cond, .mix = mix_cond, .par = { in->scale }, .watch = true };
    b[3].context = source_text(in);
    for (int i = 0; i < 2; i++) {
        b[i].write = p->write;
        b[i].writes = 3;
    }
    b[0].watch = false;
    /* An inverted image has one pass, whose text is the source's; a run beside has two, each shown to its like. */
    p->reference = in->stored ? (Reference){ REFERENCE_STORED, b + 3, 1, {0}, in->stored, NULL }
                              : (Reference){ REFERENCE_LOCKSTEP, b + 2, 2, {0}, NULL, NULL };
    if (!in->stored && in->scale == 1) p->reference = (Reference){ REFERENCE_LOCKSTEP, b + 3, 1, {0}, NULL, NULL };
    *m = (Method){ .name = "plug-and-play", .reference = &p->reference, .references = 1, .branch = b, .branches = 2 };
    return run_ok(r);
}

const MethodInfo method_plugplay = {
    "plug-and-play", "Plug-and-Play diffusion features", "Tumanyan et al., arXiv 2211.12572",
    "redraw a picture under another text, with the source's decoder features and self-attention",
    "f_4 <- f_4*  while i < tau_f n;   Q, K <- Q*, K*  in the decoder's self-attention while i < tau_A n",
    "tiller edit --method plug-and-play --image in.png --prompt \"a photo of a silver robot\"",
    option, OPTIONS, NEED_SOURCE | NEED_INVERSION, false, build, invert,
};
