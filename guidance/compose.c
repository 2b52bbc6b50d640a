/* compose.c -- several methods become one run: branches merge by name, rules append. */
#include <string.h>
#include "guidance/engine.h"

static Lane *lane_named(Engine *e, const char *name)
{
    for (int i = 0; i < e->lanes; i++)
        if (!strcmp(e->lane[i].b.name, name)) return &e->lane[i];
    return NULL;
}

static void clash(Engine *e, const Method *a, const Method *b, const char *what)
{
    run_fail(e->r, E_OPTION, "methods %s and %s cannot run together: %s", a->name, b->name, what);
}

static void merge_branch(Engine *e, const Method *owner[LANES], const Method *m, const Branch *b)
{
    Lane *l = lane_named(e, b->name);
    if (!l) {
        if (e->lanes == LANES) {
            run_fail(e->r, E_OPTION, "method %s: more than %d branches", m->name, LANES);
            return;
        }
        owner[e->lanes] = m;
        e->lane[e->lanes++] = lane_make(b, m->state);
        return;
    }
    const Method *first = owner[l - e->lane];
    bool same_mix = l->b.mix == b->mix && l->b.mix_dir == b->mix_dir && !memcmp(l->b.par, b->par, sizeof b->par);
    if (b->mix && l->b.mix && !same_mix) clash(e, first, m, "they mix the same prediction differently");
    if (b->context.x && l->b.context.x && b->context.x != l->b.context.x) clash(e, first, m, "they want different texts");
    if (b->context_at && l->b.context_at) clash(e, first, m, "both change the text at every step");
    if (l->writes + b->writes > LANE_WRITES) clash(e, first, m, "too many writes");
    if (!run_ok(e->r)) return;
    if (!l->b.mix) {
        l->b.mix = b->mix;
        l->b.mix_dir = b->mix_dir;
        memcpy(l->b.par, b->par, sizeof b->par);
    }
    if (!l->b.context.x) l->context = l->b.context = b->context;
    if (b->context_at) {
        l->b.context_at = b->context_at;
        l->state = m->state;
    }
    for (int i = 0; i < b->writes; i++) l->write[l->writes++] = (WriteAt){ &b->write[i], m->state };
    l->b.watch |= b->watch;
    l->b.own_z |= b->own_z;
    if (!l->b.see_from) l->b.see_from = b->see_from;
}

/* A branch that repeats a decoder: the other comes first, and neither changes its pass. */
static void check_halves(Engine *e, const Method *m)
{
    for (int i = 0; i < m->branches && run_ok(e->r); i++) {
        const Branch *b = &m->branch[i];
        const Lane *base = b->h_of ? lane_named(e, b->h_of) : NULL;
        if (!b->h_of) continue;
        if (!base || base->b.h_of || base >= lane_named(e, b->name)) run_fail(e->r, E_OPTION, "method %s: no earlier branch is called %s", m->name, b->h_of);
        else if (!b->h_at || b->writes || b->watch || b->own_z) run_fail(e->r, E_OPTION, "method %s: branch %s repeats a decoder and nothing else", m->name, b->name);
    }
}

/* Equal in what they show, whoever built them. */
static bool same_branch(const Branch *a, const Branch *b)
{
    return !strcmp(a->name, b->name) && a->context.x == b->context.x && a->context_at == b->context_at && a->mix == b->mix &&
           a->mix_dir == b->mix_dir && !memcmp(a->par, b->par, sizeof a->par) && a->watch == b->watch && !a->writes && !b->writes;
}

static bool same_references(const Method *a, const Method *b)
{
    bool same = a->references == b->references;
    for (int i = 0; i < a->references && same; i++) {
        const Reference *p = &a->reference[i], *q = &b->reference[i];
        same = p->kind == q->kind && p->start.x == q->start.x && p->stored == q->stored && p->noise == q->noise && p->branches == q->branches;
        for (int k = 0; k < p->branches && same; k++) same = same_branch(&p->branch[k], &q->branch[k]);
    }
    return same;
}

static void add_references(Engine *e, const Method *m)
{
    for (int j = 0; j < m->references; j++) {
        if (e->refs == REFERENCES) {
            run_fail(e->r, E_OPTION, "method %s: more than %d references", m->name, REFERENCES);
            return;
        }
        ReferenceRun *ref = &e->ref[e->refs++];
        ref->what = &m->reference[j];
        for (int b = 0; b < ref->what->branches && b < LANES; b++)
            ref->lane[ref->lanes++] = lane_make(&ref->what->branch[b], m->state);
    }
}

/* Where the gradient by a leaf may go: h and a text into themselves, x0 into itself, z anywhere but there. */
static bool leads(Leaf leaf, Into into)
{
    if (leaf == BY_Z) return into != TO_H && into != TO_CONTEXT;
    return into == (leaf == BY_X0 ? TO_X0 : leaf == BY_H ? TO_H : TO_CONTEXT);
}

static void check_rule(Engine *e, const Method *m, const Rule *u)
{
    if (!leads(u->leaf, u->into)) run_fail(e->r, E_OPTION, "method %s: a rule's gradient cannot go where it says", m->name);
    if (u->leaf == BY_CONTEXT && (!u->branch || !lane_named(e, u->branch)))
        run_fail(e->r, E_OPTION, "method %s: no branch is called %s", m->name, u->branch ? u->branch : "(none)");
    for (int k = 0; k < u->energies; k++) {
        const char *branch = u->energy[k].branch;
        if (branch && *branch && !lane_named(e, branch))
            run_fail(e->r, E_OPTION, "method %s: %s looks at %s, and no branch is called so", m->name, u->energy[k].name, branch);
    }
}

static void add_rules(Engine *e, const Method *m)
{
    for (int i = 0; i < m->rules; i++) {
        const Rule *u = &m->rule[i];
        check_rule(e, m, u);
        for (int k = 0; k < e->rules && u->inner > 1; k++)
            if (e->rule[k].rule->inner > 1 && e->rule[k].rule->leaf == u->leaf && strcmp(e->rule[k].method, m->name))
                run_fail(e->r, E_OPTION, "methods %s and %s cannot run together: both iterate on the same leaf", e->rule[k].method, m->name);
        if (e->rules == RULES) {
            run_fail(e->r, E_OPTION, "method %s: more than %d rules", m->name, RULES);
            return;
        }
        e->rule[e->rules++] = (RuleAt){ u, m->state, m->name };
    }
}

bool engine_compose(Engine *e, const Guidance *methods)
{
    const Method *owner[LANES] = {0}, *referring = NULL, *remixing = NULL, *repeating = NULL, *noisy = NULL, *parting = NULL;
    e->methods = methods;
    for (int k = 0; k < methods->parts && run_ok(e->r); k++) {
        const Method *m = &methods->part[k];
        for (int i = 0; i < m->branches && run_ok(e->r); i++) merge_branch(e, owner, m, &m->branch[i]);
        if (m->references && referring && !same_references(referring, m)) clash(e, referring, m, "they compare with different references");
        if (m->references && !referring) {
            add_references(e, m);
            referring = m;
        }
        if (m->remix && remixing) clash(e, remixing, m, "both change the mixed prediction");
        if (m->remix) remixing = m;
        check_halves(e, m);
        for (int i = 0; i < m->branches; i++)
            if (m->branch[i].mix_dir) parting = m;
        if (remixing && parting) clash(e, remixing, parting, "one rescales the mixed prediction, the other has two of them");
        if (m->eta && noisy) clash(e, noisy, m, "both say how much noise a step gets");
        if (m->eta) noisy = m;
        if (m->repeat && repeating) clash(e, repeating, m, "both repeat steps");
        if (m->repeat) repeating = m;
        add_rules(e, m);
        if (m->carries) {
            const Lane *l = lane_named(e, m->carries);
            if (l) e->carries = (int)(l - e->lane);
            else run_fail(e->r, E_OPTION, "method %s: no branch is called %s", m->name, m->carries);
        }
    }
    for (int i = 0; i < e->lanes; i++) e->own_z |= e->lane[i].b.own_z;
    if (run_ok(e->r) && !e->lanes) run_fail(e->r, E_OPTION, "guidance without a single branch");
    return run_ok(e->r);
}
