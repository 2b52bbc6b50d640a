/* param.h -- parameters, and the one walker that load, save, count, list and optimise share.
 *
 * A parameter is planned first (its sizes and its layout), and gets its numbers afterwards.  Kernels that are planned as
 * WINOGRAD are transformed while they are read: the kernels themselves never are in memory. */
#ifndef NN_PARAM_H
#define NN_PARAM_H
#include "nn/weights.h"
#include "tensor/run.h"

/* CONV: files hold [O,I,kh,kw], memory holds [O,kh,kw,I].  WINOGRAD: the value is u of conv.h instead; it has gradients
 * (in CONV's order) but cannot be saved.  TRANSPOSED: files hold [in,out], memory [out,in].  All else is as stored (file rank may exceed: the checkpoint's [C,C,1,1] loads
 * into [C,C], and [C,C] into [C,C,1,1], when the counts agree). */
typedef enum { AS_STORED, CONV, WINOGRAD, TRANSPOSED } Layout;
typedef struct {
    Tensor v, grad;                                       /* v empty: not loaded; grad empty: frozen, costs nothing */
    Layout layout;
    int rank, size[4];                                    /* as the checkpoint has it (TRANSPOSED: as memory); rank 0 is a scalar; rank -1: absent */
    int parts, part, block;                               /* parts > 1: some rows of a fused tensor, see param_part */
} Param;

Param param_none(void);                                   /* e.g. the bias a layer does not have */
Param param_vector(int n);
Param param_matrix(int out, int in);                      /* [out,in] */
Param param_conv  (int out, int in, int kh, int kw);
/* p as one of several equal parts of a tensor of the file with parts * size[0] rows: block after block of `block` rows, one of
 * each part in turn.  block = size[0]: all of q, then all of k, then all of v; block = a head's width: q, k, v of the first head,
 * then of the next.  Every part is walked under the fused tensor's name, part 0 first; saving joins them. */
Param param_part(Param p, int part, int parts, int block);
Shape param_shape (const Param *p);                       /* in memory: of the gradient, and of the value unless WINOGRAD */
bool  param_there (const Param *p);                       /* rank >= 0 */

typedef struct Walk Walk;
struct Walk {
    void (*visit)(Walk *w, Param *p, const char *name);   /* name: the full key in the checkpoint */
    void *self;
    char path[256];                                       /* current module path */
};
typedef void WalkModel(void *model, Walk *w);             /* e.g. unet_walk */

size_t walk_enter(Walk *w, const char *module);           /* append ".module"; returns what walk_leave needs */
size_t walk_enter_at(Walk *w, const char *list, int i);   /* append ".list.i" */
void   walk_leave(Walk *w, size_t before);
void   walk_param(Walk *w, Param *p, const char *leaf);   /* visit path.leaf when the parameter is there; a path that ends in _ takes no dot */

typedef struct {
    int loaded, surplus, nonfinite;                       /* nonfinite: parameters that hold NaN or infinity; looked for when a checkpoint is loaded */
    char first_surplus[160], first_nonfinite[160];
} LoadReport;

/* Every parameter read into the arena (one piece), converted and permuted a few rows at a time: never a second whole copy.
 * Names of names.h are accepted.  Missing and wrongly shaped tensors are counted in the error and the first named;
 * surplus ones are counted in the report (which may be NULL).  On failure no parameter has a value.  params_check looks only. */
bool   params_check(WalkModel *walk, void *model, Weights *w, LoadReport *report, Status *s);
bool   params_load(WalkModel *walk, void *model, Weights *w, Arena *weights, LoadReport *report, Status *s);
void   params_forget(WalkModel *walk, void *model);                  /* no parameter has a value; the memory is the caller's */
size_t params_bytes(WalkModel *walk, void *model);                   /* that params_load takes, as the layouts are now */
/* In the checkpoint's names and order, values rounded to `type`; metadata format = pt.  E_OPTION for a parameter without
 * value, or that is held as WINOGRAD. */
bool   params_save(WalkModel *walk, void *model, const char *path, Dtype type, Arena *scratch, Status *s);
size_t params_count(WalkModel *walk, void *model, int *tensors);     /* numbers, and tensors of a file; the latter may be NULL */
Param *params_find(WalkModel *walk, void *model, const char *name);  /* of a fused tensor, part 0 */
bool   params_want_gradients(WalkModel *walk, void *model, Arena *a, Status *s);     /* all of them, zeroed */
/* Deterministic healthy random values for tests and benchmarks; each tensor's numbers depend on seed and name only, and
 * are floats in both builds.  n is a sum of four uniforms, scaled to variance 1 (bounded by 3.46): norms 1 + 0.2 n, biases and means
 * 0.1 n, embeddings 0.5 n, logit_scale 2.6592, all else n / sqrt(fan_in). */
bool   params_randomise(WalkModel *walk, void *model, Arena *weights, uint64_t seed, Status *s);
void   param_to_file_order(real *to, Tensor t, const Param *p);      /* a value or gradient of param_shape, in the checkpoint's order */
#endif
