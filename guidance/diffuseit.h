/* diffuseit.h -- DiffuseIT: a picture translated towards a picture or a text, its structure kept by the keys of a vision
 * transformer (Kwon & Ye 2209.15264; the released code's terms and order of evaluation).
 *
 * Process over kept times 0 .. N-1 (gaussian.h), a = alpha-bar_i, b = beta;  top = N - skip - 1, R rounds there.
 *
 *     x <- sqrt(a) source + sqrt(1-a) noise                                                  at top
 *     for i = top .. 0, R times at top, else once:
 *         x0 = x0(x, i), never clamped;   f = sqrt(1-a);   mix = f x0 + (1-f) x;   seen = noise_aug_all ? mix : x0
 *         E = clip  * -mean over towers of (mean over cuts of unit e(mix)) . t        with a text
 *           + ssim  * mean (S(k(seen)) - S(k(source)))^2
 *           + contra * frac * contrast of k(seen) with k(source)
 *           - dir_cls * mean (c(previous seen) - c(seen))^2                           while i > diff_iter
 *           + target * mean (c(target) - c(seen))^2  +  l2 * mean (seen - target)^2   with a target picture
 *           + range * mean (x0 - clamp(x0))^2
 *         g = -dE/dx;   x <- mean(x) + variance g + [i > 0] sqrt(variance) z
 *         at top, but for the last round:   x <- sqrt(1-b) x + sqrt(b) z',   b of index top-1
 *     with range_restart: a call at i < top whose range term exceeds restart_above begins again from new noise
 *     DDIM form:  eps <- eps - sqrt(1-a) g, x0 of that;  x <- sqrt(a') x0 + sqrt(1-a') eps;  one round at top
 *
 * frac is 1; 1/2 with prog_contrast while the previous CLIP loss is above -0.5; 2 with regularize_content while it is below.
 * In the latent space of an autoencoder (vae not NULL): x, x0, mix are latents; `seen` is decoded once and every term, range
 * too, looks at that picture (mix apart when noise_aug_all is off and there is a text); pictures stay what they are.
 *
 * A loop of its own: rounds at one index only, restarts that throw away steps, a gain that is a tensor of the network's own,
 * and a prediction returned instead of the last sample are not what guide.h runs. */
#ifndef GUIDANCE_DIFFUSEIT_H
#define GUIDANCE_DIFFUSEIT_H
#include "guidance/critic.h"
#include "guidance/diffuseit_losses.h"
#include "guidance/gaussian.h"
#include "nn/unet.h"

typedef enum { DIT_CLIP, DIT_SSIM, DIT_CONTRA, DIT_DIR_CLS, DIT_TARGET, DIT_L2, DIT_RANGE, DIT_TERMS } DiffuseitTerm;
extern const char *const diffuseit_term_name[DIT_TERMS];

typedef struct {
    double weight[DIT_TERMS];                             /* 0: not evaluated */
    int  skip, diff_iter, rounds, max_restarts;           /* after max_restarts the flag is set but not obeyed */
    bool range_restart, noise_aug_all, regularize_content, prog_contrast, ddim;
    double restart_above;
} DiffuseitOptions;
/* The released defaults: weights 2000, 1000, 200, 100, 2000, 3000, 200; skip 40, diff_iter 50, 10 rounds, 10 restarts, 0.01. */
DiffuseitOptions diffuseit_options(void);

typedef struct {                                          /* of one call of the guidance */
    int index, round, call, restarts;
    double term[DIT_TERMS];                               /* weighted; NaN: not evaluated */
    double frac, grad_norm, variance_low, variance_high;
    bool restart;                                         /* as computed, obeyed or not */
} DiffuseitReport;

enum { DIT_TOWERS = 8 };
typedef struct {
    Unet *unet;
    const Gaussian *process;                              /* VARIANCE_LEARNED: the network's output is eps, then v */
    Prediction prediction;
    Tensor context;                                       /* [1,T,D]; [2,T,D]: negative, prompt, mixed by `scale`; [1,1]: a class; empty */
    double scale;
    Vae *vae;                                             /* NULL: pixels */
    Dino *dino;
    int dino_size;
    ClipTower *tower[DIT_TOWERS];
    int towers, cuts;                                     /* cuts 0: the whole picture */
    DiffuseitOptions o;
    bool recompute;
    void *user;
    void (*noise)(void *user, Tensor out);                /* start; each call's z; z'; after a restart a start */
    void (*cut)(void *user, int tower, Cut *cut, int n, int H, int W);       /* each call, after z: n cuts of one tower */
    void (*draw_class)(void *user, Tensor context);       /* before each call's z; NULL: the class stays */
    bool (*watch)(void *user, const DiffuseitReport *report, Tensor x, Tensor x0);             /* after a step; false: E_STOP; may be NULL */

    Tensor source, x_source;                              /* made by diffuseit_open, in the run arena: picture; what q-sampling begins at */
    Tensor target;                                        /* picture; empty: none */
    Tensor keys, similarity, target_cls, text[DIT_TOWERS];
    Tensor cls, x_in;                                     /* of the previous call: class token; what was seen */
    double clip_loss;                                     /* of the previous call, without its weight */
    int call, restarts;
} Diffuseit;

/* What a text asks of a tower: unit(to - 0.4 from + 0.2 e), e the unit embedding of the source picture.  All [width]. */
void diffuseit_text(Run *r, Tensor t, Tensor to, Tensor from, Tensor e);
/* Fixes what never changes: source [1,3,H,W], x_source (its latents; empty in pixel space), target [1,3,H,W] or empty, and per
 * tower the unit text features to, from [width] (tower[] and towers set; both empty without a text). */
bool diffuseit_open(Run *r, Diffuseit *d, Tensor source, Tensor x_source, Tensor target, const Tensor *to, const Tensor *from);
int  diffuseit_top(const Diffuseit *d);

/* E at x0 and x, all else fixed: dx0 and dx (through mix alone) are written.  cut[tower]: the cuts; NULL: none.  cls [D] receives
 * the class token of what was seen (d->cls is what it is compared with); x_in likewise.  Both may be empty. */
acc  diffuseit_terms(Run *r, Diffuseit *d, DiffuseitReport *report, Tensor dx0, Tensor dx, Tensor cls, Tensor x_in, Tensor x0, Tensor x, int i, const Cut *const *cut);
/* The network once, and g = -dE/dx through it.  mean, log_variance, x0 as without guidance.  Takes cls, x_in and the loss on to the
 * next call. */
void diffuseit_guide(Run *r, Diffuseit *d, DiffuseitReport *report, Tensor g, Tensor mean, Tensor log_variance, Tensor x0, Tensor x, int i, const Cut *const *cut);
/* One step from what diffuseit_guide gave; noise is read at i > 0.  DDIM: x0 changes. */
void diffuseit_step(Run *r, const Diffuseit *d, Tensor x_prev, Tensor x0, Tensor x, Tensor g, Tensor mean, Tensor log_variance, Tensor noise, int i);
/* The whole loop; x and x0 [1,C,h,w] receive the last sample and the last prediction, which is the result.  E_NUMBER names the index. */
void diffuseit_run(Run *r, Diffuseit *d, Tensor x, Tensor x0);
#endif
