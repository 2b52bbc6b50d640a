/* train.h -- `tiller train asyrp`: a delta block learned from pictures and two texts; what its files share.
 *
 *     open       model (a Stable Diffusion, or a pixel-space folder), CLIP, the texts' direction, the times that are edited
 *     pictures   each one's noise and clean form: inverted, or generated from a seed under a prompt; kept in a cache by content
 *     learn      pass by pass, picture by picture, time by time; a step of descent after every time
 *
 * A checkpoint is the block under its own names, and beside it what a run needs to go on to the same bytes. */
#ifndef REF_TRAIN_H
#define REF_TRAIN_H
#include "guidance/asyrp_learn.h"
#include "nn/optim.h"
#include "nn/pixel.h"
#include "ref/image.h"
#include "ref/metadata.h"
#include "ref/progress.h"
#include "ref/verbs.h"
#include "tensor/hash.h"

typedef struct {
    Common common;
    const char *source, *target, *images, *prompts, *prompt, *clip, *templates, *cache, *output, *plot, *dataset, *start, *per_time, *global;
    int steps, invert_steps, count, passes, optimizer, decay_every, t_edit, t_boost, W, H, save_every, block;    /* t_edit, t_boost -1: not given */
    double rate, decay, clip_weight, l1_weight, scale;
    Seed seed;
    bool resume, timeless, recompute;
} Train;

typedef struct {
    char name[200];
    Tensor noise, clean, context, embed;                  /* [1,C,h,w], [1,C,h,w], [rows,T,D] or empty, [1,D] */
} TrainPicture;

enum { TRAIN_ABOUT = 6, TRAIN_KEY = 32 };                 /* about: steps of the chain, t_edit, t_boost, cosine, timeless, groups */

typedef struct {
    Train *o;
    Console console;
    Progress progress;
    Run *r;                                               /* the pipeline's, or own */
    Pipeline p;
    Run own;
    Arena arena[4], keep, weights, state;                 /* arena: of own */
    bool pixel;
    Unet unet;                                            /* of a pixel-space model */
    ScheduleConfig config;
    Schedule chain;                                       /* all times of the chain, for the way up (pixels) or down (generation) */
    ClipText reader;
    ClipTower tower;
    const Tokenizer *words;
    AsyrpLearner learner;
    Delta delta;
    Optim optim;
    Param losses, progress_at, key, about;                /* [pictures passes]; pictures done; a hash; TRAIN_ABOUT numbers */
    TrainPicture *picture;
    int pictures, *time, times;                           /* edited times, ascending */
    int W, H;
    char folder[1024], clip_folder[1100], weights_hash[65], clip_hash[65];
    real *held;                                           /* see train_state_hold */
    double begun;
} TrainRun;

/* train_open.c */
bool train_open(TrainRun *w);
/* train_pictures.c */
bool train_pictures(TrainRun *w);
/* train_state.c: the checkpoint, and a copy of it in memory.  E_OPTION when a checkpoint belongs to other settings. */
bool train_state_begin(TrainRun *w);
bool train_state_load (TrainRun *w, const char *path);
bool train_state_save (TrainRun *w, const char *path);
void train_state_hold (TrainRun *w, bool restore);        /* remember all of it; or put it back */
int  train_done(const TrainRun *w);                       /* pictures, over all passes */
/* train_plot.c: the loss of each picture, and the mean of each pass (SVG). */
bool train_plot(const TrainRun *w, const char *path);

/* train_deltas.c: the mean shift at each time, or of all times; `edit --delta` reads both. */
bool train_deltas(TrainRun *w, const char *path, bool global);

/* What a finished block says of itself: TRAIN_ABOUT numbers; false (and untouched) when the file does not. */
bool train_about(double about[TRAIN_ABOUT], const char *path);
#endif
