/* unet.h -- UNet2DConditionModel (Stable Diffusion 1.x, 2.x and any legal configuration), forward and backward.
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
    UnetConfig config;
    Linear time1, time2;
    Steps steps;                                          /* conv_in ... conv_out */
    int mid_end;                                          /* steps 0 .. mid_end-1 end with the middle block (or the deepest down block) */
    bool float_waves;                                     /* the time embedding's sines in float32, as the reference library has them: off;
                                                             only for comparing with data it made so */
    int context;                                          /* width of the text; 0: no step reads one */
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
    Shape z;                                              /* of the latent, NCHW */
} UnetPass;

/* z[N,Cin,H,W], t[N], context[N,T,D] -> eps[N,Cout,H,W].  Borders are NCHW.  eps may be empty: then the pass ends
 * after the last step that holds a tap.  With r->keep != r->temp the pass can be run backward; recompute: remember
 * only each step's input. */
void unet_forward (Run *r, const Unet *u, Tensor eps, UnetPass *p, Tensor z, const double *t, Tensor context, bool recompute);
/* deps may be empty: the gradient then comes from the taps alone and starts at the last that pulls.  dz (written) and
 * dcontext (written) may be empty.  Parameter gradients are added to where they exist. */
void unet_backward(Run *r, Unet *u, Tensor dz, Tensor dcontext, Tensor deps, UnetPass *p);

/* Every site in execution order, shapes for one image of this latent size; "time_embedding" comes first. */
void unet_sites(const Unet *u, int H, int W, int tokens, SiteVisit *visit, void *self);
#endif
