#include "ref/estimate.h"

/* Working numbers of one step beside its input and output: what its forward holds at its worst moment. */
static size_t inner(const Step *s, Shape in, Shape out)
{
    size_t x = shape_count(in), y = shape_count(out);
    switch (s->kind) {
    case STEP_RES:       return y + (x > y ? x : y);      /* h, and a normalised map */
    case STEP_SPATIAL:   return x * 20;                   /* tokens, queries, keys, values, and the feed-forward's 8 C and 4 C */
    case STEP_ATTENTION: return x * 6;                    /* normalised, q, k, v, mixed, tokens */
    case STEP_UP:        return y / (size_t)out.d[3] * (size_t)in.d[3];
    case STEP_NORM:      return x;
    default:             return 0;
    }
}

static size_t transformed(const Conv *l, Shape at)
{
    bool square = l->w.rank == 4 && l->w.size[2] == 3 && l->w.size[3] == 3 && l->at.stride == 1;
    if (!square || !winograd_pays(at.d[1], at.d[2], l->w.size[1], l->w.size[0])) return 0;
    return shape_count(winograd_shape(param_shape(&l->w)));
}

typedef struct { size_t work, kernels; } Numbers;

/* Two alternating buffers, what is pushed, and the worst step; transformed kernels. */
static Numbers network(const Steps *s, Shape in)
{
    Shape shape[STEPS_MOST];
    Status ignored = {0};
    size_t most = 0, pushed = 0, worst = 0, kernels = 0;
    if (s->n > STEPS_MOST || !steps_shapes(s, in, 0, shape, &ignored)) return (Numbers){0};
    for (int i = 0; i < s->n; i++) {
        const Step *t = &s->step[i];
        Shape x = i ? shape[i - 1] : in;
        size_t y = shape_count(shape[i]), w = inner(t, x, shape[i]);
        if (t->kind == STEP_PUSH) pushed += y;
        else if (y > most) most = y;
        if (w > worst) worst = w;
        if (t->kind == STEP_RES) kernels += transformed(&t->res.conv1, x) + transformed(&t->res.conv2, shape[i]);
        if (t->kind == STEP_CONV) kernels += transformed(&t->conv, x);
        if (t->kind == STEP_UP) kernels += transformed(&t->conv, shape[i]);
    }
    return (Numbers){ 2 * most + pushed + worst, kernels };
}

/* Weights, transformed kernels, and the working memory of the UNet and of the decoder, one after the other; of the
 * smaller one the C library keeps what it does not get back in large blocks.  Measured with the bundled model from 128
 * to 512 pixels: within 2 % of the resident memory. */
size_t estimate_generate(const Pipeline *p, const PipelineRequest *q)
{
    enum { PROGRAM = 13 << 20, SCRATCH = 3 << 20, KEPT = 64 << 20, PIXEL = 8 };       /* PIXEL: levels, and the PNG being made */
    const Model *m = &p->model;
    int f = vae_factor(&m->vae.config), h = q->H / f, w = q->W / f, batch = q->scale == 1 || q->apart ? 1 : 2;
    Numbers unet = network(&m->unet.steps, SHAPE(batch, h, w, m->unet.config.in_channels));
    Numbers vae = network(&m->vae.decoder, SHAPE(1, h, w, m->vae.config.latent));
    size_t more = unet.work > vae.work ? unet.work : vae.work, less = unet.work + vae.work - more;
    size_t kernels = p->most_memory ? 0 : unet.kernels + vae.kernels;
    if (less > KEPT / sizeof(real)) less = KEPT / sizeof(real);
    return PROGRAM + SCRATCH + m->arena.reserved + (more + less + kernels) * sizeof(real) + (size_t)q->W * (size_t)q->H * PIXEL;
}
