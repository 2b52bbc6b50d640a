/* delta.h -- Asyrp's implicit function (Kwon, Jeong, Uh 2022, arXiv:2210.10960): what is added to h, the middle block's output.
 *
 *     ddpm    y = W2 silu(GN(W1 h + Wt e))                      conv1, temb_proj, norm2, conv2              eps 1e-6
 *     adm     y = W2 silu(GN(W1 silu(GN(h)) + Wt e))            in_layers, emb_layers, out_layers           eps 1e-5
 *     table   y = d_t, or d_0 at every t                        a tensor per time, "540"; "0" alone: a global one
 *
 * e = silu(time embedding) of the UNet; W1, W2 1x1 convolutions.  Borders are NCHW: h, y [N,C,h,w]; e [N,4*C0]. */
#ifndef NN_DELTA_H
#define NN_DELTA_H
#include "nn/layers.h"
#include "tensor/random.h"

typedef enum { DELTA_DDPM, DELTA_ADM, DELTA_TABLE } DeltaKind;
typedef struct {
    DeltaKind kind;
    int channels, temb, groups;                           /* C, 4*C0; of the norms, which files do not say: the UNet's */
} DeltaConfig;

typedef struct {
    DeltaConfig config;
    Norm in_norm, out_norm;                               /* in_norm: adm only */
    Linear in, time, out;
    Tensor table;                                         /* [times,C,h,w] */
    int *time_of, times;                                  /* ascending */
} Delta;

/* Structure and names; E_OPTION for widths that the groups do not divide. */
bool delta_build(Delta *d, const DeltaConfig *c, Status *s);
void delta_walk (void *delta, Walk *w);                   /* a WalkModel; a table has no parameters */
/* PyTorch's default for 1x1 convolutions and linears: weights and biases uniform in 1/sqrt(fan_in), norms 1 and 0. */
bool delta_start(Delta *d, Arena *weights, uint64_t seed, Status *s);
/* A file of the names above, perhaps all under "0." (the authors' checkpoints), or a folder with model.safetensors.  What kind
 * it is, and its widths, show in names and shapes.  E_FORMAT names what is missing. */
bool delta_load (Delta *d, const char *path, int groups, Arena *weights, Status *s);

typedef struct { Tensor x, silu_temb, a, b, c; NormCache in_norm, out_norm; Shape h; } DeltaCache;    /* NHWC: h, W1's input and output, W2's input */
/* silu_temb empty: the network without its time (ignore_timesteps).  t chooses in a table: the nearest time.  E_SHAPE names widths. */
void delta_forward (Run *r, const Delta *d, Tensor y, DeltaCache *c, Tensor h, Tensor silu_temb, double t);
/* dh written, dsilu_temb and parameters' gradients added; each may be empty. */
void delta_backward(Run *r, Delta *d, Tensor dh, Tensor dsilu_temb, Tensor dy, const DeltaCache *c);
#endif
