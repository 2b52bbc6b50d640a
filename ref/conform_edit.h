/* conform_edit.h -- what the cases of attention editing share: a network with its schedule, and a guided run that is written down. */
#ifndef REF_CONFORM_EDIT_H
#define REF_CONFORM_EDIT_H
#include "guidance/methods.h"
#include "ref/conform.h"

typedef struct {
    Case *c;
    Unet unet;
    Schedule schedule;
    Guide g;                                              /* its watch fills the two below */
    Tensor latents;                                       /* [n+1,C,h,w]; empty: not kept */
    double *energy;                                       /* [n]; NULL */
} Stage;

bool    stage_open(Case *c, Stage *s, int steps);
Tensor  stage_latents(Stage *s, Tensor start);            /* begin such a record; returns a latent to run on */
/* The method that a registry row builds from a case's inputs, with these options and the defaults of the others. */
typedef struct { const char *name; double value; } Setting;
bool    stage_method(Stage *s, Method *m, const MethodInfo *info, MethodInput in, const Setting *set, int settings);

double *case_doubles(Case *c, int n);                     /* zeros */
Tensor  case_one (Case *c, const char *name);             /* the first of a batch */
Tensor *case_rows(Case *c, Tensor t);                     /* t[0] ... as tensors */
const char *case_sites(Case *c, const char *key, const char *suffix);       /* a list of module paths as one list of patterns */
void    judge_as (Case *c, const char *name, Tensor t);   /* under the file's shape, where the counts agree */
void    judge_times(Stage *s);                            /* params.timesteps */
#endif
