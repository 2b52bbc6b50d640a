/* spatial.h -- the UNet's transformer (Transformer2DModel): a map becomes tokens, tokens look at each other and at the text.
 *     h = proj_in(groupnorm(x))                                  on [N,H*W,C]; groupnorm eps 1e-6
 *     per block:  h += attn1(LN1(h));  h += attn2(LN2(h), context);  h += ff(LN3(h))       LN eps 1e-5
 *     y = x + proj_out(h)
 * ff(u) = W2 geglu(W1 u).  cross_only: attn1 reads the context too.
 * Sites on "PATH.transformer_blocks.K.attn1" and "... .attn2": see attention.h. */
#ifndef NN_SPATIAL_H
#define NN_SPATIAL_H
#include "nn/attention.h"

typedef struct { Norm norm1, norm2, norm3; Attention attn1, attn2; Linear ff1, ff2; bool cross_only; } SpatialBlock;
typedef struct { Norm norm; Linear proj_in, proj_out; SpatialBlock *block; int blocks; } Spatial;

typedef struct { NormCache norm1, norm2, norm3; AttentionCache attn1, attn2; Tensor gate; } SpatialBlockCache;   /* gate: [N,T,8C], before geglu */
typedef struct { NormCache norm; SpatialBlockCache *block; Tensor last; } SpatialCache;                         /* last: what proj_out reads */

/* linear: proj_in and proj_out are [C,C] in the checkpoint, else [C,C,1,1].  path: the module's; copied into the arena. */
bool spatial_make(Spatial *l, int channels, int heads, int context, int blocks, int groups, bool linear, bool cross_only,
                  const char *path, Arena *weights, Status *s);
void spatial_walk(Spatial *l, Walk *w);
void spatial_forward (Run *r, const Spatial *l, Tensor y, SpatialCache *c, Tensor x, Tensor context);       /* y empty: only the cache is wanted */
/* dx written, dcontext added to; each may be empty. */
void spatial_backward(Run *r, Spatial *l, Tensor dx, Tensor dcontext, Tensor dy, const SpatialCache *c);
#endif
