/* The UNet: outputs, maps, features, and gradients of two losses, all by taps. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "nn/unet.h"
#include "ref/conform.h"
#include "tensor/point.h"
#include "tensor/shape.h"

/* A tap that copies the value on its way down and the gradient on its way up, and adds `pull` to the gradient. */
typedef struct {
    const char *site, *value_name, *grad_name;            /* in the case; NULL: not judged */
    SiteKind kind;
    Case *c;
    Tensor value, grad, pull;                             /* network layout */
} Watch;

static void watch_forward(void *self, Run *r, Tensor value)
{
    Watch *w = self;
    if (!w->value.x) w->value = case_new(w->c, value.s);
    tensor_copy(r, w->value, value);
}

static void watch_backward(void *self, Run *r, Tensor grad)
{
    Watch *w = self;
    if (w->pull.x) add(r, grad, w->pull);
    if (!w->grad_name) return;
    if (!w->grad.x) w->grad = case_new(w->c, grad.s);
    tensor_copy(r, w->grad, grad);
}

typedef struct { Case *c; Watch *watch; Tap *tap; int n, room; } Watches;

static Watches watches(Case *c, int room)
{
    Watches w = { c, arena_take(c->run.run, (size_t)room * sizeof(Watch)), arena_take(c->run.run, (size_t)room * sizeof(Tap)), 0, room };
    if (!w.watch || !w.tap) run_fail(&c->run, E_MEMORY, "%s: no memory for %d taps", c->file, room);
    return w;
}

static Watch *watch_at(Watches *w, SiteKind kind, const char *site)
{
    if (!run_ok(&w->c->run)) return NULL;
    for (int i = 0; i < w->n; i++)
        if (w->watch[i].kind == kind && !strcmp(w->watch[i].site, site)) return &w->watch[i];
    if (w->n == w->room) {
        run_fail(&w->c->run, E_FORMAT, "%s: more than %d sites are named", w->c->file, w->room);
        return NULL;
    }
    Watch *x = &w->watch[w->n];
    *x = (Watch){ .site = site, .kind = kind, .c = w->c };
    w->tap[w->n++] = (Tap){ kind, site, x, watch_forward, watch_backward, false };
    return x;
}

static void pull_at(Watches *w, Watch *x, Tensor pull)
{
    x->pull = pull;
    w->tap[x - w->watch].pulls = true;
}

static void judge_watch(Case *c, const Watch *w, const char *name, Tensor t)
{
    if (!name) return;
    if (!t.x) run_fail(&c->run, E_SHAPE, "%s: nothing passed the site %s", c->file, w->site);
    else if (w->kind == SITE_FEATURE) judge_nhwc(c, name, t);
    else judge(c, name, t);
}

static void judge_watches(Watches *w)
{
    for (int i = 0; i < w->n; i++) {
        judge_watch(w->c, &w->watch[i], w->watch[i].value_name, w->watch[i].value);
        judge_watch(w->c, &w->watch[i], w->watch[i].grad_name, w->watch[i].grad);
    }
}

/* ---- one pass ---- */

typedef struct { Case *c; Unet unet; Tensor z, context, eps, dz, dcontext; double *t; } Net;

static bool load(Case *c, Net *n, const char *z, const char *context)
{
    *n = (Net){ .c = c };
    if (!case_unet(c, &n->unet)) return false;
    n->z = case_in(c, z);
    n->context = case_in(c, context);
    int N = n->z.s.d[0];
    n->eps = case_new(c, SHAPE(N, n->unet.config.out_channels, n->z.s.d[2], n->z.s.d[3]));
    n->dz = case_new(c, n->z.s);
    n->dcontext = case_new(c, n->context.s);
    n->t = arena_take(c->run.run, ((size_t)N + 1) * sizeof *n->t);
    if (!n->t) run_fail(&c->run, E_MEMORY, "%s: no memory for %d times", c->file, N);
    return run_ok(&c->run);
}

static void forward(Net *n, UnetPass *p, const Watches *w)
{
    Run *r = &n->c->run;
    case_pass(n->c);
    r->tap = w->tap;
    r->taps = w->n;
    *p = (UnetPass){0};
    unet_forward(r, &n->unet, n->eps, p, n->z, n->t, n->context, false);
}

static void stop_looking(Case *c)
{
    c->run.tap = NULL;
    c->run.taps = 0;
}

static void judge_sum(Case *c, const char *name, double sum) { judge_doubles(c, name, SHAPE(1), &sum); }

/* ---- kind "unet" ---- */

/* "down.0" -> "down_blocks.0", "mid" -> "mid_block", "temb" -> "time_embedding" */
static const char *block_path(Case *c, const char *short_name, SiteKind *kind)
{
    *kind = SITE_FEATURE;
    if (!strcmp(short_name, "temb")) {
        *kind = SITE_TIME;
        return "time_embedding";
    }
    if (!strcmp(short_name, "mid")) return "mid_block";
    if (!strncmp(short_name, "down.", 5)) return case_name(c, "down_blocks.%s", short_name + 5);
    if (!strncmp(short_name, "up.", 3)) return case_name(c, "up_blocks.%s", short_name + 3);
    return short_name;
}

static Watches watch_first(Case *c)
{
    Watches w = watches(c, c->tensors.entries + 1);
    for (int i = 0; i < c->tensors.entries && run_ok(&c->run); i++) {
        const char *name = c->tensors.entry[i].name;
        SiteKind kind = SITE_PROBS;
        const char *site = NULL;
        bool grad = !strncmp(name, "grad.feat.", 10);
        if (!strncmp(name, "mid.probs.", 10)) site = name + 10;
        if (!strncmp(name, "mid.feat.", 9)) site = block_path(c, name + 9, &kind);
        if (grad) site = block_path(c, name + 10, &kind);
        Watch *x = site ? watch_at(&w, kind, site) : NULL;
        if (x && grad) x->grad_name = name;
        else if (x) x->value_name = name;
    }
    return w;
}

static void judge_parameters(Case *c, Unet *u)
{
    for (int i = 0; i < c->tensors.entries; i++) {
        const char *name = c->tensors.entry[i].name;
        const Param *p = strncmp(name, "grad.param.", 11) ? NULL : params_find(unet_walk, u, name + 11);
        size_t mark = c->run.temp->used;
        if (p && p->grad.x) {
            Shape s = {0};
            for (int k = 0; k < p->rank; k++) s.d[k] = p->size[k];
            Tensor t = temp(&c->run, s);
            if (t.x) param_to_file_order(t.x, p->grad, p);
            judge(c, name, t);
        }
        arena_release(c->run.temp, mark);
    }
}

/* 2-norms of all parameter gradients, 1e-4 relative.  A norm that is rounding noise beside the largest (a bias before
 * a normalisation over one channel has gradient zero) counts as zero and compares against the largest. */
static void judge_norms(Case *c, Unet *u, const Json *norms)
{
    double largest = 0, theirs = 0;
    for (const Json *j = norms->child; j; j = j->next)
        if (json_number(j, &theirs)) largest = fmax(largest, theirs);
    for (const Json *j = norms->child; j; j = j->next) {
        const Param *p = params_find(unet_walk, u, j->key);
        const char *what = case_name(c, "norm of grad.param.%s", j->key);
        if (!p || !p->grad.x || !json_number(j, &theirs)) {
            judge_truth(c, what, false, "no such parameter");
            continue;
        }
        double sum = 0;
        for (size_t i = 0; i < tensor_count(p->grad); i++) sum += (double)p->grad.x[i] * (double)p->grad.x[i];
        judge_number(c, what, sqrt(sum), theirs, theirs > 1e-12 * largest ? theirs : largest, 1e-4);
    }
}

/* loss = sum(in.loss_weight * out.sample) */
static void first_loss(Net *n)
{
    Case *c = n->c;
    Run *r = &c->run;
    UnetPass p;
    const Json *norms = json_get(c->params, "param_grad_norms");
    bool parameters = case_has_under(c, "grad.param.") || (norms && norms->kind == JSON_OBJECT);
    Watches w = watch_first(c);
    Tensor weight = case_in(c, "in.loss_weight");
    if (parameters) params_want_gradients(unet_walk, &n->unet, c->weights, &r->status);
    if (!run_ok(r)) return;
    forward(n, &p, &w);
    judge(c, "out.sample", n->eps);
    if (run_ok(r)) judge_sum(c, "out.loss", (double)dot(r, weight, n->eps));
    unet_backward(r, &n->unet, n->dz, n->dcontext, weight, &p);
    stop_looking(c);
    judge_watches(&w);
    judge(c, "grad.sample", n->dz);
    judge(c, "grad.encoder_hidden_states", n->dcontext);
    if (!parameters || !run_ok(r)) return;
    judge_parameters(c, &n->unet);
    if (norms && norms->kind == JSON_OBJECT) judge_norms(c, &n->unet, norms);
}

/* sum over cross layers l (in the order of params.cross_layers) and flat index i of cos(0.37 i + l) P_l[i] */
static void attention_loss(Net *n)
{
    Case *c = n->c;
    Run *r = &c->run;
    const Json *layers = json_get(c->params, "cross_layers");
    if (!layers || !layers->count || !(case_has_under(c, "grad_attn.") || case_has(c, "out.loss_attn"))) return;
    Watches w = watches(c, layers->count);
    for (const Json *j = layers->child; j; j = j->next) watch_at(&w, SITE_PROBS, j->text);
    UnetPass p;
    if (!run_ok(r)) return;
    for (int l = 0; l < w.n; l++) w.tap[l].pulls = true;
    forward(n, &p, &w);
    double loss = 0;
    for (int l = 0; l < w.n && run_ok(r); l++) {
        Watch *x = &w.watch[l];
        Tensor pull = case_new(c, x->value.s);
        for (size_t i = 0; i < tensor_count(pull); i++) {
            double k = cos(0.37 * (double)i + l);
            pull.x[i] = (real)k;
            loss += k * (double)x->value.x[i];
        }
        pull_at(&w, x, pull);
    }
    judge_sum(c, "out.loss_attn", loss);
    unet_backward(r, &n->unet, n->dz, n->dcontext, (Tensor){0}, &p);
    stop_looking(c);
    judge(c, "grad_attn.sample", n->dz);
    judge(c, "grad_attn.encoder_hidden_states", n->dcontext);
}

void conform_unet(Case *c)
{
    Net n;
    if (!load(c, &n, "in.sample", "in.encoder_hidden_states")) return;
    Tensor t = case_in(c, "in.timesteps");
    if (t.x && tensor_count(t) != (size_t)n.z.s.d[0])
        run_fail(&c->run, E_FORMAT, "%s: tensor in.timesteps: expected %d numbers, found %zu", c->file, n.z.s.d[0], tensor_count(t));
    for (int i = 0; run_ok(&c->run) && i < n.z.s.d[0]; i++) n.t[i] = (double)t.x[i];
    if (run_ok(&c->run)) first_loss(&n);
    if (run_ok(&c->run)) attention_loss(&n);
}

/* ---- kind "guid-taps": gradients put in at maps, features and eps come out at z and context in one backward ---- */

static Tensor adjoint(Case *c, const char *site_name, SiteKind kind)
{
    Tensor t = case_in(c, case_name(c, "in.adj.%s", site_name));
    if (kind != SITE_FEATURE || !t.x) return t;
    Tensor y = case_new(c, SHAPE(t.s.d[0], t.s.d[2], t.s.d[3], t.s.d[1]));
    if (y.x) nchw_to_nhwc(&c->run, y, t);
    return y;
}

static Watches watch_adjoints(Case *c)
{
    Watches w = watches(c, c->tensors.entries + 1);
    for (int i = 0; i < c->tensors.entries && run_ok(&c->run); i++) {
        const char *name = c->tensors.entry[i].name;
        bool map = !strncmp(name, "out.attn.", 9), feature = !strncmp(name, "out.feat.", 9);
        Watch *x = map || feature ? watch_at(&w, map ? SITE_PROBS : SITE_FEATURE, name + 9) : NULL;
        if (!x) continue;
        x->value_name = name;
        if (case_has(c, case_name(c, "in.adj.%s", name + 4))) pull_at(&w, x, adjoint(c, name + 4, x->kind));
    }
    return w;
}

void conform_taps(Case *c)
{
    Net n;
    UnetPass p;
    Run *r = &c->run;
    if (!load(c, &n, "in.z", "in.context")) return;
    for (int i = 0; i < n.z.s.d[0]; i++) n.t[i] = case_real(c, "t", 0);
    Watches w = watch_adjoints(c);
    Tensor deps = case_in(c, "in.adj.eps");
    if (!run_ok(r)) return;
    forward(&n, &p, &w);
    judge(c, "out.eps", n.eps);
    double inner = run_ok(r) ? (double)dot(r, deps, n.eps) : 0;
    for (int i = 0; i < w.n && run_ok(r); i++)
        if (w.watch[i].pull.x && w.watch[i].value.x) inner += (double)dot(r, w.watch[i].pull, w.watch[i].value);
    judge_sum(c, "out.inner", inner);
    unet_backward(r, &n.unet, n.dz, n.dcontext, deps, &p);
    stop_looking(c);
    judge_watches(&w);
    judge(c, "grad.z", n.dz);
    judge(c, "grad.context", n.dcontext);
}
