/* rules.c -- from energies to a step: observe, score, pull, shift.
 *
 * With q the gradient at the mixed eps, mix_b the weight of branch b and J_b its Jacobian,
 *     dE/dz = (direct part) + sum_b J_b^T (mix_b q + adjoints inside branch b)
 * and x0 = (z - s eps)/sqrt(ab), s = sqrt(1-ab), turns an adjoint p of x0 into  -s/sqrt(ab) p  at eps and  p/sqrt(ab)  at z. */
#include <math.h>
#include <string.h>
#include "guidance/engine.h"
#include "tensor/point.h"

bool rule_active(const RuleAt *u, const Clock *c)
{
    bool any = false;
    for (int i = 0; i < u->rule->energies; i++) any |= u->rule->energy[i].weight != 0;
    return any && (!u->rule->strength || u->rule->strength(c, u->rule->when) != 0);
}

bool rule_early(const RuleAt *u) { return u->rule->into >= TO_Z; }

static bool looks_at(const Energy *en, const Lane *l)
{
    if (en->weight == 0) return false;
    return en->branch ? !strcmp(en->branch, l->b.name) : l->b.watch;
}

static bool of_step(const Energy *en) { return en->weight != 0 && en->branch && !*en->branch; }

bool rule_through(const Energy *en)
{
    bool z_alone = en->wants > 0;
    for (int i = 0; i < en->wants; i++) z_alone &= en->want[i].kind == SEE_LATENT;
    return of_step(en) && !z_alone;
}

static bool step_energies(const RuleAt *u)
{
    for (int i = 0; i < u->rule->energies; i++)
        if (of_step(&u->rule->energy[i])) return true;
    return false;
}

static bool network_energies(const RuleAt *u)
{
    for (int i = 0; i < u->rule->energies; i++)
        if (rule_through(&u->rule->energy[i])) return true;
    return false;
}

void wants_add(Engine *e, Wants *w, See kind, const char *sites)
{
    for (int i = 0; i < w->n; i++)
        if (w->want[i].kind == kind && !strcmp(w->want[i].sites, sites)) return;
    if (w->n == WANTS) run_fail(e->r, E_OPTION, "guidance looks at more than %d kinds of sites", WANTS);
    else w->want[w->n++] = (Want){ kind, sites };
}

static void wants_of_rule(Engine *e, Wants *w, const RuleAt *u, const Lane *l)
{
    for (int i = 0; i < u->rule->energies; i++) {
        const Energy *en = &u->rule->energy[i];
        for (int k = 0; k < en->wants && looks_at(en, l); k++) wants_add(e, w, en->want[k].kind, en->want[k].sites);
    }
}

void wants_of_rules(Engine *e, Wants *w, const Lane *l, const Clock *c, bool early)
{
    for (int k = 0; k < e->rules; k++)
        if (rule_early(&e->rule[k]) == early && rule_active(&e->rule[k], c)) wants_of_rule(e, w, &e->rule[k], l);
}

/* ---- the step's own view: eps, x0, the next latent and z, from the mixed predictions --------------------------- */

static Sight *step_sight(Engine *e, See kind)
{
    Sight *s = &e->step.sight[e->step.sights++];
    *s = (Sight){ kind, "", tensor_in(e->r, e->r->step, e->z.s), tensor_in(e->r, e->r->step, e->z.s) };
    tensor_zero(s->adj);
    return s;
}

typedef struct { double x, m; } Mix;                      /* value = x z + m output */

static Mix eps_of(Prediction p, double ab)
{
    double a = sqrt(ab), s = sqrt(1 - ab);
    return p == PREDICT_EPS ? (Mix){ 0, 1 } : p == PREDICT_V ? (Mix){ s, a } : (Mix){ 1 / s, -a / s };
}

static Mix x0_of(Prediction p, double ab)
{
    double a = sqrt(ab), s = sqrt(1 - ab);
    return p == PREDICT_EPS ? (Mix){ 1 / a, -s / a } : p == PREDICT_V ? (Mix){ a, -s } : (Mix){ 0, 1 };
}

/* What eps_x0 and eps_dir hold now. */
static Prediction kind_now(const Engine *e) { return e->is_eps ? PREDICT_EPS : e->g->schedule->config.prediction; }

static void see_step(Engine *e, const Clock *c)
{
    Run *r = e->r;
    Prediction p = kind_now(e);
    Mix me = eps_of(p, c->ab), mx = x0_of(p, c->ab);
    e->step = (View){ .branch = "", .h = e->z.s.d[1], .w = e->z.s.d[2], .clock = *c };
    e->step.sight = arena_take(r->step, 4 * sizeof *e->step.sight);
    if (!e->step.sight) {
        run_fail(r, E_MEMORY, "out of memory: guidance");
        return;
    }
    Tensor eps = step_sight(e, SEE_EPS)->val, x0 = step_sight(e, SEE_X0)->val, prev = step_sight(e, SEE_PREV)->val;
    Tensor dir = tensor_in(r, r->step, e->z.s);
    tensor_copy(r, step_sight(e, SEE_LATENT)->val, e->z);
    blend(r, eps, (real)me.x, e->z, (real)me.m, e->eps_x0);
    blend(r, x0,  (real)mx.x, e->z, (real)mx.m, e->eps_x0);
    blend(r, dir, (real)me.x, e->z, (real)me.m, e->eps_dir);
    blend(r, prev, (real)sqrt(c->ab_prev), x0, (real)sqrt(1 - c->ab_prev), dir);
}

/* Adjoints of the step's view -> q_x0, q_dir (at the mixed outputs of the network) and dz (added). */
static void pull_step(Engine *e, const Clock *c, Tensor q_x0, Tensor q_dir, Tensor dz, Tensor dx0)
{
    Run *r = e->r;
    Prediction p = kind_now(e), net = e->g->schedule->config.prediction;
    Mix me = eps_of(p, c->ab), mx = x0_of(p, c->ab);
    Tensor deps = e->step.sight[0].adj, x0 = e->step.sight[1].adj, prev = e->step.sight[2].adj;
    double to_x0 = sqrt(c->ab_prev), to_dir = sqrt(1 - c->ab_prev);
    blend(r, dx0, 1, x0, (real)to_x0, prev);
    blend(r, q_x0, (real)me.m, deps, (real)mx.m, dx0);
    scale(r, q_dir, (real)(me.m * to_dir), prev, 0);
    if (!dz.x) return;                                    /* then no branch is pulled to z either */
    add(r, dz, e->step.sight[3].adj);
    axpy(r, dz, (real)me.x, deps);
    axpy(r, dz, (real)mx.x, dx0);
    axpy(r, dz, (real)(me.x * to_dir), prev);
    if (p == net) return;
    Mix from = eps_of(net, c->ab);                        /* eps itself came from the network's output and z */
    axpy(r, dz, (real)from.x, q_x0);
    axpy(r, dz, (real)from.x, q_dir);
    scale(r, q_x0, (real)from.m, q_x0, 0);
    scale(r, q_dir, (real)from.m, q_dir, 0);
}

/* ---- one gradient --------------------------------------------------------------------------------------------- */

/* g[lane]: of what the rule moves.  Without own latents all branches share g[0]. */
typedef struct { Tensor g[LANES]; acc E; View *now; const View *ref; } Gradient;

static int leaf_of(const Engine *e, const RuleAt *u, int lane)
{
    bool apart = u->rule->leaf == BY_CONTEXT || u->rule->leaf == BY_H || (u->rule->leaf == BY_Z && e->own_z);
    return apart ? lane : 0;
}

static bool moves(const Engine *e, const RuleAt *u, int lane)
{
    const Lane *l = &e->lane[lane];
    if (u->rule->leaf == BY_X0) return false;
    if (u->rule->leaf == BY_CONTEXT) return u->rule->branch && !strcmp(u->rule->branch, l->b.name);
    return true;
}

static bool inside(const RuleAt *u, const Lane *l)
{
    for (int i = 0; i < u->rule->energies; i++)
        if (looks_at(&u->rule->energy[i], l)) return true;
    return false;
}

static Shape leaf_shape(const Engine *e, const RuleAt *u, const Lane *l)
{
    if (u->rule->leaf == BY_CONTEXT) return l->context.s;
    if (u->rule->leaf == BY_H) return l->dh.s;
    return e->z.s;
}

static void evaluate(Engine *e, const RuleAt *u, Gradient *out)
{
    out->E = 0;
    for (int i = 0; i < u->rule->energies && run_ok(e->r); i++) {
        const Energy *en = &u->rule->energy[i];
        if (of_step(en)) {
            out->now = &e->step;
            out->ref = NULL;
            out->E += en->eval(en, e->r, &e->step, engine_reference(e, en->reference, NULL), en->weight, u->state);
        }
        for (int k = 0; k < e->lanes; k++) {
            if (!looks_at(en, &e->lane[k])) continue;
            out->now = &e->lane[k].view;
            out->ref = engine_reference(e, en->reference, &e->lane[k]);
            out->E += en->eval(en, e->r, out->now, out->ref, en->weight, u->state);
        }
    }
    if (!isfinite(out->E))
        run_fail(e->r, E_NUMBER, "the energy of %s is not finite at step %d of %d (t %d, %s)", u->method, out->now->clock.i + 1,
                 out->now->clock.n, out->now->clock.t, out->now->sights ? out->now->sight[0].site : "step");
}

/* Make ready what the rule looks at; lanes still valid are not run again.  `still`: only lanes that it does not move. */
static void look(Engine *e, const RuleAt *u, const Clock *c, bool still)
{
    bool stepwise = step_energies(u);
    for (int k = 0; k < e->lanes && run_ok(e->r); k++) {
        if (still && moves(e, u, k)) continue;
        Lane *l = &e->lane[k];
        bool mixed = stepwise && (lane_mix(l, c, false) != 0 || lane_mix(l, c, true) != 0);
        if ((l->valid && (!mixed || l->eps.x)) || (!mixed && !inside(u, l))) continue;
        Wants w = {0};
        wants_of_rules(e, &w, l, c, true);
        engine_see(e, l, c, &w, u->rule->leaf != BY_X0 && moves(e, u, k), mixed);
    }
    if (!stepwise || still || !run_ok(e->r)) return;
    engine_mix(e, c);
    see_step(e, c);
}

static void pull(Engine *e, const RuleAt *u, const Clock *c, Gradient *out)
{
    Run *r = e->r;
    bool stepwise = step_energies(u), through = network_energies(u);
    Tensor q_x0 = temp(r, e->z.s), q_dir = temp(r, e->z.s), q = temp(r, e->z.s), dx0 = temp(r, e->z.s);
    for (int k = 0; k < e->lanes; k++)
        if (moves(e, u, k) || (u->rule->leaf == BY_X0 && !k)) tensor_zero(out->g[leaf_of(e, u, k)]);
    if (stepwise) pull_step(e, c, q_x0, q_dir, u->rule->leaf == BY_Z ? out->g[0] : (Tensor){0}, u->rule->leaf == BY_X0 ? out->g[0] : dx0);
    for (int k = 0; k < e->lanes && run_ok(r); k++) {
        Lane *l = &e->lane[k];
        double m = through ? lane_mix(l, c, false) : 0, d = through ? lane_mix(l, c, true) : 0;
        if (!moves(e, u, k) || (m == 0 && d == 0 && !inside(u, l))) continue;
        size_t mark = r->temp->used;
        Tensor g = temp(r, leaf_shape(e, u, l));
        if (through) blend(r, q, (real)m, q_x0, (real)d, q_dir);
        if (u->rule->leaf == BY_H) l->gh = g;
        guide_pull(r, e->g, l, u->rule->leaf == BY_Z ? g : (Tensor){0}, u->rule->leaf == BY_CONTEXT ? g : (Tensor){0},
                   m != 0 || d != 0 ? q : (Tensor){0});
        l->gh = (Tensor){0};
        add(r, out->g[leaf_of(e, u, k)], g);
        e->report.backwards++;
        arena_release(r->temp, mark);
    }
}

static void clear_adjoints(View *v)
{
    for (int i = 0; i < v->sights; i++) tensor_zero(v->sight[i].adj);
}

/* ---- from a gradient to a shift --------------------------------------------------------------------------------- */

typedef struct { Tensor m, v; int steps; } Moments;

/* g becomes the shift: gain g, or Adam's direction times the gain. */
static void shape_shift(Engine *e, const RuleAt *u, const Clock *c, Tensor g, Moments *moments)
{
    Run *r = e->r;
    const Rule *rule = u->rule;
    size_t mark = r->temp->used;
    double norm = sqrt((double)dot(r, g, g)), strength = rule->strength ? rule->strength(c, rule->when) : 1;
    Tensor each = {0}, delta = {0};
    if (!isfinite(norm)) run_fail(r, E_NUMBER, "the gradient of %s is not finite at step %d of %d (t %d)", u->method, c->i + 1, c->n, c->t);
    e->report.grad_norm = hypot(e->report.grad_norm, norm);
    if (g.s.d[0] == e->z.s.d[0] && shape_same(g.s, e->z.s)) {
        each = temp(r, g.s);
        tensor_zero(each);                                /* a gain of plain zero leaves it so */
        const Lane *a = NULL, *b = NULL;
        for (int k = 0; k < e->lanes; k++) {
            if (!strcmp(e->lane[k].b.name, "uncond")) a = &e->lane[k];
            if (!strcmp(e->lane[k].b.name, "cond")) b = &e->lane[k];
        }
        if (a && b && a->eps.x && b->eps.x) {
            delta = temp(r, g.s);
            blend(r, delta, 1, b->eps, -1, a->eps);
        }
    }
    double gain = rule->gain(c, r, g, delta, each, rule->par, u->state) * strength;
    if (moments) adam(r, g, moments->m, moments->v, g, gain, ++moments->steps);
    else if (gain != 0 || !each.x) scale(r, g, (real)gain, g, 0);
    else {
        multiply(r, g, g, each);
        if (strength != 1) scale(r, g, (real)strength, g, 0);
    }
    if (rule->by_variance) {
        Tensor variance = temp(r, g.s);
        engine_variance(e, c, variance);
        multiply(r, g, g, variance);
    }
    size_t plane = tensor_count(rule->mask);
    for (size_t i = 0; i < tensor_count(g) && plane && tensor_count(g) % plane == 0; i++) g.x[i] *= rule->mask.x[i % plane];
    Tensor beside = rule->into <= TO_X0 ? e->eps_x0 : rule->into == TO_CONTEXT || rule->into == TO_H ? g : e->z;
    double size = sqrt((double)dot(r, beside, beside));
    if (size > 0) e->report.push = sqrt((double)dot(r, g, g)) / size;
    arena_release(r->temp, mark);
}

static void move_leaf(Engine *e, const RuleAt *u, int lane, Tensor shift)
{
    Run *r = e->r;
    Lane *l = &e->lane[lane];
    if (u->rule->into == TO_CONTEXT) axpy(r, l->context, -1, shift);
    else if (u->rule->into == TO_H) axpy(r, l->dh, -1, shift);
    else if (e->own_z) axpy(r, l->z, -1, shift);
    else axpy(r, e->z, -1, shift);
    if (u->rule->into == TO_Z && !e->own_z)
        for (int k = 0; k < e->lanes; k++) e->lane[k].valid = false;
    l->valid = false;
}

static void iterate(Engine *e, const RuleAt *u, Clock *c)
{
    Run *r = e->r;
    Gradient out = {0};
    Moments moments[LANES] = {0};
    for (int k = 0; k < e->lanes; k++) {
        if (!moves(e, u, k) || leaf_of(e, u, k) != k) continue;
        Shape s = leaf_shape(e, u, &e->lane[k]);
        out.g[k] = tensor_in(r, r->step, s);
        if (!u->rule->adam) continue;
        moments[k] = (Moments){ tensor_in(r, r->step, s), tensor_in(r, r->step, s), 0 };
        tensor_zero(moments[k].m);
        tensor_zero(moments[k].v);
    }
    int most = u->rule->inner > 1 ? u->rule->inner : 1;
    if (u->rule->leaf == BY_CONTEXT) look(e, u, c, true);   /* once, before the memory of the iterations */
    size_t kept = r->keep->used, seen = r->step->used, mark = r->temp->used;
    Verdict verdict = GO_ON;
    for (c->inner = 0; c->inner < most && verdict == GO_ON && run_ok(r); c->inner++) {
        bool older[LANES];                                /* predictions that outlive this iteration's memory */
        for (int k = 0; k < e->lanes; k++) older[k] = e->lane[k].valid;
        look(e, u, c, false);
        for (int k = 0; k < e->lanes; k++) clear_adjoints(&e->lane[k].view);
        evaluate(e, u, &out);
        verdict = u->rule->enough && run_ok(r) ? u->rule->enough(c, out.E, out.now, out.ref, u->state) : GO_ON;
        if (verdict == ENOUGH) break;
        pull(e, u, c, &out);
        for (int k = 0; k < e->lanes && run_ok(r); k++) {
            if (!moves(e, u, k) || leaf_of(e, u, k) != k) continue;
            shape_shift(e, u, c, out.g[k], u->rule->adam ? &moments[k] : NULL);
            move_leaf(e, u, k, out.g[k]);
        }
        for (int k = 0; k < e->lanes; k++)
            if (e->lane[k].view.sights && !older[k]) e->lane[k].valid = false;       /* what it saw is given back now */
        arena_release(r->temp, mark);
        arena_release(r->keep, kept);
        arena_release(r->step, seen);
    }
    e->report.energy += out.E;                            /* of the last evaluation */
    arena_release(r->temp, mark);
    c->inner = 0;
}

void rules_early(Engine *e, Clock *c)
{
    for (int k = 0; k < e->rules && run_ok(e->r); k++)
        if (rule_early(&e->rule[k]) && rule_active(&e->rule[k], c)) iterate(e, &e->rule[k], c);
}

/* ---- rules of the step itself ----------------------------------------------------------------------------------- */

/* eps_x0 and eps_dir from the network's kind of output to eps, once. */
static void as_eps(Engine *e, const Clock *c)
{
    Mix me = eps_of(e->g->schedule->config.prediction, c->ab);
    if (e->is_eps) return;
    e->is_eps = true;
    if (e->g->schedule->config.prediction == PREDICT_EPS) return;
    blend(e->r, e->eps_x0,  (real)me.x, e->z, (real)me.m, e->eps_x0);
    blend(e->r, e->eps_dir, (real)me.x, e->z, (real)me.m, e->eps_dir);
}

static void shift_step(Engine *e, const RuleAt *u, const Clock *c, Tensor shift)
{
    Run *r = e->r;
    bool late = e->late_x0.x;
    Tensor to_x0 = late ? e->late_x0 : e->eps_x0, to_dir = late ? e->late_dir : e->eps_dir;
    e->has_late |= late && u->rule->into <= TO_X0;
    switch (u->rule->into) {
    case TO_EPS:
        axpy(r, to_dir, 1, shift);                        /* and x0's, as below */
        axpy(r, to_x0, 1, shift);
        break;
    case TO_EPS_X0:
        axpy(r, to_x0, 1, shift);
        break;
    case TO_X0:                                           /* x0 -= d is eps += sqrt(ab/(1-ab)) d, in both roles */
        axpy(r, to_x0,  (real)sqrt(c->ab / (1 - c->ab)), shift);
        axpy(r, to_dir, (real)sqrt(c->ab / (1 - c->ab)), shift);
        break;
    default:
        add(r, e->after, shift);
        e->has_after = true;
    }
}

void rules_late(Engine *e, const Clock *c)
{
    Run *r = e->r;
    size_t mark = r->temp->used;
    for (int k = 0; k < e->rules && run_ok(r); k++) {
        const RuleAt *u = &e->rule[k];
        if (rule_early(u) || !rule_active(u, c)) continue;
        Gradient out = { .g = { temp(r, e->z.s) } };
        if (step_energies(u)) see_step(e, c);
        for (int l = 0; l < e->lanes; l++) clear_adjoints(&e->lane[l].view);
        evaluate(e, u, &out);
        e->report.energy += out.E;
        if (u->rule->enough && run_ok(r) && u->rule->enough(c, out.E, out.now, out.ref, u->state) == ENOUGH) continue;
        pull(e, u, c, &out);
        as_eps(e, c);
        shape_shift(e, u, c, out.g[0], NULL);
        shift_step(e, u, c, out.g[0]);
        arena_release(r->temp, mark);
    }
}
