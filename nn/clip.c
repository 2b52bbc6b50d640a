#include "nn/clip.h"
#include "tensor/tokens.h"

bool clip_text_build(ClipText *m, const ClipTextConfig *c, Arena *weights, Status *s)
{
    TransformerConfig body = { c->layers, c->width, c->mlp, c->heads, c->act, c->eps, .causal = true };
    *m = (ClipText){ .config = *c, .tokens = param_matrix(c->vocabulary, c->width), .positions = param_matrix(c->positions, c->width),
                     .final = norm_make(c->width, 0, c->eps, ACT_NONE) };
    m->projection = c->projection ? linear_make(c->width, c->projection, false) : (Linear){ param_none(), param_none() };
    return transformer_build(&m->body, &body, &transformer_clip_text, weights, s);
}

void clip_text_walk(void *model, Walk *w)
{
    ClipText *m = model;
    size_t before = walk_enter(w, "text_model"), at = walk_enter(w, "embeddings");
    walk_param(w, &m->tokens, "token_embedding.weight");
    walk_param(w, &m->positions, "position_embedding.weight");
    walk_leave(w, at);
    norm_walk(&m->final, w, "final_layer_norm");
    walk_leave(w, before);
    transformer_walk(&m->body, w);
    linear_walk(&m->projection, w, "text_projection");
}

void clip_text_embed(Run *r, const ClipText *m, Tensor x, const int *ids) { embed(r, x, m->tokens.v, ids); }

void clip_text_embed_backward(Run *r, ClipText *m, Tensor dx, const int *ids)
{
    if (m->tokens.grad.x) embed_back(r, m->tokens.grad, dx, ids);
}

static int *ends(Run *r, const ClipText *m, const int *ids, int N, int T)
{
    int *end = arena_take(r->keep, (size_t)N * sizeof *end);
    if (!end) run_fail(r, E_MEMORY, "text_model: out of memory");
    for (int n = 0; end && n < N; n++, ids += T) {
        end[n] = 0;
        for (int t = T; t-- > 0; )
            if (m->config.eos == 2 ? ids[t] >= ids[end[n]] : ids[t] == m->config.eos) end[n] = t;
    }
    return end;
}

static void read_out(Run *r, const ClipText *m, Tensor pooled, Tensor embeds, ClipTextPass *p, const int *ids)
{
    Shape s = p->last.s;
    LinearCache unread;
    if (!pooled.x && !embeds.x) return;
    p->end = ends(r, m, ids, s.d[0], s.d[1]);
    p->pooled = keep(r, SHAPE(s.d[0], s.d[2]));
    if (run_ok(r)) pick_tokens(r, p->pooled, p->last, p->end);
    if (pooled.x) tensor_copy(r, pooled, p->pooled);
    if (embeds.x) linear_forward(r, &m->projection, embeds, &unread, p->pooled);
}

static bool text_fits(Run *r, const ClipText *m, Tensor x, int skip)
{
    const ClipTextConfig *c = &m->config;
    if (skip < 0 || skip >= c->layers)
        run_fail(r, E_OPTION, "text_model: %d of %d layers to leave out; at least one must stay", skip, c->layers);
    else if (!x.x || shape_rank(x.s) != 3 || x.s.d[1] > c->positions || x.s.d[2] != c->width)
        run_fail(r, E_SHAPE, "text_model: tokens [%d,%d,%d]; at most %d of width %d expected", x.s.d[0], x.s.d[1], x.s.d[2], c->positions, c->width);
    return run_ok(r);
}

void clip_text_forward(Run *r, const ClipText *m, Tensor last, Tensor pooled, Tensor embeds, ClipTextPass *p,
                       Tensor x, const int *ids, int skip_layers)
{
    size_t mark = r->temp->used;
    *p = (ClipTextPass){0};
    if (!run_ok(r) || !text_fits(r, m, x, skip_layers)) return;
    Tensor z = keep(r, x.s), none = {0};
    p->hidden0 = keep(r, x.s);
    p->last = last.x ? last : keep(r, x.s);
    if (run_ok(r)) {
        tensor_copy(r, p->hidden0, x);
        add_positions(r, p->hidden0, m->positions.v);
        transformer_forward(r, &m->body, z, &p->body, p->hidden0, m->config.layers - skip_layers);
    }
    if (run_ok(r)) norm_forward(r, &m->final, p->last, &p->final, z, none, none);
    if (run_ok(r)) read_out(r, m, pooled, embeds, p, ids);
    arena_release(r->temp, mark);
}

/* The gradient of the pooled states [N,D]: what came in, and through the projection; empty when neither is there. */
static Tensor pooled_gradient(Run *r, Linear *projection, Tensor pooled, Tensor dpooled, Tensor dembeds)
{
    if (!dpooled.x && !dembeds.x) return (Tensor){0};
    Tensor d = temp(r, pooled.s);
    if (dembeds.x) linear_backward(r, projection, d, dembeds, &(LinearCache){ pooled });
    else tensor_zero(d);
    if (dpooled.x) add(r, d, dpooled);
    return d;
}

void clip_text_backward(Run *r, ClipText *m, Tensor dx, Tensor dlast, Tensor dpooled, Tensor dembeds, const ClipTextPass *p)
{
    size_t mark = r->temp->used;
    Shape s = p->hidden0.s;
    Tensor none = {0}, dz = none, dpool = pooled_gradient(r, &m->projection, p->pooled, dpooled, dembeds);
    Tensor dhidden = dx.x ? dx : m->positions.grad.x ? temp(r, s) : none;
    if (!run_ok(r)) return;
    if (dlast.x || dpool.x) {
        Tensor d = temp(r, s);
        dz = temp(r, s);
        if (dlast.x && d.x) tensor_copy(r, d, dlast);
        else tensor_zero(d);
        if (dpool.x) pick_tokens_back(r, d, dpool, p->end);
        norm_backward(r, &m->final, dz, none, none, d, &p->final, none, none);
    }
    transformer_backward(r, &m->body, dhidden, dz, &p->body);
    if (m->positions.grad.x && run_ok(r)) add_positions_back(r, m->positions.grad, dhidden);
    arena_release(r->temp, mark);
}
