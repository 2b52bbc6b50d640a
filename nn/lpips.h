/* lpips.h -- LPIPS (1801.03924), a perceptual distance between pictures, forward and backward.
 *
 *     n(f) = f / (|f| + 1e-10), |f| over the channels of a place        d = sum_k mean_places sum_c w_kc (n(f_kc) - n(g_kc))^2
 *
 * f_k, g_k: the outputs of five relus of AlexNet or VGG16, after (x - shift) / scale of pictures in [-1,1].  Names: those of
 * torchvision (features.N.weight) and of the published heads (lin0.model.1.weight, [1,C,1,1]). */
#ifndef NN_LPIPS_H
#define NN_LPIPS_H
#include "nn/layers.h"

enum { LPIPS_LEVELS = 5, LPIPS_CONVS = 13 };
typedef enum { LPIPS_ALEX, LPIPS_VGG } LpipsKind;
typedef struct { LpipsKind kind; Conv conv[LPIPS_CONVS]; Param lin[LPIPS_LEVELS]; } Lpips;

bool lpips_build(Lpips *m, LpipsKind kind);
void lpips_walk (void *m, Walk *w);
/* One file with the features and the heads; which network it is shows in the shapes. */
bool lpips_load (Lpips *m, const char *file, Arena *weights, LoadReport *report, Status *s);

/* One level: d[N] += ..., of features [N,h,w,C] and weights w[C].  Backward writes df, dg (each may be empty) and adds to dw. */
void lpips_level     (Run *r, Tensor d, Tensor f, Tensor g, Tensor w);
void lpips_level_back(Run *r, Tensor df, Tensor dg, Tensor dw, Tensor dd, Tensor f, Tensor g, Tensor w);

typedef struct { ConvCache conv[LPIPS_CONVS]; Tensor out[LPIPS_CONVS], pooled[LPIPS_CONVS]; Tensor level[LPIPS_LEVELS]; } LpipsFeatures;
typedef struct { LpipsFeatures a, b; } LpipsPass;
/* d[N] of pictures a, b [N,3,H,W] in [-1,1]; da, db may be empty. */
void lpips_forward (Run *r, const Lpips *m, Tensor d, LpipsPass *p, Tensor a, Tensor b);
void lpips_backward(Run *r, Lpips *m, Tensor da, Tensor db, Tensor dd, const LpipsPass *p);
#endif
