#include <string.h>
#include "nn/config.h"
#include "nn/ddpm_unet.h"

static const double eps = 1e-6;                           /* of every norm in this network */
enum { WIDEST = 16384, MOST_LAYERS = 16 };

/* ---- configuration ---- */

/* How to sample, and how the network was trained: no effect on what it computes. */
static const char *const idle[] = {
    "dropout", "var_type", "ema", "ema_rate", "diffusion_steps", "noise_schedule", "timestep_respacing", "rescale_timesteps",
    "clip_denoised", "sigma_small", "predict_xstart",
};

static void levels(DdpmUnetConfig *u, Config *c)
{
    static const int mult[] = { 1, 1, 2, 2, 4, 4 }, at[] = { 16 };
    int resolutions[UNET_LEVELS], m[UNET_LEVELS];
    int n = u->levels = config_list(c, "ch_mult", mult, 6, 1, 1024, UNET_LEVELS, m);
    int k = config_list(c, "attn_resolutions", at, 1, 1, 65536, UNET_LEVELS, resolutions);
    for (int i = 0; i < n; i++) {
        u->width[i] = u->channels * m[i];
        for (int j = 0; j < k; j++) u->attention[i] |= u->image_size >> i == resolutions[j];
        if (u->width[i] > WIDEST) config_fail(c, "ch_mult", "%d channels at level %d: at most %d are supported", u->width[i], i, WIDEST);
        if (u->width[i] % u->groups) config_fail(c, "ch_mult", "%d channels at level %d are not a multiple of norm_groups %d", u->width[i], i, u->groups);
    }
    if (n && u->image_size % (1 << (n - 1))) config_fail(c, "image_size", "%d cannot be halved %d times", u->image_size, n - 1);
}

bool ddpm_unet_config(DdpmUnetConfig *u, const Json *j, const char *file, Status *s)
{
    static const char *const kinds[] = { "ddpm_unet", NULL }, *const types[] = { "simple", NULL };
    Config c;
    memset(u, 0, sizeof *u);
    config_begin(&c, j, file, "", s);
    if (s->code != OK) return false;
    config_word(&c, "kind", 0, kinds);
    config_word(&c, "type", 0, types);
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) config_ignore(&c, idle[i]);
    if (!config_bool(&c, "resamp_with_conv", true)) config_fail(&c, "resamp_with_conv", "must be true, as in every published model");
    u->image_size   = config_int(&c, "image_size", 256, 1, 65536);
    u->channels     = config_int(&c, "ch", 128, 4, WIDEST);
    u->in_channels  = config_int(&c, "in_channels", 3, 1, 1024);
    u->out_channels = config_int(&c, "out_ch", 3, 1, 1024);
    u->layers       = config_int(&c, "num_res_blocks", 2, 1, MOST_LAYERS);
    u->groups       = config_int(&c, "norm_groups", 32, 1, WIDEST);
    if (s->code == OK) levels(u, &c);
    return config_end(&c);
}

/* ---- building ---- */

typedef struct { StepsBuilder steps; const DdpmUnetConfig *c; } Builder;

static void resblock(Builder *b, const char *path, int out)
{
    ResBlock l = resblock_make(b->steps.channels, out, 4 * b->c->channels, b->c->groups, eps, false, 1);
    l.names = RES_DDPM;
    steps_res(&b->steps, path, l);
}

static void attention_at(Builder *b, const char *path)
{
    steps_attention(&b->steps, path, attention_block_make_ddpm(b->steps.channels, b->c->groups, eps));
}

static void down(Builder *b, int level)
{
    const DdpmUnetConfig *c = b->c;
    const char *block = steps_path(&b->steps, "down.%d", level);
    int C = c->width[level];
    for (int j = 0; j < c->layers && b->steps.status->code == OK; j++) {
        resblock(b, steps_path(&b->steps, "%s.block.%d", block, j), C);
        if (c->attention[level]) attention_at(b, steps_path(&b->steps, "%s.attn.%d", block, j));
        if (j == c->layers - 1 && level == c->levels - 1) steps_ends(&b->steps, block);
        steps_push(&b->steps);
    }
    if (level == c->levels - 1) return;
    steps_conv(&b->steps, steps_path(&b->steps, "%s.downsample", block), "conv", conv_make(C, C, 3, 2, 0, 1));
    steps_ends(&b->steps, block);
    steps_push(&b->steps);
}

static void middle(Builder *b)
{
    int C = b->steps.channels;
    resblock(b, "mid.block_1", C);
    attention_at(b, "mid.attn_1");
    resblock(b, "mid.block_2", C);
    steps_ends(&b->steps, "mid");
}

static void up(Builder *b, int level)
{
    const DdpmUnetConfig *c = b->c;
    const char *block = steps_path(&b->steps, "up.%d", level);
    int C = c->width[level];
    for (int j = 0; j <= c->layers && b->steps.status->code == OK; j++) {
        steps_pop(&b->steps);
        resblock(b, steps_path(&b->steps, "%s.block.%d", block, j), C);
        if (c->attention[level]) attention_at(b, steps_path(&b->steps, "%s.attn.%d", block, j));
    }
    if (level) steps_up(&b->steps, steps_path(&b->steps, "%s.upsample", block), "conv", conv_make(C, C, 3, 1, 1, 1));
    steps_ends(&b->steps, block);
}

static UnetConfig common_config(const DdpmUnetConfig *c)
{
    UnetConfig u = {
        .sample_size = c->image_size, .in_channels = c->in_channels, .out_channels = c->out_channels, .levels = c->levels,
        .mid = true, .groups = c->groups, .conv_in_kernel = 3, .conv_out_kernel = 3, .freq_shift = 1, .eps = eps, .mid_scale = 1,
    };
    for (int i = 0; i < c->levels; i++) {
        u.channels[i] = c->width[i];
        u.layers[i] = c->layers;
        u.heads[i] = 1;
        u.down_attention[i] = u.up_attention[c->levels - 1 - i] = c->attention[i];
    }
    return u;
}

bool ddpm_unet_build(Unet *u, const DdpmUnetConfig *c, Arena *weights, Status *s)
{
    int C = c->channels, room = 8 + c->levels * (3 * c->layers + 2 + 3 * (c->layers + 1) + 1);
    *u = (Unet){
        .config = common_config(c), .wave = C, .time1 = linear_make(C, 4 * C, true), .time2 = linear_make(4 * C, 4 * C, true),
        .labels = param_none(), .time_names = { "temb.dense", "0", "1" }, .multiple = 1 << (c->levels - 1),
    };
    if (room > STEPS_MOST) status_fail(s, E_FORMAT, "a network of %d steps: at most %d are supported", room, STEPS_MOST);
    if (s->code != OK) return false;
    Builder b = { .c = c };
    steps_begin(&b.steps, &u->steps, room, c->in_channels, weights, s);
    steps_conv(&b.steps, "conv_in", NULL, conv_make(c->in_channels, C, 3, 1, 1, 1));
    steps_push(&b.steps);
    for (int i = 0; i < c->levels; i++) down(&b, i);
    middle(&b);
    u->mid_end = u->steps.n;
    for (int i = c->levels; i-- > 0; ) up(&b, i);
    steps_norm(&b.steps, "norm_out", norm_make(b.steps.channels, c->groups, eps, ACT_SILU));
    steps_conv(&b.steps, "conv_out", NULL, conv_make(b.steps.channels, c->out_channels, 3, 1, 1, 1));
    return s->code == OK;
}
