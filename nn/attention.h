/* attention.h -- multi-head attention with its projections and its sites.
 *     q = x Wq, k = c Wk, v = c Wv;  P = softmax(q k^T / sqrt(width));  out = (P v) Wo + bo
 * Sites on `path`: SITE_QUERY, SITE_KEY, SITE_VALUE, SITE_PROBS.  Probabilities are materialised only for a tap. */
#ifndef NN_ATTENTION_H
#define NN_ATTENTION_H
#include "nn/layers.h"
#include "tensor/attention.h"

typedef struct { Linear q, k, v, out; int heads; bool causal; const char *path; } Attention;
typedef struct { Tensor q, k, v, stat, P, seen, mixed, x, context; } AttentionCache;  /* P: as softmax gave it; seen: as taps left it */

Attention attention_make(int width, int context, int heads, bool qkv_bias, bool causal);
/* Names of the four projections in the checkpoint, e.g. {"to_q","to_k","to_v","to_out.0"}. */
void attention_walk(Attention *l, Walk *w, const char *const names[4]);
/* x [N,T,C] (or [N,H,W,C]); context [N,S,D], or x itself.  y = attention (+ add; add may be empty, or y's owner's residual). */
void attention_forward (Run *r, const Attention *l, Tensor y, AttentionCache *c, Tensor x, Tensor context, Tensor add);
/* dx written.  Self-attention (context was x): dcontext is ignored, everything goes to dx.  Cross: dcontext is ADDED to; may be empty. */
void attention_backward(Run *r, Attention *l, Tensor dx, Tensor dcontext, Tensor dy, const AttentionCache *c);
#endif
