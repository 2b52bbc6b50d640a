/* optim.h -- gradient descent over the parameters of a walk that have gradients (params_want_gradients).
 *
 *     SGD    p -= rate g                                             no momentum, no decay
 *     Adam   p -= rate m^ / (sqrt(v^) + 1e-8)                        betas 0.9, 0.999, bias corrected: `adam` of point.h
 *
 * A step uses gradients up: afterwards they are zero, ready to be added to.  Adam's moments and the count of steps are
 * parameters themselves, so that optim_walk saves and loads them (params_save in T_F32, in the double build T_F64, is exact to
 * the bit), alone or inside a walk that visits the model too:
 *
 *     STEP                   optimiser.step
 *     NAME.exp_avg, NAME.exp_avg_sq        Adam: the moments of parameter NAME, in the checkpoint's shape */
#ifndef NN_OPTIM_H
#define NN_OPTIM_H
#include "nn/param.h"

typedef enum { OPTIM_SGD, OPTIM_ADAM } OptimKind;
typedef struct OptimEntry OptimEntry;
typedef struct {
    OptimKind kind;
    OptimEntry *entry;                                    /* one for each parameter with a gradient, in the order of the walk */
    int entries;
    Param step;                                           /* a scalar: steps taken; exact in a float up to 16 777 216 */
} Optim;

/* Finds the parameters, and for Adam makes moments of zeros, all in a.  E_OPTION when no parameter has a gradient, or one that
 * has is held as WINOGRAD (plan training with AS_STORED and CONV); E_MEMORY.  The model must stay where it is. */
bool   optim_begin(Optim *o, OptimKind kind, WalkModel *walk, void *model, Arena *a, Status *s);
void   optim_step (Run *r, Optim *o, double rate);        /* E_NUMBER, and nothing is changed, when a gradient is not finite */
double optim_gradient_norm(Run *r, const Optim *o);       /* 2-norm over all of them */
int    optim_steps(const Optim *o);
void   optim_walk (void *optim, Walk *w);                 /* a WalkModel of the state */
/* PyTorch's StepLR after `count` of its steps: rate gamma^(count / every), multiplied one factor after the other; every 0: rate. */
double optim_decayed(double rate, double gamma, int every, int count);
#endif
