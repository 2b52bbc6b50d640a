#include <math.h>
#include <string.h>
#include "guidance/cfg_method.h"
#include "guidance/maps.h"
#include "guidance/nulltext.h"
#include "guidance/prompt2prompt.h"
#include "ref/guided.h"
#include "tensor/file.h"
#include "tensor/point.h"

/* ---- what every run watches ---- */

/* A layer's map of one token, on the grid of the largest, bilinearly with pixel centres at (i + 1/2)/n. */
static void add_resized(Tensor sum, Tensor map, real weight)
{
    int H = sum.s.d[0], W = sum.s.d[1], h = map.s.d[0], w = map.s.d[1];
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double v = ((double)y + 0.5) * h / H - 0.5, u = ((double)x + 0.5) * w / W - 0.5;
            v = v < 0 ? 0 : v > h - 1 ? h - 1 : v;
            u = u < 0 ? 0 : u > w - 1 ? w - 1 : u;
            int y0 = (int)v, x0 = (int)u, y1 = y0 + (y0 < h - 1), x1 = x0 + (x0 < w - 1);
            real a = (real)(v - y0), b = (real)(u - x0);
            real top = map.x[y0 * w + x0] * (1 - b) + map.x[y0 * w + x1] * b;
            real low = map.x[y1 * w + x0] * (1 - b) + map.x[y1 * w + x1] * b;
            sum.x[y * W + x] += weight * (top * (1 - a) + low * a);
        }
}

static void begin_maps(Guided *g, const View *v)
{
    const Sight *p;
    for (int l = 0; (p = view_see(v, SEE_PROBS, "*.attn2", l)); l++) {
        int h, w;
        if (map_size(v->h, v->w, p->val.s.d[1], &h, &w) && h * w > g->mh * g->mw) g->mh = h, g->mw = w;
    }
    for (int k = 0; k < g->words.words && g->mh; k++)
        if (g->map[k].x) {
            g->map[k].s = SHAPE(g->mh, g->mw);
            tensor_zero(g->map[k]);
        }
}

/* Each word's attention in the watched branch, summed over layers, tokens and steps. */
static void watch_maps(const Clock *c, Run *r, const View *now, const View *const *ref, void *state)
{
    Guided *g = state;
    const View *v = g->cond >= 0 ? &now[g->cond] : NULL;
    const Sight *p;
    (void)ref;
    if (!g->q->maps || !v || !v->sights) return;
    if (c->i == 0 && c->repeat == 0) begin_maps(g, v);
    for (int l = 0; (p = view_see(v, SEE_PROBS, "*.attn2", l)) && run_ok(r); l++) {
        size_t mark = r->temp->used;
        int h, w;
        if (!map_size(v->h, v->w, p->val.s.d[1], &h, &w)) continue;
        Tensor map = temp(r, SHAPE(h, w));
        for (int k = 0; k < g->words.words && run_ok(r); k++)
            for (int t = g->words.span[k][0]; t < g->words.span[k][1]; t++) {
                map_of(r, map, p, t);
                add_resized(g->map[k], map, 1);
            }
        arena_release(r->temp, mark);
    }
    g->maps_seen++;
}

static void watch_source(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state)
{
    Guided *g = state;
    (void)c;
    (void)z;
    if (g->lockstep) tensor_copy(r, g->source_z, zref[0]);
}

static void draw(void *user, NoiseFor what, const Clock *c, Tensor out)
{
    Guided *g = user;
    Tensor one = { out.x, SHAPE(1, out.s.d[0], out.s.d[1], out.s.d[2]) };
    (void)what;
    (void)c;
    sample_noise(&g->p->run, one, &g->random, 1);
}

static bool watch(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Guided *g = user;
    double now = clock_seconds(), seconds = now - g->step_began;
    g->step_began = now;
    if (g->reports < g->schedule.n) g->report[g->reports++] = *report;
    tensor_copy(&g->p->run, g->last, z);
    g->last_step = report->clock.i + 1;
    return !g->h || !g->h->step || g->h->step(g->h->user, report, seconds, z, x0);
}

/* What a run of ours remembers beside the engine. */
void guided_lasts(void *user, const Keeper *k)
{
    Guided *g = user;
    void (*part)(void *, void *, size_t) = k->part;
    for (int i = 0; i < g->words.words && g->q->maps; i++) {
        Tensor whole = { g->map[i].x, SHAPE(g->last.s.d[1], g->last.s.d[2]) };
        guide_keep(k, whole);
    }
    guide_keep(k, g->source_z);
    guide_keep(k, g->last);
    part(k->self, &g->random, sizeof g->random);
    part(k->self, &g->mh, sizeof g->mh);
    part(k->self, &g->mw, sizeof g->mw);
    part(k->self, &g->maps_seen, sizeof g->maps_seen);
    part(k->self, &g->reports, sizeof g->reports);
    part(k->self, &g->last_step, sizeof g->last_step);
    part(k->self, g->report, (size_t)g->schedule.n * sizeof *g->report);
}

static void take_state(void *user, GuideMemory *memory)
{
    Guided *g = user;
    if (!g->resume || !g->resume->steps || !resume_fill(g->resume, memory, &g->p->run.status)) return;
    for (int k = 0; k < g->words.words && g->q->maps && g->mh; k++) g->map[k].s = SHAPE(g->mh, g->mw);
}

static void keep_state(void *user, int steps, GuideMemory *memory)
{
    Guided *g = user;
    if (g->resume) resume_keep(g->resume, memory, steps, steps == g->schedule.n);
}

/* ---- methods ---- */

static Tensor row_of(Tensor t, int i) { return t.x ? tensor_row(t, i) : (Tensor){0}; }

static MethodInput input_of(const Guided *g, const GuidedMethod *m)
{
    const Pipeline *p = g->p;
    bool inverted = g->stored != NULL;
    return (MethodInput){
        .number = m ? m->number : NULL, .uncond = row_of(g->text, 0), .cond = row_of(g->text, 1), .source = g->source,
        .direction = g->direction, .scale = g->q->base.scale, .object = g->object, .objects = g->objects,
        .box = g->q->boxes ? g->box : NULL, .mask = g->q->masks ? g->mask : NULL, .edit = g->edit, .edits = g->edits,
        .words = g->words, .source_words = g->source_words, .stored = g->stored, .x0 = g->x0.x ? &g->x0 : NULL, .images = g->x0.x != NULL,
        .null_text = inverted ? g->null_text : NULL, .delta = g->q->delta, .weight = g->q->weight, .deltas = g->q->deltas, .train_steps = g->q->train_steps,
        .schedule = &g->schedule, .unet = &p->model.unet,
        .part = g->own, .parts = g->owns, .source_start = g->source_start, .sampler = g->q->sampler, .h = g->last.s.d[1], .w = g->last.s.d[2],
    };
}

static Method watcher(Guided *g, Branch *b)
{
    static const Want maps[] = { { SEE_PROBS, "*.attn2" } };
    *b = (Branch){ .name = "cond", .watch = true };
    Method m = { .name = "watching", .after_pass = watch_maps, .after_step = watch_source, .state = g };
    if (g->q->maps && g->cond >= 0) {
        m.branch = b;
        m.branches = 1;
        m.remember = maps;
        m.remembers = 1;
    }
    return m;
}

static bool build_methods(Guided *g)
{
    Run *r = &g->p->run;
    const GuidedRequest *q = g->q;
    Branch *b = arena_take(r->run, sizeof *b);
    const double rescaled[CFG_NUMBERS] = { [CFG_PROJECTION] = 1, [CFG_RESCALE] = q->base.rescale };
    const GuidedMethod mixing = { &method_cfg, {0} };
    bool mixed = false;
    if (!b) run_fail(r, E_MEMORY, "out of memory: methods");
    for (int k = 0; k < q->methods && run_ok(r); k++) {
        MethodInput in = input_of(g, &q->method[k]);
        Method *m = &g->part[g->parts];
        if (q->method[k].info == &method_cfg) continue;   /* it is there anyway */
        g->parts++;
        memset(m, 0, sizeof *m);
        if (!q->method[k].info->build(r, m, &in)) run_fail(r, E_OPTION, "%s cannot be built from this", q->method[k].info->name);
        for (int i = 0; i < m->branches && run_ok(r); i++) mixed |= m->branch[i].mix != NULL;
        for (int j = 0; j < m->references && run_ok(r) && j < 1; j++) g->lockstep |= m->reference[j].kind == REFERENCE_LOCKSTEP;
    }
    MethodInput in = input_of(g, &mixing);
    in.number = q->mixing ? q->mixing : rescaled;
    if (!run_ok(r) || !guided_mixing(g, &in, mixed)) return false;
    if (g->lockstep) g->source_z = tensor_in(r, r->run, g->last.s);
    g->part[g->parts] = watcher(g, b);
    g->parts++;
    return run_ok(r);
}

/* ---- pictures ---- */

static bool encode_picture(Guided *g)
{
    const GuidedRequest *q = g->q;
    Run *r = &g->p->run;
    for (int i = 0; i < g->owns && run_ok(r); i++) {
        Tensor own = pipeline_encode(g->p, g->own_rgb[i], q->base.W, q->base.H, NULL);
        if (own.x) g->own[i].x0 = tensor_row(own, 0);
    }
    if (!q->picture) return run_ok(r);
    Tensor z = pipeline_encode(g->p, q->picture, q->base.W, q->base.H, NULL);
    if (z.x) g->x0 = tensor_row(z, 0);
    int W, H;
    size_t mark = r->run->used;
    const uint8_t *back = z.x ? pipeline_decode(g->p, z, &W, &H) : NULL;
    if (back) g->psnr_codec = psnr_of(back, q->picture, 3 * (size_t)W * (size_t)H);
    arena_release(r->run, mark);
    pipeline_spare(g->p, MODEL_VAE);
    return run_ok(r);
}

static bool needs_met(Guided *g)
{
    const GuidedRequest *q = g->q;
    Run *r = &g->p->run;
    for (int k = 0; k < q->methods && run_ok(r); k++) {
        const MethodInfo *m = q->method[k].info;
        if ((m->needs & NEED_IMAGE) && !q->picture) run_fail(r, E_OPTION, "%s works on a picture; --image names it", m->name);
        if ((m->needs & NEED_DIRECTION) && !q->from && !q->from_file)
            run_fail(r, E_OPTION, "%s needs a direction of text: --source cat --target dog, or two files of sentences", m->name);
    }
    return run_ok(r);
}

/* The first method that wants an inversion, or a start from one, decides how it is made. */
static bool invert_picture(Guided *g)
{
    const GuidedRequest *q = g->q;
    const GuidedMethod *who = NULL;
    for (int k = 0; k < q->methods && g->x0.x; k++)
        if (!who && (q->method[k].info->needs & NEED_INVERSION)) who = &q->method[k];
    if (!g->x0.x || (!who && !q->start_inverted)) return true;
    MethodInput in = input_of(g, who);
    bool fits = who && (who->info == &method_nulltext || who->info == &method_prompt2prompt);
    if (fits && q->mixing && q->mixing[CFG_HIGH] > 0)
        run_fail(&g->p->run, E_OPTION, "%s of a photo fits texts to guidance at every step; it does not go with --interval-high", who->info->name);
    return run_ok(&g->p->run) && guided_inversion(g, who ? who->info : NULL, &in);
}

bool guided_prepare(Guided *g, Pipeline *p, const GuidedRequest *q, const GuidedHooks *h)
{
    Run *r = &p->run;
    *g = (Guided){ .p = p, .q = q, .h = h, .cond = -1 };
    if (!run_ok(r) || !needs_met(g) || !guided_texts(g) || !pipeline_ready(p, g->text, q->base.W, q->base.H)) return false;
    int f = vae_factor(&p->model.vae.config);
    if (!p->schedule.train_steps) run_fail(r, E_FORMAT, "%s/model_index.json: scheduler: the model has none, and this needs one", p->model.folder);
    if (!run_ok(r) || !schedule_make(&g->schedule, &p->schedule, q->base.alphas, q->base.steps, r->run, &r->status)) return false;
    Shape s = SHAPE(p->model.unet.config.in_channels, q->base.H / f, q->base.W / f);
    g->last = tensor_in(r, r->run, s);
    g->report = arena_take(r->run, (size_t)g->schedule.n * sizeof *g->report);
    if (!g->report) run_fail(r, E_MEMORY, "out of memory: reports");
    for (int k = 0; k < g->words.words && q->maps; k++) g->map[k] = tensor_in(r, r->run, SHAPE(s.d[1], s.d[2]));
    g->keep.limit = r->temp->limit;
    return run_ok(r) && encode_picture(g) && invert_picture(g);
}

static bool draw_source(Guided *g)
{
    Run *r = &g->p->run;
    Shape s = g->last.s;
    Random random;
    if (!g->q->source_seed.given) return true;
    g->source_start = tensor_in(r, r->run, s);
    random_seed(&random, g->q->base.rng, g->q->source_seed.value);
    if (run_ok(r)) sample_noise(r, (Tensor){ g->source_start.x, SHAPE(1, s.d[0], s.d[1], s.d[2]) }, &random, 1);
    return run_ok(r);
}

bool guided_open(Guided *g, Pipeline *p, const GuidedRequest *q, const GuidedHooks *h)
{
    return guided_prepare(g, p, q, h) && draw_source(g) && build_methods(g);
}

void guided_close(Guided *g) { arena_free(&g->keep); }

/* ---- running ---- */

static void start_of(Guided *g, Tensor z)
{
    Run *r = &g->p->run;
    const char *file = g->q->base.latents;
    if (g->stored) {
        tensor_copy(r, z, g->stored[0]);
    } else if (file) {
        Tensor given = pipeline_latents(g->p, file);
        if (run_ok(r) && tensor_count(given) != tensor_count(z))
            run_fail(r, E_OPTION, "%s: one picture's latents [%d,%d,%d] are wanted", file, z.s.d[0], z.s.d[1], z.s.d[2]);
        if (run_ok(r)) tensor_copy(r, z, given);
    } else {
        draw(g, NOISE_SAMPLER, NULL, z);
    }
}

bool guided_sample(Guided *g, Tensor *z, uint64_t seed, bool plain)
{
    Pipeline *p = g->p;
    Run *r = &p->run;
    Arena *kept = r->keep;
    Shape s = g->last.s;
    Guidance methods = plain ? (Guidance){ g->plain, g->plains } : (Guidance){ g->part, g->parts };
    Guide guide = { .unet = &p->model.unet, .schedule = &g->schedule, .sampler = g->q->sampler, .eta = g->q->base.eta, .recompute = g->q->recompute,
                    .noise = draw, .watch = plain ? NULL : watch, .user = g };
    if (!plain && g->resume) guide.begun = take_state, guide.kept = keep_state, guide.first_step = g->resume->steps;
    *z = tensor_in(r, r->run, SHAPE(1, s.d[0], s.d[1], s.d[2]));
    random_seed(&g->random, g->q->base.rng, seed);
    if (run_ok(r)) start_of(g, (Tensor){ z->x, s });
    if (run_ok(r) && !plain) tensor_copy(r, g->last, *z);
    g->reports = plain ? g->reports : 0;
    g->step_began = clock_seconds();
    r->keep = &g->keep;
    if (run_ok(r)) guide_sample(r, &guide, &methods, (Tensor){ z->x, s });
    r->keep = kept;
    return run_ok(r);
}

double psnr_of(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    double sum = 0;
    for (size_t i = 0; i < bytes; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum > 0 ? 10 * log10(255.0 * 255.0 * (double)bytes / sum) : 999;
}
