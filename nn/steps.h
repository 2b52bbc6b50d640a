/* steps.h -- a network as a list of steps, run downwards by forward and upwards by backward.  Skip connections
 * need no graph: PUSH remembers the current value, POP joins it back on (concat(value, skip)), and in backward
 * the two change roles: POP sets the skip's gradient aside, PUSH adds it.
 *
 * Side inputs, read by many steps: silu(time embedding) [N,4*C0] and the text context [N,T,D].  Their gradients
 * are ADDED to accumulators.
 *
 * Sites.  A step carries the checkpoint's module path; its output is SITE_FEATURE there, and also on the path of
 * the block that ends with it ("down_blocks.0", after its downsampler).  A skip is pushed after the sites have
 * been visited: a write on a block's output reaches the skip too, and its gradient includes the skip's.
 *
 * Memory.  Without gradients (keep == temp): two alternating buffers of the largest step output, and what PUSH
 * holds.  With gradients: every step's input, and its cache unless `recompute`; then each step runs forward once
 * more, right before its backward (run->replay is set), to the same bits.  Inside a step of a recomputing pass
 * `keep` is released when the step ends: a tap keeps what it saw in step or run.  The output of a step is not
 * computed again, so taps on outputs are not called again. */
#ifndef NN_STEPS_H
#define NN_STEPS_H
#include "nn/attention.h"
#include "nn/layers.h"
#include "nn/resblock.h"
#include "nn/spatial.h"

typedef enum { STEP_CONV, STEP_RES, STEP_SPATIAL, STEP_ATTENTION, STEP_UP, STEP_PUSH, STEP_POP, STEP_NORM } StepKind;

typedef struct {
    StepKind kind;
    const char *path;                                     /* module path; NULL for PUSH and POP */
    const char *leaf;                                     /* the convolution's name below path, or NULL: path itself */
    const char *ends;                                     /* path of the block that ends here, or NULL */
    int channels;                                         /* of the output */
    int pair;                                             /* POP: its PUSH.  UP: the PUSH whose size it restores, -1: exactly double */
    union { Conv conv; ResBlock res; Spatial spatial; AttentionBlock attention; Norm norm; };
} Step;                                                   /* STEP_UP: doubled (nearest), cropped to the pair's size, then conv */

enum { STEPS_MOST = 1024, SKIPS_MOST = 256 };
typedef struct { Step *step; int n; } Steps;

/* Building, in execution order.  Paths are printf-like; a failure sticks in the status. */
typedef struct {
    Steps *steps;
    Arena *arena;
    Status *status;
    int room, skip[SKIPS_MOST], skips, channels;          /* channels: of the current value */
} StepsBuilder;
void  steps_begin(StepsBuilder *b, Steps *s, int room, int channels, Arena *weights, Status *status);
char *steps_path (StepsBuilder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void  steps_conv (StepsBuilder *b, const char *path, const char *leaf, Conv conv);
void  steps_up   (StepsBuilder *b, const char *path, const char *leaf, Conv conv);
void  steps_res  (StepsBuilder *b, const char *path, ResBlock block);
void  steps_spatial  (StepsBuilder *b, const char *path, Spatial block);
void  steps_attention(StepsBuilder *b, const char *path, AttentionBlock block);
void  steps_norm (StepsBuilder *b, const char *path, Norm norm);
void  steps_push (StepsBuilder *b);
void  steps_pop  (StepsBuilder *b);
void  steps_ends (StepsBuilder *b, const char *path);     /* the last step ends this block */
int   steps_next_skip(const StepsBuilder *b);             /* channels that the next POP will join on */
void  steps_walk (Steps *s, Walk *w);
void  step_walk  (Step *s, Walk *w);

typedef struct {
    Tensor in, out, dskip;
    union {
        ResBlockCache res;
        SpatialCache spatial;
        AttentionBlockCache attention;
        struct { NormCache norm; Tensor seen; };          /* seen: the normalised value as taps left it, when tapped */
    };
} StepCache;
typedef struct {
    StepCache *cache;
    int n, first, last;                                   /* steps first .. last-1 were run */
    bool remembered, recompute;
    Tensor silu_temb, context;
} StepsPass;

/* Shapes of the outputs of steps first, first + 1, ... for an input of this shape (those before `first` are there already:
 * skips need them).  E_SHAPE when a size is impossible. */
bool steps_shapes(const Steps *s, Shape in, int first, Shape out[STEPS_MOST], Status *status);
/* Runs steps first .. last-1 on x; returns the value after them (in keep; empty after an error).  first > 0: p holds an earlier
 * pass over at least the steps before `first`, whose skips are used; that pass's own caches are not touched.
 * silu_temb and context may be empty when no step reads them. */
Tensor steps_forward(Run *r, const Steps *s, StepsPass *p, Tensor x, Tensor silu_temb, Tensor context, int first, int last, bool recompute);
/* dx written; dsilu_temb, dcontext added to; each may be empty.  dout is used up; empty: the gradient comes from taps alone. */
void steps_backward(Run *r, Steps *s, const StepsPass *p, Tensor dx, Tensor dsilu_temb, Tensor dcontext, Tensor dout);
int  steps_last_tapped(const Run *r, const Steps *s, bool pulls);     /* one past the last step that holds a (pulling) tap; 0: none */
int  steps_plan(Steps *s, Shape in, int least);           /* conv_plan for all; how many have lost their values */

typedef void SiteVisit(void *self, SiteKind kind, const char *path, Shape shape);    /* shape: network layout, one image */
void steps_sites(const Steps *s, Shape in, int tokens, SiteVisit *visit, void *self);
#endif
