#include <stdio.h>
#include <string.h>
#include "nn/transformer.h"

#define CLIP_BLOCK "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", "self_attn", "self_attn", { "q_proj", "k_proj", "v_proj", "out_proj" }, false
const TransformerNames transformer_clip_text  = { "text_model.encoder.layers", CLIP_BLOCK };
const TransformerNames transformer_clip_image = { "vision_model.encoder.layers", CLIP_BLOCK };
const TransformerNames transformer_clip_openai = { "visual.transformer.resblocks", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj", "attn", "attn",
                                                   { "in_proj_", "in_proj_", "in_proj_", "out_proj" }, true };
const TransformerNames transformer_dino = { "blocks", "norm1", "norm2", "mlp.fc1", "mlp.fc2", "attn", "attn", { "qkv", "qkv", "qkv", "proj" }, true };
const TransformerNames transformer_vit = { "encoder.layer", "layernorm_before", "layernorm_after", "intermediate.dense", "output.dense", "attention",
                                           "attention", { "attention.query", "attention.key", "attention.value", "output.dense" }, false };

static const char *path_of(Arena *a, const char *list, int i, const char *leaf)
{
    size_t room = strlen(list) + strlen(leaf) + 24;
    char *p = arena_take(a, room);
    if (p) snprintf(p, room, "%s.%d%s%s", list, i, *leaf ? "." : "", leaf);
    return p;
}

bool transformer_build(Transformer *t, const TransformerConfig *c, const TransformerNames *names, Arena *weights, Status *s)
{
    *t = (Transformer){ *c, names, arena_take(weights, (size_t)c->layers * sizeof *t->block) };
    for (int i = 0; t->block && i < c->layers; i++) {
        TransformerBlock *b = &t->block[i];
        Norm norm = norm_make(c->width, 0, c->eps, ACT_NONE);
        *b = (TransformerBlock){ norm, norm, attention_make(c->width, c->width, c->heads, true, c->causal),
                                 linear_make(c->width, c->mlp, true), linear_make(c->mlp, c->width, true),
                                 path_of(weights, names->list, i, "") };
        b->attention.path = path_of(weights, names->list, i, names->attention);
        if (names->fused) attention_fuse(&b->attention, c->width);
        if (!b->path || !b->attention.path) t->block = NULL;
    }
    if (!t->block) status_fail(s, E_MEMORY, "%s: out of memory", names->list);
    return t->block != NULL;
}

void transformer_walk(Transformer *t, Walk *w)
{
    const TransformerNames *n = t->names;
    for (int i = 0; i < t->config.layers; i++) {
        TransformerBlock *b = &t->block[i];
        size_t before = walk_enter_at(w, n->list, i);
        norm_walk(&b->norm1, w, n->norm1);
        size_t inner = *n->from ? walk_enter(w, n->from) : strlen(w->path);
        attention_walk(&b->attention, w, n->projection);
        walk_leave(w, inner);
        norm_walk(&b->norm2, w, n->norm2);
        linear_walk(&b->fc1, w, n->fc1);
        linear_walk(&b->fc2, w, n->fc2);
        walk_leave(w, before);
    }
}

static void block_forward(Run *r, const TransformerBlock *b, PointAct f, Tensor y, TransformerCache *c, Tensor x)
{
    size_t mark = r->temp->used;
    LinearCache unread;
    Tensor none = {0};
    c->middle = keep(r, x.s);
    c->hidden = keep(r, shape_channels(x.s, b->fc1.w.size[0]));
    Tensor u = temp(r, x.s), g = temp(r, c->hidden.s);

    norm_forward(r, &b->norm1, u, &c->norm1, x, none, none);
    attention_forward(r, &b->attention, c->middle, &c->attention, u, u, x);
    norm_forward(r, &b->norm2, u, &c->norm2, c->middle, none, none);
    linear_forward(r, &b->fc1, c->hidden, &unread, u);
    act(r, f, g, c->hidden);
    linear_forward_onto(r, &b->fc2, y, &unread, g, c->middle);
    tap_forward(r, SITE_FEATURE, b->path, y);
    arena_release(r->temp, mark);
}

static bool norm_trains(const Norm *l) { return l->gamma.grad.x || l->beta.grad.x; }

static bool block_trains(const TransformerBlock *b)
{
    return norm_trains(&b->norm1) || norm_trains(&b->norm2) || attention_trains(&b->attention) || linear_trains(&b->fc1) || linear_trains(&b->fc2);
}

/* dm = gradient of m from the second half: dy + through LN2, fc1, act, fc2 */
static void feed_backward(Run *r, TransformerBlock *b, PointAct f, Tensor dm, Tensor dy, const TransformerCache *c)
{
    size_t mark = r->temp->used;
    Tensor none = {0}, u = none, g = none, dg = temp(r, c->hidden.s), du = temp(r, dy.s);
    if (linear_trains(&b->fc2)) {
        g = temp(r, c->hidden.s);
        act(r, f, g, c->hidden);
    }
    if (linear_trains(&b->fc1)) {
        u = temp(r, dy.s);
        norm_again(r, &b->norm2, u, &c->norm2, none, none);
    }
    linear_backward(r, &b->fc2, dg, dy, &(LinearCache){ g });
    act_back(r, f, dg, dg, c->hidden);
    linear_backward(r, &b->fc1, du, dg, &(LinearCache){ u });
    norm_backward(r, &b->norm2, dm, none, none, du, &c->norm2, none, none);
    add(r, dm, dy);
    arena_release(r->temp, mark);
}

static void block_backward(Run *r, TransformerBlock *b, PointAct f, Tensor dx, Tensor dy, const TransformerCache *c)
{
    size_t mark = r->temp->used;
    Tensor none = {0}, dm = temp(r, dy.s), du = temp(r, dy.s);
    AttentionCache again = c->attention;
    tap_backward(r, SITE_FEATURE, b->path, dy);
    feed_backward(r, b, f, dm, dy, c);
    if (attention_trains(&b->attention)) {
        again.x = again.context = temp(r, dy.s);
        norm_again(r, &b->norm1, again.x, &c->norm1, none, none);
    }
    attention_backward(r, &b->attention, du, none, dm, &again);
    norm_backward(r, &b->norm1, dx, none, none, du, &c->norm1, none, none);
    if (dx.x) add(r, dx, dm);
    arena_release(r->temp, mark);
}

void transformer_forward(Run *r, const Transformer *t, Tensor y, TransformerPass *p, Tensor x, int layers)
{
    size_t mark = r->temp->used;
    bool forget = r->keep == r->temp;                     /* then what a block remembers goes when the block ends */
    if (layers < 1 || layers > t->config.layers || y.x == x.x) {
        run_fail(r, E_SHAPE, "%s: %d of %d layers", t->names->list, layers, t->config.layers);
        return;
    }
    *p = (TransformerPass){ arena_take(r->keep, (size_t)layers * sizeof *p->block), layers };
    if (!p->block) run_fail(r, E_MEMORY, "%s: out of memory", t->names->list);
    Tensor turn[2] = {{0}};
    for (int i = 0; forget && i < 2 && i < layers - 1; i++) turn[i] = temp(r, x.s);
    for (int i = 0; i < layers && run_ok(r); i++) {
        if (r->stop && r->stop(r->user)) run_fail(r, E_STOP, "stopped at %s", t->block[i].path);
        Tensor out = i == layers - 1 ? y : forget ? turn[i % 2] : keep(r, x.s);
        block_forward(r, &t->block[i], t->config.act, out, &p->block[i], x);
        x = out;
    }
    arena_release(r->temp, mark);
}

void transformer_backward(Run *r, Transformer *t, Tensor dx, Tensor dy, const TransformerPass *p)
{
    size_t mark = r->temp->used;
    int last = p->layers, first = 0;
    while (last && !dy.x && !tap_pulls(r, t->block[last - 1].path)) last--;
    while (!dx.x && first < last && !block_trains(&t->block[first]) && !tap_pulls(r, t->block[first].path)) first++;
    if (dx.x && !last) tensor_zero(dx);
    if (first >= last || !run_ok(r)) return;

    Shape s = p->block[0].middle.s;
    Tensor d = temp(r, s), next = temp(r, s);
    if (dy.x) tensor_copy(r, d, dy);                      /* taps may add to d; dy is the caller's */
    else tensor_zero(d);
    for (int i = last; i-- > first && run_ok(r); ) {
        Tensor to = i > first ? next : dx;
        block_backward(r, &t->block[i], t->config.act, to, d, &p->block[i]);
        next = d;
        d = to;
    }
    arena_release(r->temp, mark);
}
