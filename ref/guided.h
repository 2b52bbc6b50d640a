/* guided.h -- a pipeline, words, pictures and methods joined into one guided run.
 *
 *     open      texts, words and objects by name, the picture's latents, the direction of text, the inversion, the methods
 *     sample    noise (or an inversion) -> latents, through guide_sample; what the run showed is kept
 *
 * All that is made lives in the pipeline's run arena.  Errors are in the pipeline's run.status. */
#ifndef REF_GUIDED_H
#define REF_GUIDED_H
#include "guidance/methods.h"
#include "ref/options.h"
#include "ref/pipeline.h"
#include "ref/resume.h"
#include "ref/words.h"

enum { GUIDED_METHODS = 4, GUIDED_NUMBERS = 40, GUIDED_EDITS = 16, GUIDED_COMPOSED = 4, GUIDED_PICTURES = 6 };

typedef struct { const MethodInfo *info; double number[GUIDED_NUMBERS]; } GuidedMethod;
typedef struct {                                          /* an edit by the word as written */
    EditKind kind;
    const char *word;
    double x, y;
    const uint8_t *picture;                               /* INSERT, COLLAGE: rgb of the size of the run's */
} GuidedEdit;

typedef struct { const char *word; double at[4]; } GuidedBox;        /* x0, y0, x1, y1 in parts of the frame */
typedef struct { const char *word; Tensor m; } GuidedMask;           /* [h,w] of any size, 0 .. 1 */
typedef struct { const char *text; double weight; } GuidedPrompt;

typedef struct {
    PipelineRequest base;                                 /* prompt (may be NULL with `from`), steps, scale, eta, rescale, size, seed, latents */
    GuidedMethod method[GUIDED_METHODS];
    int methods;
    const double *mixing;                                 /* [CFG_NUMBERS] of cfg_method.h; NULL: classifier-free guidance as it is, and base.rescale */
    GuidedPrompt compose[GUIDED_COMPOSED];                /* further prompts */
    int composed;
    Sampler sampler;
    const char *source_prompt;                            /* of the reference or the picture; NULL: the prompt */
    const char *const *object;                            /* by word; none: found in the prompt by the list of nouns */
    int objects;
    GuidedEdit edit[GUIDED_EDITS];
    int edits;
    GuidedBox box[WORDS_OBJECTS];
    int boxes;
    GuidedMask mask[WORDS_OBJECTS];                       /* of no object, or of each */
    int masks;
    const uint8_t *picture;                               /* rgb [H,W,3] of base.H x base.W; NULL: none */
    Seed source_seed;                                     /* of the reference that goes along; not given: the run's own */
    const char *from, *to;                                /* direction between two words; NULL: none */
    const char *from_file, *to_file;                      /* or between two files of sentences */
    const char *nouns, *templates;                        /* bundled files */
    const char *cache;                                    /* folder of finished inversions; NULL: none */
    const char *weights;                                  /* a hash of the UNet's weights: part of the cache's key */
    bool start_inverted;                                  /* start from the picture's inversion though no method asks for it */
    bool recompute;                                       /* remember only each step's input: less memory, the same numbers */
    const Delta *const *delta;                            /* of Asyrp; NULL */
    const double *weight;
    int deltas, train_steps;
    bool maps;                                            /* collect each word's attention */
} GuidedRequest;

typedef struct {
    void *user;                                           /* each may be NULL */
    bool (*step)(void *user, const GuideReport *report, double seconds, Tensor z, Tensor x0);        /* false: stop */
    bool (*inverted)(void *user, const char *what, int done, int of);      /* one step of an inversion, or of a fit after it; false: stop */
    void (*note)(void *user, const char *text);
    void (*warning)(void *user, const char *text);
} GuidedHooks;

typedef struct {
    Pipeline *p;
    const GuidedRequest *q;
    const GuidedHooks *h;
    Schedule schedule;
    Arena keep;                                           /* what backward needs */
    Tensor text, source, direction;                       /* [2,T,D]: negative, prompt; [T,D] or empty */
    Tensor composed[GUIDED_COMPOSED];                     /* [T,D] */
    PromptWords words, source_words;
    Object object[WORDS_OBJECTS];
    int objects;
    double box[WORDS_OBJECTS][4];
    Tensor mask[WORDS_OBJECTS];
    ObjectEdit edit[GUIDED_EDITS];
    int edits;
    ObjectPicture own[GUIDED_PICTURES];                   /* of INSERT and COLLAGE */
    const uint8_t *own_rgb[GUIDED_PICTURES];
    int owns;
    Tensor source_start;                                  /* of source_seed; empty: the run's own */
    Tensor x0;                                            /* the picture's clean latents [C,h,w]; empty: none */
    Tensor *stored, *null_text;                           /* its inversion [n+1], [n]; NULL: none */
    double psnr_reconstruction, psnr_codec;               /* of the inversion's way back against the autoencoder's picture; of that against the picture */
    const uint8_t *reconstruction;                        /* rgb; NULL: none */
    Method part[GUIDED_METHODS + 3];
    int parts;
    Method plain[2];                                      /* the run without its methods: the mixing of predictions alone */
    int plains;
    int cond;                                             /* place of the branch that is watched for maps; -1: none */
    bool lockstep;                                        /* reference 0 goes along from the same start: its latent is the source */
    Tensor source_z;                                      /* after a run: the reference's latents; empty: there was none */
    Tensor map[200];                                      /* sums of each word's attention, [mh,mw]; empty before the first step */
    int mh, mw, maps_seen;
    GuideReport *report;                                  /* [n]; steps done */
    int reports;
    Tensor last;                                          /* the last finite latent [C,h,w], after step last_step (0: the start) */
    int last_step;
    Random random;
    Resume *resume;                                       /* set by the caller after guided_open; NULL: nothing is kept */
    double step_began;
} Guided;

/* Texts, words, the picture's latents and its inversion: everything but the methods. */
bool guided_prepare(Guided *g, Pipeline *p, const GuidedRequest *q, const GuidedHooks *h);
/* Everything before the first step. */
bool guided_open(Guided *g, Pipeline *p, const GuidedRequest *q, const GuidedHooks *h);
void guided_close(Guided *g);
/* Seeds the generator, makes the start and runs.  z [1,C,h,w] in the run arena receives the clean latents.  plain: without the methods. */
bool guided_sample(Guided *g, Tensor *z, uint64_t seed, bool plain);
void guided_lasts(void *guided, const Keeper *k);          /* for Resume.own */
const char *guided_prompt(const GuidedRequest *q);        /* the prompt that counts: as given, else the source's, else "" */

/* guided_mixing.c: the parts that mix predictions, appended; and the same for a plain run.  mixed: a method brings uncond and cond. */
bool guided_mixing(Guided *g, const MethodInput *in, bool mixed);
/* guided_text.c: texts, words, objects, edits, direction. */
bool guided_texts(Guided *g);
/* inversion.c: stored and null_text, from the cache or anew; the way back is measured. */
bool guided_inversion(Guided *g, const MethodInfo *info, const MethodInput *in);
double psnr_of(const uint8_t *a, const uint8_t *b, size_t bytes);     /* dB; 999 where they are equal */
#endif
