/* Gradients of layers, blocks and whole networks against central differences, in double, through taps that read, overwrite
 * and pull.  Differences of width 1e-6 leave 1e-12 times third derivatives (thousands: norms of narrow maps with a small
 * variance, one after the other) and 1e-16 |loss| / 1e-6 of rounding, losses being some tens.  Measured: layers and blocks
 * 2e-8, networks 2.3e-7. */
#include "nn/steps.h"
#include "tensor/shape.h"
#include "tests/net_parts.h"

static const double LIMIT = 1e-7, NET_LIMIT = 1e-6;

/* One case: a forward that makes y from tensors, whose loss is <weight, y> and the energies of the taps. */
typedef struct Case Case;
struct Case {
    void (*forward)(Case *c);
    Tensor x, context, silu, scale, shift, y, weight;
    Unet *unet;
    Vae *vae;
    double t[2];
    union { Linear linear; Conv conv; Norm norm; ResBlock res; Attention attention; AttentionBlock block; Spatial spatial; };
    union {
        LinearCache linear_cache; ConvCache conv_cache; NormCache norm_cache; ResBlockCache res_cache; AttentionCache attention_cache;
        AttentionBlockCache block_cache; SpatialCache spatial_cache; UnetPass unet_pass; VaePass vae_pass;
    };
    Parts all;
};

static double loss(void *self)
{
    Case *c = self;
    size_t keeps = kept.used, temps = scratch.used;
    c->forward(c);
    return net_loss(c->y, c->weight, keeps, temps);
}

/* Parameters of a layer under test: healthy numbers, gradients that start from ones (they must be added to). */
static void visit(Walk *w, Param *p, const char *name)
{
    bool norm = p->rank == 1 && strstr(name, "norm") && strstr(name, "weight");
    if (!p->v.x) p->v = fresh(param_shape(p), norm ? 1 : 0, p->rank == 1 ? 0.3 : 0.7);
    p->grad = fresh(param_shape(p), 1, 0);
    part(w->self, name, p->v, p->grad);
}

static Walk walk_of(Case *c) { return (Walk){ .visit = visit, .self = &c->all }; }

static void tap_at(SiteKind kind, const char *path)
{
    taps[run.taps] = steer_tap(&steer[run.taps], kind, path, &steer_arena);
    run.tap = taps;
    run.taps++;
}

static Case begin(void (*forward)(Case *c), Shape x, Shape y)
{
    Case c = { .forward = forward };
    forget_all();
    c.x = fresh(x, 0, 1);
    c.y = fresh(y, 0, 0);
    c.weight = fresh(y, 0, 1);
    return c;
}

static void check(const char *what, Case *c, int written, size_t most)
{
    less_ones(&c->all, written);
    tap_parts(&c->all, c->y.x ? 0 : 1);                   /* without an output, nothing follows the first (deepest) tap */
    GradCheck g = { loss, c, 1e-6, most };
    gradcheck(what, &g, c->all.part, c->all.parts, c->unet || c->vae ? NET_LIMIT : LIMIT);
    check_true(run_ok(&run) ? what : run.status.text, run_ok(&run));
    check_true("every tap was called", run.taps == 0 || steer[run.taps - 1].calls > 0);
}

/* ---- layers ---- */

static void linear_case(Case *c) { linear_forward_onto(&run, &c->linear, c->y, &c->linear_cache, c->x, c->context); }
static void conv_case(Case *c)   { conv_forward(&run, &c->conv, c->y, &c->conv_cache, c->x, c->context); }
static void norm_case(Case *c)   { norm_forward(&run, &c->norm, c->y, &c->norm_cache, c->x, c->scale, c->shift); }

static void layers(void)
{
    Case c = begin(linear_case, SHAPE(2, 5, 3), SHAPE(2, 5, 4));
    c.linear = linear_make_1x1(3, 4);
    c.context = fresh(c.y.s, 0, 1);
    Tensor dx = wanted(&c.all, "x", c.x, 0);
    Walk w = walk_of(&c);
    linear_walk(&c.linear, &w, "linear");
    c.forward(&c);
    linear_backward(&run, &c.linear, dx, c.weight, &c.linear_cache);
    check("linear_backward", &c, 1, 100);

    c = begin(conv_case, SHAPE(2, 5, 4, 3), SHAPE(2, 2, 2, 4));
    c.conv = conv_make(3, 4, 3, 2, 0, 1);
    dx = wanted(&c.all, "x", c.x, 0);
    w = walk_of(&c);
    conv_walk(&c.conv, &w, "conv");
    c.forward(&c);
    conv_backward(&run, &c.conv, dx, c.weight, &c.conv_cache);
    check("conv_backward", &c, 1, 200);

    c = begin(norm_case, SHAPE(2, 3, 4, 6), SHAPE(2, 3, 4, 6));
    c.norm = norm_make(6, 2, 1e-5, ACT_SILU);
    c.scale = fresh(SHAPE(2, 6), 0, 0.5);
    c.shift = fresh(SHAPE(2, 6), 0, 0.5);
    dx = wanted(&c.all, "x", c.x, 0);
    Tensor dscale = wanted(&c.all, "scale", c.scale, 1), dshift = wanted(&c.all, "shift", c.shift, 1);
    w = walk_of(&c);
    norm_walk(&c.norm, &w, "norm");
    c.forward(&c);
    norm_backward(&run, &c.norm, dx, dscale, dshift, c.weight, &c.norm_cache, c.scale, c.shift);
    check("norm_backward (groups)", &c, 1, 200);

    c = begin(norm_case, SHAPE(2, 5, 6, 0), SHAPE(2, 5, 6, 0));
    c.norm = norm_make(6, 0, 1e-5, ACT_NONE);
    dx = wanted(&c.all, "x", c.x, 0);
    w = walk_of(&c);
    norm_walk(&c.norm, &w, "norm");
    Tensor none = {0};
    c.forward(&c);
    norm_backward(&run, &c.norm, dx, none, none, c.weight, &c.norm_cache, none, none);
    check("norm_backward (layer)", &c, 1, 100);
}

/* ---- blocks ---- */

static void res_case(Case *c) { resblock_forward(&run, &c->res, c->y, &c->res_cache, c->x, c->silu); }

static void resblocks(const char *what, int in, int out, int time, bool scale_shift, double divide, bool tapped)
{
    Case c = begin(res_case, SHAPE(2, 3, 4, in), SHAPE(2, 3, 4, out));
    c.res = resblock_make(in, out, time, 2, 1e-5, scale_shift, divide);
    c.res.conv2_path = "res.conv2";
    if (tapped) tap_at(SITE_FEATURE, "res.conv2");
    Tensor dx = wanted(&c.all, "x", c.x, 0), dsilu = {0};
    if (time) {
        c.silu = fresh(SHAPE(2, time), 0, 1);
        dsilu = wanted(&c.all, "silu(temb)", c.silu, 1);
    }
    Walk w = walk_of(&c);
    resblock_walk(&c.res, &w);
    c.forward(&c);
    resblock_backward(&run, &c.res, dx, dsilu, c.weight, &c.res_cache);
    check(what, &c, 1, 12);
}

static void attention_case(Case *c)
{
    attention_forward(&run, &c->attention, c->y, &c->attention_cache, c->x, c->context.x ? c->context : c->x, (Tensor){0});
}

static void attentions(const char *what, bool cross, bool causal, bool tapped)
{
    static const char *const names[4] = { "q", "k", "v", "out" };
    static const SiteKind kinds[4] = { SITE_QUERY, SITE_KEY, SITE_VALUE, SITE_PROBS };
    Case c = begin(attention_case, SHAPE(2, 5, 6), SHAPE(2, 5, 6));
    c.attention = attention_make(6, cross ? 4 : 6, 2, !cross, causal);
    c.attention.path = "attn";
    for (int i = 0; tapped && i < 4; i++) tap_at(kinds[i], "attn");
    Tensor dx = wanted(&c.all, "x", c.x, 0), dcontext = {0};
    if (cross) {
        c.context = fresh(SHAPE(2, 3, 4), 0, 1);
        dcontext = wanted(&c.all, "context", c.context, 1);
    }
    Walk w = walk_of(&c);
    attention_walk(&c.attention, &w, names);
    c.forward(&c);
    attention_backward(&run, &c.attention, dx, dcontext, c.weight, &c.attention_cache);
    /* Softmax does not feel a bias on the keys: that gradient is zero, and its own check. */
    for (int i = 0; i < c.all.parts; i++)
        if (!strcmp(c.all.part[i].name, "k.bias") && !tapped) c.all.part[i] = c.all.part[--c.all.parts];
    check(what, &c, 1, 40);
}

static void block_case(Case *c)   { attention_block_forward(&run, &c->block, c->y, &c->block_cache, c->x); }
static void spatial_case(Case *c) { spatial_forward(&run, &c->spatial, c->y, &c->spatial_cache, c->x, c->context); }

static void transformers(void)
{
    Tensor none = {0};
    Case c = begin(block_case, SHAPE(2, 2, 3, 4), SHAPE(2, 2, 3, 4));
    c.block = attention_block_make(4, 2, 1e-6);
    c.block.attention.path = "attn";
    tap_at(SITE_PROBS, "attn");
    Tensor dx = wanted(&c.all, "x", c.x, 0);
    Walk w = walk_of(&c);
    attention_block_walk(&c.block, &w);
    c.forward(&c);
    attention_block_backward(&run, &c.block, dx, c.weight, &c.block_cache);
    for (int i = 0; i < c.all.parts; i++)
        if (!strcmp(c.all.part[i].name, "to_k.bias")) c.all.part[i] = c.all.part[--c.all.parts];
    check("attention_block_backward", &c, 1, 40);

    for (int cross_only = 0; cross_only < 2; cross_only++) {
        c = begin(spatial_case, SHAPE(2, 2, 3, 4), SHAPE(2, 2, 3, 4));
        spatial_make(&c.spatial, 4, 2, 6, 2, 2, cross_only, cross_only, "t", &data, &run.status);
        c.context = fresh(SHAPE(2, 3, 6), 0, 1);
        dx = wanted(&c.all, "x", c.x, 0);
        Tensor dcontext = wanted(&c.all, "context", c.context, 1);
        w = walk_of(&c);
        spatial_walk(&c.spatial, &w);
        c.forward(&c);
        spatial_backward(&run, &c.spatial, dx, dcontext, c.weight, &c.spatial_cache);
        check(cross_only ? "spatial_backward (text alone)" : "spatial_backward", &c, 1, 8);
        c.forward(&c);
        spatial_backward(&run, &c.spatial, none, none, c.weight, &c.spatial_cache);
        check_true("spatial_backward with nothing wanted", run_ok(&run));
    }
}

/* ---- networks ---- */

static void unet_case(Case *c) { unet_forward(&run, c->unet, c->y, &c->unet_pass, c->x, c->t, c->context, false); }

static void fresh_weights(WalkModel *walk, void *model, Case *c)
{
    Walk w = walk_of(c);
    walk(model, &w);
}

static void unets(const char *what, const char *config, int H, int W, const Tap *at, int n)
{
    static Unet u;                                        /* a few hundred kilobytes */
    arena_release(&weights, 0);
    tiny_unet(&u, config, &weights, &run.status);
    const UnetConfig *k = &u.config;
    Case c = begin(unet_case, SHAPE(2, k->in_channels, H, W), SHAPE(2, k->out_channels, H, W));
    c.unet = &u;
    c.t[0] = 0.37, c.t[1] = 3.2;
    if (u.context) c.context = fresh(SHAPE(2, 3, u.context), 0, 1);
    for (int i = 0; i < n; i++) tap_at(at[i].kind, at[i].path);
    Tensor dz = wanted(&c.all, "z", c.x, 5), dcontext = {0};
    if (u.context) dcontext = wanted(&c.all, "context", c.context, 5);
    int written = c.all.parts;
    fresh_weights(unet_walk, &u, &c);
    unet_case(&c);
    unet_backward(&run, &u, dz, dcontext, c.weight, &c.unet_pass);
    check(what, &c, written, 1);
}

/* The gradient of the taps alone, without an output: the pass ends at the last of them. */
static void unet_pull(void)
{
    static Unet u;
    Tensor none = {0};
    arena_release(&weights, 0);
    tiny_unet(&u, UNET_PLAIN, &weights, &run.status);
    Case c = begin(unet_case, SHAPE(2, 4, 5, 6), SHAPE(2, 3, 5, 6));
    c.unet = &u;
    c.y = none;
    c.t[1] = 700.5;
    c.context = fresh(SHAPE(2, 3, 6), 0, 1);
    tap_at(SITE_PROBS, "up_blocks.1.attentions.0.transformer_blocks.1.attn2");
    tap_at(SITE_FEATURE, "mid_block");
    Tensor dz = wanted(&c.all, "z", c.x, 5), dcontext = wanted(&c.all, "context", c.context, 5);
    unet_case(&c);
    unet_backward(&run, &u, dz, dcontext, none, &c.unet_pass);
    check("unet_backward, pulled by taps alone", &c, 2, 60);
    GradCheck g = { loss, &c, 1e-5, 20 };
    steer[1].weight.x[0] += 1;                            /* now the energy is another than the one that was pulled */
    gradcheck_must_fail("a tap that pulls wrongly is seen", &g, c.x, dz, LIMIT);
}

/* Two taps at one site do not commute: unwound in the wrong order, the gradient is wrong. */
static void tap_order(void)
{
    static Unet u;
    arena_release(&weights, 0);
    tiny_unet(&u, UNET_PLAIN, &weights, &run.status);
    Case c = begin(unet_case, SHAPE(1, 4, 4, 4), SHAPE(1, 3, 4, 4));
    c.unet = &u;
    c.context = fresh(SHAPE(1, 3, 6), 0, 1);
    tap_at(SITE_FEATURE, "mid_block");
    tap_at(SITE_FEATURE, "mid_block");
    steer[1].gain = 3;
    Tensor dz = fresh(c.x.s, 0, 0), none = {0};
    unet_case(&c);
    Tap first = taps[0];
    taps[0] = taps[1], taps[1] = first;
    unet_backward(&run, &u, dz, none, c.weight, &c.unet_pass);
    first = taps[0];
    taps[0] = taps[1], taps[1] = first;
    GradCheck g = { loss, &c, 1e-5, 20 };
    gradcheck_must_fail("tap_backward in the wrong order is seen", &g, c.x, dz, LIMIT);
}

/* steps_backward with a side gradient that is added to, from the middle of a list on, as a second pass of the decoder runs. */
static Steps *list;
static StepsPass whole, half;
static int from;
static void steps_case(Case *c)
{
    half = whole;                                         /* its skips are read, its caches are not touched */
    Tensor y = steps_forward(&run, list, &half, c->x, c->silu, c->context, from, list->n, false);
    if (y.x) tensor_copy(&run, c->y, y);
}

static void decoder_half(void)
{
    static Unet u;
    arena_release(&weights, 0);
    tiny_unet(&u, UNET_PLAIN, &weights, &run.status);
    list = &u.steps;
    from = u.mid_end;
    Case c = begin(steps_case, SHAPE(2, 3, 3, 12), SHAPE(2, 5, 6, 3));
    c.context = fresh(SHAPE(2, 3, 6), 0, 1);
    c.silu = fresh(SHAPE(2, 32), 0, 1);
    Tensor z = fresh(SHAPE(2, 5, 6, 4), 0, 1);
    steps_forward(&run, list, &whole, z, c.silu, c.context, 0, list->n, false);
    Tensor dx = wanted(&c.all, "value after the middle block", c.x, 5), dsilu = wanted(&c.all, "silu(temb)", c.silu, 1);
    Tensor dcontext = wanted(&c.all, "context", c.context, 1), weight = fresh(c.y.s, 0, 0);
    tensor_copy(&run, weight, c.weight);
    steps_case(&c);
    steps_backward(&run, list, &half, dx, dsilu, dcontext, weight);
    check("steps_backward from the middle block on", &c, 1, 40);
}

static void encode_case(Case *c) { vae_encode(&run, c->vae, c->y, &c->vae_pass, c->x, false); }
static void decode_case(Case *c) { vae_decode(&run, c->vae, c->y, &c->vae_pass, c->x, false); }

static void drop_key_biases(Case *c)                      /* softmax does not feel them: zero gradients prove nothing */
{
    for (int i = c->all.parts; i-- > 0; )
        if (strstr(c->all.part[i].name, "to_k.bias")) c->all.part[i] = c->all.part[--c->all.parts];
}

static void keep_half(Case *c, const char *prefix, const char *extra)        /* of the parameters, those that this half reads */
{
    for (int i = c->all.parts; i-- > 1; )
        if (strncmp(c->all.part[i].name, prefix, strlen(prefix)) && strncmp(c->all.part[i].name, extra, strlen(extra))) c->all.part[i] = c->all.part[--c->all.parts];
}

static void vaes(void)
{
    static Vae v;
    arena_release(&weights, 0);
    tiny_vae(&v, VAE_TINY, &weights, &run.status);
    Case c = begin(encode_case, SHAPE(2, 3, 7, 6), SHAPE(2, 4, 3, 3));
    c.vae = &v;
    tap_at(SITE_FEATURE, "encoder.down_blocks.0");
    Tensor dx = wanted(&c.all, "image", c.x, 5);
    fresh_weights(vae_walk, &v, &c);
    encode_case(&c);
    vae_encode_backward(&run, &v, dx, c.weight, &c.vae_pass);
    keep_half(&c, "encoder.", "quant_conv");
    drop_key_biases(&c);
    check("vae_encode_backward", &c, 1, 2);

    arena_release(&weights, 0);
    tiny_vae(&v, VAE_TINY, &weights, &run.status);
    c = begin(decode_case, SHAPE(2, 2, 3, 3), SHAPE(2, 3, 6, 6));
    c.vae = &v;
    tap_at(SITE_FEATURE, "decoder.mid_block");
    dx = wanted(&c.all, "z", c.x, 5);
    fresh_weights(vae_walk, &v, &c);
    decode_case(&c);
    vae_decode_backward(&run, &v, dx, c.weight, &c.vae_pass);
    keep_half(&c, "decoder.", "post_quant_conv");
    drop_key_biases(&c);
    check("vae_decode_backward", &c, 1, 2);
}

static void posterior_case(Case *c)
{
    Tensor none = {0};
    vae_posterior(&run, c->y, none, none, c->x, c->context);
}

static void posterior(void)
{
    Case c = begin(posterior_case, SHAPE(2, 4, 2, 3), SHAPE(2, 2, 2, 3));
    c.context = fresh(c.y.s, 0, 1);
    c.x.x[13] = 25, c.x.x[14] = -31;                      /* log variances outside the clamp: no gradient */
    Tensor dx = wanted(&c.all, "moments", c.x, 5);
    vae_posterior_back(&run, dx, c.weight, c.x, c.context);
    check_true("the clamp passes nothing outside", dx.x[13] == 0 && dx.x[14] == 0);
    c.x.x[13] = 2, c.x.x[14] = -2;
    vae_posterior_back(&run, dx, c.weight, c.x, c.context);
    check("vae_posterior_back", &c, 1, 100);
}

int main(void)
{
    static const Tap plain[] = {
        { .kind = SITE_TIME, .path = "time_embedding" },
        { .kind = SITE_PROBS, .path = "down_blocks.0.attentions.0.transformer_blocks.1.attn1" },
        { .kind = SITE_FEATURE, .path = "down_blocks.0" },
        { .kind = SITE_FEATURE, .path = "mid_block.resnets.0.conv2" },
        { .kind = SITE_PROBS, .path = "mid_block.attentions.0.transformer_blocks.0.attn2" },
        { .kind = SITE_VALUE, .path = "up_blocks.1.attentions.1.transformer_blocks.0.attn1" },
        { .kind = SITE_KEY, .path = "up_blocks.1.attentions.1.transformer_blocks.0.attn2" },
        { .kind = SITE_FEATURE, .path = "up_blocks.0.upsamplers.0" },
        { .kind = SITE_FEATURE, .path = "conv_norm_out" },
        { .kind = SITE_FEATURE, .path = "conv_out" },
    };
    run = (Run){ .keep = &kept, .temp = &scratch, .k = &kernels_plain, .threads = 1, .blas = true };
    kept.poison = scratch.poison = true;
    layers();
    resblocks("resblock_backward", 4, 6, 5, false, 1, false);
    resblocks("resblock_backward (scale and shift, divided)", 4, 4, 5, true, 2, false);
    resblocks("resblock_backward (tapped, divided)", 4, 6, 5, false, 2, true);
    resblocks("resblock_backward (no time, tapped)", 4, 4, 0, false, 1, true);
    attentions("attention_backward (self)", false, false, false);
    attentions("attention_backward (self, causal, tapped)", false, true, true);
    attentions("attention_backward (cross)", true, false, false);
    attentions("attention_backward (cross, tapped)", true, false, true);
    transformers();
    unets("unet_backward", UNET_PLAIN, 5, 6, NULL, 0);
    unets("unet_backward, tapped", UNET_PLAIN, 5, 6, plain, (int)(sizeof plain / sizeof *plain));
    unets("unet_backward, every variant", UNET_VARIED, 4, 6, NULL, 0);
    unets("unet_backward, no text", UNET_BARE, 3, 4, NULL, 0);
    unet_pull();
    tap_order();
    decoder_half();
    vaes();
    posterior();
    return check_done();
}
