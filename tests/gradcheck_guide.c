/* The engine's gradients: an energy that looks at everything at once, through writes, mixed branches, x0, the next latent
 * and every leaf, against differences of the energy itself.  The step it makes must be that gradient times the gain. */
#include "tests/gradcheck.h"
#include "tests/guide_scene.h"

/* Networks with softmax and norms: differences of width 1e-5 leave 1e-8 (measured below 1e-7). */
static const double LIMIT = 1e-6;

/* E = sum_k c_k(i) v_i + v_i^2/2 over all that is seen, with fixed coefficients. */
static acc everything(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)e; (void)r; (void)ref; (void)state;
    acc E = 0;
    for (int s = 0; s < now->sights; s++) {
        Sight *x = &now->sight[s];
        for (size_t i = 0; i < tensor_count(x->val); i++) {
            acc v = (acc)x->val.x[i], c = cos(0.7 * (double)i + s);
            E += weight * (c * v + v * v / 2);
            if (x->adj.x) x->adj.x[i] += (real)(weight * (c + v));
        }
    }
    return E;
}

/* A write that lets part of the gradient through (v <- 0.6 v + constant), and one that cuts it off. */
static void fade(const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state)
{
    (void)w; (void)r; (void)c; (void)site; (void)ref; (void)state;
    for (size_t i = 0; i < tensor_count(val); i++) val.x[i] = (real)0.6 * val.x[i] + (real)(0.05 * sin((double)i));
}

static void fade_back(const Write *w, Run *r, const Clock *c, const char *site, Tensor adj, void *state)
{
    (void)w; (void)c; (void)site; (void)state;
    for (size_t i = 0; i < tensor_count(adj) && run_ok(r); i++) adj.x[i] *= (real)0.6;
}

static void flatten(const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state)
{
    (void)w; (void)r; (void)c; (void)site; (void)ref; (void)state;
    for (size_t i = 0; i < tensor_count(val); i++) val.x[i] = (real)(0.1 + 0.01 * (double)(i % 7));
}

static double unit_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    (void)c; (void)r; (void)g; (void)delta; (void)each; (void)state;
    return par[0];
}

static const Want inside[] = {
    { SEE_PROBS, "*.attn1,*.attn2" }, { SEE_QUERY, "up_blocks.1.*.attn2" }, { SEE_KEY, "*.attn2" }, { SEE_VALUE, "up_blocks.1.*.attn1" },
    { SEE_FEATURE, "mid_block,down_blocks.0,up_blocks.1.resnets.0,up_blocks.1.resnets.1.conv2" },
};
static const Write writes[] = {
    { SEE_PROBS, "down_blocks.0.*.attn2", -1, fade, fade_back, NULL, NULL, {0} },
    { SEE_FEATURE, "up_blocks.0", -1, fade, fade_back, NULL, NULL, {0} },
    { SEE_PROBS, "up_blocks.1.attentions.0.*.attn2", -1, flatten, NULL, NULL, NULL, {0} },
};

/* One step whose only rule moves the leaf by -1 (or eps by +1) times the gradient; what moved is read off the run. */
typedef struct {
    SceneG s;
    Energy energy[2];
    Branch branch[2];
    Rule rule;
    Method method;
    Leaf leaf;
    double E, norm;
    Tensor z, x0;                                         /* x0: receives the step's estimate, when not empty */
} Whole;

static bool note(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Whole *w = user;
    (void)z;
    w->E = (double)report->energy;
    w->norm = report->grad_norm;
    if (w->x0.x) memcpy(w->x0.x, x0.x, tensor_count(x0) * sizeof(real));
    return true;
}

static void whole_open(Whole *w, Prediction p, Leaf leaf, Into into, bool stepwise)
{
    memset(w, 0, sizeof *w);
    scene_open(&w->s, p, 4);
    w->leaf = leaf;
    int n = 0;
    if (leaf != BY_X0) w->energy[n++] = (Energy){ "inside", inside, 5, NULL, -1, everything, NULL, 0.7 };
    if (stepwise || leaf == BY_X0) w->energy[n++] = (Energy){ "step", NULL, 0, "", -1, everything, NULL, 0.3 };
    w->branch[0] = (Branch){ .name = "uncond", .context = w->s.text[0], .mix = mix_uncond, .par = { 3 } };
    w->branch[1] = (Branch){ .name = "cond", .context = w->s.text[1], .mix = mix_cond, .par = { 3 }, .watch = true,
                             .write = writes, .writes = 3 };
    w->rule = (Rule){ .energy = w->energy, .energies = n, .leaf = leaf, .into = into, .gain = unit_gain, .par = { 1 }, .inner = 1,
                      .branch = "cond" };
    w->method = (Method){ .name = "everything", .branch = w->branch, .branches = 2, .rule = &w->rule, .rules = 1 };
    w->s.guide.watch = note;
    w->s.guide.user = w;
    w->s.guide.noise = NULL;
    w->z = tensor_in(&w->s.run, &w->s.whole, w->s.z.s);
}

static void one_step(Whole *w, double gain)
{
    Schedule first = w->s.schedule;
    Guide g = w->s.guide;
    first.n = 1;
    g.schedule = &first;
    w->rule.par[0] = gain;
    tensor_copy(&w->s.run, w->z, w->s.z);
    guide_sample(&w->s.run, &g, &(Guidance){ &w->method, 1 }, w->z);
}

static double energy_of(void *self)
{
    Whole *w = self;
    one_step(w, 0);
    return w->E;
}

/* TO_PREV: the next latent moves by exactly -gradient, so it can be read off two runs. */
static void by_latent(const char *what, Prediction p, bool stepwise)
{
    Whole w;
    whole_open(&w, p, BY_Z, TO_PREV, stepwise);
    Tensor g = tensor_in(&w.s.run, &w.s.whole, w.z.s);
    one_step(&w, 0);
    tensor_copy(&w.s.run, g, w.z);
    one_step(&w, 1);
    for (size_t i = 0; i < tensor_count(g); i++) g.x[i] -= w.z.x[i];
    GradCheck check = { energy_of, &w, 1e-5, 72 };
    gradcheck(what, &check, &(GradPart){ "z", w.s.z, g }, 1, LIMIT);
    scene_close(&w.s);
}

/* The norm of the rule's gradient, as reported, against differences of the energy by `x`. */
static void by_norm(const char *what, Whole *w, Tensor x)
{
    one_step(w, 0);
    double reported = w->norm, numeric = 0;
    GradCheck check = { energy_of, w, 1e-5, 72 };
    for (size_t i = 0; i < tensor_count(x); i++) {
        double d = grad_difference(&check, &x.x[i]);
        numeric += d * d;
    }
    check_below(what, fabs(reported / sqrt(numeric) - 1), LIMIT);
}

static void by_context(void)
{
    Whole w;
    whole_open(&w, PREDICT_EPS, BY_CONTEXT, TO_CONTEXT, true);
    by_norm("context", &w, w.s.text[1]);
    scene_close(&w.s);
}

/* BY_X0 does not touch the network: x0 is a free number, the next latent moves with it, and
 *     dE/dx0 = adj(x0) + sqrt(ab') adj(next),   x0 -= gain g  is  next -= gain (sqrt(ab') - sqrt(1-ab') sqrt(ab/(1-ab))) g. */
static void by_x0(void)
{
    Whole w;
    whole_open(&w, PREDICT_EPS, BY_X0, TO_X0, true);
    w.s.schedule.n = 1;
    Clock c = guide_clock(&w.s.schedule, 0);
    const double gain = 1e-3;
    Tensor plain = tensor_in(&w.s.run, &w.s.whole, w.z.s), x0 = tensor_in(&w.s.run, &w.s.whole, w.z.s);
    w.x0 = x0;
    one_step(&w, 0);
    tensor_copy(&w.s.run, plain, w.z);
    w.x0 = (Tensor){0};
    one_step(&w, gain);
    double to_prev = sqrt(c.ab_prev) - sqrt(1 - c.ab_prev) * sqrt(c.ab / (1 - c.ab)), worst = 0, largest = 0;
    for (size_t i = 0; i < tensor_count(plain); i++) {
        double at_x0 = 0.3 * (cos(0.7 * (double)i + 1) + (double)x0.x[i]), at_next = 0.3 * (cos(0.7 * (double)i + 2) + (double)plain.x[i]);
        double g = at_x0 + sqrt(c.ab_prev) * at_next, moved = (double)(plain.x[i] - w.z.x[i]) / (gain * to_prev);
        worst = fmax(worst, fabs(moved - g));
        largest = fmax(largest, fabs(g));
    }
    check_below("x0", worst / largest, 1e-9);             /* no difference quotient here: rounding over 1e-3 */
    scene_close(&w.s);
}

/* h: differences through a write that adds at the middle block. */
static Tensor added;

static void add_there(const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state)
{
    (void)w; (void)c; (void)site; (void)ref; (void)state;
    for (size_t i = 0; i < tensor_count(val) && run_ok(r); i++) val.x[i] += added.x[i];
}

static void by_h(void)
{
    Whole w;
    whole_open(&w, PREDICT_EPS, BY_H, TO_H, true);
    Write put = { SEE_FEATURE, "mid_block", -1, add_there, NULL, NULL, NULL, {0} };
    added = tensor_in(&w.s.run, &w.s.whole, SHAPE(12, 3, 2));
    tensor_zero(added);
    w.branch[0].mix = w.branch[1].mix = NULL;             /* one branch: the shift of h is then one tensor */
    w.branch[1].mix = mix_cond;
    w.branch[1].par[0] = 1;
    w.branch[1].write = &put;
    w.branch[1].writes = 1;
    w.method.branch = &w.branch[1];
    w.method.branches = 1;
    by_norm("h, the middle block", &w, added);
    scene_close(&w.s);
}

int main(void)
{
    by_latent("inside a branch, eps model", PREDICT_EPS, false);
    by_latent("inside and of the step, eps model", PREDICT_EPS, true);
    by_latent("inside and of the step, v model", PREDICT_V, true);
    by_latent("inside and of the step, x0 model", PREDICT_X0, true);
    by_context();
    by_x0();
    by_h();
    return check_done();
}
