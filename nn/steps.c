#include <stdio.h>
#include <string.h>
#include "nn/steps.h"
#include "tensor/shape.h"

/* ---- what taps ask of a step ---- */

typedef enum { TAP_ANY, TAP_PULLS, TAP_BACKWARD } TapAsk;
static const Tensor none = {0};

static bool tap_answers(const Tap *t, TapAsk ask)
{
    return ask == TAP_ANY || (ask == TAP_PULLS ? t->pulls : t->backward != NULL);
}

static bool at_output(const Run *r, const Step *s, TapAsk ask)
{
    for (int i = 0; i < r->taps; i++) {
        const Tap *t = &r->tap[i];
        if (t->kind != SITE_FEATURE || !tap_answers(t, ask)) continue;
        if ((s->path && !strcmp(t->path, s->path)) || (s->ends && !strcmp(t->path, s->ends))) return true;
    }
    return false;
}

static bool tap_inside(const Step *s, const Tap *t)       /* at a site below the step's path, or its attention */
{
    size_t n = strlen(s->path);
    if (strncmp(t->path, s->path, n)) return false;
    return t->path[n] == '.' || (!t->path[n] && t->kind != SITE_FEATURE);
}

static bool inside(const Run *r, const Step *s, TapAsk ask)
{
    for (int i = 0; s->path && i < r->taps; i++)
        if (tap_inside(s, &r->tap[i]) && tap_answers(&r->tap[i], ask)) return true;
    return false;
}

int steps_last_tapped(const Run *r, const Steps *s, bool pulls)
{
    TapAsk ask = pulls ? TAP_PULLS : TAP_ANY;
    int i = s->n;
    while (i > 0 && !at_output(r, &s->step[i - 1], ask) && !inside(r, &s->step[i - 1], ask)) i--;
    return i;
}

/* An operation's error says which numbers clashed; the step says where. */
static void error_at(Run *r, const char *path)
{
    char text[sizeof r->status.text];
    if (r->status.code == E_STOP || !path) return;
    int n = snprintf(text, sizeof text, "%s: %.400s", path, r->status.text);
    if (n > 0) memcpy(r->status.text, text, sizeof text);
}

static bool may_go_on(Run *r, const Step *s)
{
    if (run_ok(r) && r->stop && r->stop(r->user)) run_fail(r, E_STOP, "stopped at %s", s->path ? s->path : "a skip connection");
    return run_ok(r);
}

/* ---- forward ---- */

/* silu rides on the norm, unless a tap wants the norm's own output. */
static void norm_step_forward(Run *r, const Step *s, Tensor y, StepCache *c, Tensor x)
{
    c->seen = none;
    if (!tap_wanted(r, SITE_FEATURE, s->path)) {
        norm_forward(r, &s->norm, y, &c->norm, x, none, none);
        return;
    }
    Norm plain = s->norm;
    plain.act = ACT_NONE;
    c->seen = keep(r, x.s);
    norm_forward(r, &plain, c->seen, &c->norm, x, none, none);
    tap_forward(r, SITE_FEATURE, s->path, c->seen);
    if (s->norm.act == ACT_SILU) act(r, POINT_SILU, y, c->seen);
    else tensor_copy(r, y, c->seen);
}

static void up_forward(Run *r, const Step *s, Tensor y, Tensor x)
{
    ConvCache unused;
    Tensor big = temp(r, shape_channels(y.s, x.s.d[3]));
    double_nearest(r, big, x);
    conv_forward(r, &s->conv, y, &unused, big, none);
}

/* y empty: only the cache is wanted. */
static void step_forward(Run *r, const Step *s, Tensor y, StepCache *c, Tensor x, Tensor skip, const StepsPass *p)
{
    size_t mark = r->temp->used;
    ConvCache unused;
    switch (s->kind) {
    case STEP_CONV:      if (y.x) conv_forward(r, &s->conv, y, &unused, x, none);               break;
    case STEP_UP:        if (y.x) up_forward(r, s, y, x);                                       break;
    case STEP_RES:       resblock_forward(r, &s->res, y, &c->res, x, p->silu_temb);             break;
    case STEP_SPATIAL:   spatial_forward(r, &s->spatial, y, &c->spatial, x, p->context);        break;
    case STEP_ATTENTION: attention_block_forward(r, &s->attention, y, &c->attention, x);        break;
    case STEP_NORM:      norm_step_forward(r, s, y.x ? y : temp(r, x.s), c, x);                 break;
    case STEP_POP:       if (y.x) concat(r, y, x, skip);                                        break;
    case STEP_PUSH:                                                                             break;
    }
    arena_release(r->temp, mark);
}

static bool pass_begin(Run *r, const Steps *s, StepsPass *p, int first, int last)
{
    StepCache *cache = arena_take(r->keep, (size_t)s->n * sizeof *cache);
    if (!cache) run_fail(r, E_MEMORY, "out of memory");
    if (first < 0 || last > s->n || first > last) run_fail(r, E_OPTION, "steps %d to %d of %d", first, last, s->n);
    if (first > 0 && (!p->cache || p->n != s->n || p->last < first)) run_fail(r, E_OPTION, "no earlier pass to go on from");
    if (!run_ok(r)) return false;
    memset(cache, 0, (size_t)s->n * sizeof *cache);
    if (first > 0) memcpy(cache, p->cache, (size_t)first * sizeof *cache);
    p->cache = cache;
    p->n = s->n;
    p->first = first;
    p->last = last;
    return true;
}

/* Where outputs go.  Two buffers take turns when nothing is remembered; a value about to be pushed owns its memory. */
typedef struct { Tensor buffer[2]; int turn; bool remember; } Outputs;

static bool owns_memory(const Outputs *o, const Steps *s, int i)
{
    return o->remember || (i + 1 < s->n && s->step[i + 1].kind == STEP_PUSH);
}

static void outputs_begin(Run *r, Outputs *o, const Steps *s, const Shape *shape, int first, int last)
{
    size_t most[2] = {0, 0};
    *o = (Outputs){ .remember = r->keep != r->temp };
    for (int i = first, turn = 0; i < last; i++) {
        if (s->step[i].kind == STEP_PUSH || owns_memory(o, s, i)) continue;
        size_t n = shape_count(shape[i]);
        if (n > most[turn]) most[turn] = n;
        turn = !turn;
    }
    for (int k = 0; k < 2; k++) {                         /* in whole cache lines, counted in two sizes: a count may pass INT_MAX */
        int lines = (int)((most[k] + 15) / 16);
        if (lines) o->buffer[k] = temp(r, SHAPE(lines, 16));
    }
}

static Tensor output_for(Run *r, Outputs *o, const Steps *s, const Shape *shape, int i)
{
    if (owns_memory(o, s, i)) return keep(r, shape[i]);
    Tensor y = { o->buffer[o->turn].x, shape[i] };
    o->turn = !o->turn;
    return run_ok(r) ? y : none;
}

static void forward_one(Run *r, const Step *s, StepsPass *p, int i)
{
    StepCache *c = &p->cache[i];
    size_t mark = r->temp->used;
    Arena *kept = r->keep;
    if (p->recompute) r->keep = r->temp;
    step_forward(r, s, c->out, c, c->in, s->pair >= 0 ? p->cache[s->pair].in : none, p);
    r->keep = kept;
    arena_release(r->temp, mark);
    if (s->kind != STEP_NORM) tap_forward(r, SITE_FEATURE, s->path, c->out);
    tap_forward(r, SITE_FEATURE, s->ends, c->out);
    if (!run_ok(r)) error_at(r, s->path);
}

Tensor steps_forward(Run *r, const Steps *s, StepsPass *p, Tensor x, Tensor silu_temb, Tensor context, int first, int last, bool recompute)
{
    Shape shape[STEPS_MOST];
    Outputs outputs;
    if (!pass_begin(r, s, p, first, last)) return none;
    for (int i = 0; i < first; i++) shape[i] = p->cache[i].out.s;
    if (!steps_shapes(s, x.s, first, shape, &r->status)) return none;
    p->remembered = r->keep != r->temp;
    p->recompute = recompute && p->remembered;
    p->silu_temb = silu_temb;
    p->context = context;
    outputs_begin(r, &outputs, s, shape, first, last);
    for (int i = first; i < last && may_go_on(r, &s->step[i]); i++) {
        p->cache[i].in = x;
        p->cache[i].out = x;
        if (s->step[i].kind == STEP_PUSH) continue;
        p->cache[i].out = output_for(r, &outputs, s, shape, i);
        if (run_ok(r)) forward_one(r, &s->step[i], p, i);
        x = p->cache[i].out;
    }
    return run_ok(r) ? x : none;
}

/* ---- backward ---- */

typedef struct { Tensor dsilu_temb, dcontext; } Side;

static void see_gradient(Walk *w, Param *p, const char *name)
{
    (void)name;
    if (p->grad.x) *(bool *)w->self = true;
}

static bool step_trains(Step *s)
{
    bool found = false;
    Walk w = { .visit = see_gradient, .self = &found };
    step_walk(s, &w);
    return found;
}

/* Does anyone want what this step's backward computes, apart from the steps below? */
static bool step_needed(const Run *r, Step *s, Side d)
{
    return (d.dcontext.x && s->kind == STEP_SPATIAL) || (d.dsilu_temb.x && s->kind == STEP_RES) ||
           inside(r, s, TAP_BACKWARD) || step_trains(s);
}

static int lowest_needed(const Run *r, Steps *s, Side d, int first, int from)
{
    int i = first;
    while (i < from && !at_output(r, &s->step[i], TAP_BACKWARD) && !step_needed(r, &s->step[i], d)) i++;
    return i;
}

static void norm_step_backward(Run *r, Step *s, Tensor dx, Tensor dy, const StepCache *c)
{
    if (!c->seen.x) {
        norm_backward(r, &s->norm, dx, none, none, dy, &c->norm, none, none);
        return;
    }
    Norm plain = s->norm;                                 /* shares the gradients' memory */
    plain.act = ACT_NONE;
    if (s->norm.act == ACT_SILU) act_back(r, POINT_SILU, dy, dy, c->seen);
    tap_backward(r, SITE_FEATURE, s->path, dy);
    norm_backward(r, &plain, dx, none, none, dy, &c->norm, none, none);
}

static void up_backward(Run *r, Step *s, Tensor dx, Tensor dy, const StepCache *c)
{
    Shape big = shape_channels(dy.s, c->in.s.d[3]);
    Tensor dbig = dx.x ? temp(r, big) : none, x = none;
    if (conv_trains(&s->conv)) {
        x = temp(r, big);
        double_nearest(r, x, c->in);
    }
    conv_backward(r, &s->conv, dbig, dy, &(ConvCache){ x });
    if (dx.x) double_nearest_back(r, dx, dbig);
}

static void step_backward(Run *r, Step *s, Tensor dx, Side d, Tensor dskip, Tensor dy, const StepCache *c)
{
    size_t mark = r->temp->used;
    switch (s->kind) {
    case STEP_CONV:      conv_backward(r, &s->conv, dx, dy, &(ConvCache){ c->in });             break;
    case STEP_UP:        up_backward(r, s, dx, dy, c);                                          break;
    case STEP_RES:       resblock_backward(r, &s->res, dx, d.dsilu_temb, dy, &c->res);          break;
    case STEP_SPATIAL:   spatial_backward(r, &s->spatial, dx, d.dcontext, dy, &c->spatial);     break;
    case STEP_ATTENTION: attention_block_backward(r, &s->attention, dx, dy, &c->attention);     break;
    case STEP_NORM:      norm_step_backward(r, s, dx, dy, c);                                   break;
    case STEP_POP:       split(r, dx, dskip, dy);                                               break;
    case STEP_PUSH:                                                                             break;
    }
    arena_release(r->temp, mark);
}

/* One step, with what its forward would have remembered computed now if it was not. */
static void backward_one(Run *r, Step *s, Tensor dx, Side d, Tensor dskip, Tensor dy, const StepsPass *p, int i)
{
    size_t kept = r->keep->used, mark = r->temp->used;
    StepCache again = p->cache[i];
    tap_backward(r, SITE_FEATURE, s->ends, dy);
    if (s->kind != STEP_NORM) tap_backward(r, SITE_FEATURE, s->path, dy);
    if (!dx.x && !step_needed(r, s, d)) return;
    if (p->recompute) {
        r->replay = true;
        step_forward(r, s, none, &again, again.in, none, p);
        r->replay = false;
    }
    if (run_ok(r)) step_backward(r, s, dx, d, dskip, dy, &again);
    if (p->recompute) arena_release(r->keep, kept);
    arena_release(r->temp, mark);
    if (!run_ok(r)) error_at(r, s->path);
}

static Tensor buffer_for(Run *r, const StepsPass *p, int lowest, int from)
{
    size_t most = 0;
    for (int i = lowest; i < from; i++) {
        size_t n = shape_count(p->cache[i].in.s), m = shape_count(p->cache[i].out.s);
        if (n > most) most = n;
        if (m > most) most = m;
    }
    return temp(r, SHAPE((int)((most + 15) / 16), 16));
}

static Tensor shaped(Tensor buffer, Shape s) { return buffer.x ? (Tensor){ buffer.x, s } : none; }

void steps_backward(Run *r, Steps *s, const StepsPass *p, Tensor dx, Tensor dsilu_temb, Tensor dcontext, Tensor dout)
{
    size_t mark = r->temp->used;
    Side d = { dsilu_temb, dcontext };
    int from = dout.x ? p->last : steps_last_tapped(r, s, true);
    if (!run_ok(r)) return;
    if (!p->remembered) run_fail(r, E_OPTION, "this pass remembered nothing: it cannot be run backward");
    if (from > p->last) run_fail(r, E_OPTION, "a gradient is pulled at %s, after the end of the pass", s->step[from - 1].path);
    if (!run_ok(r)) return;
    if (from <= p->first) {
        tensor_zero(dx);
        return;
    }
    int lowest = dx.x ? p->first : lowest_needed(r, s, d, p->first, from);
    Tensor buffer[2] = { buffer_for(r, p, lowest, from), buffer_for(r, p, lowest, from) }, dy = dout;
    if (!dout.x) {
        dy = shaped(buffer[0], p->cache[from - 1].out.s);
        tensor_zero(dy);
    }
    for (int i = 0; i < p->n; i++) p->cache[i].dskip = none;
    for (int i = from; i-- > lowest && may_go_on(r, &s->step[i]); ) {
        Step *step = &s->step[i];
        Tensor *dskip = &p->cache[i].dskip, below = none;
        if (step->kind == STEP_PUSH) {
            if (dskip->x) add(r, dy, *dskip);
            if (i == p->first && dx.x) tensor_copy(r, dx, dy);
            continue;
        }
        if (i > lowest) below = shaped(dy.x == buffer[0].x ? buffer[1] : buffer[0], p->cache[i].in.s);
        else if (dx.x)  below = dx;
        if (step->kind == STEP_POP) {
            dskip = &p->cache[step->pair].dskip;
            if (step->pair >= lowest && step->pair >= p->first) *dskip = temp(r, p->cache[step->pair].in.s);
        }
        if (run_ok(r)) backward_one(r, step, below, d, step->kind == STEP_POP ? *dskip : none, dy, p, i);
        dy = below;
    }
    arena_release(r->temp, mark);
}
