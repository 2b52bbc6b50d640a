/* Self-guidance: its maps alone, each energy through the network, one guided prediction, whole guided runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "guidance/cfg.h"
#include "guidance/selfguide.h"
#include "ref/conform.h"
#include "tensor/point.h"
#include "tensor/resize.h"

/* ---- maps without a network ---- */

void conform_maps_mask(Case *c)
{
    Run *r = &c->run;
    Tensor map = case_in(c, "in.map"), adj = case_in(c, "in.adj");
    Tensor m = case_new(c, map.s), hard = case_new(c, map.s), size = case_new(c, SHAPE(map.s.d[0])), dmap = case_new(c, map.s);
    double s = case_real(c, "s", 10), at = case_real(c, "thr", 0.5);
    for (int k = 0; k < map.s.d[0] && run_ok(r); k++) {
        Tensor mk = tensor_row(m, k);
        mask_soft(r, mk, tensor_row(map, k), s, at);
        mask_hard(r, tensor_row(hard, k), tensor_row(map, k), at);
        mask_soft_back(r, tensor_row(dmap, k), tensor_row(adj, k), tensor_row(map, k), s, at);
        acc sum = 0;
        for (size_t i = 0; i < tensor_count(mk); i++) sum += (acc)mk.x[i];
        size.x[k] = (real)(sum / (acc)tensor_count(mk));
    }
    judge(c, "out.mask", m);
    judge(c, "out.hard", hard);
    judge(c, "out.size", size);
    judge(c, "grad.map", dmap);
}

void conform_maps_centroid(Case *c)
{
    Tensor map = case_in(c, "in.map");
    int n = map.s.d[0];
    Tensor out = case_new(c, SHAPE(n, 2)), want = case_new(c, SHAPE(n, 2)), d = case_new(c, SHAPE(n, 2)), dmap = case_new(c, map.s);
    if (!run_ok(&c->run)) return;
    tensor_zero(d);
    for (int k = 0; k < n; k++) {
        Centroid at = centroid_of(tensor_row(map, k));
        out.x[2 * k] = (real)at.x;
        out.x[2 * k + 1] = (real)at.y;
        want.x[2 * k] = (real)case_real(c, "target_x", 0);
        want.x[2 * k + 1] = (real)case_real(c, "target_y", 0);
    }
    double E = distance(out.x, want.x, 2 * (size_t)n, false, 1, d.x);
    for (int k = 0; k < n; k++)
        centroid_back(tensor_row(dmap, k), tensor_row(map, k), centroid_of(tensor_row(map, k)), (acc)d.x[2 * k], (acc)d.x[2 * k + 1]);
    judge(c, "out.centroid", out);
    judge_doubles(c, "out.energy", SHAPE(1), &E);
    judge(c, "grad.map", dmap);
}

void conform_maps_warp(Case *c)
{
    Run *r = &c->run;
    Tensor map = case_in(c, "in.map_ref"), hard = case_new(c, map.s), out = case_new(c, map.s);
    Warp w = { case_real(c, "dx", 0), case_real(c, "dy", 0), case_real(c, "sx", 1), case_real(c, "sy", 1) };
    for (int k = 0; k < map.s.d[0] && run_ok(r); k++) {
        mask_hard(r, tensor_row(hard, k), tensor_row(map, k), 0.5);
        map_warp(tensor_row(out, k), tensor_row(hard, k), centroid_of(tensor_row(map, k)), w);
    }
    judge(c, "out.hard", hard);
    judge(c, "out.warped", out);
}

/* A view of made-up sights: the given maps as one head's probabilities, and the given features. */
static View made_view(Case *c, const char *maps, const char *features, bool grads)
{
    Tensor m = case_in(c, maps), f = case_in(c, features);
    int n = m.s.d[0], h = m.s.d[1], w = m.s.d[2];
    View v = { .branch = "cond", .sights = 2, .h = h, .w = w };
    v.sight = arena_take(c->run.run, 2 * sizeof *v.sight);
    Tensor p = case_new(c, SHAPE(1, h * w, n)), dp = grads ? case_new(c, p.s) : (Tensor){0}, df = grads ? case_new(c, f.s) : (Tensor){0};
    if (!v.sight || !run_ok(&c->run)) return v;
    for (int k = 0; k < n; k++)
        for (int q = 0; q < h * w; q++) p.x[q * n + k] = m.x[k * h * w + q];
    tensor_zero(dp);
    tensor_zero(df);
    v.sight[0] = (Sight){ SEE_PROBS, "maps", p, dp };
    v.sight[1] = (Sight){ SEE_FEATURE, "features", f, df };
    return v;
}

static void judge_appearance(Case *c, const char *name, const View *v, const SelfTerm *t)
{
    Run *r = &c->run;
    Tensor f = v->sight[1].val, out = case_new(c, SHAPE(t->tokens, f.s.d[0])), m = case_new(c, SHAPE(v->h, v->w)), map = case_new(c, m.s);
    Tensor big = case_new(c, SHAPE(1, f.s.d[1], f.s.d[2]));
    for (int k = 0; k < t->tokens && run_ok(r); k++) {
        map_of(r, map, &v->sight[0], t->token[k]);
        if (t->soft) mask_soft(r, m, map, t->sharp, t->at);
        else mask_hard(r, m, map, t->at);
        resize_bilinear(r, big, (Tensor){ m.x, SHAPE(1, v->h, v->w) });
        appearance_of(r, tensor_row(out, k), f, (Tensor){ big.x, SHAPE(f.s.d[1], f.s.d[2]) });
    }
    judge(c, name, out);
}

void conform_maps_appearance(Case *c)
{
    View now = made_view(c, "in.map", "in.feat", true), ref = made_view(c, "in.map_ref", "in.feat_ref", false);
    SelfTerm t = self_term("maps", "features");
    if (!run_ok(&c->run)) return;
    t.soft = !strcmp(case_text(c, "mask", "hard"), "soft");
    t.sharp = case_real(c, "sharpness", 10);
    t.at = case_real(c, "thr", 0.5);
    for (int k = 0; k < now.sight[0].val.s.d[2] && k < SELF_TOKENS; k++) t.source[k] = t.token[k] = k, t.tokens++;
    Energy e = { .name = "appearance", .eval = self_appearance, .par = &t, .weight = 1 };
    double E = self_appearance(&e, &c->run, &now, &ref, 1, NULL);
    judge_appearance(c, "out.appearance", &now, &t);
    judge_appearance(c, "out.appearance_ref", &ref, &t);
    judge_doubles(c, "out.energy", SHAPE(1), &E);
    judge(c, "grad.feat", now.sight[1].adj);
    if (!case_has(c, "grad.map")) return;
    Tensor p = now.sight[0].adj, g = case_new(c, SHAPE(p.s.d[2], now.h, now.w));
    for (int k = 0; k < p.s.d[2] && run_ok(&c->run); k++)
        for (int q = 0; q < p.s.d[1]; q++) g.x[k * p.s.d[1] + q] = p.x[q * p.s.d[2] + k];
    judge(c, "grad.map", g);
}

void conform_selfguide_schedule(Case *c)
{
    for (int i = 0; i < c->tensors.entries; i++) {
        const char *name = c->tensors.entry[i].name;
        bool paper = !strncmp(name, "out.paper.", 10), repro = !strncmp(name, "out.repro.", 10);
        int n = paper || repro ? atoi(name + 10) : 0;
        Tensor on = n > 0 ? case_new(c, SHAPE(n)) : (Tensor){0};
        for (int k = 0; k < n && on.x; k++) {
            double one = 1;
            bool later = k <= 3 * n / 16 || (k < (int)(n - n / 32.0) && k % 2 == 0);        /* the form seen in reproductions */
            on.x[k] = paper ? (real)self_schedule(&(Clock){ .i = k, .n = n }, &one) : (real)later;
        }
        if (n > 0) judge(c, name, on);
    }
}

/* ---- through the network ---- */

static int int_list(const char *text, int *out, int most)
{
    int n = 0;
    for (char *end; n < most && *text; text = *end == ',' ? end + 1 : end) {
        out[n] = (int)strtol(text, &end, 10);
        if (end == text) break;
        n++;
    }
    return n;
}

static void tokens_of(Case *c, SelfTerm *t, bool object, bool others)
{
    if (object) t->token[t->tokens++] = case_int(c, "object", 0);
    if (others) t->tokens += int_list(case_text(c, "others", ""), t->token + t->tokens, SELF_TOKENS - 1);
    memcpy(t->source, t->token, sizeof t->source);
}

typedef struct {
    Case *c;
    Unet unet;
    Schedule schedule;
    Guide g;
    SelfTerm term[8];
    Energy energy[8];
    Want want[2];
    int n;
    Branch uncond, cond, ref;
} Scene;

static bool scene_open(Case *c, Scene *s, int steps)
{
    ScheduleConfig config;
    memset(s, 0, sizeof *s);
    s->c = c;
    if (!case_unet(c, &s->unet) || !case_scheduler(c, &config) || !case_schedule(c, &s->schedule, &config, steps)) return false;
    s->g = (Guide){ .unet = &s->unet, .schedule = &s->schedule };
    s->want[0] = (Want){ SEE_PROBS, case_text(c, "attn_sites", "") };
    s->want[1] = (Want){ SEE_FEATURE, case_text(c, "feat_site", "") };
    return run_ok(&c->run);
}

static SelfTerm *term_add(Scene *s, const char *name, double weight,
                          acc (*eval)(const Energy *, Run *, View *, const View *, acc, void *))
{
    SelfTerm *t = &s->term[s->n];
    *t = self_term(s->want[0].sites, s->want[1].sites);
    t->squared = !strcmp(case_text(s->c, "norm", "l1"), "l2");
    s->energy[s->n++] = (Energy){ name, s->want, eval == self_appearance ? 2 : 1, NULL, 0, eval, t, weight };
    return t;
}

/* params.terms: the named, weighted terms of an edit. */
static void terms_of_edit(Scene *s)
{
    Case *c = s->c;
    char list[200], *save = NULL;
    snprintf(list, sizeof list, "%s", case_text(c, "terms", ""));
    bool everybody = !strcmp(case_text(c, "note", ""), "all tokens");
    for (char *name = strtok_r(list, ",", &save); name && s->n < 8; name = strtok_r(NULL, ",", &save)) {
        double w = case_real(c, case_name(c, "w_%s", name), 1), scale = case_real(c, "scale", 1);
        double dx = case_real(c, "dx", 0), dy = case_real(c, "dy", 0);
        SelfTerm *t;
        if (!strcmp(name, "shape")) tokens_of(c, term_add(s, "shape", w, self_shape), everybody, true);
        else if (!strcmp(name, "appearance")) tokens_of(c, term_add(s, "appearance", w, self_appearance), true, true);
        else if (!strcmp(name, "moved") || !strcmp(name, "scaled")) {
            tokens_of(c, t = term_add(s, "moved", w, self_shape), true, false);
            t->warped = true;
            t->warp = *name == 'm' ? (Warp){ dx, dy, 1, 1 } : (Warp){ 0, 0, scale, scale };
        } else if (!strcmp(name, "centroid")) {
            tokens_of(c, t = term_add(s, "centroid", w, self_centroid), true, false);
            t->relative = true;
            t->x = dx;
            t->y = dy;
        } else if (!strcmp(name, "size")) {
            tokens_of(c, t = term_add(s, "size", w, self_size), true, false);
            t->relative = true;
            t->mul = scale;
        } else run_fail(&c->run, E_FORMAT, "%s: no self-guidance term is called %s", c->file, name);
    }
}

static Tensor one(Case *c, const char *name) { return tensor_row(case_in(c, name), 0); }

/* Observe the reference and the present at params.t, evaluate, pull. */
static double evaluate(Scene *s, Lane *now, Lane *ref, Tensor dz, double *terms, Tensor eps)
{
    Case *c = s->c;
    Run *r = &c->run;
    Clock clock = { .n = 1, .t = case_int(c, "t", 0), .ab = case_real(c, "alpha_bar", 1) };
    guide_observe(r, &s->g, ref, &clock, s->want, 2, NULL, false, false);
    guide_observe(r, &s->g, now, &clock, s->want, 2, NULL, true, eps.x != NULL);
    double E = 0;
    for (int k = 0; k < s->n && run_ok(r); k++) {
        terms[k] = s->energy[k].eval(&s->energy[k], r, &now->view, &ref->view, s->energy[k].weight, NULL);
        E += terms[k];
    }
    if (eps.x) tensor_copy(r, eps, now->eps);
    guide_pull(r, &s->g, now, dz, (Tensor){0}, (Tensor){0});
    return E;
}

static void judge_maps(Scene *s, const View *now, const View *ref)
{
    Case *c = s->c;
    Run *r = &c->run;
    const Sight *p, *last = NULL;
    for (int l = 0; (p = view_see(now, SEE_PROBS, s->want[0].sites, l)) && run_ok(r); l++) {
        int K = p->val.s.d[2], h, w;
        if (!map_size(now->h, now->w, p->val.s.d[1], &h, &w)) return;
        Tensor at = case_new(c, SHAPE(K, 2)), size = case_new(c, SHAPE(K)), map = case_new(c, SHAPE(h, w)), m = case_new(c, SHAPE(h, w));
        for (int k = 0; k < K && run_ok(r); k++) {
            map_of(r, map, p, k);
            Centroid o = centroid_of(map);
            mask_soft(r, m, map, 10, 0.5);
            acc sum = 0;
            for (int i = 0; i < h * w; i++) sum += (acc)m.x[i];
            at.x[2 * k] = (real)o.x;
            at.x[2 * k + 1] = (real)o.y;
            size.x[k] = (real)(sum / (h * w));
        }
        judge(c, case_name(c, "mid.centroid.%s", p->site), at);
        judge(c, case_name(c, "mid.size.%s", p->site), size);
        last = p;
    }
    for (int side = 0; side < 2 && last; side++) {
        const Sight *q = side ? view_see(ref, SEE_PROBS, last->site, 0) : last;
        int K = q->val.s.d[2], h, w;
        if (!map_size(now->h, now->w, q->val.s.d[1], &h, &w)) return;
        Tensor maps = case_new(c, SHAPE(K, h, w));
        for (int k = 0; k < K && maps.x; k++) map_of(r, tensor_row(maps, k), q, k);
        judge(c, side ? "mid.map_ref.last" : "mid.map.last", maps);
    }
}

void conform_selfguide_property(Case *c)
{
    Scene s;
    const char *what = strrchr(c->kind, '-') + 1;
    if (!scene_open(c, &s, 10)) return;
    SelfTerm *t;
    if (!strcmp(what, "centroid")) {
        t = term_add(&s, "centroid", 1, self_centroid);
        t->relative = case_real(c, "shift_x", 1e9) < 1e9;
        t->x = t->relative ? case_real(c, "shift_x", 0) : case_real(c, "target_x", 0);
        t->y = t->relative ? case_real(c, "shift_y", 0) : case_real(c, "target_y", 0);
        tokens_of(c, t, true, t->relative);
    } else if (!strcmp(what, "size")) {
        t = term_add(&s, "size", 1, self_size);
        t->relative = true;
        t->mul = case_real(c, "mul", 1);
        t->add = case_real(c, "add", 0);
        tokens_of(c, t, true, false);
    } else if (!strcmp(what, "shape")) {
        t = term_add(&s, "shape", 1, self_shape);
        t->soft = !strcmp(case_text(c, "target", "hard"), "soft");
        tokens_of(c, t, false, true);
    } else {
        t = term_add(&s, "appearance", 1, self_appearance);
        t->soft = !strcmp(case_text(c, "mask", "hard"), "soft");
        tokens_of(c, t, true, true);
    }
    Branch b = { .name = "cond", .context = one(c, "in.context") };
    Lane now = lane_make(&b, NULL), ref = now;
    now.z = one(c, "in.z");
    ref.z = one(c, "in.z_ref");
    Tensor dz = case_new(c, now.z.s);
    double terms[8], E = evaluate(&s, &now, &ref, dz, terms, (Tensor){0});
    judge_doubles(c, "out.energy", SHAPE(1), &E);
    dz.s = case_in(c, "in.z").s;
    judge(c, "grad.z", dz);
    judge_maps(&s, &now.view, &ref.view);
}

void conform_selfguide_eps(Case *c)
{
    Scene s;
    Run *r = &c->run;
    if (!scene_open(c, &s, 10)) return;
    terms_of_edit(&s);
    Branch cond = { .name = "cond", .context = one(c, "in.context") }, source = { .name = "cond", .context = one(c, "in.context_ref") };
    Branch uncond = { .name = "uncond", .context = one(c, "in.context_null") };
    Lane now = lane_make(&cond, NULL), ref = lane_make(&source, NULL), none = lane_make(&uncond, NULL);
    now.z = none.z = one(c, "in.z");
    ref.z = one(c, "in.z_ref");
    Tensor dz = case_new(c, now.z.s), ec = case_new(c, now.z.s), eu = case_new(c, now.z.s), hat = case_new(c, now.z.s);
    double terms[8];
    evaluate(&s, &now, &ref, dz, terms, ec);
    Clock clock = { .n = 1, .t = case_int(c, "t", 0), .ab = case_real(c, "alpha_bar", 1) };
    guide_observe(r, &s.g, &none, &clock, NULL, 0, NULL, false, true);
    if (run_ok(r)) tensor_copy(r, eu, none.eps);
    cfg_mix(r, hat, eu, ec, case_real(c, "cfg", 1));
    double v = case_real(c, "v", 0);
    axpy(r, hat, (real)self_gain(&clock, r, dz, (Tensor){0}, (Tensor){0}, &v, NULL), dz);
    hat.s = dz.s = ec.s = eu.s = case_in(c, "in.z").s;
    judge(c, "grad.z", dz);
    judge(c, "out.eps_cond", ec);
    judge(c, "out.eps_uncond", eu);
    judge(c, "out.eps_hat", hat);
    judge_doubles(c, "out.terms", SHAPE(s.n), terms);
}

/* ---- whole runs ---- */

typedef struct { Case *c; const Rule *rule; Tensor noise; double energy[1024], guided[1024]; int n; Shape z; } Watching;

static bool watch(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Watching *w = user;
    int i = report->clock.i;
    (void)x0;
    if (i >= 1024) return false;
    w->energy[i] = (double)report->energy;
    w->guided[i] = w->rule->strength(&report->clock, w->rule->when) != 0;
    w->n = i + 1;
    z.s = w->z;
    judge(w->c, case_name(w->c, "mid.z.%d", i), z);
    return true;
}

static void given_noise(void *user, NoiseFor what, const Clock *c, Tensor out)
{
    Watching *w = user;
    (void)what;
    tensor_copy(&w->c->run, out, tensor_row(w->noise, c->i));
}

/* The reference's own last latent, seen through the method's hook. */
static void keep_reference(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state)
{
    (void)c; (void)z;
    tensor_copy(r, *(Tensor *)state, zref[0]);
}

void conform_selfguide_loop(Case *c)
{
    Scene s;
    Run *r = &c->run;
    if (!scene_open(c, &s, case_int(c, "steps", 0))) return;
    terms_of_edit(&s);
    double w = case_real(c, "cfg", 1);
    bool real_image = case_has(c, "in.x0_real"), always = !strcmp(case_text(c, "schedule", "paper"), "always");
    s.g.sampler = !strcmp(case_text(c, "sampler", "ddim"), "ddpm") ? SAMPLER_DDPM : SAMPLER_DDIM;
    Branch b[4] = {
        { .name = "uncond", .context = one(c, "in.context_null"), .mix = mix_uncond, .par = { w } },
        { .name = "cond", .context = one(c, "in.context"), .mix = mix_cond, .par = { w }, .watch = true },
    };
    b[2] = b[0];
    b[3] = b[1];
    b[3].context = one(c, "in.context_ref");
    Rule rule = { .energy = s.energy, .energies = s.n, .leaf = BY_Z, .into = TO_EPS, .gain = self_gain, .par = { case_real(c, "v", 0) },
                  .strength = always ? self_always : self_schedule, .when = { 1 }, .inner = 1 };
    Tensor start = one(c, "in.z"), z = case_new(c, start.s), zref = case_new(c, start.s);
    Watching see = { .c = c, .rule = &rule, .noise = case_has(c, "in.noise") ? case_in(c, "in.noise") : (Tensor){0}, .z = case_in(c, "in.z").s };
    Tensor *noise = arena_take(r->run, (size_t)s.schedule.n * sizeof *noise);
    if (!noise || !run_ok(r)) return;
    for (int i = 0; i < s.schedule.n && real_image; i++) noise[i] = tensor_row(see.noise, i);
    Reference ref = { real_image ? REFERENCE_NOISED : REFERENCE_LOCKSTEP, b + 2, 2, real_image ? one(c, "in.x0_real") : (Tensor){0},
                      NULL, real_image ? noise : NULL };
    Method m = { .name = "self-guidance", .reference = &ref, .references = 1, .branch = b, .branches = 2, .rule = &rule, .rules = 1,
                 .after_step = keep_reference, .state = &zref };
    s.g.noise = given_noise;
    s.g.watch = watch;
    s.g.user = &see;
    tensor_copy(r, z, start);
    guide_sample(r, &s.g, &(Guidance){ &m, 1 }, z);
    z.s = zref.s = see.z;
    judge(c, "out.z", z);
    if (case_has(c, "out.z_ref")) judge(c, "out.z_ref", zref);
    judge_doubles(c, "out.energy", SHAPE(see.n), see.energy);
    judge_doubles(c, "out.guided", SHAPE(see.n), see.guided);
}
