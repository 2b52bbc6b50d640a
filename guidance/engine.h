/* engine.h -- the parts of a guided run, shared by compose.c, rules.c and engine.c only. */
#ifndef GUIDANCE_ENGINE_H
#define GUIDANCE_ENGINE_H
#include "guidance/guide.h"

enum { LANES = 8, REFERENCES = 8, RULES = 24, WANTS = 64 };

typedef struct { const Rule *rule; void *state; const char *method; } RuleAt;

typedef struct {
    const Reference *what;
    Lane lane[LANES];
    int lanes;
    Tensor z;                                             /* its latent at this step; LOCKSTEP: goes along */
    bool seen;                                            /* its views belong to this step */
} ReferenceRun;

typedef struct Engine Engine;
struct Engine {
    Run *r;
    const Guide *g;
    const Guidance *methods;
    Lane lane[LANES];
    int lanes, carries;
    bool own_z;
    ReferenceRun ref[REFERENCES];
    int refs;
    RuleAt rule[RULES];
    int rules;
    Tensor z, eps_x0, eps_dir, x0;                        /* run arena; eps_*: the mixed network output, later eps itself */
    Tensor after;                                         /* what TO_MEAN and TO_PREV take off the next z */
    Tensor range;                                         /* of a learned variance: the v of the last branch that is mixed in */
    Tensor late_x0, late_dir;                             /* with a process, DDIM: what is added to the eps of the clamped x0 */
    bool is_eps, has_after, has_late;
    Tensor noise;                                         /* the sampler's draw of this step; empty: none */
    View step;                                            /* EPS, X0, PREV, LATENT */
    Tensor before;                                        /* z before the step */
    GuideReport report;
};

typedef struct { Want want[WANTS]; int n; } Wants;

/* engine_memory.c: E_NUMBER, naming the first place, unless all of z is finite. */
void engine_finite(Engine *e, const Clock *c);
/* compose.c */
bool engine_compose(Engine *e, const Guidance *methods);
/* engine_batch.c: passes that nobody looks at, several at once */
bool lane_mixed(const Lane *l, const Clock *c);           /* does its prediction count in this step? */
bool lane_bare(const Lane *l, const Clock *c);            /* no write acts in it and nothing is added to h */
void engine_together(Engine *e, Lane *const *l, int n, const Clock *c);
/* Of n branches and those that repeat their decoders on another h: the latter, and with_base the former too, from one pass of the encoder. */
void engine_halves(Engine *e, Lane *const *base, int n, bool with_base, const Clock *c);
Lane *engine_shifted(Engine *e, const Lane *base, const Clock *c);   /* what repeats this branch's decoder in this step; NULL: nothing */
/* rules.c */
bool rule_active(const RuleAt *u, const Clock *c);
bool rule_through(const Energy *en);                       /* of the step, and what it sees depends on the network's output */
bool rule_early(const RuleAt *u);                         /* its destination is changed before the step predicts */
void wants_add(Engine *e, Wants *w, See kind, const char *sites);
void wants_of_rules(Engine *e, Wants *w, const Lane *l, const Clock *c, bool early);
void rules_early(Engine *e, Clock *c);
void rules_late (Engine *e, const Clock *c);              /* moves eps_x0, eps_dir (eps itself by then) */
/* engine.c */
const View *engine_reference(const Engine *e, int reference, const Lane *l);         /* NULL: none, or not seen */
void engine_see(Engine *e, Lane *l, const Clock *c, const Wants *w, bool pull, bool whole);
double lane_mix(const Lane *l, const Clock *c, bool direction);
void lane_output(Lane *l, Tensor out);                    /* observe.c: the network's output as eps and range */
void engine_variance(Engine *e, const Clock *c, Tensor variance);                    /* of the sampler's step */
void engine_mix(Engine *e, const Clock *c);               /* lanes' outputs -> eps_x0, eps_dir (still the network's kind) */
#endif
