/* Attention editing: what its cases share, null-text inversion and Plug-and-Play. */
#include <stdio.h>
#include <string.h>
#include "guidance/invert.h"
#include "guidance/nulltext.h"
#include "guidance/plugplay.h"
#include "ref/conform_edit.h"

static bool watch(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Stage *s = user;
    int i = report->clock.i;
    (void)x0;
    if (s->latents.x) tensor_copy(&s->c->run, tensor_row(s->latents, i + 1), z);
    if (s->energy) s->energy[i] = (double)report->energy;
    return run_ok(&s->c->run);
}

bool stage_open(Case *c, Stage *s, int steps)
{
    ScheduleConfig config;
    memset(s, 0, sizeof *s);
    s->c = c;
    if (!case_unet(c, &s->unet) || !case_scheduler(c, &config) || !case_schedule(c, &s->schedule, &config, steps)) return false;
    s->g = (Guide){ .unet = &s->unet, .schedule = &s->schedule, .watch = watch, .user = s };
    return run_ok(&c->run);
}

Tensor stage_latents(Stage *s, Tensor start)
{
    Case *c = s->c;
    Tensor z = case_new(c, start.s);
    s->latents = case_new(c, SHAPE(s->schedule.n + 1, start.s.d[0], start.s.d[1], start.s.d[2]));
    if (run_ok(&c->run)) tensor_copy(&c->run, tensor_row(s->latents, 0), start);
    tensor_copy(&c->run, z, start);
    return z;
}

bool stage_method(Stage *s, Method *m, const MethodInfo *info, MethodInput in, const Setting *set, int settings)
{
    double *number = case_doubles(s->c, info->options + 1);
    if (!number) return false;
    for (int i = 0; i < info->options; i++) number[i] = info->option[i].value;
    for (int i = 0; i < settings; i++) {
        int k = methods_option(info, set[i].name);
        if (k >= 0) number[k] = set[i].value;
        else run_fail(&s->c->run, E_OPTION, "%s has no option %s", info->name, set[i].name);
    }
    in.number = number;
    in.schedule = &s->schedule;
    in.unet = &s->unet;
    return run_ok(&s->c->run) && info->build(&s->c->run, m, &in);
}

double *case_doubles(Case *c, int n)
{
    double *x = arena_take(c->run.run, (size_t)n * sizeof *x);
    if (!x) run_fail(&c->run, E_MEMORY, "%s: no memory for %d numbers", c->file, n);
    else memset(x, 0, (size_t)n * sizeof *x);
    return x;
}

Tensor case_one(Case *c, const char *name) { return tensor_row(case_in(c, name), 0); }

Tensor *case_rows(Case *c, Tensor t)
{
    Tensor *row = arena_take(c->run.run, (size_t)(t.s.d[0] + 1) * sizeof *row);
    if (!row) run_fail(&c->run, E_MEMORY, "%s: no memory for %d tensors", c->file, t.s.d[0]);
    for (int i = 0; row && i < t.s.d[0]; i++) row[i] = tensor_row(t, i);
    return row;
}

const char *case_sites(Case *c, const char *key, const char *suffix)
{
    const Json *list = json_get(c->params, key);
    const char *text = "";
    for (const Json *j = list ? list->child : NULL; j && run_ok(&c->run); j = j->next) {
        if (j->kind == JSON_STRING) text = case_name(c, "%s%s%s%s", text, *text ? "," : "", j->text, suffix);
        else run_fail(&c->run, E_FORMAT, "%s: params.%s: expected a list of module paths", c->file, key);
    }
    return text;
}

void judge_as(Case *c, const char *name, Tensor t)
{
    Shape s;
    const SafeEntry *e = c->tensors.entries ? safetensors_find(&c->tensors, name) : NULL;
    if (e && safetensors_shape(e, &s) && shape_count(s) == tensor_count(t)) t.s = s;
    judge(c, name, t);
}

void judge_times(Stage *s)
{
    const Json *list = json_get(s->c->params, "timesteps");
    int64_t *t = arena_take(s->c->run.run, (size_t)s->schedule.n * sizeof *t);
    for (int i = 0; t && i < s->schedule.n; i++) t[i] = s->schedule.t[i];
    if (t && list) judge_list(s->c, "timesteps", t, s->schedule.n, list);
}

/* ---- null-text inversion ---- */

typedef struct {
    NullText null;                                        /* first: it is the method's state */
    Case *c;
    double *losses;                                       /* [n, inner] */
    int64_t *iterations;
    int inner, updates;
    Tensor first, after_first, last;                      /* the first gradient; u after one update, and after all */
    void (*after_step)(const Clock *, Run *, Tensor, const Tensor *, void *);
} Fitting;

static Verdict enough_seen(const Clock *c, acc E, View *now, const View *ref, void *state)
{
    Fitting *f = state;
    f->losses[c->i * f->inner + c->inner] = (double)E;
    f->iterations[c->i] = c->inner + 1;
    return nulltext_enough(c, E, now, ref, state);
}

static double gain_seen(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    Fitting *f = state;
    if (f->updates == 0) tensor_copy(r, f->first, g);
    if (f->updates == 1) tensor_copy(r, f->after_first, f->null.context);
    f->updates++;
    return nulltext_gain(c, r, g, delta, each, par, state);
}

static void step_seen(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state)
{
    Fitting *f = state;
    if (f->updates == 1) tensor_copy(r, f->after_first, f->null.context);
    tensor_copy(r, f->last, f->null.context);
    f->after_step(c, r, z, zref, state);
}

void conform_nulltext(Case *c)
{
    Stage s;
    Run *r = &c->run;
    if (!stage_open(c, &s, case_int(c, "num_steps", 0))) return;
    int n = s.schedule.n, inner = case_int(c, "num_inner_steps", 10);
    NullTextOptions o = { inner, case_real(c, "early_stop", 1e-5), case_real(c, "early_stop_slope", 2e-5), case_real(c, "lr", 0.01),
                          case_real(c, "guidance_scale", 7.5) };
    Tensor clean = case_one(c, "in.latent"), uncond = case_one(c, "in.ctx_uncond"), cond = case_one(c, "in.ctx_cond");
    Tensor track = case_new(c, SHAPE(n + 1, clean.s.d[0], clean.s.d[1], clean.s.d[2])), up = case_new(c, track.s);
    Fitting f = { .c = c, .losses = case_doubles(c, n * inner + 1), .inner = inner, .first = case_new(c, uncond.s),
                  .after_first = case_new(c, uncond.s), .last = case_new(c, uncond.s), .iterations = arena_take(r->run, (size_t)n * sizeof(int64_t)) };
    Tensor *stored = case_rows(c, track);
    if (!run_ok(r) || !f.iterations) return;
    tensor_copy(r, stored[n], clean);
    guide_invert(r, &s.g, cond, stored);
    for (int i = 0; i <= n && run_ok(r); i++) tensor_copy(r, tensor_row(up, i), stored[n - i]);

    Method m;
    if (!run_ok(r) || !nulltext_method(r, &m, &f.null, uncond, cond, stored, NULL, o)) return;
    Rule rule = *m.rule;
    rule.gain = gain_seen;
    rule.enough = enough_seen;
    m.rule = &rule;
    f.after_step = m.after_step;
    m.after_step = step_seen;
    guide_sample(r, &s.g, &(Guidance){ &m, 1 }, stage_latents(&s, stored[0]));
    judge_times(&s);
    if (json_get(c->params, "iters")) judge_list(c, "iterations", f.iterations, n, json_get(c->params, "iters"));
    judge_as(c, "mid.inversion", up);
    judge_as(c, "grad.uncond_first", f.first);
    judge_as(c, "mid.uncond_after_first_inner", f.after_first);
    judge_as(c, "out.uncond_last", f.last);
    judge_doubles(c, "out.losses", SHAPE(n, inner), f.losses);
    judge_as(c, "out.latents", s.latents);
}

/* ---- Plug-and-Play ---- */

typedef struct { Branch branch[3]; Write write[3]; Reference reference; } Plugged;

/* The source's latents at the sampling steps, from a finer inversion. */
static Tensor source_latents(Stage *s, Tensor context)
{
    Case *c = s->c;
    Run *r = &c->run;
    Stage fine = *s;
    int n = s->schedule.n;
    Tensor clean = case_one(c, "in.latent"), kept = case_new(c, SHAPE(n, clean.s.d[0], clean.s.d[1], clean.s.d[2])), z = case_new(c, clean.s);
    if (!run_ok(r) || !case_schedule(c, &fine.schedule, &s->schedule.config, case_int(c, "inversion_steps", n))) return kept;
    fine.g.schedule = &fine.schedule;
    tensor_copy(r, z, clean);
    for (int k = fine.schedule.n - 1; k >= 0 && run_ok(r); k--) {
        guide_invert_step(r, &fine.g, context, k, z, z);
        for (int i = 0; i < n; i++)
            if (s->schedule.t[i] == fine.schedule.t[k]) tensor_copy(r, tensor_row(kept, i), z);
    }
    return kept;
}

/* The three passes of the first step, observed: source, negative, conditional. */
static void first_step(Stage *s, const Branch *b, Tensor z, Tensor source)
{
    Case *c = s->c;
    Run *r = &c->run;
    Clock clock = guide_clock(&s->schedule, 0);
    const char *feature = case_name(c, "%s.conv2", case_text(c, "feature_layer", ""));
    const Json *list = json_get(c->params, "attention_layers");
    const char *attention = list && list->child && list->child->kind == JSON_STRING ? list->child->text : "";
    Want want[4] = { { SEE_FEATURE, feature }, { SEE_QUERY, "*.attn1" }, { SEE_KEY, "*.attn1" }, { SEE_PROBS, attention } };
    Lane lane[3];
    Tensor eps = case_new(c, SHAPE(3, z.s.d[0], z.s.d[1], z.s.d[2])), probs = {0};
    for (int k = 0; k < 3 && run_ok(r); k++) {
        const View *ref[1] = { &lane[0].view };
        lane[k] = lane_make(&b[(k + 2) % 3], NULL);
        lane[k].z = k ? z : source;
        guide_observe(r, &s->g, &lane[k], &clock, want, 4, k ? ref : NULL, false, true);
        if (!run_ok(r)) return;
        const Sight *p = view_see(&lane[k].view, SEE_PROBS, attention, 0), *f = view_see(&lane[k].view, SEE_FEATURE, feature, 0);
        tensor_copy(r, tensor_row(eps, k), lane[k].eps);
        if (p && !probs.x) probs = case_new(c, SHAPE(3, p->val.s.d[0], p->val.s.d[1], p->val.s.d[2]));
        if (p) tensor_copy(r, tensor_row(probs, k), p->val);
        if (f && !k) judge_as(c, "mid.feature_first", f->val);
    }
    judge_as(c, "mid.noise_first", eps);
    judge_as(c, "mid.self_probs_first", probs);
}

void conform_plugplay(Case *c)
{
    Stage s;
    Run *r = &c->run;
    if (!stage_open(c, &s, case_int(c, "num_steps", 0))) return;
    double w = case_real(c, "guidance_scale", 7.5);
    Plugged p = { .branch = {
        { .name = "uncond", .context = case_one(c, "in.ctx_negative"), .mix = mix_uncond, .par = { w } },
        { .name = "cond", .context = case_one(c, "in.ctx_cond"), .mix = mix_cond, .par = { w } },
        { .name = "source", .context = case_one(c, "in.ctx_null"), .watch = true } } };
    const char *feature = case_name(c, "%s.conv2", case_text(c, "feature_layer", "")), *attention = case_sites(c, "attention_layers", "");
    PlugSites ours;
    Tensor source = source_latents(&s, p.branch[2].context), *stored = case_rows(c, source);
    if (!run_ok(r) || !plugplay_sites(r, &ours, &s.unet.config)) return;
    judge_truth(c, "our own choice of sites", site_matches(ours.feature, feature), ours.feature);
    plugplay_writes(p.write, feature, attention, case_real(c, "pnp_f_t", 0.8), case_real(c, "pnp_attn_t", 0.5));
    for (int i = 0; i < 2; i++) {
        p.branch[i].write = p.write;
        p.branch[i].writes = 3;
    }
    p.reference = (Reference){ REFERENCE_STORED, p.branch + 2, 1, {0}, stored, NULL };
    Method m = { .name = "plug-and-play", .reference = &p.reference, .references = 1, .branch = p.branch, .branches = 2 };
    first_step(&s, p.branch, stored[0], stored[0]);
    arena_release(r->step, 0);
    case_pass(c);
    guide_sample(r, &s.g, &(Guidance){ &m, 1 }, stage_latents(&s, stored[0]));
    judge_times(&s);
    judge_as(c, "mid.source_latents", source);
    judge_as(c, "out.latents", s.latents);
}
