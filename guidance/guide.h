/* guide.h -- one interface for every guidance method: observe something, score it, shift something.
 *
 * A network computation has named sites.  Guidance does three things with a site:
 *   see    its value                             attention maps, features, eps, x0, the next latent
 *   write  its value during the forward pass     injection, replacement, an h-space shift
 *   pull   a gradient placed there to a leaf     z, x0, h, context
 * A method is then data: which passes to run and how they mix (branches), what is overwritten in them (writes), what is
 * made small, with respect to what, and where the step goes (rules).  An energy never differentiates a network: it gets
 * observed tensors and adds dE/dval beside them; the engine pulls.
 *
 * Layout at this border: one image; latents, eps, x0, noise [C,h,w]; features [C,h,w]; attention [heads,queries,keys];
 * queries, keys, values [tokens,C]; context [T,D], or [1] with the number of a class, or empty where the network reads none. */
#ifndef GUIDANCE_GUIDE_H
#define GUIDANCE_GUIDE_H
#include "guidance/gaussian.h"
#include "nn/unet.h"

/* ---- time -------------------------------------------------------------------------------------------------- */
typedef struct {
    int i, n;                                             /* step i of n; 0 is the noisiest */
    int t, t_prev;                                        /* training timesteps */
    double ab, ab_prev;                                   /* alpha-bar at both */
    int inner, repeat;                                    /* gradient iteration; repetition of this step */
} Clock;
typedef double Curve(const Clock *c, const double *par);  /* 0 means: skip the work as well */

/* ---- what is seen --------------------------------------------------------------------------------------------- */
typedef enum {
    SEE_PROBS, SEE_QUERY, SEE_KEY, SEE_VALUE, SEE_FEATURE, SEE_TIME,     /* inside a branch's pass, by module path */
    SEE_EPS, SEE_X0, SEE_PREV, SEE_LATENT                                /* of the step: mixed eps, x0, next z, z */
} See;

typedef struct {
    See kind;
    const char *site;                                     /* module path; "" for what belongs to the step */
    Tensor val;
    Tensor adj;                                           /* dE/dval, zero until an energy adds to it; empty: nothing pulls */
} Sight;

typedef struct {
    const char *branch;                                   /* whose pass; "" for the step's own view */
    Sight *sight;
    int sights, h, w;                                     /* h, w: latent size */
    Clock clock;
} View;

/* The nth sight of a kind whose site matches one of the comma-separated patterns ('*' matches any run of characters),
 * in execution order; NULL past the last. */
Sight       *view_at (View *v,       See kind, const char *patterns, int nth);
const Sight *view_see(const View *v, See kind, const char *patterns, int nth);
bool site_matches(const char *patterns, const char *site);

typedef struct { See kind; const char *sites; } Want;

/* ---- energies ------------------------------------------------------------------------------------------------- */
/* eval returns weight * E and adds weight * dE/dval to the adjoints of `now`.  It must not look at anything but its arguments;
 * what lasts longer than a call is in `state`, which belongs to the run. */
typedef struct Energy Energy;
struct Energy {
    const char *name;
    const Want *want;
    int wants;                                            /* of the step: none means all; SEE_LATENT alone needs no pass of the network */
    const char *branch;                                   /* whose view; NULL: each watched branch in turn; "": the step's */
    int reference;                                        /* which of the method's references `ref` shows; -1: none */
    acc (*eval)(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);
    const void *par;                                      /* tokens, targets, thresholds: the method's own struct */
    double weight;                                        /* 0: not evaluated, not observed */
};

/* ---- writes --------------------------------------------------------------------------------------------------- */
/* put changes val in place and is pure (a recompute repeats it); ref is the reference's sight of the same site, or NULL.
 * back maps the gradient of the written value to that of the value before; NULL: a constant was written. */
typedef struct Write Write;
struct Write {
    See kind;
    const char *sites;
    int reference;                                        /* -1: none */
    void (*put) (const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state);
    void (*back)(const Write *w, Run *r, const Clock *c, const char *site, Tensor adj, void *state);
    const void *par;
    Curve *when;                                          /* NULL: always */
    double when_par[4];
};

/* ---- branches: the passes of a step --------------------------------------------------------------------------- */
typedef struct {
    const char *name;                                     /* "uncond", "cond", ...: methods merge by name */
    Tensor context;                                       /* [T,D] */
    Tensor (*context_at)(const Clock *c, void *state);    /* another one each step (null-text); NULL: context */
    const Write *write;
    int writes;
    Curve *mix, *mix_dir;                                 /* eps_x0 = sum mix eps_b; eps_dir likewise; mix_dir NULL: the same */
    double par[4];                                        /* of mix and mix_dir */
    bool watch;                                           /* energies with branch NULL look here */
    bool own_z;                                           /* has its own copy of z, moved by its own gradient */
    const char *see_from;                                 /* name of the reference's branch to compare with; NULL: the same name */
    /* The pass of an earlier branch, with another h: only the decoder half runs again, on the y that h_at makes of the middle
     * block's output h (both [1,C,h,w]).  It has that branch's z and text, is not watched and writes nothing; nor does that one. */
    const char *h_of;                                     /* its name; NULL: a pass of its own */
    void (*h_at)(const Clock *c, Run *r, Tensor y, Tensor h, Tensor silu_temb, void *state);
} Branch;

/* ---- references: where `ref` comes from ------------------------------------------------------------------------ */
typedef enum {
    REFERENCE_LOCKSTEP,                                   /* sampled beside, from `start`, with its branches' own mix */
    REFERENCE_NOISED,                                     /* a real image's latents x0, re-noised at each step */
    REFERENCE_STORED,                                     /* stored[i]: the latent at step i (an inversion) */
    REFERENCE_FROZEN                                      /* what was seen at the first step */
} ReferenceKind;
typedef struct {
    ReferenceKind kind;
    const Branch *branch;
    int branches;
    Tensor start;                                         /* LOCKSTEP: empty means the run's own start; NOISED: x0 */
    const Tensor *stored;                                 /* STORED */
    const Tensor *noise;                                  /* NOISED: per step; NULL: drawn by the run */
} Reference;

/* ---- rules: from energies to a step ---------------------------------------------------------------------------- */
typedef enum { BY_Z, BY_X0, BY_H, BY_CONTEXT } Leaf;
typedef enum {
    TO_EPS, TO_EPS_X0, TO_X0, TO_MEAN, TO_PREV,           /* used by this step */
    TO_Z, TO_H, TO_CONTEXT                                /* changed, then predicted again */
} Into;
typedef enum { GO_ON, ONE_MORE, ENOUGH } Verdict;         /* step and look again; step and stop; stop without a step */

typedef struct Rule Rule;
struct Rule {
    const Energy *energy;
    int energies;
    Leaf leaf;
    Into into;                                            /* EPS, EPS_X0: += gain g; everything else: -= gain g */
    /* The gain: a number, or (returning 0 after filling `each`, of g's shape) one per element.  delta = eps_cond - eps_uncond, or empty. */
    double (*gain)(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state);
    double par[4];
    bool by_variance;                                     /* the shift is also multiplied by the step's variance, element by element */
    bool adam;                                            /* (0.9, 0.999, 1e-8), fresh each step; gain is the learning rate */
    Curve *strength;                                      /* NULL: 1 at every step; multiplies the gain */
    double when[4];
    int inner;                                            /* at most this many gradient steps; 0 means 1 */
    Verdict (*enough)(const Clock *c, acc E, View *now, const View *ref, void *state);      /* NULL: go on until inner */
    const char *branch;                                   /* BY_CONTEXT: whose context */
    Tensor mask;                                          /* [h,w]: where in latent space; empty: everywhere */
};

/* ---- what lasts from step to step ------------------------------------------------------------------------------ */
/* Shown part by part, always the same parts in the same order, so that they can be written to a file and filled from it. */
typedef struct { void (*part)(void *self, void *bytes, size_t n); void *self; } Keeper;
void guide_keep(const Keeper *k, Tensor t);            /* its numbers; nothing of an empty one */

/* ---- a method -------------------------------------------------------------------------------------------------- */
typedef struct Method Method;
struct Method {
    const char *name;
    const Reference *reference;
    int references;
    const Branch *branch;
    int branches;
    const Rule *rule;
    int rules;
    const char *carries;                                  /* with own_z: the branch whose z goes on; NULL: the first */
    const Want *remember;                                 /* seen in every watched branch though no energy asks (for after_pass) */
    int remembers;
    /* Rescale, projection: acts on the mixed prediction last. b[k] is branch k's prediction (empty when its weight was 0). */
    void (*remix)(const Clock *c, Run *r, const Tensor *b, Tensor eps, void *state);
    /* After the passes of a step, once: accumulate into state.  now[k]: branch k, the last followed by one without name; ref[j]: reference j's watched branch (NULL if unseen). */
    void (*after_pass)(const Clock *c, Run *r, const View *now, const View *const *ref, void *state);
    /* After the sampler's step: change z in place; zref[j]: reference j's latent after the same step. */
    void (*after_step)(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state);
    Curve *eta;                                           /* of DDIM's step instead of the run's own; NULL: that */
    double eta_par[4];
    Curve *repeat;                                        /* times the step is done (time travel between); NULL: once */
    double repeat_par[4];
    void (*lasts)(void *state, const Keeper *k);          /* what of state a run needs that goes on from a file; NULL: nothing */
    void *state;                                          /* in the run arena; made by the method's build */
};

/* Several methods as one: branches merge by name (one mix each), rules and writes append.  E_OPTION naming both methods when
 * two want different mixes of one branch, inner iterations on one leaf, or both need hooks that cannot be shared. */
typedef struct { const Method *part; int parts; } Guidance;

/* ---- running --------------------------------------------------------------------------------------------------- */
typedef enum { SAMPLER_DDIM, SAMPLER_DDPM } Sampler;
typedef enum { NOISE_SAMPLER, NOISE_TRAVEL, NOISE_REFERENCE } NoiseFor;

typedef struct { struct Engine *engine; } GuideMemory;

typedef struct {
    Clock clock;
    acc energy;                                           /* sum over the rules' last evaluation */
    double grad_norm, push;                               /* |g|; |gain g| / |eps| for TO_EPS rules, |gain g| / |z| otherwise */
    int forwards, backwards;                              /* of one latent, this step */
    int decodes;                                          /* of them, forwards of the decoder half alone */
} GuideReport;

typedef struct {
    Unet *unet;
    const Schedule *schedule;
    /* A pixel-space model's process, whose schedule is `schedule`: its variance (learned too) in the ancestral step, x0 clamped.
     * In DDIM's step eps is derived anew from the clamped x0, and what rules add to eps afterwards is not clamped again.
     * NULL: the schedule says all, and the variance is the posterior's. */
    const Gaussian *process;
    Tensor beside;                                        /* [B,h,w]: what an upsampler's network reads behind z's channels; empty: nothing */
    Sampler sampler;
    double eta;
    bool recompute;
    void (*noise)(void *user, NoiseFor what, const Clock *c, Tensor out);    /* every random number; may be NULL when none is drawn */
    bool (*watch)(void *user, const GuideReport *report, Tensor z, Tensor x0);               /* false: stop with E_STOP; may be NULL */
    bool (*inverted)(void *user, const Clock *c);         /* after a step of an inversion, which go from c->n - 1 to 0; false: stop; may be NULL */
    void *user;
    int first_step;                                       /* start at this step (0); z is then the latent there */
    void (*begun)(void *user, GuideMemory *m);            /* before the first step: whoever goes on from a file fills guide_memory from it; may be NULL */
    void (*kept) (void *user, int steps, GuideMemory *m); /* after each step, before watch; steps: how many are done; may be NULL */
} Guide;
void guide_memory(GuideMemory *m, const Keeper *k);       /* the latent, what references have got to, what methods remember */

/* z [C,h,w]: in noise, out the clean latents. */
void guide_sample(Run *r, const Guide *g, const Guidance *methods, Tensor z);

/* ---- the pieces, public because tests, conformance and new loops want them one at a time -------------------------- */

typedef struct { const Write *write; void *state; } WriteAt;
enum { LANE_WRITES = 24 };

/* A branch in a run: its latent, its context, and what its last pass showed. */
typedef struct {
    Branch b;
    WriteAt write[LANE_WRITES];
    int writes;
    void *state, *h_state;                                /* of context_at; of h_at */
    Tensor z, context;                                    /* [C,h,w], [T,D] */
    Tensor dh;                                            /* added to the middle block's output [C,h,w]; empty: nothing */
    Tensor gh;                                            /* receives the gradient there when not empty */
    View view;
    Tensor eps;                                           /* the network's output (eps, x0 or v); empty: the pass was cut short */
    Tensor range;                                         /* of a learned variance: the second half of the channels; else empty */
    Tensor room;                                          /* where the output goes, when it must outlive what was seen; empty: the step arena */
    UnetPass pass;
    Tap *tap;
    int taps;
    bool valid;                                           /* view and eps belong to the present z, context and dh */
} Lane;

Lane  lane_make(const Branch *b, void *state);
Clock guide_clock(const Schedule *s, int i);
double guide_time(const Guide *g, const Clock *c);        /* what the network is told */
int    guide_channels(const Guide *g, Tensor z);          /* that it reads: z's, and those beside */
void   guide_input(Run *r, const Guide *g, Tensor to, Tensor z);     /* to [guide_channels,h,w]: z, then what is beside it */
/* One pass at l->z: sees what `want` names (values and, with `pull`, zeroed adjoints, in the step arena).  `whole`: eps is
 * wanted; otherwise the pass ends after the last site.  With `pull`, guide_pull may follow until the keep arena is released.
 * ref[j] is what writes see of reference j. */
void guide_observe(Run *r, const Guide *g, Lane *l, const Clock *c, const Want *want, int wants,
                   const View *const *ref, bool pull, bool whole);
/* All adjoints in the lane's view, and deps (of its eps; may be empty), to dz and dcontext (written; either may be empty). */
void guide_pull(Run *r, const Guide *g, Lane *l, Tensor dz, Tensor dcontext, Tensor deps);
#endif
