/* Suppress to Impress: its terms one by one, the sum, the form with masks; whole runs of both. */
#include <string.h>
#include "guidance/suppress.h"
#include "ref/conform_objects.h"

static RegionRule region_rule(Case *c)
{
    const Json *j = json_get(c->params, "region");
    RegionRule how = { json_is(json_get(j, "threshold"), "mean") ? THRESHOLD_MEAN : THRESHOLD_OTSU, 0 };
    if (j && !json_number(json_get(j, "softness"), &how.softness)) run_fail(&c->run, E_FORMAT, "%s: params.region.softness: expected a number", c->file);
    return how;
}

/* ---- one term ---- */

typedef enum { OF_SUPPRESS, OF_EVEN, OF_CV2, OF_EMPHASISE, OF_EXCLUSIVE } Which;

static acc term_of(Which which, Case *c, Tensor dm, Tensor m, Tensor region, acc weight)
{
    switch (which) {
    case OF_SUPPRESS:  return suppress_term(dm, m, region, weight);
    case OF_EVEN:      return even_term(dm, m, region, weight);
    case OF_CV2:       return even_cv2_term(dm, m, region, weight);
    case OF_EMPHASISE: return emphasise_term(dm, m, region, case_real(c, "level", 0.5), weight);
    default:           return 0;
    }
}

static void term_case(ObjectScene *s, Which which, const char *suffix)
{
    Case *c = s->c;
    Run *r = &c->run;
    ObjectMaps maps;
    int n = s->objects.groups;
    acc term[MOST_GROUPS];
    object_look(s);
    objects_see(r, &maps, &s->objects, &s->lane.view);
    Tensor dm = temp(r, maps.m.s), region = temp(r, maps.m.s);
    if (!run_ok(r)) return;
    tensor_zero(dm);
    for (int k = 0; k < n && which != OF_EXCLUSIVE; k++) {
        region_of(r, tensor_row(region, k), tensor_row(maps.m, k), region_rule(c));
        term[k] = term_of(which, c, tensor_row(dm, k), tensor_row(maps.m, k), tensor_row(region, k), 1 / (acc)n) * n;
    }
    if (which == OF_EXCLUSIVE) term[0] = exclusive_term(dm, maps.m, 1);
    else judge(c, "mid.regions", region);
    judge_doubles(c, case_name(c, "out.terms%s", suffix), SHAPE(which == OF_EXCLUSIVE ? 1 : n), term);
    judge(c, "mid.object_maps", maps.m);
    judge(c, case_name(c, "grad.maps%s", suffix), dm);
    objects_pull(r, &s->lane.view, dm, (Tensor){0}, &s->objects, &maps);
    object_finish(s, suffix);
}

void conform_suppress_term(Case *c)
{
    ObjectScene s;
    if (!object_scene(c, &s, 0)) return;
    if (strstr(c->kind, "even")) {
        term_case(&s, OF_EVEN, "_entropy");
        case_pass(c);
        term_case(&s, OF_CV2, "_cv2");
    } else if (strstr(c->kind, "exclusive")) term_case(&s, OF_EXCLUSIVE, "");
    else if (strstr(c->kind, "emphasise")) term_case(&s, OF_EMPHASISE, "");
    else term_case(&s, OF_SUPPRESS, "");
}

/* ---- all terms ---- */

static Suppress suppress_of(ObjectScene *s)
{
    Case *c = s->c;
    Suppress p = { .objects = s->objects, .region = region_rule(c), .memory = case_real(c, "memory", 0.5), .level = case_real(c, "level", 0.5),
                   .cv2 = !strcmp(case_text(c, "even_form", "entropy"), "cv2") };
    if (object_numbers(c, "weights", p.weight, TERMS) != TERMS)
        run_fail(&c->run, E_FORMAT, "%s: params.weights: expected %d numbers", c->file, TERMS);
    return p;
}

void conform_suppress_step(Case *c)
{
    ObjectScene s;
    Run *r = &c->run;
    ObjectMaps maps;
    if (!object_scene(c, &s, 0)) return;
    Suppress p = suppress_of(&s);
    SuppressState state = suppress_state(r, &p);
    state.memory.before = case_in(c, "in.memory");
    state.memory.seen = state.memory.has_before = true;
    object_look(&s);
    Energy e = { .eval = suppress_energy, .par = &p, .weight = 1 };
    suppress_energy(&e, r, &s.lane.view, NULL, 1, &state);
    objects_see(r, &maps, &s.objects, &s.lane.view);
    Tensor dm = case_new(c, maps.m.s);
    if (!run_ok(r)) return;
    tensor_zero(dm);
    for (int k = 0; k < s.objects.groups; k++) {
        Tensor d = tensor_row(dm, k), m = tensor_row(maps.m, k), reg = tensor_row(state.region, k);
        suppress_term(d, m, reg, p.weight[TERM_SUPPRESS] / s.objects.groups);
        even_term(d, m, reg, p.weight[TERM_EVEN] / s.objects.groups);
        emphasise_term(d, m, reg, p.level, p.weight[TERM_EMPHASISE] / s.objects.groups);
    }
    exclusive_term(dm, maps.m, p.weight[TERM_EXCLUSIVE]);
    judge_doubles(c, "out.terms", SHAPE(TERMS), state.term);
    judge(c, "mid.object_maps", maps.m);
    judge(c, "mid.memory", state.memory.now);
    judge(c, "mid.regions", state.region);
    judge(c, "grad.maps", dm);
    object_finish(&s, "");
}

static Rule early_steps(Case *c, int guided, int n)
{
    double range[2] = { 1, 0.5 };
    object_numbers(c, "scale_range", range, 2);
    return (Rule){ .leaf = BY_Z, .into = TO_Z, .par = { case_real(c, "scale_factor", 10), range[0], range[1] }, .inner = 1,
                   .strength = object_strength, .when = { 1, 0, (double)guided / n } };
}

typedef struct { SuppressState state; Tensor region, memory; double rows[OBJECT_STEPS][TERMS + 1]; } Notes;

static void note_terms(ObjectLoop *l, Run *r, const View *now)
{
    Notes *m = l->state;
    int i = now->clock.i;
    memcpy(m->rows[i], m->state.term, sizeof m->state.term);
    m->rows[i][TERMS] = l->loss[i];
    tensor_copy(r, tensor_row(m->region, i), m->state.region);
    tensor_copy(r, tensor_row(m->memory, i), m->state.memory.now);
}

void conform_suppress_loop(Case *c)
{
    ObjectScene s;
    int n = case_int(c, "num_steps", 0), guided = case_int(c, "guided_steps", n);
    if (!object_scene(c, &s, n)) return;
    Suppress p = suppress_of(&s);
    p.shape_from = (double)case_int(c, "shape_from", 0) / n;
    Notes *notes = arena_take(c->run.run, sizeof *notes);
    Shape m = SHAPE(n, s.objects.groups, s.objects.h, s.objects.w);
    if (!notes) return;
    notes->state = suppress_state(&c->run, &p);
    notes->region = case_new(c, m);
    notes->memory = case_new(c, m);
    Rule rule = early_steps(c, guided, n);
    Energy e = { "suppress", s.want, 1, NULL, -1, suppress_energy, &p, 1 };
    ObjectLoop l = { .s = &s, .energy = &e, .state = notes, .note = note_terms };
    object_loop(&l, &rule, 1);
    judge_doubles(c, "out.terms_and_loss", SHAPE(guided, TERMS + 1), notes->rows[0]);
    judge(c, "mid.regions", tensor_rows(notes->region, 0, guided));
    judge(c, "mid.memory", tensor_rows(notes->memory, 0, guided));
}

/* ---- with masks ---- */

static Masked masked_of(ObjectScene *s)
{
    Case *c = s->c;
    double range[2] = { 1, 0.5 };
    object_numbers(c, "scale_range", range, 2);
    s->objects.smooth = case_flag(c, "smoothing", false);
    return (Masked){ .objects = s->objects, .mask = case_in(c, "in.masks"), .bce = case_real(c, "bce_weight", 10),
                     .contrast = case_real(c, "contrast_weight", 1), .scale = case_real(c, "scale_factor", 10),
                     .first = range[0], .last = range[1], .total = case_int(c, "inner_total", 25) };
}

/* Rows of BCE, contrast and their weighted sum. */
static void put_losses(double *to, acc (*part)[2], int n, const Masked *p)
{
    for (int k = 0; k < n; k++) {
        to[3 * k] = part[k][0];
        to[3 * k + 1] = part[k][1];
        to[3 * k + 2] = p->bce * part[k][0] + p->contrast * part[k][1];
    }
}

static Tensor guided_maps(Case *c, const Objects *o, Tensor S)
{
    Tensor t = case_new(c, SHAPE(o->groups, o->h, o->w));
    for (int k = 0; k < o->groups; k++) tensor_copy(&c->run, tensor_row(t, k), tensor_row(S, o->group[k][0] - 1));
    return t;
}

void conform_masked_step(Case *c)
{
    ObjectScene s;
    Run *r = &c->run;
    ObjectMaps maps;
    if (!object_scene(c, &s, 0)) return;
    Masked p = masked_of(&s);
    s.clock.i = case_int(c, "step_index", 0);
    s.clock.n = case_int(c, "num_steps", 1);
    int n = masked_evaluations(&p, s.clock.i);
    object_look(&s);
    Energy e = { .eval = masked_energy, .par = &p, .weight = 1 };
    masked_energy(&e, r, &s.lane.view, NULL, 1, NULL);
    objects_see(r, &maps, &s.objects, &s.lane.view);
    Tensor U = case_new(c, maps.S.s), dU = case_new(c, maps.S.s);
    acc (*part)[2] = arena_take(r->run, (size_t)n * sizeof *part);
    double *rows = arena_take(r->run, (size_t)n * 3 * sizeof *rows);
    if (!run_ok(r) || !part || !rows) return;
    tensor_copy(r, U, maps.S);
    masked_moves(r, dU, U, &p, object_step_size(s.clock.i, s.clock.n, p.scale, p.first, p.last), n, part);
    put_losses(rows, part, n, &p);
    judge_doubles(c, "out.losses", SHAPE(n, 3), rows);
    judge(c, "mid.maps", guided_maps(c, &s.objects, maps.S));
    judge(c, "mid.maps_moved", guided_maps(c, &s.objects, U));
    judge(c, "grad.maps", dU);
    object_finish(&s, "");
}

void conform_masked_centroid(Case *c)
{
    ObjectScene s;
    Run *r = &c->run;
    ObjectMaps maps;
    if (!object_scene(c, &s, 0)) return;
    Masked p = masked_of(&s);
    object_look(&s);
    Energy e = { .eval = masked_centroid, .par = &p, .weight = 1 };
    masked_centroid(&e, r, &s.lane.view, NULL, 1, NULL);
    objects_see(r, &maps, &s.objects, &s.lane.view);
    int n = s.objects.groups, h = s.objects.h, w = s.objects.w;
    double of[2][MOST_GROUPS][2];
    for (int k = 0; k < n && run_ok(r); k++) {
        PixelCentre a = pixel_centre(tensor_row(maps.S, s.objects.group[k][0] - 1).x, h, w), b = pixel_centre(tensor_row(p.mask, k).x, h, w);
        of[0][k][0] = a.x; of[0][k][1] = a.y;
        of[1][k][0] = b.x; of[1][k][1] = b.y;
    }
    judge_doubles(c, "out.centroids_xy", SHAPE(n, 2), of[0][0]);
    judge_doubles(c, "out.mask_centroids_xy", SHAPE(n, 2), of[1][0]);
    object_finish(&s, "");
}

typedef struct { const Masked *masked; acc part[4096][2]; int rows; } Losses;

static void note_losses(ObjectLoop *l, Run *r, const View *now)
{
    Losses *m = l->state;
    ObjectMaps maps;
    const Clock *c = &now->clock;
    int n = masked_evaluations(m->masked, c->i);
    size_t mark = r->temp->used;
    objects_see(r, &maps, &m->masked->objects, now);
    Tensor dU = temp(r, maps.S.s);
    if (run_ok(r) && m->rows + n <= 4096) {
        masked_moves(r, dU, maps.S, m->masked, object_step_size(c->i, c->n, m->masked->scale, m->masked->first, m->masked->last), n, m->part + m->rows);
        m->rows += n;
    }
    arena_release(r->temp, mark);
}

void conform_masked_loop(Case *c)
{
    ObjectScene s;
    Run *r = &c->run;
    int n = case_int(c, "num_steps", 0);
    if (!object_scene(c, &s, n)) return;
    Masked p = masked_of(&s);
    Losses *losses = arena_take(r->run, sizeof *losses);
    double *rows = arena_take(r->run, sizeof losses->part / 2 * 3);
    if (!losses || !rows) return;
    losses->masked = &p;
    losses->rows = 0;
    Rule rule = early_steps(c, n, n);
    rule.strength = masked_strength;
    rule.when[1] = p.total;
    Energy e = { "masked", s.want, 1, NULL, -1, masked_energy, &p, 1 };
    ObjectLoop l = { .s = &s, .energy = &e, .state = losses, .note = note_losses };
    object_loop(&l, &rule, 1);
    put_losses(rows, losses->part, losses->rows, &p);
    judge_doubles(c, "out.losses", SHAPE(losses->rows, 3), rows);
}
