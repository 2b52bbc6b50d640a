/* prompt2prompt.h -- Prompt-to-Prompt (Hertz et al., arXiv 2208.01626): a run under a changed prompt takes over the attention
 * of a run beside it under the source's prompt, from the same noise.  With P the edited run's map, P* the source's, token n:
 *
 *     cross   P[.,n] <- alpha_n eq_n ( sum_w P*[.,w] M[w,n] + own_n P[.,n] ) + (1 - alpha_n) P[.,n]
 *                 replace   M from the words that differ; own = 0
 *                 refine    M[m_n,n] = 1 where n is aligned with m_n; own_n = 1 where it is not
 *                 reweight  eq_n is not 1; M as above
 *     self    P <- P*   while lo <= i < hi, in maps of at most so many pixels
 *     blend   z <- z* + mask (z - z*),   mask = B(words here) or B(source's words),   B(A) = pool(A)/max > threshold,
 *                 A the cross maps of the words, summed over the steps so far, after the edit
 * alpha depends on the step: a table of n + 1 rows.  Maps are never renormalised.
 * Source: the authors' released code, its later form (docs/methods/prompt-to-prompt.md). */
#ifndef GUIDANCE_PROMPT2PROMPT_H
#define GUIDANCE_PROMPT2PROMPT_H
#include "guidance/methods.h"

/* ---- alignment of two prompts ---- */

/* Needleman-Wunsch with gap 0, match 1, mismatch -1; ties prefer leaving a target token alone, then a source token, then a
 * pair: source[j] is the source token of target token j, or -1. */
void prompt_align(Run *r, int *source, const int *x, int nx, const int *y, int ny);
/* mapper [tokens], own [tokens]: the same beyond the target's end mark, where each token is its own source. */
void prompt_refine(Run *r, int *mapper, Tensor own, const int *x, int nx, const int *y, int ny);

typedef struct { int s0, s1, d0, d1; } WordSwap;          /* token positions [first, past the last) in source and target */
/* M [tokens,tokens]: pairs where a word has as many tokens as its successor, else 1/(target's tokens) each; the identity elsewhere. */
void prompt_replace(Tensor M, const WordSwap *swap, int swaps);
/* The words that differ, word by word; E_OPTION when the prompts have not as many words.  Returns how many, at most `most`. */
int  prompt_swaps(Run *r, WordSwap *swap, int most, const PromptWords *source, const PromptWords *target);

/* alpha [n+1,tokens]: 1 in rows int(from (n+1)) .. int(to (n+1))-1 of token (< 0: all of them), else 0. */
void prompt_window(Tensor alpha, int token, double from, double to);

/* ---- writes ---- */

typedef struct {                                          /* the columns of M, without their zeros */
    int tokens;
    const int *first, *row;                               /* column n: entries first[n] .. first[n+1]-1 */
    const real *share;
    Tensor own, equalizer, alpha;                         /* [tokens], [tokens], [n+1,tokens] */
} PromptEdit;

/* From M [tokens,tokens]; own and equalizer may be empty (0 and 1). Run arena. */
bool prompt_edit(Run *r, PromptEdit *e, Tensor M, Tensor own, Tensor equalizer, Tensor alpha);
/* M with M[mapper[n],n] = 1 - own[n]. */
void prompt_matrix(Tensor M, const int *mapper, Tensor own);

void prompt_put (const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state);   /* par: a PromptEdit */
void prompt_back(const Write *w, Run *r, const Clock *c, const char *site, Tensor adj, void *state);
void prompt_copy(const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state);   /* self-attention */
double prompt_between(const Clock *c, const double *par);                    /* 1 for par[0] <= i < par[1] */
/* write[2]: cross (every attn2), self (self_sites, steps self_from .. self_to-1), from reference 0.  Returns how many. */
int  prompt_writes(Write *write, const PromptEdit *e, const char *self_sites, int self_from, int self_to);

/* ---- local blend: the state of a run ---- */

enum { SIDE_SOURCE, SIDE_TARGET };
typedef struct {
    const Tensor *null_text;                              /* [n]; NULL */
    const char *maps;                                     /* cross-attention sites of one size; NULL: no blend */
    Tensor words[2], apart[2];                            /* [tokens] of either side: where to change, where never to (empty: not used) */
    Tensor sum[2], sum_apart[2];                          /* maps so far */
    Tensor mask;                                          /* [H,W] of the last blend, and the source's own */
    Tensor mask_source;
    int start;                                            /* blends after steps start, start+1, ... (from 0) */
    double threshold;
} PromptState;

bool   prompt_blend(Run *r, PromptState *s, int queries, int h, int w);      /* make room, once words and maps are set */
void   prompt_after_pass(const Clock *c, Run *r, const View *now, const View *const *ref, void *state);
void   prompt_after_step(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state);
Tensor prompt_null_text(const Clock *c, void *state);

extern const MethodInfo method_prompt2prompt;
#endif
