/* pipeline.h -- from words to a picture, from a picture to the noise it came from.
 *
 * Two levels.  The sampling loops (sample_*) work on a Run, a UNet, a schedule and tensors, and know no file and no
 * prompt.  A Pipeline owns a model folder and its memory and does everything around them.  Latents are [N,C,h,w]. */
#ifndef REF_PIPELINE_H
#define REF_PIPELINE_H
#include "guidance/cfg.h"
#include "guidance/ddim.h"
#include "nn/model.h"
#include "tensor/random.h"

/* ---- the loops ---- */

/* What one finished step shows its observer; the tensors are valid during the call only. */
typedef struct {
    int step, of;                                         /* 1 .. of */
    int t;                                                /* the model was asked at this time */
    double seconds;                                       /* this step took */
    Tensor x;                                             /* [N,C,h,w]: the latents after the step */
    Tensor x0;                                            /* the estimate of the clean latents (empty in inversion) */
    Tensor out;                                           /* the mixed model output (eps, or v) the step used */
    Tensor uncond, cond;                                  /* before mixing; uncond is empty when the scale is 1 */
} SampleStep;

typedef struct {
    void *user;
    bool (*step)(void *user, Run *r, const SampleStep *at);      /* false: stop with E_STOP.  NULL: nobody looks */
} SampleHook;

typedef struct {
    double scale;                                         /* w of u + w (c - u); 1: conditional only, one pass */
    double eta;                                           /* 0: deterministic; needs noise otherwise */
    double rescale;                                       /* phi of cfg_rescale; 0: off */
    bool   apart;                                         /* the two passes one after the other: less memory, the same bits */
    /* Where noise comes from when eta > 0: given[steps], each of x's shape; or generators, one per image, or a single
     * one that draws for the whole batch in one call. */
    const Tensor *given;
    Random *generator;
    int generators;
} SampleOptions;

/* Draw the numbers of `to` [N,...]: a row per generator, or all in one call of a single one. */
void sample_noise(Run *r, Tensor to, Random *generator, int generators);
/* DDIM with classifier-free guidance.  x in: noise; out: the clean latents.  context [2,T,D]: row 0 negative (or empty)
 * prompt, row 1 prompt; [1,T,D] is enough at scale 1.  The rows serve every image.  E_NUMBER names the step where a
 * latent is no longer finite. */
void sample_down(Run *r, const Unet *u, const Schedule *s, Tensor x, Tensor context, SampleOptions o, SampleHook hook);
/* DDIM inversion at scale 1: x in: clean latents; out: the noise they came from.  context [1,T,D]. */
void sample_up  (Run *r, const Unet *u, const Schedule *s, Tensor x, Tensor context, SampleHook hook);

/* ---- the pipeline ---- */

typedef struct {
    Model model;
    ScheduleConfig schedule;                              /* as the model's file says; may be changed before a run */
    Arena arena[3];                                       /* temp (and keep), step, run */
    Run run;                                              /* errors are in run.status; stop and user are the caller's */
    size_t most_memory;
    bool once;
    struct { int W, H; } unet_for, vae_for;               /* the picture they are planned for */
} Pipeline;

typedef struct {
    const char *model;                                    /* folder */
    const char *kernels;                                  /* name of a kernel table; NULL: the fastest that runs here */
    int  threads;                                         /* 0: as many as the process may use */
    bool blas;
    size_t most_memory;                                   /* bytes of weights and working memory together; 0: no limit.  A limit may keep
                                                           * kernels from being transformed (see pipeline_plan): last bits may differ */
    bool once;                                            /* one run, then close: a network's numbers are given back as soon as the run
                                                           * can go on without them.  So they are under a limit */
} PipelineSetup;

/* Opens the folder and reads its scheduler.  The numbers of networks are read when first needed, and again if they have been
 * given back; the kernels of convolutions are transformed for the size of the picture at hand. */
bool pipeline_open (Pipeline *p, const PipelineSetup *setup);
/* Everything of these parts that can be wrong without reading numbers: model_build; tokenizer and scheduler are loaded. */
bool pipeline_load (Pipeline *p, unsigned parts);
/* UNet and autoencoder are of one kind with each other and with the text (may be empty), and the UNet is ready for
 * pictures of this size until it is spared; under `once` or a limit the other networks are given back. */
bool pipeline_ready(Pipeline *p, Tensor context, int W, int H);
/* These networks are not needed for a while: given back under `once` or a limit.  The UNet must be made ready again before it
 * is used; pipeline_text, _encode and _decode bring what they need themselves, and take nothing away. */
void pipeline_spare(Pipeline *p, unsigned parts);
/* How the networks will hold their kernels for pictures of this size; what is held otherwise is given back.  Transformed
 * (conv.h) wherever that pays; under a limit, if the network then takes more than half of it, only on maps of at least 1024
 * pixels, which gain most, and if that is still too much, nowhere.  So results depend on size and limit, never on free memory. */
void pipeline_plan (Pipeline *p, unsigned parts, int W, int H);
void pipeline_close(Pipeline *p);

typedef struct {
    const char *prompt, *negative;                        /* UTF-8; negative NULL: the empty prompt */
    int    steps;
    double scale, eta, rescale;
    int    W, H;                                          /* pixels, multiples of the autoencoder's factor; 0: the model's own size */
    int    count;                                         /* pictures; 1 with a file of latents: as many as it holds */
    uint64_t seed;                                        /* picture k draws from seed + k */
    RandomKind rng;
    bool   shared;                                        /* one generator for the whole batch, as a single call */
    bool   apart;                                         /* see SampleOptions */
    AlphaKind alphas;
    const char *latents;                                  /* a safetensors file: key `latents`, F32 or F64 [C,h,w] or [N,C,h,w]; NULL: drawn */
    int    preview_every;                                 /* steps; 0: none.  Never changes the result */
} PipelineRequest;

PipelineRequest pipeline_request(void);                   /* 50 steps, scale 7.5, eta 0, one picture, PyTorch's numbers */

typedef struct {
    void *user;                                           /* each may be NULL; false stops with E_STOP */
    bool (*step)   (void *user, int image, const SampleStep *at);
    bool (*preview)(void *user, int image, int step, const uint8_t *rgb, int W, int H);         /* [H,W,3] */
    bool (*image)  (void *user, int image, uint64_t seed, const uint8_t *rgb, int W, int H, Tensor latent);      /* latent [1,C,h,w] */
    void (*note)   (void *user, const char *text);        /* a warning, one line */
} PipelineHooks;

/* prompt -> pictures.  E_OPTION for a size or count that cannot be; other errors as they come. */
bool pipeline_generate(Pipeline *p, const PipelineRequest *q, const PipelineHooks *h);

/* The rows of text the UNet reads: context [n,T,D] in the pipeline's run arena.  dropped[n]: tokens beyond the model's length. */
Tensor pipeline_text(Pipeline *p, const char *const *prompts, int n, int *dropped);
/* The latents of a file, key `latents`, in the run arena as [N,C,h,w].  Their channels must be those of the UNet, or else of
 * the autoencoder, where one is loaded. */
Tensor pipeline_latents(Pipeline *p, const char *file);
/* rgb [H,W,3] -> latents [1,C,h,w] in the run arena, scaled as the UNet reads them.  g NULL: the mode of the posterior. */
Tensor pipeline_encode(Pipeline *p, const uint8_t *rgb, int W, int H, Random *g);
/* latents [1,C,h,w] -> rgb [H,W,3] in the run arena:  255 clamp(v/2 + 1/2, 0, 1), halves to even.  NULL on failure. */
const uint8_t *pipeline_decode(Pipeline *p, Tensor latent, int *W, int *H);
/* Inversion of latents x [1,C,h,w], in place, under a prompt at scale 1. */
bool pipeline_invert(Pipeline *p, Tensor x, const char *prompt, int steps, AlphaKind alphas, SampleHook hook);
#endif
