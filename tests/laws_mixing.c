/* Laws of how predictions are mixed, and of runs that go on: an interval of noise costs what it must, composed prompts are the
 * formula, projection of everything is nothing, a run filled from what an earlier one kept ends in the same bits. */
#include "guidance/cfg.h"
#include "guidance/cfg_method.h"
#include "guidance/objects.h"
#include "tests/guide_scene.h"

enum { STEPS = 6 };
typedef struct { SceneG s; int forwards[STEPS]; Branch branch[4]; CfgRemix remix; } Mixed;

static bool count(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Mixed *w = user;
    (void)z; (void)x0;
    w->forwards[report->clock.i] = report->forwards;
    return true;
}

static void open_mixed(Mixed *w)
{
    memset(w, 0, sizeof *w);
    scene_open(&w->s, PREDICT_EPS, STEPS);
    w->s.guide.watch = count;
    w->s.guide.user = w;
    w->s.guide.noise = NULL;
}

static Tensor sampled(Mixed *w, const Method *m)
{
    Tensor z = tensor_in(&w->s.run, &w->s.whole, w->s.z.s);
    tensor_copy(&w->s.run, z, w->s.z);
    guide_sample(&w->s.run, &w->s.guide, &(Guidance){ m, 1 }, z);
    return z;
}

static Method pair(Mixed *w, double scale, double low, double high, double others)
{
    w->branch[0] = (Branch){ .name = "uncond", .context = w->s.text[0], .mix = mix_uncond, .par = { scale, low, high, others } };
    w->branch[1] = (Branch){ .name = "cond", .context = w->s.text[1], .mix = mix_cond, .par = { scale, low, high } };
    return (Method){ .name = "mixed", .branch = w->branch, .branches = 2 };
}

static double sigma_of(const Mixed *w, int i)
{
    double ab = guide_clock(&w->s.schedule, i).ab;
    return sqrt((1 - ab) / ab);
}

static void interval(void)
{
    Mixed w;
    open_mixed(&w);
    double low = (sigma_of(&w, 4) + sigma_of(&w, 3)) / 2, high = sigma_of(&w, 2);
    Method m = pair(&w, 5, 0, 0, 0);
    Tensor everywhere = sampled(&w, &m);
    m = pair(&w, 5, 0, 1e9, 0);
    Tensor wide = sampled(&w, &m);
    check_true("an interval of all noise is no interval, to the bit", same(everywhere, wide));
    m = pair(&w, 5, low, high, 0);
    Tensor inside = sampled(&w, &m);
    check_true("outside: no unconditional pass; the upper end is inside", w.forwards[0] == 1 && w.forwards[1] == 1 && w.forwards[2] == 2 &&
               w.forwards[3] == 2 && w.forwards[4] == 1 && w.forwards[5] == 1);
    check_true("and another picture", !same(inside, everywhere));
    m = pair(&w, 1, 0, 0, 0);
    Tensor one = sampled(&w, &m);
    m = pair(&w, 5, 1e8, 1e9, 0);
    Tensor nowhere = sampled(&w, &m);
    check_true("an interval without noise is scale 1, to the bit", same(one, nowhere) && w.forwards[2] == 1);
    scene_close(&w.s);
}

/* u + w (c - u) + w1 (c1 - u), step by step. */
static void composed(void)
{
    Mixed w;
    open_mixed(&w);
    Run *r = &w.s.run;
    Method m = pair(&w, 5, 0, 0, -2);
    w.branch[2] = (Branch){ .name = "composed 1", .context = w.s.text[2], .mix = mix_composed, .par = { -2 } };
    m.branches = 3;
    Tensor got = sampled(&w, &m);
    check_true("three passes a step", w.forwards[0] == 3 && w.forwards[5] == 3);
    Tensor eps[3], wanted = tensor_in(r, &w.s.whole, w.s.z.s);
    tensor_copy(r, wanted, w.s.z);
    for (int i = 0; i < STEPS; i++) {
        Clock c = guide_clock(&w.s.schedule, i);
        for (int k = 0; k < 3; k++) {
            Lane l = lane_make(&w.branch[k], NULL);
            l.z = wanted;
            guide_observe(r, &w.s.guide, &l, &c, NULL, 0, NULL, false, true);
            eps[k] = l.eps;
        }
        for (size_t j = 0; j < tensor_count(wanted) && run_ok(r); j++) {
            double u = (double)eps[0].x[j], e = u + 5 * ((double)eps[1].x[j] - u) - 2 * ((double)eps[2].x[j] - u);
            double clean = ((double)wanted.x[j] - sqrt(1 - c.ab) * e) / sqrt(c.ab);
            wanted.x[j] = (real)(sqrt(c.ab_prev) * clean + sqrt(1 - c.ab_prev) * e);
        }
    }
    double worst = 0, size = 0;
    for (size_t j = 0; j < tensor_count(got); j++) {
        worst = fmax(worst, fabs((double)got.x[j] - (double)wanted.x[j]));
        size = fmax(size, fabs((double)wanted.x[j]));
    }
    check_below("composed prompts are the formula", worst / size, sizeof(real) == 8 ? 1e-13 : 2e-5);     /* 8e-16 and 5e-7 measured */
    scene_close(&w.s);
}

static void projected(void)
{
    Mixed w;
    open_mixed(&w);
    Method plain = pair(&w, 5, 0, 0, 0);
    Tensor a = sampled(&w, &plain);
    Method m = plain;
    m.remix = cfg_remix;
    m.state = &w.remix;
    w.remix = (CfgRemix){ 5, 1, 0, 0, 0, 1 };
    check_true("the whole difference, no cap, no rescale: nothing is done", same(a, sampled(&w, &m)));
    w.remix = (CfgRemix){ 5, 0, 0, 0, 0, 1 };
    check_true("without its part along the prediction: another picture", !same(a, sampled(&w, &m)));
    w.remix = (CfgRemix){ 5, 1, 1e-6, 0, 0, 1 };
    Tensor capped = sampled(&w, &m);
    m = pair(&w, 0, 0, 0, 0);
    Tensor uncond = sampled(&w, &m);
    double worst = 0;
    for (size_t j = 0; j < tensor_count(capped); j++) worst = fmax(worst, fabs((double)capped.x[j] - (double)uncond.x[j]));
    check_below("a difference of no length is the unconditional picture", worst, 2e-4);                   /* 8e-6 measured */
    scene_close(&w.s);
}

/* ---- going on ---- */

typedef struct { Mixed *w; unsigned char bytes[20000]; size_t used; bool filling; int stop, first; } Kept;

static void part(void *self, void *bytes, size_t n)
{
    Kept *k = self;
    if (k->used + n > sizeof k->bytes) return;
    if (k->filling) memcpy(bytes, k->bytes + k->used, n);
    else memcpy(k->bytes + k->used, bytes, n);
    k->used += n;
}

static void keep_state(void *user, int steps, GuideMemory *m)
{
    Kept *k = user;
    if (steps != k->stop || k->filling) return;
    k->used = 0;
    guide_memory(m, &(Keeper){ part, k });
}

static void take_state(void *user, GuideMemory *m)
{
    Kept *k = user;
    if (!k->filling) return;
    k->used = 0;
    guide_memory(m, &(Keeper){ part, k });
}

static bool until(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Kept *k = user;
    (void)z; (void)x0;
    return k->filling || report->clock.i + 1 < k->stop;
}

/* A reference that goes along, and a state that has two halves which change places. */
static void carried_on(Clock c, Carried *m) { carried_turn(m, &c); m->now.x[0] = m->has_before ? 2 * m->before.x[0] + (real)c.i : 1; }
static void after(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state)
{
    Carried *m = state;
    carried_on(*c, m);
    axpy(r, z, (real)0.01 * m->now.x[0], zref[0]);
}
static void lasts(void *state, const Keeper *k) { carried_lasts(state, k); }

static Method remembering(Mixed *w, Reference *ref, Branch beside[2], Carried *m)
{
    Method one = pair(w, 3, 0, 0, 0);
    beside[0] = w->branch[0];
    beside[1] = w->branch[1];
    beside[1].context = w->s.text[2];
    *ref = (Reference){ REFERENCE_LOCKSTEP, beside, 2, {0}, NULL, NULL };
    *m = carried_make(&w->s.run, SHAPE(2, 2));
    one.reference = ref;
    one.references = 1;
    one.after_step = after;
    one.lasts = lasts;
    one.state = m;
    return one;
}

static void going_on(void)
{
    Mixed w;
    Kept k = { .stop = 4 };
    Reference ref;
    Branch beside[2];
    Carried carried;
    open_mixed(&w);
    Method m = remembering(&w, &ref, beside, &carried);
    Tensor whole = sampled(&w, &m);
    w.s.guide.user = &k;
    w.s.guide.watch = until;
    w.s.guide.kept = keep_state;
    w.s.guide.begun = take_state;
    m = remembering(&w, &ref, beside, &carried);
    sampled(&w, &m);
    check_true("the run was stopped", w.s.run.status.code == E_STOP && k.used > 3 * tensor_count(w.s.z) * sizeof(real) / 2);
    w.s.run.status = (Status){0};
    k.filling = true;
    w.s.guide.first_step = 4;
    m = remembering(&w, &ref, beside, &carried);
    check_true("what was kept and the steps left end in the same bits", same(whole, sampled(&w, &m)));
    m = remembering(&w, &ref, beside, &carried);
    m.lasts = NULL;
    check_true("and without the method's part they do not", !same(whole, sampled(&w, &m)));
    scene_close(&w.s);
}

int main(void)
{
    interval();
    composed();
    projected();
    going_on();
    return check_done();
}
