#include <string.h>
#include "guidance/prompt2prompt.h"
#include "ref/estimate.h"

/* Working numbers of one step beside its input and output: what its forward holds at its worst moment. */
static size_t inner(const Step *s, Shape in, Shape out)
{
    size_t x = shape_count(in), y = shape_count(out);
    switch (s->kind) {
    case STEP_RES:       return y + (x > y ? x : y);      /* h, and a normalised map */
    case STEP_SPATIAL:   return x * 20;                   /* tokens, queries, keys, values, and the feed-forward's 8 C and 4 C */
    case STEP_ATTENTION: return x * 6;                    /* normalised, q, k, v, mixed, tokens */
    case STEP_UP:        return y / (size_t)out.d[3] * (size_t)in.d[3];
    case STEP_NORM:      return x;
    default:             return 0;
    }
}

/* Two alternating buffers, what is pushed, and the worst step. */
static size_t working(const Steps *s, Shape in)
{
    Shape shape[STEPS_MOST];
    Status ignored = {0};
    size_t most = 0, pushed = 0, worst = 0;
    if (s->n > STEPS_MOST || !steps_shapes(s, in, 0, shape, &ignored)) return 0;
    for (int i = 0; i < s->n; i++) {
        const Step *t = &s->step[i];
        size_t y = shape_count(shape[i]), w = inner(t, i ? shape[i - 1] : in, shape[i]);
        if (t->kind == STEP_PUSH) pushed += y;
        else if (y > most) most = y;
        if (w > worst) worst = w;
    }
    return (2 * most + pushed + worst) * sizeof(real);
}

static size_t most_of(size_t a, size_t b) { return a > b ? a : b; }

/* The text encoder, the UNet and the autoencoder take turns under a limit, or where the pipeline gives back what it can and
 * works for one picture only; otherwise they gather.  Of the UNet's working memory the C library keeps what it does not get in large blocks. */
static size_t of_networks(Pipeline *p, const PipelineRequest *q, bool alone)
{
    enum { PROGRAM = 13 << 20, SCRATCH = 3 << 20, KEPT = 24 << 20, PIXEL = 8 };       /* PIXEL: levels, and the PNG being made */
    Model *m = &p->model;
    bool turns = p->once || p->most_memory;
    int f = vae_factor(&m->vae.config), h = q->H / f, w = q->W / f, batch = q->scale == 1 || q->apart ? 1 : 2;
    pipeline_plan(p, MODEL_UNET | MODEL_VAE, q->W, q->H);
    size_t text = model_bytes(m, MODEL_TEXT), unet = model_bytes(m, MODEL_UNET), vae = model_bytes(m, MODEL_VAE);
    size_t drawing = working(&m->unet.steps, SHAPE(batch, h, w, m->unet.config.in_channels));
    size_t decoding = working(&m->vae.decoder, SHAPE(1, h, w, m->vae.config.latent));
    size_t fixed = PROGRAM + SCRATCH + m->arena.reserved + (size_t)q->W * (size_t)q->H * PIXEL, kept = drawing < KEPT ? drawing : KEPT;
    if (alone) return fixed + most_of(text, most_of(unet + drawing, vae + decoding + kept));
    return fixed + (turns ? 0 : text) + unet + vae + most_of(drawing, decoding + kept);
}

size_t estimate_generate(Pipeline *p, const PipelineRequest *q)
{
    return of_networks(p, q, p->most_memory || (p->once && q->count == 1 && !q->preview_every));
}

/* Forward and backward with every step's input remembered, and one step made anew at a time. */
static size_t remembering(const Steps *s, Shape in)
{
    Shape shape[STEPS_MOST];
    Status ignored = {0};
    size_t kept = shape_count(in), worst = 0;
    if (s->n > STEPS_MOST || !steps_shapes(s, in, 0, shape, &ignored)) return 0;
    for (int i = 0; i < s->n; i++) {
        size_t w = 3 * inner(&s->step[i], i ? shape[i - 1] : in, shape[i]) + 2 * shape_count(shape[i]);
        kept += shape_count(shape[i]);
        if (w > worst) worst = w;
    }
    return (kept + worst) * sizeof(real);
}

size_t estimate_pixel(PixelModel *p, int W, int H)
{
    enum { PROGRAM = 13 << 20, SCRATCH = 3 << 20, NUMBERS = 20 };      /* NUMBERS: of a picture's size, in the sampler, noise, levels, PNG */
    size_t fixed = PROGRAM + SCRATCH + p->structure.reserved + (size_t)W * (size_t)H * 3 * NUMBERS * sizeof(real);
    pixel_model_plan(p, W, H);
    size_t numbers = params_bytes(unet_walk, &p->unet), at_work = working(&p->unet.steps, SHAPE(1, H, W, p->unet.config.in_channels));
    if (*p->classifier_folder) {
        numbers += params_bytes(adm_classifier_walk, &p->classifier);
        at_work += remembering(&p->classifier.encoder.steps, SHAPE(1, H, W, 3));
    }
    return fixed + numbers + at_work;
}

/* ---- guided runs ---- */

/* What a pass leaves for its backward: every step's input, and its cache. */
static size_t remembered(const Steps *s, Shape in, bool recompute)
{
    enum { SPATIAL_OWN = 2, SPATIAL_BLOCK = 18, ATTENTION = 6 };          /* in inputs: q, k, v, gate, what norms read */
    Shape shape[STEPS_MOST];
    Status ignored = {0};
    size_t inputs = 0, caches = 0, worst = 0;
    if (s->n > STEPS_MOST || !steps_shapes(s, in, 0, shape, &ignored)) return 0;
    for (int i = 0; i < s->n; i++) {
        const Step *t = &s->step[i];
        size_t x = shape_count(i ? shape[i - 1] : in), y = shape_count(shape[i]), cache = 0;
        if (t->kind == STEP_RES) cache = y;
        if (t->kind == STEP_SPATIAL) cache = x * (size_t)(SPATIAL_OWN + SPATIAL_BLOCK * t->spatial.blocks);
        if (t->kind == STEP_ATTENTION) cache = x * ATTENTION;
        if (t->kind != STEP_PUSH) inputs += x;
        caches += cache;
        worst = most_of(worst, cache);
    }
    return (inputs + (recompute ? worst : caches)) * sizeof(real);
}

static void add_map(void *self, SiteKind kind, const char *path, Shape s)
{
    const char *end = strrchr(path, '.');
    if (kind == SITE_PROBS && end && !strcmp(end, ".attn2")) *(size_t *)self += shape_count(s) * sizeof(real);
}

size_t estimate_guided(Pipeline *p, const GuidedRequest *q)
{
    enum { VALUE_AND_GRADIENT = 2 };
    const Unet *u = &p->model.unet;
    int f = vae_factor(&p->model.vae.config), h = q->base.H / f, w = q->base.W / f;
    size_t maps = 0, passes = 0, looks = q->maps;
    unet_sites(u, h, w, p->model.text.config.positions, add_map, &maps);
    for (int k = 0; k < q->methods; k++) {
        const MethodInfo *m = q->method[k].info;
        bool fits = q->picture && m == &method_prompt2prompt;             /* texts, to the photo */
        size_t pulls = m->needs & PULLS_TWICE ? 2 : m->needs & PULLS || fits ? 1 : 0;
        passes = most_of(passes, pulls);
        looks += pulls || (m->needs & NEED_SOURCE);
    }
    return of_networks(p, &q->base, false) + passes * remembered(&u->steps, SHAPE(1, h, w, u->config.in_channels), q->recompute) +
           maps * (looks ? 1 + VALUE_AND_GRADIENT * (passes ? passes : 1) : 0);
}
