/* vae_config.c -- vae/config.json -> VaeConfig. */
#include <string.h>
#include "nn/config.h"
#include "nn/vae.h"

enum { WIDEST = 16384, MOST_LAYERS = 16 };
static const char *const down_types[] = { "DownEncoderBlock2D", NULL };
static const char *const up_types[]   = { "UpDecoderBlock2D", NULL };
static const char *const act_types[]  = { "silu", "swish", NULL };

/* The reference's number, or null for none. */
static double factor(Config *c, const char *field, double missing, double low, double high)
{
    const Json *j = json_get(c->json, field);
    if (!j || j->kind != JSON_NULL) return config_number(c, field, missing, low, high);
    config_ignore(c, field);
    return missing;
}

static int sample_size(Config *c)
{
    const Json *j = json_get(c->json, "sample_size");
    if (!j || j->kind != JSON_NULL) return config_int(c, "sample_size", 32, 1, 65536);
    config_ignore(c, "sample_size");
    return 0;
}

bool vae_config(VaeConfig *v, const Json *j, const char *file, Status *s)
{
    static const int channels[] = { 64 }, type[VAE_LEVELS] = {0};
    int ignored[VAE_LEVELS];
    Config c;
    memset(v, 0, sizeof *v);
    config_begin(&c, j, file, "AutoencoderKL", s);
    if (s->code != OK) return false;
    v->levels         = config_list(&c, "block_out_channels", channels, 1, 1, WIDEST, VAE_LEVELS, v->channels);
    config_words(&c, "down_block_types", type, down_types, v->levels, ignored);
    config_words(&c, "up_block_types", type, up_types, v->levels, ignored);
    v->layers         = config_int(&c, "layers_per_block", 1, 1, MOST_LAYERS);
    v->in_channels    = config_int(&c, "in_channels", 3, 1, 1024);
    v->out_channels   = config_int(&c, "out_channels", 3, 1, 1024);
    v->latent         = config_int(&c, "latent_channels", 4, 1, 1024);
    v->groups         = config_int(&c, "norm_num_groups", 32, 1, WIDEST);
    v->sample_size    = sample_size(&c);
    v->quant_conv      = config_bool(&c, "use_quant_conv", true);
    v->post_quant_conv = config_bool(&c, "use_post_quant_conv", true);
    v->mid_attention   = config_bool(&c, "mid_block_add_attention", true);
    v->scaling_factor = factor(&c, "scaling_factor", 0.18215, 1e-6, 1e6);
    v->shift_factor   = factor(&c, "shift_factor", 0, -1e6, 1e6);
    config_word(&c, "act_fn", 0, act_types);
    config_ignore(&c, "force_upcast");                    /* half precision only */
    config_only(&c, "latents_mean", "null");
    config_only(&c, "latents_std", "null");
    for (int i = 0; i < v->levels && s->code == OK; i++)
        if (v->channels[i] % v->groups)
            config_fail(&c, "block_out_channels", "%d is not a multiple of norm_num_groups %d", v->channels[i], v->groups);
    return config_end(&c);
}
