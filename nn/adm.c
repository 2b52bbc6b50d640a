/* adm.c -- AdmConfig -> the list of steps, with the released checkpoints' names. */
#include "nn/adm.h"

static const double eps = 1e-5;                           /* of every norm in this network */
typedef struct { StepsBuilder steps; const AdmConfig *c; } Builder;

static void resblock(Builder *b, const char *path, int out, ResSize resample)
{
    const AdmConfig *c = b->c;
    ResBlock l = resblock_make(b->steps.channels, out, 4 * c->channels, c->groups, eps, c->scale_shift, 1);
    l.resample = resample;
    l.names = RES_ADM;
    steps_res(&b->steps, path, l);
}

static void attention_at(Builder *b, const char *path, int heads)
{
    const AdmConfig *c = b->c;
    int width = b->steps.channels;
    if (c->head_width > 0) heads = width / c->head_width;
    steps_attention(&b->steps, path, attention_block_make_adm(width, heads, c->new_order, c->groups, eps));
}

/* ---- the way down ---- */

static void input_end(Builder *b, int *n)
{
    steps_ends(&b->steps, steps_path(&b->steps, "input_blocks.%d", (*n)++));
    steps_push(&b->steps);
}

static void downsampler(Builder *b, int n)
{
    const char *path = steps_path(&b->steps, "input_blocks.%d.0", n);
    int C = b->steps.channels;
    if (b->c->updown) resblock(b, path, C, RES_DOWN);
    else              steps_conv(&b->steps, path, "op", conv_make(C, C, 3, 2, 1, 1));
}

static void input_blocks(Builder *b)
{
    const AdmConfig *c = b->c;
    int n = 0;
    steps_conv(&b->steps, "input_blocks.0.0", NULL, conv_make(c->in_channels, c->width[0], 3, 1, 1, 1));
    input_end(b, &n);
    for (int level = 0; level < c->levels; level++) {
        for (int j = 0; j < c->layers && b->steps.status->code == OK; j++) {
            resblock(b, steps_path(&b->steps, "input_blocks.%d.0", n), c->width[level], RES_SAME);
            if (c->attention[level]) attention_at(b, steps_path(&b->steps, "input_blocks.%d.1", n), c->heads);
            input_end(b, &n);
        }
        if (level == c->levels - 1) break;
        downsampler(b, n);
        input_end(b, &n);
    }
}

static void middle_block(Builder *b)
{
    int width = b->steps.channels;
    resblock(b, "middle_block.0", width, RES_SAME);
    attention_at(b, "middle_block.1", b->c->heads);
    resblock(b, "middle_block.2", width, RES_SAME);
    steps_ends(&b->steps, "middle_block");
}

/* ---- the way up ---- */

static void upsampler(Builder *b, int n, int k)
{
    const char *path = steps_path(&b->steps, "output_blocks.%d.%d", n, k);
    int C = b->steps.channels;
    if (b->c->updown) resblock(b, path, C, RES_UP);
    else              steps_up(&b->steps, path, "conv", conv_make(C, C, 3, 1, 1, 1));
}

static void output_blocks(Builder *b)
{
    const AdmConfig *c = b->c;
    int n = 0;
    for (int level = c->levels - 1; level >= 0; level--)
        for (int j = 0; j <= c->layers && b->steps.status->code == OK; j++, n++) {
            int k = 0;
            steps_pop(&b->steps);
            resblock(b, steps_path(&b->steps, "output_blocks.%d.%d", n, k++), c->width[level], RES_SAME);
            if (c->attention[level]) attention_at(b, steps_path(&b->steps, "output_blocks.%d.%d", n, k++), c->heads_up);
            if (level && j == c->layers) upsampler(b, n, k);
            steps_ends(&b->steps, steps_path(&b->steps, "output_blocks.%d", n));
        }
}

/* ---- whole networks ---- */

static UnetConfig common_config(const AdmConfig *c)
{
    UnetConfig u = {
        .sample_size = c->image_size, .in_channels = c->in_channels, .out_channels = c->out_channels, .levels = c->levels,
        .mid = true, .flip_sin_to_cos = true, .scale_shift = c->scale_shift, .groups = c->groups,
        .conv_in_kernel = 3, .conv_out_kernel = 3, .downsample_padding = 1, .eps = eps, .mid_scale = 1,
    };
    for (int i = 0; i < c->levels; i++) {
        u.channels[i] = c->width[i];
        u.layers[i] = c->layers;
        u.heads[i] = c->head_width > 0 ? c->width[i] / c->head_width : c->heads;
        u.down_attention[i] = u.up_attention[c->levels - 1 - i] = c->attention[i];
    }
    return u;
}

static bool begin(Unet *u, Builder *b, const AdmConfig *c, Arena *weights, Status *s)
{
    int C = c->channels, room = 8 + c->levels * (3 * c->layers + 2 + 3 * (c->layers + 1) + 1);
    *u = (Unet){
        .config = common_config(c), .wave = C, .time1 = linear_make(C, 4 * C, true), .time2 = linear_make(4 * C, 4 * C, true),
        .labels = c->classes ? param_matrix(c->classes, 4 * C) : param_none(), .time_names = { "time_embed", "0", "2" },
        .classes = c->classes, .context = c->classes > 0, .learned_variance = c->learned_variance, .multiple = 1 << (c->levels - 1),
    };
    if (room > STEPS_MOST) status_fail(s, E_FORMAT, "a network of %d steps: at most %d are supported", room, STEPS_MOST);
    if (s->code != OK) return false;
    *b = (Builder){ .c = c };
    steps_begin(&b->steps, &u->steps, room, c->in_channels, weights, s);
    return s->code == OK;
}

bool adm_encoder_build(Unet *u, const AdmConfig *c, Arena *weights, Status *s)
{
    AdmConfig unconditional = *c;
    Builder b;
    unconditional.classes = 0;
    unconditional.learned_variance = false;
    if (!begin(u, &b, &unconditional, weights, s)) return false;
    input_blocks(&b);
    middle_block(&b);
    steps_norm(&b.steps, "out.0", norm_make(b.steps.channels, c->groups, eps, ACT_SILU));
    u->mid_end = u->steps.n;
    return s->code == OK;
}

bool adm_build(Unet *u, const AdmConfig *c, Arena *weights, Status *s)
{
    Builder b;
    if (!begin(u, &b, c, weights, s)) return false;
    input_blocks(&b);
    middle_block(&b);
    u->mid_end = u->steps.n;
    output_blocks(&b);
    steps_norm(&b.steps, "out.0", norm_make(b.steps.channels, c->groups, eps, ACT_SILU));
    steps_conv(&b.steps, "out.2", NULL, conv_make(b.steps.channels, c->out_channels, 3, 1, 1, 1));
    return s->code == OK;
}
