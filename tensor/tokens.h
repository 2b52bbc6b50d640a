/* tokens.h -- tables and rows of tokens [N,T,D]: what turns ids and patches into a sequence, and takes one token out. */
#ifndef TENSOR_TOKENS_H
#define TENSOR_TOKENS_H
#include "tensor/run.h"

void embed(Run *r, Tensor y, Tensor table, const int *ids);               /* y[n,t] = table[ids[n T + t]]; E_OPTION for an id outside */
void embed_back(Run *r, Tensor dtable, Tensor dy, const int *ids);        /* dtable[ids[i]] += dy[i] */
void add_positions(Run *r, Tensor y, Tensor table);                       /* y[n,t] += table[t]; the table may have more rows than T */
void add_positions_back(Run *r, Tensor dtable, Tensor dy);                /* dtable[t] += sum over n of dy[n,t] */
void pick_tokens(Run *r, Tensor y, Tensor x, const int *at);              /* y[n] = x[n,at[n]]; at NULL: token 0 */
void pick_tokens_back(Run *r, Tensor dx, Tensor dy, const int *at);       /* dx[n,at[n]] += dy[n] */
void prepend_token(Run *r, Tensor y, Tensor token, Tensor x);             /* y[n,0] = token [D], y[n,1+t] = x[n,t] */
void prepend_token_back(Run *r, Tensor dtoken, Tensor dx, Tensor dy);     /* dtoken added to, dx written; each may be empty */
void prepend_mean(Run *r, Tensor y, Tensor x);                            /* y[n,0] = mean over t of x[n,t], y[n,1+t] = x[n,t] */
void prepend_mean_back(Run *r, Tensor dx, Tensor dy);                     /* dx[n,t] = dy[n,1+t] + dy[n,0] / T, written */
#endif
