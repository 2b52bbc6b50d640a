#include <string.h>
#include "ref/conform_objects.h"
#include "tensor/point.h"

static Tensor one(Case *c, const char *name) { return tensor_row(case_in(c, name), 0); }

int object_numbers(Case *c, const char *key, double *out, int most)
{
    const Json *list = json_get(c->params, key);
    int n = 0;
    for (const Json *j = list ? list->child : NULL; j && n < most; j = j->next)
        if (!json_number(j, &out[n++])) run_fail(&c->run, E_FORMAT, "%s: params.%s: expected numbers", c->file, key);
    return n;
}

/* params.groups: lists of tokens; or params.tokens: one a group. */
static void groups_of(Case *c, Objects *o)
{
    const Json *list = json_get(c->params, "groups");
    if (!list) list = json_get(c->params, "tokens");
    for (const Json *j = list ? list->child : NULL; j && o->groups < MOST_GROUPS; j = j->next) {
        int *n = &o->size[o->groups];
        for (const Json *k = j->kind == JSON_ARRAY ? j->child : j; k && *n < OBJECT_TOKENS; k = j->kind == JSON_ARRAY ? k->next : NULL)
            if (!json_int(k, &o->group[o->groups][(*n)++])) run_fail(&c->run, E_FORMAT, "%s: tokens: expected integers", c->file);
        o->groups++;
    }
    if (!o->groups) run_fail(&c->run, E_FORMAT, "%s: expected params.tokens or params.groups", c->file);
}

bool object_scene(Case *c, ObjectScene *s, int steps)
{
    ScheduleConfig config;
    memset(s, 0, sizeof *s);
    s->c = c;
    if (!case_unet(c, &s->unet) || !case_scheduler(c, &config) || !case_schedule(c, &s->schedule, &config, steps ? steps : 1)) return false;
    s->g = (Guide){ .unet = &s->unet, .schedule = &s->schedule };
    s->z = one(c, "in.latent");
    double w = case_real(c, "guidance_scale", 1);
    s->branch[1] = (Branch){ .name = "cond", .context = one(c, "in.ctx_cond"), .mix = mix_cond, .par = { w }, .watch = true };
    if (steps) s->branch[0] = (Branch){ .name = "uncond", .context = one(c, "in.ctx_uncond"), .mix = mix_uncond, .par = { w } };
    s->dz = case_new(c, s->z.s);
    if (!run_ok(&c->run)) return false;
    int res = case_int(c, "attention_res", 16);
    s->objects = (Objects){ .h = res, .w = res, .sharp = case_real(c, "temperature", 100), .smooth = case_flag(c, "smoothing", true) };
    groups_of(c, &s->objects);
    MethodInput in = { .cond = s->branch[1].context, .unet = &s->unet, .h = s->z.s.d[1], .w = s->z.s.d[2] };
    s->objects.want = s->want[0] = (Want){ SEE_PROBS, objects_sites(&c->run, &in, "*attn2", res, res) };
    s->wants = 1;
    s->lane = lane_make(&s->branch[1], NULL);
    s->lane.z = s->z;
    s->clock = (Clock){ .n = 1, .t = case_int(c, "t", 0) };
    return run_ok(&c->run);
}

void object_look(ObjectScene *s)
{
    guide_observe(&s->c->run, &s->g, &s->lane, &s->clock, s->want, s->wants, NULL, true, false);
}

void object_finish(ObjectScene *s, const char *suffix)
{
    Case *c = s->c;
    Run *r = &c->run;
    Tensor moved = case_new(c, s->z.s);
    if (run_ok(r)) guide_pull(r, &s->g, &s->lane, s->dz, (Tensor){0}, (Tensor){0});
    blend(r, moved, 1, s->z, (real)-case_real(c, "step_size", 0), s->dz);
    Tensor g = s->dz;
    g.s = moved.s = (Shape){{ 1, s->z.s.d[0], s->z.s.d[1], s->z.s.d[2] }};
    judge(c, case_name(c, "grad.latent%s", suffix), g);
    judge(c, case_name(c, "out.updated%s", suffix), moved);
}

/* ---- whole runs ---- */

static acc recorded(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)e;
    ObjectLoop *l = state;
    acc E = l->energy->eval(l->energy, r, now, ref, weight, l->state);
    l->loss[now->clock.i] = E;
    if (l->note) l->note(l, r, now);
    return E;
}

/* A step of size zero leaves z as it is and shows its gradient all the same. */
static double recorded_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    ObjectLoop *l = state;
    tensor_copy(r, tensor_row(l->grads, c->i), g);
    return object_gain(c, r, g, delta, each, par, l->state);
}

static Verdict recorded_enough(const Clock *c, acc E, View *now, const View *ref, void *state)
{
    ObjectLoop *l = state;
    return l->enough(c, E, now, ref, l->state);
}

static void recorded_z(const Clock *c, Run *r, const View *now, const View *const *ref, void *state)
{
    (void)now; (void)ref;
    ObjectLoop *l = state;
    tensor_copy(r, tensor_row(l->updated, c->i), l->s->z);
}

static void recorded_step(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state)
{
    (void)zref;
    ObjectLoop *l = state;
    tensor_copy(r, tensor_row(l->latents, c->i + 1), z);
}

void object_loop(ObjectLoop *l, Rule *rule, int rules)
{
    ObjectScene *s = l->s;
    Case *c = s->c;
    Run *r = &c->run;
    Shape z = s->z.s;
    int n = s->schedule.n;
    if (n > OBJECT_STEPS) run_fail(r, E_OPTION, "%s: more than %d steps", c->file, OBJECT_STEPS);
    l->latents = case_new(c, SHAPE(n + 1, z.d[0], z.d[1], z.d[2]));
    l->updated = case_new(c, SHAPE(n, z.d[0], z.d[1], z.d[2]));
    l->grads = case_new(c, l->updated.s);
    if (!run_ok(r)) return;
    tensor_zero(l->grads);
    tensor_copy(r, tensor_row(l->latents, 0), s->z);
    Energy energy = *l->energy;
    energy.eval = recorded;
    for (int k = 0; k < rules; k++) {
        rule[k].energy = &energy;
        rule[k].energies = 1;
        rule[k].gain = recorded_gain;
        if (rule[k].enough) rule[k].enough = recorded_enough;
    }
    Method m = { .name = c->kind, .branch = s->branch, .branches = 2, .rule = rule, .rules = rules,
                 .after_pass = recorded_z, .after_step = recorded_step, .state = l };
    guide_sample(r, &s->g, &(Guidance){ &m, 1 }, s->z);
    judge(c, "out.latents", l->latents);
    judge(c, "grad.per_step", l->grads);
    const SafeEntry *e = safetensors_find(&c->tensors, "mid.updated");
    int rows = e ? (int)((size_t)e->count / shape_count(z)) : n;          /* some cases hold the guided steps only */
    judge(c, "mid.updated", tensor_rows(l->updated, 0, rows < n ? rows : n));
}
