#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "ref/pipeline.h"
#include "ref/latents.h"
#include "tensor/file.h"
#include "tensor/point.h"
#include "tensor/safetensors.h"

enum { TEMP, STEP, RUN };
enum { PIXELS_MOST = 8192, PICTURES_MOST = 100000, SAMPLE_SIZE = 64 };      /* SAMPLE_SIZE: latents of a model that does not say */

/* ---- opening ---- */

bool pipeline_open(Pipeline *p, const PipelineSetup *setup)
{
    memset(p, 0, sizeof *p);
    Run *r = &p->run;
    *r = (Run){ .keep = &p->arena[TEMP], .temp = &p->arena[TEMP], .step = &p->arena[STEP], .run = &p->arena[RUN],
                .k = kernels_pick(setup->kernels), .threads = setup->threads > 0 ? setup->threads : system_processors(), .blas = setup->blas };
    p->most_memory = setup->most_memory;
    p->once = setup->once;
    if (!r->k) run_fail(r, E_OPTION, "kernels \"%.40s\" do not run here", setup->kernels ? setup->kernels : "");
    if (!run_ok(r) || !model_open(&p->model, setup->model, &r->status)) return false;
    if (p->model.listed & MODEL_SCHEDULER && pipeline_load(p, MODEL_SCHEDULER))
        schedule_config(&p->schedule, p->model.scheduler, p->model.scheduler_file, &r->status);
    return run_ok(r);
}

void pipeline_close(Pipeline *p)
{
    model_close(&p->model);
    for (size_t i = 0; i < sizeof p->arena / sizeof *p->arena; i++) arena_free(&p->arena[i]);
}

/* ---- networks, read when needed and given back when not ---- */

static size_t remainder_of(size_t allowed, size_t held) { return !allowed ? 0 : held < allowed ? allowed - held : 1; }

/* What the model leaves of the allowance is for the working memory. */
static void share_memory(Pipeline *p)
{
    p->arena[TEMP].limit = remainder_of(p->most_memory, model_held(&p->model) + p->arena[RUN].reserved);
}

bool pipeline_load(Pipeline *p, unsigned parts)
{
    Run *r = &p->run;
    p->model.limit = p->most_memory;
    if (!run_ok(r) || !model_build(&p->model, parts, &r->status)) return false;
    model_load(&p->model, parts & (MODEL_TOKENIZER | MODEL_SCHEDULER), &r->status);
    share_memory(p);
    return run_ok(r);
}

void pipeline_spare(Pipeline *p, unsigned parts)
{
    if (!p->once && !p->most_memory) return;
    model_unload(&p->model, parts);
    arena_trim(&p->arena[TEMP]);
    share_memory(p);
}

/* The numbers of one network; the working memory in use is not for them. */
static bool bring(Pipeline *p, ModelPart part)
{
    Run *r = &p->run;
    if (!run_ok(r) || p->model.loaded & part) return run_ok(r);
    arena_trim(r->temp);
    p->model.limit = remainder_of(p->most_memory, r->temp->reserved + r->run->reserved);
    model_load(&p->model, part, &r->status);
    share_memory(p);
    return run_ok(r);
}

static void plan(Pipeline *p, ModelPart part, int W, int H)
{
    static const int least[] = { 0, 1024, INT_MAX };
    Model *m = &p->model;
    int f = vae_factor(&m->vae.config), lost = 0;
    for (int i = 0; i < 3; i++) {
        lost += part == MODEL_UNET ? unet_plan(&m->unet, H / f, W / f, least[i]) : vae_plan(&m->vae, H, W, least[i]);
        if (!p->most_memory || model_bytes(m, part) <= p->most_memory / 2) break;
    }
    if (lost) model_unload(m, part);
}

void pipeline_plan(Pipeline *p, unsigned parts, int W, int H)
{
    if (!run_ok(&p->run)) return;
    if (parts & MODEL_UNET && (p->unet_for.W != W || p->unet_for.H != H)) plan(p, MODEL_UNET, p->unet_for.W = W, p->unet_for.H = H);
    if (parts & MODEL_VAE  && (p->vae_for.W != W  || p->vae_for.H != H))  plan(p, MODEL_VAE, p->vae_for.W = W, p->vae_for.H = H);
    share_memory(p);
}

static void note(const PipelineHooks *h, const char *text)
{
    if (h && h->note) h->note(h->user, text);
}

/* ---- text ---- */

Tensor pipeline_text(Pipeline *p, const char *const *prompts, int n, int *dropped)
{
    Run *r = &p->run;
    const Model *m = &p->model;
    if (!pipeline_load(p, MODEL_TOKENIZER | MODEL_TEXT) || !bring(p, MODEL_TEXT)) return (Tensor){0};
    int T = tokenizer_length(m->tokenizer), width = m->text.config.width;
    if (T > m->text.config.positions) T = m->text.config.positions;
    Tensor context = tensor_in(r, r->run, SHAPE(n, T, width));
    size_t mark = r->temp->used;
    int *ids = arena_take(r->temp, (size_t)(n * T) * sizeof *ids);
    if (!ids) run_fail(r, E_MEMORY, "out of memory: the ids of %d prompts", n);
    for (int i = 0; run_ok(r) && i < n; i++)
        tokenizer_encode(m->tokenizer, r->temp, prompts[i], strlen(prompts[i]), ids + i * T, T, &dropped[i], &r->status);
    Tensor x = temp(r, context.s);
    if (run_ok(r)) {
        ClipTextPass pass;
        memset(&pass, 0, sizeof pass);
        clip_text_embed(r, &m->text, x, ids);
        clip_text_forward(r, &m->text, context, (Tensor){0}, (Tensor){0}, &pass, x, ids, 0);
    }
    arena_release(r->temp, mark);
    return run_ok(r) ? context : (Tensor){0};
}

static Tensor encode_prompts(Pipeline *p, const PipelineRequest *q, const PipelineHooks *h)
{
    const char *const prompts[2] = { q->negative ? q->negative : "", q->prompt ? q->prompt : "" };
    static const char *const names[2] = { "negative prompt", "prompt" };
    int first = q->scale == 1, dropped[2] = { 0, 0 };
    Tensor context = pipeline_text(p, prompts + first, 2 - first, dropped + first);
    for (int i = first; i < 2; i++) {
        char text[160];
        snprintf(text, sizeof text, "%s: %d token%s beyond the model's %d dropped", names[i], dropped[i], dropped[i] > 1 ? "s" : "", context.s.d[1]);
        if (dropped[i] > 0) note(h, text);
    }
    return context;
}

/* ---- pictures and latents ---- */

static bool size_fits(Pipeline *p, int W, int H)
{
    Run *r = &p->run;
    int f = vae_factor(&p->model.vae.config);
    if (run_ok(r) && (W < f || H < f || W % f || H % f || W > PIXELS_MOST || H > PIXELS_MOST))
        run_fail(r, E_OPTION, "size: %d x %d; width and height must be multiples of %d, up to %d", W, H, f, PIXELS_MOST);
    return run_ok(r);
}

/* 8-bit levels as the reference rounds them: 255 clamp(v/2 + 1/2, 0, 1), halves to even. */
static const uint8_t *to_levels(Pipeline *p, Arena *a, Tensor image)
{
    Run *r = &p->run;
    size_t bad = run_ok(r) ? count_nonfinite(image) : 0, places = run_ok(r) ? (size_t)image.s.d[2] * (size_t)image.s.d[3] : 0;
    if (bad) run_fail(r, E_NUMBER, "decoding: %zu of %zu numbers of the picture are not finite", bad, tensor_count(image));
    uint8_t *rgb = run_ok(r) ? arena_take(a, 3 * places) : NULL;
    if (run_ok(r) && !rgb) run_fail(r, E_MEMORY, "out of memory: a picture");
    for (size_t i = 0; run_ok(r) && i < 3 * places; i++) {
        real v = image.x[i] * (real)0.5 + (real)0.5;
        v = v < 0 ? 0 : v > 1 ? 1 : v;
        rgb[i % places * 3 + i / places] = (uint8_t)rint(v * 255);
    }
    return rgb;
}

/* The autoencoder for pictures of this size. */
static bool codec_ready(Pipeline *p, int W, int H)
{
    pipeline_plan(p, MODEL_VAE, W, H);
    return bring(p, MODEL_VAE);
}

/* The picture of latents [1,C,h,w], in arena a; if that is the temp arena, the caller marks and releases. */
static const uint8_t *decode_in(Pipeline *p, Arena *a, Tensor latent, int *W, int *H)
{
    Run *r = &p->run;
    const VaeConfig *c = &p->model.vae.config;
    if (!pipeline_load(p, MODEL_VAE)) return NULL;
    if (shape_rank(latent.s) != 4 || latent.s.d[0] != 1 || latent.s.d[1] != c->latent || c->out_channels != 3) {
        run_fail(r, E_SHAPE, "decoding: latents [%d,%d,..] for an autoencoder of %d latent and %d picture channels; [1,%d,..] and 3 are expected",
                 latent.s.d[0], latent.s.d[1], c->latent, c->out_channels, c->latent);
        return NULL;
    }
    int f = vae_factor(c);
    *H = latent.s.d[2] * f, *W = latent.s.d[3] * f;
    if (!codec_ready(p, *W, *H)) return NULL;
    size_t mark = r->temp->used;
    Tensor image = temp(r, SHAPE(1, 3, *H, *W)), z = temp(r, latent.s);
    scale(r, z, (real)(1 / c->scaling_factor), latent, (real)c->shift_factor);
    VaePass pass;
    memset(&pass, 0, sizeof pass);
    vae_decode(r, &p->model.vae, image, &pass, z, false);
    const uint8_t *rgb = to_levels(p, a, image);
    if (a != r->temp) arena_release(r->temp, mark);
    return rgb;
}

const uint8_t *pipeline_decode(Pipeline *p, Tensor latent, int *W, int *H) { return decode_in(p, p->run.run, latent, W, H); }

Tensor pipeline_encode(Pipeline *p, const uint8_t *rgb, int W, int H, Random *g)
{
    Run *r = &p->run;
    const VaeConfig *c = &p->model.vae.config;
    if (!pipeline_load(p, MODEL_VAE) || !size_fits(p, W, H) || !codec_ready(p, W, H)) return (Tensor){0};
    if (c->in_channels != 3) run_fail(r, E_FORMAT, "%s/vae/config.json: in_channels: 3 are expected, %d found", p->model.folder, c->in_channels);
    int f = vae_factor(c);
    size_t places = (size_t)W * (size_t)H;
    Tensor latent = tensor_in(r, r->run, SHAPE(1, c->latent, H / f, W / f));
    size_t mark = r->temp->used;
    Tensor image = temp(r, SHAPE(1, 3, H, W)), moments = temp(r, SHAPE(1, 2 * c->latent, H / f, W / f)), noise = {0};
    for (size_t i = 0; run_ok(r) && i < 3 * places; i++)
        image.x[i] = 2 * ((real)rgb[i % places * 3 + i / places] / 255) - 1;
    VaePass pass;
    memset(&pass, 0, sizeof pass);
    vae_encode(r, &p->model.vae, moments, &pass, image, false);
    if (g) {
        noise = temp(r, latent.s);
        sample_noise(r, noise, g, 1);
    }
    vae_posterior(r, latent, (Tensor){0}, (Tensor){0}, moments, noise);
    scale(r, latent, (real)c->scaling_factor, latent, (real)(-c->shift_factor * c->scaling_factor));
    arena_release(r->temp, mark);
    return run_ok(r) ? latent : (Tensor){0};
}

Tensor pipeline_latents(Pipeline *p, const char *file)
{
    const Model *m = &p->model;
    return latents_read(&p->run, file, m->built & MODEL_UNET ? m->unet.config.in_channels : m->built & MODEL_VAE ? m->vae.config.latent : 0);
}

/* ---- the schedule, and a UNet that fits the rest ---- */

static bool make_schedule(Pipeline *p, Schedule *s, AlphaKind alphas, int steps)
{
    Run *r = &p->run;
    if (run_ok(r) && !p->schedule.train_steps) run_fail(r, E_FORMAT, "%s/model_index.json: scheduler: the model has none, and this needs one", p->model.folder);
    return run_ok(r) && schedule_make(s, &p->schedule, alphas, steps, r->run, &r->status);
}

static bool parts_fit(Pipeline *p, Tensor context)
{
    Run *r = &p->run;
    const UnetConfig *u = &p->model.unet.config;
    const char *folder = p->model.folder;
    if (!run_ok(r)) return false;
    if (u->in_channels != u->out_channels)
        run_fail(r, E_FORMAT, "%s/unet/config.json: in_channels %d and out_channels %d: a model that reads more than the latents (inpainting, depth) is not for this", folder, u->in_channels, u->out_channels);
    else if (u->in_channels != p->model.vae.config.latent)
        run_fail(r, E_FORMAT, "%s/unet/config.json: in_channels %d, but the autoencoder has %d latent channels", folder, u->in_channels, p->model.vae.config.latent);
    int width = p->model.unet.context;
    if (context.x && width && width != context.s.d[2])
        run_fail(r, E_FORMAT, "%s/unet/config.json: cross_attention_dim %d, but the text encoder's width is %d", folder, width, context.s.d[2]);
    return run_ok(r);
}

static bool unet_ready(Pipeline *p, int W, int H)
{
    pipeline_plan(p, MODEL_UNET, W, H);
    return bring(p, MODEL_UNET);
}

bool pipeline_ready(Pipeline *p, Tensor context, int W, int H)
{
    if (!pipeline_load(p, MODEL_UNET | MODEL_VAE) || !parts_fit(p, context) || !size_fits(p, W, H)) return false;
    pipeline_spare(p, MODEL_TEXT | MODEL_VAE);
    return unet_ready(p, W, H);
}

/* ---- words to pictures ---- */

PipelineRequest pipeline_request(void) { return (PipelineRequest){ .steps = 50, .scale = 7.5, .count = 1 }; }

typedef struct {
    Pipeline *p;
    const PipelineRequest *q;
    const PipelineHooks *h;
    int W, H, count;
    Schedule schedule;
    Tensor context;
    Tensor start;                                         /* [count,C,h,w]; empty: drawn per picture */
    Tensor *noise;                                        /* [steps] of [count,C,h,w], when one generator serves all */
    int image;
} Job;

static bool request_fits(Run *r, const PipelineRequest *q)
{
    if (q->count < 1 || q->count > PICTURES_MOST) run_fail(r, E_OPTION, "pictures: %d is not from 1 to %d", q->count, PICTURES_MOST);
    if (!isfinite(q->scale)) run_fail(r, E_OPTION, "guidance scale: a finite number is expected");
    if (!(q->eta >= 0 && q->eta <= 1)) run_fail(r, E_OPTION, "eta: %g is not from 0 to 1", q->eta);
    if (!(q->rescale >= 0 && q->rescale <= 1)) run_fail(r, E_OPTION, "guidance rescale: %g is not from 0 to 1", q->rescale);
    if (q->preview_every < 0) run_fail(r, E_OPTION, "preview every %d steps: 0 or more are expected", q->preview_every);
    return run_ok(r);
}

/* The size comes from the latents, the request or the model; latents and request must not contradict each other. */
static bool choose_size(Job *j)
{
    Run *r = &j->p->run;
    const PipelineRequest *q = j->q;
    int f = vae_factor(&j->p->model.vae.config), own = j->p->model.unet.config.sample_size;
    j->W = q->W, j->H = q->H, j->count = q->count;
    if (j->start.x) {
        int N = j->start.s.d[0], w = j->start.s.d[3] * f, h = j->start.s.d[2] * f;
        if ((q->W && q->W != w) || (q->H && q->H != h))
            run_fail(r, E_OPTION, "size: %d x %d asked, but the latents of %s make %d x %d", q->W, q->H, q->latents, w, h);
        if (q->count != 1 && q->count != N)
            run_fail(r, E_OPTION, "pictures: %d asked, but %s holds latents for %d", q->count, q->latents, N);
        j->W = w, j->H = h, j->count = N;
    }
    if (!j->W) j->W = (own ? own : SAMPLE_SIZE) * f;
    if (!j->H) j->H = (own ? own : SAMPLE_SIZE) * f;
    return size_fits(j->p, j->W, j->H);
}

/* One generator for the whole batch: each tensor of noise is one call for all pictures, before the first is begun. */
static void draw_shared(Job *j, Shape all)
{
    Run *r = &j->p->run;
    Random g;
    random_seed(&g, j->q->rng, j->q->seed);
    if (!j->start.x) {
        j->start = tensor_in(r, r->run, all);
        sample_noise(r, j->start, &g, 1);
    }
    if (!(j->q->eta > 0)) return;
    j->noise = arena_take(r->run, (size_t)j->schedule.n * sizeof *j->noise);
    if (!j->noise) run_fail(r, E_MEMORY, "out of memory: noise for %d steps", j->schedule.n);
    for (int k = 0; k < j->schedule.n && run_ok(r); k++) {
        j->noise[k] = tensor_in(r, r->run, all);
        sample_noise(r, j->noise[k], &g, 1);
    }
}

/* Under a limit the two networks of a run take turns; otherwise both stay until the last picture is to be decoded. */
static bool turn_to_unet(Job *j)
{
    if (j->p->most_memory) pipeline_spare(j->p, MODEL_VAE);
    return unet_ready(j->p, j->W, j->H);
}

static void turn_to_vae(Job *j, bool last)
{
    if (j->p->most_memory || last) pipeline_spare(j->p, MODEL_UNET);
}

static bool watch(void *user, Run *r, const SampleStep *at)
{
    Job *j = user;
    const PipelineHooks *h = j->h;
    int every = j->q->preview_every, W, H;
    if (h && h->step && !h->step(h->user, j->image, at)) return false;
    if (!h || !h->preview || !every || at->step % every || at->step == at->of) return true;
    size_t mark = r->temp->used;
    turn_to_vae(j, false);
    const uint8_t *rgb = decode_in(j->p, r->temp, at->x0, &W, &H);
    bool go_on = !rgb || h->preview(h->user, j->image, at->step, rgb, W, H);
    arena_release(r->temp, mark);
    turn_to_unet(j);
    return go_on;
}

static void one_picture(Job *j, int k)
{
    Pipeline *p = j->p;
    Run *r = &p->run;
    const PipelineRequest *q = j->q;
    int f = vae_factor(&p->model.vae.config), W, H;
    size_t mark = r->temp->used;
    Random g;
    random_seed(&g, q->rng, q->seed + (uint64_t)k);
    if (!turn_to_unet(j)) return;
    Tensor x = temp(r, SHAPE(1, p->model.unet.config.in_channels, j->H / f, j->W / f));
    if (j->start.x) tensor_copy(r, x, tensor_rows(j->start, k, 1));
    else sample_noise(r, x, &g, 1);
    Tensor *given = j->noise ? arena_take(r->temp, (size_t)j->schedule.n * sizeof *given) : NULL;
    if (j->noise && !given) run_fail(r, E_MEMORY, "out of memory: noise for %d steps", j->schedule.n);
    for (int i = 0; given && i < j->schedule.n; i++) given[i] = tensor_rows(j->noise[i], k, 1);
    j->image = k;
    SampleOptions o = { .scale = q->scale, .eta = q->eta, .rescale = q->rescale, .apart = q->apart, .given = given, .generator = &g, .generators = 1 };
    sample_down(r, &p->model.unet, &j->schedule, x, j->context, o, (SampleHook){ j, watch });
    turn_to_vae(j, k + 1 == j->count);
    const uint8_t *rgb = run_ok(r) ? decode_in(p, r->temp, x, &W, &H) : NULL;
    if (rgb && j->h && j->h->image && !j->h->image(j->h->user, k, q->seed + (uint64_t)k, rgb, W, H, x))
        run_fail(r, E_STOP, "stopped after picture %d of %d", k + 1, j->count);
    arena_release(r->temp, mark);
}

bool pipeline_generate(Pipeline *p, const PipelineRequest *q, const PipelineHooks *h)
{
    Run *r = &p->run;
    size_t mark = r->run->used;
    Job j = { .p = p, .q = q, .h = h };
    if (!run_ok(r) || !request_fits(r, q)) return false;
    j.context = encode_prompts(p, q, h);
    pipeline_load(p, MODEL_UNET | MODEL_VAE);
    if (run_ok(r) && q->latents) j.start = pipeline_latents(p, q->latents);
    if (parts_fit(p, j.context) && choose_size(&j) && make_schedule(p, &j.schedule, q->alphas, q->steps)) {
        int f = vae_factor(&p->model.vae.config);
        pipeline_ready(p, j.context, j.W, j.H);
        if (q->shared) draw_shared(&j, SHAPE(j.count, p->model.unet.config.in_channels, j.H / f, j.W / f));
        for (int k = 0; k < j.count && run_ok(r); k++) one_picture(&j, k);
    }
    arena_release(r->run, mark);
    return run_ok(r);
}

/* ---- a picture's latents to noise ---- */

bool pipeline_invert(Pipeline *p, Tensor x, const char *prompt, int steps, AlphaKind alphas, SampleHook hook)
{
    Run *r = &p->run;
    size_t mark = r->run->used;
    int dropped = 0;
    Schedule s;
    Tensor context = pipeline_text(p, &prompt, 1, &dropped);
    if (pipeline_load(p, MODEL_UNET | MODEL_VAE) && parts_fit(p, context) && make_schedule(p, &s, alphas, steps)) {
        int f = vae_factor(&p->model.vae.config);
        if (shape_rank(x.s) != 4 || pipeline_ready(p, context, x.s.d[3] * f, x.s.d[2] * f)) sample_up(r, &p->model.unet, &s, x, context, hook);
    }
    arena_release(r->run, mark);
    return run_ok(r);
}
