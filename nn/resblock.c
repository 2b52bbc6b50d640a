#include <string.h>
#include "nn/resblock.h"
#include "tensor/shape.h"

ResBlock resblock_make(int in, int out, int time, int groups, double eps, bool scale_shift, double divide)
{
    Conv none = { .w = param_none(), .b = param_none() };
    Linear no_time = { param_none(), param_none() };
    return (ResBlock){
        .norm1 = norm_make(in, groups, eps, ACT_SILU),
        .conv1 = conv_make(in, out, 3, 1, 1, 1),
        .time = time ? linear_make(time, scale_shift ? 2 * out : out, true) : no_time,
        .norm2 = norm_make(out, groups, eps, ACT_SILU),
        .conv2 = conv_make(out, out, 3, 1, 1, 1),
        .shortcut = in == out ? none : conv_make(in, out, 1, 1, 0, 0),
        .scale_shift = scale_shift && time,
        .divide = divide,
    };
}

void resblock_walk(ResBlock *l, Walk *w)
{
    norm_walk(&l->norm1, w, "norm1");
    conv_walk(&l->conv1, w, "conv1");
    linear_walk(&l->time, w, "time_emb_proj");
    norm_walk(&l->norm2, w, "norm2");
    conv_walk(&l->conv2, w, "conv2");
    conv_walk(&l->shortcut, w, "conv_shortcut");
}

static Shape per_image(Shape s) { return SHAPE(s.d[0], s.d[3]); }

/* h, or the (scale, shift) that the second norm will apply */
static void time_forward(Run *r, const ResBlock *l, Tensor h, ResBlockCache *c, Tensor silu_temb)
{
    if (!param_there(&l->time.w)) return;
    Shape s = per_image(h.s);
    if (l->scale_shift) {
        c->scale = keep(r, s);
        c->shift = keep(r, s);
    }
    size_t mark = r->temp->used;
    LinearCache none;
    Tensor bias = temp(r, SHAPE(s.d[0], l->time.w.size[0]));
    linear_forward(r, &l->time, bias, &none, silu_temb);
    if (l->scale_shift) split(r, c->scale, c->shift, bias);
    else add_channels(r, h, bias);
    arena_release(r->temp, mark);
}

static void join_fused(Run *r, const ResBlock *l, Tensor y, Tensor x, Tensor b)
{
    ConvCache none;
    Tensor nothing = {0};
    bool wide = param_there(&l->shortcut.w);
    if (wide) conv_forward(r, &l->shortcut, y, &none, x, nothing);
    conv_forward(r, &l->conv2, y, &none, b, wide ? y : x);
}

/* A tap sees the second convolution alone.  Added afterwards, the residual would be rounded once more than when it rides on
 * the convolution: only a tap that changes the value may change the bits. */
static void join_tapped(Run *r, const ResBlock *l, Tensor y, Tensor x, Tensor b)
{
    size_t mark = r->temp->used;
    ConvCache none;
    Tensor nothing = {0}, was = temp(r, y.s), s = x;
    conv_forward(r, &l->conv2, y, &none, b, nothing);
    if (!run_ok(r)) {
        arena_release(r->temp, mark);
        return;
    }
    tensor_copy(r, was, y);
    tap_forward(r, SITE_FEATURE, l->conv2_path, y);
    if (!memcmp(was.x, y.x, tensor_count(y) * sizeof(real))) join_fused(r, l, y, x, b);
    else {
        if (param_there(&l->shortcut.w)) {
            s = was;
            conv_forward(r, &l->shortcut, s, &none, x, nothing);
        }
        add(r, y, s);
    }
    arena_release(r->temp, mark);
}

static void join(Run *r, const ResBlock *l, Tensor y, Tensor x, Tensor b)
{
    if (tap_wanted(r, SITE_FEATURE, l->conv2_path)) join_tapped(r, l, y, x, b);
    else join_fused(r, l, y, x, b);
    if (l->divide != 1) scale(r, y, (real)(1 / l->divide), y, 0);
}

void resblock_forward(Run *r, const ResBlock *l, Tensor y, ResBlockCache *c, Tensor x, Tensor silu_temb)
{
    size_t mark = r->temp->used;
    ConvCache none;
    Tensor nothing = {0}, h = keep(r, shape_channels(x.s, l->conv1.w.size[0]));
    *c = (ResBlockCache){ .silu_temb = silu_temb };

    size_t half = r->temp->used;
    Tensor a = temp(r, x.s);
    norm_forward(r, &l->norm1, a, &c->norm1, x, nothing, nothing);
    conv_forward(r, &l->conv1, h, &none, a, nothing);
    arena_release(r->temp, half);

    time_forward(r, l, h, c, silu_temb);
    Tensor b = temp(r, h.s);
    norm_forward(r, &l->norm2, b, &c->norm2, h, c->scale, c->shift);
    if (y.x) join(r, l, y, x, b);
    arena_release(r->temp, mark);
}

static Tensor again(Run *r, const Norm *l, const Conv *reader, const NormCache *c, Tensor scale_, Tensor shift)
{
    Tensor y = conv_trains(reader) ? temp(r, c->x.s) : (Tensor){0};
    if (y.x) norm_again(r, l, y, c, scale_, shift);
    return y;
}

/* dh of the second half: through conv2 and the second norm.  dbias, of what time(s) gave, is written unless empty. */
static void second_backward(Run *r, ResBlock *l, Tensor dh, Tensor dbias, Tensor dr, const ResBlockCache *c)
{
    size_t mark = r->temp->used;
    Tensor db = temp(r, dh.s), dscale = {0}, dshift = {0};
    Tensor b = again(r, &l->norm2, &l->conv2, &c->norm2, c->scale, c->shift);
    conv_backward(r, &l->conv2, db, dr, &(ConvCache){ b });
    if (dbias.x && l->scale_shift) {
        dscale = temp(r, c->scale.s);
        dshift = temp(r, c->shift.s);
        tensor_zero(dscale);
        tensor_zero(dshift);
    }
    norm_backward(r, &l->norm2, dh, dscale, dshift, db, &c->norm2, c->scale, c->shift);
    if (dscale.x) concat(r, dbias, dscale, dshift);
    else if (dbias.x) {
        tensor_zero(dbias);
        add_channels_back(r, dbias, dh);
    }
    arena_release(r->temp, mark);
}

static void time_backward(Run *r, ResBlock *l, Tensor dsilu_temb, Tensor dbias, const ResBlockCache *c)
{
    size_t mark = r->temp->used;
    Tensor ds = dsilu_temb.x ? temp(r, dsilu_temb.s) : (Tensor){0};
    linear_backward(r, &l->time, ds, dbias, &(LinearCache){ c->silu_temb });
    if (ds.x) add(r, dsilu_temb, ds);
    arena_release(r->temp, mark);
}

static void first_backward(Run *r, ResBlock *l, Tensor dx, Tensor dh, const ResBlockCache *c)
{
    if (!dx.x && !conv_trains(&l->conv1) && !l->norm1.gamma.grad.x) return;
    size_t mark = r->temp->used;
    Tensor x = c->norm1.x, nothing = {0}, da = temp(r, x.s);
    Tensor a = again(r, &l->norm1, &l->conv1, &c->norm1, nothing, nothing);
    conv_backward(r, &l->conv1, da, dh, &(ConvCache){ a });
    norm_backward(r, &l->norm1, dx, nothing, nothing, da, &c->norm1, nothing, nothing);
    arena_release(r->temp, mark);
}

static void shortcut_backward(Run *r, ResBlock *l, Tensor dx, Tensor dy, const ResBlockCache *c)
{
    size_t mark = r->temp->used;
    Tensor dshort = dy;
    if (param_there(&l->shortcut.w)) {
        dshort = dx.x ? temp(r, dx.s) : (Tensor){0};
        conv_backward(r, &l->shortcut, dshort, dy, &(ConvCache){ c->norm1.x });
    }
    if (dx.x) add(r, dx, dshort);
    arena_release(r->temp, mark);
}

static Tensor copy_of(Run *r, Tensor t)
{
    Tensor y = temp(r, t.s);
    if (y.x) tensor_copy(r, y, t);
    return y;
}

void resblock_backward(Run *r, ResBlock *l, Tensor dx, Tensor dsilu_temb, Tensor dy, const ResBlockCache *c)
{
    size_t mark = r->temp->used;
    Tensor h = c->norm2.x, dh = temp(r, h.s), dbias = {0}, dr;
    bool time = param_there(&l->time.w) && (dsilu_temb.x || linear_trains(&l->time));
    if (time) dbias = temp(r, SHAPE(h.s.d[0], l->time.w.size[0]));
    if (l->divide != 1) {
        dy = copy_of(r, dy);
        scale(r, dy, (real)(1 / l->divide), dy, 0);
    }
    bool tapped = tap_wanted(r, SITE_FEATURE, l->conv2_path);
    dr = tapped ? copy_of(r, dy) : dy;                    /* what a tap does to conv2's output leaves the shortcut alone */
    tap_backward(r, SITE_FEATURE, l->conv2_path, tapped ? dr : (Tensor){0});

    second_backward(r, l, dh, dbias, dr, c);
    if (time) time_backward(r, l, dsilu_temb, dbias, c);
    first_backward(r, l, dx, dh, c);
    shortcut_backward(r, l, dx, dy, c);
    arena_release(r->temp, mark);
}
