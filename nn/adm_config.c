/* adm_config.c -- config.json -> AdmConfig.  The flags' defaults are those of the released scripts (script_util). */
#include <string.h>
#include "nn/adm.h"
#include "nn/config.h"

enum { WIDEST = 16384, MOST_LAYERS = 16, MOST_HEADS = 1024, MOST_CLASSES = 1 << 20, RELEASED_CLASSES = 1000 };
static const char *const kinds[] = { "adm_unet", "adm_classifier", NULL };
enum { UNET, CLASSIFIER };

/* How to sample, and how the network was trained: no effect on what it computes. */
static const char *const idle[] = {
    "dropout", "use_checkpoint", "use_fp16", "diffusion_steps", "noise_schedule", "timestep_respacing", "use_kl", "predict_xstart",
    "rescale_timesteps", "rescale_learned_sigmas", "clip_denoised", "sigma_small", "classifier_scale", "use_ddim", "batch_size", "num_samples",
};

typedef struct { int image_size, levels; double mult[7]; } Multipliers;
static const Multipliers released[] = {
    { 512, 7, { 0.5, 1, 1, 2, 2, 4, 4 } }, { 256, 6, { 1, 1, 2, 2, 4, 4 } }, { 128, 5, { 1, 1, 2, 3, 4 } }, { 64, 4, { 1, 2, 3, 4 } },
};

static void widths(AdmConfig *a, Config *c)
{
    double mult[UNET_LEVELS];
    const Multipliers *usual = NULL;
    for (size_t i = 0; i < sizeof released / sizeof *released; i++)
        if (released[i].image_size == a->image_size) usual = &released[i];
    int n = config_numbers(c, "channel_mult", usual ? usual->mult : NULL, usual ? usual->levels : 0, 1e-3, 1e3, UNET_LEVELS, mult);
    if (!n && c->status->code == OK)
        config_fail(c, "channel_mult", "must be given for image_size %d: only 64, 128, 256 and 512 have usual ones", a->image_size);
    a->levels = n;
    for (int i = 0; i < n; i++) a->width[i] = (int)(mult[i] * a->channels);
}

/* Attention works at reductions image_size / r (integer division), for each r listed. */
static void attentions(AdmConfig *a, Config *c, int kind)
{
    static const double usual[2][3] = { { 16, 8 }, { 32, 16, 8 } };
    double r[UNET_LEVELS];
    int n = config_numbers(c, "attention_resolutions", usual[kind], kind == UNET ? 2 : 3, 1, 65536, UNET_LEVELS, r);
    for (int i = 0; i < n; i++)
        for (int level = 0; level < a->levels; level++)
            if (a->image_size / (int)r[i] == 1 << level) a->attention[level] = true;
}

static void refuse_pools(Config *c)
{
    const Json *pool = json_get(c->json, "pool");
    config_ignore(c, "pool");
    if (pool && !json_is(pool, "attention"))
        config_fail(c, "pool", "\"%.40s\" is not supported: only \"attention\" is, as in every released classifier "
                    "(not \"adaptive\", \"spatial\", \"spatial_v2\")", pool->kind == JSON_STRING ? pool->text : "?");
}

static int classes_of(Config *c)
{
    const Json *given = json_get(c->json, "num_classes");
    int n = 0;
    bool some = given && given->kind != JSON_NULL;
    if (some) n = config_int(c, "num_classes", 0, 1, MOST_CLASSES);
    else config_ignore(c, "num_classes");
    return config_bool(c, "class_cond", some) ? (some ? n : RELEASED_CLASSES) : 0;
}

static void numbers(AdmConfig *a, Config *c, int kind)
{
    a->image_size  = config_int(c, "image_size", 64, 1, 65536);
    a->channels    = config_int(c, "num_channels", 128, 2, WIDEST);
    a->layers      = config_int(c, "num_res_blocks", 2, 1, MOST_LAYERS);
    a->in_channels = config_int(c, "in_channels", 3, 1, 1024);
    a->heads       = config_int(c, "num_heads", 4, 1, MOST_HEADS);
    a->heads_up    = config_int(c, "num_heads_upsample", -1, -1, MOST_HEADS);
    a->head_width  = config_int(c, "num_head_channels", kind == UNET ? -1 : 64, -1, WIDEST);
    a->groups      = config_int(c, "norm_groups", 32, 1, WIDEST);
    a->scale_shift = config_bool(c, "use_scale_shift_norm", true);
    a->updown      = config_bool(c, "resblock_updown", kind == CLASSIFIER);
    a->new_order   = config_bool(c, "use_new_attention_order", false);
    a->learned_variance = config_bool(c, "learn_sigma", false) && kind == UNET;
    a->classes     = classes_of(c);
    if (a->heads_up < 1) a->heads_up = a->heads;
    int out = kind == CLASSIFIER ? RELEASED_CLASSES : a->learned_variance ? 6 : 3;
    a->out_channels = config_int(c, "out_channels", out, kind == CLASSIFIER ? 1 : out, kind == CLASSIFIER ? MOST_CLASSES : out);
    if (!config_bool(c, "conv_resample", true)) config_fail(c, "conv_resample", "must be true: no released model resamples without convolutions");
    widths(a, c);
    attentions(a, c, kind);
}

static void check(const AdmConfig *a, Config *c, int kind)
{
    for (int i = 0; i < a->levels && c->status->code == OK; i++) {
        int C = a->width[i];
        if (C < 1 || C > WIDEST) config_fail(c, "channel_mult", "%d channels at level %d: expected 1 to %d", C, i, WIDEST);
        else if (C % a->groups) config_fail(c, "channel_mult", "%d channels at level %d are not a multiple of norm_groups %d", C, i, a->groups);
        if (!a->attention[i] && i < a->levels - 1) continue;
        if (a->head_width > 0 && C % a->head_width)
            config_fail(c, "num_head_channels", "%d channels cannot be cut into heads of %d", C, a->head_width);
        if (a->head_width < 1 && (C % a->heads || C % a->heads_up))
            config_fail(c, "num_heads", "%d channels cannot be shared by %d and %d heads", C, a->heads, a->heads_up);
    }
    if (!a->head_width || (kind == CLASSIFIER && a->head_width < 1))
        config_fail(c, "num_head_channels", "expected %sat least 1, found %d", kind == UNET ? "-1 or " : "", a->head_width);
    if (a->image_size % (1 << (a->levels ? a->levels - 1 : 0)))
        config_fail(c, "image_size", "%d cannot be halved %d times", a->image_size, a->levels - 1);
}

bool adm_config(AdmConfig *a, const Json *j, const char *file, Status *s)
{
    Config c;
    memset(a, 0, sizeof *a);
    config_begin(&c, j, file, "", s);
    if (s->code != OK) return false;
    int kind = config_word(&c, "kind", UNET, kinds);
    if (kind < 0) config_fail(&c, "kind", "expected \"adm_unet\" or \"adm_classifier\", found null");
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) config_ignore(&c, idle[i]);
    config_only(&c, "dims", "2");
    if (s->code == OK && kind == CLASSIFIER) refuse_pools(&c);
    if (s->code == OK) numbers(a, &c, kind);
    if (s->code == OK) check(a, &c, kind);
    return config_end(&c);
}
