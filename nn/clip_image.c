#include "nn/clip.h"
#include "tensor/resample.h"
#include "tensor/shape.h"
#include "tensor/tokens.h"

static bool build(ClipImage *m, const ClipImageConfig *c, const TransformerNames *names, Arena *weights, Status *s)
{
    TransformerConfig body = { c->layers, c->width, c->mlp, c->heads, c->act, c->eps, .causal = false };
    Norm norm = norm_make(c->width, 0, c->eps, ACT_NONE);
    int side = c->image / c->patch;
    *m = (ClipImage){ .config = *c, .class_token = param_vector(c->width), .positions = param_matrix(1 + side * side, c->width),
                      .patch = conv_make(c->channels, c->width, c->patch, c->patch, 0, 0), .before = norm, .after = norm };
    m->patch.b = param_none();
    m->projection = c->projection ? linear_make(c->width, c->projection, false) : (Linear){ param_none(), param_none() };
    return transformer_build(&m->body, &body, names, weights, s);
}

bool clip_image_build(ClipImage *m, const ClipImageConfig *c, Arena *weights, Status *s)
{
    return build(m, c, &transformer_clip_image, weights, s);
}

bool clip_image_build_openai(ClipImage *m, const ClipImageConfig *c, Arena *weights, Status *s)
{
    bool good = build(m, c, &transformer_clip_openai, weights, s);
    m->openai = true;
    m->projection.w.layout = TRANSPOSED;
    return good;
}

static void openai_walk(ClipImage *m, Walk *w)
{
    size_t before = walk_enter(w, "visual");
    walk_param(w, &m->class_token, "class_embedding");
    conv_walk(&m->patch, w, "conv1");
    walk_param(w, &m->positions, "positional_embedding");
    norm_walk(&m->before, w, "ln_pre");
    norm_walk(&m->after, w, "ln_post");
    walk_param(w, &m->projection.w, "proj");
    walk_leave(w, before);
    transformer_walk(&m->body, w);
}

void clip_image_walk(void *model, Walk *w)
{
    ClipImage *m = model;
    if (m->openai) {
        openai_walk(m, w);
        return;
    }
    size_t before = walk_enter(w, "vision_model"), at = walk_enter(w, "embeddings");
    walk_param(w, &m->class_token, "class_embedding");
    conv_walk(&m->patch, w, "patch_embedding");
    walk_param(w, &m->positions, "position_embedding.weight");
    walk_leave(w, at);
    norm_walk(&m->before, w, "pre_layrnorm");             /* the checkpoint's own spelling */
    norm_walk(&m->after, w, "post_layernorm");
    walk_leave(w, before);
    transformer_walk(&m->body, w);
    linear_walk(&m->projection, w, "visual_projection");
}

static bool image_fits(Run *r, const ClipImage *m, Tensor pixels)
{
    const ClipImageConfig *c = &m->config;
    Shape s = SHAPE(pixels.s.d[0], c->channels, c->image, c->image);
    if (pixels.x && shape_same(pixels.s, s)) return true;
    run_fail(r, E_SHAPE, "vision_model: pixels [%d,%d,%d,%d]; [N,%d,%d,%d] expected", pixels.s.d[0], pixels.s.d[1], pixels.s.d[2],
             pixels.s.d[3], c->channels, c->image, c->image);
    return false;
}

/* x = [class, patches] + positions */
static void embed_patches(Run *r, const ClipImage *m, Tensor x, ClipImagePass *p, Tensor pixels)
{
    size_t mark = r->temp->used;
    const ClipImageConfig *c = &m->config;
    int N = pixels.s.d[0], side = c->image / c->patch;
    Tensor none = {0}, map = keep(r, SHAPE(N, c->image, c->image, c->channels));
    Tensor patches = temp(r, SHAPE(N, side, side, c->width));
    nchw_to_nhwc(r, map, pixels);
    conv_forward(r, &m->patch, patches, &p->patch, map, none);
    prepend_token(r, x, m->class_token.v, tensor_as(patches, SHAPE(N, side * side, c->width)));
    add_positions(r, x, m->positions.v);
    arena_release(r->temp, mark);
}

static void read_out(Run *r, const ClipImage *m, Tensor pooled, Tensor embeds, ClipImagePass *p)
{
    int N = p->last.s.d[0], D = p->last.s.d[2];
    Tensor none = {0}, first = keep(r, SHAPE(N, 1, D));
    LinearCache unread;
    p->pooled = keep(r, SHAPE(N, D));
    if (!run_ok(r)) return;
    pick_tokens(r, tensor_as(first, p->pooled.s), p->last, NULL);
    norm_forward(r, &m->after, tensor_as(p->pooled, first.s), &p->after, first, none, none);
    if (pooled.x) tensor_copy(r, pooled, p->pooled);
    if (embeds.x) linear_forward(r, &m->projection, embeds, &unread, p->pooled);
}

void clip_image_forward(Run *r, const ClipImage *m, Tensor last, Tensor pooled, Tensor embeds, ClipImagePass *p, Tensor pixels)
{
    size_t mark = r->temp->used;
    *p = (ClipImagePass){0};
    if (!run_ok(r) || !image_fits(r, m, pixels)) return;
    int side = m->config.image / m->config.patch;
    Shape s = SHAPE(pixels.s.d[0], 1 + side * side, m->config.width);
    Tensor none = {0}, x = keep(r, s);
    p->x0 = keep(r, s);
    p->last = last.x ? last : keep(r, s);
    if (run_ok(r)) embed_patches(r, m, x, p, pixels);
    if (run_ok(r)) norm_forward(r, &m->before, p->x0, &p->before, x, none, none);
    if (run_ok(r)) transformer_forward(r, &m->body, p->last, &p->body, p->x0, m->config.layers);
    if (run_ok(r) && (pooled.x || embeds.x)) read_out(r, m, pooled, embeds, p);
    arena_release(r->temp, mark);
}

/* dlast += what came in through pooled and embeds */
static void read_out_backward(Run *r, ClipImage *m, Tensor dlast, Tensor dpooled, Tensor dembeds, const ClipImagePass *p)
{
    size_t mark = r->temp->used;
    Tensor none = {0}, d = temp(r, p->pooled.s), dfirst = temp(r, p->pooled.s);
    Shape one = SHAPE(d.s.d[0], 1, d.s.d[1]);
    if (dembeds.x) linear_backward(r, &m->projection, d, dembeds, &(LinearCache){ p->pooled });
    else tensor_zero(d);
    if (dpooled.x) add(r, d, dpooled);
    norm_backward(r, &m->after, tensor_as(dfirst, one), none, none, tensor_as(d, one), &p->after, none, none);
    pick_tokens_back(r, dlast, dfirst, NULL);
    arena_release(r->temp, mark);
}

static void embed_patches_backward(Run *r, ClipImage *m, Tensor dpixels, Tensor dx, const ClipImagePass *p)
{
    size_t mark = r->temp->used;
    Shape map = p->patch.x.s;
    int N = dx.s.d[0], side = m->config.image / m->config.patch, D = m->config.width;
    Tensor dpatches = temp(r, SHAPE(N, side * side, D)), dmap = dpixels.x ? temp(r, map) : (Tensor){0};
    if (m->positions.grad.x) add_positions_back(r, m->positions.grad, dx);
    prepend_token_back(r, m->class_token.grad, dpatches, dx);
    conv_backward(r, &m->patch, dmap, tensor_as(dpatches, SHAPE(N, side, side, D)), &p->patch);
    if (dpixels.x) nhwc_to_nchw(r, dpixels, dmap);
    arena_release(r->temp, mark);
}

void clip_image_backward(Run *r, ClipImage *m, Tensor dpixels, Tensor dlast, Tensor dpooled, Tensor dembeds, const ClipImagePass *p)
{
    size_t mark = r->temp->used;
    Tensor none = {0}, d = none;
    bool embedding = m->positions.grad.x || m->class_token.grad.x || conv_trains(&m->patch);
    bool all = dpixels.x || embedding || m->before.gamma.grad.x || m->before.beta.grad.x;
    Tensor dx0 = all ? temp(r, p->x0.s) : none, dx = dpixels.x || embedding ? temp(r, p->x0.s) : none;
    if (dlast.x || dpooled.x || dembeds.x) {
        d = temp(r, p->x0.s);
        if (dlast.x && d.x) tensor_copy(r, d, dlast);
        else tensor_zero(d);
        if (dpooled.x || dembeds.x) read_out_backward(r, m, d, dpooled, dembeds, p);
    }
    if (run_ok(r)) transformer_backward(r, &m->body, dx0, d, &p->body);
    if (all && run_ok(r)) norm_backward(r, &m->before, dx, none, none, dx0, &p->before, none, none);
    if (dx.x && run_ok(r)) embed_patches_backward(r, m, dpixels, dx, p);
    arena_release(r->temp, mark);
}

static bool prepare(Run *r, Tensor pixels, const uint8_t *rgb, int H, int W, const double mean[3], const double std[3])
{
    int S = pixels.s.d[1], small = H < W ? H : W;
    int h = (int)((long long)S * H / small), w = (int)((long long)S * W / small);
    uint8_t *fit = arena_take(r->temp, (size_t)h * (size_t)w * 3);
    if (!fit) run_fail(r, E_MEMORY, "out of memory for a picture of %dx%d pixels", h, w);
    if (!fit || !resample_bicubic_8bit(r, fit, h, w, rgb, H, W)) return false;
    pixels_normalised(r, pixels, fit, w, (h - S) / 2, (w - S) / 2, mean, std);
    return true;
}

bool clip_prepare(Run *r, Tensor pixels, const uint8_t *rgb, int H, int W, const double mean[3], const double std[3])
{
    size_t mark = r->temp->used;
    int S = pixels.s.d[1], small = H < W ? H : W, big = H < W ? W : H;
    if (!run_ok(r)) return false;
    if (!pixels.x || pixels.s.d[0] != 3 || pixels.s.d[2] != S || H < 1 || W < 1 || (long long)S * big / small > RESAMPLE_MOST) {
        run_fail(r, E_SHAPE, "a picture of %dx%d pixels cannot be prepared as [%d,%d,%d]", W, H, pixels.s.d[0], S, pixels.s.d[2]);
        return false;
    }
    bool fine = prepare(r, pixels, rgb, H, W, mean, std);
    arena_release(r->temp, mark);
    return fine;
}
