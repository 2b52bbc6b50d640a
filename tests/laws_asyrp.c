/* laws_asyrp.c -- what must hold of Asyrp whatever the network is: nothing added changes nothing, to the bit; each step costs the
 * passes it must; what several blocks add is a sum; tables and intervals.  Released memory is poisoned. */
#include "guidance/asyrp_learn.h"
#include "guidance/cfg.h"
#include "tests/laws_guided.h"

enum { STEPS = 5, T = 5, D = 6, H = 6, NUMBERS = 32 };
static Delta delta[3];
static Tensor z0, none, text, other;
static int forwards[STEPS], decodes[STEPS];
static double etas;

static bool counts(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    (void)user, (void)z, (void)x0;
    forwards[report->clock.i] = report->forwards;
    decodes[report->clock.i] = report->decodes;
    return true;
}

static void noise(void *user, NoiseFor what, const Clock *c, Tensor out)
{
    (void)user, (void)what, (void)c;
    etas++;
    for (size_t i = 0; i < tensor_count(out); i++) out.x[i] = (real)cos(0.3 * (double)i);
}

static const Guide guide = { .unet = &unet, .schedule = &schedule, .watch = counts, .noise = noise };

static Tensor plain(double scale)
{
    const Branch b[] = { { .name = "uncond", .context = other, .mix = mix_uncond, .par = { scale } }, { .name = "cond", .context = text, .mix = mix_cond, .par = { scale } } };
    const Method m = { .name = "plain", .branch = b, .branches = 2 };
    Tensor z = copy_of(z0);
    guide_sample(&run, &guide, &(Guidance){ &m, 1 }, z);
    return z;
}

typedef struct { const char *name; double value; } Set;

static Tensor edited(double scale, const Delta *const *given, const double *weight, int deltas, const Set *set, const Method *beside)
{
    double number[NUMBERS];
    Method m[2];
    for (int i = 0; i < method_asyrp.options; i++) number[i] = method_asyrp.option[i].value;
    for (; set && set->name; set++) number[methods_option(&method_asyrp, set->name)] = set->value;
    MethodInput in = { .number = number, .uncond = other, .cond = text, .scale = scale, .delta = given, .weight = weight, .deltas = deltas, .schedule = &schedule, .unet = &unet };
    Tensor z = copy_of(z0);
    etas = 0;
    if (!method_asyrp.build(&run, &m[0], &in)) return none;
    if (beside) m[1] = *beside;
    guide_sample(&run, &guide, &(Guidance){ m, beside ? 2 : 1 }, z);
    return z;
}

static bool differ(Tensor a, Tensor b) { return tensor_same(a, b) && !equal(a, b); }

static void begin(void)
{
    static const ScheduleConfig c = { .train_steps = 1000, .beta_start = 1e-4, .beta_end = 0.02, .set_alpha_to_one = true };
    const DeltaConfig kind[] = { { DELTA_DDPM, 12, 32, 2 }, { DELTA_ADM, 12, 32, 2 } };
    Status *s = &run.status;
    run.k = kernels_pick(NULL);
    tiny_unet(&unet, UNET_VARIED, &weights, s);
    schedule_make(&schedule, &c, ALPHAS_FLOAT64, STEPS, &weights, s);      /* times 800, 600, 400, 200, 0 */
    for (int k = 0; k < 2; k++) {
        delta_build(&delta[k], &kind[k], s);
        delta_start(&delta[k], &weights, 7 + (uint64_t)k, s);
    }
    delta_build(&delta[2], &kind[0], s);
    delta_start(&delta[2], &weights, 9, s);
    tensor_zero(delta[2].out.w.v);
    tensor_zero(delta[2].out.b.v);
    z0 = filled(SHAPE(4, H, H));
    text = filled(SHAPE(T, D));
    other = filled(SHAPE(T, D));
}

static void nothing_added(void)
{
    const Delta *zero[] = { &delta[2] }, *some[] = { &delta[0] };
    const Set quiet[] = { { "t-boost", 0 }, { 0 } }, weak[] = { { "strength", 0 }, { 0 } }, late[] = { { "t-edit", 1000 }, { "t-boost", 0 }, { 0 } };
    const double scale[] = { 1, 3 };
    for (int k = 0; k < 2; k++) {
        Tensor was = plain(scale[k]);
        check_true("a shift of zeros is plain sampling, to the bit", equal(edited(scale[k], zero, NULL, 1, quiet, NULL), was));
        check_true("strength 0 is plain sampling, to the bit", equal(edited(scale[k], some, NULL, 1, weak, NULL), was));
        check_true("an interval without times is plain sampling, to the bit", equal(edited(scale[k], some, NULL, 1, late, NULL), was));
        check_true("a shift changes the picture", differ(edited(scale[k], some, NULL, 1, quiet, NULL), was));
    }
    check_true("strength 0 draws no noise", etas == 0);
}

static void costs(void)
{
    const Delta *some[] = { &delta[0], &delta[1] };
    const Set half[] = { { "t-edit", 500 }, { "t-boost", 300 }, { 0 } };
    edited(3, some, NULL, 2, half, NULL);
    check_true("edited times: two texts, each one encoder and two decoders", forwards[0] == 4 && decodes[0] == 2 && forwards[1] == 4 && decodes[1] == 2);
    check_true("other times: two passes", forwards[2] == 2 && decodes[2] == 0 && forwards[4] == 2);
    check_true("noise below t_boost: times 200 and 0", etas == 2);
    edited(1, some, NULL, 2, half, NULL);
    check_true("scale 1: one encoder, two decoders", forwards[0] == 2 && decodes[0] == 1 && forwards[2] == 1);
}

/* A branch that is watched predicts alone; the decoder that is repeated then has an encoder of its own, and the same bits. */
static void watched(void)
{
    static const Want features[] = { { SEE_FEATURE, "mid_block" } };
    const Branch b = { .name = "cond", .watch = true };
    const Method m = { .name = "watching", .branch = &b, .branches = 1, .remember = features, .remembers = 1 };
    const Delta *some[] = { &delta[0] };
    const Set set[] = { { "t-boost", 0 }, { 0 } };
    Tensor was = edited(3, some, NULL, 1, set, NULL);
    check_true("watching a branch changes no bit", equal(edited(3, some, NULL, 1, set, &m), was));
    check_true("its decoder then has an encoder of its own", forwards[0] == 4 && decodes[0] == 1);
}

static void blocks(void)
{
    const Delta *both[] = { &delta[0], &delta[1] }, *turned[] = { &delta[1], &delta[0] }, *first[] = { &delta[0] };
    const double one[] = { 1.4142135623730951, 0 }, weight[] = { 0.5, -0.25 }, turned_weight[] = { -0.25, 0.5 };
    const Set set[] = { { "t-boost", 0 }, { 0 } };
    Tensor a = edited(1, both, one, 2, set, NULL), b = edited(1, first, NULL, 1, set, NULL);
    double off = 0, most = 0;
    for (size_t i = 0; i < tensor_count(a); i++) off = fmax(off, fabs((double)a.x[i] - (double)b.x[i])), most = fmax(most, fabs((double)b.x[i]));
    /* sqrt(2) is rounded once in c_1 = sqrt(2)/sqrt(2): measured 0 in both builds */
    check_below("two blocks, one of weight sqrt(2) and one of 0, are the first alone", off / most, 1e-6);
    a = edited(1, both, weight, 2, set, NULL);
    b = edited(1, turned, turned_weight, 2, set, NULL);
    for (size_t i = 0; i < tensor_count(a); i++) off = fmax(off, fabs((double)a.x[i] - (double)b.x[i]));
    check_below("the order of blocks does not matter", off / most, sizeof(real) == 8 ? 1e-12 : 1e-5);    /* measured 6e-16, 3e-7: a sum in another order, through five steps */
    AsyrpShift c = { .deltas = 4 };
    asyrp_coefficients(&c, (double[]){ 1, 2, 3, -4 }, 0.5, 40, 50);
    check_below("c_k = strength w_k (n_train / n_test) / sqrt(k)", fabs(c.c[3] + 0.5 * 4 * 40 / 50 / 2), 1e-15);
}

static void refusals(void)
{
    Delta wide = { .config = { DELTA_DDPM, 16, 32, 2 } };
    const Delta *given[] = { &wide };
    edited(1, given, NULL, 1, NULL, NULL);
    check_true("a block of another width: E_SHAPE, naming both", run.status.code == E_SHAPE && strstr(run.status.text, "16") && strstr(run.status.text, "12"));
    run.status = (Status){0};
    edited(1, given, NULL, 0, NULL, NULL);
    check_true("no block: E_OPTION", run.status.code == E_OPTION && strstr(run.status.text, "--delta"));
    run.status = (Status){0};
}

static void tables(void)
{
    int t[8], edit, boost, want[] = { 0, 249, 499, 749, 999 };
    Status s = {0};
    check_true("five times from 0 to 999", asyrp_sequence(t, 5, 999, &s) && !memcmp(t, want, sizeof want));
    check_true("more times than there are: E_OPTION", !asyrp_sequence(t, 8, 3, &s) && s.code == E_OPTION);
    s = (Status){0};
    check_true("the published table at 0.33", asyrp_interval(&edit, &boost, "celeba-hq", 1, &s) && edit == 538 && boost == 167);
    check_true("between two columns", asyrp_interval(&edit, &boost, "church", 0.25 / 0.33, &s) && edit == 321);          /* (310 + 331) / 2 = 320.5, up */
    check_true("a set that is not there: E_OPTION", !asyrp_interval(&edit, &boost, "cats", 1, &s) && s.code == E_OPTION);
    s = (Status){0};
    check_true("texts too far apart: E_OPTION", !asyrp_interval(&edit, &boost, "church", 0.3, &s) && s.code == E_OPTION);
}

static void interpolation(void)
{
    Tensor u = filled(SHAPE(2, 3, 2, 2)), v = filled(u.s), y = filled(u.s);
    asyrp_slerp(&run, y, u, v, 0);
    check_true("slerp at 0 is the first", equal(y, u));
    tensor_copy(&run, v, u);
    asyrp_slerp(&run, y, u, v, 0.3);
    double off = 0;
    for (size_t i = 0; i < tensor_count(y); i++) off = fmax(off, fabs((double)y.x[i] - (double)u.x[i]));
    check_below("slerp of equal vectors is that vector", off, 1e-6);      /* a float's rounding of (1-w) u + w u */
    const Delta *some[] = { &delta[0] };
    const Set none_[] = { { "slerp", 0 }, { "t-boost", 0 }, { 0 } }, some_[] = { { "slerp", 0.3 }, { "t-boost", 0 }, { 0 } };
    check_true("a mix on the sphere is another picture", differ(edited(1, some, NULL, 1, some_, NULL), edited(1, some, NULL, 1, none_, NULL)));
}

int main(void)
{
    begin();
    nothing_added();
    costs();
    watched();
    blocks();
    tables();
    interpolation();
    check_true("no error", run_ok(&run));
    refusals();
    return check_done();
}
