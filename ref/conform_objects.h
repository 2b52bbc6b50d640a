/* conform_objects.h -- what the golden cases of the methods for several objects share: a network, a latent, maps; one
 * evaluation with its gradient; whole runs in which every evaluation and every gradient is recorded. */
#ifndef REF_CONFORM_OBJECTS_H
#define REF_CONFORM_OBJECTS_H
#include "guidance/objects.h"
#include "ref/conform.h"

typedef struct {
    Case *c;
    Unet unet;
    Schedule schedule;
    Guide g;
    Branch branch[2];                                     /* uncond (in runs), cond */
    Lane lane;
    Clock clock;
    Objects objects;
    Want want[2];
    int wants;
    Tensor z, dz;                                         /* [C,h,w] */
} ObjectScene;

/* steps: of the run; 0 for one evaluation at params.t. */
bool object_scene(Case *c, ObjectScene *s, int steps);
int  object_numbers(Case *c, const char *key, double *out, int most);        /* params.KEY, an array; how many */
void object_look(ObjectScene *s);                                            /* the lane's view, fresh, with empty adjoints */
/* Pull, and judge grad.latent and out.updated, both with this suffix. */
void object_finish(ObjectScene *s, const char *suffix);

enum { OBJECT_STEPS = 1000 };
typedef struct ObjectLoop ObjectLoop;
struct ObjectLoop {
    ObjectScene *s;
    const Energy *energy;                                 /* the method's own, and its state */
    void *state;
    Verdict (*enough)(const Clock *c, acc E, View *now, const View *ref, void *state);
    void (*note)(ObjectLoop *l, Run *r, const View *now); /* after an evaluation; may be NULL */
    Tensor latents, updated, grads;                       /* [n+1 or n, C,h,w] */
    double loss[OBJECT_STEPS];
};
/* Runs `rules` rules, whose energy, gain and enough (where not NULL) are replaced by recording ones.  Judges out.latents,
 * mid.updated and grad.per_step. */
void object_loop(ObjectLoop *l, Rule *rule, int rules);
#endif
