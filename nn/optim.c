#include <math.h>
#include <stdio.h>
#include <string.h>
#include "nn/optim.h"
#include "tensor/point.h"

struct OptimEntry {
    Param *p, m, v;                                       /* m, v: absent for SGD */
    const char *name;
};

typedef struct { Optim *o; Arena *a; Status *status; } Begin;

static void count_visit(Walk *w, Param *p, const char *name)
{
    Begin *b = w->self;
    if (!p->grad.x) return;
    if (p->layout == WINOGRAD)
        status_fail(b->status, E_OPTION, "%s is held as transformed kernels, which cannot be trained: load it unplanned", name);
    b->o->entries++;
}

static Param moment(const Begin *b, const Param *of)
{
    Param p = *of;
    Run r = { .status = *b->status };
    p.grad = (Tensor){0};
    p.v = tensor_in(&r, b->a, param_shape(of));
    tensor_zero(p.v);
    *b->status = r.status;
    return p;
}

static void entry_visit(Walk *w, Param *p, const char *name)
{
    Begin *b = w->self;
    if (!p->grad.x || b->status->code != OK) return;
    OptimEntry *e = &b->o->entry[b->o->entries++];
    size_t n = strlen(name) + 1;
    char *copy = arena_take(b->a, n);
    if (!copy) {
        status_fail(b->status, E_MEMORY, "no memory for an optimiser");
        return;
    }
    *e = (OptimEntry){ p, param_none(), param_none(), memcpy(copy, name, n) };
    if (b->o->kind != OPTIM_ADAM) return;
    e->m = moment(b, p);
    e->v = moment(b, p);
}

bool optim_begin(Optim *o, OptimKind kind, WalkModel *walk, void *model, Arena *a, Status *s)
{
    Begin b = { o, a, s };
    Walk w = { .visit = count_visit, .self = &b };
    *o = (Optim){ .kind = kind };
    if (s->code != OK) return false;
    walk(model, &w);
    if (!o->entries) status_fail(s, E_OPTION, "no parameter has a gradient: there is nothing to train");
    size_t mark = a->used, bytes = (size_t)o->entries * sizeof *o->entry;
    o->entry = s->code == OK ? arena_take(a, bytes) : NULL;
    o->entries = 0;
    if (!o->entry) status_fail(s, E_MEMORY, "no memory for an optimiser");
    else {
        w.visit = entry_visit;
        walk(model, &w);
        o->step = moment(&b, &(Param){ .rank = 0 });
    }
    if (s->code == OK) return true;
    *o = (Optim){ .kind = kind };
    arena_release(a, mark);
    return false;
}

double optim_gradient_norm(Run *r, const Optim *o)
{
    double sum = 0;
    for (int i = 0; i < o->entries; i++) sum += (double)dot(r, o->entry[i].p->grad, o->entry[i].p->grad);
    return sqrt(sum);
}

void optim_step(Run *r, Optim *o, double rate)
{
    for (int i = 0; i < o->entries && run_ok(r); i++)
        if (count_nonfinite(o->entry[i].p->grad))
            run_fail(r, E_NUMBER, "the gradient of %s is not finite at step %d of training", o->entry[i].name, optim_steps(o) + 1);
    if (!run_ok(r)) return;
    o->step.v.x[0] += 1;
    for (int i = 0; i < o->entries; i++) {
        OptimEntry *e = &o->entry[i];
        if (o->kind == OPTIM_ADAM) adam(r, e->p->grad, e->m.v, e->v.v, e->p->grad, rate, optim_steps(o));
        axpy(r, e->p->v, o->kind == OPTIM_ADAM ? -1 : (real)-rate, e->p->grad);
        tensor_zero(e->p->grad);
    }
}

int optim_steps(const Optim *o) { return o->step.v.x ? (int)o->step.v.x[0] : 0; }

void optim_walk(void *optim, Walk *w)
{
    Optim *o = optim;
    walk_param(w, &o->step, "optimiser.step");
    for (int i = 0; i < o->entries; i++) {
        size_t mark = walk_enter(w, o->entry[i].name);
        walk_param(w, &o->entry[i].m, "exp_avg");
        walk_param(w, &o->entry[i].v, "exp_avg_sq");
        walk_leave(w, mark);
    }
}

double optim_decayed(double rate, double gamma, int every, int count)
{
    for (int i = every; every > 0 && i <= count; i += every) rate *= gamma;
    return rate;
}
