/* engine.c -- the sampling loop under guidance.
 *
 * A step: references show themselves; rules that change z, h or a context act and look again; all branches predict; rules
 * that change the step act; the predictions are mixed; the sampler moves z. */
#include <math.h>
#include <string.h>
#include "guidance/cfg.h"
#include "guidance/ddim.h"
#include "guidance/ddpm.h"
#include "guidance/engine.h"
#include "tensor/point.h"

double lane_mix(const Lane *l, const Clock *c, bool direction)
{
    Curve *mix = direction && l->b.mix_dir ? l->b.mix_dir : l->b.mix;
    return mix ? mix(c, l->b.par) : 0;
}

static const View *shown(const ReferenceRun *ref, const char *branch)
{
    const View *first = NULL;
    for (int k = 0; ref->seen && k < ref->lanes; k++) {
        if (!strcmp(ref->lane[k].b.name, branch)) return &ref->lane[k].view;
        if (!first && ref->lane[k].b.watch) first = &ref->lane[k].view;
    }
    return first;
}

const View *engine_reference(const Engine *e, int reference, const Lane *l)
{
    if (reference < 0 || reference >= e->refs) return NULL;
    return shown(&e->ref[reference], l ? (l->b.see_from ? l->b.see_from : l->b.name) : "");
}

void engine_see(Engine *e, Lane *l, const Clock *c, const Wants *w, bool pull, bool whole)
{
    const View *ref[REFERENCES] = {0};
    for (int j = 0; j < e->refs; j++) ref[j] = engine_reference(e, j, l);
    if (!e->own_z) l->z = e->z;
    guide_observe(e->r, e->g, l, c, w->want, w->n, ref, pull, whole);
    e->report.forwards++;
}

/* sum_b w_b out_b with weights that sum to one, as  u + sum w_b (out_b - u): classifier-free guidance in its usual order. */
static void mix_lanes(Run *r, Tensor out, const Lane *lane, int lanes, const Clock *c, bool direction)
{
    Tensor u = {0}, other[LANES];
    double w[LANES], sum = 0;
    int n = 0;
    for (int k = 0; k < lanes; k++) {
        double m = lane_mix(&lane[k], c, direction);
        if (m == 0) continue;
        sum += m;
        if (!u.x) u = lane[k].eps;
        else {
            other[n] = lane[k].eps;
            w[n++] = m;
        }
    }
    if (fabs(sum - 1) > 1e-9) run_fail(r, E_OPTION, "guidance: the branches' weights sum to %g, not 1", sum);
    else if (!n) tensor_copy(r, out, u);
    else if (n == 1) cfg_mix(r, out, u, other[0], w[0]);
    else cfg_compose(r, out, u, other, w, n);
}

static Tensor mixed_range(const Lane *lane, int lanes, const Clock *c)
{
    Tensor range = {0};
    for (int k = 0; k < lanes; k++)
        if (lane_mix(&lane[k], c, false) != 0) range = lane[k].range;
    return range;
}

void engine_mix(Engine *e, const Clock *c)
{
    e->range = mixed_range(e->lane, e->lanes, c);
    mix_lanes(e->r, e->eps_x0, e->lane, e->lanes, c, false);
    mix_lanes(e->r, e->eps_dir, e->lane, e->lanes, c, true);
    e->is_eps = false;
}

/* ---- predictions ------------------------------------------------------------------------------------------------ */

static bool late_pull(const Engine *e, const Clock *c)
{
    for (int k = 0; k < e->rules; k++)
        if (!rule_early(&e->rule[k]) && rule_active(&e->rule[k], c) && e->rule[k].rule->leaf != BY_X0) return true;
    return false;
}

static bool late_step_energy(const Engine *e, const Clock *c)
{
    for (int k = 0; k < e->rules; k++)
        for (int i = 0; i < e->rule[k].rule->energies && !rule_early(&e->rule[k]) && rule_active(&e->rule[k], c); i++) {
            const Energy *en = &e->rule[k].rule->energy[i];
            if (rule_through(en) && e->rule[k].rule->leaf != BY_X0) return true;
        }
    return false;
}

static void remembered(Engine *e, Wants *w, const Lane *l)
{
    for (int k = 0; k < e->methods->parts && l->b.watch; k++)
        for (int i = 0; i < e->methods->part[k].remembers; i++)
            wants_add(e, w, e->methods->part[k].remember[i].kind, e->methods->part[k].remember[i].sites);
}

/* Branches that repeat the decoder of another's pass, with those passes where nobody has run them. */
static void predict_shifted(Engine *e, Lane *const *plain, int n, const Clock *c)
{
    Lane *with[LANES], *seen[LANES], *alone[LANES];
    int withs = 0, seens = 0, alones = 0;
    for (int k = 0; k < n; k++)
        if (engine_shifted(e, plain[k], c)) with[withs++] = plain[k];
        else alone[alones++] = plain[k];
    for (int k = 0; k < e->lanes; k++) {
        bool here = engine_shifted(e, &e->lane[k], c);
        for (int i = 0; i < withs; i++) here &= with[i] != &e->lane[k];
        if (here) seen[seens++] = &e->lane[k];
        if (here && !e->own_z) e->lane[k].z = e->z;
        if (here && !lane_bare(&e->lane[k], c))
            run_fail(e->r, E_OPTION, "guidance: a change inside the pass of %s, of which another branch repeats the decoder", e->lane[k].b.name);
    }
    if (alones && run_ok(e->r)) engine_together(e, alone, alones, c);
    if (withs && run_ok(e->r)) engine_halves(e, with, withs, true, c);
    if (seens && run_ok(e->r)) engine_halves(e, seen, seens, false, c);
}

static void predict(Engine *e, const Clock *c)
{
    Lane *plain[LANES];
    int n = 0;
    bool through = late_step_energy(e, c);
    for (int k = 0; k < e->lanes && run_ok(e->r); k++) {
        Lane *l = &e->lane[k];
        Wants w = {0};
        bool mixed = lane_mixed(l, c);
        if (l->b.h_of && mixed && through) run_fail(e->r, E_OPTION, "guidance: no gradient goes through %s, which repeats a decoder alone", l->b.name);
        if (l->b.h_of) continue;
        wants_of_rules(e, &w, l, c, false);
        bool pull = (w.n > 0 && late_pull(e, c)) || (through && mixed);
        remembered(e, &w, l);
        if (!mixed && !w.n && !engine_shifted(e, l, c)) continue;
        if (l->valid && l->eps.x && !w.n && !pull) continue;
        if (!e->own_z) l->z = e->z;
        if (!w.n && !pull && lane_bare(l, c) && (!n || shape_same(plain[0]->context.s, l->context.s))) plain[n++] = l;
        else engine_see(e, l, c, &w, pull, mixed);
    }
    predict_shifted(e, plain, n, c);
}

/* ---- references --------------------------------------------------------------------------------------------------- */

static void wants_of_reference(Engine *e, Wants *w, int j, const Clock *c)
{
    for (int k = 0; k < e->rules; k++)
        for (int i = 0; i < e->rule[k].rule->energies && rule_active(&e->rule[k], c); i++) {
            const Energy *en = &e->rule[k].rule->energy[i];
            for (int m = 0; m < en->wants && en->reference == j && en->weight != 0; m++) wants_add(e, w, en->want[m].kind, en->want[m].sites);
        }
    for (int k = 0; k < e->lanes; k++)
        for (int i = 0; i < e->lane[k].writes; i++) {
            const Write *x = e->lane[k].write[i].write;
            if (x->reference == j && (!x->when || x->when(c, x->when_par) != 0)) wants_add(e, w, x->kind, x->sites);
        }
    for (int k = 0; k < e->methods->parts; k++)
        for (int i = 0; i < e->methods->part[k].remembers; i++)
            wants_add(e, w, e->methods->part[k].remember[i].kind, e->methods->part[k].remember[i].sites);
}

static void place_reference(Engine *e, ReferenceRun *ref, const Clock *c)
{
    Run *r = e->r;
    const Reference *what = ref->what;
    if (what->kind == REFERENCE_STORED) tensor_copy(r, ref->z, what->stored[c->i]);
    if (what->kind != REFERENCE_NOISED) return;
    size_t mark = r->temp->used;
    Tensor n = what->noise ? what->noise[c->i] : temp(r, ref->z.s);
    if (!what->noise && e->g->noise) e->g->noise(e->g->user, NOISE_REFERENCE, c, n);
    else if (!what->noise) run_fail(r, E_OPTION, "guidance: a re-noised reference needs noise");
    ddim_add_noise(r, e->g->schedule, c->t, ref->z, what->start, n);
    arena_release(r->temp, mark);
}

static void see_references(Engine *e, const Clock *c)
{
    Run *r = e->r;
    for (int j = 0; j < e->refs && run_ok(r); j++) {
        ReferenceRun *ref = &e->ref[j];
        bool along = ref->what->kind == REFERENCE_LOCKSTEP, frozen = ref->what->kind == REFERENCE_FROZEN;
        Wants w = {0};
        if (frozen && ref->seen) continue;
        wants_of_reference(e, &w, j, c);
        ref->seen = w.n > 0;
        if (!along && !w.n) continue;
        place_reference(e, ref, c);
        Arena *step = r->step;
        if (frozen) r->step = r->run;                     /* what is seen now stays */
        for (int k = 0; k < ref->lanes; k++) {
            Lane *l = &ref->lane[k];
            bool mixed = along && lane_mix(l, c, false) != 0;
            if (l->b.context_at) l->context = l->b.context_at(c, l->state);
            l->z = ref->z;
            if (!mixed && !(l->b.watch && w.n)) continue;
            guide_observe(r, e->g, l, c, w.want, l->b.watch ? w.n : 0, NULL, false, mixed);
            e->report.forwards++;
        }
        r->step = step;
    }
}

/* ---- the sampler --------------------------------------------------------------------------------------------------- */

static double eta_of(const Engine *e, const Clock *c)
{
    for (int k = 0; k < e->methods->parts; k++)
        if (e->methods->part[k].eta) return e->methods->part[k].eta(c, e->methods->part[k].eta_par);
    return e->g->eta;
}

/* Of a pixel-space process: x0 is clamped, and DDIM's direction belongs to the clamped one (derived apart where it has its own). */
static void process_step(Engine *e, const Clock *c, Tensor to, Tensor x0, Tensor from, Tensor m_x0, Tensor m_dir, Tensor range, bool late)
{
    Run *r = e->r;
    const Gaussian *g = e->g->process;
    size_t mark = r->temp->used;
    int j = gaussian_index(g, c->t);
    Tensor eps = temp(r, from.s), log_variance = temp(r, from.s);
    gaussian_x0(r, g, j, x0, from, m_x0);
    gaussian_clamp(r, g, x0);
    if (e->g->sampler == SAMPLER_DDPM) {
        gaussian_log_variance(r, g, j, log_variance, range);
        gaussian_mean(r, g, j, to, x0, from);
        gaussian_ancestral(r, g, j, to, to, log_variance, e->noise);
    } else {
        gaussian_x0(r, g, j, eps, from, m_dir);
        gaussian_clamp(r, g, eps);
        gaussian_eps(r, g, j, eps, from, eps);
        if (late) axpy(r, x0, (real)-sqrt(1 / c->ab - 1), e->late_x0);
        if (late) add(r, eps, e->late_dir);
        gaussian_ddim(r, g, j, to, x0, eps, e->noise, eta_of(e, c));
    }
    arena_release(r->temp, mark);
}

void engine_variance(Engine *e, const Clock *c, Tensor variance)
{
    const Gaussian *g = e->g->process;
    if (g) gaussian_variance(e->r, g, gaussian_index(g, c->t), variance, e->range);
    else scale(e->r, variance, 0, e->z, (real)ddpm_variance(e->g->schedule, c->t));
}

static void sampler_step(Engine *e, const Clock *c, Tensor to, Tensor x0, Tensor from, Tensor m_x0, Tensor m_dir, bool is_eps)
{
    Run *r = e->r;
    Schedule s = *e->g->schedule;
    Shape one = {{ 1, from.s.d[0], from.s.d[1], from.s.d[2] }};
    if (is_eps) s.config.prediction = PREDICT_EPS;
    Tensor n = e->noise;
    if (n.x) n.s = one;
    to.s = x0.s = from.s = m_x0.s = m_dir.s = one;
    if (e->g->sampler == SAMPLER_DDPM) ddpm_step(r, &s, c->t, to, x0, from, m_x0, n);
    else ddim_step(r, &s, c->t, to, x0, from, m_x0, m_dir, n, (DdimOptions){ .eta = eta_of(e, c) });
}

static void draw(Engine *e, const Clock *c)
{
    bool wanted = e->g->sampler == SAMPLER_DDPM || eta_of(e, c) > 0;
    if (!wanted) return;
    if (!e->g->noise) run_fail(e->r, E_OPTION, "guidance: this sampler needs noise");
    else e->g->noise(e->g->user, NOISE_SAMPLER, c, e->noise);
}

static void move_references(Engine *e, const Clock *c)
{
    Run *r = e->r;
    size_t mark = r->temp->used;
    for (int j = 0; j < e->refs && run_ok(r); j++) {
        ReferenceRun *ref = &e->ref[j];
        if (ref->what->kind != REFERENCE_LOCKSTEP) continue;
        Tensor m = temp(r, ref->z.s), x0 = temp(r, ref->z.s);
        mix_lanes(r, m, ref->lane, ref->lanes, c, false);
        if (e->g->process) process_step(e, c, ref->z, x0, ref->z, m, m, mixed_range(ref->lane, ref->lanes, c), false);
        else sampler_step(e, c, ref->z, x0, ref->z, m, m, false);
        arena_release(r->temp, mark);
    }
}

/* z at t_prev back to t with fresh noise (time travel): z = sqrt(ab/ab') z' + sqrt(1 - ab/ab') n. */
static void travel(Engine *e, const Clock *c)
{
    Run *r = e->r;
    size_t mark = r->temp->used;
    Tensor n = temp(r, e->z.s);
    double back = c->ab / c->ab_prev;
    if (!e->g->noise) run_fail(r, E_OPTION, "guidance: repeating a step needs noise");
    else e->g->noise(e->g->user, NOISE_TRAVEL, c, n);
    blend(r, e->z, (real)sqrt(back), e->z, (real)sqrt(1 - back), n);
    arena_release(r->temp, mark);
}

/* ---- the loop ------------------------------------------------------------------------------------------------------- */

static void hooks_after_pass(Engine *e, const Clock *c)
{
    View now[LANES + 1] = {0};
    const View *ref[REFERENCES];
    for (int k = 0; k < e->lanes; k++) now[k] = e->lane[k].view;
    for (int j = 0; j < e->refs; j++) ref[j] = shown(&e->ref[j], "");
    for (int k = 0; k < e->methods->parts && run_ok(e->r); k++)
        if (e->methods->part[k].after_pass) e->methods->part[k].after_pass(c, e->r, now, ref, e->methods->part[k].state);
}

static void hooks_after_step(Engine *e, const Clock *c)
{
    Tensor zref[REFERENCES];
    for (int j = 0; j < e->refs; j++) zref[j] = e->ref[j].z;
    for (int k = 0; k < e->methods->parts && run_ok(e->r); k++)
        if (e->methods->part[k].after_step) e->methods->part[k].after_step(c, e->r, e->z, zref, e->methods->part[k].state);
}

static void remix(Engine *e, const Clock *c)
{
    Tensor out[LANES];
    for (int k = 0; k < e->lanes; k++) out[k] = e->lane[k].eps;
    for (int k = 0; k < e->methods->parts && run_ok(e->r); k++)
        if (e->methods->part[k].remix) {
            e->methods->part[k].remix(c, e->r, out, e->eps_x0, e->methods->part[k].state);
            tensor_copy(e->r, e->eps_dir, e->eps_x0);
        }
}

static void one_step(Engine *e, Clock *c)
{
    Run *r = e->r;
    e->has_after = e->has_late = false;
    tensor_zero(e->after);
    tensor_zero(e->late_x0);
    tensor_zero(e->late_dir);
    for (int k = 0; k < e->lanes; k++) {
        Lane *l = &e->lane[k];
        l->valid = false;
        l->eps = l->range = (Tensor){0};
        l->view = (View){0};
        tensor_zero(l->dh);
        if (l->b.context_at) l->context = l->b.context_at(c, l->state);
        if (e->own_z) tensor_copy(r, l->z, e->z);
    }
    see_references(e, c);
    rules_early(e, c);
    predict(e, c);
    engine_mix(e, c);
    rules_late(e, c);
    remix(e, c);
    hooks_after_pass(e, c);
    draw(e, c);
    Tensor from = e->own_z ? e->lane[e->carries].z : e->z;
    if (e->g->process) process_step(e, c, e->z, e->x0, from, e->eps_x0, e->eps_dir, e->range, e->has_late);
    else sampler_step(e, c, e->z, e->x0, from, e->eps_x0, e->eps_dir, e->is_eps);
    if (e->has_after) axpy(r, e->z, -1, e->after);
    move_references(e, c);
    hooks_after_step(e, c);
}

/* A text that a rule moves is the run's own: the caller's stays what it was. */
static void own_text(Engine *e, Lane *l)
{
    bool moved = false;
    for (int k = 0; k < e->rules; k++) {
        const Rule *u = e->rule[k].rule;
        moved |= u->into == TO_CONTEXT && u->branch && !strcmp(u->branch, l->b.name);
    }
    if (!moved || !l->context.x) return;
    Tensor own = tensor_in(e->r, e->r->run, l->context.s);
    tensor_copy(e->r, own, l->context);
    l->context = own;
}

/* Rules that move h start each step from no shift, of the shape of the middle block's output. */
typedef struct { Engine *e; bool found; } MiddleBlock;

static void at_middle_block(void *self, SiteKind kind, const char *path, Shape s)
{
    MiddleBlock *m = self;
    if (kind != SITE_FEATURE || strcmp(path, "mid_block")) return;
    m->found = true;
    for (int k = 0; k < m->e->lanes; k++) m->e->lane[k].dh = tensor_in(m->e->r, m->e->r->run, SHAPE(s.d[3], s.d[1], s.d[2]));
}

static void begin_h(Engine *e)
{
    MiddleBlock m = { e, false };
    bool wanted = false;
    for (int k = 0; k < e->rules; k++) wanted |= e->rule[k].rule->leaf == BY_H;
    if (!wanted) return;
    unet_sites(e->g->unet, e->z.s.d[1], e->z.s.d[2], 1, at_middle_block, &m);
    if (!m.found) run_fail(e->r, E_OPTION, "guidance of h: this network has no middle block");
}

static void begin(Engine *e, Tensor z)
{
    Run *r = e->r;
    e->z = z;
    e->eps_x0 = tensor_in(r, r->run, z.s);
    e->eps_dir = tensor_in(r, r->run, z.s);
    e->x0 = tensor_in(r, r->run, z.s);
    e->after = tensor_in(r, r->run, z.s);
    e->before = tensor_in(r, r->run, z.s);
    bool eta = e->g->eta > 0;
    for (int k = 0; k < e->methods->parts; k++) eta |= e->methods->part[k].eta != NULL;
    if (e->g->sampler == SAMPLER_DDPM || eta) e->noise = tensor_in(r, r->run, z.s);
    if (e->g->process && e->g->sampler == SAMPLER_DDIM) {
        e->late_x0 = tensor_in(r, r->run, z.s);
        e->late_dir = tensor_in(r, r->run, z.s);
    }
    for (int k = 0; k < e->lanes; k++) {
        Lane *l = &e->lane[k];
        l->z = e->own_z ? tensor_in(r, r->run, z.s) : z;
        l->room = tensor_in(r, r->run, SHAPE(e->g->unet->config.out_channels, z.s.d[1], z.s.d[2]));
        if (!l->context.x && !l->b.context_at && !l->b.h_of && e->g->unet->context) run_fail(r, E_OPTION, "guidance: branch %s has no text", l->b.name);
        own_text(e, l);
    }
    begin_h(e);
    for (int j = 0; j < e->refs; j++) {
        ReferenceRun *ref = &e->ref[j];
        ref->z = tensor_in(r, r->run, z.s);
        tensor_copy(r, ref->z, ref->what->kind == REFERENCE_LOCKSTEP && ref->what->start.x ? ref->what->start : z);
    }
}

static double repeats(const Engine *e, const Clock *c)
{
    for (int k = 0; k < e->methods->parts; k++)
        if (e->methods->part[k].repeat) return e->methods->part[k].repeat(c, e->methods->part[k].repeat_par);
    return 1;
}

void guide_sample(Run *r, const Guide *g, const Guidance *methods, Tensor z)
{
    size_t run_mark = r->run->used, step_mark = r->step->used, keep_mark = r->keep->used;
    Engine *e = arena_take(r->run, sizeof *e);
    if (!e) {
        run_fail(r, E_MEMORY, "out of memory: guidance");
        return;
    }
    GuideMemory memory = { e };
    *e = (Engine){ .r = r, .g = g };
    if (engine_compose(e, methods)) begin(e, z);
    if (run_ok(r) && g->begun) g->begun(g->user, &memory);
    for (int i = g->first_step; i < g->schedule->n && run_ok(r); i++) {
        Clock c = guide_clock(g->schedule, i);
        e->report = (GuideReport){ .clock = c };
        int times = (int)fmax(1, repeats(e, &c));
        for (c.repeat = 0; c.repeat < times && run_ok(r); c.repeat++) {
            if (c.repeat) travel(e, &c);
            tensor_copy(r, e->before, z);
            one_step(e, &c);
            engine_finite(e, &c);
            arena_release(r->keep, keep_mark);
            arena_release(r->step, step_mark);
        }
        if (run_ok(r) && g->kept) g->kept(g->user, i + 1, &memory);
        if (run_ok(r) && g->watch && !g->watch(g->user, &e->report, z, e->x0)) run_fail(r, E_STOP, "stopped");
    }
    arena_release(r->keep, keep_mark);
    arena_release(r->step, step_mark);
    arena_release(r->run, run_mark);
}
