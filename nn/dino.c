#include "nn/dino.h"
#include "tensor/shape.h"
#include "tensor/tokens.h"

static int grid(const DinoConfig *c) { return c->image / c->patch; }

bool dino_build(Dino *m, const DinoConfig *c, Arena *weights, Status *s)
{
    TransformerConfig body = { c->layers, c->width, c->mlp, c->heads, POINT_GELU, c->eps, .causal = false };
    int D = c->width, g = grid(c);
    *m = (Dino){ .config = *c, .class_token = { .rank = 3, .size = { 1, 1, D } }, .positions = { .rank = 3, .size = { 1, 1 + g * g, D } },
                 .patch = conv_make(c->channels, D, c->patch, c->patch, 0, 0), .final = norm_make(D, 0, c->eps, ACT_NONE),
                 .preprocess = preprocess_dino };
    return transformer_build(&m->body, &body, c->published ? &transformer_dino : &transformer_vit, weights, s);
}

void dino_walk(void *model, Walk *w)
{
    Dino *m = model;
    bool own = m->config.published;
    size_t before = own ? 0 : walk_enter(w, "embeddings");
    walk_param(w, &m->class_token, "cls_token");
    walk_param(w, &m->positions, own ? "pos_embed" : "position_embeddings");
    conv_walk(&m->patch, w, own ? "patch_embed.proj" : "patch_embeddings.projection");
    if (!own) walk_leave(w, before);
    transformer_walk(&m->body, w);
    norm_walk(&m->final, w, own ? "norm" : "layernorm");
}

int dino_tokens(const Dino *m, int H, int W) { return 1 + (H / m->config.patch) * (W / m->config.patch); }

static Tensor table_of(const Dino *m, Tensor t) { return tensor_as(t, SHAPE(m->positions.size[1], m->config.width)); }

/* ---- positions of a picture of H x W pixels ---- */

static bool own_size(const Dino *m, int H, int W) { return H == W && dino_tokens(m, H, W) == m->positions.size[1]; }

static Resize grown(const Dino *m, int H, int W)
{
    int p = m->config.patch, g = grid(&m->config);
    return (Resize){ RESIZE_BICUBIC, false, (H / p + 0.1) / g, (W / p + 0.1) / g };
}

static Tensor grid_of(Tensor table, int rows, int columns)
{
    return (Tensor){ table.x ? table.x + table.s.d[1] : NULL, SHAPE(1, rows, columns, table.s.d[1]) };
}

void dino_positions(Run *r, const Dino *m, Tensor table, int H, int W)
{
    int g = grid(&m->config), p = m->config.patch, D = m->config.width;
    Tensor own = table_of(m, m->positions.v);
    if (!run_ok(r)) return;
    if (!table.x || !own.x || !shape_same(table.s, SHAPE(dino_tokens(m, H, W), D))) {
        run_fail(r, E_SHAPE, "positions of %dx%d pixels: [%d,%d] expected", H, W, dino_tokens(m, H, W), D);
    } else if (own_size(m, H, W)) tensor_copy(r, table, own);
    else {
        tensor_copy(r, tensor_rows(table, 0, 1), tensor_rows(own, 0, 1));
        resize_maps(r, grid_of(table, H / p, W / p), grid_of(own, g, g), grown(m, H, W));
    }
}

/* positions.grad += that of the table */
static void positions_backward(Run *r, Dino *m, Tensor dx, int H, int W)
{
    size_t mark = r->temp->used;
    Tensor down = table_of(m, m->positions.grad);
    if (own_size(m, H, W)) add_positions_back(r, down, dx);
    else {
        int g = grid(&m->config), p = m->config.patch;
        Tensor dtable = temp(r, SHAPE(dx.s.d[1], dx.s.d[2])), d = temp(r, down.s);
        if (!run_ok(r)) return;
        tensor_zero(dtable);
        add_positions_back(r, dtable, dx);
        tensor_copy(r, tensor_rows(d, 0, 1), tensor_rows(dtable, 0, 1));
        resize_maps_back(r, grid_of(d, g, g), grid_of(dtable, H / p, W / p), grown(m, H, W));
        add(r, down, d);
    }
    arena_release(r->temp, mark);
}

/* ---- the keys of the last block: a tap behind the caller's own ---- */

typedef struct { Tensor keys; Tap *list; const Tap *was; int taps; } KeyTap;

static void key_read(void *self, Run *r, Tensor value)
{
    KeyTap *k = self;
    if (k->keys.x && !r->replay) tensor_copy(r, k->keys, value);
}

static void key_pull(void *self, Run *r, Tensor grad)
{
    KeyTap *k = self;
    add(r, grad, k->keys);
}

static void tap_keys(Run *r, const Dino *m, KeyTap *k, Tensor keys, bool pulls)
{
    *k = (KeyTap){ .keys = keys, .was = r->tap, .taps = r->taps };
    if (!keys.x) return;
    k->list = arena_take(r->temp, ((size_t)r->taps + 1) * sizeof *k->list);
    if (!k->list) {
        run_fail(r, E_MEMORY, "out of memory: keys");
        return;
    }
    for (int i = 0; i < r->taps; i++) k->list[i] = r->tap[i];
    k->list[r->taps] = (Tap){ SITE_KEY, m->body.block[m->config.layers - 1].attention.path, k, pulls ? NULL : key_read, pulls ? key_pull : NULL, pulls };
    r->tap = k->list;
    r->taps++;
}

static void untap_keys(Run *r, const KeyTap *k)
{
    r->tap = k->was;
    r->taps = k->taps;
}

/* ---- forward ---- */

/* x = [class, patches] + positions */
static void embed_patches(Run *r, const Dino *m, Tensor x, DinoPass *p, Tensor pixels)
{
    size_t mark = r->temp->used;
    const int *s = pixels.s.d;
    int N = s[0], T = x.s.d[1], D = m->config.width, rows = p->H / m->config.patch, columns = p->W / m->config.patch;
    Tensor none = {0}, map = keep(r, SHAPE(N, p->H, p->W, s[1])), patches = temp(r, SHAPE(N, rows, columns, D)), table = temp(r, SHAPE(T, D));
    nchw_to_nhwc(r, map, pixels);
    conv_forward(r, &m->patch, patches, &p->patch, map, none);
    if (run_ok(r)) {
        prepend_token(r, x, m->class_token.v, tensor_as(patches, SHAPE(N, T - 1, D)));
        dino_positions(r, m, table, p->H, p->W);
        add_positions(r, x, table);
    }
    arena_release(r->temp, mark);
}

static void read_class(Run *r, const Dino *m, Tensor cls, DinoPass *p)
{
    int N = p->last.s.d[0], D = p->last.s.d[2];
    Tensor none = {0}, first = keep(r, SHAPE(N, 1, D));
    if (!run_ok(r)) return;
    pick_tokens(r, tensor_as(first, SHAPE(N, D)), p->last, NULL);
    norm_forward(r, &m->final, tensor_as(cls, first.s), &p->final, first, none, none);
}

static bool image_fits(Run *r, const Dino *m, Tensor cls, Tensor last, Tensor keys, Tensor pixels)
{
    const DinoConfig *c = &m->config;
    const int *s = pixels.s.d;
    if (!pixels.x || s[0] < 1 || s[1] != c->channels || s[2] < c->patch || s[3] < c->patch) {
        run_fail(r, E_SHAPE, "dino: pixels [%d,%d,%d,%d]; [N,%d,H,W] of at least %d pixels a side expected", s[0], s[1], s[2], s[3], c->channels, c->patch);
        return false;
    }
    Shape tokens = SHAPE(s[0], dino_tokens(m, s[2], s[3]), c->width);
    bool good = (!cls.x || shape_same(cls.s, SHAPE(s[0], c->width))) && (!last.x || shape_same(last.s, tokens)) && (!keys.x || shape_same(keys.s, tokens));
    if (!good) run_fail(r, E_SHAPE, "dino: results for %d tokens of width %d expected", tokens.d[1], tokens.d[2]);
    return good;
}

void dino_forward(Run *r, const Dino *m, Tensor cls, Tensor last, Tensor keys, DinoPass *p, Tensor pixels)
{
    size_t mark = r->temp->used;
    *p = (DinoPass){0};
    if (!run_ok(r) || !image_fits(r, m, cls, last, keys, pixels)) return;
    p->H = pixels.s.d[2];
    p->W = pixels.s.d[3];
    Shape s = SHAPE(pixels.s.d[0], dino_tokens(m, p->H, p->W), m->config.width);
    p->x0 = keep(r, s);
    p->last = last.x ? last : keep(r, s);
    KeyTap tap;
    if (run_ok(r)) embed_patches(r, m, p->x0, p, pixels);
    tap_keys(r, m, &tap, keys, false);
    if (run_ok(r)) transformer_forward(r, &m->body, p->last, &p->body, p->x0, m->config.layers);
    untap_keys(r, &tap);
    if (cls.x && run_ok(r)) read_class(r, m, cls, p);
    arena_release(r->temp, mark);
}

/* ---- backward ---- */

static void class_backward(Run *r, Dino *m, Tensor dlast, Tensor dcls, const DinoPass *p)
{
    size_t mark = r->temp->used;
    Tensor none = {0}, dfirst = temp(r, dcls.s);
    Shape one = SHAPE(dcls.s.d[0], 1, dcls.s.d[1]);
    norm_backward(r, &m->final, tensor_as(dfirst, one), none, none, tensor_as(dcls, one), &p->final, none, none);
    pick_tokens_back(r, dlast, dfirst, NULL);
    arena_release(r->temp, mark);
}

static void embed_patches_backward(Run *r, Dino *m, Tensor dpixels, Tensor dx, const DinoPass *p)
{
    size_t mark = r->temp->used;
    int N = dx.s.d[0], T = dx.s.d[1], D = dx.s.d[2];
    Tensor dpatches = temp(r, SHAPE(N, T - 1, D)), dmap = dpixels.x ? temp(r, p->patch.x.s) : (Tensor){0};
    if (m->positions.grad.x) positions_backward(r, m, dx, p->H, p->W);
    prepend_token_back(r, m->class_token.grad, dpatches, dx);
    conv_backward(r, &m->patch, dmap, tensor_as(dpatches, SHAPE(N, p->H / m->config.patch, p->W / m->config.patch, D)), &p->patch);
    if (dpixels.x) nhwc_to_nchw(r, dpixels, dmap);
    arena_release(r->temp, mark);
}

void dino_backward(Run *r, Dino *m, Tensor dpixels, Tensor dcls, Tensor dlast, Tensor dkeys, const DinoPass *p)
{
    size_t mark = r->temp->used;
    Tensor none = {0}, d = none;
    if (!run_ok(r)) return;
    bool all = dpixels.x || m->positions.grad.x || m->class_token.grad.x || conv_trains(&m->patch);
    Tensor dx = all ? temp(r, p->x0.s) : none;
    if (dlast.x || dcls.x) {
        d = temp(r, p->x0.s);
        if (dlast.x && d.x) tensor_copy(r, d, dlast);
        else tensor_zero(d);
        if (dcls.x) class_backward(r, m, d, dcls, p);
    }
    KeyTap tap;
    tap_keys(r, m, &tap, dkeys, true);
    if (run_ok(r)) transformer_backward(r, &m->body, dx, d, &p->body);
    untap_keys(r, &tap);
    if (all && run_ok(r)) embed_patches_backward(r, m, dpixels, dx, p);
    arena_release(r->temp, mark);
}
