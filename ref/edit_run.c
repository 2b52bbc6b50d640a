#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/edit.h"
#include "tensor/file.h"

EditWork *edit_work(int argc, char **argv)
{
    EditWork *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->run = (EditRun){ .e = &w->edit, .rows = &w->rows, .p = &w->pipeline, .verb = argv[0], .begun = clock_seconds() };
    edit_defaults(&w->edit);
    edit_methods(&w->rows, argc, argv, &w->status);
    mixing_rows(&w->mixing, offsetof(Edit, mixing));
    return w;
}

void edit_work_free(EditWork *w)
{
    arena_free(&w->run.arena);
    pipeline_close(&w->pipeline);
    free(w);
}

/* ---- hooks ---- */

static bool on_step(void *user, const GuideReport *report, double seconds, Tensor z, Tensor x0)
{
    EditRun *w = user;
    int step = report->clock.i + 1;
    JsonOut o = {0};
    (void)z;
    if (step == 1 || step == w->resume.steps + 1) {
        snprintf(w->what, sizeof w->what, "picture %d of %d", w->image + 1, w->e->count);
        progress_begin(&w->progress, &w->console, w->what, report->clock.n);
        w->progress.begun -= seconds * step;
    }
    progress_step(&w->progress, step);
    if (step == report->clock.n) progress_clear(&w->progress);
    console_detail(&w->console, "step %3d  t %3d  energy %-10.5g |g| %-10.4g push %-8.3g passes %d forward, %d backward  %.3f s", step, report->clock.t,
                   (double)report->energy, report->grad_norm, report->push, report->forwards, report->backwards, seconds);
    console_event(&o, "step");
    json_integer(&o, "image", w->image);
    json_integer(&o, "step", step);
    json_integer(&o, "of", report->clock.n);
    json_integer(&o, "t", report->clock.t);
    json_real(&o, "seconds", seconds, 9);
    json_integer(&o, "rss_bytes", (int64_t)process_peak_memory());
    json_real(&o, "loss", (double)report->energy, 9);
    json_real(&o, "grad_norm", report->grad_norm, 9);
    json_real(&o, "push", report->push, 9);
    json_integer(&o, "forwards", report->forwards);
    json_integer(&o, "backwards", report->backwards);
    console_send(&w->console, &o);
    return !w->e->preview_every || step % w->e->preview_every || step == report->clock.n || edit_preview(w, step, x0);
}

static bool on_inverted(void *user, const char *what, int done, int of)
{
    EditRun *w = user;
    if (done == 1 || !w->progress.what || strcmp(w->progress.what, what)) progress_begin(&w->progress, &w->console, what, of);
    progress_step(&w->progress, done);
    if (done == of) progress_clear(&w->progress);
    return true;
}

static void on_note(void *user, const char *text)
{
    EditRun *w = user;
    progress_clear(&w->progress);
    console_note(&w->console, "%s", text);
}

static void on_warning(void *user, const char *text)
{
    EditRun *w = user;
    progress_clear(&w->progress);
    console_warning(&w->console, "%s", text);
}

GuidedHooks edit_hooks(EditRun *w) { return (GuidedHooks){ w, on_step, on_inverted, on_note, on_warning }; }

/* ---- from settings to a request ---- */

/* A picture as large as the run's. */
static bool load_fitted(EditRun *w, Image *to, const char *file, Status *s)
{
    Image in = {0};
    char said[200];
    const PipelineRequest *q = &w->request.base;
    if (!image_load(&in, &w->arena, file, s)) return false;
    if (in.rotated) console_warning(&w->console, "%s: its EXIF orientation is ignored", file);
    if (!image_fit(&w->p->run, to, &w->arena, &in, q->H, q->W, (Fit)w->e->fit, said, sizeof said)) return false;
    if (*said) console_note(&w->console, "%s: %s", file, said);
    return true;
}

/* "cat=photo.png": objects with pictures of their own. */
static bool load_parts(EditRun *w, const TextList *list, EditKind kind, const char *option, Status *s)
{
    GuidedRequest *q = &w->request;
    for (int i = 0; i < list->n && s->code == OK; i++) {
        GuidedEdit e = { .kind = kind, .word = word_before(list->text[i], option, "WORD=FILE, as \"cat=photo.png\",", &w->arena, s) };
        Image m = {0};
        if (s->code != OK || !load_fitted(w, &m, strchr(list->text[i], '=') + 1, s)) return false;
        e.picture = m.rgb;
        if (q->edits == GUIDED_EDITS) status_fail(s, E_OPTION, "more than %d edits in one run", GUIDED_EDITS);
        else q->edit[q->edits++] = e;
    }
    return s->code == OK;
}

static bool load_picture(EditRun *w, Status *s)
{
    Edit *e = w->e;
    const Model *m = &w->p->model;
    int factor = vae_factor(&m->vae.config), own = (m->unet.config.sample_size ? m->unet.config.sample_size : 64) * factor;
    PipelineRequest *q = &w->request.base;
    q->W = e->W ? e->W : own;
    q->H = e->H ? e->H : own;
    if (!size_check(q->W, q->H, factor, s)) return false;
    if (!load_parts(w, &e->insert, EDIT_INSERT, "insert", s) || !load_parts(w, &e->collage, EDIT_COLLAGE, "collage", s)) return false;
    if (!e->image) return true;
    if (!load_fitted(w, &w->picture, e->image, s) || !file_hash(w->image_sha256, e->image, s)) return false;
    w->request.picture = w->picture.rgb;
    return true;
}

/* The method's own place among those of the run; -1: it is not there. */
static int asyrp_place(const EditRun *w)
{
    for (int k = 0; k < w->rows->methods; k++)
        if (w->rows->info[k] == &method_asyrp) return k;
    return -1;
}

void edit_strength(EditRun *w)
{
    int k = asyrp_place(w);
    double part = w->e->count > 1 ? (double)w->image / (w->e->count - 1) : 0;
    if (k >= 0) w->request.method[k].number[methods_option(&method_asyrp, "strength")] = w->deltas.from + part * (w->deltas.to - w->deltas.from);
}

/* The interval that the blocks (or a table) ask for, where none is given. */
static bool interval(EditRun *w, Status *s)
{
    int k = asyrp_place(w), t_edit, t_boost;
    if (k < 0) {
        if (w->deltas.n || !isnan(w->deltas.from)) status_fail(s, E_OPTION, "--%s is about the method asyrp", w->deltas.n ? "delta" : "gradual");
        return s->code == OK;
    }
    if (!deltas_interval(&t_edit, &t_boost, &w->deltas, &w->e->deltas, s)) return s->code == OK;
    double *edit = &w->e->number[k][methods_option(&method_asyrp, "t-edit")], *boost = &w->e->number[k][methods_option(&method_asyrp, "t-boost")];
    if (isnan(*edit)) *edit = t_edit;
    if (isnan(*boost)) *boost = t_boost;
    return true;
}

static bool make_request(EditRun *w, Status *s)
{
    Edit *e = w->e;
    GuidedRequest *q = &w->request;
    bool bundled = common_bundled(&e->common, w->folder) && !e->paper && w->rows->methods;
    q->base = pipeline_request();
    if (!deltas_read(&w->deltas, &e->deltas, &w->arena, s) || !interval(w, s)) return false;
    if (!common_data(w->nouns, sizeof w->nouns, "nouns.txt", s) || !common_data(w->templates, sizeof w->templates, "templates.txt", s)) return false;
    if (bundled && !common_data(w->presets, sizeof w->presets, "presets/tiny-model.txt", s)) return false;
    if (!edit_numbers(e, q, w->rows, bundled ? w->presets : NULL, &w->arena, s)) return false;
    if (bundled) console_note(&w->console, "presets: %s (--paper-defaults leaves them out)", "tiny-model");
    q->base.prompt = e->prompt;
    q->base.negative = e->negative;
    q->base.steps = e->steps;
    q->base.scale = e->scale;
    q->base.eta = e->eta;
    q->base.rescale = e->mixing[CFG_RESCALE];
    q->mixing = e->mixing;
    q->sampler = e->sampler ? SAMPLER_DDPM : SAMPLER_DDIM;
    q->source_seed = e->source_seed;
    q->base.count = e->count;
    q->base.seed = e->seed.given ? e->seed.value : system_random() & UINT32_MAX;
    q->base.rng = e->rng ? RANDOM_PHILOX : RANDOM_TORCH;
    q->base.latents = e->latents;
    q->source_prompt = e->source_prompt;
    q->from = e->source, q->to = e->target;
    q->from_file = e->source_sentences, q->to_file = e->target_sentences;
    q->nouns = w->nouns, q->templates = w->templates;
    q->cache = e->cache;
    q->start_inverted = e->start != 0;
    q->recompute = e->recompute;
    q->maps = e->maps || e->strip;
    if (!e->prompt && !e->source_prompt && e->source) {
        char text[400];
        snprintf(text, sizeof text, "a photo of %s %.300s", strchr("aeiouAEIOU", *e->source) ? "an" : "a", e->source);
        q->source_prompt = text_copy(&w->arena, text, strlen(text));
        console_note(&w->console, "source prompt: %s", text);
    }
    if (!q->base.prompt) q->base.prompt = q->source_prompt;
    const char **word = arena_take(&w->arena, WORDS_OBJECTS * sizeof *word);
    if (word && e->objects) {
        q->object = word;
        q->objects = words_split(word, WORDS_OBJECTS, &w->arena, e->objects);
    }
    return edit_edits(e, q, &w->arena, s) && edit_places(e, q, &w->arena, s);
}

bool edit_prepare(EditRun *w)
{
    Status *s = &w->p->run.status;
    Edit *e = w->e;
    char path[1200];
    if (!common_model(&e->common, w->folder, sizeof w->folder, s) || !make_request(w, s) || !common_pipeline(w->p, &e->common, w->folder)) return false;
    if (!pipeline_load(w->p, MODEL_UNET | MODEL_VAE | MODEL_TEXT | MODEL_TOKENIZER)) return false;
    common_surplus(&w->console, &w->p->model);
    if (!load_picture(w, s)) return false;
    int f = vae_factor(&w->p->model.vae.config);
    if (!deltas_load(&w->deltas, &w->p->model.unet, w->request.base.H / f, w->request.base.W / f, &w->arena, s)) return false;
    w->request.delta = w->deltas.given;
    w->request.weight = w->deltas.weight;
    w->request.deltas = w->deltas.n;
    w->request.train_steps = w->deltas.train_steps;
    if (e->latents && !file_hash(w->latents_sha256, e->latents, s)) return false;
    if (e->cache && !weights_hash(&w->hashes, w->folder, s)) return false;
    w->request.weights = w->hashes.model;
    output_name(path, sizeof path, e->output, e->count > 1 ? "-0" : "");
    const char *const out[] = { path, e->save_latents, e->strip, e->plot };
    for (int i = 0; i < 4 && s->code == OK; i++)
        if (out[i]) output_check(out[i], s);
    return s->code == OK;
}
