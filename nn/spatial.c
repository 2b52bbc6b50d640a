#include <stdio.h>
#include <string.h>
#include "nn/spatial.h"

static const double norm_eps = 1e-6, layer_eps = 1e-5;
static const char *const names[4] = { "to_q", "to_k", "to_v", "to_out.0" };

static const char *site_path(Arena *a, const char *path, int block, const char *leaf)
{
    size_t room = strlen(path) + 48;
    char *p = arena_take(a, room);
    if (p) snprintf(p, room, "%s.transformer_blocks.%d.%s", path, block, leaf);
    return p;
}

bool spatial_make(Spatial *l, int channels, int heads, int context, int blocks, int groups, bool linear, bool cross_only,
                  const char *path, Arena *weights, Status *s)
{
    *l = (Spatial){ .norm = norm_make(channels, groups, norm_eps, ACT_NONE), .blocks = blocks };
    l->proj_in = l->proj_out = linear ? linear_make(channels, channels, true) : linear_make_1x1(channels, channels);
    l->block = arena_take(weights, (size_t)blocks * sizeof *l->block);
    for (int i = 0; i < blocks && l->block; i++) {
        SpatialBlock *b = &l->block[i];
        Norm norm = norm_make(channels, 0, layer_eps, ACT_NONE);
        *b = (SpatialBlock){ norm, norm, norm,
            attention_make(channels, cross_only ? context : channels, heads, false, false),
            attention_make(channels, context, heads, false, false),
            linear_make(channels, 8 * channels, true), linear_make(4 * channels, channels, true), cross_only };
        b->attn1.path = site_path(weights, path, i, "attn1");
        b->attn2.path = site_path(weights, path, i, "attn2");
        if (!b->attn1.path || !b->attn2.path) l->block = NULL;
    }
    if (!l->block) status_fail(s, E_MEMORY, "%s: out of memory", path);
    return l->block != NULL;
}

static void block_walk(SpatialBlock *l, Walk *w)
{
    norm_walk(&l->norm1, w, "norm1");
    size_t before = walk_enter(w, "attn1");
    attention_walk(&l->attn1, w, names);
    walk_leave(w, before);
    norm_walk(&l->norm2, w, "norm2");
    before = walk_enter(w, "attn2");
    attention_walk(&l->attn2, w, names);
    walk_leave(w, before);
    norm_walk(&l->norm3, w, "norm3");
    linear_walk(&l->ff1, w, "ff.net.0.proj");
    linear_walk(&l->ff2, w, "ff.net.2");
}

void spatial_walk(Spatial *l, Walk *w)
{
    norm_walk(&l->norm, w, "norm");
    linear_walk(&l->proj_in, w, "proj_in");
    for (int i = 0; i < l->blocks; i++) {
        size_t before = walk_enter_at(w, "transformer_blocks", i);
        block_walk(&l->block[i], w);
        walk_leave(w, before);
    }
    linear_walk(&l->proj_out, w, "proj_out");
}

/* ---- forward: each part takes the stream h and leaves it in `to` ---- */

static void attend(Run *r, const Norm *norm, const Attention *l, Tensor to, NormCache *nc, AttentionCache *c, Tensor h, Tensor context)
{
    size_t mark = r->temp->used;
    Tensor u = temp(r, h.s), none = {0};
    norm_forward(r, norm, u, nc, h, none, none);
    attention_forward(r, l, to, c, u, context.x ? context : u, h);
    arena_release(r->temp, mark);
}

static void feed(Run *r, const SpatialBlock *l, Tensor to, SpatialBlockCache *c, Tensor h)
{
    size_t mark = r->temp->used;
    LinearCache none;
    Tensor nothing = {0};
    c->gate = keep(r, shape_channels(h.s, l->ff1.w.size[0]));
    size_t half = r->temp->used;
    Tensor u = temp(r, h.s);
    norm_forward(r, &l->norm3, u, &c->norm3, h, nothing, nothing);
    linear_forward(r, &l->ff1, c->gate, &none, u);
    arena_release(r->temp, half);
    if (to.x) {
        Tensor g = temp(r, shape_channels(h.s, l->ff2.w.size[1]));
        geglu(r, g, c->gate);
        linear_forward_onto(r, &l->ff2, to, &none, g, h);
    }
    arena_release(r->temp, mark);
}

static void block_forward(Run *r, const SpatialBlock *l, Tensor to, SpatialBlockCache *c, Tensor h, Tensor context)
{
    size_t mark = r->temp->used;
    Tensor h1 = keep(r, h.s), h2 = keep(r, h.s), none = {0};
    attend(r, &l->norm1, &l->attn1, h1, &c->norm1, &c->attn1, h, l->cross_only ? context : none);
    attend(r, &l->norm2, &l->attn2, h2, &c->norm2, &c->attn2, h1, context);
    feed(r, l, to, c, h2);
    arena_release(r->temp, mark);
}

static Shape tokens_of(Shape s) { return SHAPE(s.d[0], s.d[1] * s.d[2], s.d[3]); }

static Tensor enter(Run *r, const Spatial *l, SpatialCache *c, Tensor x)
{
    LinearCache none;
    Tensor h = keep(r, tokens_of(x.s)), nothing = {0};
    size_t mark = r->temp->used;
    Tensor a = temp(r, x.s);
    norm_forward(r, &l->norm, a, &c->norm, x, nothing, nothing);
    linear_forward(r, &l->proj_in, h, &none, tensor_as(a, h.s));
    arena_release(r->temp, mark);
    return h;
}

void spatial_forward(Run *r, const Spatial *l, Tensor y, SpatialCache *c, Tensor x, Tensor context)
{
    size_t mark = r->temp->used;
    LinearCache none;
    *c = (SpatialCache){ .block = arena_take(r->keep, (size_t)l->blocks * sizeof *c->block) };
    if (!c->block) run_fail(r, E_MEMORY, "out of memory");
    Tensor h = enter(r, l, c, x);
    for (int i = 0; i < l->blocks && run_ok(r); i++) {
        bool needed = y.x || i + 1 < l->blocks || linear_trains(&l->proj_out);
        Tensor to = needed ? keep(r, h.s) : (Tensor){0};
        block_forward(r, &l->block[i], to, &c->block[i], h, context);
        h = to;
    }
    c->last = h;
    if (y.x && run_ok(r)) linear_forward_onto(r, &l->proj_out, tensor_as(y, h.s), &none, h, tensor_as(x, h.s));
    arena_release(r->temp, mark);
}

/* ---- backward: dh is the gradient of the stream, from its end to its beginning ---- */

static void attend_backward(Run *r, Norm *norm, Attention *l, Tensor dh, Tensor dcontext, const NormCache *nc, const AttentionCache *c)
{
    size_t mark = r->temp->used;
    AttentionCache again = *c;
    Tensor du = temp(r, dh.s), dn = temp(r, dh.s), none = {0};
    if (attention_trains(l)) {
        Tensor u = temp(r, dh.s);
        norm_again(r, norm, u, nc, none, none);
        again.x = u;
        if (c->context.x == c->x.x) again.context = u;
    }
    attention_backward(r, l, du, dcontext, dh, &again);
    norm_backward(r, norm, dn, none, none, du, nc, none, none);
    add(r, dh, dn);
    arena_release(r->temp, mark);
}

static void feed_backward(Run *r, SpatialBlock *l, Tensor dh, const SpatialBlockCache *c)
{
    size_t mark = r->temp->used;
    Tensor g = {0}, u = {0}, none = {0}, dgate = temp(r, c->gate.s), dn = temp(r, dh.s);
    Tensor du = temp(r, dh.s);
    size_t inner = r->temp->used;
    Tensor dg = temp(r, shape_channels(dh.s, l->ff2.w.size[1]));
    if (linear_trains(&l->ff2)) {
        g = temp(r, dg.s);
        geglu(r, g, c->gate);
    }
    linear_backward(r, &l->ff2, dg, dh, &(LinearCache){ g });
    geglu_back(r, dgate, dg, c->gate);
    arena_release(r->temp, inner);
    if (linear_trains(&l->ff1)) {
        u = temp(r, dh.s);
        norm_again(r, &l->norm3, u, &c->norm3, none, none);
    }
    linear_backward(r, &l->ff1, du, dgate, &(LinearCache){ u });
    norm_backward(r, &l->norm3, dn, none, none, du, &c->norm3, none, none);
    add(r, dh, dn);
    arena_release(r->temp, mark);
}

static void block_backward(Run *r, SpatialBlock *l, Tensor dh, Tensor dcontext, const SpatialBlockCache *c)
{
    feed_backward(r, l, dh, c);
    attend_backward(r, &l->norm2, &l->attn2, dh, dcontext, &c->norm2, &c->attn2);
    attend_backward(r, &l->norm1, &l->attn1, dh, dcontext, &c->norm1, &c->attn1);
}

void spatial_backward(Run *r, Spatial *l, Tensor dx, Tensor dcontext, Tensor dy, const SpatialCache *c)
{
    size_t mark = r->temp->used;
    Tensor x = c->norm.x, a = {0}, none = {0};
    Shape s = tokens_of(x.s);
    Tensor dh = temp(r, s), da = temp(r, x.s);
    linear_backward(r, &l->proj_out, dh, tensor_as(dy, s), &(LinearCache){ c->last });
    for (int i = l->blocks; i-- > 0; ) block_backward(r, &l->block[i], dh, dcontext, &c->block[i]);
    if (linear_trains(&l->proj_in)) {
        a = temp(r, x.s);
        norm_again(r, &l->norm, a, &c->norm, none, none);
    }
    linear_backward(r, &l->proj_in, tensor_as(da, s), dh, &(LinearCache){ tensor_as(a, s) });
    norm_backward(r, &l->norm, dx, none, none, da, &c->norm, none, none);
    if (dx.x) add(r, dx, dy);
    arena_release(r->temp, mark);
}
