/* attention.h -- multi-head attention with its projections and its sites.
 *     q = x Wq, k = c Wk, v = c Wv;  P = softmax(q k^T / sqrt(width));  y = (P v) Wo + bo (+ base)
 * Sites on `path`: SITE_QUERY, SITE_KEY, SITE_VALUE, SITE_PROBS.  Probabilities are materialised only for a tap. */
#ifndef NN_ATTENTION_H
#define NN_ATTENTION_H
#include "nn/layers.h"
#include "tensor/attention.h"

typedef struct { Linear q, k, v, out; int heads; bool causal; const char *path; } Attention;
/* stat: of the streaming form.  seen: the probabilities as the taps left them; P: as softmax gave them, empty when a
 * tap changed them (backward then computes them again).  x, context: by reference. */
typedef struct { Tensor q, k, v, stat, P, seen, x, context; } AttentionCache;

Attention attention_make(int width, int context, int heads, bool qkv_bias, bool causal);
/* q, k and v are rows of one tensor of the file, in blocks of `block` rows (param_part); give attention_walk its name three times. */
void attention_fuse(Attention *l, int block);
/* Names of the four projections in the checkpoint, e.g. {"to_q","to_k","to_v","to_out.0"}. */
void attention_walk(Attention *l, Walk *w, const char *const names[4]);
/* x [N,T,C]; context [N,S,D], or x itself.  y = base + attention; base may be y or empty. */
void attention_forward (Run *r, const Attention *l, Tensor y, AttentionCache *c, Tensor x, Tensor context, Tensor base);
/* dx written, may be empty.  Self-attention (context was x): dcontext is ignored, everything goes to dx.  Cross: dcontext is
 * ADDED to; may be empty.  x and context are read only for weight gradients: x by then may be anything with the same numbers. */
void attention_backward(Run *r, Attention *l, Tensor dx, Tensor dcontext, Tensor dy, const AttentionCache *c);
bool attention_trains(const Attention *l);

/* q, k and v are parts of one Conv1d of the checkpoint, [3 width,width,1], whose rows are [head][q k v] or, in the new order,
 * [q k v][head]; walked under one name given three times.  The output projection is a Conv1d [out,width,1]. */
Attention attention_make_fused(int width, int out, int heads, bool new_order);

/* y = x + attention(groupnorm(x)), biases on all projections.  x, y [N,H,W,C].
 *   VAE    one head as wide as the map                       group_norm, to_q, to_k, to_v, to_out.0
 *   DDPM   the same with 1x1 convolutions                    norm, q, k, v, proj_out
 *   ADM    heads, queries, keys and values fused             norm, qkv, proj_out                       (Conv1d: [3C,C,1], [C,C,1]) */
typedef enum { ATTENTION_VAE, ATTENTION_DDPM, ATTENTION_ADM } AttentionNames;
typedef struct { Norm norm; Attention attention; AttentionNames names; } AttentionBlock;
typedef struct { NormCache norm; AttentionCache attention; } AttentionBlockCache;

AttentionBlock attention_block_make(int channels, int groups, double eps);
AttentionBlock attention_block_make_ddpm(int channels, int groups, double eps);
AttentionBlock attention_block_make_adm(int channels, int heads, bool new_order, int groups, double eps);
void attention_block_walk(AttentionBlock *l, Walk *w);
void attention_block_forward (Run *r, const AttentionBlock *l, Tensor y, AttentionBlockCache *c, Tensor x);   /* y empty: only the cache is wanted */
void attention_block_backward(Run *r, AttentionBlock *l, Tensor dx, Tensor dy, const AttentionBlockCache *c);
#endif
