/* laws_text_rules.c -- what must hold of a guided run whatever the network is: rules that move a text.  Released memory
 * is poisoned, so a prediction that outlives its step shows as NaN. */
#include "guidance/methods.h"
#include "tests/laws_guided.h"

/* E = weight sum x0^2 / 2 */
static acc small_x0(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    Sight *s = view_at(now, SEE_X0, "*", 0);
    acc E = 0;
    (void)e, (void)r, (void)ref, (void)state;
    for (size_t i = 0; s && i < tensor_count(s->val); i++) {
        E += weight * (acc)s->val.x[i] * (acc)s->val.x[i] / 2;
        s->adj.x[i] += (real)weight * s->val.x[i];
    }
    return E;
}

static double par_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    (void)c, (void)r, (void)g, (void)delta, (void)each, (void)state;
    return par[0];
}

static double push;
static bool note_push(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    (void)user, (void)z, (void)x0;
    push = report->grad_norm;
    return true;
}

/* Two steps from z0 under classifier-free guidance, a rule moving the unconditional text by gain dE/dtext three times a step;
 * gain 0: without the rule. */
static Tensor sample(Tensor z0, Tensor uncond, Tensor cond, double gain)
{
    static const Want want = { SEE_X0, "" };
    const Energy energy = { .name = "small x0", .want = &want, .wants = 1, .branch = "", .reference = -1, .eval = small_x0, .weight = 1 };
    const Rule rule = { .energy = &energy, .energies = 1, .leaf = BY_CONTEXT, .into = TO_CONTEXT, .gain = par_gain, .par = { gain },
                        .inner = 3, .branch = "uncond" };
    const Branch branch[] = { { .name = "uncond", .context = uncond, .mix = mix_uncond, .par = { 3 } },
                              { .name = "cond", .context = cond, .mix = mix_cond, .par = { 3 } } };
    const Method method = { .name = "test", .branch = branch, .branches = 2, .rule = &rule, .rules = gain != 0 };
    const Guide guide = { .unet = &unet, .schedule = &schedule, .watch = note_push };
    Tensor z = copy_of(z0);
    guide_sample(&run, &guide, &(Guidance){ &method, 1 }, z);
    return z;
}

static void texts(void)
{
    Tensor z = filled(SHAPE(4, 5, 6)), uncond = filled(SHAPE(3, 6)), cond = filled(SHAPE(3, 6)), was = copy_of(uncond);
    Tensor plain = sample(z, uncond, cond, 0), still = sample(z, uncond, cond, 1e-30);
    check_true("a text moved by next to nothing: the same bits as unguided", run_ok(&run) && same(plain, still));
    check_true("though a gradient came", push > 0);
    Tensor moved = sample(z, uncond, cond, 0.05);
    check_true("moved: another picture", run_ok(&run) && !same(plain, moved));
    check_true("the caller's text is not written", same(uncond, was));
    check_true("and again: the same picture", same(moved, sample(z, uncond, cond, 0.05)));
    check_true("all memory is given back", !keep_arena.used && !temp_arena.used && !step_arena.used && !run_arena.used);
    if (!run_ok(&run)) printf("%s\n", run.status.text);
}

int main(void)
{
    run.threads = 2;
    latent_net("{\"in_channels\":4,\"out_channels\":4,\"block_out_channels\":[8],\"layers_per_block\":1,\"norm_num_groups\":2,"
               "\"down_block_types\":[\"CrossAttnDownBlock2D\"],\"up_block_types\":[\"CrossAttnUpBlock2D\"],\"attention_head_dim\":2,"
               "\"cross_attention_dim\":6}", 2);
    texts();
    return check_done();
}
