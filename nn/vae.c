#include "nn/vae.h"
#include "tensor/shape.h"

static const Tensor none = {0};
static const double eps = 1e-6;                           /* of every norm in this network */

/* ---- building ---- */

typedef struct { StepsBuilder steps; const VaeConfig *c; } Builder;

static void resnet(Builder *b, const char *block, int j, int out)
{
    steps_res(&b->steps, steps_path(&b->steps, "%s.resnets.%d", block, j),
              resblock_make(b->steps.channels, out, 0, b->c->groups, eps, false, 1));
}

static void mid_block(Builder *b, const char *side)
{
    const char *block = steps_path(&b->steps, "%s.mid_block", side);
    int width = b->steps.channels;
    resnet(b, block, 0, width);
    if (b->c->mid_attention)
        steps_attention(&b->steps, steps_path(&b->steps, "%s.attentions.0", block), attention_block_make(width, b->c->groups, eps));
    resnet(b, block, 1, width);
    steps_ends(&b->steps, block);
}

static void finish(Builder *b, const char *side, int out)
{
    int width = b->steps.channels;
    steps_norm(&b->steps, steps_path(&b->steps, "%s.conv_norm_out", side), norm_make(width, b->c->groups, eps, ACT_SILU));
    steps_conv(&b->steps, steps_path(&b->steps, "%s.conv_out", side), NULL, conv_make(width, out, 3, 1, 1, 1));
}

static void encoder(Builder *b)
{
    const VaeConfig *c = b->c;
    steps_conv(&b->steps, "encoder.conv_in", NULL, conv_make(c->in_channels, c->channels[0], 3, 1, 1, 1));
    for (int i = 0; i < c->levels; i++) {
        const char *block = steps_path(&b->steps, "encoder.down_blocks.%d", i);
        int C = c->channels[i];
        for (int j = 0; j < c->layers; j++) resnet(b, block, j, C);
        if (i < c->levels - 1)                            /* one zero at the right and the bottom, none at the left and the top */
            steps_conv(&b->steps, steps_path(&b->steps, "%s.downsamplers.0", block), "conv", conv_make(C, C, 3, 2, 0, 1));
        steps_ends(&b->steps, block);
    }
    mid_block(b, "encoder");
    finish(b, "encoder", 2 * c->latent);
    if (c->quant_conv) steps_conv(&b->steps, "quant_conv", NULL, conv_make(2 * c->latent, 2 * c->latent, 1, 1, 0, 0));
}

static void decoder(Builder *b)
{
    const VaeConfig *c = b->c;
    if (c->post_quant_conv) steps_conv(&b->steps, "post_quant_conv", NULL, conv_make(c->latent, c->latent, 1, 1, 0, 0));
    steps_conv(&b->steps, "decoder.conv_in", NULL, conv_make(c->latent, c->channels[c->levels - 1], 3, 1, 1, 1));
    mid_block(b, "decoder");
    for (int i = 0; i < c->levels; i++) {
        const char *block = steps_path(&b->steps, "decoder.up_blocks.%d", i);
        int C = c->channels[c->levels - 1 - i];
        for (int j = 0; j <= c->layers; j++) resnet(b, block, j, C);
        if (i < c->levels - 1)
            steps_up(&b->steps, steps_path(&b->steps, "%s.upsamplers.0", block), "conv", conv_make(C, C, 3, 1, 1, 1));
        steps_ends(&b->steps, block);
    }
    finish(b, "decoder", c->out_channels);
}

bool vae_build(Vae *v, const VaeConfig *c, Arena *weights, Status *s)
{
    int room = c->levels * (c->layers + 2) + 8;
    Builder b = { .c = c };
    *v = (Vae){ .config = *c };
    steps_begin(&b.steps, &v->encoder, room, c->in_channels, weights, s);
    if (s->code == OK) encoder(&b);
    steps_begin(&b.steps, &v->decoder, room, c->latent, weights, s);
    if (s->code == OK) decoder(&b);
    return s->code == OK;
}

void vae_walk(void *vae, Walk *w)
{
    Vae *v = vae;
    steps_walk(&v->encoder, w);
    steps_walk(&v->decoder, w);
}

int vae_factor(const VaeConfig *c) { return 1 << (c->levels - 1); }

static Shape latent_shape(const VaeConfig *c, int H, int W) { return SHAPE(1, H / vae_factor(c), W / vae_factor(c), c->latent); }

int vae_plan(Vae *v, int H, int W, int least)
{
    return steps_plan(&v->encoder, SHAPE(1, H, W, v->config.in_channels), least) +
           steps_plan(&v->decoder, latent_shape(&v->config, H, W), least);
}

void vae_sites(const Vae *v, int H, int W, SiteVisit *visit, void *self)
{
    steps_sites(&v->encoder, SHAPE(1, H, W, v->config.in_channels), 0, visit, self);
    steps_sites(&v->decoder, latent_shape(&v->config, H, W), 0, visit, self);
}

/* ---- running: both halves are a step list between NCHW borders ---- */

static void half_forward(Run *r, const char *who, const Steps *s, Tensor out, VaePass *p, Tensor in, int channels, bool recompute)
{
    size_t mark = r->temp->used;
    *p = (VaePass){ .in = in.s };
    if (run_ok(r) && (!in.x || shape_rank(in.s) != 4 || in.s.d[1] != channels))
        run_fail(r, E_SHAPE, "%s: the input has %d channels, expected %d", who, in.s.d[1], channels);
    if (!run_ok(r)) return;
    Tensor x = keep(r, SHAPE(in.s.d[0], in.s.d[2], in.s.d[3], in.s.d[1]));
    nchw_to_nhwc(r, x, in);
    int last = out.x ? s->n : steps_last_tapped(r, s, false);
    Tensor y = steps_forward(r, s, &p->steps, x, none, none, 0, last, recompute);
    if (out.x && y.x) nhwc_to_nchw(r, out, y);
    arena_release(r->temp, mark);
}

static void half_backward(Run *r, Steps *s, Tensor din, Tensor dout, VaePass *p)
{
    size_t mark = r->temp->used;
    Tensor dx = none, dy = none;
    if (!run_ok(r)) return;
    if (dout.x && p->steps.last != s->n) run_fail(r, E_OPTION, "vae: a gradient for an output that was not computed");
    if (dout.x) {
        dy = temp(r, SHAPE(dout.s.d[0], dout.s.d[2], dout.s.d[3], dout.s.d[1]));
        nchw_to_nhwc(r, dy, dout);
    }
    if (din.x) dx = temp(r, SHAPE(p->in.d[0], p->in.d[2], p->in.d[3], p->in.d[1]));
    steps_backward(r, s, &p->steps, dx, none, none, dy);
    if (din.x) nhwc_to_nchw(r, din, dx);
    arena_release(r->temp, mark);
}

void vae_encode(Run *r, const Vae *v, Tensor moments, VaePass *p, Tensor image, bool recompute)
{
    half_forward(r, "vae encoder", &v->encoder, moments, p, image, v->config.in_channels, recompute);
}

void vae_encode_backward(Run *r, Vae *v, Tensor dimage, Tensor dmoments, VaePass *p)
{
    half_backward(r, &v->encoder, dimage, dmoments, p);
}

void vae_decode(Run *r, const Vae *v, Tensor image, VaePass *p, Tensor z, bool recompute)
{
    half_forward(r, "vae decoder", &v->decoder, image, p, z, v->config.latent, recompute);
}

void vae_decode_backward(Run *r, Vae *v, Tensor dz, Tensor dimage, VaePass *p)
{
    half_backward(r, &v->decoder, dz, dimage, p);
}

/* ---- the distribution over latents ---- */

static const real lowest = -30, highest = 20;             /* of the log variance */

static bool latent_fits(Run *r, Tensor t, Tensor moments)
{
    Shape want = moments.s;
    want.d[1] /= 2;
    if (t.x && !shape_same(t.s, want)) run_fail(r, E_SHAPE, "vae posterior: [%d,%d,%d,%d] for moments [%d,%d,%d,%d]",
        t.s.d[0], t.s.d[1], t.s.d[2], t.s.d[3], moments.s.d[0], moments.s.d[1], moments.s.d[2], moments.s.d[3]);
    return run_ok(r);
}

static bool posterior_fits(Run *r, Tensor moments, Tensor a, Tensor b, Tensor c, Tensor noise)
{
    if (run_ok(r) && (!moments.x || shape_rank(moments.s) != 4 || moments.s.d[1] % 2))
        run_fail(r, E_SHAPE, "vae posterior: moments must be [N,2L,h,w], found [%d,%d,%d,%d]",
                 moments.s.d[0], moments.s.d[1], moments.s.d[2], moments.s.d[3]);
    return run_ok(r) && latent_fits(r, a, moments) && latent_fits(r, b, moments) && latent_fits(r, c, moments) && latent_fits(r, noise, moments);
}

void vae_posterior(Run *r, Tensor sample, Tensor mean, Tensor logvar, Tensor moments, Tensor noise)
{
    if (!posterior_fits(r, moments, sample, mean, logvar, noise)) return;
    size_t half = tensor_count(moments) / (size_t)moments.s.d[0] / 2;
    for (size_t n = 0; n < (size_t)moments.s.d[0]; n++)
        for (size_t i = 0; i < half; i++) {
            size_t at = n * half + i;
            real m = moments.x[n * half * 2 + i], v = moments.x[n * half * 2 + half + i];
            real clamped = v < lowest ? lowest : v > highest ? highest : v;
            if (mean.x)   mean.x[at] = m;
            if (logvar.x) logvar.x[at] = clamped;
            if (sample.x) sample.x[at] = noise.x ? m + exp(clamped / 2) * noise.x[at] : m;
        }
}

void vae_posterior_back(Run *r, Tensor dmoments, Tensor dsample, Tensor moments, Tensor noise)
{
    if (!posterior_fits(r, moments, dsample, none, none, noise)) return;
    if (!dsample.x || !tensor_same(dmoments, moments)) {
        run_fail(r, E_SHAPE, "vae posterior: a gradient that does not fit its value");
        return;
    }
    size_t half = tensor_count(moments) / (size_t)moments.s.d[0] / 2;
    for (size_t n = 0; n < (size_t)moments.s.d[0]; n++)
        for (size_t i = 0; i < half; i++) {
            size_t at = n * half + i;
            real v = moments.x[n * half * 2 + half + i];
            bool inside = v >= lowest && v <= highest;
            dmoments.x[n * half * 2 + i] = dsample.x[at];
            dmoments.x[n * half * 2 + half + i] = inside && noise.x ? dsample.x[at] * noise.x[at] * exp(v / 2) / 2 : 0;
        }
}
