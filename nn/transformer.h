/* transformer.h -- the pre-norm transformer of CLIP's towers and of DINO: a list of equal blocks on tokens [N,T,D].
 *
 *     m = x + attention(LN1(x))          y = m + fc2(act(fc1(LN2(m))))
 *
 * Sites: SITE_FEATURE [N,T,D] at the block's path (its output y), and those of attention.h at its attention's path.
 * Remembered for backward, per block and token: x, q, k, v, m and fc1's output, 5 D + mlp numbers.  LN(x), act and the mixed
 * values are computed again where a parameter's gradient reads them. */
#ifndef NN_TRANSFORMER_H
#define NN_TRANSFORMER_H
#include "nn/attention.h"

typedef struct {                                          /* module names in the checkpoint */
    const char *list;                                     /* of the blocks, from the root: "text_model.encoder.layers" */
    const char *norm1, *norm2, *fc1, *fc2;
    const char *attention;                                /* the module that attention's sites are named after ... */
    const char *from;                                     /* ... and the one its projections are named from; "": the block */
    const char *projection[4];                            /* q, k, v, out */
    bool fused;                                           /* q, k and v are rows, in this order, of one tensor: all three have its name */
} TransformerNames;
extern const TransformerNames transformer_clip_text, transformer_clip_image;
extern const TransformerNames transformer_clip_openai;   /* the image tower in OpenAI's state dict */
extern const TransformerNames transformer_dino, transformer_vit;             /* as published; transformers' ViTModel */

typedef struct { int layers, width, mlp, heads; PointAct act; double eps; bool causal; } TransformerConfig;
typedef struct { Norm norm1, norm2; Attention attention; Linear fc1, fc2; const char *path; } TransformerBlock;
typedef struct { TransformerConfig config; const TransformerNames *names; TransformerBlock *block; } Transformer;

typedef struct { NormCache norm1, norm2; AttentionCache attention; Tensor middle, hidden; } TransformerCache;
typedef struct { TransformerCache *block; int layers; } TransformerPass;

bool transformer_build(Transformer *t, const TransformerConfig *c, const TransformerNames *names, Arena *weights, Status *s);
void transformer_walk (Transformer *t, Walk *w);
/* y = x through the first `layers` blocks, at least one.  y must not be x.  x is kept by reference. */
void transformer_forward (Run *r, const Transformer *t, Tensor y, TransformerPass *p, Tensor x, int layers);
/* dx written; may be empty.  dy may be empty: the gradient then comes from the taps alone, and starts at the last block
 * that holds one that pulls.  Blocks in front of the first parameter or pulling tap are skipped when dx is empty. */
void transformer_backward(Run *r, Transformer *t, Tensor dx, Tensor dy, const TransformerPass *p);
#endif
