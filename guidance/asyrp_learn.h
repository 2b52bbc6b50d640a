/* asyrp_learn.h -- learning a delta block (asyrp.h) from pictures and two texts.
 *
 * At time t of a chain from a picture's noise, E CLIP's image tower, u(.) unit length, x0 the source picture:
 *
 *     dT    = u(mean over templates of u(text of target) - u(text of source))                       (made by the caller)
 *     dI    = u(E(P~)) - u(E(x0)),  over its length + 1e-7                     P~, P: x0 as predicted with and without the shift
 *     L_dir = 1 - cos(dI, dT)                                                  mean over the batch
 *     loss  = w_clip (-log((2 - L_dir)/2)) + w_l1 cosine mean |P~ - P|
 *
 * The gradient goes through the tower, in a latent model through the decoder of the autoencoder, and through the second decoder half
 * of the UNet; h has none.  P is of a chain of its own, from the same noise.  After the step both chains are moved down, eta 0. */
#ifndef GUIDANCE_ASYRP_LEARN_H
#define GUIDANCE_ASYRP_LEARN_H
#include "guidance/asyrp.h"
#include "nn/clip_tower.h"
#include "nn/vae.h"

/* L_dir of embeddings e [N,D] (any length), those of the sources [N,D] and the texts' direction [D]; de (may be empty) is written. */
double asyrp_direction(Run *r, Tensor de, Tensor e, Tensor source, Tensor text);

typedef struct {
    ClipTower *tower;
    Vae *vae;                                             /* NULL: the model's space is pixels in [-1,1] */
    bool recompute;
} AsyrpEye;
typedef struct { VaePass vae; ClipTowerPass tower; Shape image; } AsyrpEyePass;
/* Embeddings e [N,D] of clean x [N,C,H,W] (pixels, or latents as the UNet has them), and dx (written) from de. */
void asyrp_eye_forward (Run *r, const AsyrpEye *eye, Tensor e, AsyrpEyePass *p, Tensor x);
void asyrp_eye_backward(Run *r, const AsyrpEye *eye, Tensor dx, Tensor de, AsyrpEyePass *p);

typedef struct {
    Unet *unet;                                           /* frozen, as are tower and autoencoder */
    Schedule schedule;                                    /* the times that are edited: of asyrp_schedule, or a model's own */
    Delta *delta;                                         /* its gradients are added to */
    AsyrpEye eye;
    Tensor text;                                          /* dT [D] */
    double w_clip, w_l1, cosine, scale;                   /* scale: of classifier-free guidance, when a picture has two contexts */
    bool timeless;
} AsyrpLearner;
typedef struct { double loss, direction, clip, l1; } AsyrpLoss;

/* One time of one batch: gradients are added to the block's, x_edit and x_plain [N,C,H,W] go down one step.  context [N rows,T,D] (rows
 * 1, or 2: without and with the prompt), empty where the network reads none; source: E(x0) [N,D].  learn false: the loss alone.
 * x0 (may be empty) receives P~, dx0 (may be empty) the loss's gradient by it. */
AsyrpLoss asyrp_learn(Run *r, const AsyrpLearner *a, Tensor x_edit, Tensor x_plain, Tensor x0, Tensor dx0, int t, Tensor context, Tensor source, bool learn);
#endif
