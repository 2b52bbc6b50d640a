/* clip.h -- CLIP's two towers, forward and backward. */
#ifndef NN_CLIP_H
#define NN_CLIP_H
#include "nn/param.h"
#include "nn/transformer.h"
#include "nn/unet.h"
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
    Param tokens, positions, projection;
    Transformer body;
    Norm final;
} ClipText;
typedef struct {
    ClipImageConfig config;
    Param class_token, patch, positions, projection;
    Norm before, after;
    Transformer body;
} ClipImage;
typedef struct { ClipText text; ClipImage image; Param logit_scale; } Clip;   /* a whole CLIPModel */

bool clip_text_config (ClipTextConfig *c,  const Json *j, const char *file, Status *s);      /* a CLIPTextModel's config, or a CLIPModel's text_config */
bool clip_image_config(ClipImageConfig *c, const Json *j, const char *file, Status *s);
bool clip_text_build (ClipText *m,  const ClipTextConfig *c,  Arena *weights, Status *s);
bool clip_image_build(ClipImage *m, const ClipImageConfig *c, Arena *weights, Status *s);
bool clip_build(Clip *m, const Json *config, const char *file, Arena *weights, Status *s);
void clip_text_walk(void *m, Walk *w);                    /* names begin with text_model. ; text_projection.weight */
void clip_image_walk(void *m, Walk *w);                   /* vision_model. ; visual_projection.weight */
void clip_walk(void *m, Walk *w);                         /* both, and logit_scale */

typedef struct { TransformerPass body; Tensor mean, rstd, last, pooled, hidden0; const int *ids; int *end; } ClipTextPass;
/* ids[N*T] -> embedded tokens [N,T,D] (before positions). E_OPTION for an id outside the vocabulary. */
void clip_text_embed(Run *r, const ClipText *m, Tensor x, const int *ids);
/* x [N,T,D] from clip_text_embed -> last [N,T,D] (after the final norm), pooled [N,D] (empty: not wanted), embeds [N,projection] (empty: not
 * wanted).  skip_layers: leave out that many last layers ("clip skip 2" is 1).  Hidden states: taps on text_model.encoder.layers.N. */
void clip_text_forward (Run *r, const ClipText *m, Tensor last, Tensor pooled, Tensor embeds, ClipTextPass *p,
                        Tensor x, const int *ids, int skip_layers);
void clip_text_backward(Run *r, ClipText *m, Tensor dx, Tensor dlast, Tensor dpooled, Tensor dembeds, ClipTextPass *p);

typedef struct { TransformerPass body; Tensor patches, mean0, rstd0, x0, mean1, rstd1, first, pooled; } ClipImagePass;
/* pixels [N,3,S,S] (normalised) -> last [N,1+n,D], pooled [N,D], embeds [N,projection]; each may be empty. */
void clip_image_forward (Run *r, const ClipImage *m, Tensor last, Tensor pooled, Tensor embeds, ClipImagePass *p, Tensor pixels);
void clip_image_backward(Run *r, ClipImage *m, Tensor dpixels, Tensor dlast, Tensor dpooled, Tensor dembeds, ClipImagePass *p);

/* 8-bit RGB [H,W,3] -> normalised [3,S,S] as CLIP's processor prepares it (resize short side, centre crop). */
bool clip_prepare(Run *r, Tensor pixels, const uint8_t *rgb, int H, int W, const double mean[3], const double std[3]);
#endif
