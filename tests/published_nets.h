/* published_nets.h -- the published pixel-space networks: config.json of each, its counts, and the shape of h at its own size. */
#ifndef TESTS_PUBLISHED_NETS_H
#define TESTS_PUBLISHED_NETS_H
#include <stddef.h>

#define RELEASED "\"learn_sigma\":true,\"resblock_updown\":true,\"use_scale_shift_norm\":true,\"attention_resolutions\":[32,16,8],\"diffusion_steps\":1000"
#define ADM_OF(size, channels, blocks) "{\"kind\":\"adm_unet\",\"image_size\":" #size ",\"num_channels\":" #channels ",\"num_res_blocks\":" #blocks ","
#define SCORER_OF(size, depth) "{\"kind\":\"adm_classifier\",\"image_size\":" #size ",\"num_channels\":128,\"num_res_blocks\":" #depth \
    ",\"attention_resolutions\":[32,16,8],\"num_head_channels\":64,\"resblock_updown\":true,\"use_scale_shift_norm\":true,\"pool\":\"attention\",\"out_channels\":1000}"

typedef struct { const char *name, *config; size_t parameters; int tensors, side, h[3]; } Published;
static const Published published[] = {
    { "adm64", ADM_OF(64, 192, 3) "\"num_head_channels\":64,\"class_cond\":true,\"use_new_attention_order\":true,\"noise_schedule\":\"cosine\"," RELEASED "}",
      295904454, 541, 64, { 768, 8, 8 } },
    { "adm128", ADM_OF(128, 256, 2) "\"num_heads\":4,\"class_cond\":true,\"noise_schedule\":\"linear\"," RELEASED "}", 421529606, 493, 128, { 1024, 8, 8 } },
    { "adm256class", ADM_OF(256, 256, 2) "\"num_head_channels\":64,\"class_cond\":true,\"noise_schedule\":\"linear\"," RELEASED "}",
      553838086, 567, 256, { 1024, 8, 8 } },
    { "adm256", ADM_OF(256, 256, 2) "\"num_head_channels\":64,\"class_cond\":false,\"noise_schedule\":\"linear\"," RELEASED "}",
      552814086, 566, 256, { 1024, 8, 8 } },
    { "adm512", ADM_OF(512, 256, 2) "\"num_head_channels\":64,\"class_cond\":true,\"noise_schedule\":\"linear\"," RELEASED "}",
      558997638, 645, 512, { 1024, 8, 8 } },
    { "lsun", ADM_OF(256, 256, 2) "\"num_head_channels\":64,\"dropout\":0.1,\"noise_schedule\":\"linear\"," RELEASED "}", 552814086, 566, 256, { 1024, 8, 8 } },
    { "ffhq", ADM_OF(256, 128, 1) "\"num_head_channels\":64,\"learn_sigma\":true,\"resblock_updown\":true,\"attention_resolutions\":[16],\"noise_schedule\":\"linear\"}",
      93563910, 362, 256, { 512, 8, 8 } },
    { "ddpm256", "{\"kind\":\"ddpm_unet\",\"image_size\":256,\"ch\":128,\"ch_mult\":[1,1,2,2,4,4],\"num_res_blocks\":2,\"attn_resolutions\":[16],"
      "\"dropout\":0.0,\"resamp_with_conv\":true}", 113673219, 450, 256, { 512, 8, 8 } },
    { "classifier64",  SCORER_OF(64, 4),  65438568, 307, 64,  { 512, 8, 8 } },
    { "classifier128", SCORER_OF(128, 2), 42568040, 221, 128, { 512, 8, 8 } },
    { "classifier256", SCORER_OF(256, 2), 54096360, 249, 256, { 512, 8, 8 } },
    { "classifier512", SCORER_OF(512, 2), 54448360, 281, 512, { 512, 8, 8 } },
};
enum { PUBLISHED = sizeof published / sizeof *published };
#endif
