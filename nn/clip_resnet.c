#include <stdio.h>
#include "nn/clip_resnet.h"
#include "tensor/pool.h"
#include "tensor/shape.h"
#include "tensor/tokens.h"

enum { HEAD = 64, SHRUNK = 32, WIDER = 32 };              /* of the last map: pixels of the picture a place; channels a width */
static const double EPS = 1e-5;
static const Tensor none = {0};

/* ---- structure ---- */

static ConvNorm conv_norm_make(int in, int out, int kernel, int stride)
{
    Param v = param_vector(out);
    ConvNorm l = { conv_make(in, out, kernel, stride, kernel / 2, kernel / 2), v, v, v, v };
    l.conv.b = param_none();
    return l;
}

static ConvNorm absent(void) { return (ConvNorm){ .conv = { param_none(), param_none(), { 1, 0, 0 } }, .gamma = param_none(), .beta = param_none(), .mean = param_none(), .var = param_none() }; }
static bool there(const ConvNorm *l) { return param_there(&l->gamma); }

static bool block_make(Bottleneck *b, int in, int planes, int stride, int stage, int j, Arena *a)
{
    char *path = arena_take(a, 48);
    bool skip = stride > 1 || in != 4 * planes;
    *b = (Bottleneck){ conv_norm_make(in, planes, 1, 1), conv_norm_make(planes, planes, 3, 1), conv_norm_make(planes, 4 * planes, 1, 1),
                       skip ? conv_norm_make(in, 4 * planes, 1, 1) : absent(), stride, path };
    if (path) snprintf(path, 48, "visual.layer%d.%d", stage + 1, j);
    return path != NULL;
}

bool clip_resnet_build(ClipResnet *m, const ClipResnetConfig *c, Arena *weights, Status *s)
{
    int w = c->width, C = WIDER * w, side = c->image / SHRUNK, in = w, k = 0;
    *m = (ClipResnet){ .config = *c, .stem = { conv_norm_make(3, w / 2, 3, 2), conv_norm_make(w / 2, w / 2, 3, 1), conv_norm_make(w / 2, w, 3, 1) },
                       .positions = param_matrix(side * side + 1, C), .pool = attention_make(C, C, C / HEAD, true, false) };
    m->pool.out = linear_make(C, c->projection, true);
    m->pool.path = "visual.attnpool";
    for (int i = 0; i < CLIP_RESNET_STAGES; i++) m->blocks += c->layers[i];
    m->block = arena_take(weights, (size_t)m->blocks * sizeof *m->block);
    bool good = m->block != NULL;
    for (int i = 0; i < CLIP_RESNET_STAGES; i++)
        for (int j = 0; j < c->layers[i] && good; j++, in = 4 * (w << i))
            good = block_make(&m->block[k++], in, w << i, i && !j ? 2 : 1, i, j, weights);
    if (!good) status_fail(s, E_MEMORY, "visual: out of memory");
    return good;
}

static void conv_norm_walk(ConvNorm *l, Walk *w, const char *conv, const char *norm)
{
    conv_walk(&l->conv, w, conv);
    size_t before = walk_enter(w, norm);
    walk_param(w, &l->gamma, "weight");
    walk_param(w, &l->beta, "bias");
    walk_param(w, &l->mean, "running_mean");
    walk_param(w, &l->var, "running_var");
    walk_leave(w, before);
}

void clip_resnet_walk(void *model, Walk *w)
{
    static const char *const names[4] = { "q_proj", "k_proj", "v_proj", "c_proj" };
    static const char *const conv[3] = { "conv1", "conv2", "conv3" }, *const norm[3] = { "bn1", "bn2", "bn3" };
    ClipResnet *m = model;
    size_t before = walk_enter(w, "visual"), at;
    for (int i = 0; i < 3; i++) conv_norm_walk(&m->stem[i], w, conv[i], norm[i]);
    walk_leave(w, before);
    for (int i = 0; i < m->blocks; i++) {
        Bottleneck *b = &m->block[i];
        ConvNorm *part[3] = { &b->a, &b->b, &b->c };
        before = walk_enter(w, b->path);
        for (int k = 0; k < 3; k++) conv_norm_walk(part[k], w, conv[k], norm[k]);
        conv_norm_walk(&b->skip, w, "downsample.0", "downsample.1");
        walk_leave(w, before);
    }
    before = walk_enter(w, "visual");
    at = walk_enter(w, "attnpool");
    walk_param(w, &m->positions, "positional_embedding");
    attention_walk(&m->pool, w, names);
    walk_leave(w, at);
    walk_leave(w, before);
}

/* ---- convolution, norm, relu ---- */

static BatchNorm norm_of(const ConvNorm *l) { return (BatchNorm){ l->gamma.v, l->beta.v, l->mean.v, l->var.v }; }

static Shape shape_after(const ConvNorm *l, Shape x) { return conv2d_shape(x, param_shape(&l->conv.w), l->conv.at); }

static void conv_norm_forward(Run *r, const ConvNorm *l, Tensor y, ConvNormCache *c, Tensor x, Tensor base, bool rectify)
{
    c->raw = l->gamma.grad.x ? keep(r, y.s) : y;          /* only gamma's gradient reads it again */
    c->y = rectify ? y : none;
    conv_forward(r, &l->conv, c->raw, &c->conv, x, none);
    if (run_ok(r)) batchnorm(r, y, c->raw, norm_of(l), (real)EPS, base, rectify);
}

/* dbase: that of what was added before the relu; it and dx may be empty. */
static void conv_norm_backward(Run *r, ConvNorm *l, Tensor dx, Tensor dbase, Tensor dy, const ConvNormCache *c)
{
    size_t mark = r->temp->used;
    Tensor draw = temp(r, dy.s);
    if (run_ok(r)) batchnorm_back(r, draw, l->gamma.grad, l->beta.grad, dbase, dy, c->raw, c->y, norm_of(l), (real)EPS);
    if (run_ok(r)) conv_backward(r, &l->conv, dx, draw, &c->conv);
    arena_release(r->temp, mark);
}

static Shape pooled_shape(Shape s, int stride) { return SHAPE(s.d[0], s.d[1] / stride, s.d[2] / stride, s.d[3]); }

static Tensor pooled(Run *r, Tensor x, int stride)
{
    if (stride == 1) return x;
    Tensor y = keep(r, pooled_shape(x.s, stride));
    if (run_ok(r)) mean_pool(r, y, x, stride);
    return y;
}

/* ---- a block ---- */

static void block_forward(Run *r, const Bottleneck *b, Tensor out, BottleneckCache *c, Tensor x)
{
    size_t mark = r->temp->used;
    Tensor ya = keep(r, shape_after(&b->a, x.s)), yb = keep(r, ya.s), shortcut = x;
    if (run_ok(r)) conv_norm_forward(r, &b->a, ya, &c->a, x, none, true);
    if (run_ok(r)) conv_norm_forward(r, &b->b, yb, &c->b, ya, none, true);
    Tensor inner = pooled(r, yb, b->stride);
    if (there(&b->skip)) {
        shortcut = temp(r, out.s);
        if (run_ok(r)) conv_norm_forward(r, &b->skip, shortcut, &c->skip, pooled(r, x, b->stride), none, false);
    }
    Tensor y = tap_wanted(r, SITE_FEATURE, b->path) ? keep(r, out.s) : out;  /* what relu left, before a tap changes it */
    if (run_ok(r)) conv_norm_forward(r, &b->c, y, &c->c, inner, shortcut, true);
    if (y.x != out.x && run_ok(r)) tensor_copy(r, out, y);
    tap_forward(r, SITE_FEATURE, b->path, out);
    arena_release(r->temp, mark);
}

/* dx = that through the three convolutions and through the shortcut; dout may be changed by taps. */
static void block_backward(Run *r, Bottleneck *b, Tensor dx, Tensor dout, const BottleneckCache *c)
{
    size_t mark = r->temp->used;
    Tensor dshort = temp(r, dout.s), dinner = temp(r, c->c.conv.x.s), db = b->stride > 1 ? temp(r, c->b.y.s) : dinner, da = temp(r, c->a.y.s);
    tap_backward(r, SITE_FEATURE, b->path, dout);
    if (run_ok(r)) conv_norm_backward(r, &b->c, dinner, dshort, dout, &c->c);
    if (b->stride > 1 && run_ok(r)) mean_pool_back(r, db, dinner, b->stride);
    if (run_ok(r)) conv_norm_backward(r, &b->b, da, none, db, &c->b);
    if (run_ok(r)) conv_norm_backward(r, &b->a, dx, none, da, &c->a);
    if (!there(&b->skip)) add(r, dx, dshort);
    else {
        Tensor dpool = temp(r, c->skip.conv.x.s), dwide = b->stride > 1 ? temp(r, dx.s) : dpool;
        if (run_ok(r)) conv_norm_backward(r, &b->skip, dpool, none, dshort, &c->skip);
        if (b->stride > 1 && run_ok(r)) mean_pool_back(r, dwide, dpool, b->stride);
        if (run_ok(r)) add(r, dx, dwide);
    }
    arena_release(r->temp, mark);
}

/* ---- the whole ---- */

static bool image_fits(Run *r, const ClipResnet *m, Tensor embeds, Tensor pixels)
{
    const ClipResnetConfig *c = &m->config;
    const int *s = pixels.s.d;
    bool good = pixels.x && shape_same(pixels.s, SHAPE(s[0], 3, c->image, c->image));
    if (!good) run_fail(r, E_SHAPE, "visual: pixels [%d,%d,%d,%d]; [N,3,%d,%d] expected", s[0], s[1], s[2], s[3], c->image, c->image);
    else if (!embeds.x || !shape_same(embeds.s, SHAPE(s[0], c->projection)))
        run_fail(r, E_SHAPE, "visual: embeddings [%d,%d]; [%d,%d] expected", embeds.s.d[0], embeds.s.d[1], s[0], c->projection);
    return run_ok(r);
}

static Tensor stem_forward(Run *r, const ClipResnet *m, ClipResnetPass *p, Tensor pixels)
{
    const int *s = pixels.s.d;
    Tensor x = keep(r, SHAPE(s[0], s[2], s[3], s[1]));
    nchw_to_nhwc(r, x, pixels);
    for (int i = 0; i < 3 && run_ok(r); i++) {
        Tensor y = keep(r, shape_after(&m->stem[i], x.s));
        if (run_ok(r)) conv_norm_forward(r, &m->stem[i], y, &p->stem[i], x, none, true);
        x = y;
    }
    return run_ok(r) ? pooled(r, x, 2) : none;
}

/* tokens = [mean, places] + positions;  embeds = attention of token 0 to all */
static void pool_forward(Run *r, const ClipResnet *m, Tensor embeds, ClipResnetPass *p)
{
    int N = p->last.s.d[0], T = p->last.s.d[1] * p->last.s.d[2], C = p->last.s.d[3];
    p->tokens = keep(r, SHAPE(N, T + 1, C));
    p->first = keep(r, SHAPE(N, 1, C));
    if (!run_ok(r)) return;
    prepend_mean(r, p->tokens, tensor_as(p->last, SHAPE(N, T, C)));
    add_positions(r, p->tokens, m->positions.v);
    pick_tokens(r, tensor_as(p->first, SHAPE(N, C)), p->tokens, NULL);
    attention_forward(r, &m->pool, tensor_as(embeds, SHAPE(N, 1, m->config.projection)), &p->pool, p->first, p->tokens, none);
}

void clip_resnet_forward(Run *r, const ClipResnet *m, Tensor embeds, ClipResnetPass *p, Tensor pixels)
{
    size_t mark = r->temp->used;
    *p = (ClipResnetPass){ .block = NULL };
    if (!run_ok(r) || !image_fits(r, m, embeds, pixels)) return;
    p->block = arena_take(r->keep, (size_t)m->blocks * sizeof *p->block);
    if (!p->block) run_fail(r, E_MEMORY, "visual: out of memory");
    Tensor x = run_ok(r) ? stem_forward(r, m, p, pixels) : none;
    for (int i = 0; i < m->blocks && run_ok(r); i++) {
        const Bottleneck *b = &m->block[i];
        Shape s = pooled_shape(x.s, b->stride);
        s.d[3] = b->c.conv.w.size[0];
        Tensor out = keep(r, s);
        p->block[i] = (BottleneckCache){ .a = { .y = none } };
        if (r->stop && r->stop(r->user)) run_fail(r, E_STOP, "stopped at %s", b->path);
        if (run_ok(r)) block_forward(r, b, out, &p->block[i], x);
        x = out;
    }
    p->last = x;
    if (run_ok(r)) pool_forward(r, m, embeds, p);
    arena_release(r->temp, mark);
}

static void pool_backward(Run *r, ClipResnet *m, Tensor dlast, Tensor dembeds, const ClipResnetPass *p)
{
    size_t mark = r->temp->used;
    int N = p->tokens.s.d[0], T = p->tokens.s.d[1] - 1, C = p->tokens.s.d[2];
    Tensor dtokens = temp(r, p->tokens.s), dfirst = temp(r, p->first.s);
    if (!run_ok(r)) return;
    tensor_zero(dtokens);
    attention_backward(r, &m->pool, dfirst, dtokens, tensor_as(dembeds, SHAPE(N, 1, m->config.projection)), &p->pool);
    pick_tokens_back(r, dtokens, tensor_as(dfirst, SHAPE(N, C)), NULL);
    if (m->positions.grad.x) add_positions_back(r, m->positions.grad, dtokens);
    prepend_mean_back(r, tensor_as(dlast, SHAPE(N, T, C)), dtokens);
    arena_release(r->temp, mark);
}

static void stem_backward(Run *r, ClipResnet *m, Tensor dpixels, Tensor dy, const ClipResnetPass *p)
{
    size_t mark = r->temp->used;
    Tensor d = temp(r, p->stem[2].y.s);
    if (run_ok(r)) mean_pool_back(r, d, dy, 2);
    for (int i = 3; i-- > 0 && run_ok(r); ) {
        Tensor dx = i || dpixels.x ? temp(r, p->stem[i].conv.x.s) : none;
        if (run_ok(r)) conv_norm_backward(r, &m->stem[i], dx, none, d, &p->stem[i]);
        d = dx;
    }
    if (dpixels.x && run_ok(r)) nhwc_to_nchw(r, dpixels, d);
    arena_release(r->temp, mark);
}

void clip_resnet_backward(Run *r, ClipResnet *m, Tensor dpixels, Tensor dembeds, const ClipResnetPass *p)
{
    size_t mark = r->temp->used, most = 0;
    for (int i = 0; i < m->blocks && run_ok(r); i++)
        if (tensor_count(p->block[i].a.conv.x) > most) most = tensor_count(p->block[i].a.conv.x);
    if (!run_ok(r)) return;
    if (tensor_count(p->last) > most) most = tensor_count(p->last);
    Tensor room[2] = { temp(r, SHAPE((int)most)), temp(r, SHAPE((int)most)) }, d = { room[0].x, p->last.s };
    if (run_ok(r)) pool_backward(r, m, d, dembeds, p);
    for (int i = m->blocks, turn = 1; i-- > 0 && run_ok(r); turn = !turn) {
        Tensor dx = { room[turn].x, p->block[i].a.conv.x.s };
        block_backward(r, &m->block[i], dx, d, &p->block[i]);
        d = dx;
    }
    if (run_ok(r)) stem_backward(r, m, dpixels, d, p);
    arena_release(r->temp, mark);
}
