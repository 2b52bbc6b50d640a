/* unet_build.c -- UnetConfig -> the list of steps, with the checkpoint's names. */
#include "nn/unet.h"

typedef struct { StepsBuilder steps; const UnetConfig *c; Arena *arena; Status *status; } Builder;

static void resnet(Builder *b, const char *block, int j, int in, int out, double divide)
{
    const UnetConfig *c = b->c;
    steps_res(&b->steps, steps_path(&b->steps, "%s.resnets.%d", block, j),
              resblock_make(in, out, 4 * c->channels[0], c->groups, c->eps, c->scale_shift, divide));
}

static void transformer(Builder *b, const char *block, int j, int level, bool cross_only)
{
    const UnetConfig *c = b->c;
    const char *path = steps_path(&b->steps, "%s.attentions.%d", block, j);
    Spatial s;
    if (path && spatial_make(&s, c->channels[level], c->heads[level], c->context[level], c->depth[level], c->groups,
                             c->linear_projection, cross_only, path, b->arena, b->status))
        steps_spatial(&b->steps, path, s);
}

static void down_block(Builder *b, int level)
{
    const UnetConfig *c = b->c;
    const char *block = steps_path(&b->steps, "down_blocks.%d", level);
    int in = level ? c->channels[level - 1] : c->channels[0], out = c->channels[level], layers = c->layers[level];
    for (int j = 0; j < layers && b->status->code == OK; j++) {
        bool last = j == layers - 1 && level == c->levels - 1;
        resnet(b, block, j, j ? out : in, out, 1);
        if (c->down_attention[level]) transformer(b, block, j, level, c->only_cross[level]);
        if (last) steps_ends(&b->steps, block);
        steps_push(&b->steps);
    }
    if (level == c->levels - 1) return;
    /* Padding 0 is the reference's other downsampler: one zero at the right and the bottom. */
    int before = c->downsample_padding;
    steps_conv(&b->steps, steps_path(&b->steps, "%s.downsamplers.0", block), "conv", conv_make(out, out, 3, 2, before, 1));
    steps_ends(&b->steps, block);
    steps_push(&b->steps);
}

/* attn1 of the middle block always is self-attention: only_cross_attention does not reach it in the reference. */
static void mid_block(Builder *b)
{
    const UnetConfig *c = b->c;
    int deepest = c->levels - 1, width = c->channels[deepest];
    resnet(b, "mid_block", 0, width, width, c->mid_scale);
    transformer(b, "mid_block", 0, deepest, false);
    resnet(b, "mid_block", 1, width, width, c->mid_scale);
    steps_ends(&b->steps, "mid_block");
}

static void up_block(Builder *b, int i)
{
    const UnetConfig *c = b->c;
    const char *block = steps_path(&b->steps, "up_blocks.%d", i);
    int level = c->levels - 1 - i, out = c->channels[level];
    for (int j = 0; j <= c->layers[level] && b->status->code == OK; j++) {
        steps_pop(&b->steps);
        resnet(b, block, j, b->steps.channels, out, 1);
        if (c->up_attention[i]) transformer(b, block, j, level, c->only_cross[level]);
    }
    if (level) steps_up(&b->steps, steps_path(&b->steps, "%s.upsamplers.0", block), "conv", conv_make(out, out, 3, 1, 1, 1));
    steps_ends(&b->steps, block);
}

static int text_width(const UnetConfig *c)
{
    int width = c->mid ? c->context[c->levels - 1] : 0;
    for (int i = 0; i < c->levels; i++) {
        if (c->down_attention[i]) width = c->context[i];
        if (c->up_attention[c->levels - 1 - i]) width = c->context[i];
    }
    return width;
}

bool unet_build(Unet *u, const UnetConfig *c, Arena *weights, Status *s)
{
    int C = c->channels[0], in = c->conv_in_kernel, out = c->conv_out_kernel, room = 8;
    for (int i = 0; i < c->levels; i++) room += 3 * c->layers[i] + 2 + 3 * (c->layers[i] + 1) + 1;
    *u = (Unet){ .config = *c, .wave = C, .time1 = linear_make(C, 4 * C, true), .time2 = linear_make(4 * C, 4 * C, true),
                 .labels = param_none(), .time_names = { "time_embedding", "linear_1", "linear_2" }, .multiple = 1, .context = text_width(c) };
    if (room > STEPS_MOST) status_fail(s, E_FORMAT, "a network of %d steps: at most %d are supported", room, STEPS_MOST);
    if (s->code != OK) return false;

    Builder b = { .c = c, .arena = weights, .status = s };
    steps_begin(&b.steps, &u->steps, room, c->in_channels, weights, s);
    steps_conv(&b.steps, "conv_in", NULL, conv_make(c->in_channels, C, in, 1, (in - 1) / 2, (in - 1) / 2));
    steps_push(&b.steps);
    for (int i = 0; i < c->levels; i++) down_block(&b, i);
    if (c->mid) mid_block(&b);
    u->mid_end = u->steps.n;
    for (int i = 0; i < c->levels; i++) up_block(&b, i);
    steps_norm(&b.steps, "conv_norm_out", norm_make(C, c->groups, c->eps, ACT_SILU));
    steps_conv(&b.steps, "conv_out", NULL, conv_make(C, c->out_channels, out, 1, (out - 1) / 2, (out - 1) / 2));
    return s->code == OK;
}

void unet_walk(void *unet, Walk *w)
{
    Unet *u = unet;
    size_t before = walk_enter(w, u->time_names[0]);
    linear_walk(&u->time1, w, u->time_names[1]);
    linear_walk(&u->time2, w, u->time_names[2]);
    walk_leave(w, before);
    walk_param(w, &u->labels, "label_emb.weight");
    steps_walk(&u->steps, w);
}

int unet_plan(Unet *u, int H, int W, int least) { return steps_plan(&u->steps, SHAPE(1, H, W, u->config.in_channels), least); }

void unet_sites(const Unet *u, int H, int W, int tokens, SiteVisit *visit, void *self)
{
    visit(self, SITE_TIME, u->time_names[0], SHAPE(1, 4 * u->wave));
    steps_sites(&u->steps, SHAPE(1, H, W, u->config.in_channels), tokens, visit, self);
}
