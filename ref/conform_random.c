/* Random numbers as PyTorch's CPU generator and CUDA's counter-based one draw them.  Names carry the calls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "guidance/ddim.h"
#include "ref/conform.h"

/* The seed in a name, after a prefix: "out.randn.-1.1x4x8x8".  Negative seeds are two's complement. */
static bool seed_in_name(const char *name, const char *prefix, uint64_t *seed)
{
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n)) return false;
    char *end;
    *seed = strtoull(name + n, &end, 10);
    return end != name + n && *end == '.';
}

static uint64_t seed_param(Case *c)
{
    const Json *j = json_get(c->params, "seed");
    if (!j || j->kind != JSON_NUMBER) run_fail(&c->run, E_FORMAT, "%s: params.seed: expected an integer", c->file);
    return j && j->kind == JSON_NUMBER ? strtoull(j->text, NULL, 10) : 0;
}

static float *room(Case *c, size_t n)
{
    float *x = arena_take(c->run.run, n * sizeof *x);
    if (!x) run_fail(&c->run, E_MEMORY, "%s: no memory for %zu draws", c->file, n);
    return x;
}

static void draw_and_judge(Case *c, Random *g, const SafeEntry *e)
{
    Shape s;
    float *x = safetensors_shape(e, &s) ? room(c, (size_t)e->count) : NULL;
    if (!x) return;
    random_normal(g, (size_t)e->count, x);
    judge_draws(c, e->name, s, x);
}

/* A fresh generator for every tensor "PREFIX SEED . rest". */
static void fresh_draws(Case *c, const char *prefix)
{
    for (int i = 0; i < c->tensors.entries; i++) {
        const SafeEntry *e = &c->tensors.entry[i];
        uint64_t seed;
        if (!seed_in_name(e->name, prefix, &seed)) continue;
        Random g;
        random_seed(&g, RANDOM_TORCH, seed);
        draw_and_judge(c, &g, e);
    }
}

void conform_portable(Case *c) { fresh_draws(c, "out.portable."); }

void conform_randn(Case *c)
{
    fresh_draws(c, "out.randn.");
    const Json *raw = json_get(c->params, "mt19937_first8");
    for (const Json *j = raw ? raw->child : NULL; j; j = j->next) {
        Random g;
        int64_t *first = arena_take(c->run.run, (size_t)j->count * sizeof *first);
        if (!first) run_fail(&c->run, E_MEMORY, "%s: no memory for %d numbers", c->file, j->count);
        random_seed(&g, RANDOM_TORCH, strtoull(j->key, NULL, 10));
        for (int i = 0; first && i < j->count; i++) first[i] = random_u32(&g);
        if (first) judge_list(c, case_name(c, "mt19937 of seed %s", j->key), first, j->count, j);
    }
}

void conform_sequence(Case *c)
{
    Random g;
    random_seed(&g, RANDOM_TORCH, seed_param(c));
    const Json *sizes = json_get(c->params, "sizes");
    if (!sizes || sizes->kind != JSON_ARRAY) run_fail(&c->run, E_FORMAT, "%s: params.sizes: expected a list", c->file);
    int i = 0;
    for (const Json *j = run_ok(&c->run) ? sizes->child : NULL; j; j = j->next, i++) {
        int n = 0;
        float *x = json_int(j, &n) && n > 0 ? room(c, (size_t)n) : NULL;
        if (!x) {
            run_fail(&c->run, E_FORMAT, "%s: params.sizes[%d]: expected an integer of at least 1", c->file, i);
            return;
        }
        random_normal(&g, (size_t)n, x);
        judge_draws(c, case_name(c, "out.call%02d", i), SHAPE(n), x);
    }
}

static void lists(Case *c, uint64_t seed, const char *key, bool permutation)
{
    const Json *all = json_get(c->params, key);
    for (const Json *j = all ? all->child : NULL; j; j = j->next) {
        int64_t *x = arena_take(c->run.run, (size_t)j->count * sizeof *x);
        if (!x) {
            run_fail(&c->run, E_MEMORY, "%s: no memory for %d numbers", c->file, j->count);
            return;
        }
        Random g;
        random_seed(&g, RANDOM_TORCH, seed);
        if (permutation) random_permutation(&g, (size_t)j->count, x);
        else
            for (int i = 0; i < j->count; i++) x[i] = (int64_t)random_below(&g, strtoull(j->key, NULL, 10));
        judge_list(c, case_name(c, "%s %s", key, j->key), x, j->count, j);
    }
}

/* As the Pix2Pix-Zero regulariser draws: noise [1,4,H,W], then a shift below H/2. */
static void mixed(Case *c, uint64_t seed)
{
    const Json *mix = json_get(c->params, "mix");
    int n = mix ? mix->count : 0;
    int64_t *shift = arena_take(c->run.run, ((size_t)n + 1) * sizeof *shift);
    Random g;
    random_seed(&g, RANDOM_TORCH, seed);
    for (int i = 0; shift && i < n; i++) {
        Tensor t = case_in(c, case_name(c, "out.mix%d", i));
        float *x = t.x ? room(c, tensor_count(t)) : NULL;
        if (!x) return;
        random_normal(&g, tensor_count(t), x);
        judge_draws(c, case_name(c, "out.mix%d", i), t.s, x);
        shift[i] = (int64_t)random_below(&g, t.s.d[2] > 1 ? (uint64_t)t.s.d[2] / 2 : 1);
    }
    if (shift && n) judge_list(c, "mix", shift, n, mix);
}

void conform_other(Case *c)
{
    uint64_t seed = seed_param(c);
    lists(c, seed, "randint", false);
    lists(c, seed, "randperm", true);
    Random g;
    random_seed(&g, RANDOM_TORCH, seed);
    if (case_has(c, "out.rand")) {
        Tensor t = case_in(c, "out.rand");
        float *x = t.x ? room(c, tensor_count(t)) : NULL;
        if (x) random_uniform(&g, tensor_count(t), x);
        if (x) judge_draws(c, "out.rand", t.s, x);
    }
    mixed(c, seed);
}

/* "out.philox.SEED.callK": the (K+1)th draw of a generator, all draws of one size. */
void conform_philox(Case *c)
{
    for (int i = 0; i < c->tensors.entries; i++) {
        const SafeEntry *e = &c->tensors.entry[i];
        uint64_t seed;
        const char *call = strstr(e->name, ".call");
        if (!call || !seed_in_name(e->name, "out.philox.", &seed)) continue;
        Random g;
        random_seed(&g, RANDOM_PHILOX, seed);
        float *x = room(c, (size_t)e->count);
        for (int k = atoi(call + 5); x && k > 0; k--) random_normal(&g, (size_t)e->count, x);
        draw_and_judge(c, &g, e);
    }
}

/* ---- what diffusers does with the numbers ---- */

static void batches(Case *c, uint64_t seed)
{
    Shape s;
    const SafeEntry *e = c->tensors.entries ? safetensors_find(&c->tensors, "out.batch_one_generator") : NULL;
    Random g;
    random_seed(&g, RANDOM_TORCH, seed);
    if (e) draw_and_judge(c, &g, e);
    e = c->tensors.entries ? safetensors_find(&c->tensors, "out.batch_generator_list") : NULL;
    if (!e || !safetensors_shape(e, &s)) return;
    size_t one = (size_t)e->count / (size_t)s.d[0];
    float *x = room(c, (size_t)e->count);
    for (int i = 0; x && i < s.d[0]; i++) {
        random_seed(&g, RANDOM_TORCH, seed + (uint64_t)i);
        random_normal(&g, one, x + (size_t)i * one);
    }
    if (x) judge_draws(c, e->name, s, x);
}

static Tensor draw_tensor(Case *c, Random *g, Shape s, const char *name)
{
    size_t n = shape_count(s);
    float *x = room(c, n);
    Tensor t = case_new(c, s);
    if (!x || !t.x) return (Tensor){0};
    random_normal(g, n, x);
    for (size_t i = 0; i < n; i++) t.x[i] = (real)x[i];
    judge_draws(c, name, s, x);
    return t;
}

void conform_diffusers(Case *c)
{
    uint64_t seed = seed_param(c);
    batches(c, seed);
    ScheduleConfig config;
    Schedule s;
    int steps = case_int(c, "steps", 0);
    if (!schedule_config(&config, c->params, c->file, &c->run.status) || !case_schedule(c, &s, &config, steps)) return;
    int64_t *t = arena_take(c->run.run, (size_t)s.n * sizeof *t);
    for (int i = 0; t && i < s.n; i++) t[i] = s.t[i];
    if (t) judge_list(c, "timesteps", t, s.n, json_get(c->params, "timesteps"));

    Random g;
    random_seed(&g, RANDOM_TORCH, seed);
    Tensor first = case_in(c, "in.ddim.eps0");
    if (!first.x) return;
    Tensor x = draw_tensor(c, &g, first.s, "out.ddim.initial");
    for (int i = 0; i < s.n && run_ok(&c->run); i++) {
        Tensor eps = case_in(c, case_name(c, "in.ddim.eps%d", i));
        Tensor noise = draw_tensor(c, &g, first.s, case_name(c, "mid.ddim.noise%d", i));
        Tensor next = case_new(c, first.s);
        ddim_step(&c->run, &s, s.t[i], next, (Tensor){0}, x, eps, eps, noise, (DdimOptions){ .eta = case_real(c, "eta", 0) });
        judge(c, case_name(c, "out.ddim.step%d", i), next);
        x = next;
    }
}
