/* ddpm_unet.h -- the DDPM UNet of the CelebA-HQ and LSUN family: Ho et al. 2020, arXiv:2006.11239.
 *
 *     emb = dense.1(silu(dense.0([sin(t f), cos(t f)])))              f_i = 10000^(-i/(half-1))
 *     residual blocks with the embedding added, norms with eps 1e-6, attention of one head, downsampling that pads one column
 *     at the right and one row at the bottom; eps alone, no variance
 *
 * Pixels in [-1,1], NCHW, any size that is a multiple of 2^(levels-1).  Module paths and names are the published checkpoints':
 * temb.dense, conv_in, down.L, mid, up.L (executed from the highest L to 0), norm_out, conv_out. */
#ifndef NN_DDPM_UNET_H
#define NN_DDPM_UNET_H
#include "nn/unet.h"

typedef struct {
    int  image_size, in_channels, out_channels;
    int  channels, levels, width[UNET_LEVELS];            /* ch; ch ch_mult, the finest first */
    int  layers, groups;                                  /* num_res_blocks; norm_groups */
    bool attention[UNET_LEVELS];                          /* where the map of the native size is in attn_resolutions */
} DdpmUnetConfig;

bool ddpm_unet_config(DdpmUnetConfig *c, const Json *j, const char *file, Status *s);      /* kind = ddpm_unet */
bool ddpm_unet_build (Unet *u, const DdpmUnetConfig *c, Arena *weights, Status *s);
#endif
