/* unet_config.c -- unet/config.json -> UnetConfig. */
#include <string.h>
#include "nn/config.h"
#include "nn/unet.h"

enum { WIDEST = 16384, MOST_LAYERS = 16, MOST_HEADS = 1024 };
static const char *const down_types[] = { "DownBlock2D", "CrossAttnDownBlock2D", NULL };
static const char *const up_types[]   = { "UpBlock2D", "CrossAttnUpBlock2D", NULL };
static const char *const mid_types[]  = { "UNetMidBlock2DCrossAttn", NULL };
static const char *const act_types[]  = { "silu", "swish", NULL };
static const char *const time_types[] = { "default", "scale_shift", NULL };

/* Fields of the reference that change the network in ways this one does not have, and the only value each may have. */
static const char *const fixed[][2] = {
    { "dual_cross_attention", "false" },    { "class_embed_type", "null" },         { "num_class_embeds", "null" },
    { "encoder_hid_dim", "null" },          { "encoder_hid_dim_type", "null" },     { "time_embedding_type", "positional" },
    { "time_cond_proj_dim", "null" },       { "attention_type", "default" },        { "cross_attention_norm", "null" },
    { "time_embedding_dim", "null" },       { "time_embedding_act_fn", "null" },    { "timestep_post_act", "null" },
    { "projection_class_embeddings_input_dim", "null" },                            { "class_embeddings_concat", "false" },
    { "resnet_skip_time_act", "false" },    { "resnet_out_scale_factor", "1" },     { "mid_block_only_cross_attention", "null" },
    { "reverse_transformer_layers_per_block", "null" },
};
/* No effect on the numbers, or only together with a field refused above. */
static const char *const idle[] = { "dropout", "upcast_attention", "addition_time_embed_dim", "addition_embed_type_num_heads" };

static void refuse_variants(Config *c)
{
    const Json *added = json_get(c->json, "addition_embed_type"), *heads = json_get(c->json, "num_attention_heads");
    if (added && added->kind != JSON_NULL)
        config_fail(c, "addition_embed_type", "this is a Stable Diffusion XL model (pooled text and sizes as extra inputs); "
                    "supported are Stable Diffusion 1.x and 2.x, where it is null");
    if (heads && heads->kind != JSON_NULL)
        config_fail(c, "num_attention_heads", "must be null: the reference refuses it; the number of heads is in attention_head_dim");
    config_ignore(c, "addition_embed_type");
    config_ignore(c, "num_attention_heads");
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) config_only(c, fixed[i][0], fixed[i][1]);
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) config_ignore(c, idle[i]);
}

static int sample_size(Config *c)
{
    const Json *j = json_get(c->json, "sample_size");
    if (j && j->kind == JSON_NULL) {
        config_ignore(c, "sample_size");
        return 0;
    }
    return config_int(c, "sample_size", 0, 1, 65536);
}

static void levels(UnetConfig *u, Config *c)
{
    static const int channels[] = { 320, 640, 1280, 1280 }, down[UNET_LEVELS] = { 1, 1, 1, 0 }, up[UNET_LEVELS] = { 0, 1, 1, 1 };
    int type[UNET_LEVELS];
    int n = u->levels = config_list(c, "block_out_channels", channels, 4, 1, WIDEST, UNET_LEVELS, u->channels);
    if (n != 4 && n && (!json_get(c->json, "down_block_types") || !json_get(c->json, "up_block_types")))
        config_fail(c, "block_out_channels", "%d levels: then down_block_types and up_block_types must be given", n);
    config_words(c, "down_block_types", down, down_types, n, type);
    for (int i = 0; i < n; i++) u->down_attention[i] = type[i];
    config_words(c, "up_block_types", up, up_types, n, type);
    for (int i = 0; i < n; i++) u->up_attention[i] = type[i];
    config_ints(c, "layers_per_block", 2, 1, MOST_LAYERS, n, u->layers);
    config_ints(c, "attention_head_dim", 8, 1, MOST_HEADS, n, u->heads);
    config_ints(c, "cross_attention_dim", 1280, 1, 65536, n, u->context);
    config_ints(c, "transformer_layers_per_block", 1, 1, MOST_LAYERS, n, u->depth);
    config_bools(c, "only_cross_attention", false, n, u->only_cross);
}

static void numbers(UnetConfig *u, Config *c)
{
    u->sample_size  = sample_size(c);
    u->in_channels  = config_int(c, "in_channels", 4, 1, 1024);
    u->out_channels = config_int(c, "out_channels", 4, 1, 1024);
    u->groups       = config_int(c, "norm_num_groups", 32, 1, WIDEST);
    u->center_input = config_bool(c, "center_input_sample", false);
    u->flip_sin_to_cos = config_bool(c, "flip_sin_to_cos", true);
    u->linear_projection = config_bool(c, "use_linear_projection", false);
    u->freq_shift   = config_number(c, "freq_shift", 0, 0, WIDEST);
    u->eps          = config_number(c, "norm_eps", 1e-5, 0, 1);
    u->mid_scale    = config_number(c, "mid_block_scale_factor", 1, 1e-6, 1e6);
    u->conv_in_kernel  = config_int(c, "conv_in_kernel", 3, 1, 15);
    u->conv_out_kernel = config_int(c, "conv_out_kernel", 3, 1, 15);
    u->downsample_padding = config_int(c, "downsample_padding", 1, 0, 1);
    u->mid          = config_word(c, "mid_block_type", 0, mid_types) == 0;
    u->scale_shift  = config_word(c, "resnet_time_scale_shift", 0, time_types) == 1;
    config_word(c, "act_fn", 0, act_types);
}

/* Does any transformer work at this level?  Up blocks are listed from the deepest level up. */
static bool attends(const UnetConfig *u, int level)
{
    return u->down_attention[level] || u->up_attention[u->levels - 1 - level] || (u->mid && level == u->levels - 1);
}

/* Every norm's input is one level's width or the sum of two (a skip joined on), so the levels are all there is to divide. */
static void check(const UnetConfig *u, Config *c)
{
    int context = 0;
    for (int i = 0; i < u->levels && c->status->code == OK; i++) {
        int C = u->channels[i];
        if (C % u->groups) config_fail(c, "block_out_channels", "%d is not a multiple of norm_num_groups %d", C, u->groups);
        if (!attends(u, i)) continue;
        if (C % u->heads[i]) config_fail(c, "attention_head_dim", "%d channels cannot be shared by %d heads", C, u->heads[i]);
        if (context && u->context[i] != context)
            config_fail(c, "cross_attention_dim", "one text serves all levels, which want widths %d and %d", context, u->context[i]);
        context = u->context[i];
    }
    if (u->conv_in_kernel % 2 == 0)  config_fail(c, "conv_in_kernel", "expected an odd number, found %d", u->conv_in_kernel);
    if (u->conv_out_kernel % 2 == 0) config_fail(c, "conv_out_kernel", "expected an odd number, found %d", u->conv_out_kernel);
    if (u->freq_shift >= u->channels[0] / 2)
        config_fail(c, "freq_shift", "expected less than half of block_out_channels[0], found %g of %d", u->freq_shift, u->channels[0] / 2);
}

bool unet_config(UnetConfig *u, const Json *j, const char *file, Status *s)
{
    Config c;
    memset(u, 0, sizeof *u);
    config_begin(&c, j, file, "UNet2DConditionModel", s);
    if (s->code == OK) refuse_variants(&c);
    if (s->code == OK) levels(u, &c);
    if (s->code == OK) numbers(u, &c);
    if (s->code == OK) check(u, &c);
    return config_end(&c);
}
