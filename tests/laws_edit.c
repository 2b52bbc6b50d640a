/* laws_edit.c -- what must hold of attention editing whatever the network is: nothing changed changes nothing, to the bit;
 * what is taken over whole is the source; and each step costs the passes it must.  Released memory is poisoned. */
#include "guidance/invert.h"
#include "guidance/nulltext.h"
#include "guidance/pix2pixzero.h"
#include "guidance/plugplay.h"
#include "guidance/prompt2prompt.h"
#include "tests/tiny_nets.h"

enum { STEPS = 4, T = 5, D = 6, MOST_NUMBERS = 32 };
static Arena weights, keep_arena = { .poison = true }, temp_arena = { .poison = true }, step_arena = { .poison = true }, run_arena = { .poison = true };
static Run run = { .keep = &keep_arena, .temp = &temp_arena, .step = &step_arena, .run = &run_arena, .threads = 1 };
static Unet unet;
static Schedule schedule;
static Tensor z0, none, cat, dog;
static int forwards[STEPS], backwards[STEPS];

static Tensor filled(Shape s)
{
    Tensor t = tensor_in(&run, &weights, s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)check_uniform();
    return t;
}

static Tensor copy_of(Tensor t)
{
    Tensor y = tensor_in(&run, &weights, t.s);
    tensor_copy(&run, y, t);
    return y;
}

static bool counts(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    (void)user, (void)z, (void)x0;
    forwards[report->clock.i] = report->forwards;
    backwards[report->clock.i] = report->backwards;
    return true;
}

static const Guide guide = { .unet = &unet, .schedule = &schedule, .watch = counts };

static Tensor sample(const Method *m, Tensor from)
{
    Tensor z = copy_of(from);
    guide_sample(&run, &guide, &(Guidance){ m, 1 }, z);
    return z;
}

static Tensor plain(Tensor text, double scale)
{
    const Branch b[] = { { .name = "uncond", .context = none, .mix = mix_uncond, .par = { scale } }, { .name = "cond", .context = text, .mix = mix_cond, .par = { scale } } };
    const Method m = { .name = "plain", .branch = b, .branches = 2 };
    return sample(&m, z0);
}

typedef struct { const char *name; double value; } Set;

/* A registry row's method, built and run from z0. */
static Tensor edited(const MethodInfo *info, MethodInput in, const Set *set, int sets)
{
    double number[MOST_NUMBERS];
    Method m;
    size_t mark = run_arena.used;
    for (int i = 0; i < info->options; i++) number[i] = info->option[i].value;
    for (int i = 0; i < sets; i++) number[methods_option(info, set[i].name)] = set[i].value;
    in.number = number;
    in.uncond = none;
    in.schedule = &schedule;
    in.unet = &unet;
    in.h = z0.s.d[1], in.w = z0.s.d[2];
    Tensor z = {0};
    if (info->build(&run, &m, &in)) z = sample(&m, z0);
    else printf("%s: %s\n", info->name, run.status.text);
    arena_release(&run_arena, mark);
    return z;
}

static bool all_steps(const int *count, int want)
{
    bool good = true;
    for (int i = 0; i < STEPS; i++) good &= count[i] == want;
    return good;
}

/* ---- Prompt-to-Prompt ---- */

static const int cat_id[T] = { 90, 3, 4, 91, 91 }, dog_id[T] = { 90, 3, 5, 91, 91 };
static const char *const cat_word[] = { "a", "cat" }, *const dog_word[] = { "a", "dog" };
static const int span[][2] = { { 1, 2 }, { 2, 3 } };

static MethodInput words(Tensor source, Tensor target)
{
    return (MethodInput){ .cond = target, .source = source, .scale = 3,
                          .words = { target.x == cat.x ? cat_id : dog_id, target.x == cat.x ? cat_word : dog_word, span, T, 2, 4 },
                          .source_words = { source.x == cat.x ? cat_id : dog_id, source.x == cat.x ? cat_word : dog_word, span, T, 2, 4 } };
}

static void prompts(void)
{
    Tensor of_cat = plain(cat, 3), of_dog = plain(dog, 3);
    const Set never[] = { { "cross-replace", 0 }, { "self-replace", 0 } }, whole[] = { { "cross-replace", 1 }, { "self-replace", 1 } };
    check_true("prompt-to-prompt with both windows at 0 is plain sampling", same(of_dog, edited(&method_prompt2prompt, words(cat, dog), never, 2)));
    check_true("it costs four passes a step", all_steps(forwards, 4) && all_steps(backwards, 0));
    check_true("the same prompt, all of it taken over: the source", same(of_cat, edited(&method_prompt2prompt, words(cat, cat), whole, 2)));
    Tensor z = edited(&method_prompt2prompt, words(cat, dog), whole, 2);
    check_true("another prompt, all of it taken over: neither", z.x && !same(of_cat, z) && !same(of_dog, z));
    const Set refined[] = { { "cross-replace", 1 }, { "self-replace", 1 }, { "mode", 2 } };
    check_true("alignment in place of swapping: another picture", !same(z, edited(&method_prompt2prompt, words(cat, dog), refined, 3)));

    const Object o = { "dog", { 2 }, 1, { 2 }, 1 };
    const ObjectEdit blend = { .kind = EDIT_BLEND }, weigh = { .kind = EDIT_REWEIGHT, .x = 1 };
    MethodInput in = words(cat, dog);
    in.object = &o, in.objects = 1, in.edit = &blend, in.edits = 1;
    const Set nowhere[] = { { "blend-threshold", 1 }, { "blend-from", 0 } }, everywhere[] = { { "blend-threshold", -1 }, { "blend-from", 0 } };
    check_true("a blend nowhere above its maximum is the source", same(of_cat, edited(&method_prompt2prompt, in, nowhere, 2)));
    Tensor unblended = edited(&method_prompt2prompt, words(cat, dog), NULL, 0), blended = edited(&method_prompt2prompt, in, everywhere, 2);
    check_below("a blend everywhere is no blend", error(blended, unblended), 1e-5);      /* z* + (z - z*) rounds: measured 4e-7 in float */
    in.edit = &weigh;
    check_true("weight 1 changes nothing", same(z, edited(&method_prompt2prompt, in, whole, 2)));
    check_true("no error was raised", run_ok(&run));
}

/* ---- Pix2Pix-Zero ---- */

static double E_seen[2], squares;

static Verdict see_energy(const Clock *c, acc E, View *now, const View *ref, void *state)
{
    (void)now, (void)ref, (void)state;
    if (!c->i) E_seen[c->inner] = (double)E;
    return GO_ON;
}

static double see_gradient(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    for (size_t i = 0; i < tensor_count(g) && !c->i && !c->inner; i++) squares += (double)g.x[i] * (double)g.x[i];
    return pixzero_gain(c, r, g, delta, each, par, state);
}

/* E(z - lr g) = E(z) - lr |g|^2 + O(lr^2), both copies together. */
static void descent(MethodInput in)
{
    double number[MOST_NUMBERS], lr = 1e-4;
    size_t mark = run_arena.used;
    Method m;
    for (int i = 0; i < method_pixzero.options; i++) number[i] = method_pixzero.option[i].value;
    number[methods_option(&method_pixzero, "xa-guidance")] = lr;
    in.number = number, in.uncond = none, in.schedule = &schedule, in.unet = &unet, in.h = z0.s.d[1], in.w = z0.s.d[2];
    if (!method_pixzero.build(&run, &m, &in)) return;
    Rule rule = *m.rule;
    rule.inner = 2;
    rule.enough = see_energy;
    rule.gain = see_gradient;
    m.rule = &rule;
    sample(&m, z0);
    arena_release(&run_arena, mark);
    double fall = (E_seen[0] - E_seen[1]) / (lr * squares);
    check_true("the energy is there and its gradient", E_seen[0] > 0 && squares > 0);
    if (sizeof(real) == sizeof(double)) check_below("a small step lowers it by lr |g|^2", fabs(fall - 1), 1e-2);      /* the second order: 6e-4 */
}

static void directions(void)
{
    Tensor of_cat = plain(cat, 3), zero = filled(SHAPE(T, D)), to_dog = filled(SHAPE(T, D));
    tensor_zero(zero);
    MethodInput in = { .cond = cat, .source = cat, .scale = 3, .direction = zero };
    const Set still = { "xa-guidance", 0 }, strong = { "xa-guidance", 5 }, tiny = { "xa-guidance", 1e-3 };
    check_true("pix2pix-zero without a direction is plain sampling", same(of_cat, edited(&method_pixzero, in, &strong, 1)));
    check_true("it costs six passes and two backward", all_steps(forwards, 6) && all_steps(backwards, 2));
    in.direction = to_dog;
    Tensor unguided = edited(&method_pixzero, in, &still, 1);
    check_true("at step 0 nothing is looked at", all_steps(backwards, 0) && all_steps(forwards, 4));
    Tensor guided = edited(&method_pixzero, in, &tiny, 1);
    check_true("a direction moves the picture, guidance too", !same(of_cat, unguided) && !same(unguided, guided));
    const Set shared[] = { tiny, { "one-latent", 1 } };
    check_true("with one latent for both texts, otherwise", !same(guided, edited(&method_pixzero, in, shared, 2)));
    descent(in);
}

/* ---- Plug-and-Play ---- */

static void plugs(void)
{
    Tensor of_cat = plain(cat, 3), of_dog = plain(dog, 3), stored[STEPS + 1];
    MethodInput in = { .cond = dog, .source = cat, .scale = 3 };
    const Set never[] = { { "features", 0 }, { "self-attention", 0 } }, whole[] = { { "features", 1 }, { "self-attention", 1 } }, half[] = { { "features", 0.5 }, { "self-attention", 0.25 } };
    for (int i = 0; i <= STEPS; i++) stored[i] = filled(z0.s);
    in.stored = stored;
    check_true("plug-and-play with both windows at 0 is plain sampling", same(of_dog, edited(&method_plugplay, in, never, 2)));
    check_true("and costs two passes", all_steps(forwards, 2));
    check_true("taking over is another picture", !same(of_dog, edited(&method_plugplay, in, half, 2)));
    check_true("three passes while a window is open, two after", forwards[0] == 3 && forwards[1] == 3 && forwards[2] == 2 && forwards[3] == 2);
    in.stored = NULL;
    in.cond = cat;
    check_true("a source beside under the same text: the source", same(of_cat, edited(&method_plugplay, in, whole, 2)));
    check_true("four passes then", all_steps(forwards, 4));
}

/* ---- inversion and null text ---- */

static double distance(Tensor a, Tensor b)
{
    double sum = 0;
    for (size_t i = 0; i < tensor_count(a); i++) sum += pow((double)a.x[i] - (double)b.x[i], 2);
    return sum;
}

static void null_texts(void)
{
    Tensor stored[STEPS + 1], found[STEPS];
    for (int i = 0; i <= STEPS; i++) stored[i] = copy_of(z0);
    for (int i = 0; i < STEPS; i++) found[i] = copy_of(none);
    NullTextOptions o = { 5, 1e-9, 0, 0.02, 3 };
    check_true("null-text inversion", nulltext_invert(&run, &guide, none, cat, stored, found, o));
    check_true("a pass for the prompt, five and one for the null text; five backward", all_steps(forwards, 7) && all_steps(backwards, 5));
    Tensor was = z0, text[STEPS];
    z0 = stored[0];
    Tensor unfit = plain(cat, 3);
    memcpy(text, found, sizeof text);
    Tensor again = edited(&method_nulltext, (MethodInput){ .cond = cat, .scale = 3, .null_text = text }, NULL, 0);
    check_true("with the texts found the picture comes back better", distance(again, stored[STEPS]) < distance(unfit, stored[STEPS]));
    z0 = was;
    o.scale = 1;
    check_true("at scale 1", nulltext_invert(&run, &guide, none, cat, stored, found, o));
    check_true("the text has no gradient and stays", same(found[STEPS - 1], none));
    o.scale = 3, o.early = 1e9;
    check_true("a low loss", nulltext_invert(&run, &guide, none, cat, stored, found, o));
    check_true("ends after its update, not before", all_steps(backwards, 1) && !same(found[0], none));
}

int main(void)
{
    static const ScheduleConfig config = { .train_steps = 1000, .steps_offset = 1, .beta_start = 0.00085, .beta_end = 0.012, .beta = BETA_SCALED_LINEAR };
    run.k = kernels_pick(NULL);
    run.blas = true;
    tiny_unet(&unet, "{\"in_channels\":4,\"out_channels\":4,\"block_out_channels\":[8,12],\"layers_per_block\":1,\"norm_num_groups\":2,"
              "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\"],\"up_block_types\":[\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\"],"
              "\"attention_head_dim\":2,\"cross_attention_dim\":6}", &weights, &run.status);
    schedule_make(&schedule, &config, ALPHAS_FLOAT64, STEPS, &weights, &run.status);
    z0 = filled(SHAPE(4, 8, 6));
    none = filled(SHAPE(T, D)), cat = filled(SHAPE(T, D)), dog = filled(SHAPE(T, D));
    prompts();
    directions();
    plugs();
    null_texts();
    check_true(run_ok(&run) ? "no error was raised" : run.status.text, run_ok(&run));
    check_true("all memory is given back", !keep_arena.used && !temp_arena.used && !step_arena.used && !run_arena.used);
    return check_done();
}
