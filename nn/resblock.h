/* resblock.h -- the residual block of UNet and VAE (ResnetBlock2D) and of the pixel-space networks, on [N,H,W,C] maps.
 *     h = conv1(silu(groupnorm(x))) + time(s)                    s = silu(time embedding) [N,4*C0]; no time in the VAE
 *     y = (shortcut(x) + conv2(silu(groupnorm(h)))) / divide      shortcut: 1x1 where the width changes, else x itself
 * scale_shift: time(s) is [scale, shift], nothing is added before the second norm, and
 *     y = (shortcut(x) + conv2(silu(groupnorm(h) (1 + scale) + shift))) / divide
 * Resampling (ADM): silu(groupnorm(x)), before conv1, and the x that the shortcut takes are both doubled (nearest) or halved
 * (means of 2x2 pixels).
 * Site: SITE_FEATURE on "PATH.conv2" is that convolution's output before the shortcut joins it ("PATH.out_layers.3" in ADM). */
#ifndef NN_RESBLOCK_H
#define NN_RESBLOCK_H
#include "nn/layers.h"

typedef enum { RES_SAME, RES_UP, RES_DOWN } ResSize;
/*   RES_DIFFUSERS  norm1          conv1          time_emb_proj   norm2           conv2           conv_shortcut
 *   RES_DDPM       norm1          conv1          temb_proj       norm2           conv2           nin_shortcut
 *   RES_ADM        in_layers.0    in_layers.2    emb_layers.1    out_layers.0    out_layers.3    skip_connection */
typedef enum { RES_DIFFUSERS, RES_DDPM, RES_ADM } ResNames;
typedef struct {
    Norm norm1, norm2;
    Conv conv1, conv2, shortcut;                          /* shortcut absent when the width stays */
    Linear time;                                          /* absent in the VAE */
    bool scale_shift;
    double divide;                                        /* output_scale_factor */
    ResSize resample;
    ResNames names;
    const char *conv2_path;
} ResBlock;

/* What backward needs: the input, the first convolution's output, and the statistics of both norms; the inputs of the
 * convolutions are computed again when a weight gradient wants them. */
typedef struct { NormCache norm1, norm2; Tensor scale, shift, silu_temb; } ResBlockCache;

/* time 0: none.  No resampling, diffusers' names: set the fields for others. */
ResBlock resblock_make(int in, int out, int time, int groups, double eps, bool scale_shift, double divide);
bool  resblock_fits (const ResBlock *l, Shape x);         /* can this map be resampled?  Halving wants even sizes. */
Shape resblock_shape(const ResBlock *l, Shape x);         /* of y */
const char *resblock_name(const ResBlock *l, int i);      /* in the order of the table above */
void resblock_walk(ResBlock *l, Walk *w);
void resblock_forward (Run *r, const ResBlock *l, Tensor y, ResBlockCache *c, Tensor x, Tensor silu_temb);   /* y empty: only the cache is wanted */
/* dx written, may be empty; dsilu_temb added to, may be empty. */
void resblock_backward(Run *r, ResBlock *l, Tensor dx, Tensor dsilu_temb, Tensor dy, const ResBlockCache *c);
#endif
