/* adm.h -- the ADM (guided-diffusion) UNet: Dhariwal and Nichol 2021, arXiv:2105.05233, all variants of the released models.
 *
 *     emb = L2(silu(L0([cos(t f), sin(t f)]))) + label_emb[y]        f_i = 10000^(-i/half)
 *     residual blocks (resblock.h, scale and shift or added), resampling inside them or by convolutions
 *     attention blocks (attention.h) where image_size / r is the map's reduction, r of attention_resolutions
 *
 * Pixels in [-1,1], NCHW, any size that is a multiple of 2^(levels-1); t is the time of the 1000 original steps, fractions allowed.
 * Module paths and names are the released checkpoints': time_embed, label_emb, input_blocks.N, middle_block, output_blocks.N, out. */
#ifndef NN_ADM_H
#define NN_ADM_H
#include "nn/unet.h"

typedef struct {
    int  image_size, in_channels, out_channels;           /* out: of the UNet 3, or 6 with a learned variance; of a classifier its classes */
    int  channels, levels, width[UNET_LEVELS];            /* num_channels; int(channel_mult num_channels), the finest first */
    int  layers;                                          /* num_res_blocks */
    bool attention[UNET_LEVELS];
    int  heads, heads_up, head_width;                     /* head_width > 0 (num_head_channels) overrides both others */
    bool scale_shift, updown, new_order, learned_variance;
    int  classes, groups;                                 /* classes 0: unconditional */
} AdmConfig;

/* config.json with kind = adm_unet | adm_classifier and the released scripts' flag names; a missing flag takes the scripts'
 * default.  What says how to sample (diffusion_steps, noise_schedule, timestep_respacing, ...) is not read here.
 * E_FORMAT names the field and its legal range. */
bool adm_config(AdmConfig *c, const Json *j, const char *file, Status *s);
bool adm_build (Unet *u, const AdmConfig *c, Arena *weights, Status *s);
/* input_blocks and middle_block, then "out.0" with its silu: the classifier's, whose u->mid_end is the end of them all. */
bool adm_encoder_build(Unet *u, const AdmConfig *c, Arena *weights, Status *s);
#endif
