#include <math.h>
#include "guidance/selfguide.h"
#include "tensor/resize.h"

SelfTerm self_term(const char *maps, const char *features)
{
    return (SelfTerm){ .maps = maps, .features = features, .mul = 1, .warp = { 0, 0, 1, 1 }, .sharp = 10, .at = 0.5 };
}

double self_schedule(const Clock *c, const double *par)
{
    bool on = c->i < 3 * c->n / 16 || (c->i < c->n - c->n / 32 && c->i % 2 == 0);
    return on ? par[0] : 0;
}

double self_always(const Clock *c, const double *par) { return c->n ? par[0] : 0; }

double self_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    (void)r; (void)g; (void)delta; (void)each; (void)state;
    return par[0] * sqrt(1 - c->ab);
}

static int sites_of(const View *v, const SelfTerm *t)
{
    int n = 0;
    while (view_see(v, SEE_PROBS, t->maps, n)) n++;
    return n;
}

/* What one energy looks at: layer `nth`'s map of the kth token, now and in the reference (both temporaries). */
typedef struct { Sight *now; Tensor map, ref; } Pair;

static bool pair_at(Run *r, Pair *p, const SelfTerm *t, View *now, const View *ref, int nth, int k)
{
    int h, w;
    p->now = view_at(now, SEE_PROBS, t->maps, nth);
    if (!p->now || !map_size(now->h, now->w, p->now->val.s.d[1], &h, &w)) {
        run_fail(r, E_SHAPE, "self-guidance: %s is not a map of a %d x %d latent", p->now ? p->now->site : t->maps, now->h, now->w);
        return false;
    }
    p->map = temp(r, SHAPE(h, w));
    map_of(r, p->map, p->now, t->token[k]);
    p->ref = (Tensor){0};
    const Sight *there = ref ? view_see(ref, SEE_PROBS, p->now->site, 0) : NULL;
    if (there) {
        p->ref = temp(r, SHAPE(h, w));
        map_of(r, p->ref, there, t->source[k]);
    }
    return run_ok(r);
}

static bool reference_there(Run *r, const Pair *p)
{
    if (!p->ref.x) run_fail(r, E_OPTION, "self-guidance: %s needs a reference", p->now->site);
    return p->ref.x != NULL;
}

static acc centroid_term(const SelfTerm *t, Run *r, const Pair *p, acc weight)
{
    if (t->relative && !reference_there(r, p)) return 0;
    Tensor dmap = temp(r, p->map.s);
    Centroid c = centroid_of(p->map), from = { 0, 0, 1 };
    if (t->relative) from = centroid_of(p->ref);
    real now[2] = { (real)c.x, (real)c.y }, want[2] = { (real)(from.x + t->x), (real)(from.y + t->y) }, d[2] = { 0, 0 };
    acc E = distance(now, want, 2, t->squared, weight, d);
    if (!dmap.x) return 0;
    centroid_back(dmap, p->map, c, (acc)d[0], (acc)d[1]);
    for (size_t i = 0; i < tensor_count(dmap); i++) p->map.x[i] = dmap.x[i];
    return E;
}

static acc mean_of(Tensor m)
{
    acc sum = 0;
    for (size_t i = 0; i < tensor_count(m); i++) sum += (acc)m.x[i];
    return sum / (acc)tensor_count(m);
}

static acc size_term(const SelfTerm *t, Run *r, const Pair *p, acc weight)
{
    if (t->relative && !reference_there(r, p)) return 0;
    Tensor m = temp(r, p->map.s), dmap = temp(r, p->map.s);
    acc base = 0;
    if (!dmap.x) return 0;
    if (t->relative) {
        mask_soft(r, m, p->ref, t->sharp, t->at);
        base = t->mul * mean_of(m);
    }
    mask_soft(r, m, p->map, t->sharp, t->at);
    real now = (real)mean_of(m), want = (real)(base + t->add), d = 0;
    acc E = distance(&now, &want, 1, t->squared, weight, &d);
    for (size_t i = 0; i < tensor_count(m); i++) m.x[i] = d / (real)tensor_count(m);
    mask_soft_back(r, dmap, m, p->map, t->sharp, t->at);
    for (size_t i = 0; i < tensor_count(dmap); i++) p->map.x[i] = dmap.x[i];
    return E;
}

static acc shape_term(const SelfTerm *t, Run *r, const Pair *p, acc weight)
{
    if (!reference_there(r, p)) return 0;
    Tensor m = temp(r, p->map.s), want = temp(r, p->map.s), moved = temp(r, p->map.s), dm = temp(r, p->map.s);
    if (!dm.x) return 0;
    if (t->soft) mask_soft(r, want, p->ref, t->sharp, t->at);
    else mask_hard(r, want, p->ref, t->at);
    if (t->warped) {
        map_warp(moved, want, centroid_of(p->ref), t->warp);
        want = moved;
    }
    mask_soft(r, m, p->map, t->sharp, t->at);
    tensor_zero(dm);
    acc E = distance(m.x, want.x, tensor_count(m), t->squared, weight, dm.x);
    mask_soft_back(r, m, dm, p->map, t->sharp, t->at);
    for (size_t i = 0; i < tensor_count(m); i++) p->map.x[i] = m.x[i];
    return E;
}

/* The mean over layers and tokens of a term that turns p->map into its gradient. */
static acc over_maps(const Energy *e, Run *r, View *now, const View *ref, acc weight,
                     acc (*term)(const SelfTerm *, Run *, const Pair *, acc))
{
    const SelfTerm *t = e->par;
    int layers = sites_of(now, t);
    acc E = 0;
    if (!layers || !t->tokens) run_fail(r, E_OPTION, "self-guidance: no attention map matches %s", t->maps);
    for (int l = 0; l < layers; l++)
        for (int k = 0; k < t->tokens && run_ok(r); k++) {
            size_t mark = r->temp->used;
            Pair p;
            if (!pair_at(r, &p, t, now, ref, l, k)) return 0;
            E += term(t, r, &p, weight / (layers * t->tokens));
            if (run_ok(r)) map_back(r, p.now, t->token[k], p.map);
            arena_release(r->temp, mark);
        }
    return E;
}

acc self_centroid(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)state;
    return over_maps(e, r, now, ref, weight, centroid_term);
}

acc self_size(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)state;
    return over_maps(e, r, now, ref, weight, size_term);
}

acc self_shape(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)state;
    return over_maps(e, r, now, ref, weight, shape_term);
}

/* The appearance mask on the feature's grid: hard and constant, or soft with gradient. */
static void look_mask(Run *r, Tensor big, Tensor map, const SelfTerm *t)
{
    Tensor m = temp(r, map.s);
    if (t->soft) mask_soft(r, m, map, t->sharp, t->at);
    else mask_hard(r, m, map, t->at);
    if (!run_ok(r)) return;
    m.s = SHAPE(1, map.s.d[0], map.s.d[1]);
    resize_bilinear(r, (Tensor){ big.x, SHAPE(1, big.s.d[0], big.s.d[1]) }, m);
}

static acc appearance_term(const SelfTerm *t, Run *r, const Pair *p, Sight *f, const Sight *fref, acc weight)
{
    int C = f->val.s.d[0], H = f->val.s.d[1], W = f->val.s.d[2];
    Tensor m = temp(r, SHAPE(H, W)), mref = temp(r, SHAPE(H, W)), a = temp(r, SHAPE(C)), b = temp(r, SHAPE(C)), da = temp(r, SHAPE(C));
    Tensor dm = t->soft ? temp(r, SHAPE(H, W)) : (Tensor){0};
    look_mask(r, m, p->map, t);
    look_mask(r, mref, p->ref, t);
    appearance_of(r, a, f->val, m);
    appearance_of(r, b, fref->val, mref);
    if (!run_ok(r)) return 0;
    tensor_zero(da);
    tensor_zero(dm);
    acc E = distance(a.x, b.x, (size_t)C, t->squared, weight, da.x);
    appearance_back(r, f->adj, dm, da, a, f->val, m);
    if (!t->soft || !run_ok(r)) return E;
    Tensor small = temp(r, p->map.s), dmap = temp(r, p->map.s);
    resize_bilinear_back(r, (Tensor){ small.x, SHAPE(1, small.s.d[0], small.s.d[1]) }, (Tensor){ dm.x, SHAPE(1, H, W) });
    mask_soft_back(r, dmap, small, p->map, t->sharp, t->at);
    for (size_t i = 0; i < tensor_count(dmap); i++) p->map.x[i] = dmap.x[i];
    return E;
}

/* The map is that of the last attention site; the mean runs over tokens and channels. */
acc self_appearance(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)state;
    const SelfTerm *t = e->par;
    int layers = sites_of(now, t);
    Sight *f = view_at(now, SEE_FEATURE, t->features, 0);
    const Sight *fref = ref ? view_see(ref, SEE_FEATURE, t->features, 0) : NULL;
    acc E = 0;
    if (!layers || !f || !fref) run_fail(r, E_OPTION, "self-guidance: appearance needs %s, %s and a reference", t->maps, t->features);
    for (int k = 0; k < t->tokens && run_ok(r); k++) {
        size_t mark = r->temp->used;
        Pair p;
        if (!pair_at(r, &p, t, now, ref, layers - 1, k) || !reference_there(r, &p)) return 0;
        E += appearance_term(t, r, &p, f, fref, weight / t->tokens);
        if (t->soft && run_ok(r)) map_back(r, p.now, t->token[k], p.map);
        arena_release(r->temp, mark);
    }
    return E;
}
