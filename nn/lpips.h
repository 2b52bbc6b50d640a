/* lpips.h -- LPIPS (1801.03924), a perceptual distance between pictures, forward and backward.
 *
 *     n(f) = f / (|f| + 1e-10), |f| over the channels of a place        d = sum_k mean_places sum_c w_kc (n(f_kc) - n(g_kc))^2
 *
 * f_k, g_k: the outputs of five relus of AlexNet (all five) or VGG16 (the last before each maximum, and the last of all), of
 * pictures (x - shift) / scale, x in [-1,1].  Names: torchvision's (features.N.weight), and lin0.model.1.weight [1,C,1,1] of the heads. */
#ifndef NN_LPIPS_H
#define NN_LPIPS_H
#include "nn/layers.h"

enum { LPIPS_LEVELS = 5, LPIPS_CONVS = 13 };
typedef enum { LPIPS_ALEX, LPIPS_VGG } LpipsKind;
typedef struct { LpipsKind kind; int convs; Conv conv[LPIPS_CONVS]; Param lin[LPIPS_LEVELS]; } Lpips;

void lpips_build(Lpips *m, LpipsKind kind);
void lpips_walk (void *m, Walk *w);                       /* features, then heads */
/* Two files, as they are published (torchvision's network; the heads), or one with both: heads NULL.  Which network it is shows
 * in the shapes. */
bool lpips_load (Lpips *m, const char *features, const char *heads, Arena *weights, Status *s);

/* One level: d[N] += ..., of features [N,h,w,C] and weights w[C].  Backward: df and dg written (each may be empty). */
void lpips_level     (Run *r, Tensor d, Tensor f, Tensor g, Tensor w);
void lpips_level_back(Run *r, Tensor df, Tensor dg, Tensor dd, Tensor f, Tensor g, Tensor w);

typedef struct { Tensor in, out; ConvCache conv; } LpipsLayer;               /* in: before the maximum, empty without one; out: after relu */
typedef struct { LpipsLayer layer[LPIPS_CONVS]; } LpipsFeatures;
typedef struct { LpipsFeatures a, b; } LpipsPass;
/* d[N] of pictures a, b [N,3,H,W] in [-1,1]. */
void lpips_forward (Run *r, const Lpips *m, Tensor d, LpipsPass *p, Tensor a, Tensor b);
/* da, db written; each may be empty.  The network is a judge: its parameters have no gradient. */
void lpips_backward(Run *r, Lpips *m, Tensor da, Tensor db, Tensor dd, const LpipsPass *p);
#endif
