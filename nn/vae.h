/* vae.h -- AutoencoderKL: pictures <-> latents, forward and backward.  Borders are NCHW; pictures in [-1,1].
 * The scaling factor is the caller's: z = factor * sample; decode takes z / factor. */
#ifndef NN_VAE_H
#define NN_VAE_H
#include "nn/param.h"
#include "nn/steps.h"
#include "nn/unet.h"

enum { VAE_LEVELS = 8 };
typedef struct {
    int  in_channels, out_channels, latent, levels, channels[VAE_LEVELS], layers, groups, sample_size;
    bool quant_conv, post_quant_conv, mid_attention;
    double scaling_factor, shift_factor;
} VaeConfig;

typedef struct { VaeConfig config; Steps encoder, decoder; } Vae;     /* the 1x1 quant convolutions are the last and the first step */
typedef struct { StepsPass steps; Shape in; } VaePass;   /* in: of the input, NCHW */

bool vae_config(VaeConfig *c, const Json *j, const char *file, Status *s);
bool vae_build (Vae *v, const VaeConfig *c, Arena *weights, Status *s);
void vae_walk  (void *vae, Walk *w);
int  vae_plan (Vae *v, int H, int W, int least);                              /* as unet_plan; picture size */
int  vae_factor(const VaeConfig *c);                                          /* picture pixels per latent pixel: 2^(levels-1) */

/* image[N,3,H,W] -> moments[N,2L,h,w] (mean, then log variance, unclamped); h = H / 2^(levels-1) rounded down at each level.
 * moments or image may be empty when only taps want something; backward as in unet.h. */
void vae_encode         (Run *r, const Vae *v, Tensor moments, VaePass *p, Tensor image, bool recompute);
void vae_encode_backward(Run *r, Vae *v, Tensor dimage, Tensor dmoments, VaePass *p);
void vae_decode         (Run *r, const Vae *v, Tensor image, VaePass *p, Tensor z, bool recompute);
void vae_decode_backward(Run *r, Vae *v, Tensor dz, Tensor dimage, VaePass *p);

/* sample = mean + exp(clamp(logvar,-30,20)/2) noise; noise empty: the mode (mean).  mean, logvar (clamped), sample [N,L,h,w]; each may be empty. */
void vae_posterior     (Run *r, Tensor sample, Tensor mean, Tensor logvar, Tensor moments, Tensor noise);
void vae_posterior_back(Run *r, Tensor dmoments, Tensor dsample, Tensor moments, Tensor noise);  /* written; the clamp passes nothing outside */
/* Sites of the encoder and then the decoder, as in unet_sites, for a picture of this size. */
void vae_sites(const Vae *v, int H, int W, SiteVisit *visit, void *self);
#endif
