/* attention.h -- softmax(q k^T scale) v for heads that are column ranges of [N,T,C] tokens (head h owns
 * columns h*C/heads ...).
 *
 * Streaming form, when nobody looks at the probabilities: panels of up to 32 complete query rows, recomputed in
 * backward.  Forward holds one panel [Tk,32] a thread; backward the P and dS of 8 panels (more when Tk < 4096) and a
 * copy of queries, keys, values and gradients head by head.  Materialised form: P is an ordinary tensor
 * [N,heads,Tq,Tk] that taps may read, replace and give a gradient.  With the same inputs and no tap both
 * forms give the same bits.  scale = 1/sqrt(width) inside. */
#ifndef TENSOR_ATTENTION_H
#define TENSOR_ATTENTION_H
#include "tensor/run.h"

/* causal: row i sees keys 0..i.  stat [N,heads,Tq,2] (row maximum and 1/sum) is what backward remembers; empty: not wanted. */
void attention(Run *r, Tensor out, Tensor stat, Tensor q, Tensor k, Tensor v, int heads, bool causal);
/* dq, dk, dv written; any may be empty. */
void attention_back(Run *r, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor stat,
                    Tensor q, Tensor k, Tensor v, int heads, bool causal);

void attention_probs(Run *r, Tensor P, Tensor q, Tensor k, int heads, bool causal);
void attention_mix  (Run *r, Tensor out, Tensor P, Tensor v);
void attention_mix_back  (Run *r, Tensor dP, Tensor dv, Tensor dout, Tensor P, Tensor v);        /* dP, dv written; may be empty */
/* P must be the probabilities that softmax gave (before any tap replaced them); dP is overwritten
 * with the gradient of q k^T (the scale included). */
void attention_probs_back(Run *r, Tensor dq, Tensor dk, Tensor dP, Tensor P, Tensor q, Tensor k, int heads);
#endif
