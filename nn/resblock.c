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

const char *resblock_name(const ResBlock *l, int i)
{
    static const char *const names[][6] = {
        { "norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut" },
        { "norm1", "conv1", "temb_proj", "norm2", "conv2", "nin_shortcut" },
        { "in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection" },
    };
    return names[l->names][i];
}

void resblock_walk(ResBlock *l, Walk *w)
{
    norm_walk(&l->norm1, w, resblock_name(l, 0));
    conv_walk(&l->conv1, w, resblock_name(l, 1));
    linear_walk(&l->time, w, resblock_name(l, 2));
    norm_walk(&l->norm2, w, resblock_name(l, 3));
    conv_walk(&l->conv2, w, resblock_name(l, 4));
    conv_walk(&l->shortcut, w, resblock_name(l, 5));
}

/* ---- resampling: x itself when the size stays ---- */

bool resblock_fits(const ResBlock *l, Shape x) { return l->resample != RES_DOWN || (x.d[1] % 2 == 0 && x.d[2] % 2 == 0); }

static Shape resampled_shape(const ResBlock *l, Shape x)
{
    if (l->resample == RES_UP)   return SHAPE(x.d[0], 2 * x.d[1], 2 * x.d[2], x.d[3]);
    if (l->resample == RES_DOWN) return SHAPE(x.d[0], x.d[1] / 2, x.d[2] / 2, x.d[3]);
    return x;
}

Shape resblock_shape(const ResBlock *l, Shape x) { return shape_channels(resampled_shape(l, x), l->conv1.w.size[0]); }

static Tensor resampled(Run *r, const ResBlock *l, Tensor x)
{
    if (l->resample == RES_SAME || !x.x) return x;
    Tensor y = temp(r, resampled_shape(l, x.s));
    if (l->resample == RES_UP) double_nearest(r, y, x);
    else {
        double_nearest_back(r, y, x);                     /* the sum of four */
        scale(r, y, (real)0.25, y, 0);
    }
    return y;
}

static void resampled_back(Run *r, const ResBlock *l, Tensor dx, Tensor dy)      /* written */
{
    if (l->resample == RES_UP) double_nearest_back(r, dx, dy);
    else {
        double_nearest(r, dx, dy);
        scale(r, dx, (real)0.25, dx, 0);
    }
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
    Tensor nothing = {0}, h = keep(r, resblock_shape(l, x.s));
    *c = (ResBlockCache){ .silu_temb = silu_temb };

    size_t half = r->temp->used;
    Tensor a = temp(r, x.s);
    norm_forward(r, &l->norm1, a, &c->norm1, x, nothing, nothing);
    conv_forward(r, &l->conv1, h, &none, resampled(r, l, a), nothing);
    arena_release(r->temp, half);

    time_forward(r, l, h, c, silu_temb);
    Tensor b = temp(r, h.s);
    norm_forward(r, &l->norm2, b, &c->norm2, h, c->scale, c->shift);
    if (y.x) join(r, l, y, resampled(r, l, x), b);
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
    Tensor x = c->norm1.x, nothing = {0}, da = temp(r, x.s), dresampled = da;
    Tensor a = resampled(r, l, again(r, &l->norm1, &l->conv1, &c->norm1, nothing, nothing));
    if (l->resample) dresampled = temp(r, resampled_shape(l, x.s));
    conv_backward(r, &l->conv1, dresampled, dh, &(ConvCache){ a });
    if (l->resample) resampled_back(r, l, da, dresampled);
    norm_backward(r, &l->norm1, dx, nothing, nothing, da, &c->norm1, nothing, nothing);
    arena_release(r->temp, mark);
}

static void shortcut_backward(Run *r, ResBlock *l, Tensor dx, Tensor dy, const ResBlockCache *c)
{
    size_t mark = r->temp->used;
    Tensor x = c->norm1.x, dshort = dy;
    if (param_there(&l->shortcut.w)) {
        dshort = dx.x ? temp(r, resampled_shape(l, x.s)) : (Tensor){0};
        conv_backward(r, &l->shortcut, dshort, dy, &(ConvCache){ conv_trains(&l->shortcut) ? resampled(r, l, x) : x });
    }
    if (dx.x && l->resample) {
        Tensor back = temp(r, dx.s);
        resampled_back(r, l, back, dshort);
        dshort = back;
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
