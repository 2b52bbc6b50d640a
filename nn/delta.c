#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nn/delta.h"
#include "tensor/shape.h"

static const Tensor none = {0};

bool delta_build(Delta *d, const DeltaConfig *c, Status *s)
{
    bool adm = c->kind == DELTA_ADM;
    double eps = adm ? 1e-5 : 1e-6;
    *d = (Delta){ .config = *c };
    if (c->channels < 1 || c->temb < 1 || c->groups < 1 || c->channels % c->groups)
        status_fail(s, E_OPTION, "a delta block of %d channels in %d groups, time embedding %d wide, cannot be", c->channels, c->groups, c->temb);
    if (s->code != OK || c->kind == DELTA_TABLE) return s->code == OK;
    d->in_norm = d->out_norm = norm_make(c->channels, c->groups, eps, ACT_SILU);
    if (!adm) d->in_norm.gamma = d->in_norm.beta = param_none();
    d->in = linear_make_1x1(c->channels, c->channels);
    d->out = linear_make_1x1(c->channels, c->channels);
    d->time = linear_make(c->temb, c->channels, true);
    return true;
}

void delta_walk(void *delta, Walk *w)
{
    Delta *d = delta;
    bool adm = d->config.kind == DELTA_ADM;
    if (d->config.kind == DELTA_TABLE) return;
    norm_walk(&d->in_norm, w, "in_layers.0");
    linear_walk(&d->in, w, adm ? "in_layers.2" : "conv1");
    linear_walk(&d->time, w, adm ? "emb_layers.1" : "temb_proj");
    norm_walk(&d->out_norm, w, adm ? "out_layers.0" : "norm2");
    linear_walk(&d->out, w, adm ? "out_layers.3" : "conv2");
}

/* ---- beginning ---- */

static Tensor room(Run *r, Param *p, Arena *a)
{
    p->v = tensor_in(r, a, param_shape(p));
    return p->v;
}

static void start_linear(Run *r, Linear *l, Arena *a, Random *g)
{
    double bound = 1 / sqrt((double)l->w.size[1]);
    Tensor t[2] = { room(r, &l->w, a), room(r, &l->b, a) };
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < tensor_count(t[k]); i++) {
            float u;
            random_uniform(g, 1, &u);
            t[k].x[i] = (real)(bound * (2 * (double)u - 1));
        }
}

static void start_norm(Run *r, Norm *n, Arena *a)
{
    if (!param_there(&n->gamma)) return;
    Tensor gamma = room(r, &n->gamma, a);
    for (size_t i = 0; i < tensor_count(gamma); i++) gamma.x[i] = 1;
    tensor_zero(room(r, &n->beta, a));
}

bool delta_start(Delta *d, Arena *weights, uint64_t seed, Status *s)
{
    Run r = { .status = *s };
    Random g;
    random_seed(&g, RANDOM_TORCH, seed);
    start_norm(&r, &d->in_norm, weights);
    start_linear(&r, &d->in, weights, &g);
    start_linear(&r, &d->time, weights, &g);
    start_norm(&r, &d->out_norm, weights);
    start_linear(&r, &d->out, weights, &g);
    *s = r.status;
    return s->code == OK;
}

/* ---- forward ---- */

static bool fits(Run *r, const Delta *d, Tensor y, Tensor h, Tensor silu_temb)
{
    const DeltaConfig *c = &d->config;
    if (!run_ok(r)) return false;
    if (shape_rank(h.s) != 4 || h.s.d[1] != c->channels)
        run_fail(r, E_SHAPE, "the delta block is %d channels wide, h [%d,%d,%d,%d] of this network %d", c->channels, h.s.d[0], h.s.d[1], h.s.d[2], h.s.d[3], h.s.d[1]);
    else if (!tensor_same(y, h)) run_fail(r, E_SHAPE, "delta: the result and h differ in shape");
    else if (c->kind == DELTA_TABLE && (d->table.s.d[2] != h.s.d[2] || d->table.s.d[3] != h.s.d[3]))
        run_fail(r, E_SHAPE, "the delta is [%d,%d,%d], h of this network at this size [%d,%d,%d]", d->table.s.d[1], d->table.s.d[2], d->table.s.d[3], h.s.d[1], h.s.d[2], h.s.d[3]);
    else if (c->kind != DELTA_TABLE && silu_temb.x && (silu_temb.s.d[0] != h.s.d[0] || silu_temb.s.d[1] != c->temb))
        run_fail(r, E_SHAPE, "the delta block reads a time embedding %d wide, this network's is %d", c->temb, silu_temb.s.d[1]);
    return run_ok(r);
}

static void from_table(Run *r, const Delta *d, Tensor y, double t)
{
    int k = 0;
    for (int i = 1; i < d->times; i++)
        if (fabs(d->time_of[i] - t) < fabs(d->time_of[k] - t)) k = i;
    for (int n = 0; n < y.s.d[0]; n++) tensor_copy(r, tensor_row(y, n), tensor_row(d->table, k));
}

void delta_forward(Run *r, const Delta *d, Tensor y, DeltaCache *c, Tensor h, Tensor silu_temb, double t)
{
    size_t mark = r->temp->used;
    LinearCache unused;
    *c = (DeltaCache){ .silu_temb = silu_temb, .h = h.s };
    if (!fits(r, d, y, h, silu_temb)) return;
    if (d->config.kind == DELTA_TABLE) {
        from_table(r, d, y, t);
        return;
    }
    Shape s = SHAPE(h.s.d[0], h.s.d[2], h.s.d[3], h.s.d[1]);
    c->x = keep(r, s);
    c->a = param_there(&d->in_norm.gamma) ? keep(r, s) : c->x;
    c->b = keep(r, s);
    c->c = keep(r, s);
    nchw_to_nhwc(r, c->x, h);
    if (c->a.x != c->x.x) norm_forward(r, &d->in_norm, c->a, &c->in_norm, c->x, none, none);
    linear_forward(r, &d->in, c->b, &unused, c->a);
    if (silu_temb.x) {
        Tensor bias = temp(r, SHAPE(s.d[0], s.d[3]));
        linear_forward(r, &d->time, bias, &unused, silu_temb);
        add_channels(r, c->b, bias);
    }
    norm_forward(r, &d->out_norm, c->c, &c->out_norm, c->b, none, none);
    Tensor out = temp(r, s);
    linear_forward(r, &d->out, out, &unused, c->c);
    if (run_ok(r)) nhwc_to_nchw(r, y, out);
    arena_release(r->temp, mark);
}

static void time_backward(Run *r, Delta *d, Tensor dsilu_temb, Tensor db, const DeltaCache *c)
{
    if (!c->silu_temb.x || (!dsilu_temb.x && !linear_trains(&d->time))) return;
    Tensor bias = temp(r, SHAPE(db.s.d[0], db.s.d[3])), side = dsilu_temb.x ? temp(r, dsilu_temb.s) : none;
    tensor_zero(bias);
    add_channels_back(r, bias, db);
    linear_backward(r, &d->time, side, bias, &(LinearCache){ c->silu_temb });
    if (side.x) add(r, dsilu_temb, side);
}

void delta_backward(Run *r, Delta *d, Tensor dh, Tensor dsilu_temb, Tensor dy, const DeltaCache *c)
{
    size_t mark = r->temp->used;
    if (!run_ok(r)) return;
    if (d->config.kind == DELTA_TABLE) {
        tensor_zero(dh);
        return;
    }
    Shape s = c->x.s;
    bool first = dh.x || d->in_norm.gamma.grad.x || d->in_norm.beta.grad.x;
    Tensor out = temp(r, s), mid = temp(r, s), below = first ? temp(r, s) : none;
    nchw_to_nhwc(r, out, dy);
    linear_backward(r, &d->out, mid, out, &(LinearCache){ c->c });
    norm_backward(r, &d->out_norm, mid, none, none, mid, &c->out_norm, none, none);
    time_backward(r, d, dsilu_temb, mid, c);
    linear_backward(r, &d->in, below, mid, &(LinearCache){ c->a });
    if (c->a.x != c->x.x) norm_backward(r, &d->in_norm, below, none, none, below, &c->in_norm, none, none);
    if (dh.x) nhwc_to_nchw(r, dh, below);
    arena_release(r->temp, mark);
}
