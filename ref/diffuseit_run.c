#include <stdio.h>
#include <string.h>
#include "ref/diffuseit.h"
#include "ref/diffuseit_text.h"
#include "ref/pixel_verbs.h"
#include "ref/words.h"
#include "tensor/file.h"
#include "tensor/point.h"

static Status *status(DitRun *w) { return &w->r->status; }

bool dit_numbers(DitRun *w, GuidedRequest *q, MethodRows *rows, const char *presets, Status *s)
{
    DitSettings *t = w->s;
    Edit *e = &t->edit;
    DiffuseitExample example = t->example ? (DiffuseitExample)(t->example - 1) : e->target ? DIT_EXAMPLE_TEXT : DIT_EXAMPLE_IMAGE;
    if (!e->steps && !presets) e->steps = diffuseit_example_steps(example);
    if (isnan(e->scale)) e->scale = 1;
    if (!edit_numbers(e, q, rows, presets, &w->arena, s)) return false;
    for (int i = 0; i < DIT_NUMBERS; i++) {
        double v = diffuseit_example(example, i);
        if (isnan(e->number[0][i]) && !isnan(v)) q->method[0].number[i] = v;
    }
    w->number = q->method[0].number;
    w->scale = e->scale;
    if (t->respacing && strlen(t->respacing) >= sizeof w->respacing) status_fail(s, E_OPTION, "--respacing: at most %zu characters", sizeof w->respacing - 1);
    else if (t->respacing) snprintf(w->respacing, sizeof w->respacing, "%s", t->respacing);
    else snprintf(w->respacing, sizeof w->respacing, "%d", e->steps);
    return s->code == OK;
}

/* ---- the model ---- */

static bool open_pixels(DitRun *w)
{
    PixelModel *m = &w->m;
    w->r = &m->run;
    if (pixel_model_open(m, &w->s->edit.common, w->folder, NULL) && m->upsampler)
        run_fail(w->r, E_OPTION, "%.300s: an upsampler: it enlarges a small picture, and changes none", w->folder);
    return run_ok(w->r);
}

/* The numbers, once the size is known; half of what a limit leaves is for remembering. */
static bool read_pixels(DitRun *w)
{
    PixelModel *m = &w->m;
    if (!pixel_process(m, &w->process, w->respacing) || !pixel_model_read(m, w->W, w->H)) return false;
    pixel_sound(&w->console, m);
    w->r->temp->limit /= 2;
    w->keep.limit = w->r->temp->limit;
    w->d.unet = &m->unet;
    if (m->unet.classes) w->d.context = tensor_in(w->r, w->r->run, SHAPE(1, 1));
    return run_ok(w->r);
}

static bool open_latent_process(DitRun *w)
{
    ScheduleConfig c = w->p.schedule;
    c.clip_sample = false;
    if (!c.train_steps) status_fail(status(w), E_FORMAT, "%s/model_index.json: scheduler: the model has none, and this needs one", w->folder);
    return run_ok(w->r) && gaussian_make(&w->process, &c, w->respacing, VARIANCE_SMALL, &w->arena, status(w));
}

static bool size_of_run(DitRun *w)
{
    const Edit *e = &w->s->edit;
    int factor = w->pixels ? w->m.unet.multiple : vae_factor(&w->p.model.vae.config), own;
    if (w->pixels) own = w->m.unet.config.sample_size;
    else own = (w->p.model.unet.config.sample_size ? w->p.model.unet.config.sample_size : 64) * factor;
    w->W = e->W ? e->W : own;
    w->H = e->H ? e->H : own;
    return size_check(w->W, w->H, factor > 0 ? factor : 1, status(w));
}

static bool open_model(DitRun *w)
{
    const Common *m = &w->s->edit.common;
    if (!common_model(m, w->folder, sizeof w->folder, status(w))) return false;
    PixelKind kind = pixel_kind(w->folder);
    w->pixels = kind == PIXEL_ADM_UNET || kind == PIXEL_DDPM_UNET;
    if (w->pixels) return open_pixels(w) && size_of_run(w);
    if (!common_pipeline(&w->p, m, w->folder)) return false;
    if (!pipeline_load(&w->p, MODEL_UNET | MODEL_VAE | MODEL_TEXT | MODEL_TOKENIZER)) return false;
    common_surplus(&w->console, &w->p.model);
    return size_of_run(w) && open_latent_process(w);
}

/* ---- pictures ---- */

static bool open_picture(DitRun *w, Image *to, const char *file, Tensor *x)
{
    Image in = {0};
    Run *r = w->r;
    char said[200] = "";
    if (!to->rgb && !image_load(&in, &w->arena, file, status(w))) return false;
    if (in.rotated) console_warning(&w->console, "%s: its EXIF orientation is ignored", file);
    if (!to->rgb && !image_fit(r, to, &w->arena, &in, w->H, w->W, (Fit)w->s->edit.fit, said, sizeof said)) return false;
    if (*said) console_note(&w->console, "%s: %s", file, said);
    *x = tensor_in(r, r->run, SHAPE(1, 3, w->H, w->W));
    if (x->x) image_to_network(tensor_row(*x, 0), to);
    return run_ok(r);
}

/* ---- towers and texts ---- */

/* As asked, else FOLDER of the model if it is there. */
static bool tower_place(DitRun *w, char *to, size_t room, const char *asked, const char *folder, const char *option)
{
    if (asked) snprintf(to, room, "%s", asked);
    else snprintf(to, room, "%.900s/%s", w->folder, folder);
    if (folder_exists(to)) return true;
    if (asked) status_fail(status(w), E_FILE, "--%s: %.400s: there is no such folder", option, asked);
    else status_fail(status(w), E_OPTION, "diffuseit: --%s is missing, and the model has no %s folder", option, folder);
    return false;
}

static bool open_dino(DitRun *w)
{
    char folder[1024];
    LoadReport report = {0};
    if (!tower_place(w, folder, sizeof folder, w->s->dino, "dino", "dino") || !dino_load(&w->dino, folder, &w->weights, &report, status(w))) return false;
    common_nonfinite(&w->console, "DINO", report.nonfinite, report.first_nonfinite);
    int size = (int)w->number[DIT_DINO_SIZE], patch = w->dino.config.patch;
    if (!size) size = w->dino.config.image;
    if (size < patch || size % patch) status_fail(status(w), E_OPTION, "--dino-size: %d is not a multiple of this DINO's patches of %d", size, patch);
    w->d.dino = &w->dino;
    w->d.dino_size = size;
    return run_ok(w->r);
}

static bool open_towers(DitRun *w)
{
    const char *folder[DIT_TOWERS + 1] = { NULL };
    int n = w->s->clip ? words_split(folder, DIT_TOWERS + 1, &w->arena, w->s->clip) : 1;
    if (n > DIT_TOWERS) status_fail(status(w), E_OPTION, "--clip: at most %d towers, found %d", DIT_TOWERS, n);
    for (int k = 0; k < n && run_ok(w->r); k++) {
        LoadReport report = {0};
        if (!tower_place(w, w->tower_folder[k], sizeof w->tower_folder[k], folder[k], "clip", "clip")) return false;
        if (!clip_tower_load(&w->tower[k], w->tower_folder[k], &w->weights, &report, status(w))) return false;
        common_nonfinite(&w->console, "CLIP", report.nonfinite, report.first_nonfinite);
        w->d.tower[w->d.towers++] = &w->tower[k];
    }
    return run_ok(w->r);
}

/* The vocabulary beside a tower, else the model's, else the bundled one: CLIP has only one. */
static Tokenizer *tokenizer_for(DitRun *w, int k)
{
    Common bundled = { .model = NULL };
    char path[1200], folder[1024];
    snprintf(path, sizeof path, "%.1000s/vocab.json", w->tower_folder[k]);
    if (file_exists(path)) return tokenizer_load(&w->arena, w->tower_folder[k], status(w));
    if (!w->pixels) return w->p.model.tokenizer;
    if (!common_model(&bundled, folder, sizeof folder, status(w))) return NULL;
    snprintf(path, sizeof path, "%.1000s/tokenizer", folder);
    return tokenizer_load(&w->arena, path, status(w));
}

static bool open_texts(DitRun *w, Tensor *to, Tensor *from)
{
    Run *r = w->r;
    const DitSettings *s = w->s;
    char file[1200];
    const char *templates = s->templates;
    if (!templates && !common_bundled(&s->edit.common, w->folder)) {
        if (!common_data(file, sizeof file, "imagenet-templates.txt", status(w))) return false;
        templates = file;
    }
    if (templates && !strcmp(templates, "none")) templates = NULL;
    for (int k = 0; k < w->d.towers && run_ok(r); k++) {
        Tokenizer *t = tokenizer_for(w, k);
        to[k] = tensor_in(r, r->run, SHAPE(w->tower[k].width));
        from[k] = tensor_in(r, r->run, SHAPE(w->tower[k].width));
        if (t && run_ok(r)) diffuseit_texts(r, to[k], from[k], w->tower_folder[k], t, s->edit.target, s->edit.source, templates);
    }
    return run_ok(r);
}

/* ---- the denoiser, ready ---- */

static Tensor prompt_rows(DitRun *w)
{
    const Edit *e = &w->s->edit;
    const char *const prompts[2] = { e->negative ? e->negative : "", e->prompt ? e->prompt : "" };
    int first = w->scale == 1, dropped[2] = { 0, 0 };
    Tensor t = pipeline_text(&w->p, prompts + first, 2 - first, dropped + first);
    if (dropped[1]) console_warning(&w->console, "prompt: %d tokens beyond the model's %d dropped", dropped[1], t.s.d[1]);
    return t;
}

static bool open_denoiser(DitRun *w, Tensor *x_source)
{
    Run *r = w->r;
    Model *m = &w->p.model;
    w->d.process = &w->process;
    w->d.scale = w->scale;
    w->d.recompute = w->s->edit.recompute;
    if (w->pixels) {
        if (w->s->edit.prompt) status_fail(status(w), E_OPTION, "--prompt: a pixel-space model reads no text; --source and --target say what CLIP should see");
        return run_ok(r) && read_pixels(w);
    }
    w->d.context = prompt_rows(w);
    *x_source = pipeline_encode(&w->p, w->source.rgb, w->W, w->H, NULL);
    if (!run_ok(r) || !pipeline_ready(&w->p, w->d.context, w->W, w->H)) return false;
    pipeline_plan(&w->p, MODEL_UNET | MODEL_VAE, w->W, w->H);
    if (!model_load(m, MODEL_UNET | MODEL_VAE, status(w))) return false;
    w->d.unet = &m->unet;
    w->d.vae = &m->vae;
    w->d.prediction = w->p.schedule.prediction;
    return true;
}

bool dit_open(DitRun *w)
{
    const Edit *e = &w->s->edit;
    Tensor source = {0}, target = {0}, x_source = {0}, to[DIT_TOWERS] = { {0} }, from[DIT_TOWERS] = { {0} };
    w->r = &w->p.run;
    if (!open_model(w)) return false;
    Run *r = w->r;
    w->d.o = diffuseit_numbers(w->number);
    w->d.cuts = (int)w->number[DIT_AUG_NUM];
    if (!open_picture(w, &w->source, e->image, &source)) return false;
    if ((w->s->target_image || w->target.rgb) && !open_picture(w, &w->target, w->s->target_image, &target)) return false;
    if (!open_dino(w) || (e->target && (!open_towers(w) || !open_texts(w, to, from)))) return false;
    if (!open_denoiser(w, &x_source)) return false;
    r->keep = &w->keep;
    if (!w->pixels) w->keep.limit = r->temp->limit;
    if (!diffuseit_open(r, &w->d, source, x_source, target, to, from)) return false;
    w->last = tensor_in(r, r->run, w->d.x_source.s);
    w->total = diffuseit_top(&w->d) + (w->d.o.ddim ? 1 : w->d.o.rounds);
    return run_ok(r);
}

/* ---- the run ---- */

static void draw_noise(void *user, Tensor out)
{
    DitRun *w = user;
    sample_noise(w->r, out, &w->random, 1);
}

static void draw_cuts(void *user, int tower, Cut *cut, int n, int H, int W)
{
    DitRun *w = user;
    (void)tower;
    for (int k = 0; k < n; k++) cut[k] = cut_draw(&w->random, H, W);
}

static void draw_class(void *user, Tensor context)
{
    DitRun *w = user;
    context.x[0] = (real)random_below(&w->random, (uint64_t)w->m.unet.classes);
}

static void call_members(JsonOut *o, const DitRun *w, const DiffuseitReport *p)
{
    json_integer(o, "call", p->call);
    json_integer(o, "index", p->index);
    json_integer(o, "t", w->process.t[p->index]);
    json_integer(o, "round", p->round);
    json_integer(o, "restarts", p->restarts);
    for (int k = 0; k < DIT_TERMS; k++)
        if (!isnan(p->term[k])) json_real(o, diffuseit_term_name[k], p->term[k], 9);
    json_real(o, "frac", p->frac, 9);
    json_truth(o, "restart", p->restart);
    json_real(o, "grad_norm", p->grad_norm, 9);
    json_real(o, "variance_low", p->variance_low, 9);
    json_real(o, "variance_high", p->variance_high, 9);
}

static void write_log(DitRun *w, const DiffuseitReport *p)
{
    JsonOut o = {0};
    json_open(&o, NULL, '{');
    call_members(&o, w, p);
    json_close(&o, '}');
    size_t n = w->log.size + o.size + 1;
    if (o.failed) w->log.failed = true;
    if (!w->log.failed && n + 1 > w->log.room) {
        char *more = arena_take(&w->arena, 2 * n + 4096);
        if (more && w->log.size) memcpy(more, w->log.bytes, w->log.size);
        w->log.failed = !more;
        w->log.bytes = more;
        w->log.room = 2 * n + 4096;
    }
    if (!w->log.failed) {
        memcpy(w->log.bytes + w->log.size, o.bytes, o.size);
        w->log.bytes[n - 1] = '\n';
        w->log.size = n;
    }
    json_free(&o);
}

static bool watch(void *user, const DiffuseitReport *p, Tensor x, Tensor x0)
{
    DitRun *w = user;
    char terms[240] = "";
    (void)x0;
    double seconds = clock_seconds() - w->call_began;
    tensor_copy(w->r, w->last, x);
    w->last_call = ++w->calls;
    w->call_began += seconds;
    for (int k = 0; k < DIT_TERMS; k++) {
        size_t used = strlen(terms);
        if (!isnan(p->term[k])) snprintf(terms + used, sizeof terms - used, "  %s %.4g", diffuseit_term_name[k], p->term[k]);
    }
    if (w->calls == 1) progress_begin(&w->progress, &w->console, "diffuseit", w->total);
    if (p->restart && p->restarts < w->d.o.max_restarts) {
        progress_clear(&w->progress);
        console_note(&w->console, "index %d: pixels leave the range (%.3g): beginning again, restart %d of at most %d", p->index, p->term[DIT_RANGE], p->restarts + 1, w->d.o.max_restarts);
        w->total = w->calls + diffuseit_top(&w->d) + (w->d.o.ddim ? 1 : w->d.o.rounds);
        progress_begin(&w->progress, &w->console, "diffuseit", w->total);
    }
    progress_step(&w->progress, w->calls < w->total ? w->calls : w->total);
    console_detail(&w->console, "index %3d round %d  t %3d%s  frac %g  |g| %.4g  variance %.3g .. %.3g  %.3f s", p->index, p->round, w->process.t[p->index], terms, p->frac, p->grad_norm,
                   p->variance_low, p->variance_high, seconds);
    if (w->s->log) write_log(w, p);
    JsonOut o = {0};
    console_event(&o, "step");
    call_members(&o, w, p);
    json_real(&o, "seconds", seconds, 9);
    console_send(&w->console, &o);
    return true;
}

static bool finish(DitRun *w, Tensor x0)
{
    Run *r = w->r;
    int W = w->W, H = w->H;
    Tensor picture = tensor_in(r, r->run, SHAPE(1, 3, H, W));
    ColourMatch colours = w->s->colours ? (ColourMatch)(w->s->colours - 1) : w->target.rgb ? COLOURMATCH_MKL : COLOURMATCH_NONE;
    if (w->pixels && run_ok(r)) tensor_copy(r, picture, x0);
    if (!w->pixels) {
        const uint8_t *rgb = pipeline_decode(&w->p, x0, &W, &H);
        if (rgb && colours == COLOURMATCH_NONE) {
            w->result = (Image){ (uint8_t *)(uintptr_t)rgb, H, W, false };
            return true;
        }
        if (rgb) image_to_network(tensor_row(picture, 0), &(Image){ (uint8_t *)(uintptr_t)rgb, H, W, false });
    }
    if (w->target.rgb && run_ok(r)) colourmatch_picture(r, tensor_row(picture, 0), tensor_row(w->d.target, 0), colours);
    if (!run_ok(r) || !image_from_network(&w->result, &w->arena, tensor_row(picture, 0), status(w))) return false;
    for (size_t i = 0, n = (size_t)W * (size_t)H; w->pixels && colours == COLOURMATCH_NONE && i < 3 * n; i++)      /* as the authors store it: truncated */
        w->result.rgb[i % n * 3 + i / n] = gaussian_byte(picture.x[i]);
    return true;
}

bool dit_run(DitRun *w)
{
    Run *r = w->r;
    Tensor x = tensor_in(r, r->run, w->d.x_source.s), x0 = tensor_in(r, r->run, x.s);
    w->d.user = w;
    w->d.noise = draw_noise;
    w->d.cut = w->d.cuts ? draw_cuts : NULL;
    w->d.draw_class = w->pixels && w->m.unet.classes ? draw_class : NULL;
    w->d.watch = watch;
    random_seed(&w->random, w->s->edit.rng ? RANDOM_PHILOX : RANDOM_TORCH, w->seed);
    w->call_began = clock_seconds();
    if (run_ok(r)) diffuseit_run(r, &w->d, x, x0);
    progress_clear(&w->progress);
    r->keep = r->temp;
    return run_ok(r) && finish(w, x0);
}

void dit_close(DitRun *w)
{
    if (w->pixels) pixel_model_close(&w->m);
    else pipeline_close(&w->p);
    arena_free(&w->keep);
    arena_free(&w->weights);
    arena_free(&w->arena);
}
