/* `tiller generate` with a pixel-space model: pictures of a class, or of what the model has seen. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "ref/estimate.h"
#include "ref/image.h"
#include "ref/params.h"
#include "ref/pixel_verbs.h"
#include "ref/progress.h"
#include "tensor/file.h"
#include "tensor/safetensors.h"

typedef struct {
    Common common;
    const char *class_name, *classifier, *respacing, *labels, *low, *latents, *save_latents, *output, *params, *params_from;
    const char *prompt, *negative, *guidance;             /* of other models: refused */
    int  steps, W, H, count, rng, sampler, preview_every; /* steps 0: not given */
    double eta, scale;                                    /* scale < 0: as published */
    Seed seed;
    bool dry_run, no_metadata;
} Draw;

enum { BY_RESPACING, DDPM, DDIM };
#define AT(member) offsetof(Draw, member)
static const Option row[] = {
    { "class",          'c', OPTION_TEXT,   AT(class_name),    0, 0,       NULL,  "N",     "what the picture shows: a number, or a name where names are there", NULL },
    { "classifier",     0,   OPTION_TEXT,   AT(classifier),    0, 0,       NULL,  "FOLDER", "guide with this classifier of noisy pictures (kind adm_classifier)", NULL },
    { "classifier-scale", 0, OPTION_REAL,   AT(scale),         0, 1e4,     NULL,  "X",
      "its strength [default: as published: 1 at 64 x 64 and 256, 0.5 at 128, 4 at 512, 10 for a model of 256 without classes]", NULL },
    { "sampler",        0,   OPTION_CHOICE, AT(sampler),       0, 0,       "auto", "auto|ddpm|ddim", "ddpm: ancestral; auto: ddim if the respacing begins so", NULL },
    { "respacing",      0,   OPTION_TEXT,   AT(respacing),     0, 0,       NULL,  "LIST",
      "the times that are kept: 250, ddim25, or counts of equal sections, 10,15,20 [default: the model's, else 250, or ddim25 with --sampler ddim]",
      "timestep-respacing" },
    { "steps",          0,   OPTION_INT,    AT(steps),         2, 10000,   NULL,  "N",     "the same as --respacing N, or ddimN with --sampler ddim", NULL },
    { "eta",            0,   OPTION_REAL,   AT(eta),           0, 1,       "0",   "X",     "of DDIM: fresh noise per step", NULL },
    { "seed",           's', OPTION_SEED,   AT(seed),          0, 0,       NULL,  "N",
      "-2^63 to 2^64-1; picture k draws from N + k [default: a random one, printed]", NULL },
    { "rng",            0,   OPTION_CHOICE, AT(rng),           0, 0,       "torch", "torch|philox", "whose random numbers", NULL },
    { "width",          'W', OPTION_INT,    AT(W),             1, 8192,    NULL,  "N",     "pixels [default: the model's]", NULL },
    { "height",         'H', OPTION_INT,    AT(H),             1, 8192,    NULL,  "N",     "pixels [default: the model's]", NULL },
    { "num-images",     0,   OPTION_INT,    AT(count),         1, 10000,   "1",   "N",     "how many pictures", NULL },
    { "low-res",        0,   OPTION_TEXT,   AT(low),           0, 0,       NULL,  "IMAGE", "of an upsampler: the small picture that it enlarges", NULL },
    { "labels",         0,   OPTION_TEXT,   AT(labels),        0, 0,       NULL,  "FILE",  "names of classes, one a line [default: labels.txt of the model, if it is there]", NULL },
    { "latents",        0,   OPTION_TEXT,   AT(latents),       0, 0,       NULL,  "FILE",  "starting noise: safetensors, key latents, [3,H,W] or [1,3,H,W]", NULL },
    { "save-latents",   0,   OPTION_TEXT,   AT(save_latents),  0, 0,       NULL,  "FILE",  "write the pictures as numbers in [-1,1] (safetensors, key latents)", NULL },
    { "output",         'o', OPTION_TEXT,   AT(output),        0, 0,       "picture.png", "FILE", "PNG; several pictures: x-0.png, x-1.png", NULL },
    { "preview-every",  0,   OPTION_INT,    AT(preview_every), 0, 10000,   "0",   "N",     "every N steps write the estimate so far as x-step0010.png; 0: never", NULL },
    { "params",         0,   OPTION_TEXT,   AT(params),        0, 0,       NULL,  "FILE",  "options from a JSON object; those of the command line win", NULL },
    { "params-from",    0,   OPTION_TEXT,   AT(params_from),   0, 0,       NULL,  "IMAGE", "options from a picture made before; those of the command line win", NULL },
    { "no-metadata",    0,   OPTION_FLAG,   AT(no_metadata),   0, 0,       NULL,  NULL,    "do not write into the picture how it was made", NULL },
    { "dry-run",        0,   OPTION_FLAG,   AT(dry_run),       0, 0,       NULL,  NULL,    "show all values and the memory wanted, and stop", NULL },
    { "json",           0,   OPTION_FLAG,   AT(common.json),   0, 0,       NULL,  NULL,    "events as JSON Lines on standard output", NULL },
};
static const Option other[] = {
    { "prompt",         'p', OPTION_TEXT,   AT(prompt),        0, 0,       NULL,  "TEXT",  "a pixel-space model reads no text", NULL },
    { "negative",       'n', OPTION_TEXT,   AT(negative),      0, 0,       NULL,  "TEXT",  "likewise", "negative-prompt" },
    { "guidance-scale", 0,   OPTION_TEXT,   AT(guidance),      0, 0,       NULL,  "X",     "likewise; --classifier-scale", "cfg-scale" },
};
static const OptionPage page = {
    "generate", "Pictures of a pixel-space model.", "tiller generate --model adm-64 --class 207 --classifier adm-64-noisy -s 7", NULL, 0, 0,
    "The folder of --model holds config.json with its kind (adm_unet, ddpm_unet) and model.safetensors. The same command gives the same bytes, "
    "for any number of threads. The published ImageNet models were sampled with --respacing 250, LSUN's with 1000 steps.",
    { TABLE("Picture", row), TABLE("Refused with such a model", other), MACHINE_TABLE, COMMON_TABLE }
};

typedef struct {
    const Draw *d;
    Console console;
    PixelModel *p;
    Gaussian process;
    PixelRequest request;
    Tensor start;                                         /* of --latents; empty: drawn */
    Progress progress;
    char folder[1024], what[40], respacing[80], latents_sha256[65], low_sha256[65];
    Arena arena;
    PixelHashes hashes;
    uint64_t seed;
    real *latents;                                        /* for --save-latents */
    int image, done;
    double begun;
    Status status;                                        /* of writing */
} Work;

static PixelText text_of(const Work *w, int image)
{
    return (PixelText){ .model = w->p, .request = &w->request, .process = &w->process, .math = common_math(&w->d->common), .hashes = &w->hashes,
                        .latents = w->d->latents, .latents_sha256 = w->latents_sha256, .low_sha256 = w->d->low ? w->low_sha256 : NULL, .image = image, .count = w->d->count, .seed = w->seed + (uint64_t)image };
}

static bool save_picture(Work *w, const char *path, Tensor z, const PngText *texts, int n, char *hex)
{
    Image m = { pixel_levels(w->p, &w->arena, z), z.s.d[1], z.s.d[2], false };
    return m.rgb && image_save(path, &w->arena, &m, texts, n, hex, &w->status);
}

static bool on_step(void *user, const GuideReport *report, double seconds, Tensor z, Tensor x0)
{
    Work *w = user;
    int step = report->clock.i + 1, every = w->d->preview_every;
    JsonOut o = {0};
    char path[1200];
    (void)z;
    if (step == 1) {
        snprintf(w->what, sizeof w->what, "picture %d of %d", w->image + 1, w->d->count);
        progress_begin(&w->progress, &w->console, w->what, report->clock.n);
        w->progress.begun -= seconds;
    }
    progress_step(&w->progress, step);
    if (step == report->clock.n) progress_clear(&w->progress);
    console_detail(&w->console, "step %4d  t %3d  -log p %-10.5g |g| %-10.4g push %-8.3g %.3f s", step, report->clock.t, (double)report->energy,
                   report->grad_norm, report->push, seconds);
    pixel_step_event(&o, w->image, report, seconds);
    console_send(&w->console, &o);
    if (!every || step % every || step == report->clock.n) return true;
    output_numbered(path, sizeof path, w->d->output, w->image, w->d->count, step);
    bool good = save_picture(w, path, x0, NULL, 0, NULL);
    arena_release(&w->arena, 0);
    return good;
}

/* ---- before anything is computed ---- */

/* Everything that can be refused before a model is read. */
static bool check_options(const Draw *d, Status *s)
{
    const char *dot = strrchr(d->output, '.'), *const not_png[] = { ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff" };
    const char *wrong = d->prompt ? "prompt" : d->negative ? "negative" : d->guidance ? "guidance-scale" : NULL;
    if (wrong) status_fail(s, E_OPTION, "--%s: a pixel-space model reads no text; --class says what it draws, --classifier guides it", wrong);
    else if (d->steps && d->respacing) status_fail(s, E_OPTION, "--steps and --respacing say the same thing: give one of them");
    else if (d->scale >= 0 && !d->classifier) status_fail(s, E_OPTION, "--classifier-scale without --classifier");
    for (int i = 0; dot && i < 7; i++)
        if (!strcasecmp(dot, not_png[i])) status_fail(s, E_OPTION, "--output: pictures are written as PNG, found \"%.200s\"", d->output);
    if (d->save_latents && !strcmp(d->save_latents, d->output)) status_fail(s, E_OPTION, "--save-latents and --output name the same file");
    return s->code == OK;
}

static bool choose_process(Work *w)
{
    const Draw *d = w->d;
    const char *own = w->p->sampling.respacing;
    char number[24];
    bool ddim = d->sampler == DDIM || (d->sampler == BY_RESPACING && !strncmp(d->respacing ? d->respacing : d->steps ? "" : own, "ddim", 4));
    snprintf(number, sizeof number, "%s%d", ddim ? "ddim" : "", d->steps);
    snprintf(w->respacing, sizeof w->respacing, "%s", d->respacing ? d->respacing : d->steps ? number : *own ? own : ddim ? "ddim25" : "250");
    w->request.sampler = ddim ? SAMPLER_DDIM : SAMPLER_DDPM;
    w->request.respacing = w->respacing;
    if (d->eta > 0 && !ddim) run_fail(&w->p->run, E_OPTION, "--eta belongs to DDIM (--sampler ddim)");
    return run_ok(&w->p->run) && pixel_process(w->p, &w->process, w->respacing);
}

static bool choose_class(Work *w)
{
    PixelModel *p = w->p;
    Run *r = &p->run;
    const char *name = w->d->class_name;
    bool needed = p->unet.classes > 0 || *p->classifier_folder;
    w->request.label = -1;
    if (!pixel_model_labels(p, w->d->labels)) return false;
    if (name && !needed) run_fail(r, E_OPTION, "--class: this model knows no classes; a classifier can guide it (--classifier FOLDER)");
    else if (!name && needed) run_fail(r, E_OPTION, "generate: --class is missing: %s", p->unet.classes ? "this model draws classes" : "the classifier guides towards one");
    else if (name) w->request.label = pixel_model_class(p, name);
    return run_ok(r);
}

static bool choose_size(Work *w)
{
    const Draw *d = w->d;
    PixelRequest *q = &w->request;
    Run *r = &w->p->run;
    int own = w->p->unet.config.sample_size;
    q->W = d->W ? d->W : own;
    q->H = d->H ? d->H : own;
    if (d->latents) {
        w->start = pixel_latents(w->p, d->latents);
        if (!w->start.x || !file_hash(w->latents_sha256, d->latents, &r->status)) return false;
        if ((d->W && d->W != w->start.s.d[2]) || (d->H && d->H != w->start.s.d[1]))
            run_fail(r, E_OPTION, "size: %d x %d asked, but the latents of %s are %d x %d", q->W, q->H, d->latents, w->start.s.d[2], w->start.s.d[1]);
        if (d->count > 1) run_fail(r, E_OPTION, "--num-images: %s holds the start of one picture", d->latents);
        q->W = w->start.s.d[2];
        q->H = w->start.s.d[1];
    }
    if (!size_check(q->W, q->H, w->p->unet.multiple, &r->status)) return false;
    if (*w->p->classifier_folder && (q->W != own || q->H != own))
        run_fail(r, E_OPTION, "size: %d x %d; the classifier looks at %d x %d only", q->W, q->H, own, own);
    return run_ok(r);
}

static bool load_low(Work *w)
{
    Run *r = &w->p->run;
    const char *low = w->d->low;
    Image m = {0};
    if (!low && w->p->upsampler) run_fail(r, E_OPTION, "generate: --low-res is missing: this model is an upsampler, and enlarges a small picture");
    if (low && !w->p->upsampler) run_fail(r, E_OPTION, "--low-res: this model is no upsampler");
    if (!run_ok(r) || !low) return run_ok(r);
    if (!image_load(&m, &w->arena, low, &r->status) || !file_hash(w->low_sha256, low, &r->status)) return false;
    if (m.rotated) console_warning(&w->console, "%s: its EXIF orientation is ignored", low);
    w->request.low = pixel_enlarge(w->p, m.rgb, m.H, m.W, w->request.H, w->request.W);
    return run_ok(r);
}

static bool prepare(Work *w)
{
    Status *s = &w->p->run.status;
    const Draw *d = w->d;
    char path[1200];
    double began = clock_seconds();
    if (!check_options(d, s) || !common_model(&d->common, w->folder, sizeof w->folder, s) || !pixel_model_open(w->p, &d->common, w->folder, d->classifier)) return false;
    pixel_surplus(&w->console, w->p);
    console_detail(&w->console, "model: %s, looked through in %.2f s", w->folder, clock_seconds() - began);
    w->request.eta = d->eta;
    w->request.scale = !d->classifier ? 0 : d->scale >= 0 ? d->scale : pixel_model_scale(w->p);
    w->request.rng = d->rng ? RANDOM_PHILOX : RANDOM_TORCH;
    if (!choose_class(w) || !choose_process(w) || !choose_size(w) || !load_low(w)) return false;
    output_numbered(path, sizeof path, w->d->output, 0, w->d->count, 0);
    return output_check(path, s) && (!d->save_latents || output_check(d->save_latents, s));
}

static void say_start(Work *w)
{
    JsonOut o = {0};
    PixelText t = text_of(w, 0);
    console_event(&o, "start");
    pixel_members(&o, &t);
    json_integer(&o, "seed", (int64_t)w->seed);
    json_integer(&o, "threads", w->p->run.threads);
    json_integer(&o, "estimated_bytes", (int64_t)estimate_pixel(w->p, w->request.W, w->request.H));
    console_send(&w->console, &o);
    console_note(&w->console, "seed: %llu", (unsigned long long)w->seed);
}

static void say_dry(const Work *w)
{
    const PixelRequest *q = &w->request;
    const PixelModel *p = w->p;
    const char *label = pixel_model_label(p, q->label);
    char class_text[24] = "none";
    if (w->console.json) return;
    if (q->label >= 0) snprintf(class_text, sizeof class_text, "%d", q->label);
    printf("model             %s (%s)\nclass             %s%s%.200s\nclassifier        %s\nclassifier-scale  %g\nsize              %d x %d\nnum-images        %d\n"
           "sampler           %s\nrespacing         %s\nsteps             %d\neta               %g\nseed              %llu\nrng               %s\n"
           "kernels           %s\nmath              %s\nthreads           %d\noutput            %s\nmemory            %.0f MB (estimate)\n",
           w->folder, pixel_kind_name(p->kind), class_text, label ? ", " : "", label ? label : "", *p->classifier_folder ? p->classifier_folder : "none", q->scale, q->W, q->H,
           w->d->count, q->sampler == SAMPLER_DDIM ? "ddim" : "ddpm", q->respacing, w->process.n, q->eta, (unsigned long long)w->seed,
           q->rng == RANDOM_PHILOX ? "philox" : "torch", p->run.k->name, common_math(&w->d->common), p->run.threads, w->d->output,
           (double)estimate_pixel((PixelModel *)(uintptr_t)p, q->W, q->H) / 1e6);
}

/* ---- pictures ---- */

static bool keep_latent(Work *w, Tensor z)
{
    size_t n = tensor_count(z);
    if (!w->latents) w->latents = malloc(n * (size_t)w->d->count * sizeof(real));
    if (!w->latents) status_fail(&w->status, E_MEMORY, "out of memory for the latents of %d pictures", w->d->count);
    else memcpy(w->latents + n * (size_t)w->done, z.x, n * sizeof(real));
    return w->latents;
}

static bool finish_picture(Work *w, Tensor z)
{
    char path[1200], hex[65];
    PngText texts[METADATA_TEXTS];
    JsonOut o = {0};
    PixelText t = text_of(w, w->image);
    int n = w->d->no_metadata ? 0 : METADATA_TEXTS;
    progress_clear(&w->progress);
    output_numbered(path, sizeof path, w->d->output, w->image, w->d->count, 0);
    if (n && !w->hashes.there && !pixel_hash(&w->hashes, w->p, &w->status)) return false;
    if (n && !pixel_texts(texts, &w->arena, &t, &w->status)) return false;
    if (w->d->save_latents && !keep_latent(w, z)) return false;
    if (!save_picture(w, path, z, texts, n, hex)) return false;
    arena_release(&w->arena, 0);
    w->done++;
    console_note(&w->console, "%s", path);
    console_event(&o, "image");
    json_text(&o, "path", path);
    json_integer(&o, "image", w->image);
    json_integer(&o, "seed", (int64_t)t.seed);
    json_text(&o, "sha256", hex);
    console_send(&w->console, &o);
    return true;
}

static bool one_picture(Work *w)
{
    PixelModel *p = w->p;
    Run *r = &p->run;
    PixelHooks hooks = { w, on_step };
    Random random;
    size_t mark = r->run->used;
    Tensor z = tensor_in(r, r->run, SHAPE(3, w->request.H, w->request.W));
    pixel_noise(p, &random, &w->request, w->seed + (uint64_t)w->image, z);
    if (w->start.x) tensor_copy(r, z, w->start);
    bool good = pixel_sample(p, &w->process, &w->request, &random, z, &hooks) && finish_picture(w, z);
    arena_release(r->run, mark);
    return good;
}

static bool save_latents(Work *w)
{
    SafeOut t = { "latents", sizeof(real) == 8 ? T_F64 : T_F32, 4, { w->done, 3, w->request.H, w->request.W }, w->latents, true };
    return !w->d->save_latents || safetensors_save(w->d->save_latents, &t, 1, NULL, 0, &w->status);
}

static void say_done(Work *w)
{
    JsonOut o = {0};
    double seconds = clock_seconds() - w->begun;
    console_detail(&w->console, "%d pictures in %.2f s, at most %.0f MB", w->done, seconds, (double)process_peak_memory() / 1e6);
    console_event(&o, "done");
    json_integer(&o, "images", w->done);
    json_real(&o, "seconds", seconds, 9);
    json_integer(&o, "peak_rss_bytes", (int64_t)process_peak_memory());
    console_send(&w->console, &o);
}

static int generate(Work *w)
{
    Status *s = &w->p->run.status;
    if (prepare(w) && (w->d->dry_run || common_memory(&w->console, &w->d->common, estimate_pixel(w->p, w->request.W, w->request.H), "", s))) {
        w->console.computing = true;
        say_start(w);
        if (w->d->dry_run) {
            say_dry(w);
            return console_end(&w->console, EXIT_DONE);
        }
        for (w->image = 0; w->image < w->d->count && one_picture(w); w->image++) continue;
        if (w->done == w->d->count && save_latents(w)) say_done(w);
    }
    progress_clear(&w->progress);
    pixel_sound(&w->console, w->p);
    if (w->status.code != OK) s = &w->status;             /* writing stopped the run: its reason is the true one */
    return verb_end(&w->console, s);
}

static bool parse(Work *w, Draw *d, Arena *words, int argc, char **argv, int *code)
{
    Status s = {0};
    int rests;
    *d = (Draw){ .scale = -1 };
    if (!verb_begin(&w->console, &page, d, argc, argv, NULL, &rests, code)) return false;
    if (!d->params && !d->params_from) return true;
    if (!params_expand(words, &argc, &argv, d->params, d->params_from, &s)) {
        *code = console_end(&w->console, console_error(&w->console, &s, NULL));
        return false;
    }
    *d = (Draw){ .scale = -1 };
    return verb_begin(&w->console, &page, d, argc, argv, NULL, &rests, code);
}

int verb_pixel(int argc, char **argv)
{
    Draw d;
    PixelModel *p = calloc(1, sizeof *p);
    Arena words = {0};
    Work w = { .d = &d, .p = p, .begun = clock_seconds() };
    int code = EXIT_MEMORY;
    if (p && parse(&w, &d, &words, argc, argv, &code)) {
        w.seed = d.seed.given ? d.seed.value : system_random() & UINT32_MAX;
        code = generate(&w);
    }
    free(w.latents);
    arena_free(&w.arena);
    arena_free(&words);
    if (p) pixel_model_close(p);
    free(p);
    return code;
}
