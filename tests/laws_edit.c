/* laws_edit.c -- what must hold of attention editing whatever the network is: nothing changed changes nothing, to the bit;
 * what is taken over whole is the source; and each step costs the passes it must.  Released memory is poisoned. */
#include "guidance/invert.h"
#include "guidance/maps.h"
#include "guidance/nulltext.h"
#include "guidance/pix2pixzero.h"
#include "guidance/plugplay.h"
#include "guidance/prompt2prompt.h"
#include "tests/laws_guided.h"

enum { STEPS = 4, T = 5, D = 6, MOST_NUMBERS = 32 };
static Tensor z0, none, cat, dog;
static int forwards[STEPS], backwards[STEPS];

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

static double apart(Tensor a, Tensor b)
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
    check_true("with the texts found the picture comes back better", apart(again, stored[STEPS]) < apart(unfit, stored[STEPS]));
    z0 = was;
    o.scale = 1;
    check_true("at scale 1", nulltext_invert(&run, &guide, none, cat, stored, found, o));
    check_true("the text has no gradient and stays", same(found[STEPS - 1], none));
    o.scale = 3, o.early = 1e9;
    check_true("a low loss", nulltext_invert(&run, &guide, none, cat, stored, found, o));
    check_true("ends after its update, not before", all_steps(backwards, 1) && !same(found[0], none));
}

/* ---- choices by hand ---- */

static int ones(Tensor alpha, int token)
{
    int n = 0;
    for (int i = 0; i < alpha.s.d[0]; i++) n += alpha.x[i * alpha.s.d[1] + token] == 1;
    return n;
}

static void windows(void)
{
    Tensor alpha = filled(SHAPE(6, 3));                   /* 5 steps: the window is measured on 6 rows */
    prompt_window(alpha, -1, 0, 0.8);
    prompt_window(alpha, 2, 0.2, 0.4);
    check_true("rows 0 .. int(0.8 * 6) - 1", ones(alpha, 0) == 4 && alpha.x[3 * 3] == 1 && alpha.x[4 * 3] == 0);
    check_true("another window for one token", ones(alpha, 2) == 1 && alpha.x[3 + 2] == 1);
    check_true("steps below int(n par)", plugplay_until(&(Clock){ .i = 39, .n = 50 }, &(double){ 0.8 }) == 1 &&
               plugplay_until(&(Clock){ .i = 40, .n = 50 }, &(double){ 0.8 }) == 0);
}

static void swaps(void)
{
    static const char *const x[] = { "a", "tabby", "cat" }, *const y[] = { "a", "grey", "cat" };
    static const int sx[][2] = { { 1, 2 }, { 2, 4 }, { 4, 5 } }, sy[][2] = { { 1, 2 }, { 2, 3 }, { 3, 4 } };
    PromptWords a = { .word = x, .span = sx, .words = 3 }, b = { .word = y, .span = sy, .words = 3 };
    WordSwap swap[4];
    check_true("one word differs", prompt_swaps(&run, swap, 4, &a, &b) == 1 && swap[0].s0 == 2 && swap[0].s1 == 4 && swap[0].d0 == 2 && swap[0].d1 == 3);
    b.words = 2;
    Run other = { .run = &weights, .temp = &temp_arena };
    check_true("another number of words is refused", prompt_swaps(&other, swap, 4, &a, &b) == 0 && other.status.code == E_OPTION);
}

/* A reversed sentence: only one word can be matched, and the ties say that it is the first of the target. */
static void alignment(void)
{
    static const int x[] = { 90, 5, 6, 7, 8, 91 }, y[] = { 90, 8, 7, 6, 5, 91 }, want[] = { 0, 4, -1, -1, -1, 5, 6, 7 };
    int mapper[8], wrong = 0;
    Tensor own = filled(SHAPE(8));
    prompt_refine(&run, mapper, own, x, 6, y, 6);
    for (int i = 0; i < 8; i++) wrong += mapper[i] != want[i] || own.x[i] != (want[i] < 0);
    check_true("ties of an alignment", !wrong);
}

/* Output blocks 4 .. 11 of Stable Diffusion 1.x. */
static void sites(void)
{
    UnetConfig c = { .levels = 4, .layers = { 2, 2, 2, 2 } };
    PlugSites s;
    check_true("plug-and-play has sites", plugplay_sites(&run, &s, &c));
    check_true("the feature", !strcmp(s.feature, "up_blocks.1.resnets.1.conv2"));
    for (int block = 1; block < 4; block++)
        for (int k = 0; k < 3; k++) {
            char path[80];
            snprintf(path, sizeof path, "up_blocks.%d.attentions.%d.transformer_blocks.0.attn1", block, k);
            check_true(path, site_matches(s.attention, path) == (block > 1 || k > 0));
        }
    int big = map_queries(&unet, 8, 6, "*.attn2", 1000), small = map_queries(&unet, 8, 6, "*.attn2", 10);
    check_true("sizes of maps", big == 48 && small == 12 && map_queries(&unet, 8, 6, "nowhere", 10) == 0);
    const char *list = map_sites(&run, &unet, 8, 6, "*.attn2", 12, 12);
    check_true("sites of one size", site_matches(list, "mid_block.attentions.0.transformer_blocks.0.attn2") && strchr(list, ',') &&
               !site_matches(list, "down_blocks.0.attentions.0.transformer_blocks.0.attn2") && !*map_sites(&run, &unet, 8, 6, "*.attn2", 13, 47));
    arena_release(&run_arena, 0);
}

/* Is this place of an 8x6 latent in the mask of a 4x3 map?  Pooled over 3x3 where the map says so, against the largest. */
static bool in_mask(Tensor map, int y, int x, int by)
{
    double here = -1e9, most = -1e9;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 3; j++) {
            double v = (double)map.x[i * 3 + j];
            if (v > most) most = v;
            if (abs(i - y / 2) <= by && abs(j - x / 2) <= by && v > here) here = v;
        }
    return here / most > 0.8;
}

static void blends(void)
{
    PromptState s = { .maps = "*", .start = 1, .threshold = 0.8 };
    Tensor z = filled(SHAPE(2, 8, 6)), zref = filled(z.s), was = copy_of(z);
    for (int side = 0; side < 2; side++) s.words[side] = s.apart[side] = filled(SHAPE(T));
    check_true("room for a blend", prompt_blend(&run, &s, 12, 8, 6) && s.sum[0].s.d[0] == 4 && s.sum[0].s.d[1] == 3);
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < 12; i++) {
            s.sum[side].x[i] = (real)pow((check_uniform() + 1) / 2, 4);
            s.sum_apart[side].x[i] = (real)pow((check_uniform() + 1) / 2, 4);
        }
    prompt_after_step(&(Clock){ .i = 0, .n = 5 }, &run, z, &zref, &s);
    check_true("before its first step nothing is blended", same(z, was));
    prompt_after_step(&(Clock){ .i = 1, .n = 5 }, &run, z, &zref, &s);
    int wrong = 0, inside = 0;
    for (int i = 0; i < 96; i++) {
        int y = i % 48 / 6, x = i % 6;
        bool on = (in_mask(s.sum[1], y, x, 1) || in_mask(s.sum[0], y, x, 1)) && !in_mask(s.sum_apart[1], y, x, 0) && !in_mask(s.sum_apart[0], y, x, 0);
        wrong += !(fabs((double)z.x[i] - (double)(on ? was.x[i] : zref.x[i])) < 1e-6);
        inside += on;
    }
    check_true("a blend changes the words' places, and those of the source's words, but not those apart", !wrong && inside > 10 && inside < 86);
    arena_release(&run_arena, 0);
}

static void inversion_times(void)
{
    check_true("the first and the last timestep are left out", pixzero_inversion_steps(&schedule) == STEPS - 2 &&
               pixzero_inversion_t(&schedule, 0) == schedule.t[STEPS - 2] && pixzero_inversion_t(&schedule, STEPS - 3) == schedule.t[1]);
}

int main(void)
{
    latent_net("{\"in_channels\":4,\"out_channels\":4,\"block_out_channels\":[8,12],\"layers_per_block\":1,\"norm_num_groups\":2,"
               "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\"],\"up_block_types\":[\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\"],"
               "\"attention_head_dim\":2,\"cross_attention_dim\":6}", STEPS);
    z0 = filled(SHAPE(4, 8, 6));
    none = filled(SHAPE(T, D)), cat = filled(SHAPE(T, D)), dog = filled(SHAPE(T, D));
    prompts();
    directions();
    plugs();
    null_texts();
    windows();
    swaps();
    alignment();
    sites();
    blends();
    inversion_times();
    check_true(run_ok(&run) ? "no error was raised" : run.status.text, run_ok(&run));
    check_true("all memory is given back", !keep_arena.used && !temp_arena.used && !step_arena.used && !run_arena.used);
    return check_done();
}
