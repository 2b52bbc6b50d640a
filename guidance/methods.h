/* methods.h -- the registry: every method that `tiller methods` lists, its options and how it is built.
 *
 * One row a method: names, paper, the option table (which feeds the parser, `tiller help METHOD` and the manual), and
 * build, which turns words, boxes, images and numbers into a Method.  Tables are static; what build makes lives in the
 * run arena.  A value that the paper fixes is the option's default; what suits another model is a preset, kept apart. */
#ifndef GUIDANCE_METHODS_H
#define GUIDANCE_METHODS_H
#include "guidance/guide.h"
#include "nn/delta.h"

typedef struct {
    const char *name;                                     /* as on the command line, without dashes */
    double value, lo, hi;                                 /* default and range; a switch has range 0..1 */
    const char *symbol;                                   /* the paper's letter */
    const char *help;                                     /* one line */
} MethodOption;

enum { OBJECT_TOKENS = 16 };
typedef struct {                                          /* a word (or phrase) of the prompt */
    const char *word;
    int token[OBJECT_TOKENS], tokens;                     /* positions in the encoded prompt; 0 is the begin mark */
    int source[OBJECT_TOKENS], sources;                   /* its positions in the reference's prompt; 0 of them: not there */
} Object;

typedef enum {
    EDIT_KEEP, EDIT_MOVE, EDIT_RESIZE, EDIT_SHAPE, EDIT_APPEARANCE, EDIT_REWEIGHT,
    EDIT_BLEND, EDIT_APART,                               /* change only where this word is; change nothing there */
    EDIT_WINDOW,                                          /* from x to y, parts of the run: this word's attention comes from the source */
    EDIT_INSERT, EDIT_COLLAGE                             /* the look of this object comes from a picture of its own; look and shape */
} EditKind;
typedef struct {
    EditKind kind;
    int object;                                           /* index into objects */
    double x, y;                                          /* MOVE: fractions of the frame, right and down; RESIZE: factors; REWEIGHT: x */
    int reference;                                        /* which reference the targets come from: 0, or 1 + place in `part` */
} ObjectEdit;

typedef struct {                                          /* a picture that an object comes from */
    Tensor x0, text;                                      /* clean latents [C,h,w]; what it shows [T,D] */
    int token[OBJECT_TOKENS], tokens;                     /* the object's positions in that text */
} ObjectPicture;

typedef struct {                                          /* the text of one prompt, as alignment needs it */
    const int *id;                                        /* [length], begin and end marks included */
    const char *const *word;                              /* the words between spaces */
    const int (*span)[2];                                 /* word k's token positions [first, past the last) */
    int length, words, ids;                               /* ids: up to and including the end mark */
} PromptWords;

typedef struct {
    const double *number;                                 /* a value for each option of the row, in its order */
    Tensor uncond, cond;                                  /* contexts [T,D]: negative (or empty) prompt, and prompt */
    Tensor source;                                        /* the reference's prompt; empty: the prompt itself */
    Tensor direction;                                     /* added to the source's context (Pix2Pix-Zero); empty: none */
    double scale;                                         /* of classifier-free guidance */
    const Object *object;
    int objects;
    const double (*box)[4];                               /* one an object: x0, y0, x1, y1 as fractions of the frame; x1 <= x0: none; NULL */
    const Tensor *mask;                                   /* one an object [h',w'], 0 .. 1, of any size; NULL */
    const ObjectEdit *edit;
    int edits;
    PromptWords words, source_words;
    const Tensor *stored;                                 /* an inversion: stored[i] is the latent of step i, stored[n] the clean one; NULL */
    const Tensor *x0;                                     /* clean latents of real images, one a reference; NULL */
    int images;
    const ObjectPicture *part;                            /* of INSERT and COLLAGE */
    int parts;
    Tensor source_start;                                  /* noise of a reference that goes along; empty: the run's own */
    const Tensor *null_text;                              /* [n] unconditional contexts of null-text inversion; NULL */
    const Schedule *schedule;
    Sampler sampler;
    const struct Classifier *classifier;                  /* of noisy pictures (classifier.h); NULL */
    int label;                                            /* its class */
    const Delta *const *delta;                            /* Asyrp's blocks; NULL */
    const double *weight;                                 /* one a block; NULL: 1 each */
    int deltas, train_steps;                              /* of the chain they were learned on; 0: not known */
    const Unet *unet;
    int h, w;                                             /* latent size */
} MethodInput;

/* What a method wants beside the prompt; NEED_SOURCE is 1. */
enum {
    NEED_SOURCE    = 1,                                   /* something to keep: the same seed unguided under the source's text, or an image */
    NEED_INVERSION = 2,                                   /* of an image: stored[] (see invert) and a start from stored[0]; else x0 is re-noised */
    NEED_IMAGE     = 4,                                   /* an image always */
    NEED_DIRECTION = 8,                                   /* a direction of text: from words or sentences to others */
    READS_BOX      = 16,                                  /* of an object */
    READS_MASK     = 32,
    PULLS          = 128,                                 /* a gradient through the network; at once through two passes */
    PULLS_TWICE    = 1 << 24,
    READS_SOURCE_SEED = 64                                /* a source that goes along may start from other noise */
};
#define READS(edit) (1u << (8 + (edit)))                  /* and edits of this kind; whoever asks for one that nobody reads is told */

typedef struct {
    const char *name, *title, *paper;                     /* "self-guidance", "Diffusion Self-Guidance", "arXiv 2306.00986" */
    const char *summary;                                  /* one line: what it is for */
    const char *equation;                                 /* the method in one line of plain text */
    const char *example;                                  /* a whole command */
    const MethodOption *option;
    int options;
    unsigned needs;                                       /* an or of NEED_ and READS */
    bool objects;                                         /* it needs words */
    bool (*build)(Run *r, Method *m, const MethodInput *in);
    /* Of a real image, before build: stored[n] holds its clean latents [C,h,w]; fills stored[n-1] .. stored[0], and where the
     * method reads them null_text[0] .. null_text[n-1] (tensors [T,D], made by the caller), setting *with_null.  in->stored
     * and in->null_text are not there yet.  NULL: DDIM inversion at scale 1 under in->source (in->cond when that is empty). */
    bool (*invert)(Run *r, const Guide *g, const MethodInput *in, Tensor *stored, Tensor *null_text, bool *with_null);
} MethodInfo;

extern const MethodInfo *const methods_all[];             /* NULL at the end */
const MethodInfo *methods_find(const char *name);
int methods_option(const MethodInfo *m, const char *name);            /* index; -1: none */

/* Common branches: "uncond" weighted 1 - w - others and "cond" weighted w, a composed prompt weighted w of its own.
 * par: w, low, high, others; where sigma is not in (low, high] (high 0: no such interval) only cond is run.  At w = 1 without others uncond is not run. */
double mix_uncond(const Clock *c, const double *par);
double mix_cond  (const Clock *c, const double *par);
double mix_composed(const Clock *c, const double *par);
#endif
