/* deltas.h -- delta blocks as the command line names them: files, weights, and what the files say of themselves. */
#ifndef REF_DELTAS_H
#define REF_DELTAS_H
#include "guidance/asyrp.h"
#include "ref/options.h"
#include "ref/train.h"

typedef struct {
    TextList delta;                                       /* --delta FILE, or FILE,FILE; several times */
    const char *weights, *dataset, *gradual;              /* --weights X,X; --dataset NAME; --gradual FROM,TO */
    double similarity;                                    /* NaN: not given */
} DeltaOptions;

typedef struct {
    const char *file[ASYRP_DELTAS];
    Delta block[ASYRP_DELTAS];
    const Delta *given[ASYRP_DELTAS];
    double weight[ASYRP_DELTAS], about[ASYRP_DELTAS][TRAIN_ABOUT];
    bool told[ASYRP_DELTAS];
    int n, train_steps;
    double from, to;                                      /* of --gradual; NaN: not given */
} Deltas;

/* Names, weights and what the files say; nothing of a model is needed.  E_OPTION. */
bool deltas_read(Deltas *d, const DeltaOptions *o, Arena *a, Status *s);
/* t_edit and t_boost: of the table named, else of the block whose texts are most alike; false: nobody says. */
bool deltas_interval(int *t_edit, int *t_boost, const Deltas *d, const DeltaOptions *o, Status *s);
/* The blocks.  E_FORMAT naming the shapes when one is not of this network. */
bool deltas_load(Deltas *d, const Unet *u, int H, int W, Arena *a, Status *s);
#endif
