/* unet.h -- UNet2DConditionModel (Stable Diffusion 1.x, 2.x and any legal configuration), forward and backward.
 * Module paths and tensor names are the checkpoint's. */
#ifndef NN_UNET_H
#define NN_UNET_H
#include "nn/param.h"
#include "nn/steps.h"
#include "tensor/json.h"

enum { UNET_LEVELS = 8 };
typedef struct {
    int  sample_size, in_channels, out_channels, levels;
    int  channels[UNET_LEVELS], layers[UNET_LEVELS], heads[UNET_LEVELS], context[UNET_LEVELS], depth[UNET_LEVELS];
    bool down_attention[UNET_LEVELS], up_attention[UNET_LEVELS], mid;
    bool center_input, flip_sin_to_cos, linear_projection, only_cross_attention, scale_shift;
    int  groups, conv_in_kernel, conv_out_kernel, downsample_padding;
    double freq_shift, eps, mid_scale;
} UnetConfig;

typedef struct Unet Unet;
struct Unet {
    UnetConfig config;
    Linear time1, time2;
    Steps steps;                                          /* conv_in ... conv_out */
};

bool unet_config(UnetConfig *c, const Json *j, const char *file, Status *s);  /* E_FORMAT names the field and its legal range */
bool unet_build (Unet *u, const UnetConfig *c, Arena *weights, Status *s);    /* structure and names; no numbers yet */
void unet_walk  (void *unet, Walk *w);                                        /* a WalkModel */
/* Transformed 3x3 kernels for images of this latent size, where they pay (see conv.h).  Optional. */
bool unet_prepare(Run *r, Unet *u, Arena *weights, int H, int W);

typedef struct {
    StepsPass steps;
    Tensor time, h1, a1, temb, silu_temb;
    Tensor z, context;
} UnetPass;

/* z[N,Cin,H,W], t[N], context[N,T,D] -> eps[N,Cout,H,W].  Borders are NCHW.  eps may be empty: then the pass ends
 * after the last step that holds a tap.  With r->keep != r->temp the pass can be run backward; recompute: remember
 * only each step's input. */
void unet_forward (Run *r, const Unet *u, Tensor eps, UnetPass *p, Tensor z, const double *t, Tensor context, bool recompute);
/* deps may be empty: the gradient then comes from the taps alone and starts at the last that pulls.  dz (written) and
 * dcontext (written) may be empty.  Parameter gradients are added to where they exist. */
void unet_backward(Run *r, Unet *u, Tensor dz, Tensor dcontext, Tensor deps, UnetPass *p);

typedef void SiteVisit(void *self, SiteKind kind, const char *path, Shape shape);    /* shape: network layout, one image */
void unet_sites(const Unet *u, int H, int W, int tokens, SiteVisit *visit, void *self);
#endif
