#include "nn/layers.h"

Shape shape_channels(Shape s, int channels)
{
    int rank = shape_rank(s);
    if (rank) s.d[rank - 1] = channels;
    return s;
}

Linear linear_make(int in, int out, bool bias)
{
    return (Linear){ param_matrix(out, in), bias ? param_vector(out) : param_none() };
}

Linear linear_make_1x1(int in, int out)
{
    Linear l = linear_make(in, out, true);
    l.w.rank = 4;
    l.w.size[2] = l.w.size[3] = 1;
    return l;
}

Conv conv_make(int in, int out, int kernel, int stride, int before, int after)
{
    return (Conv){ .w = param_conv(out, in, kernel, kernel), .b = param_vector(out), .at = { stride, before, after } };
}

Norm norm_make(int channels, int groups, double eps, NormAct act)
{
    return (Norm){ param_vector(channels), param_vector(channels), groups, eps, act };
}

static void walk_two(Walk *w, const char *module, Param *weight, Param *bias)
{
    size_t before = walk_enter(w, module);
    walk_param(w, weight, "weight");
    walk_param(w, bias, "bias");
    walk_leave(w, before);
}

void linear_walk(Linear *l, Walk *w, const char *module) { walk_two(w, module, &l->w, &l->b); }
void conv_walk(Conv *l, Walk *w, const char *module)     { walk_two(w, module, &l->w, &l->b); }
void norm_walk(Norm *l, Walk *w, const char *module)     { walk_two(w, module, &l->gamma, &l->beta); }

/* [out,in], also of a 1x1 convolution's [out,in,1,1] */
static Tensor as_matrix(Tensor t, const Param *p) { return tensor_as(t, SHAPE(p->size[0], p->size[1])); }

void linear_forward(Run *r, const Linear *l, Tensor y, LinearCache *c, Tensor x)
{
    c->x = x;
    linear(r, y, x, as_matrix(l->w.v, &l->w), l->b.v, false);
}

void linear_forward_onto(Run *r, const Linear *l, Tensor y, LinearCache *c, Tensor x, Tensor base)
{
    c->x = x;
    if (base.x != y.x) tensor_copy(r, y, base);
    linear(r, y, x, as_matrix(l->w.v, &l->w), l->b.v, true);
}

bool linear_trains(const Linear *l) { return l->w.grad.x || l->b.grad.x; }
bool conv_trains(const Conv *l)     { return l->w.grad.x || l->b.grad.x; }

void linear_backward(Run *r, Linear *l, Tensor dx, Tensor dy, const LinearCache *c)
{
    if (!dx.x && !linear_trains(l)) return;
    linear_back(r, dx, as_matrix(l->w.grad, &l->w), l->b.grad, dy, c->x, as_matrix(l->w.v, &l->w));
}

/* The kernels and their Winograd form, of which one is held. */
typedef struct { Tensor w, u; } Kernel;
static Kernel kernel_for(Run *r, const Conv *l, Tensor image)
{
    const Param *p = &l->w;
    if (p->layout != WINOGRAD) return (Kernel){ .w = p->v };
    if (run_ok(r) && image.x && !winograd_pays(image.s.d[1], image.s.d[2], p->size[1], p->size[0]))
        run_fail(r, E_OPTION, "kernels held transformed, for larger images, do not serve one of %d x %d: load the network for this size", image.s.d[2], image.s.d[1]);
    return (Kernel){ { NULL, param_shape(p) }, p->v };
}

void conv_forward(Run *r, const Conv *l, Tensor y, ConvCache *c, Tensor x, Tensor base)
{
    Kernel k = kernel_for(r, l, x);
    c->x = x;
    conv2d(r, y, x, k.w, l->b.v, k.u, base, l->at);
}

void conv_backward(Run *r, Conv *l, Tensor dx, Tensor dy, const ConvCache *c)
{
    if (!dx.x && !conv_trains(l)) return;
    Kernel k = kernel_for(r, l, dy);
    conv2d_back(r, dx, l->w.grad, l->b.grad, dy, c->x, k.w, k.u, l->at);
}

void norm_forward(Run *r, const Norm *l, Tensor y, NormCache *c, Tensor x, Tensor scale_, Tensor shift)
{
    Shape stat = SHAPE(x.s.d[0], l->groups ? l->groups : x.s.d[1]);
    *c = (NormCache){ x, keep(r, stat), keep(r, stat) };
    if (l->groups) {
        Affine a = { l->gamma.v, l->beta.v, scale_, shift };
        groupnorm(r, y, c->mean, c->rstd, x, a, (real)l->eps, l->act);
    } else
        layernorm(r, y, c->mean, c->rstd, x, l->gamma.v, l->beta.v, (real)l->eps);
}

void norm_backward(Run *r, Norm *l, Tensor dx, Tensor dscale, Tensor dshift, Tensor dy, const NormCache *c, Tensor scale_, Tensor shift)
{
    if (!dx.x && !dscale.x && !dshift.x && !l->gamma.grad.x && !l->beta.grad.x) return;
    if (l->groups) {
        Affine a = { l->gamma.v, l->beta.v, scale_, shift }, da = { l->gamma.grad, l->beta.grad, dscale, dshift };
        groupnorm_back(r, dx, da, dy, c->x, c->mean, c->rstd, a, l->act);
    } else
        layernorm_back(r, dx, l->gamma.grad, l->beta.grad, dy, c->x, c->mean, c->rstd, l->gamma.v);
}

void norm_again(Run *r, const Norm *l, Tensor y, const NormCache *c, Tensor scale_, Tensor shift)
{
    size_t mark = r->temp->used;
    Run scratch_only = *r;
    NormCache stat;
    scratch_only.keep = r->temp;
    norm_forward(&scratch_only, l, y, &stat, c->x, scale_, shift);
    r->status = scratch_only.status;
    arena_release(r->temp, mark);
}

bool conv_plan(Conv *l, int H, int W, int least)
{
    Param *p = &l->w;
    bool three = p->size[2] == 3 && p->size[3] == 3 && l->at.stride == 1 && l->at.before == 1 && l->at.after == 1;
    bool pays = three && winograd_pays(H, W, p->size[1], p->size[0]) && (long)H * W >= least;
    Layout was = p->layout;
    if (param_there(p)) p->layout = pays ? WINOGRAD : CONV;
    if (p->layout == was || !p->v.x) return false;
    p->v = (Tensor){0};
    return true;
}
