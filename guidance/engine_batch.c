/* engine_batch.c -- passes that nobody looks at, as one batch: algorithms depend on one image's shape alone, so the bits are those
 * of single passes. */
#include <string.h>
#include "guidance/engine.h"

typedef struct { Tensor z, text, out; double time[LANES]; UnetPass pass; } Batch;

bool lane_mixed(const Lane *l, const Clock *c) { return lane_mix(l, c, false) != 0 || lane_mix(l, c, true) != 0; }

bool lane_bare(const Lane *l, const Clock *c)
{
    for (int i = 0; i < l->writes; i++)
        if (!l->write[i].write->when || l->write[i].write->when(c, l->write[i].write->when_par) != 0) return false;
    return !l->dh.x;
}

Lane *engine_shifted(Engine *e, const Lane *base, const Clock *c)
{
    for (int k = 0; k < e->lanes; k++) {
        Lane *l = &e->lane[k];
        if (l->b.h_of && !strcmp(l->b.h_of, base->b.name) && lane_mixed(l, c)) return l;
    }
    return NULL;
}

static void gather(Engine *e, Batch *b, Lane *const *l, int n, const Clock *c)
{
    Run *r = e->r;
    Shape z = l[0]->z.s, t = l[0]->context.s;
    b->z = temp(r, SHAPE(n, guide_channels(e->g, l[0]->z), z.d[1], z.d[2]));
    b->text = l[0]->context.x ? temp(r, SHAPE(n, t.d[0], t.d[1])) : (Tensor){0};
    b->out = temp(r, SHAPE(n, e->g->unet->config.out_channels, z.d[1], z.d[2]));
    for (int k = 0; k < n; k++) {
        guide_input(r, e->g, tensor_row(b->z, k), l[k]->z);
        if (b->text.x) tensor_copy(r, tensor_row(b->text, k), l[k]->context);
        b->time[k] = guide_time(e->g, c);
    }
}

static void hand_over(Engine *e, Lane *l, Tensor out, const Clock *c)
{
    tensor_copy(e->r, l->room, out);
    lane_output(l, l->room);
    l->view = (View){ .branch = l->b.name, .h = l->z.s.d[1], .w = l->z.s.d[2], .clock = *c };
    l->valid = run_ok(e->r);
}

void engine_together(Engine *e, Lane *const *l, int n, const Clock *c)
{
    Run *r = e->r;
    size_t mark = r->temp->used;
    Arena *kept = r->keep;
    Batch b;
    r->keep = r->temp;
    gather(e, &b, l, n, c);
    unet_forward(r, e->g->unet, b.out, &b.pass, b.z, b.time, b.text, false);
    for (int k = 0; k < n; k++) hand_over(e, l[k], tensor_row(b.out, k), c);
    r->keep = kept;
    e->report.forwards += n;
    arena_release(r->temp, mark);
}

/* y = h_at(h) of one branch */
static void shift(Run *r, Lane *l, Tensor y, Tensor h, Tensor silu_temb, int k, const Clock *c)
{
    if (run_ok(r)) l->b.h_at(c, r, tensor_rows(y, k, 1), tensor_rows(h, k, 1), tensor_rows(silu_temb, k, 1), l->h_state);
}

void engine_halves(Engine *e, Lane *const *base, int n, bool with_base, const Clock *c)
{
    Run *r = e->r;
    const Unet *u = e->g->unet;
    size_t mark = r->temp->used;
    Arena *kept = r->keep;
    Batch b;
    UnetPass again;
    r->keep = r->temp;
    gather(e, &b, base, n, c);
    Shape s = run_ok(r) ? unet_h_shape(u, n, b.z.s.d[2], b.z.s.d[3]) : (Shape){{0}};
    Tensor h = temp(r, s), y = temp(r, s);
    unet_encode(r, u, h, &b.pass, b.z, b.time, b.text, false);
    if (with_base) {
        unet_decode(r, u, b.out, &again, &b.pass, h, false);
        for (int k = 0; k < n; k++) hand_over(e, base[k], tensor_row(b.out, k), c);
    }
    for (int k = 0; k < n; k++) {
        Lane *l = engine_shifted(e, base[k], c);
        l->z = base[k]->z;
        shift(r, l, y, h, b.pass.silu_temb, k, c);
    }
    unet_decode(r, u, b.out, &again, &b.pass, y, false);
    for (int k = 0; k < n; k++) hand_over(e, engine_shifted(e, base[k], c), tensor_row(b.out, k), c);
    r->keep = kept;
    e->report.forwards += with_base ? 2 * n : n;
    e->report.decodes += with_base ? n : 0;
    arena_release(r->temp, mark);
}
