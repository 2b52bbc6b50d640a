#include <string.h>
#include "nn/attention.h"

Attention attention_make(int width, int context, int heads, bool qkv_bias, bool causal)
{
    return (Attention){ linear_make(width, width, qkv_bias), linear_make(context, width, qkv_bias),
                        linear_make(context, width, qkv_bias), linear_make(width, width, true), heads, causal, NULL };
}

void attention_fuse(Attention *l, int block)
{
    Linear *part[3] = { &l->q, &l->k, &l->v };
    for (int i = 0; i < 3; i++) {
        part[i]->w = param_part(part[i]->w, i, 3, block);
        part[i]->b = param_part(part[i]->b, i, 3, block);
    }
}

static Linear conv1d_make(int in, int out)
{
    Linear l = linear_make(in, out, true);
    l.w.rank = 3;
    l.w.size[2] = 1;
    return l;
}

Attention attention_make_fused(int width, int out, int heads, bool new_order)
{
    Linear l = conv1d_make(width, width);
    Attention a = { l, l, l, conv1d_make(width, out), heads, false, NULL };
    attention_fuse(&a, new_order ? width : width / heads);
    return a;
}

void attention_walk(Attention *l, Walk *w, const char *const names[4])
{
    linear_walk(&l->q, w, names[0]);
    linear_walk(&l->k, w, names[1]);
    linear_walk(&l->v, w, names[2]);
    linear_walk(&l->out, w, names[3]);
}

bool attention_trains(const Attention *l)
{
    return linear_trains(&l->q) || linear_trains(&l->k) || linear_trains(&l->v) || linear_trains(&l->out);
}

static Tensor project(Run *r, const Linear *l, SiteKind kind, const char *path, Tensor x)
{
    LinearCache none;
    Tensor y = keep(r, shape_channels(x.s, l->w.size[0]));
    linear_forward(r, l, y, &none, x);
    tap_forward(r, kind, path, y);
    return y;
}

/* Softmax's gradient needs the probabilities that softmax gave, the mixture's those that were mixed.  One tensor serves
 * both while taps only read. */
static void look(Run *r, const Attention *l, AttentionCache *c)
{
    size_t mark = r->temp->used;
    Tensor P = c->seen, was = {0};
    bool backward_may_come = r->keep != r->temp;
    if (backward_may_come) {
        was = temp(r, P.s);
        if (was.x) tensor_copy(r, was, P);
    }
    tap_forward(r, SITE_PROBS, l->path, P);
    bool changed = was.x && memcmp(was.x, P.x, tensor_count(P) * sizeof(real));
    c->P = changed ? (Tensor){0} : P;
    if (backward_may_come) arena_release(r->temp, mark);
}

static void mix(Run *r, const Attention *l, Tensor mixed, AttentionCache *c)
{
    if (!tap_wanted(r, SITE_PROBS, l->path)) {
        c->stat = keep(r, SHAPE(c->q.s.d[0], l->heads, c->q.s.d[1], 2));
        attention(r, mixed, c->stat, c->q, c->k, c->v, l->heads, l->causal);
        return;
    }
    c->seen = keep(r, SHAPE(c->q.s.d[0], l->heads, c->q.s.d[1], c->k.s.d[1]));
    attention_probs(r, c->seen, c->q, c->k, l->heads, l->causal);
    if (run_ok(r)) look(r, l, c);
    attention_mix(r, mixed, c->seen, c->v);
}

void attention_forward(Run *r, const Attention *l, Tensor y, AttentionCache *c, Tensor x, Tensor context, Tensor base)
{
    size_t mark = r->temp->used;
    LinearCache none;
    *c = (AttentionCache){ .x = x, .context = context };
    c->q = project(r, &l->q, SITE_QUERY, l->path, x);
    c->k = project(r, &l->k, SITE_KEY,   l->path, context);
    c->v = project(r, &l->v, SITE_VALUE, l->path, context);
    Tensor mixed = temp(r, c->q.s);
    mix(r, l, mixed, c);
    if (base.x) linear_forward_onto(r, &l->out, y, &none, mixed, base);
    else        linear_forward(r, &l->out, y, &none, mixed);
    arena_release(r->temp, mark);
}

static bool tapped(const Run *r, const Attention *l)
{
    return tap_wanted(r, SITE_QUERY, l->path) || tap_wanted(r, SITE_KEY, l->path) ||
           tap_wanted(r, SITE_VALUE, l->path) || tap_wanted(r, SITE_PROBS, l->path);
}

/* mixed = P v is not remembered: only the output projection's weight gradient reads it. */
static Tensor mixed_again(Run *r, const Attention *l, const AttentionCache *c)
{
    if (!linear_trains(&l->out)) return (Tensor){0};
    Tensor mixed = temp(r, c->q.s), none = {0};
    if (c->seen.x) attention_mix(r, mixed, c->seen, c->v);
    else           attention(r, mixed, none, c->q, c->k, c->v, l->heads, l->causal);
    return mixed;
}

static void mix_backward(Run *r, const Attention *l, Tensor dq, Tensor dk, Tensor dv, Tensor dmixed, const AttentionCache *c)
{
    if (!c->seen.x) {
        attention_back(r, dq, dk, dv, dmixed, c->stat, c->q, c->k, c->v, l->heads, l->causal);
        return;
    }
    Tensor dP = temp(r, c->seen.s), P = c->P;
    attention_mix_back(r, dP, dv, dmixed, c->seen, c->v);
    tap_backward(r, SITE_PROBS, l->path, dP);
    if (!P.x) {
        P = temp(r, c->seen.s);
        attention_probs(r, P, c->q, c->k, l->heads, l->causal);
    }
    attention_probs_back(r, dq, dk, dP, P, c->q, c->k, l->heads);
}

/* The gradient that comes through one projection, added to `to` (which is empty when nobody wants it). */
static void project_backward(Run *r, Linear *l, Tensor to, Tensor dy, Tensor x)
{
    size_t mark = r->temp->used;
    Tensor dx = to.x ? temp(r, to.s) : (Tensor){0};
    linear_backward(r, l, dx, dy, &(LinearCache){ x });
    if (to.x) add(r, to, dx);
    arena_release(r->temp, mark);
}

void attention_backward(Run *r, Attention *l, Tensor dx, Tensor dcontext, Tensor dy, const AttentionCache *c)
{
    size_t mark = r->temp->used;
    bool self = c->context.x == c->x.x, sites = tapped(r, l);
    if (self) dcontext = dx;
    bool want_q = dx.x || sites || linear_trains(&l->q);
    bool want_kv = dcontext.x || sites || linear_trains(&l->k) || linear_trains(&l->v);
    Tensor dmixed = want_q || want_kv ? temp(r, c->q.s) : (Tensor){0};
    Tensor dq = want_q ? temp(r, c->q.s) : (Tensor){0};
    Tensor dk = want_kv ? temp(r, c->k.s) : (Tensor){0}, dv = want_kv ? temp(r, c->v.s) : (Tensor){0};

    linear_backward(r, &l->out, dmixed, dy, &(LinearCache){ mixed_again(r, l, c) });
    if (dmixed.x) mix_backward(r, l, dq, dk, dv, dmixed, c);
    tap_backward(r, SITE_VALUE, l->path, dv);
    tap_backward(r, SITE_KEY,   l->path, dk);
    tap_backward(r, SITE_QUERY, l->path, dq);
    if (dq.x) linear_backward(r, &l->q, dx, dq, &(LinearCache){ c->x });
    if (dk.x) project_backward(r, &l->k, dcontext, dk, c->context);
    if (dv.x) project_backward(r, &l->v, dcontext, dv, c->context);
    arena_release(r->temp, mark);
}

AttentionBlock attention_block_make(int channels, int groups, double eps)
{
    return (AttentionBlock){ norm_make(channels, groups, eps, ACT_NONE), attention_make(channels, channels, 1, true, false), ATTENTION_VAE };
}

AttentionBlock attention_block_make_ddpm(int channels, int groups, double eps)
{
    AttentionBlock l = attention_block_make(channels, groups, eps);
    Attention *a = &l.attention;
    a->q = a->k = a->v = a->out = linear_make_1x1(channels, channels);
    l.names = ATTENTION_DDPM;
    return l;
}

AttentionBlock attention_block_make_adm(int channels, int heads, bool new_order, int groups, double eps)
{
    return (AttentionBlock){ norm_make(channels, groups, eps, ACT_NONE), attention_make_fused(channels, channels, heads, new_order), ATTENTION_ADM };
}

void attention_block_walk(AttentionBlock *l, Walk *w)
{
    static const char *const names[][4] = {
        { "to_q", "to_k", "to_v", "to_out.0" }, { "q", "k", "v", "proj_out" }, { "qkv", "qkv", "qkv", "proj_out" },
    };
    norm_walk(&l->norm, w, l->names == ATTENTION_VAE ? "group_norm" : "norm");
    attention_walk(&l->attention, w, names[l->names]);
}

static Shape tokens_of(Shape s) { return SHAPE(s.d[0], s.d[1] * s.d[2], s.d[3]); }

void attention_block_forward(Run *r, const AttentionBlock *l, Tensor y, AttentionBlockCache *c, Tensor x)
{
    size_t mark = r->temp->used;
    Tensor a = temp(r, x.s), none = {0};
    Shape s = tokens_of(x.s);
    norm_forward(r, &l->norm, a, &c->norm, x, none, none);
    a = tensor_as(a, s);
    attention_forward(r, &l->attention, y.x ? tensor_as(y, s) : temp(r, s), &c->attention, a, a, tensor_as(x, s));
    arena_release(r->temp, mark);
}

void attention_block_backward(Run *r, AttentionBlock *l, Tensor dx, Tensor dy, const AttentionBlockCache *c)
{
    size_t mark = r->temp->used;
    Tensor x = c->norm.x, none = {0}, a = none, da = temp(r, x.s);
    Shape s = tokens_of(x.s);
    AttentionCache again = c->attention;
    if (attention_trains(&l->attention)) {
        a = temp(r, x.s);
        norm_again(r, &l->norm, a, &c->norm, none, none);
        again.x = again.context = tensor_as(a, s);
    }
    attention_backward(r, &l->attention, tensor_as(da, s), none, tensor_as(dy, s), &again);
    norm_backward(r, &l->norm, dx, none, none, da, &c->norm, none, none);
    if (dx.x) add(r, dx, dy);
    arena_release(r->temp, mark);
}
