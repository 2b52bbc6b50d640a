/* laws_multi.c -- what must hold of the methods for several objects whatever the numbers are: scale, order and flips of
 * maps, what a step costs and lowers, and that guidance of weight zero is plain sampling.  EPS is the unit roundoff of
 * the build; limits are multiples of it, some five times what either build measures. */
#include "guidance/multi.h"
#include "guidance/suppress.h"
#include "tensor/point.h"
#include "tests/tiny_nets.h"

static const double EPS = sizeof(real) == 4 ? 6e-8 : 1.2e-16;
enum { H = 6, W = 5, N = H * W };
static Arena arena[5];
static Run run;

static Tensor fresh(Shape s, double centre, double spread)
{
    Tensor t = tensor_in(&run, run.run, s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)(centre + spread * check_uniform());
    return t;
}

static double inner(Tensor a, Tensor b)
{
    double sum = 0;
    for (size_t i = 0; i < tensor_count(a); i++) sum += (double)a.x[i] * (double)b.x[i];
    return sum;
}

static double largest(Tensor a)
{
    double most = 0;
    for (size_t i = 0; i < tensor_count(a); i++) most = fmax(most, fabs((double)a.x[i]));
    return most;
}

static int same_bits(Tensor a, Tensor b) { return tensor_same(a, b) && !memcmp(a.x, b.x, tensor_count(b) * sizeof(real)); }

/* ---- terms of maps ---- */

typedef acc TermOf(Tensor dm, Tensor m, Tensor region, acc weight);
static acc level_half(Tensor dm, Tensor m, Tensor region, acc weight) { return emphasise_term(dm, m, region, 0.9, weight); }
static acc exclusive(Tensor dm, Tensor m, Tensor region, acc weight) { (void)region; return exclusive_term(dm, m, weight); }
static const struct { const char *name; TermOf *f; bool scale_free; } TERM[] = {
    { "suppress", suppress_term, true }, { "even", even_term, true }, { "even cv2", even_cv2_term, true }, { "emphasise", level_half, false },
};

static void scale_laws(void)
{
    for (int how = 0; how < 4; how++) {
        Tensor m = fresh(SHAPE(H, W), 0.4, 0.35), r = fresh(m.s, 0, 0), r4 = fresh(m.s, 0, 0), m4 = fresh(m.s, 0, 0);
        RegionRule rule = { how & 1 ? THRESHOLD_MEAN : THRESHOLD_OTSU, how & 2 ? 0.1 : 0 };
        region_of(&run, r, m, rule);
        scale(&run, m4, 4, m, 0);
        region_of(&run, r4, m4, rule);
        check_true("regions of 4 m are those of m, to the bit", same_bits(r, r4));
        scale(&run, m4, 2, m, 1);
        region_of(&run, r4, m4, rule);
        axpy(&run, r4, -1, r);
        check_below("regions of 2 m + 1 are those of m", largest(r4), 100 * EPS);
        for (int k = 0; k < 4; k++) {
            Tensor dm = fresh(m.s, 0, 0);
            double E = TERM[k].f(dm, m, r, 1), along = inner(m, dm), size = largest(dm) * largest(m) * N;
            scale(&run, m4, 4, m, 0);
            if (TERM[k].scale_free) {
                check_below("a term that does not see scale: <m, dm>", fabs(along) / size, 50 * EPS);
                check_true("and its value at 4 m, to the bit", TERM[k].f((Tensor){0}, m4, r, 1) == E);
            } else check_below("emphasise: <m, dm> = -mu/kappa", fabs(along - (E - 1)), 100 * EPS);
        }
    }
    Tensor two = fresh(SHAPE(2, H, W), 0.4, 0.35), dm = fresh(two.s, 0, 0);
    exclusive(dm, two, two, 1);
    for (int c = 0; c < 2; c++)
        check_below("exclusive: <m, dm>", fabs(inner(tensor_row(two, c), tensor_row(dm, c))) / (largest(dm) * N), 50 * EPS);
}

static Tensor block(int from, int to, double level)       /* rows [from, to) at a level, 0 elsewhere */
{
    Tensor m = fresh(SHAPE(H, W), 0, 0);
    for (int i = from * W; i < to * W; i++) m.x[i] = (real)level;
    return m;
}

static Tensor pair(Tensor a, Tensor b)
{
    Tensor t = fresh(SHAPE(2, H, W), 0, 0);
    tensor_copy(&run, tensor_row(t, 0), a);
    tensor_copy(&run, tensor_row(t, 1), b);
    return t;
}

static void known_values(void)
{
    Tensor none = {0}, m = block(1, 3, 0.75), other = block(3, 5, 0.5), r = fresh(m.s, 0, 0), flat = fresh(m.s, 0.3, 0), zero = block(0, 0, 0);
    region_of(&run, r, m, (RegionRule){ THRESHOLD_OTSU, 0 });
    check_true("the region of a block is the block", inner(r, r) == 2 * W && inner(r, m) == 0.75 * 2 * W);
    check_true("a block is not outside its region", suppress_term(none, m, r, 1) == 0);
    check_below("nor uneven in it", fabs(even_term(none, m, r, 1)) + fabs(even_cv2_term(none, m, r, 1)), EPS);
    check_true("emphasise stops at the level", emphasise_term(none, m, r, 0.75, 1) == 0 && emphasise_term(none, m, r, 0.5, 1) == 0);
    check_below("and asks for what lacks", fabs(emphasise_term(none, m, r, 1, 1) - 0.25), 10 * EPS);
    check_true("disjoint blocks are exclusive", exclusive_term(none, pair(m, other), 1) == 0);
    Tensor twice = fresh(m.s, 0, 0);
    scale(&run, twice, 0.5, m, 0);
    check_below("proportional ones are not at all", fabs(exclusive_term(none, pair(m, twice), 1) - 1), 10 * EPS);
    check_true("one object has nobody to be apart from", exclusive_term(none, (Tensor){ m.x, SHAPE(1, H, W) }, 1) == 0);

    region_of(&run, r, flat, (RegionRule){ THRESHOLD_OTSU, 0.1 });
    check_true("a flat map is its own region", inner(r, r) == N && suppress_term(none, flat, r, 1) == 0);
    check_below("and even", fabs(even_term(none, flat, r, 1)), 10 * EPS);

    Tensor d = fresh(m.s, 0, 0);
    for (int k = 0; k < 3; k++) check_true("a map of zeros: value 0", TERM[k].f(d, zero, r, 1) == 0);
    check_true("and no gradient", largest(d) == 0);

    check_true("identical maps overlap by half", astar_segregate(none, pair(m, m), 1) == 0.5);
    check_true("disjoint ones by nothing", astar_segregate(none, pair(m, other), 1) == 0);
    Tensor one = block(1, 3, 1);
    check_true("a map that is its own mask keeps half", astar_retain(none, (Tensor){ one.x, SHAPE(1, H, W) }, (Tensor){ one.x, SHAPE(1, H, W) }, 1) == 0.5);
    Tensor both = pair(m, other), owner = fresh(both.s, 0, 0);
    multi_owners(owner, both, 0.5);
    check_true("disjoint blocks do not suppress each other", multi_suppress(none, both, owner, 1) == 0);
    multi_owners(owner, pair(m, m), 0.5);
    check_true("the first of equals owns", largest(tensor_row(owner, 0)) == 1 && largest(tensor_row(owner, 1)) == 0);
    check_true("Otsu: the middle of the widest gap", otsu_threshold(&run, m) == 0.375);
    check_true("24 evaluations at step 0, 1 at step 23, none from 24 on", masked_evaluations(&(Masked){ .total = 25 }, 0) == 24
               && masked_evaluations(&(Masked){ .total = 25 }, 23) == 1 && masked_evaluations(&(Masked){ .total = 25 }, 24) == 0);
}

/* Two tokens, two pixels, the first inside the mask of token 1: its own value stands as 0 among the rivals. */
static void released_contrast(void)
{
    Masked p = { .objects = { .h = 1, .w = 2, .groups = 1, .group = { { 1 } }, .size = { 1 } }, .contrast = 1 };
    Tensor U = fresh(SHAPE(2, 1, 2), -1, 0), dU = fresh(U.s, 0, 0);
    acc part[2];
    p.mask = fresh(SHAPE(1, 1, 2), 0, 0);
    p.mask.x[0] = 1;
    masked_loss(&run, dU, U, &p, part);
    check_true("rivals all below 0: nothing to contrast with, and nothing moves", part[1] == 0 && largest(dU) == 0);
    U.x[2] = (real)0.5;
    U.x[3] = (real)0.25;
    masked_loss(&run, dU, U, &p, part);
    check_true("a rival inside counts twice, less its best outside", part[1] == 0.75 && dU.x[2] == 2 && dU.x[3] == 0);
    Tensor even = fresh(SHAPE(1, 3), 0, 0);
    even.x[1] = 1, even.x[2] = 2;
    check_true("Otsu: of two equal splits the first", otsu_threshold(&run, even) == 0.5);
}

static void flipped(Tensor y, Tensor x)
{
    for (int i = 0; i < H; i++)
        for (int j = 0; j < W; j++) y.x[i * W + j] = x.x[(H - 1 - i) * W + W - 1 - j];
}

static void flip_laws(void)
{
    Tensor a = fresh(SHAPE(H, W), 0.4, 0.35), b = fresh(a.s, 0.4, 0.35), af = fresh(a.s, 0, 0), bf = fresh(a.s, 0, 0), r = fresh(a.s, 0, 0), rf = fresh(a.s, 0, 0);
    RegionRule rule = { THRESHOLD_OTSU, 0.1 };
    flipped(af, a);
    flipped(bf, b);
    region_of(&run, r, a, rule);
    region_of(&run, rf, af, rule);
    for (int k = 0; k < 4; k++)
        check_below("a flipped map has the same term", fabs(TERM[k].f((Tensor){0}, a, r, 1) - TERM[k].f((Tensor){0}, af, rf, 1)), 20 * EPS);
    check_below("exclusive: flips and order", fabs(exclusive_term((Tensor){0}, pair(a, b), 1) - exclusive_term((Tensor){0}, pair(bf, af), 1)), 20 * EPS);
    check_below("segregate: flips and order", fabs(astar_segregate((Tensor){0}, pair(a, b), 1) - astar_segregate((Tensor){0}, pair(bf, af), 1)), 20 * EPS);
}

/* ---- through a network ---- */

static const char *const NET =
    "{\"in_channels\":4,\"out_channels\":4,\"block_out_channels\":[8,12],\"layers_per_block\":1,\"norm_num_groups\":2,"
    "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\"],"
    "\"attention_head_dim\":2,\"cross_attention_dim\":6}";
enum { STEPS = 8 };
static Unet unet;
static Schedule schedule;
static Tensor start;
static Object object[2] = { { .word = "cat", .token = { 2 }, .tokens = 1 }, { .word = "hot dog", .token = { 4, 5 }, .tokens = 2 } };
static MethodInput input;

static void network(void)
{
    static const ScheduleConfig SD = { .train_steps = 1000, .steps_offset = 1, .beta_start = 0.00085, .beta_end = 0.012, .beta = BETA_SCALED_LINEAR,
                                       .clip_range = 1, .threshold_quantile = 0.995, .threshold_max = 1 };
    tiny_unet(&unet, NET, &arena[4], &run.status);
    schedule_make(&schedule, &SD, ALPHAS_FLOAT32, STEPS, &arena[4], &run.status);
    start = fresh(SHAPE(4, 8, 6), 0, 1.5);
    input = (MethodInput){ .uncond = fresh(SHAPE(10, 6), 0, 2), .cond = fresh(SHAPE(10, 6), 0, 2), .scale = 3, .object = object, .objects = 2,
                           .schedule = &schedule, .unet = &unet, .h = 8, .w = 6 };
}

typedef struct { const char *option; double value; } Set;

/* The method's own defaults but for the layers of this small network, and what a test sets. */
static Method built(const MethodInfo *info, const Set *set, int sets)
{
    Method m = {0};
    double *number = arena_take(run.run, (size_t)info->options * sizeof *number);
    for (int k = 0; k < info->options; k++) number[k] = info->option[k].value;
    number[methods_option(info, "halvings")] = 0;
    for (int k = 0; k < sets; k++) number[methods_option(info, set[k].option)] = set[k].value;
    MethodInput in = input;
    in.number = number;
    info->build(&run, &m, &in);
    return m;
}

static GuideReport report[STEPS];
static bool watch(void *user, const GuideReport *now, Tensor z, Tensor x0)
{
    (void)user; (void)z; (void)x0;
    report[now->clock.i] = *now;
    return true;
}

static Tensor sampled(const Method *m, int parts)
{
    Guide g = { .unet = &unet, .schedule = &schedule, .watch = watch };
    Tensor z = fresh(start.s, 0, 0);
    tensor_copy(&run, z, start);
    guide_sample(&run, &g, &(Guidance){ m, parts }, z);
    return z;
}

static void zero_is_plain(void)
{
    Branch b[2];
    objects_branches(b, &input);
    Method plain = { .name = "plain", .branch = b, .branches = 2 };
    Tensor z = sampled(&plain, 1);
    static const struct { const MethodInfo *info; int sets; Set set[5]; } none[] = {
        { &method_attend, 1, { { "scale", 0 } } },
        { &method_astar, 1, { { "scale", 0 } } },
        { &method_astar, 2, { { "w-segregate", 0 }, { "w-retain", 0 } } },
        { &method_suppress, 1, { { "scale", 0 } } },
        { &method_suppress, 4, { { "w-suppress", 0 }, { "w-even", 0 }, { "w-exclusive", 0 }, { "w-emphasise", 0 } } },
        { &method_multi, 1, { { "scale", 0 } } },
        { &method_multi, 5, { { "w-excite", 0 }, { "w-segregate", 0 }, { "w-retain", 0 }, { "w-suppress", 0 }, { "w-box", 0 } } },
    };
    for (int k = 0; k < 7; k++) {
        Method m = built(none[k].info, none[k].set, none[k].sets);
        check_true("weight zero is plain sampling, to the bit", same_bits(sampled(&m, 1), z));
        check_true("and costs nothing", report[0].forwards == 2 && report[0].backwards == 0);
    }
    Method on = built(&method_suppress, NULL, 0);
    check_true("and weights that are not zero change something", !same_bits(sampled(&on, 1), z));
}

static int counts(int step, int forwards, int backwards) { return report[step].forwards == forwards && report[step].backwards == backwards; }

static void refused(const char *what, Code code, const char *word)
{
    check_true(what, run.status.code == code && strstr(run.status.text, word));
    run.status = (Status){0};
}

/* 1F + 1B + 2F a guided step, F + B a repetition, 2F where guidance is off. */
static void costs(void)
{
    static const Set never[] = { { "refine-1", -1 }, { "refine-2", -1 }, { "refine-3", -1 }, { "scale", 1 } };
    Method m = built(&method_attend, never, 4);
    sampled(&m, 1);
    for (int i = 0; i < STEPS; i++) check_true("attend-and-excite: 3F + 1B, then 2F", counts(i, i < STEPS / 2 ? 3 : 2, i < STEPS / 2));
    double E = report[0].energy;
    Set three[] = { { "reach-1", 1 }, { "refinements", 3 }, { "refine-2", -1 }, { "refine-3", -1 }, { "scale", 0.01 } };
    m = built(&method_attend, three, 5);
    sampled(&m, 1);
    check_true("a target out of reach: all three repetitions", counts(0, 6, 4) && counts(1, 3, 1));
    three[0].value = 0;
    m = built(&method_attend, three, 5);
    sampled(&m, 1);
    check_true("a target already met: none, and no second look", counts(0, 3, 1));
    bool one = false, two_updates = false;
    three[0].value = 1 - E + 1e-6;                        /* just below the loss at the start: a first update that lowers it meets it */
    three[1].value = 20;
    for (three[4].value = 2; three[4].value > 0.01; three[4].value /= 2) {
        m = built(&method_attend, three, 5);
        sampled(&m, 1);
        one |= counts(0, 4, 2);
        two_updates |= counts(0, 5, 3);
    }
    check_true("a target met by the first update: two are made, never one", two_updates && !one);

    static const MethodInfo *const other[] = { &method_astar, &method_multi, &method_suppress };
    for (int k = 0; k < 3; k++) {
        m = built(other[k], NULL, 0);
        sampled(&m, 1);
        check_true("3F + 1B", counts(0, 3, 1));
        check_true("at the end: a-star and multi always, suppress-to-impress no more", counts(STEPS - 1, k < 2 ? 3 : 2, k < 2));
    }
    input.scale = 1;
    m = built(&method_suppress, NULL, 0);
    sampled(&m, 1);
    check_true("no unconditional pass at scale 1: 2F + 1B", counts(0, 2, 1) && counts(STEPS - 1, 1, 0));
    input.scale = 3;
    Method two[2] = { built(&method_suppress, NULL, 0), built(&method_astar, NULL, 0) };
    sampled(two, 2);
    check_true("two methods in one run: each looks where the other has moved z", counts(0, 4, 2));
    two[0] = built(&method_attend, never, 4);
    two[1] = built(&method_multi, NULL, 0);
    sampled(two, 2);
    check_true("multi beside attend-and-excite", counts(0, 4, 2) && run_ok(&run));
    two[1] = built(&method_multi, &(Set){ "refine", 1 }, 1);
    sampled(two, 2);
    refused("but not when both iterate", E_OPTION, "both iterate");
}

/* E(z - s g) = E - s |g|^2 for a small step: the gradient is one, and it is gone down.  What the step before left (masks,
 * regions) stands still meanwhile. */
static void falls(const MethodInfo *info, int rule, const Set *set, int sets)
{
    Method m = built(info, set, sets);
    Guide g = { .unet = &unet, .schedule = &schedule };
    Lane l = lane_make(&m.branch[1], NULL);
    const Energy *e = m.rule[rule].energy;
    Tensor dz = fresh(start.s, 0, 0), next = fresh(start.s, 0, 0);
    double E[3], norm = 0, s = 0;
    for (int k = 0; k < 3 && run_ok(&run); k++) {         /* the step before; here; a little further down */
        Clock c = guide_clock(&schedule, k > 0);
        l.z = k == 0 ? fresh(start.s, 0, 1.5) : k == 1 ? start : next;
        guide_observe(&run, &g, &l, &c, e->want, e->wants, NULL, true, false);
        E[k] = e->eval(e, &run, &l.view, NULL, 1, m.state);
        if (k != 1) continue;
        guide_pull(&run, &g, &l, dz, (Tensor){0}, (Tensor){0});
        norm = inner(dz, dz);
        s = 1e-5 * E[1] / norm;
        blend(&run, next, 1, start, (real)-s, dz);
    }
    char what[100];
    snprintf(what, sizeof what, "%s: a small step lowers E by s |g|^2", info->name);
    check_below(what, fabs((E[1] - E[2]) / (s * norm) - 1), 0.02);         /* second order: 2e-3 at most for this step */
}

static void memory(void)
{
    Set set[] = { { "memory", 0 }, { "softness", 0 } };
    Method m = built(&method_suppress, set, 2);
    SuppressState *s = m.state;
    Guide g = { .unet = &unet, .schedule = &schedule };
    Lane l = lane_make(&m.branch[1], NULL);
    const Energy *e = m.rule[0].energy;
    double E[2];
    for (int k = 0; k < 2; k++) {                         /* after another latent's step, and afresh */
        if (k) s->memory.seen = s->memory.has_before = false;
        for (int i = k; i < 2; i++) {
            Clock c = guide_clock(&schedule, i);
            l.z = i ? start : fresh(start.s, 0, 1);
            guide_observe(&run, &g, &l, &c, e->want, e->wants, NULL, true, false);
            E[k] = e->eval(e, &run, &l.view, NULL, 1, m.state);
        }
    }
    check_true("lambda 0 is no memory, to the bit", E[0] == E[1]);
}

static void order_of_objects(void)
{
    Tensor z[2];
    for (int k = 0; k < 2; k++) {
        Method m = built(&method_suppress, NULL, 0);
        z[k] = sampled(&m, 1);
        Object o = object[0];
        object[0] = object[1];
        object[1] = o;
    }
    double size = largest(z[0]);
    axpy(&run, z[0], -1, z[1]);
    check_below("the order of objects changes nothing", largest(z[0]) / size, 1e4 * EPS);      /* sums in another order, over a whole run */
}

static void threads(void)
{
    Method m = built(&method_multi, NULL, 0);
    Tensor one = sampled(&m, 1);
    run.threads = 3;
    m = built(&method_multi, NULL, 0);
    check_true("the same bits for one thread and three", same_bits(sampled(&m, 1), one));
    check_true("a method's state forgets the run before", same_bits(sampled(&m, 1), one));
    run.threads = 1;
}

/* ---- masks and boxes; what cannot be ---- */

static void given(void)
{
    Tensor mask[2] = { fresh(SHAPE(8, 6), 0, 0), fresh(SHAPE(8, 6), 0, 0) };
    for (int i = 0; i < 12; i++) mask[0].x[i] = 1, mask[1].x[30 + i] = 1;
    input.mask = mask;
    Method m = built(&method_suppress, NULL, 0);
    sampled(&m, 1);
    check_true("with masks: 24 looks in map space, one pass", counts(0, 3, 1) && run_ok(&run));
    tensor_zero(mask[1]);
    built(&method_suppress, NULL, 0);
    refused("an empty mask", E_OPTION, "hot dog is empty");
    input.mask = NULL;

    static const double box[2][4] = { { 0, 0, 0.5, 1 }, { 0.5, 0, 1, 1 } };
    input.box = box;
    m = built(&method_multi, NULL, 0);
    sampled(&m, 1);
    double with = report[0].energy;
    input.box = NULL;
    m = built(&method_multi, NULL, 0);
    sampled(&m, 1);
    check_true("boxes are felt", with > report[0].energy && run_ok(&run));

    Set deep = { "halvings", -1 };
    const Objects *o = built(&method_attend, &deep, 1).rule[1].energy->par;
    check_true("by itself: where there are layers beside the middle", o->h == 8 && o->w == 6 && strstr(o->want.sites, "down_blocks.0"));
    deep.value = 2;
    built(&method_attend, &deep, 1);
    refused("no attention of that size", E_OPTION, "no cross-attention of size 2 x 2");
    input.objects = 0;
    built(&method_astar, NULL, 0);
    refused("no objects", E_OPTION, "no object");
    input.objects = 2;
    object[0].token[0] = 9;
    m = built(&method_astar, NULL, 0);
    sampled(&m, 1);
    refused("a token past those that count", E_OPTION, "token 9");
    object[0].token[0] = 2;
}

int main(void)
{
    run = (Run){ .keep = &arena[0], .temp = &arena[1], .step = &arena[2], .run = &arena[3], .k = &kernels_plain, .threads = 1 };
    for (int i = 0; i < 4; i++) arena[i].poison = true;
    scale_laws();
    known_values();
    released_contrast();
    flip_laws();
    network();
    zero_is_plain();
    costs();
    if (sizeof(real) == sizeof(double)) {                 /* a step small enough is lost in float32's rounding of E */
        falls(&method_attend, 1, NULL, 0);
        falls(&method_astar, 0, NULL, 0);
        falls(&method_multi, 0, NULL, 0);
        falls(&method_suppress, 0, &(Set){ "memory", 1 }, 1);
    }
    memory();
    order_of_objects();
    threads();
    given();
    check_true(run_ok(&run) ? "no error was raised" : run.status.text, run_ok(&run));
    for (int i = 0; i < 5; i++) arena_free(&arena[i]);
    return check_done();
}
