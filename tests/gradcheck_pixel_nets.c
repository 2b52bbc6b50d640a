/* Gradients of the pixel-space networks against central differences, in double: every input and every parameter, both halves,
 * taps that read, overwrite and pull.  Limits as in gradcheck_nets.c, for the same reasons.  Measured: parts 8e-9,
 * networks 1.2e-7. */
#include "nn/pixel.h"
#include "tensor/shape.h"
#include "tensor/tokens.h"
#include "tests/net_parts.h"
#include "tests/pixel_nets.h"

static const double LIMIT = 1e-7, NET_LIMIT = 1e-6;
static const Tensor none = {0};
static Unet unet;
static AdmClassifier classifier;

typedef struct Case Case;
struct Case {
    void (*forward)(Case *c);
    Tensor x, label, silu, h, y, weight;
    ResBlock res;
    ResBlockCache res_cache;
    UnetPass pass, encoded;
    AdmClassifierPass classifier_pass;
    int ids[2];
    double t[2];
    Parts all;
};

static double loss(void *self)
{
    Case *c = self;
    size_t keeps = kept.used, temps = scratch.used;
    c->forward(c);
    return net_loss(c->y, c->weight, keeps, temps);
}

/* Gradients start from ones: they must be added to.  Softmax does not feel a bias on the keys, whose gradient is zero. */
static void visit(Walk *w, Param *p, const char *name)
{
    bool keys = (p->part == 1 && p->rank == 1) || strstr(name, ".k.bias");
    char full[160];
    if (!p->v.x) p->v = fresh(param_shape(p), strstr(name, "norm") && p->rank == 1, 0.5);
    p->grad = fresh(param_shape(p), 1, 0);
    snprintf(full, sizeof full, "%.140s%s", name, p->parts ? p->part == 2 ? " (values)" : p->part ? " (keys)" : " (queries)" : "");
    if (!keys) part(w->self, full, p->v, p->grad);
}

static Case begin(void (*forward)(Case *c), Shape x, Shape y)
{
    Case c = { .forward = forward, .t = { 0.37, 3.2 } };
    forget_all();
    c.x = fresh(x, 0, 1);
    c.y = fresh(y, 0, 0);
    c.weight = fresh(y, 0, 1);
    return c;
}

static void check(const char *what, Case *c, int written, size_t most, double limit)
{
    less_ones(&c->all, written);
    tap_parts(&c->all, 0);
    GradCheck g = { loss, c, 1e-6, most };
    gradcheck(what, &g, c->all.part, c->all.parts, limit);
    check_true(run_ok(&run) ? what : run.status.text, run_ok(&run));
    for (int i = 0; i < run.taps; i++) check_true(taps[i].path, steer[i].calls > 0);
}

/* ---- parts ---- */

static void res_case(Case *c) { resblock_forward(&run, &c->res, c->y, &c->res_cache, c->x, c->silu); }

static void resampling(const char *what, ResSize size, int in, int out, bool scale_shift)
{
    Shape to = size == RES_UP ? SHAPE(2, 4, 8, out) : SHAPE(2, 1, 2, out);
    Case c = begin(res_case, SHAPE(2, 2, 4, in), to);
    c.res = resblock_make(in, out, 5, 2, 1e-5, scale_shift, 1);
    c.res.resample = size;
    c.res.names = RES_ADM;
    c.silu = fresh(SHAPE(2, 5), 0, 1);
    Tensor dx = wanted(&c.all, "x", c.x, 5), dsilu = wanted(&c.all, "silu(temb)", c.silu, 1);
    Walk w = { .visit = visit, .self = &c.all };
    resblock_walk(&c.res, &w);
    c.forward(&c);
    resblock_backward(&run, &c.res, dx, dsilu, c.weight, &c.res_cache);
    check(what, &c, 1, 12, LIMIT);
}

static void mean_case(Case *c) { prepend_mean(&run, c->y, c->x); }

static void means(void)
{
    Case c = begin(mean_case, SHAPE(2, 5, 3), SHAPE(2, 6, 3));
    Tensor dx = wanted(&c.all, "x", c.x, 5);
    prepend_mean_back(&run, dx, c.weight);
    check("prepend_mean_back", &c, 1, 100, LIMIT);
}

static void logp_case(Case *c) { adm_classifier_logp(&run, c->y, none, c->x, c->ids); }

static void log_probability(void)
{
    Case c = begin(logp_case, SHAPE(2, 5), SHAPE(2));
    c.ids[0] = 4, c.ids[1] = 0;
    c.weight.x[0] = c.weight.x[1] = 1;                    /* its gradient is that of the sum */
    Tensor dx = wanted(&c.all, "logits", c.x, 5);
    adm_classifier_logp(&run, none, dx, c.x, c.ids);
    check("adm_classifier_logp", &c, 1, 100, LIMIT);
}

/* ---- networks ---- */

static void unet_case(Case *c) { unet_forward(&run, &unet, c->y, &c->pass, c->x, c->t, c->label, false); }

static void unets(const char *what, const char *config, const Tap *at, int n)
{
    arena_release(&weights, 0);
    pixel_unet(&unet, config, &weights, &run.status);
    const UnetConfig *k = &unet.config;
    Case c = begin(unet_case, SHAPE(2, k->in_channels, 4, 6), SHAPE(2, k->out_channels, 4, 6));
    if (unet.classes) {
        c.label = fresh(SHAPE(2, 1), 0, 0);
        c.label.x[1] = 2;
    }
    for (int i = 0; i < n; i++) taps[i] = steer_tap(&steer[i], at[i].kind, at[i].path, &steer_arena);
    run.tap = taps;
    run.taps = n;
    Tensor dx = wanted(&c.all, "x", c.x, 5);
    Walk w = { .visit = visit, .self = &c.all };
    unet_walk(&unet, &w);
    c.forward(&c);
    unet_backward(&run, &unet, dx, none, c.weight, &c.pass);
    check(what, &c, 1, 1, NET_LIMIT);
}

static void encode_case(Case *c) { unet_encode(&run, &unet, c->y, &c->pass, c->x, c->t, c->label, false); }
static void decode_case(Case *c) { unet_decode(&run, &unet, c->y, &c->pass, &c->encoded, c->h, false); }

/* Parameters that a half does not read have no gradient in it. */
static void keep_read(Case *c, int from)
{
    for (int i = c->all.parts; i-- > from; ) {
        bool read = false;
        for (size_t k = 0; k < tensor_count(c->all.part[i].grad); k++) read = read || c->all.part[i].grad.x[k] != 1;
        if (read) continue;
        c->all.part[i] = c->all.part[--c->all.parts];
    }
}

static void halves(const char *config, int *read)
{
    arena_release(&weights, 0);
    pixel_unet(&unet, config, &weights, &run.status);
    Shape h = unet_h_shape(&unet, 2, 4, 4);
    Case c = begin(encode_case, SHAPE(2, 3, 4, 4), h);
    Tensor dx = wanted(&c.all, "x", c.x, 5);
    Walk w = { .visit = visit, .self = &c.all };
    unet_walk(&unet, &w);
    c.forward(&c);
    unet_encode_backward(&run, &unet, dx, none, c.weight, &c.pass);
    keep_read(&c, 1);
    *read += c.all.parts - 1;
    check("unet_encode_backward", &c, 1, 4, NET_LIMIT);

    /* The encoded pass is fixed, and with it the time embedding: it is not differentiated here. */
    arena_release(&weights, 0);
    pixel_unet(&unet, config, &weights, &run.status);
    c = begin(decode_case, SHAPE(2, 3, 4, 4), SHAPE(2, unet.config.out_channels, 4, 4));
    unet_encode(&run, &unet, none, &c.encoded, c.x, c.t, none, false);
    c.h = fresh(h, 0, 1);
    Tensor dh = wanted(&c.all, "h", c.h, 5);
    w = (Walk){ .visit = visit, .self = &c.all };
    steps_walk(&unet.steps, &w);
    c.forward(&c);
    unet_decode_backward(&run, &unet, dh, c.weight, &c.pass);
    keep_read(&c, 1);
    *read += c.all.parts - 1;
    check("unet_decode_backward", &c, 1, 4, NET_LIMIT);
}

static void classifier_case(Case *c) { adm_classifier_forward(&run, &classifier, c->y, &c->classifier_pass, c->x, c->t, false); }

static void classifiers(void)
{
    arena_release(&weights, 0);
    pixel_classifier(&classifier, CLASSIFIER_TINY, &weights, &run.status);
    Case c = begin(classifier_case, SHAPE(2, 3, 4, 4), SHAPE(2, 5));
    static const Tap at[] = { { .kind = SITE_PROBS, .path = "out.2" }, { .kind = SITE_QUERY, .path = "out.2" }, { .kind = SITE_FEATURE, .path = "out.0" } };
    for (int i = 0; i < 3; i++) taps[i] = steer_tap(&steer[i], at[i].kind, at[i].path, &steer_arena);
    Tensor dx = wanted(&c.all, "x", c.x, 5);
    Walk w = { .visit = visit, .self = &c.all };
    adm_classifier_walk(&classifier, &w);
    int parts = c.all.parts;
    c.forward(&c);
    adm_classifier_backward(&run, &classifier, dx, c.weight, &c.classifier_pass);
    check("adm_classifier_backward", &c, 1, 2, NET_LIMIT);
    run.tap = taps;
    run.taps = 3;
    c.all.parts = 1;
    check_true("the classifier's parameters were all tried", parts > 70);
    c.forward(&c);
    adm_classifier_backward(&run, &classifier, dx, c.weight, &c.classifier_pass);
    check("adm_classifier_backward, tapped", &c, 1, 10, NET_LIMIT);
}

/* A wrong order of the fused rows is another network: its gradient is not this one's. */
static void orders(void)
{
    arena_release(&weights, 0);
    pixel_unet(&unet, ADM_MIXED, &weights, &run.status);
    Case c = begin(unet_case, SHAPE(1, 3, 4, 4), SHAPE(1, 3, 4, 4));
    Tensor dx = fresh(c.x.s, 0, 0);
    c.forward(&c);
    unet_backward(&run, &unet, dx, none, c.weight, &c.pass);
    Param *q = params_find(unet_walk, &unet, "input_blocks.1.1.qkv.weight");
    for (int i = 0; i < 4; i++) {                         /* the first rows of two heads change places */
        real was = q->v.x[i];
        q->v.x[i] = q->v.x[2 * 4 + i], q->v.x[2 * 4 + i] = was;
    }
    GradCheck g = { loss, &c, 1e-6, 20 };
    gradcheck_must_fail("rows of two heads exchanged are seen", &g, c.x, dx, NET_LIMIT);
}

int main(void)
{
    static const Tap adm[] = {
        { .kind = SITE_TIME, .path = "time_embed" },
        { .kind = SITE_PROBS, .path = "input_blocks.3.1" },
        { .kind = SITE_FEATURE, .path = "input_blocks.2.0.out_layers.3" },
        { .kind = SITE_FEATURE, .path = "input_blocks.2" },
        { .kind = SITE_KEY, .path = "middle_block.1" },
        { .kind = SITE_FEATURE, .path = "middle_block" },
        { .kind = SITE_QUERY, .path = "output_blocks.0.1" },
        { .kind = SITE_VALUE, .path = "output_blocks.1.1" },
        { .kind = SITE_FEATURE, .path = "output_blocks.1" },
        { .kind = SITE_FEATURE, .path = "out.0" },
    };
    static const Tap ddpm[] = {
        { .kind = SITE_TIME, .path = "temb.dense" }, { .kind = SITE_PROBS, .path = "down.1.attn.0" }, { .kind = SITE_FEATURE, .path = "down.0" },
        { .kind = SITE_FEATURE, .path = "mid" }, { .kind = SITE_FEATURE, .path = "up.1.block.1.conv2" }, { .kind = SITE_FEATURE, .path = "norm_out" },
    };
    int read = 0;
    run = (Run){ .keep = &kept, .temp = &scratch, .k = &kernels_plain, .threads = 1, .blas = true };
    kept.poison = scratch.poison = true;
    resampling("resblock_backward, doubled, wider", RES_UP, 4, 6, false);
    resampling("resblock_backward, halved, scale and shift", RES_DOWN, 4, 4, true);
    resampling("resblock_backward, halved, wider", RES_DOWN, 4, 6, false);
    means();
    log_probability();
    unets("adm: convolutions, classes, new order", ADM_CONV, NULL, 0);
    unets("adm: residual resampling, scale and shift, legacy order", ADM_UPDOWN, NULL, 0);
    unets("adm: residual resampling, embedding added", ADM_MIXED, NULL, 0);
    unets("adm, tapped", ADM_UPDOWN, adm, (int)(sizeof adm / sizeof *adm));
    unets("ddpm", DDPM_TINY, NULL, 0);
    unets("ddpm, tapped", DDPM_TINY, ddpm, (int)(sizeof ddpm / sizeof *ddpm));
    halves(ADM_UPDOWN, &read);
    check_true("both halves' parameters were tried", read > 100);
    classifiers();
    orders();
    return check_done();
}
