/* Laws of the engine: no guidance is plain sampling to the bit, work is done only where a curve is not zero, what cannot run
 * together is refused, memory is given back. */
#include "ref/pipeline.h"
#include "tests/guide_scene.h"
#include "guidance/selfguide.h"

static const Want maps[] = { { SEE_PROBS, "up_blocks.*.attn2" } };

/* E = sum of squares of token 2's probabilities. */
static acc squares(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)r; (void)ref; (void)state;
    acc E = 0;
    const Sight *p;
    for (int l = 0; (p = view_see(now, SEE_PROBS, e->want[0].sites, l)); l++) {
        int K = p->val.s.d[2];
        for (size_t i = 2; i < tensor_count(p->val); i += (size_t)K) {
            E += weight * (acc)p->val.x[i] * (acc)p->val.x[i];
            if (p->adj.x) p->adj.x[i] += (real)(weight * 2 * (acc)p->val.x[i]);
        }
    }
    return E;
}

static double number(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    (void)c; (void)r; (void)g; (void)delta; (void)each; (void)state;
    return par[0];
}

static double early_half(const Clock *c, const double *par) { return 2 * c->i < c->n ? par[0] : 0; }

typedef struct {
    SceneG s;
    Energy energy;
    Branch branch[2], beside[2];
    Reference reference;
    Rule rule;
    Method method;
    int forwards[16], backwards[16], steps;
    double energies[16];
} Run1;

static bool count(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Run1 *w = user;
    (void)z; (void)x0;
    w->forwards[report->clock.i] = report->forwards;
    w->backwards[report->clock.i] = report->backwards;
    w->energies[report->clock.i] = (double)report->energy;
    w->steps = report->clock.i + 1;
    return true;
}

static void open_run(Run1 *w, Into into, double scale)
{
    memset(w, 0, sizeof *w);
    scene_open(&w->s, PREDICT_EPS, 6);
    w->energy = (Energy){ "squares", maps, 1, NULL, -1, squares, NULL, 1 };
    w->branch[0] = (Branch){ .name = "uncond", .context = w->s.text[0], .mix = mix_uncond, .par = { scale } };
    w->branch[1] = (Branch){ .name = "cond", .context = w->s.text[1], .mix = mix_cond, .par = { scale }, .watch = true };
    w->rule = (Rule){ .energy = &w->energy, .energies = 1, .leaf = BY_Z, .into = into, .gain = number, .par = { 0.5 },
                      .strength = early_half, .when = { 1 }, .inner = 1 };
    w->method = (Method){ .name = "a", .branch = w->branch, .branches = 2, .rule = &w->rule, .rules = 1 };
    w->s.guide.watch = count;
    w->s.guide.user = w;
    w->s.guide.noise = NULL;
}

static Tensor sampled(Run1 *w, const Method *m, int n)
{
    Tensor z = tensor_in(&w->s.run, &w->s.whole, w->s.z.s);
    tensor_copy(&w->s.run, z, w->s.z);
    guide_sample(&w->s.run, &w->s.guide, &(Guidance){ m, n }, z);
    return z;
}

static Tensor plain(Run1 *w, double scale)
{
    SceneG *s = &w->s;
    Tensor x = tensor_in(&s->run, &s->whole, SHAPE(1, 3, 6, 4)), text = tensor_in(&s->run, &s->whole, SHAPE(2, 5, 6));
    tensor_copy(&s->run, x, s->z);
    tensor_copy(&s->run, tensor_row(text, 0), s->text[0]);
    tensor_copy(&s->run, tensor_row(text, 1), s->text[1]);
    sample_down(&s->run, &s->unet, &s->schedule, x, scale == 1 ? tensor_rows(text, 1, 1) : text, (SampleOptions){ .scale = scale }, (SampleHook){0});
    return tensor_as(x, s->z.s);
}

static void nothing_is_plain(double scale)
{
    char what[96];
    Run1 w;
    open_run(&w, TO_EPS, scale);
    Tensor p = plain(&w, scale);
    Method none = w.method;
    none.rules = 0;
    snprintf(what, sizeof what, "scale %g: no rules is plain sampling, bit for bit", scale);
    check_true(what, same(p, sampled(&w, &none, 1)));
    snprintf(what, sizeof what, "scale %g: one pass at scale 1, two otherwise", scale);
    check_true(what, w.forwards[3] == (scale == 1 ? 1 : 2) && w.backwards[3] == 0);
    w.energy.weight = 0;
    snprintf(what, sizeof what, "scale %g: weight 0 is plain sampling, bit for bit", scale);
    check_true(what, same(p, sampled(&w, &w.method, 1)));
    w.energy.weight = 1;
    w.rule.when[0] = 0;
    snprintf(what, sizeof what, "scale %g: a schedule that is never on is plain sampling", scale);
    check_true(what, same(p, sampled(&w, &w.method, 1)));
    w.rule.when[0] = 1;
    snprintf(what, sizeof what, "scale %g: guidance changes the result", scale);
    check_true(what, !same(p, sampled(&w, &w.method, 1)));
    scene_close(&w.s);
}

/* Passes per step: eps rule  2F + 1B on, 2F off;  z rule  1F + 1B + 2F on. */
static void counts(void)
{
    Run1 w;
    open_run(&w, TO_EPS, 3);
    sampled(&w, &w.method, 1);
    check_true("eps rule: 2 forwards and 1 backward where it acts", w.forwards[0] == 2 && w.backwards[0] == 1);
    check_true("eps rule: 2 forwards and no backward where it is off", w.forwards[3] == 2 && w.backwards[3] == 0);
    w.rule.into = TO_Z;
    sampled(&w, &w.method, 1);
    check_true("z rule: one observing forward, one backward, then the pair", w.forwards[0] == 3 && w.backwards[0] == 1);
    check_true("z rule: the pair alone where it is off", w.forwards[5] == 2 && w.backwards[5] == 0);
    w.rule.inner = 3;
    sampled(&w, &w.method, 1);
    check_true("z rule, three iterations", w.forwards[0] == 5 && w.backwards[0] == 3);
    scene_close(&w.s);
}

/* A small step down the gradient lowers the energy by gain |g|^2. */
static void descends(void)
{
    Run1 w;
    open_run(&w, TO_Z, 3);
    w.rule.par[0] = 1e-3;
    w.rule.inner = 1;
    w.rule.when[0] = 0;
    sampled(&w, &w.method, 1);
    w.rule.when[0] = 1;
    w.rule.inner = 2;
    w.rule.par[0] = 1;
    sampled(&w, &w.method, 1);
    double last = w.energies[0];
    w.rule.inner = 1;
    sampled(&w, &w.method, 1);
    check_true("the second look at a step is lower than the first", last < w.energies[0]);
    scene_close(&w.s);
}

static void lockstep(void)
{
    Run1 w;
    open_run(&w, TO_EPS, 3);
    memcpy(w.beside, w.branch, sizeof w.branch);
    w.reference = (Reference){ REFERENCE_LOCKSTEP, w.beside, 2, {0}, NULL, NULL };
    w.energy.reference = 0;
    w.method.reference = &w.reference;
    w.method.references = 1;
    Tensor guided = sampled(&w, &w.method, 1);
    check_true("a lockstep reference costs two forwards more", w.forwards[0] == 4 && w.forwards[5] == 4 && w.backwards[0] == 1);
    Branch again[2] = { w.beside[0], w.beside[1] };
    Reference equal_one = w.reference;
    equal_one.branch = again;
    Method two[2] = { w.method, w.method };
    two[1].reference = &equal_one;
    sampled(&w, two, 2);
    check_true("equal references of two methods are one", run_ok(&w.s.run) && w.forwards[0] == 4 && w.backwards[0] == 2);
    again[1].context = w.s.text[2];
    sampled(&w, two, 2);
    check_true("different references are refused", w.s.run.status.code == E_OPTION);
    w.s.run.status = (Status){0};
    w.method.references = 0;
    w.energy.reference = -1;
    check_true("a reference that is only looked at does not change the result", same(guided, sampled(&w, &w.method, 1)));
    scene_close(&w.s);
}

static void same_bits(void)
{
    Run1 w;
    open_run(&w, TO_EPS, 3);
    Tensor one = sampled(&w, &w.method, 1);
    for (int threads = 2; threads <= 4; threads++) {
        w.s.run.threads = threads;
        check_true("the same bits with more threads", same(one, sampled(&w, &w.method, 1)));
    }
    w.s.guide.recompute = true;
    check_true("the same bits with recompute", same(one, sampled(&w, &w.method, 1)));
    scene_close(&w.s);
}

static void refused(const char *what, Method *m, int n, Run1 *w)
{
    sampled(w, m, n);
    check_true(what, w->s.run.status.code == E_OPTION && strstr(w->s.run.status.text, " a") &&
               (n == 1 || strstr(w->s.run.status.text, " b ")));
    w->s.run.status = (Status){0};
}

static void composes(void)
{
    Run1 w;
    open_run(&w, TO_EPS, 3);
    Branch other[2] = { w.branch[0], w.branch[1] };
    Rule rule = w.rule;
    Method two[2] = { w.method, w.method };
    two[1].name = "b";
    two[1].branch = other;
    two[1].rule = &rule;
    Tensor twice = sampled(&w, two, 2);
    w.rule.par[0] *= 2;
    Tensor doubled = sampled(&w, &w.method, 1);
    check_below("two equal methods are one of twice the gain", error(twice, doubled), sizeof(real) == 4 ? 1e-4 : 1e-12);
    w.rule.par[0] /= 2;
    other[1].par[0] = 5;
    refused("different mixes of one branch are refused, naming both", two, 2, &w);
    other[1].par[0] = 3;
    other[1].context = w.s.text[2];
    refused("different texts of one branch are refused", two, 2, &w);
    other[1].context = w.s.text[1];
    rule.inner = w.rule.inner = 4;
    rule.into = w.rule.into = TO_Z;
    refused("two inner iterations on one leaf are refused", two, 2, &w);
    rule.inner = w.rule.inner = 1;
    w.rule.leaf = BY_X0;
    refused("a gradient by x0 does not go to z", two, 1, &w);
    w.rule.leaf = BY_Z;
    w.energy.branch = "both";
    refused("an energy of a branch that is not there is refused", two, 1, &w);
    w.energy.branch = NULL;
    two[0].carries = "both";
    refused("a carrying branch that is not there is refused", two, 1, &w);
    scene_close(&w.s);
}

static void gives_back(void)
{
    Run1 w;
    open_run(&w, TO_EPS, 3);
    Tensor z = tensor_in(&w.s.run, &w.s.whole, w.s.z.s);
    tensor_copy(&w.s.run, z, w.s.z);
    size_t before[4] = { w.s.kept.used, w.s.scratch.used, w.s.step.used, w.s.whole.used };
    guide_sample(&w.s.run, &w.s.guide, &(Guidance){ &w.method, 1 }, z);
    size_t after[4] = { w.s.kept.used, w.s.scratch.used, w.s.step.used, w.s.whole.used };
    check_true("every arena is as it was found", !memcmp(before, after, sizeof after));
    z.x[0] = (real)NAN;
    guide_sample(&w.s.run, &w.s.guide, &(Guidance){ &w.method, 1 }, z);
    check_true("a latent that is not a number stops the run", w.s.run.status.code == E_NUMBER);
    w.s.run.status = (Status){0};
    scene_close(&w.s);
}

static void patterns(void)
{
    check_true("a pattern is the whole path", site_matches("up.attn2", "up.attn2") && !site_matches("up.attn", "up.attn2"));
    check_true("* matches any run of characters", site_matches("up_blocks.*.attn2", "up_blocks.1.attentions.0.attn2") &&
               site_matches("*", "") && site_matches("a*b*c", "aXbYbZc") && !site_matches("a*b", "aXbY"));
    check_true("one of several patterns", site_matches("x,*.attn1,y", "m.attn1") && site_matches("x,y", "y") && !site_matches("x,y", "x,y"));
    check_true("no pattern matches nothing", !site_matches("", "a"));
}

int main(void)
{
    nothing_is_plain(3);
    nothing_is_plain(1);
    counts();
    descends();
    lockstep();
    same_bits();
    composes();
    gives_back();
    patterns();
    return check_done();
}
