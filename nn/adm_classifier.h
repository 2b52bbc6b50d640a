/* adm_classifier.h -- the noisy classifier of ADM: the encoder half of the UNet, and attention pooling.
 *
 *     u = silu(groupnorm(middle block)) as T = h w tokens of C;  tokens [mean of u, u_1 .. u_T] + positional_embedding
 *     logits = c_proj(attention of token 0 over all tokens), heads of num_head_channels, order [q k v]
 *
 * The table of positions fixes T: pictures must have the native size. */
#ifndef NN_ADM_CLASSIFIER_H
#define NN_ADM_CLASSIFIER_H
#include "nn/adm.h"

typedef struct {
    AdmConfig config;
    Unet encoder;                                         /* up to and including out.0 and its silu */
    Param positions;                                      /* "out.2.positional_embedding" [C,T+1] */
    Attention pool;                                       /* "out.2": qkv_proj, c_proj */
} AdmClassifier;

typedef struct {
    UnetPass encoder;
    AttentionCache pool;
    Tensor first, tokens;                                 /* [N,1,C], [N,T+1,C] */
} AdmClassifierPass;

bool adm_classifier_build(AdmClassifier *c, const AdmConfig *config, Arena *weights, Status *s);
void adm_classifier_walk (void *classifier, Walk *w);     /* a WalkModel */
void adm_classifier_sites(const AdmClassifier *c, SiteVisit *visit, void *self);     /* as unet_sites, of the native size */
/* x [N,3,S,S], t [N] -> logits [N,classes]. */
void adm_classifier_forward (Run *r, const AdmClassifier *c, Tensor logits, AdmClassifierPass *p, Tensor x, const double *t, bool recompute);
void adm_classifier_backward(Run *r, AdmClassifier *c, Tensor dx, Tensor dlogits, AdmClassifierPass *p);     /* dx written; may be empty */
/* logp[n] = log softmax(logits[n])[y[n]];  dlogits = d sum_n logp[n] / d logits.  Either may be empty.  E_OPTION for a class that is not there. */
void adm_classifier_logp(Run *r, Tensor logp, Tensor dlogits, Tensor logits, const int *y);
#endif
