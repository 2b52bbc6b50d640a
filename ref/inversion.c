/* inversion.c -- a picture's latents back to noise, level by level; kept in a folder, so that it is done once and can be continued.
 *
 * A file is named by the SHA-256 of all that decides it: latents, texts, weights, steps, method and its numbers.  It holds
 * `stored` [n+1,C,h,w] (row i: the latent at step i; row n: clean), perhaps `null_text` [n,T,D], and how many levels are done. */
#include <stdio.h>
#include <string.h>
#include "ref/guided.h"
#include "tensor/file.h"
#include "tensor/hash.h"
#include "tensor/safetensors.h"

#define KIND "tiller inversion 1"

typedef struct {
    Guided *g;
    const MethodInfo *info;                               /* whose own way it is; NULL: plain DDIM */
    const MethodInput *in;
    Tensor all, null;                                     /* [n+1,C,h,w], [n,T,D] */
    bool with_null;
    int done;                                             /* levels made, from the clean end */
    char path[1200], key[65];
    Resume fit;                                           /* of texts, which takes much longer than the rest */
    double saved;
} Inversion;

static void say(const Guided *g, const char *text)
{
    if (g->h && g->h->note) g->h->note(g->h->user, text);
}

static void add_text(Sha256 *h, const char *text)
{
    sha256_add(h, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void name_file(Inversion *v)
{
    const Guided *g = v->g;
    const GuidedRequest *q = g->q;
    const ScheduleConfig *c = &g->schedule.config;
    char hex[65], text[300];
    Sha256 h;
    sha256_begin(&h);
    snprintf(text, sizeof text, "%s %zu %d %.17g %d %d %.17g %.17g %d %d %d %d", KIND, sizeof(real), g->schedule.n, v->info ? q->base.scale : 1, (int)c->beta,
             c->train_steps, c->beta_start, c->beta_end, (int)c->prediction, (int)c->spacing, c->steps_offset, (int)q->base.alphas);
    add_text(&h, text);
    add_text(&h, q->weights);
    add_text(&h, v->info || !v->in->source.x ? guided_prompt(q) : q->source_prompt);
    add_text(&h, v->info ? q->base.negative : "");
    add_text(&h, v->info ? q->source_prompt : "");
    add_text(&h, v->info ? v->info->name : "");
    if (v->info) sha256_add(&h, v->in->number, (size_t)v->info->options * sizeof *v->in->number);
    sha256_add(&h, g->x0.x, tensor_count(g->x0) * sizeof(real));
    sha256_end(&h, hex);
    snprintf(v->path, sizeof v->path, "%s/%.32s.safetensors", q->cache, hex);
    memcpy(v->key, hex, sizeof v->key);
}

static const char *meta_of(const Safetensors *f, const char *key)
{
    for (int i = 0; i < f->metas; i++)
        if (!strcmp(f->meta[2 * i], key)) return f->meta[2 * i + 1];
    return "";
}

/* What an earlier run left; a file that cannot be read is as if there were none. */
static void read_cache(Inversion *v)
{
    Run *r = &v->g->p->run;
    Status s = {0};
    Safetensors f;
    size_t mark = r->temp->used;
    memset(&f, 0, sizeof f);
    if (!file_exists(v->path) || !safetensors_open(&f, r->temp, v->path, &s)) return;
    const SafeEntry *e = safetensors_find(&f, "stored"), *null = safetensors_find(&f, "null_text");
    Shape shape;
    int done = 0;
    bool good = e && !strcmp(meta_of(&f, "kind"), KIND) && safetensors_shape(e, &shape) && shape_same(shape, v->all.s) &&
                sscanf(meta_of(&f, "done"), "%d", &done) == 1 && done > 0 && done <= v->g->schedule.n;
    good = good && safetensors_read(&f, e, v->all.x, &s);
    if (good && null && v->null.x && null->count == tensor_count(v->null)) v->with_null = safetensors_read(&f, null, v->null.x, &s);
    if (good && s.code == OK) v->done = done;
    safetensors_close(&f);
    arena_release(r->temp, mark);
}

static void write_cache(Inversion *v)
{
    if (!v->g->q->cache) return;
    char done[20];
    Shape a = v->all.s, b = v->null.s;
    Status s = {0};
    Dtype type = sizeof(real) == 8 ? T_F64 : T_F32;
    SafeOut t[2] = { { "stored", type, 4, { a.d[0], a.d[1], a.d[2], a.d[3] }, v->all.x, true },
                     { "null_text", type, 3, { b.d[0], b.d[1], b.d[2] }, v->null.x, true } };
    const char *meta[] = { "kind", KIND, "done", done };
    snprintf(done, sizeof done, "%d", v->done);
    if (!safetensors_save(v->path, t, 1 + v->with_null, meta, 2, &s) && v->g->h && v->g->h->warning) v->g->h->warning(v->g->h->user, s.text);
    v->saved = clock_seconds();
}

/* Plain DDIM upward, one image, at scale 1. */
static void climb(Inversion *v)
{
    Guided *g = v->g;
    Run *r = &g->p->run;
    const Schedule *s = &g->schedule;
    Tensor text = v->in->source.x ? v->in->source : v->in->cond;
    Shape z = g->x0.s;
    text.s = SHAPE(1, text.s.d[0], text.s.d[1]);
    for (int k = v->done; k < s->n && run_ok(r); k++) {
        size_t mark = r->temp->used;
        UnetPass pass;
        double t = ddim_inverse_t(s, k);
        Tensor x = tensor_rows(v->all, s->n - k, 1), next = tensor_rows(v->all, s->n - k - 1, 1), out = temp(r, SHAPE(1, z.d[0], z.d[1], z.d[2]));
        memset(&pass, 0, sizeof pass);
        unet_forward(r, &g->p->model.unet, out, &pass, x, &t, text, false);
        ddim_inverse_step(r, s, (int)t, next, x, out);
        arena_release(r->temp, mark);
        if (!run_ok(r)) break;
        v->done = k + 1;
        if (clock_seconds() - v->saved > 1) write_cache(v);
        if (g->h && g->h->inverted && !g->h->inverted(g->h->user, "inversion", k + 1, s->n)) run_fail(r, E_STOP, "stopped");
    }
}

static bool climbed(void *user, const Clock *c)
{
    Guided *g = ((Inversion *)user)->g;
    return !g->h || !g->h->inverted || g->h->inverted(g->h->user, "inversion", c->n - c->i, c->n);
}

static bool fitted(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Guided *g = ((Inversion *)user)->g;
    (void)z;
    (void)x0;
    return !g->h || !g->h->inverted || g->h->inverted(g->h->user, "fitting texts", report->clock.i + 1, report->clock.n);
}

/* ---- a fit that was interrupted goes on ---- */

static void take_state(void *user, GuideMemory *memory)
{
    Inversion *v = user;
    if (v->fit.steps) resume_fill(&v->fit, memory, &v->g->p->run.status);
}

static void keep_state(void *user, int steps, GuideMemory *memory) { resume_keep(&((Inversion *)user)->fit, memory, steps, false); }

static void climb_its_own_way(Inversion *v)
{
    Guided *g = v->g;
    Run *r = &g->p->run;
    Arena *kept = r->keep;
    Guide guide = { .unet = &g->p->model.unet, .schedule = &g->schedule, .recompute = g->q->recompute, .inverted = climbed, .watch = fitted, .user = v,
                    .begun = take_state, .kept = keep_state };
    char text[200];
    if (*v->path) {
        snprintf(v->fit.path, sizeof v->fit.path, "%.*s-fit.safetensors", (int)(strlen(v->path) - strlen(".safetensors")), v->path);
        snprintf(v->fit.key, sizeof v->fit.key, "%s", v->key);
        if (resume_find(&v->fit) > g->schedule.n) v->fit.steps = 0;
        guide.first_step = v->fit.steps;
        snprintf(text, sizeof text, "inversion: texts of %d of %d steps are found already", v->fit.steps, g->schedule.n);
        if (v->fit.steps) say(g, text);
    }
    r->keep = &g->keep;
    bool good = v->info->invert(r, &guide, v->in, g->stored, g->null_text, &v->with_null);
    r->keep = kept;
    if (!good && run_ok(r)) run_fail(r, E_OPTION, "%s cannot invert this", v->info->name);
    if (good && run_ok(r)) v->done = g->schedule.n;
    if (good && run_ok(r)) resume_drop(&v->fit);
}

static Tensor null_at(const Clock *c, void *state) { return ((Tensor *)state)[c->i]; }

/* From stored[0] back under the same text: with the stored null texts at the full scale, else at scale 1. */
static void measure(Inversion *v)
{
    Guided *g = v->g;
    Run *r = &g->p->run;
    Pipeline *p = g->p;
    double w = v->with_null ? g->q->base.scale : 1;
    Shape s = g->x0.s;
    Branch b[2] = {
        { .name = "uncond", .context = v->in->uncond, .context_at = v->with_null ? null_at : NULL, .mix = mix_uncond, .par = { w } },
        { .name = "cond", .context = v->in->source.x ? v->in->source : v->in->cond, .mix = mix_cond, .par = { w } },
    };
    Method m = { .name = "reconstruction", .branch = b, .branches = 2, .state = g->null_text };
    Guide guide = { .unet = &p->model.unet, .schedule = &g->schedule };
    Tensor z = tensor_in(r, r->run, SHAPE(1, s.d[0], s.d[1], s.d[2])), clean = tensor_in(r, r->run, z.s);
    if (run_ok(r)) {
        tensor_copy(r, z, g->stored[0]);
        tensor_copy(r, clean, g->x0);
    }
    guide_sample(r, &guide, &(Guidance){ &m, 1 }, (Tensor){ z.x, s });
    int W, H;
    const uint8_t *back = run_ok(r) ? pipeline_decode(p, z, &W, &H) : NULL, *codec = back ? pipeline_decode(p, clean, &W, &H) : NULL;
    pipeline_spare(p, MODEL_VAE);
    if (!codec) return;
    char text[200];
    g->reconstruction = back;
    g->psnr_reconstruction = psnr_of(back, codec, 3 * (size_t)W * (size_t)H);
    snprintf(text, sizeof text, "reconstruction: %.1f dB against the autoencoder's own picture (which is %.1f dB from the file's)",
             g->psnr_reconstruction, g->psnr_codec);
    say(g, text);
}

static bool rows_made(Inversion *v)
{
    Guided *g = v->g;
    Run *r = &g->p->run;
    int n = g->schedule.n, T = g->text.s.d[1], D = g->text.s.d[2];
    Shape s = g->x0.s;
    v->all = tensor_in(r, r->run, SHAPE(n + 1, s.d[0], s.d[1], s.d[2]));
    g->stored = arena_take(r->run, (size_t)(n + 1) * sizeof(Tensor));
    if (v->info) v->null = tensor_in(r, r->run, SHAPE(n, T, D));
    g->null_text = arena_take(r->run, (size_t)n * sizeof(Tensor));
    if (!g->stored || !g->null_text) run_fail(r, E_MEMORY, "out of memory: an inversion of %d steps", n);
    if (!run_ok(r)) return false;
    tensor_zero(v->all);
    tensor_zero(v->null);
    for (int i = 0; i <= n; i++) g->stored[i] = tensor_row(v->all, i);
    for (int i = 0; i < n; i++) g->null_text[i] = v->null.x ? tensor_row(v->null, i) : (Tensor){0};
    tensor_copy(r, g->stored[n], g->x0);
    return run_ok(r);
}

bool guided_inversion(Guided *g, const MethodInfo *info, const MethodInput *in)
{
    Run *r = &g->p->run;
    Inversion v = { .g = g, .info = info && info->invert ? info : NULL, .in = in, .saved = clock_seconds() };
    char text[1400];
    if (!rows_made(&v)) return false;
    if (g->q->cache) {
        if (!folder_make(g->q->cache, &r->status)) return false;
        name_file(&v);
        read_cache(&v);
    }
    int before = v.done;
    if (before == g->schedule.n) {
        snprintf(text, sizeof text, "inversion: read from %s", v.path);
    } else {
        if (before) snprintf(text, sizeof text, "inversion: continued after %d of %d steps", before, g->schedule.n);
        else snprintf(text, sizeof text, "inversion: %d steps", g->schedule.n);
    }
    say(g, text);
    if (before < g->schedule.n && v.info) climb_its_own_way(&v);
    else if (before < g->schedule.n) climb(&v);
    if (before < v.done) write_cache(&v);
    if (!v.with_null) g->null_text = NULL;
    if (run_ok(r)) measure(&v);
    return run_ok(r);
}
