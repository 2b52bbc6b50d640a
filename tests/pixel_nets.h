/* pixel_nets.h -- pixel-space networks small enough to differentiate numerically.  Pictures of 4x4; every norm has groups of
 * at least two channels (over one channel a bias before it has no gradient). */
#ifndef TESTS_PIXEL_NETS_H
#define TESTS_PIXEL_NETS_H
#include "nn/adm_classifier.h"
#include "nn/ddpm_unet.h"
#include "tests/tiny_nets.h"

/* Convolutions resample, the embedding is added, classes, new order, other heads on the way up, a fractional multiplier. */
static const char *const ADM_CONV =
    "{\"kind\":\"adm_unet\",\"image_size\":4,\"num_channels\":8,\"num_res_blocks\":1,\"channel_mult\":[0.5,1],\"attention_resolutions\":[2],"
    "\"num_heads\":2,\"num_heads_upsample\":4,\"use_scale_shift_norm\":false,\"use_new_attention_order\":true,\"num_classes\":3,\"norm_groups\":2}";
/* Residual blocks resample, scale and shift, legacy order, heads by width, learned variance. */
static const char *const ADM_UPDOWN =
    "{\"kind\":\"adm_unet\",\"image_size\":4,\"num_channels\":4,\"num_res_blocks\":1,\"channel_mult\":\"1,2\",\"attention_resolutions\":\"2\","
    "\"num_head_channels\":4,\"resblock_updown\":true,\"learn_sigma\":true,\"norm_groups\":2}";
/* The other pairs: residual blocks resample and the embedding is added; legacy order by number of heads; two blocks a level. */
static const char *const ADM_MIXED =
    "{\"image_size\":4,\"num_channels\":4,\"num_res_blocks\":2,\"channel_mult\":[1,1],\"attention_resolutions\":[4],\"num_heads\":2,"
    "\"use_scale_shift_norm\":false,\"resblock_updown\":true,\"class_cond\":false,\"num_classes\":9,\"norm_groups\":2}";
static const char *const DDPM_TINY =
    "{\"kind\":\"ddpm_unet\",\"image_size\":4,\"ch\":4,\"ch_mult\":[1,2],\"num_res_blocks\":1,\"attn_resolutions\":[2],\"norm_groups\":2}";
static const char *const CLASSIFIER_TINY =
    "{\"kind\":\"adm_classifier\",\"image_size\":4,\"num_channels\":4,\"num_res_blocks\":1,\"channel_mult\":[1,2],\"attention_resolutions\":[2],"
    "\"num_head_channels\":4,\"out_channels\":5,\"pool\":\"attention\",\"norm_groups\":2}";

static inline void pixel_unet(Unet *u, const char *text, Arena *a, Status *s)
{
    AdmConfig c;
    DdpmUnetConfig d;
    const Json *j = tiny_json(a, text, s);
    if (strstr(text, "ddpm_unet")) {
        if (ddpm_unet_config(&d, j, "config.json", s)) ddpm_unet_build(u, &d, a, s);
    } else if (adm_config(&c, j, "config.json", s)) adm_build(u, &c, a, s);
    if (s->code == OK) params_randomise(unet_walk, u, a, 1, s);
}

static inline void pixel_classifier(AdmClassifier *net, const char *text, Arena *a, Status *s)
{
    AdmConfig c;
    if (adm_config(&c, tiny_json(a, text, s), "config.json", s)) adm_classifier_build(net, &c, a, s);
    if (s->code == OK) params_randomise(adm_classifier_walk, net, a, 1, s);
}
#endif
