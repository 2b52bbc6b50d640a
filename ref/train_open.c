#include <math.h>
#include <string.h>
#include "ref/train.h"
#include "ref/words.h"
#include "tensor/file.h"
#include "tensor/point.h"

enum { TEMPLATES_MOST = 512, BATCH = 16, PIXEL_T0 = 999 };

/* ---- models ---- */

static bool open_latent(TrainRun *w)
{
    Run *r = w->r = &w->p.run;
    Train *o = w->o;
    if (!common_pipeline(&w->p, &o->common, w->folder)) return false;
    w->p.once = false;                                    /* UNet and autoencoder take part in every step */
    if (!pipeline_load(&w->p, MODEL_UNET | MODEL_VAE | MODEL_TEXT | MODEL_TOKENIZER)) return false;
    common_surplus(&w->console, &w->p.model);
    const Model *m = &w->p.model;
    int f = vae_factor(&m->vae.config), own = (m->unet.config.sample_size ? m->unet.config.sample_size : 64) * f;
    w->W = o->W ? o->W : own;
    w->H = o->H ? o->H : own;
    if (!w->p.schedule.train_steps) run_fail(r, E_FORMAT, "%s/model_index.json: scheduler: the model has none, and this needs one", w->folder);
    if (!run_ok(r) || !size_check(w->W, w->H, f, &r->status)) return false;
    w->config = w->p.schedule;
    w->learner.unet = &w->p.model.unet;
    w->words = m->tokenizer;
    WeightHashes *h = arena_take(r->run, sizeof *h);
    if (!h || !weights_hash(h, w->folder, &r->status)) return false;
    snprintf(w->weights_hash, sizeof w->weights_hash, "%s", h->model);
    pipeline_plan(&w->p, MODEL_UNET | MODEL_VAE, w->W, w->H);
    if (!model_load(&w->p.model, MODEL_UNET | MODEL_VAE | MODEL_TEXT, &r->status)) return false;
    w->learner.eye.vae = &w->p.model.vae;
    return schedule_make(&w->chain, &w->config, ALPHAS_FLOAT32, o->steps, r->run, &r->status);
}

static bool open_pixels(TrainRun *w)
{
    Train *o = w->o;
    LoadReport report = {0};
    char file[1100];
    w->r = &w->own;
    w->own = (Run){ .temp = &w->arena[0], .keep = &w->arena[0], .step = &w->arena[1], .run = &w->arena[2], .k = kernels_pick(NULL),
                    .threads = o->common.threads ? o->common.threads : system_processors(), .blas = true, .stop = w->p.run.stop };
    Status *s = &w->own.status;
    *s = w->p.run.status;
    if (!pixel_load_unet(&w->unet, w->folder, &w->weights, &report, s)) return false;
    w->learner.unet = &w->unet;
    w->config = gaussian_config(BETA_LINEAR, 1000);
    w->W = o->W ? o->W : w->unet.config.sample_size;
    w->H = o->H ? o->H : w->unet.config.sample_size;
    snprintf(file, sizeof file, "%s/model.safetensors", w->folder);
    if (w->unet.classes) run_fail(w->r, E_OPTION, "%s: a class-conditional model has no single chain to learn on", w->folder);
    if (file_exists(file) && !file_hash(w->weights_hash, file, s)) return false;
    int *t = arena_take(w->own.run, (size_t)o->steps * sizeof *t);
    if (!t) run_fail(w->r, E_MEMORY, "out of memory: times");
    return run_ok(w->r) && asyrp_sequence(t, o->steps, PIXEL_T0, s) && asyrp_schedule(&w->chain, &w->config, ALPHAS_FLOAT64, t, o->steps, w->own.run, s);
}

/* ---- CLIP and the two texts ---- */

static bool clip_place(TrainRun *w)
{
    if (w->o->clip) snprintf(w->clip_folder, sizeof w->clip_folder, "%s", w->o->clip);
    else {
        Common bundled = w->o->common;
        char folder[1024];
        snprintf(w->clip_folder, sizeof w->clip_folder, "%s/clip", w->folder);
        if (folder_exists(w->clip_folder)) return true;
        bundled.model = NULL;
        if (!common_model(&bundled, folder, sizeof folder, &w->r->status)) return false;
        snprintf(w->clip_folder, sizeof w->clip_folder, "%s/clip", folder);
    }
    return true;
}

static bool open_clip(TrainRun *w)
{
    Run *r = w->r;
    Status *s = &r->status;
    Weights file;
    char path[1200];
    if (!clip_place(w)) return false;
    snprintf(path, sizeof path, "%s/config.json", w->clip_folder);
    const Json *j = json_load(r->run, path, s);
    ClipTextConfig text;
    if (j && !json_get(j, "text_config")) run_fail(r, E_FORMAT, "%s: text_config: a whole CLIPModel is wanted, which reads the two texts as well", path);
    if (!j || !run_ok(r) || !clip_text_config(&text, j, path, s) || !clip_text_build(&w->reader, &text, &w->weights, s) || !weights_open(&file, w->clip_folder, "model", s)) return false;
    params_load(clip_text_walk, &w->reader, &file, &w->weights, NULL, s);
    weights_close(&file);
    if (s->code != OK || !clip_tower_load(&w->tower, w->clip_folder, &w->weights, NULL, s)) return false;
    w->learner.eye.tower = &w->tower;
    if (!text.projection || text.projection != w->tower.width) run_fail(r, E_FORMAT, "%s: texts have %d features, pictures %d", path, text.projection, w->tower.width);
    snprintf(path, sizeof path, "%s/model.safetensors", w->clip_folder);
    if (s->code != OK || (file_exists(path) && !file_hash(w->clip_hash, path, s))) return false;
    snprintf(path, sizeof path, "%s/merges.txt", w->clip_folder);
    const char *place = w->clip_folder;                   /* its own words, else those beside it, else the model's */
    char beside[1200];
    snprintf(beside, sizeof beside, "%s/../tokenizer", w->clip_folder);
    if (!file_exists(path)) place = folder_exists(beside) ? beside : NULL;
    if (place) w->words = tokenizer_load(r->run, place, s);
    else if (!w->words) run_fail(r, E_FILE, "%s: no merges.txt in it, and no tokenizer folder beside it", w->clip_folder);
    return run_ok(r);
}

/* Features [n,D] of texts, not of unit length. */
static void features(TrainRun *w, Tensor to, const char *const *text, int n)
{
    Run *r = w->r;
    ClipText *m = &w->reader;
    int T = tokenizer_length(w->words) < m->config.positions ? tokenizer_length(w->words) : m->config.positions;
    for (int first = 0; first < n && run_ok(r); first += BATCH) {
        size_t mark = r->temp->used;
        ClipTextPass pass;
        int count = n - first < BATCH ? n - first : BATCH, *ids = arena_take(r->temp, (size_t)(count * T) * sizeof *ids);
        if (!ids) run_fail(r, E_MEMORY, "out of memory: texts");
        for (int i = 0; i < count && run_ok(r); i++)
            tokenizer_encode(w->words, r->temp, text[first + i], strlen(text[first + i]), ids + i * T, T, NULL, &r->status);
        Tensor x = temp(r, SHAPE(count, T, m->config.width));
        if (run_ok(r)) clip_text_embed(r, m, x, ids);
        if (run_ok(r)) clip_text_forward(r, m, (Tensor){0}, (Tensor){0}, tensor_rows(to, first, count), &pass, x, ids, 0);
        arena_release(r->temp, mark);
    }
}

static void to_unit(Run *r, Tensor v)
{
    double n = run_ok(r) ? sqrt((double)dot(r, v, v)) : 1;
    if (run_ok(r) && !(n > 0)) run_fail(r, E_NUMBER, "source and target have the same features: CLIP tells them not apart");
    if (run_ok(r)) scale(r, v, (real)(1 / n), v, 0);
}

static const char *filled(Arena *a, const char *line, const char *phrase)
{
    const char *at = strstr(line, "{}");
    char text[1200];
    if (!at) return line;
    snprintf(text, sizeof text, "%.*s%.600s%s", (int)(at - line), line, phrase, at + 2);
    return text_copy(a, text, strlen(text));
}

/* dT, and the cosine of the phrases as they are. */
static bool read_texts(TrainRun *w)
{
    Run *r = w->r;
    const Train *o = w->o;
    char path[1100];
    int D = w->reader.config.projection;
    const char **line = arena_take(r->run, TEMPLATES_MOST * sizeof *line), **text = arena_take(r->run, TEMPLATES_MOST * sizeof *text);
    if (!line || !text) run_fail(r, E_MEMORY, "out of memory: templates");
    if (!run_ok(r) || (!o->templates && !common_data(path, sizeof path, "imagenet-templates.txt", &r->status))) return false;
    int n = text_lines(line, TEMPLATES_MOST, r->run, o->templates ? o->templates : path, &r->status);
    if (run_ok(r) && n < 1) run_fail(r, E_FORMAT, "%s: no template in it; one a line is wanted, {} stands for the phrase", o->templates ? o->templates : path);
    Tensor direction = tensor_in(r, r->run, SHAPE(D)), f[2];
    for (int k = 0; k < 2; k++) {
        f[k] = tensor_in(r, r->run, SHAPE(n > 0 ? n + 1 : 1, D));
        for (int i = 0; i < n && run_ok(r); i++)
            if (!(text[i] = filled(r->run, line[i], k ? o->target : o->source))) run_fail(r, E_MEMORY, "out of memory: templates");
        text[n > 0 ? n : 0] = k ? o->target : o->source;
        features(w, f[k], text, n + 1);
        for (int i = 0; i <= n && run_ok(r); i++) to_unit(r, tensor_row(f[k], i));
    }
    if (!run_ok(r)) return false;
    tensor_zero(direction);
    for (int i = 0; i < n; i++) {
        axpy(r, direction, 1, tensor_row(f[1], i));
        axpy(r, direction, -1, tensor_row(f[0], i));
    }
    to_unit(r, direction);
    w->learner.cosine = (double)dot(r, tensor_row(f[0], n), tensor_row(f[1], n));
    w->learner.text = direction;
    return run_ok(r);
}

/* ---- what is learned, and where ---- */

static bool choose_times(TrainRun *w)
{
    Run *r = w->r;
    Train *o = w->o;
    int edit = ASYRP_T_EDIT, boost = ASYRP_T_BOOST, n = w->chain.n;
    if (o->dataset && !asyrp_interval(&edit, &boost, o->dataset, w->learner.cosine, &r->status)) return false;
    if (o->t_edit < 0) o->t_edit = edit;
    if (o->t_boost < 0) o->t_boost = boost;
    w->time = arena_take(r->run, (size_t)n * sizeof *w->time);
    if (!w->time) run_fail(r, E_MEMORY, "out of memory: times");
    for (int i = n; i-- > 0 && w->time; )                 /* the chain descends */
        if (w->chain.t[i] >= o->t_edit) w->time[w->times++] = w->chain.t[i];
    if (run_ok(r) && !w->times) run_fail(r, E_OPTION, "--t-edit: none of the %d times of this chain is %d or more; the highest is %d", n, o->t_edit, w->chain.t[0]);
    return run_ok(r) && asyrp_schedule(&w->learner.schedule, &w->config, w->pixel ? ALPHAS_FLOAT64 : ALPHAS_FLOAT32, w->time, w->times, r->run, &r->status);
}

static bool make_block(TrainRun *w)
{
    Run *r = w->r;
    const Train *o = w->o;
    const Unet *u = w->learner.unet;
    int f = w->pixel ? 1 : vae_factor(&w->p.model.vae.config);
    Shape h = unet_h_shape(u, 1, w->H / f, w->W / f);
    DeltaConfig c = { o->block ? o->block == 2 ? DELTA_ADM : DELTA_DDPM : !strcmp(u->time_names[0], "time_embed") ? DELTA_ADM : DELTA_DDPM, h.d[1], 4 * u->wave, u->config.groups };
    if (!h.d[1]) run_fail(r, E_OPTION, "%d x %d: the model has no middle block for this size", w->W, w->H);
    w->learner.delta = &w->delta;
    return run_ok(r) && delta_build(&w->delta, &c, &r->status) && delta_start(&w->delta, &w->state, o->seed.value, &r->status);
}

bool train_open(TrainRun *w)
{
    const Train *o = w->o;
    if (!common_model(&o->common, w->folder, sizeof w->folder, &w->p.run.status)) return false;
    PixelKind kind = pixel_kind(w->folder);
    w->pixel = kind == PIXEL_ADM_UNET || kind == PIXEL_DDPM_UNET;
    if (!(w->pixel ? open_pixels(w) : open_latent(w)) || !open_clip(w) || !read_texts(w)) return false;
    w->learner.w_clip = o->clip_weight;
    w->learner.w_l1 = o->l1_weight;
    w->learner.scale = o->scale;
    w->learner.timeless = o->timeless;
    w->learner.eye.recompute = o->recompute;
    return choose_times(w) && make_block(w);
}
