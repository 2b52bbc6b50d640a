/* run.h -- what one computation carries along: memory, kernels, threads, taps and the first error.
 *
 * Five lifetimes, each an arena:
 *   weights   until the model is unloaded      (owned by the model, not by a Run)
 *   keep      one forward and its backward     (what backward needs to remember)
 *   temp      one function call                (mark on entry, release on exit)
 *   step      one sampling step                (guidance: what this step observed)
 *   run       one whole sampling run           (guidance: what accumulates over steps)
 * A forward without gradients lets keep and temp be the same arena: then the marks that release temp
 * release the caches too, and no layer has to ask which mode it is in.
 *
 * Errors: the first one is written here and stays.  From then on new tensors are empty and operations
 * on empty tensors do nothing, so the caller checks once, at the end. */
#ifndef TENSOR_RUN_H
#define TENSOR_RUN_H
#include <stdbool.h>
#include <stddef.h>
#include "tensor/kernels.h"
#include "tensor/real.h"

typedef enum {
    OK,
    E_OPTION,                   /* a request that cannot be met: value out of range, methods that clash */
    E_FILE,                     /* an input that cannot be read */
    E_FORMAT,                   /* an input that is malformed, or of the wrong kind */
    E_SHAPE,                    /* tensors that do not fit each other */
    E_MEMORY,                   /* allocation failed, or the limit was reached */
    E_WRITE,                    /* an output that cannot be written */
    E_NUMBER,                   /* NaN or infinity */
    E_STOP                      /* the caller asked to stop */
} Code;

typedef struct { Code code; char text[480]; } Status;

/* status_fail -- keep the first error; later ones are dropped.  printf-like. */
void status_fail(Status *s, Code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* An arena is a chain of blocks, each 64-byte aligned; growth never moves a pointer.  A mark is the
 * value of `used`; releasing to it frees (for reuse) everything taken since. */
typedef struct ArenaBlock ArenaBlock;
typedef struct {
    size_t used, peak;          /* bytes; peak is the high-water mark */
    size_t limit;               /* most bytes that may be reserved; 0: no limit */
    size_t reserved;            /* bytes held in blocks */
    bool poison;                /* fill released memory with 0xFF bytes: a stale float then reads as NaN (tests) */
    ArenaBlock *first, *now;
} Arena;

void  *arena_take(Arena *a, size_t bytes);                /* 64-byte aligned; NULL when memory or limit is exhausted */
void   arena_release(Arena *a, size_t mark);
void   arena_trim(Arena *a);                              /* give blocks that hold nothing back to the system */
void   arena_free(Arena *a);                              /* all of them */

typedef struct { int d[4]; } Shape;                       /* unused trailing sizes are 0 */
typedef struct { real *x; Shape s; } Tensor;              /* dense, row-major, never strided; empty: x is NULL */
#define SHAPE(...) ((Shape){{__VA_ARGS__}})

typedef struct Run Run;

/* A tap is a layer without parameters, spliced in at a named site: it may read or replace the value in
 * `forward`, and read or add to the gradient in `backward`.  Sites carry the module path of the official
 * checkpoint.  Values at sites, in network layout:
 *   SITE_FEATURE  [N,H,W,C]            output of a block, resnet, attention, sampler or convolution
 *   SITE_PROBS    [N,heads,Tq,Tk]      attention probabilities after softmax
 *   SITE_QUERY, SITE_KEY, SITE_VALUE   [N,T,C]   head h owns columns h*C/heads ...
 *   SITE_TIME     [N,4*C0]             the time embedding (before the blocks' silu)
 * `forward` is called again, with the same values, when a block is recomputed (run->replay is then set):
 * it must be pure, what accumulates belongs elsewhere.  A site without a tap is never materialised. */
typedef enum { SITE_FEATURE, SITE_PROBS, SITE_QUERY, SITE_KEY, SITE_VALUE, SITE_TIME } SiteKind;
typedef struct {
    SiteKind kind;
    const char *path;
    void *self;
    void (*forward )(void *self, Run *r, Tensor value);   /* NULL: only the gradient is wanted */
    void (*backward)(void *self, Run *r, Tensor grad);    /* NULL: the identity */
    bool pulls;                                           /* backward adds a gradient: it must be reached */
} Tap;

struct Run {
    Arena *keep, *temp, *step, *run;
    const Kernels *k;
    int threads;                                          /* at least 1; never changes a bit of any result */
    bool blas;                                            /* false: own matrix products in a fixed order */
    bool replay;                                          /* inside a recomputation */
    const Tap *tap;                                       /* first to last forward, last to first backward */
    int taps;
    bool (*stop)(void *user);                             /* asked between steps of a network; may be NULL */
    void *user;
    Status status;
};

void   run_fail(Run *r, Code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool   run_ok(const Run *r);

size_t shape_count(Shape s);                              /* product of the sizes in use; 0 for no sizes; SIZE_MAX when it is beyond */
int    shape_rank(Shape s);
bool   shape_same(Shape a, Shape b);
size_t tensor_count(Tensor t);                            /* 0 for an empty tensor */
bool   tensor_same(Tensor a, Tensor b);                   /* both there and of one shape */
Tensor tensor_as(Tensor t, Shape s);                      /* the same numbers under another shape; empty if counts differ */
Tensor tensor_row(Tensor t, int i);                       /* t[i], its first size dropped */
Tensor tensor_rows(Tensor t, int first, int count);       /* t[first .. first+count), same rank */

Tensor keep(Run *r, Shape s);                             /* uninitialised; empty and status set when memory is short */
Tensor temp(Run *r, Shape s);
Tensor tensor_in(Run *r, Arena *a, Shape s);              /* the same in any arena */
void   tensor_zero(Tensor t);
void   tensor_copy(Run *r, Tensor to, Tensor from);       /* counts must agree */

bool   tap_wanted  (const Run *r, SiteKind kind, const char *path);
bool   tap_pulls   (const Run *r, const char *prefix);    /* does a pulling tap sit at or under this module path? */
void   tap_forward (Run *r, SiteKind kind, const char *path, Tensor value);
void   tap_backward(Run *r, SiteKind kind, const char *path, Tensor grad);
#endif
