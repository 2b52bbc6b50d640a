/* clip_resnet.h -- the residual networks among CLIP's image towers (RN50 ... RN50x64), forward and backward.
 *
 *     stem       3x3 stride 2, 3x3, 3x3, each batch norm and relu;  2x2 mean
 *     block      relu(bn3(1x1(mean_s(relu(bn2(3x3(relu(bn1(1x1(x)))))))) + shortcut),  shortcut = x or bn(1x1(mean_s(x)))
 *     attnpool   t = [mean, places] + positions;   embeds = c_proj softmax(q(t_0) k(t)^T / 8) v(t)
 *
 * Batch norms are in inference form: gamma (x - mean) / sqrt(var + 1e-5) + beta.  Parameters have the names of OpenAI's state
 * dict ("visual.layer1.0.conv1.weight"); files without "visual." are read too.  Sites: SITE_FEATURE [N,H,W,C] at visual.layerK.J. */
#ifndef NN_CLIP_RESNET_H
#define NN_CLIP_RESNET_H
#include "nn/attention.h"
#include "nn/layers.h"
#include "tensor/json.h"

enum { CLIP_RESNET_STAGES = 4 };
typedef struct { int width, layers[CLIP_RESNET_STAGES], image, projection; } ClipResnetConfig;

typedef struct { Conv conv; Param gamma, beta, mean, var; } ConvNorm;
typedef struct { ConvNorm a, b, c, skip; int stride; const char *path; } Bottleneck;    /* skip: absent when the shortcut is x */
typedef struct {
    ClipResnetConfig config;
    ConvNorm stem[3];
    Bottleneck *block;                                    /* of all stages in turn */
    int blocks;
    Param positions;                                      /* [T+1,C] */
    Attention pool;
} ClipResnet;

bool clip_resnet_config(ClipResnetConfig *c, const Json *j, const char *file, Status *s);    /* "kind": "clip_resnet" */
bool clip_resnet_config_of(ClipResnetConfig *c, const Weights *w, Status *s);                /* from the shapes in a file */
bool clip_resnet_build(ClipResnet *m, const ClipResnetConfig *c, Arena *weights, Status *s);
void clip_resnet_walk (void *m, Walk *w);

typedef struct { ConvCache conv; Tensor raw, y; } ConvNormCache;             /* raw: before the norm; y: after relu, empty without */
typedef struct { ConvNormCache a, b, c, skip; } BottleneckCache;
typedef struct { ConvNormCache stem[3]; BottleneckCache *block; AttentionCache pool; Tensor last, tokens, first; } ClipResnetPass;
/* pixels [N,3,S,S] (normalised) -> embeds [N,projection]. */
void clip_resnet_forward (Run *r, const ClipResnet *m, Tensor embeds, ClipResnetPass *p, Tensor pixels);
void clip_resnet_backward(Run *r, ClipResnet *m, Tensor dpixels, Tensor dembeds, const ClipResnetPass *p);   /* dpixels may be empty */
#endif
