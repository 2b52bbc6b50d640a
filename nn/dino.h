/* dino.h -- DINO's vision transformer (2104.14294), forward and backward.
 *
 *     x = [class, patches] + positions(H, W)     last = blocks(x)     cls = LN(last)[0]     keys = k of the last block
 *
 * positions(H, W): the table as it is when it has (H/p)(W/p) rows and H = W; else its g x g grid, bicubic to H/p x W/p with the
 * published code's scale factors (H/p + 0.1)/g and (W/p + 0.1)/g.  Pixels beyond the last whole patch are not read.
 *
 * Sites are named as the files name modules, in one of two spellings: the published one (blocks.N, blocks.N.attn, ...) and that
 * of transformers' ViTModel (encoder.layer.N, encoder.layer.N.attention). SITE_FEATURE [N,T,D] at a block: its output;
 * SITE_KEY [N,T,D] at its attention: the keys, head h owning columns h D/heads ... */
#ifndef NN_DINO_H
#define NN_DINO_H
#include "nn/preprocess.h"
#include "nn/transformer.h"

typedef struct {
    int width, mlp, heads, layers, image, patch, channels;
    double eps;
    bool published;                                       /* names: the published ones, q k v in one tensor; else ViTModel's */
} DinoConfig;

typedef struct {
    DinoConfig config;
    Param class_token, positions;                         /* [1,1,D], [1,1 + g g,D] */
    Conv patch;                                           /* kernel = stride */
    Transformer body;
    Norm final;
    Preprocess preprocess;                                /* bilinear, [-1,1], mean and std of the folder or of the published models */
} Dino;

/* A model folder's config.json: "kind": "dino_vit", or transformers' ViTModel.  E_FORMAT names file and field. */
bool dino_config(DinoConfig *c, const Json *j, const char *file, Status *s);
/* The same from the shapes in a file of published weights alone; heads are 64 wide. */
bool dino_config_of(DinoConfig *c, const Weights *w, Status *s);
bool dino_build (Dino *m, const DinoConfig *c, Arena *weights, Status *s);
void dino_walk  (void *m, Walk *w);
bool dino_load  (Dino *m, const char *folder, Arena *weights, LoadReport *report, Status *s);

typedef struct { TransformerPass body; ConvCache patch; NormCache final; Tensor x0, last; int H, W; } DinoPass;
int  dino_tokens(const Dino *m, int H, int W);            /* T = 1 + (H/p)(W/p) */
/* pixels [N,channels,H,W] (normalised) -> cls [N,D] (after the final norm), last [N,T,D] (before it), keys [N,T,D] of the last
 * block (after taps); each may be empty. */
void dino_forward (Run *r, const Dino *m, Tensor cls, Tensor last, Tensor keys, DinoPass *p, Tensor pixels);
/* dpixels written; it and each of the three gradients that come in may be empty.  Parameter gradients are added. */
void dino_backward(Run *r, Dino *m, Tensor dpixels, Tensor dcls, Tensor dlast, Tensor dkeys, const DinoPass *p);
/* The position table for H x W pixels: [1 + (H/p)(W/p),D]. */
void dino_positions(Run *r, const Dino *m, Tensor table, int H, int W);
#endif
