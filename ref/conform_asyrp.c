/* Asyrp: the asymmetric step, whole runs through the engine, a step of learning, interpolation of h. */
#include <math.h>
#include <string.h>
#include "guidance/asyrp_learn.h"
#include "guidance/ddim.h"
#include "nn/optim.h"
#include "nn/pixel.h"
#include "ref/conform.h"
#include "tensor/point.h"

enum { BLOCKS = 4, TIMES = 64 };
static const Tensor none = {0};

typedef struct {
    Unet unet;
    Delta delta[BLOCKS];
    const Delta *given[BLOCKS];
    AsyrpShift shift;
} Net;

static const Json *list_of(Case *c, const char *key, int least)
{
    const Json *j = json_get(c->params, key);
    if (!j || j->kind != JSON_ARRAY || (int)j->count < least) {
        run_fail(&c->run, E_FORMAT, "%s: params.%s: a list of at least %d is expected", c->file, key, least);
        return NULL;
    }
    return j->child;
}

static void load_delta(Case *c, Delta *d, const char *name)
{
    int groups = 32;
    const char *folder = case_name(c, "%s/%s", c->root, name), *file = case_name(c, "%s/config.json", folder);
    const Json *j = json_load(c->run.run, file, &c->run.status), *g = json_get(j, "norm_groups");
    if (g && !json_int(g, &groups)) run_fail(&c->run, E_FORMAT, "%s: norm_groups: a number is expected", file);
    if (run_ok(&c->run)) delta_load(d, folder, groups, c->weights, &c->run.status);
}

static bool load_net(Case *c, Net *n)
{
    LoadReport report = {0};
    const char *folder = case_model(c, NULL);
    memset(n, 0, sizeof *n);
    if (!run_ok(&c->run) || !pixel_load_unet(&n->unet, folder, c->weights, &report, &c->run.status)) return false;
    const Json *name = list_of(c, "layers", 1), *coefficient = list_of(c, "hs_coeff", 2);
    if (!run_ok(&c->run)) return false;
    n->shift.delta = n->given;
    json_number(coefficient, &n->shift.c0);
    for (coefficient = coefficient->next; name && coefficient && n->shift.deltas < BLOCKS && run_ok(&c->run); name = name->next, coefficient = coefficient->next) {
        int k = n->shift.deltas++;
        n->given[k] = &n->delta[k];
        json_number(coefficient, &n->shift.c[k]);
        load_delta(c, &n->delta[k], name->text);
    }
    return run_ok(&c->run);
}

static bool times_of(Case *c, Schedule *s, const int *t, int n)
{
    ScheduleConfig config = gaussian_config(BETA_LINEAR, 1000);
    return run_ok(&c->run) && asyrp_schedule(s, &config, case_alphas(c), t, n, c->run.run, &c->run.status);
}

/* ---- one step ---- */

typedef struct { Case *c; Net net; Tensor x, noise, eps, edit, h, next, x0; Schedule s; int t; } Asymmetric;

static void judge_step(Asymmetric *w, const char *name, Tensor edit, Tensor noise, double eta)
{
    ddim_step(&w->c->run, &w->s, w->t, w->next, w->x0, w->x, edit, w->eps, noise, (DdimOptions){ .eta = eta });
    judge(w->c, name, w->next);
}

static void judge_states(Asymmetric *w, int t_next)
{
    Case *c = w->c;
    judge_step(w, "out.x_next_unedited", w->eps, none, 0);
    judge_step(w, "out.x_next_eta1", w->edit, w->noise, 1);
    judge_step(w, "out.x_next", w->edit, none, 0);
    judge(c, "out.x0", w->x0);
    if (times_of(c, &w->s, &w->t, 1)) judge_step(w, "out.x_next_last", w->edit, none, 0);
    times_of(c, &w->s, (int[]){ t_next, w->t }, 2);
}

/* delta-h of the last block, of the first one without its time, and a given one. */
static void judge_shifts(Asymmetric *w)
{
    Case *c = w->c;
    Run *r = &c->run;
    Net *n = &w->net;
    UnetPass p;
    DeltaCache unused;
    double t[2] = { w->t, w->t };
    const Json *fixed = list_of(c, "fixed_delta_coeff", 2);
    Tensor d = case_new(c, w->h.s), given = case_in(c, "in.delta_h");
    if (!run_ok(r)) return;
    unet_encode(r, &n->unet, w->h, &p, w->x, t, none, false);
    delta_forward(r, n->given[n->shift.deltas - 1], d, &unused, w->h, p.silu_temb, w->t);
    judge(c, "mid.delta_h_last", d);
    delta_forward(r, n->given[0], d, &unused, w->h, none, w->t);
    judge(c, "mid.delta_h0_ignore_t", d);
    Shape s = w->h.s;
    Delta table = { .config = { DELTA_TABLE, s.d[1], 0, 0 }, .table = given, .time_of = (int[]){ 0 }, .times = 1 };
    AsyrpShift a = { .delta = &(const Delta *){ &table }, .deltas = 1 };
    json_number(fixed, &a.c0);
    json_number(fixed->next, &a.c[0]);
    asyrp_predict(r, &n->unet, w->eps, w->edit, none, &a, w->x, w->t, none);
    ddim_predict(r, &w->s, w->t, w->x0, none, w->x, w->edit);
    judge(c, "out.x0_fixed_delta", w->x0);
}

static void judge_gradient(Walk *w, Param *p, const char *name)
{
    Case *c = w->self;
    Shape s = param_shape(p);
    if (p->rank == 4) s = SHAPE(p->size[0], p->size[1], p->size[2], p->size[3]);
    judge(c, case_name(c, "grad.%s%s", case_has_under(c, "grad.layer0.") ? "layer0." : "", name), tensor_as(p->grad, s));
}

/* Gradients of sum x0 g by the first block's parameters. */
static void judge_gradients(Asymmetric *w)
{
    Case *c = w->c;
    Run *r = &c->run;
    Net *n = &w->net;
    UnetPass encoded, edited;
    DeltaCache cache[BLOCKS];
    Arena *kept = r->keep;
    double t[2] = { w->t, w->t }, a = schedule_alpha_bar(&w->s, w->t);
    Tensor g = case_in(c, "in.gx0"), y = case_new(c, w->h.s), dh = case_new(c, w->h.s);
    Shape s = SHAPE(w->x.s.d[0], n->unet.config.out_channels, w->x.s.d[2], w->x.s.d[3]);
    Tensor out = case_new(c, s), dout = case_new(c, s);
    params_want_gradients(delta_walk, &n->delta[0], c->weights, &r->status);
    if (!run_ok(r)) return;
    r->keep = r->temp;
    unet_encode(r, &n->unet, w->h, &encoded, w->x, t, none, false);
    r->keep = kept;
    asyrp_shift(r, y, &n->shift, cache, w->h, encoded.silu_temb, w->t);
    unet_decode(r, &n->unet, out, &edited, &encoded, y, false);
    tensor_zero(dout);
    for (int i = 0; i < g.s.d[0] && run_ok(r); i++)
        scale(r, (Tensor){ tensor_row(dout, i).x, tensor_row(g, i).s }, (real)(-sqrt(1 - a) / sqrt(a)), tensor_row(g, i), 0);
    unet_decode_backward(r, &n->unet, dh, dout, &edited);
    AsyrpShift one = { .delta = n->given, .deltas = 1, .c = { n->shift.c[0] } };
    asyrp_shift_back(r, &one, (Delta *[]){ &n->delta[0] }, dh, cache);
    Walk walk = { .visit = judge_gradient, .self = c };
    if (run_ok(r)) delta_walk(&n->delta[0], &walk);
}

/* pix-asyrp-step-*: params t, t_next, layers, hs_coeff, fixed_delta_coeff. */
void conform_asyrp_step(Case *c)
{
    Run *r = &c->run;
    Asymmetric *w = arena_take(r->run, sizeof *w);
    if (!w || !load_net(c, &w->net)) return;
    w->c = c;
    w->t = case_int(c, "t", 0);
    int t_next = case_int(c, "t_next", 0);
    w->x = case_in(c, "in.x");
    w->noise = case_in(c, "in.noise");
    Shape s = w->x.s;
    w->eps = case_new(c, s), w->edit = case_new(c, s), w->next = case_new(c, s), w->x0 = case_new(c, s);
    w->h = case_new(c, unet_h_shape(&w->net.unet, s.d[0], s.d[2], s.d[3]));
    if (!times_of(c, &w->s, (int[]){ t_next, w->t }, 2)) return;
    asyrp_predict(r, &w->net.unet, w->eps, w->edit, w->h, &w->net.shift, w->x, w->t, none);
    judge(c, "mid.eps", w->eps);
    judge(c, "mid.eps_edit", w->edit);
    judge(c, "mid.h", w->h);
    if (run_ok(r)) judge_states(w, t_next);
    if (run_ok(r)) judge_shifts(w);
    case_pass(c);
    if (run_ok(r)) judge_gradients(w);
}

/* ---- whole runs ---- */

typedef struct { Case *c; Net net; Schedule s; Tensor noise; const char *what; } Loop;

static void given_noise(void *user, NoiseFor what, const Clock *clock, Tensor out)
{
    Loop *w = user;
    (void)what;
    tensor_copy(&w->c->run, out, tensor_row(w->noise, clock->i));
}

static bool judge_latent(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Loop *w = user;
    (void)x0;
    judge(w->c, case_name(w->c, "mid.%s.x.%d", w->what, report->clock.i), tensor_as(z, SHAPE(1, z.s.d[0], z.s.d[1], z.s.d[2])));
    return true;
}

static void run_loop(Loop *w, const char *what, Tensor latent, double strength)
{
    Case *c = w->c;
    Run *r = &c->run;
    Shape s = latent.s;
    double number[64] = {0};
    const struct { const char *name; double value; } set[] = { { "strength", strength }, { "t-edit", case_int(c, "t_edit", 0) }, { "t-boost", case_int(c, "t_boost", 0) },
                                                                { "origin", w->net.shift.c0 }, { "train-steps", w->s.n } };
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) number[methods_option(&method_asyrp, set[i].name)] = set[i].value;
    MethodInput in = { .number = number, .scale = 1, .schedule = &w->s, .unet = &w->net.unet, .delta = w->net.given, .deltas = 1 };
    Guide guide = { .unet = &w->net.unet, .schedule = &w->s, .noise = given_noise, .watch = judge_latent, .user = w };
    Method m;
    Tensor z = case_new(c, SHAPE(s.d[1], s.d[2], s.d[3]));
    w->what = what;
    tensor_copy(r, z, latent);
    if (run_ok(r) && method_asyrp.build(r, &m, &in)) guide_sample(r, &guide, &(Guidance){ &m, 1 }, z);
    judge(c, case_name(c, "out.%s", what), tensor_as(z, s));
}

/* pix-asyrp-loop: params steps, t_0, t_edit, t_boost; noise row k belongs to step k. */
void conform_asyrp_loop(Case *c)
{
    Run *r = &c->run;
    Loop *w = arena_take(r->run, sizeof *w);
    int t[TIMES], n = case_int(c, "steps", 0);
    if (n < 2 || n > TIMES) run_fail(r, E_FORMAT, "%s: params.steps: 2 to %d are expected", c->file, TIMES);
    if (!w || !load_net(c, &w->net) || !asyrp_sequence(t, n, case_int(c, "t_0", 0), &r->status)) return;
    w->c = c;
    Tensor x = case_in(c, "in.image"), eps = case_new(c, x.s);
    w->noise = case_in(c, "in.noise");
    if (!times_of(c, &w->s, t, n)) return;
    for (int k = 0; k + 1 < n && run_ok(r); k++) {
        asyrp_predict(r, &w->net.unet, eps, none, none, NULL, x, t[k], none);
        asyrp_invert_step(r, &w->s, t[k], t[k + 1], x, x, eps);
    }
    judge(c, "out.latent", x);
    run_loop(w, "reconstruct", x, 0);
    run_loop(w, "edit", x, w->net.shift.c[0]);
}

/* ---- learning ---- */

static void judge_moved(Walk *w, Param *p, const char *name)
{
    Case *c = w->self;
    judge(c, case_name(c, "out.sgd.%s", name), p->v);
}

static void judge_number_as(Case *c, const char *name, double value) { judge_doubles(c, name, SHAPE(1), &value); }

static bool load_learner(Case *c, AsyrpLearner *a, Unet *u, Delta *d, ClipTower *tower)
{
    Run *r = &c->run;
    LoadReport report = {0};
    const char *folder = case_model(c, NULL), *clip = case_name(c, "%s/%s", c->root, case_text(c, "clip", ""));
    int t = case_int(c, "t", 0), t_next = case_int(c, "t_next", 0);
    if (!run_ok(r) || !pixel_load_unet(u, folder, c->weights, &report, &r->status)) return false;
    load_delta(c, d, case_text(c, "delta", ""));
    if (!run_ok(r) || !params_want_gradients(delta_walk, d, c->weights, &r->status) || !clip_tower_load(tower, clip, c->weights, NULL, &r->status)) return false;
    *a = (AsyrpLearner){ .unet = u, .delta = d, .eye = { .tower = tower }, .text = case_in(c, "in.text_direction"),
                         .w_clip = case_real(c, "clip_loss_w", 1), .w_l1 = case_real(c, "l1_loss_w", 0), .cosine = case_real(c, "cosine", 1), .scale = 1 };
    return times_of(c, &a->schedule, (int[]){ t_next, t }, 2);
}

/* pix-asyrp-train: params delta, clip, t, t_next, clip_loss_w, l1_loss_w, cosine, lr. */
void conform_asyrp_train(Case *c)
{
    Run *r = &c->run;
    static const struct { const char *name; size_t at; } loss[] = {
        { "out.loss", offsetof(AsyrpLoss, loss) }, { "out.loss_clip", offsetof(AsyrpLoss, clip) },
        { "out.loss_l1", offsetof(AsyrpLoss, l1) }, { "mid.direction_loss", offsetof(AsyrpLoss, direction) } };
    Unet *u = arena_take(r->run, sizeof *u);
    ClipTower *tower = arena_take(r->run, sizeof *tower);
    AsyrpEyePass pass;
    AsyrpLearner a;
    Delta d;
    if (!u || !tower || !load_learner(c, &a, u, &d, tower)) return;
    int t = case_int(c, "t", 0);
    Tensor x = case_in(c, "in.x_edit"), plain = case_in(c, "in.x_origin"), source = case_in(c, "in.source"), x0 = case_new(c, x.s), dx0 = case_new(c, x.s);
    Tensor e = case_new(c, SHAPE(x.s.d[0], tower->width)), eps = case_new(c, x.s), p = case_new(c, x.s);
    asyrp_eye_forward(r, &a.eye, e, &pass, source);
    judge(c, "mid.embed_source", e);
    asyrp_predict(r, u, eps, none, none, NULL, plain, t, none);
    ddim_predict(r, &a.schedule, t, p, none, plain, eps);
    judge(c, "mid.x0_origin", p);
    case_pass(c);
    AsyrpLoss l = asyrp_learn(r, &a, x, plain, x0, dx0, t, none, e, true);
    for (size_t i = 0; i < sizeof loss / sizeof *loss; i++) judge_number_as(c, loss[i].name, *(const double *)((const char *)&l + loss[i].at));
    judge(c, "mid.x0_edit", x0);
    judge(c, "grad.x0", dx0);
    judge(c, "out.x_next", x);
    Walk g = { .visit = judge_gradient, .self = c }, moved = { .visit = judge_moved, .self = c };
    if (run_ok(r)) delta_walk(&d, &g);
    Optim o;
    if (run_ok(r) && optim_begin(&o, OPTIM_SGD, delta_walk, &d, c->weights, &r->status)) optim_step(r, &o, case_real(c, "lr", 0));
    if (run_ok(r)) delta_walk(&d, &moved);
}

/* ---- interpolation ---- */

/* pix-hspace-interp: params u, a list of weights. */
void conform_asyrp_interpolation(Case *c)
{
    Run *r = &c->run;
    Tensor a = case_in(c, "in.h0"), b = case_in(c, "in.h1"), y = case_new(c, a.s), matched = case_new(c, a.s);
    const Json *u = list_of(c, "u", 1);
    for (int n = 0; run_ok(r) && n < a.s.d[0]; n++) {
        Tensor p = tensor_row(a, n), q = tensor_row(b, n);
        scale(r, tensor_row(matched, n), (real)sqrt((double)dot(r, p, p) / (double)dot(r, q, q)), q, 0);
    }
    for (int k = 0; u && run_ok(r); u = u->next, k++) {
        double w = 0;
        json_number(u, &w);
        asyrp_slerp(r, y, a, b, w);
        judge(c, case_name(c, "out.slerp.%d", k), y);
        asyrp_slerp(r, y, a, matched, w);
        judge(c, case_name(c, "out.slerp_matched_norm.%d", k), y);
        asyrp_lerp(r, y, a, b, w);
        judge(c, case_name(c, "out.lerp.%d", k), y);
    }
}
