/* edit.h -- what `edit`, `generate --method` and `invert` share: settings, options of methods, presets, a run and its outputs. */
#ifndef REF_EDIT_H
#define REF_EDIT_H
#include "guidance/cfg_method.h"
#include "ref/deltas.h"
#include "ref/guided.h"
#include "ref/image.h"
#include "ref/metadata.h"
#include "ref/progress.h"
#include "ref/verbs.h"

typedef struct {
    Common common;
    TextList method, move, resize, layout, look, keep, reweight, blend, apart, window, insert, collage, box, mask, compose;
    const char *prompt, *negative, *source_prompt, *image, *source, *target, *source_sentences, *target_sentences, *objects;
    const char *cache, *latents, *save_latents, *output, *maps, *strip, *plot, *params, *params_from;
    int  steps, W, H, count, rng, fit, start, sampler, preview_every;     /* steps 0, scale NaN: not given */
    double scale, eta;
    double mixing[CFG_NUMBERS];                           /* NaN: not given */
    Seed seed, source_seed;
    DeltaOptions deltas;
    bool recompute, paper, dry_run, no_metadata, resume;
    double number[GUIDED_METHODS][GUIDED_NUMBERS];        /* NaN: not given */
} Edit;

enum { METHOD_ROWS = GUIDED_METHODS * GUIDED_NUMBERS };
typedef struct {                                          /* options of the chosen methods, as rows of a page */
    Option row[METHOD_ROWS];
    char alias[METHOD_ROWS][80], shown[METHOD_ROWS][24], preset[METHOD_ROWS][24], help[METHOD_ROWS][200];
    const MethodInfo *info[GUIDED_METHODS];
    int rows, methods;
} MethodRows;

typedef struct { Option row[CFG_NUMBERS]; char alias[CFG_NUMBERS][40], shown[CFG_NUMBERS][16], help[CFG_NUMBERS][200]; } MixingRows;
/* Rows of the numbers that every run mixes by; `at`: of the first of CFG_NUMBERS doubles in the settings. */
void mixing_rows(MixingRows *m, size_t at);
bool edit_asked(int argc, char **argv);                   /* is there an option among the arguments that makes it a guided run? */
/* The methods that --method names in argv, and their rows.  E_OPTION for an unknown one, with the nearest. */
bool edit_methods(MethodRows *m, int argc, char **argv, Status *s);
void edit_defaults(Edit *e);                              /* before parsing: what "not given" looks like */
/* Numbers not given: of the preset file (NULL: none), else the methods' own; steps and scale likewise, else 50 and 7.5. */
bool edit_numbers(Edit *e, GuidedRequest *q, const MethodRows *m, const char *presets, Arena *a, Status *s);
bool edit_edits(const Edit *e, GuidedRequest *q, Arena *a, Status *s);       /* --move and its like, taken apart */
/* "WORD=REST": the word; E_OPTION says what is wanted. */
const char *word_before(const char *text, const char *option, const char *wanted, Arena *a, Status *s);
/* edit_check.c: what can be refused before a model is read; what no chosen method reads is refused, too. */
bool edit_check(const Edit *e, const MethodRows *m, const char *verb, Status *s);
bool edit_places(const Edit *e, GuidedRequest *q, Arena *a, Status *s);      /* --box and --mask */

enum { GRADUAL_MOST = 32 };
typedef struct {
    Edit *e;
    const char *verb;
    MethodRows *rows;
    Console console;
    Pipeline *p;
    GuidedRequest request;
    Deltas deltas;
    Image gradual[GRADUAL_MOST];                          /* pictures of --gradual, for the strip */
    Guided *guided;
    Progress progress;
    char folder[1024], nouns[1200], templates[1200], presets[1200], what[40], image_sha256[65], latents_sha256[65];
    Arena arena;
    Image picture;
    WeightHashes hashes;
    Resume resume;
    int image, done;
    double begun;
    Status status;                                        /* of writing */
} EditRun;

typedef struct { Edit edit; MethodRows rows; MixingRows mixing; Pipeline pipeline; EditRun run; Status status; } EditWork;
int verb_asyrp(int argc, char **argv);                    /* edit with a pixel-space model */
/* Everything zeroed and joined, methods found (else status says why); NULL: out of memory. */
EditWork *edit_work(int argc, char **argv);
void edit_work_free(EditWork *w);
/* Model, picture, size, request; nothing is computed yet. */
bool edit_prepare(EditRun *w);
void edit_strength(EditRun *w);                           /* asyrp's strength of picture w->image under --gradual */
GuidedHooks edit_hooks(EditRun *w);
void edit_numbered(const EditRun *w, char *to, size_t room, const char *path);      /* of several pictures: with the number of this one */
bool edit_preview(EditRun *w, int step, Tensor x0);       /* the estimate so far, beside the output */
/* edit_outputs.c: everything one finished picture leaves.  z [1,C,h,w]. */
bool edit_outputs(EditRun *w, Tensor z, uint64_t seed);
bool edit_gradual_strip(EditRun *w);                      /* all pictures of --gradual side by side */
bool edit_reconstruction(EditRun *w);                     /* the strip of an inversion: the picture, and the way back */
bool edit_keep_last(EditRun *w);                          /* after E_NUMBER: the last finite latent beside the output */
/* edit_metadata.c */
void edit_members(JsonOut *o, const void *run);           /* methods, numbers, edits: for metadata and events */
Metadata edit_metadata(const EditRun *w, uint64_t seed);
/* edit_resume.c: with --resume, where the picture's state is kept, and what an earlier run left there. */
bool edit_resume(EditRun *w, uint64_t seed);
/* Is the picture there already, made by the same values? */
bool edit_finished(EditRun *w, uint64_t seed);
#endif
