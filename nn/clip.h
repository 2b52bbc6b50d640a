/* clip.h -- CLIP's two towers, forward and backward.
 *
 *     text:   x = tokens[ids] + positions;      z = blocks(x), causal;   last = LN(z);   pooled = last[end];   embeds = pooled W^T
 *     image:  x = LN([class, patches] + positions);   last = blocks(x);   pooled = LN(last[0]);                embeds = pooled W^T
 *
 * Sites (SITE_FEATURE [N,T,D], and those of attention): text_model.encoder.layers.N, vision_model.encoder.layers.N, and their
 * ".self_attn"; hidden state N + 1 of the reference is the output of layer N, before the final norm. */
#ifndef NN_CLIP_H
#define NN_CLIP_H
#include "nn/transformer.h"
#include "tensor/json.h"

typedef struct {
    int  width, mlp, heads, layers, vocabulary, positions, projection;        /* projection 0: none in the file */
    int  eos;                                             /* end-of-text id; 2 means: the first maximum of the ids */
    PointAct act;
    double eps;
} ClipTextConfig;
typedef struct { int width, mlp, heads, layers, image, patch, channels, projection; PointAct act; double eps; } ClipImageConfig;

typedef struct {
    ClipTextConfig config;
    Param tokens, positions;
    Transformer body;
    Norm final;
    Linear projection;
} ClipText;
typedef struct {
    ClipImageConfig config;
    Param class_token, positions;
    Conv patch;                                           /* no bias; kernel = stride */
    Norm before, after;
    Transformer body;
    Linear projection;
    bool openai;                                          /* named as in OpenAI's state dict: visual.conv1, ...; projection transposed there */
} ClipImage;
typedef struct { ClipText text; ClipImage image; Param logit_scale; } Clip;   /* a whole CLIPModel */

/* A tower's own config.json, or a whole CLIPModel's, whose text_config or vision_config is then read.  A tower on its own has a
 * projection when "architectures" says ...WithProjection, or "kind" clip_vision.  Missing fields take the reference's defaults. */
bool clip_text_config (ClipTextConfig *c,  const Json *j, const char *file, Status *s);
bool clip_image_config(ClipImageConfig *c, const Json *j, const char *file, Status *s);
bool clip_text_build (ClipText *m,  const ClipTextConfig *c,  Arena *weights, Status *s);
bool clip_image_build(ClipImage *m, const ClipImageConfig *c, Arena *weights, Status *s);
bool clip_image_build_openai(ClipImage *m, const ClipImageConfig *c, Arena *weights, Status *s);
/* The configuration of such a state dict from its shapes: heads of 64, quick_gelu. */
bool clip_image_config_of(ClipImageConfig *c, const Weights *w, Status *s);
bool clip_build(Clip *m, const Json *config, const char *file, Arena *weights, Status *s);
void clip_text_walk(void *m, Walk *w);                    /* names begin with text_model. ; text_projection.weight */
void clip_image_walk(void *m, Walk *w);                   /* vision_model. ; visual_projection.weight; or visual. */
void clip_walk(void *m, Walk *w);                         /* both, and logit_scale */

typedef struct { TransformerPass body; NormCache final; Tensor hidden0, last, pooled; int *end; } ClipTextPass;
/* ids[N*T] -> embedded tokens [N,T,D] (before positions).  E_OPTION for an id outside the vocabulary.  The backward adds dx to the
 * rows of the token table's gradient; it is apart from clip_text_backward because x may be anything else, a learnt vector say. */
void clip_text_embed(Run *r, const ClipText *m, Tensor x, const int *ids);
void clip_text_embed_backward(Run *r, ClipText *m, Tensor dx, const int *ids);
/* x [N,T,D] -> last [N,T,D] (after the final norm), pooled [N,D], embeds [N,projection]; each may be empty: not wanted.
 * skip_layers: leave out that many last layers, at least one stays ("clip skip 2" is 1); pooled is then that of the shorter tower.
 * The end of text: the first id equal to config.eos (position 0 when there is none), or for config.eos 2 the first maximum. */
void clip_text_forward (Run *r, const ClipText *m, Tensor last, Tensor pooled, Tensor embeds, ClipTextPass *p,
                        Tensor x, const int *ids, int skip_layers);
/* dx written; it and each of the three gradients that come in may be empty. */
void clip_text_backward(Run *r, ClipText *m, Tensor dx, Tensor dlast, Tensor dpooled, Tensor dembeds, const ClipTextPass *p);

typedef struct { TransformerPass body; ConvCache patch; NormCache before, after; Tensor x0, last, pooled; } ClipImagePass;
/* pixels [N,channels,S,S] (normalised) -> last [N,1+n,D] (no norm), pooled [N,D], embeds [N,projection]; each may be empty.
 * n = (S / patch)^2, row by row.  x0: the blocks' input, hidden state 0 of the reference. */
void clip_image_forward (Run *r, const ClipImage *m, Tensor last, Tensor pooled, Tensor embeds, ClipImagePass *p, Tensor pixels);
void clip_image_backward(Run *r, ClipImage *m, Tensor dpixels, Tensor dlast, Tensor dpooled, Tensor dembeds, const ClipImagePass *p);

/* 8-bit RGB [H,W,3] -> (v / 255 - mean) / std as [3,S,S], as CLIP's processor prepares it: the short side bicubic to S (the long
 * one to floor(S long / short)), then the centre, offset rounded down.  False: the status says why. */
bool clip_prepare(Run *r, Tensor pixels, const uint8_t *rgb, int H, int W, const double mean[3], const double std[3]);
#endif
