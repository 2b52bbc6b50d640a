/* pixel_model.h -- a pixel-space model as the program runs it: the network, the process it was trained on, perhaps a noisy
 * classifier and the names of classes; and its sampling loop, which is the guidance engine's.  Pictures are [3,H,W] in [-1,1]:
 * the picture is its own latent. */
#ifndef REF_PIXEL_MODEL_H
#define REF_PIXEL_MODEL_H
#include "guidance/classifier.h"
#include "nn/pixel.h"
#include "ref/verbs.h"
#include "tensor/random.h"

typedef struct {                                          /* of config.json: how to sample; fields as the released scripts name them */
    int T;                                                /* diffusion_steps */
    BetaKind betas;                                       /* noise_schedule */
    bool rescale, clamp;                                  /* rescale_timesteps; clip_denoised */
    char respacing[64];                                   /* timestep_respacing; "" when the file has none */
    Variance variance;                                    /* learned, or large (adm_unet; sigma_small: small), or small (ddpm_unet) */
} PixelSampling;

typedef struct {
    PixelKind kind;
    char folder[400], classifier_folder[400];             /* the latter "": no classifier */
    Arena structure, numbers, arena[4];                   /* arena: keep, temp, step, run */
    Run run;                                              /* errors are in run.status; stop and user are the caller's */
    size_t most_memory;
    Unet unet;
    AdmClassifier classifier;
    LoadReport report[2];                                 /* of the network, of the classifier */
    PixelSampling sampling;
    const char **label;                                   /* names of classes; NULL: none */
    int labels;
    bool upsampler;                                       /* the network reads a small picture beside the noise */
    bool read;                                            /* the numbers are there */
} PixelModel;

/* The folder of --model among the arguments is that of a pixel-space network. */
bool pixel_asked(int argc, char **argv);

/* Structure, sampling and, compared with them, the tensors of the files; no number is read.  classifier may be NULL.
 * E_FORMAT for a network that predicts x0, a classifier of other pictures. */
bool pixel_model_open(PixelModel *p, const Common *m, const char *folder, const char *classifier);
/* A text file with a name a line, the first of class 0; several names of one class are parted by commas.  NULL: labels.txt
 * of the model's folder, if it is there. */
bool pixel_model_labels(PixelModel *p, const char *file);
/* A number, or a name (without regard to case) that only one class has.  -1 with E_OPTION, naming the nearest. */
int  pixel_model_class(PixelModel *p, const char *text);
const char *pixel_model_label(const PixelModel *p, int class_number);      /* NULL: it has no name */
void pixel_model_plan(PixelModel *p, int W, int H);       /* kernels transformed for pictures of this size, but under a limit; before reading */
/* The numbers. */
bool pixel_model_read(PixelModel *p, int W, int H);
void pixel_model_close(PixelModel *p);
double pixel_model_scale(const PixelModel *p);            /* of the classifier, as published for models of this size */

typedef struct {
    Sampler sampler;
    const char *respacing;                                /* see respace.h */
    double eta, scale;                                    /* of DDIM; of the classifier */
    int label;                                            /* -1: none */
    Tensor low;                                           /* [3,H,W]: an upsampler's small picture, enlarged (pixel_enlarge) */
    int W, H;
    RandomKind rng;
} PixelRequest;

typedef struct {
    void *user;                                           /* each may be NULL; false stops with E_STOP */
    bool (*step)(void *user, const GuideReport *report, double seconds, Tensor z, Tensor x0);
} PixelHooks;

/* rgb [h,w,3] as an upsampler reads it: [-1,1], bilinear to [3,H,W], in the run arena. */
Tensor pixel_enlarge(PixelModel *p, const uint8_t *rgb, int h, int w, int H, int W);
bool pixel_process(PixelModel *p, Gaussian *g, const char *respacing);     /* in the run arena */
/* The starting noise of a seed; what the sampler draws goes on from there. */
void pixel_noise(PixelModel *p, Random *random, const PixelRequest *q, uint64_t seed, Tensor z);
/* z [3,H,W]: noise in, the picture out.  The model has been read. */
bool pixel_sample(PixelModel *p, const Gaussian *g, const PixelRequest *q, Random *random, Tensor z, const PixelHooks *h);
/* A picture to noise by reverse DDIM: stored[n] is given, the picture is also stored[n-1], and stored[0] the noisiest
 * level; sampling by DDIM from stored[i] goes on at step i. */
bool pixel_invert(PixelModel *p, const Gaussian *g, const PixelRequest *q, Tensor *stored, const PixelHooks *h);
/* rgb [H,W,3] in the arena, as the models' authors store a sample (gaussian_byte); NULL with E_NUMBER or E_MEMORY. */
uint8_t *pixel_levels(PixelModel *p, Arena *a, Tensor z);
#endif
