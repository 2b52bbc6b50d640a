/* Attend-and-Excite, A-STAR and the composite: one evaluation, and whole runs. */
#include <stdlib.h>
#include <string.h>
#include "guidance/multi.h"
#include "ref/conform_objects.h"

static void judge_acc(Case *c, const char *name, const acc *x, int n) { judge_doubles(c, name, SHAPE(n), x); }

/* ---- one evaluation ---- */

void conform_attend_step(Case *c)
{
    ObjectScene s;
    Run *r = &c->run;
    ObjectMaps maps;
    acc term[MOST_GROUPS];
    if (!object_scene(c, &s, 0)) return;
    object_look(&s);
    Energy e = { .eval = attend_excite, .par = &s.objects, .weight = 1 };
    attend_excite(&e, r, &s.lane.view, NULL, 1, NULL);
    objects_see(r, &maps, &s.objects, &s.lane.view);
    if (!run_ok(r)) return;
    excite_worst((Tensor){0}, maps.m, 1, term);
    judge_acc(c, "out.terms", term, s.objects.groups);
    judge(c, "mid.mean_map", (Tensor){ maps.A.x, SHAPE(s.objects.h, s.objects.w, maps.A.s.d[1]) });
    judge(c, "mid.token_maps", maps.m);
    object_finish(&s, "");
}

static Carried carried_from(Case *c, const char *name)
{
    Tensor t = case_in(c, name);
    return (Carried){ .before = t, .now = case_new(c, t.s), .seen = true, .has_before = true };
}

void conform_astar_step(Case *c)
{
    ObjectScene s;
    Run *r = &c->run;
    ObjectMaps maps;
    if (!object_scene(c, &s, 0)) return;
    Astar a = { .objects = s.objects, .segregate = 1, .retain = 1, .fraction = case_real(c, "mask_fraction", 0.5) };
    Carried before = carried_from(c, "in.masks");
    object_look(&s);
    Energy e = { .eval = astar_energy, .par = &a, .weight = 1 };
    astar_energy(&e, r, &s.lane.view, NULL, 1, &before);
    objects_see(r, &maps, &s.objects, &s.lane.view);
    if (!run_ok(r)) return;
    acc term[2] = { astar_segregate((Tensor){0}, maps.m, 1), astar_retain((Tensor){0}, maps.m, before.before, 1) };
    judge_acc(c, "out.losses", term, 2);
    judge(c, "mid.token_maps", maps.m);
    object_finish(&s, "");
}

static void multi_of(ObjectScene *s, Multi *m)
{
    Case *c = s->c;
    *m = (Multi){ .objects = s->objects, .fraction = case_real(c, "mask_fraction", 0.5), .early = 1 };
    if (object_numbers(c, "weights", m->weight, MULTI_TERMS) != MULTI_TERMS)
        run_fail(&c->run, E_FORMAT, "%s: params.weights: expected %d numbers", c->file, MULTI_TERMS);
    const Json *boxes = json_get(c->params, "boxes"), *layers = json_get(c->params, "box_layers");
    for (int k = 0; boxes && k < boxes->count && k < s->objects.groups; k++)
        for (int i = 0; i < 4; i++)
            if (!json_number(json_at(json_at(boxes, k), i), &m->box[k][i]))
                run_fail(&c->run, E_FORMAT, "%s: params.boxes: expected four numbers each", c->file);
    const char *sites = NULL;
    for (const Json *j = layers ? layers->child : NULL; j; j = j->next)
        if (j->kind == JSON_STRING) sites = sites ? case_name(c, "%s,%s", sites, j->text) : j->text;
    if (!sites) return;
    m->box_want = s->want[1] = (Want){ SEE_PROBS, sites };
    s->wants = 2;
}

void conform_multi_step(Case *c)
{
    ObjectScene s;
    Run *r = &c->run;
    ObjectMaps maps;
    Multi m;
    if (!object_scene(c, &s, 0)) return;
    multi_of(&s, &m);
    MultiState state = { .hot = carried_from(c, "in.masks"), .owner = case_new(c, case_in(c, "in.masks").s) };
    object_look(&s);
    Energy e = { .eval = multi_energy, .par = &m, .weight = 1 };
    multi_energy(&e, r, &s.lane.view, NULL, 1, &state);
    objects_see(r, &maps, &s.objects, &s.lane.view);
    if (!run_ok(r)) return;
    judge_acc(c, "out.terms", state.term, MULTI_TERMS);
    judge(c, "mid.group_maps", maps.m);
    judge(c, "mid.owner_masks", state.owner);
    object_finish(&s, "");
}

/* ---- whole runs ---- */

static Rule every_step(Case *c)
{
    double range[2] = { 1, 0.5 };
    object_numbers(c, "scale_range", range, 2);
    return (Rule){ .leaf = BY_Z, .into = TO_Z, .par = { case_real(c, "scale_factor", 20), range[0], range[1] }, .inner = 1 };
}

/* Steps past the guided ones are evaluated with a step of zero: the case wants their loss and gradient too. */
void conform_attend_loop(Case *c)
{
    ObjectScene s;
    int n = case_int(c, "num_steps", 0), k = 0;
    if (!object_scene(c, &s, n)) return;
    Refinement f = { { -1, -1, -1, -1 }, { 0 } };
    const Json *th = json_get(c->params, "thresholds");
    for (const Json *j = th ? th->child : NULL; j; j = j->next, k++) {
        if (k == REFINEMENTS || !json_number(j, &f.threshold[k])) {
            run_fail(&c->run, E_FORMAT, "%s: params.thresholds: expected at most %d numbers", c->file, REFINEMENTS);
            return;
        }
        f.at[k] = (double)atoi(j->key) / n;
    }
    double until = (double)case_int(c, "max_iter_to_alter", n) / n;
    Rule rule[3] = { every_step(c), every_step(c), every_step(c) };
    rule[0].strength = refine_strength;
    memcpy(rule[0].when, f.at, sizeof f.at);
    rule[0].inner = case_int(c, "max_refinement_steps", 20);
    rule[0].enough = attend_refined;
    rule[1].strength = rule[2].strength = object_strength;
    rule[1].when[0] = rule[2].when[0] = 1;
    rule[1].when[2] = rule[2].when[1] = until;
    rule[2].when[2] = 1;
    rule[2].par[0] = 0;
    Energy e = { "excite", s.want, 1, NULL, -1, attend_excite, &s.objects, 1 };
    ObjectLoop l = { .s = &s, .energy = &e, .state = &f, .enough = attend_refined };
    object_loop(&l, rule, 3);
    judge_doubles(c, "out.loss", SHAPE(n), l.loss);
}

typedef struct { Carried before; Tensor seen; } AstarNotes;

static void note_masks(ObjectLoop *l, Run *r, const View *now)
{
    AstarNotes *a = l->state;
    tensor_copy(r, tensor_row(a->seen, now->clock.i), a->before.now);
}

void conform_astar_loop(Case *c)
{
    ObjectScene s;
    int n = case_int(c, "num_steps", 0);
    if (!object_scene(c, &s, n)) return;
    Astar a = { .objects = s.objects, .segregate = 1, .retain = 1, .fraction = case_real(c, "mask_fraction", 0.5) };
    Shape m = SHAPE(s.objects.groups, s.objects.h, s.objects.w);
    AstarNotes notes = { carried_make(&c->run, m), case_new(c, SHAPE(n, m.d[0], m.d[1], m.d[2])) };
    Rule rule = every_step(c);
    Energy e = { "a-star", s.want, 1, NULL, -1, astar_energy, &a, 1 };
    ObjectLoop l = { .s = &s, .energy = &e, .state = &notes, .note = note_masks };
    object_loop(&l, &rule, 1);
    judge_doubles(c, "out.loss", SHAPE(n), l.loss);
    judge(c, "mid.masks", notes.seen);
}

typedef struct { MultiState state; const Multi *multi; double rows[OBJECT_STEPS][MULTI_TERMS + 1]; } MultiNotes;

/* The box term is reported by the case after it was switched off as well: its value on adjoints of no one. */
static void note_terms(ObjectLoop *l, Run *r, const View *now)
{
    MultiNotes *m = l->state;
    double *row = m->rows[now->clock.i];
    View quiet = *now;
    size_t mark = r->temp->used;
    quiet.sight = arena_take(r->temp, (size_t)now->sights * sizeof *quiet.sight);
    for (int k = 0; k < now->sights && quiet.sight; k++) {
        quiet.sight[k] = now->sight[k];
        quiet.sight[k].adj = (Tensor){0};
    }
    memcpy(row, m->state.term, sizeof m->state.term);
    if (quiet.sight) row[MULTI_BOX] = multi_box(r, &quiet, m->multi, 1);
    row[MULTI_TERMS] = l->loss[now->clock.i];
    arena_release(r->temp, mark);
}

void conform_multi_loop(Case *c)
{
    ObjectScene s;
    Multi m;
    int n = case_int(c, "num_steps", 0);
    if (!object_scene(c, &s, n)) return;
    multi_of(&s, &m);
    m.early = (double)case_int(c, "early_steps", n) / n;
    MultiNotes *notes = arena_take(c->run.run, sizeof *notes);
    if (!notes) return;
    notes->state = multi_state(&c->run, &m);
    notes->multi = &m;
    Rule rule = every_step(c);
    Energy e = { "multi", s.want, s.wants, NULL, -1, multi_energy, &m, 1 };
    ObjectLoop l = { .s = &s, .energy = &e, .state = notes, .note = note_terms };
    object_loop(&l, &rule, 1);
    judge_doubles(c, "out.terms_and_loss", SHAPE(n, MULTI_TERMS + 1), notes->rows[0]);
}
