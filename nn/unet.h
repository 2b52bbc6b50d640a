/* unet.h -- the network that predicts noise, forward and backward: UNet2DConditionModel (Stable Diffusion 1.x, 2.x and any legal
 * configuration, built here), and the pixel-space networks of adm.h and ddpm_unet.h, which are other lists of the same steps.
 * Module paths and tensor names are the checkpoint's. */
#ifndef NN_UNET_H
#define NN_UNET_H
#include "nn/param.h"
#include "nn/steps.h"
#include "tensor/json.h"

enum { UNET_LEVELS = 8 };
/* Lists are per level, the finest first, but for up_attention: the up blocks in their order, the deepest level first. */
typedef struct {
    int  sample_size, in_channels, out_channels, levels;  /* sample_size 0: the file does not say */
    int  channels[UNET_LEVELS], layers[UNET_LEVELS];
    int  heads[UNET_LEVELS];                              /* "attention_head_dim": despite its name the number of heads */
    int  context[UNET_LEVELS], depth[UNET_LEVELS];        /* width of the text; transformer blocks per transformer */
    bool down_attention[UNET_LEVELS], up_attention[UNET_LEVELS], only_cross[UNET_LEVELS], mid;
    bool center_input, flip_sin_to_cos, linear_projection, scale_shift;
    int  groups, conv_in_kernel, conv_out_kernel, downsample_padding;
    double freq_shift, eps, mid_scale;
} UnetConfig;

typedef struct Unet Unet;
struct Unet {
    UnetConfig config;                                    /* of a pixel-space network: what it shares with Stable Diffusion's */
    int wave;                                             /* C0: the sines and cosines of t; the time embedding has 4 C0 numbers */
    Linear time1, time2;
    Param labels;                                         /* [classes,4*C0], a row of which is added to the time embedding; or absent */
    const char *time_names[3];                            /* "time_embedding", "linear_1", "linear_2"; the first is SITE_TIME's path */
    int classes;                                          /* 0: no class; else `context` is [N,1], the numbers of the classes */
    bool learned_variance;                                /* the output is eps, then v of the variance: twice the channels of z */
    int multiple;                                         /* height and width of the input must be multiples of it; 1: any size */
    Steps steps;                                          /* conv_in ... conv_out */
    int mid_end;                                          /* steps 0 .. mid_end-1 end with the middle block (or the deepest down block);
                                                             steps.step[mid_end-1].ends is its path: the site of h */
    bool float_waves;                                     /* the time embedding's sines in float32, as the reference library has them: off;
                                                             only for comparing with data it made so */
    int context;                                          /* width of the text; 0: no step reads one; 1 when there are classes */
};

bool unet_config(UnetConfig *c, const Json *j, const char *file, Status *s);  /* E_FORMAT names the field and its legal range */
bool unet_build (Unet *u, const UnetConfig *c, Arena *weights, Status *s);    /* structure and names; no numbers yet */
void unet_walk  (void *unet, Walk *w);                                        /* a WalkModel */
/* 3x3 kernels are to be held transformed for latents of this size, on maps of at least `least` pixels where it pays (conv.h,
 * conv_plan): 16/9 of the memory for a faster network.  Called before values are loaded; later, a number other than 0 says
 * that some are lost, and all must be loaded anew.  INT_MAX: none.  Optional. */
int  unet_plan(Unet *u, int H, int W, int least);

typedef struct {
    StepsPass steps;
    Tensor waves, h1, a1, temb, silu_temb;                /* sines and cosines of t; linear_1's output; its silu */
    Tensor context;
    int *label;                                           /* [N], when there are classes */
    Shape z;                                              /* of the latent, NCHW */
} UnetPass;

/* z[N,Cin,H,W], t[N], context[N,T,D] (or classes [N,1]) -> eps[N,Cout,H,W].  Borders are NCHW.  eps may be empty: then the pass ends
 * after the last step that holds a tap.  With r->keep != r->temp the pass can be run backward; recompute: remember
 * only each step's input. */
void unet_forward (Run *r, const Unet *u, Tensor eps, UnetPass *p, Tensor z, const double *t, Tensor context, bool recompute);
/* deps may be empty: the gradient then comes from the taps alone and starts at the last that pulls.  dz (written) and
 * dcontext (written) may be empty.  Parameter gradients are added to where they exist. */
void unet_backward(Run *r, Unet *u, Tensor dz, Tensor dcontext, Tensor deps, UnetPass *p);

/* The two halves, for h-space: up to the end of the middle block, h [N,C,h,w] NCHW; and the rest on any h of that shape, with
 * the encoder's skips and time embedding.  unet_decode of unet_encode's h is unet_forward, bit for bit.
 * `encoded` must stay alive: with keep == temp it stays in temp until the caller releases a mark of its own, and one encoded
 * pass may be decoded any number of times.  Its context serves both halves.  h may be empty (only the pass is wanted). */
void unet_encode(Run *r, const Unet *u, Tensor h, UnetPass *p, Tensor z, const double *t, Tensor context, bool recompute);
void unet_encode_backward(Run *r, Unet *u, Tensor dz, Tensor dcontext, Tensor dh, UnetPass *p);     /* as unet_backward */
Shape unet_h_shape(const Unet *u, int N, int H, int W);   /* [N,C,h,w] for an input of H x W; no sizes when that is impossible */
void unet_decode(Run *r, const Unet *u, Tensor eps, UnetPass *p, const UnetPass *encoded, Tensor h, bool recompute);
/* dh written, may be empty: then parameters, or taps, are what is wanted.  The skips' gradients, which would go to the encoder, end here. */
void unet_decode_backward(Run *r, Unet *u, Tensor dh, Tensor deps, UnetPass *p);

/* Every site in execution order, shapes for one image of this latent size; "time_embedding" comes first. */
void unet_sites(const Unet *u, int H, int W, int tokens, SiteVisit *visit, void *self);
#endif
