/* Pix2Pix-Zero: white noise, its inversion, one guided step, a whole edit. */
#include <math.h>
#include <string.h>
#include "guidance/cfg.h"
#include "guidance/ddim.h"
#include "guidance/pix2pixzero.h"
#include "ref/conform_edit.h"
#include "tensor/point.h"

typedef struct { PixzeroNoise o; const int *rolls; int calls, each; double *ac, *kl; } Whitening;

/* steps: how many predictions are whitened (0: one, and the file's list has no such dimension). */
static bool whitening(Case *c, Whitening *w, int steps, Tensor e)
{
    Shape s;
    w->o = (PixzeroNoise){ case_real(c, "lambda_ac", 20), case_real(c, "lambda_kl", 20), case_int(c, "num_reg_steps", 5), case_int(c, "num_ac_rolls", 5) };
    w->rolls = case_ids(c, "in.rolls", &s);
    w->calls = w->o.rounds * w->o.ac_rolls;
    if (!run_ok(&c->run) || !e.x) return false;
    int most = steps ? steps : 1;
    w->each = w->calls * e.s.d[0] * pixzero_levels(e.s.d[1]);
    if (shape_count(s) != (size_t)most * (size_t)w->each)
        run_fail(&c->run, E_FORMAT, "%s: in.rolls: expected %d x %d x %d x %d shifts", c->file, most, w->calls, e.s.d[0], pixzero_levels(e.s.d[1]));
    w->ac = case_doubles(c, most * w->calls + 1);
    w->kl = case_doubles(c, most * w->o.rounds + 1);
    return run_ok(&c->run);
}

void conform_pixzero_noise(Case *c)
{
    Run *r = &c->run;
    Whitening w;
    Tensor e = case_one(c, "in.noise"), g = case_new(c, e.s), kl = case_new(c, e.s);
    if (!whitening(c, &w, 0, e)) return;
    pixzero_autocorrelation(r, g, e, w.rolls);
    pixzero_divergence(r, kl, e);
    pixzero_whiten(r, e, w.rolls, w.o, w.ac, w.kl);
    judge_as(c, "grad.ac_first", g);
    judge_as(c, "grad.kl_at_input", kl);
    judge_as(c, "out.noise", e);
    judge_doubles(c, "out.loss_ac", SHAPE(w.calls), w.ac);
    judge_doubles(c, "out.loss_kl", SHAPE(w.o.rounds), w.kl);
}

void conform_pixzero_invert(Case *c)
{
    Stage s;
    Run *r = &c->run;
    Whitening w;
    if (!stage_open(c, &s, case_int(c, "num_steps", 0))) return;
    Branch b = { .name = "cond", .context = case_one(c, "in.ctx_cond") };
    Lane l = lane_make(&b, NULL);
    Tensor z = case_one(c, "in.latent");
    int n = pixzero_inversion_steps(&s.schedule);
    Tensor track = case_new(c, SHAPE(n + 1, z.s.d[0], z.s.d[1], z.s.d[2])), raw = case_new(c, SHAPE(n, z.s.d[0], z.s.d[1], z.s.d[2]));
    int64_t *t = arena_take(r->run, (size_t)(n + 1) * sizeof *t);
    if (!whitening(c, &w, n, z) || !t) return;
    l.z = z;
    tensor_copy(r, tensor_row(track, 0), z);
    for (int i = 0; i < n && run_ok(r); i++) {
        t[i] = pixzero_inversion_t(&s.schedule, i);
        pixzero_inversion_step(r, &s.g, &l, i, w.rolls + i * w.each, w.o, tensor_row(raw, i), w.ac + i * w.calls, w.kl + i * w.o.rounds);
        tensor_copy(r, tensor_row(track, i + 1), l.z);
    }
    if (json_get(c->params, "timesteps")) judge_list(c, "timesteps", t, n, json_get(c->params, "timesteps"));
    judge_as(c, "mid.noise_raw", raw);
    judge_as(c, "out.latents", track);
    judge_doubles(c, "out.loss_ac", SHAPE(n, w.calls), w.ac);
    judge_doubles(c, "out.loss_kl", SHAPE(n, w.o.rounds), w.kl);
}

/* ---- the edit, as the registry's row makes it ---- */

static bool edit_method(Stage *s, Method *m, Tensor z, Tensor direction)
{
    Case *c = s->c;
    MethodInput in = { .uncond = case_one(c, "in.ctx_negative"), .cond = case_one(c, "in.ctx_cond"), .direction = direction,
                       .h = z.s.d[1], .w = z.s.d[2], .scale = case_real(c, "guidance_scale", 5) };
    in.source = in.cond;
    Setting set = { "xa-guidance", case_real(c, "xa_guidance", 0.1) };
    return run_ok(&c->run) && stage_method(s, m, &method_pixzero, in, &set, 1);
}

typedef struct { Tensor g, x, e, maps[2]; double *layer; int layers; const char *probe; } StepSeen;

static void copy_map(Case *c, StepSeen *seen, int side, int row, const View *v)
{
    const Sight *p = view_see(v, SEE_PROBS, seen->probe, 0);
    if (!p) return;
    if (!seen->maps[side].x) seen->maps[side] = case_new(c, SHAPE(2, p->val.s.d[0], p->val.s.d[1], p->val.s.d[2]));
    tensor_copy(&c->run, tensor_row(seen->maps[side], row), p->val);
}

/* One row: look at the reference and at the edit, score layer by layer, pull, shift, predict again. */
static void step_row(Stage *s, const Method *m, StepSeen *seen, int row, const Clock *clock, Tensor z, Tensor zref)
{
    Case *c = s->c;
    Run *r = &c->run;
    const Energy *en = m->rule->energy;
    const Json *layers = json_get(c->params, "layers");
    Lane now = lane_make(&m->branch[row], m->state), ref = lane_make(&m->reference->branch[row], m->state);
    now.z = z;
    ref.z = zref;
    guide_observe(r, &s->g, &ref, clock, en->want, en->wants, NULL, false, false);
    guide_observe(r, &s->g, &now, clock, en->want, en->wants, NULL, true, false);
    if (!run_ok(r)) return;
    copy_map(c, seen, 0, row, &ref.view);
    copy_map(c, seen, 1, row, &now.view);
    int k = 0;
    for (const Json *j = layers ? layers->child : NULL; j && k < seen->layers; j = j->next, k++) {
        View one = now.view;
        one.sight = j->kind == JSON_STRING ? view_at(&now.view, SEE_PROBS, j->text, 0) : NULL;
        one.sights = one.sight != NULL;
        seen->layer[k] += (double)en->eval(en, r, &one, &ref.view, en->weight, m->state);
    }
    judge_truth(c, row ? "layers scored, row 1" : "layers scored, row 0", now.view.sights == k, "the case names them all");
    Tensor g = tensor_row(seen->g, row), x = tensor_row(seen->x, row);
    guide_pull(r, &s->g, &now, g, (Tensor){0}, (Tensor){0});
    blend(r, x, 1, z, (real)-m->rule->gain(clock, r, g, (Tensor){0}, (Tensor){0}, m->rule->par, m->state), g);
    now.z = x;
    guide_observe(r, &s->g, &now, clock, NULL, 0, NULL, false, true);
    if (run_ok(r)) tensor_copy(r, tensor_row(seen->e, row), now.eps);
    arena_release(r->step, 0);
    case_pass(c);
}

void conform_pixzero_step(Case *c)
{
    Stage s;
    Run *r = &c->run;
    Method m;
    if (!stage_open(c, &s, case_int(c, "num_steps", 0))) return;
    Tensor z = case_one(c, "in.latent"), zref = case_one(c, "in.ref_latent"), source = case_in(c, "in.source_sentences");
    Tensor direction = run_ok(r) ? case_new(c, SHAPE(source.s.d[1], source.s.d[2])) : (Tensor){0};
    pixzero_direction(r, direction, source, case_in(c, "in.target_sentences"));
    judge_as(c, "mid.edit_direction", direction);
    if (!edit_method(&s, &m, z, direction)) return;

    const Json *layers = json_get(c->params, "layers");
    Shape two = SHAPE(2, z.s.d[0], z.s.d[1], z.s.d[2]);
    StepSeen seen = { case_new(c, two), case_new(c, two), case_new(c, two), {{0}}, NULL, layers ? layers->count : 0, case_text(c, "probe", "") };
    seen.layer = case_doubles(c, seen.layers + 1);
    int i = 0, t = case_int(c, "t", 0);
    while (i < s.schedule.n - 1 && s.schedule.t[i] != t) i++;
    Clock clock = guide_clock(&s.schedule, i);
    for (int row = 0; row < 2 && run_ok(r); row++) step_row(&s, &m, &seen, row, &clock, z, zref);
    judge_as(c, "mid.ref_probs", seen.maps[0]);
    judge_as(c, "mid.probs", seen.maps[1]);
    judge_doubles(c, "out.loss_per_layer", SHAPE(seen.layers), seen.layer);
    judge_as(c, "grad.latent", seen.g);
    judge_as(c, "out.updated", seen.x);
    judge_as(c, "out.noise_pred", seen.e);
    Tensor mixed = case_new(c, z.s), next = case_new(c, z.s);
    cfg_mix(r, mixed, tensor_row(seen.e, 0), tensor_row(seen.e, 1), case_real(c, "guidance_scale", 5));
    mixed.s = next.s = SHAPE(1, z.s.d[0], z.s.d[1], z.s.d[2]);
    ddim_step(r, &s.schedule, clock.t, next, (Tensor){0}, tensor_rows(seen.x, 0, 1), mixed, mixed, (Tensor){0}, (DdimOptions){0});
    judge_as(c, "out.next_latent", next);
}

typedef struct { Tensor track; double *norm; int norms, most; } Beside;     /* the reference's latents; gradient norms row by row */

static double gain_seen(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    Beside *b = state;
    if (b->norms < b->most) b->norm[b->norms++] = sqrt((double)dot(r, g, g));
    return pixzero_gain(c, r, g, delta, each, par, NULL);
}

static void reference_seen(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state)
{
    (void)z;
    tensor_copy(r, tensor_row(((Beside *)state)->track, c->i + 1), zref[0]);
}

void conform_pixzero_loop(Case *c)
{
    Stage s;
    Run *r = &c->run;
    Method m;
    if (!stage_open(c, &s, case_int(c, "num_steps", 0))) return;
    Tensor start = case_one(c, "in.latent");
    if (!edit_method(&s, &m, start, case_one(c, "in.edit_direction"))) return;
    Tensor z = stage_latents(&s, start);
    Beside b = { case_new(c, s.latents.s), case_doubles(c, 2 * s.schedule.n), 0, 2 * s.schedule.n };
    if (!run_ok(r)) return;
    tensor_copy(r, tensor_row(b.track, 0), start);
    Rule rule = *m.rule;
    rule.gain = gain_seen;
    m.rule = &rule;
    m.after_step = reference_seen;
    m.state = &b;
    s.energy = case_doubles(c, s.schedule.n);
    guide_sample(r, &s.g, &(Guidance){ &m, 1 }, z);
    judge_times(&s);
    judge_as(c, "mid.reference_latents", b.track);
    judge_as(c, "out.latents", s.latents);
    judge_doubles(c, "out.loss", SHAPE(s.schedule.n), s.energy);
    judge_doubles(c, "mid.grad_norm_rows", SHAPE(s.schedule.n, 2), b.norm);
}
