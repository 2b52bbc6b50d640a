/* Whole runs: prompt to picture, and inversion and back.  Random networks amplify rounding over the loop. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "ref/conform.h"
#include "ref/pipeline.h"
#include "tensor/point.h"

typedef struct { Case *c; const char *x, *out; } Watcher;

static bool see(void *user, Run *r, const SampleStep *at)
{
    Watcher *w = user;
    if (w->x) judge(w->c, case_name(w->c, w->x, at->step - 1), at->x);
    if (w->out) judge(w->c, case_name(w->c, w->out, at->step - 1), at->out);
    return run_ok(r);
}

static Tensor copied(Case *c, const char *name)
{
    Tensor from = case_in(c, name), to = case_new(c, from.s);
    if (to.x) tensor_copy(&c->run, to, from);
    return to;
}

void conform_inversion(Case *c)
{
    Unet unet;
    ScheduleConfig config;
    Schedule s;
    if (!case_unet(c, &unet) || !case_scheduler(c, &config) || !case_schedule(c, &s, &config, case_int(c, "steps", 0))) return;
    Tensor x = copied(c, "in.x"), context = case_in(c, "in.encoder_hidden_states");
    Watcher up = { c, "mid.inv.%02d", NULL };
    if (!run_ok(&c->run)) return;
    sample_up(&c->run, &unet, &s, x, context, (SampleHook){ &up, see });
    judge(c, "out.inverted", x);
    sample_down(&c->run, &unet, &s, x, context, (SampleOptions){ .scale = 1 }, (SampleHook){0});
    judge(c, "out.round_trip", x);
}

/* ---- kind "sample" ---- */

typedef struct { Case *c; const char *folder; Tokenizer *words; ClipText text; Tensor context; } Reader;

/* Row 0 the negative prompt, row 1 the prompt, as our tokenizer reads them; judged against in.input_ids. */
static int *rows_of_ids(Reader *q, Shape *s)
{
    Case *c = q->c;
    const char *prompt[2] = { case_text(c, "negative", ""), case_text(c, "prompt", "") };
    int *theirs = case_ids(c, "in.input_ids", s), length = s->d[1], dropped;
    int *ids = arena_take(c->run.run, (size_t)length * 2 * sizeof *ids);
    q->words = theirs ? tokenizer_load(c->run.run, case_model(c, "tokenizer"), &c->run.status) : NULL;
    if (!ids) run_fail(&c->run, E_MEMORY, "%s: no memory for %d tokens", c->file, 2 * length);
    if (!q->words || !run_ok(&c->run)) return NULL;
    if (s->d[0] != 2 || length < 2) {
        run_fail(&c->run, E_FORMAT, "%s: tensor in.input_ids: expected [2,T], found [%d,%d]", c->file, s->d[0], length);
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        int *row = ids + i * length, wrong = 0;
        if (!tokenizer_encode(q->words, c->run.temp, prompt[i], strlen(prompt[i]), row, length, &dropped, &c->run.status)) return NULL;
        for (int k = 0; k < length; k++) wrong += row[k] != theirs[i * length + k];
        judge_truth(c, i ? "tokens of the prompt" : "tokens of the negative prompt", !wrong, "differ from in.input_ids");
    }
    return ids;
}

static bool read_prompts(Reader *q)
{
    Case *c = q->c;
    Shape s;
    LoadReport report = {0};
    ClipTextPass p = {0};
    int *ids = rows_of_ids(q, &s);
    if (!ids || !model_load_text(&q->text, case_model(c, "text_encoder"), c->weights, &report, &c->run.status)) return false;
    Shape shape = SHAPE(2, s.d[1], q->text.config.width);
    Tensor x = case_new(c, shape);
    q->context = case_new(c, shape);
    clip_text_embed(&c->run, &q->text, x, ids);
    clip_text_forward(&c->run, &q->text, q->context, (Tensor){0}, (Tensor){0}, &p, x, ids, 0);
    judge(c, "out.text", q->context);
    case_pass(c);
    return run_ok(&c->run);
}

static Tensor *noises(Case *c, int steps)
{
    Tensor *given = arena_take(c->run.run, (size_t)steps * sizeof *given);
    if (!given) run_fail(&c->run, E_MEMORY, "%s: no memory for %d noises", c->file, steps);
    for (int i = 0; given && i < steps && run_ok(&c->run); i++) given[i] = case_in(c, case_name(c, "in.noise.%02d", i));
    return given;
}

static void decode(Case *c, Tensor x)
{
    Vae vae;
    VaePass p = {0};
    if (!case_vae(c, &vae)) return;
    int f = vae_factor(&vae.config);
    Tensor z = case_new(c, x.s), image = case_new(c, SHAPE(x.s.d[0], vae.config.out_channels, x.s.d[2] * f, x.s.d[3] * f));
    if (!run_ok(&c->run)) return;
    for (size_t i = 0; i < tensor_count(x); i++) z.x[i] = (real)((double)x.x[i] / vae.config.scaling_factor + vae.config.shift_factor);
    vae_decode(&c->run, &vae, image, &p, z, false);
    judge(c, "out.image", image);
    for (size_t i = 0; i < tensor_count(image); i++) image.x[i] = (real)fmin(fmax((double)image.x[i] / 2 + 0.5, 0), 1);
    judge(c, "out.image01", image);
}

void conform_sample(Case *c)
{
    Reader q = { .c = c };
    Unet unet;
    ScheduleConfig config;
    Schedule s;
    if (!read_prompts(&q) || !case_unet(c, &unet) || !case_scheduler(c, &config)) return;
    if (!case_schedule(c, &s, &config, case_int(c, "steps", 0))) return;
    SampleOptions o = { .scale = case_real(c, "scale", 1), .eta = case_real(c, "eta", 0) };
    if (o.eta > 0) o.given = noises(c, s.n);
    Tensor x = copied(c, "in.x");
    Watcher w = { c, "mid.x.%02d", "mid.eps.%02d" };
    if (!run_ok(&c->run)) return;
    sample_down(&c->run, &unet, &s, x, q.context, o, (SampleHook){ &w, see });
    judge(c, "out.latent", x);
    case_pass(c);
    decode(c, x);
}
