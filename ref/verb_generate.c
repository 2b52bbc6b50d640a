#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "ref/edit.h"
#include "ref/estimate.h"
#include "ref/image.h"
#include "ref/metadata.h"
#include "ref/params.h"
#include "ref/pixel_verbs.h"
#include "ref/progress.h"
#include "ref/verbs.h"
#include "tensor/file.h"

typedef struct {
    Common common;
    const char *prompt, *negative, *latents, *save_latents, *output, *params, *params_from;
    int  steps, W, H, count, rng, batch_rng, preview_every;
    double scale, eta, rescale;
    Seed seed;
    bool low_memory, dry_run, no_metadata;
    double mixing[CFG_NUMBERS];                           /* never filled: whoever gives one asks for a guided run (edit_asked) */
    TextList compose, method;
} Generate;

#define AT(member) offsetof(Generate, member)
static const Option row[] = {
    { "prompt",         'p', OPTION_TEXT,   AT(prompt),        0, 0,       NULL,  "TEXT",  "what the picture shows", NULL },
    { "negative",       'n', OPTION_TEXT,   AT(negative),      0, 0,       "",    "TEXT",  "what it should not show", "negative-prompt" },
    { "compose",        0,   OPTION_LIST,   AT(compose),       0, 0,       NULL,  "TEXT=W", "a further prompt with a weight of its own; < 0 leads away from it", NULL },
    { "method",         0,   OPTION_LIST,   AT(method),        0, 0,       NULL,  "NAME",  "under guidance: tiller methods lists them, tiller edit --help all that goes with it", NULL },
    { "steps",          0,   OPTION_INT,    AT(steps),         1, 10000,   "50",  "N",     "DDIM steps", NULL },
    { "guidance-scale", 0,   OPTION_REAL,   AT(scale),         -1000, 1000, "7.5", "X",    "weight of the prompt; 1: no classifier-free guidance", "cfg-scale" },
    { "rescale",        0,   OPTION_REAL,   AT(rescale),       0, 1,       "0",   "X",     "share of guidance rescale (phi)", "guidance-rescale" },
    { "eta",            0,   OPTION_REAL,   AT(eta),           0, 1,       "0",   "X",     "fresh noise per step: 0 DDIM, 1 as in DDPM", NULL },
    { "seed",           's', OPTION_SEED,   AT(seed),          0, 0,       NULL,  "N",
      "-2^63 to 2^64-1; picture k draws from N + k [default: a random one, printed]", NULL },
    { "rng",            0,   OPTION_CHOICE, AT(rng),           0, 0,       "torch", "torch|philox", "whose random numbers", NULL },
    { "batch-rng",      0,   OPTION_CHOICE, AT(batch_rng),     0, 0,       "own", "own|shared", "generators: one for each picture, or one for all", NULL },
    { "width",          'W', OPTION_INT,    AT(W),             1, 8192,    NULL,  "N",     "pixels [default: the model's]", NULL },
    { "height",         'H', OPTION_INT,    AT(H),             1, 8192,    NULL,  "N",     "pixels [default: the model's]", NULL },
    { "num-images",     0,   OPTION_INT,    AT(count),         1, 10000,   "1",   "N",     "how many pictures", NULL },
    { "latents",        0,   OPTION_TEXT,   AT(latents),       0, 0,       NULL,  "FILE",  "starting noise: safetensors, key latents, [C,h,w] or [N,C,h,w]", NULL },
    { "save-latents",   0,   OPTION_TEXT,   AT(save_latents),  0, 0,       NULL,  "FILE",  "write the final latents (safetensors, key latents)", NULL },
    { "output",         'o', OPTION_TEXT,   AT(output),        0, 0,       "picture.png", "FILE", "PNG; several pictures: x-0.png, x-1.png", NULL },
    { "preview-every",  0,   OPTION_INT,    AT(preview_every), 0, 10000,   "0",   "N",     "every N steps write the estimate so far as x-step0010.png; 0: never", NULL },
    { "params",         0,   OPTION_TEXT,   AT(params),        0, 0,       NULL,  "FILE",  "options from a JSON object; those of the command line win", NULL },
    { "params-from",    0,   OPTION_TEXT,   AT(params_from),   0, 0,       NULL,  "IMAGE", "options from a picture made before; those of the command line win", NULL },
    { "low-memory",     0,   OPTION_FLAG,   AT(low_memory),    0, 0,       NULL,  NULL,    "the two passes of a step one after the other; the same picture", NULL },
    { "no-metadata",    0,   OPTION_FLAG,   AT(no_metadata),   0, 0,       NULL,  NULL,    "do not write into the picture how it was made", NULL },
    { "dry-run",        0,   OPTION_FLAG,   AT(dry_run),       0, 0,       NULL,  NULL,    "show all values and the memory wanted, and stop", NULL },
    { "json",           0,   OPTION_FLAG,   AT(common.json),   0, 0,       NULL,  NULL,    "events as JSON Lines on standard output", NULL },
};
static const OptionPage page = {
    "generate", "Pictures from words.", "tiller generate --prompt \"a photo of a red car on grass\" --seed 7 -o car.png", NULL, 0, 0,
    "The same command gives the same bytes, for any number of threads and with or without previews. Pixel-space models (ADM, DDPM) have options of their "
    "own, --class and --classifier among them: tiller generate --model FOLDER --help.",
    { TABLE("Picture", row), { 0 }, MACHINE_TABLE, COMMON_TABLE }
};

typedef struct {
    const Generate *g;
    Console console;
    Pipeline *p;
    PipelineRequest request;
    Progress progress;
    char folder[1024], what[40];
    Arena arena;                                          /* one picture's file */
    WeightHashes hashes;
    char latents_sha256[65];
    real *latents;                                        /* for --save-latents */
    Shape latent;
    int done;
    double begun, steps_took;
    Status status;                                        /* of writing */
} Work;

static Metadata metadata_of(const Work *w, int image, uint64_t seed)
{
    return (Metadata){ .request = &w->request, .folder = w->folder, .math = common_math(&w->g->common), .kernels = w->p->run.k->name,
                       .schedule = &w->p->schedule, .weights = &w->hashes, .latents_sha256 = w->g->latents ? w->latents_sha256 : NULL,
                       .image = image, .seed = seed };
}

static bool on_step(void *user, int image, const SampleStep *at)
{
    Work *w = user;
    JsonOut o = {0};
    if (at->step == 1) {
        snprintf(w->what, sizeof w->what, "picture %d of %d", image + 1, w->request.count);
        progress_begin(&w->progress, &w->console, w->what, at->of);
        w->progress.begun -= at->seconds;
    }
    progress_step(&w->progress, at->step);
    if (at->step == at->of) progress_clear(&w->progress);
    w->steps_took += at->seconds;
    console_event(&o, "step");
    json_integer(&o, "image", image);
    json_integer(&o, "step", at->step);
    json_integer(&o, "of", at->of);
    json_integer(&o, "t", at->t);
    json_real(&o, "seconds", at->seconds, 9);
    json_integer(&o, "rss_bytes", (int64_t)process_peak_memory());
    console_send(&w->console, &o);
    return true;
}

static void on_note(void *user, const char *text)
{
    Work *w = user;
    progress_clear(&w->progress);
    console_warning(&w->console, "%s", text);
}

static bool on_preview(void *user, int image, int step, const uint8_t *rgb, int W, int H)
{
    Work *w = user;
    char path[1200];
    Image m = { (uint8_t *)(uintptr_t)rgb, H, W, false };
    output_numbered(path, sizeof path, w->g->output, image, w->request.count, step);
    bool good = image_save(path, &w->arena, &m, NULL, 0, NULL, &w->status);
    arena_release(&w->arena, 0);
    return good;
}

static bool keep_latent(Work *w, Tensor latent)
{
    size_t n = tensor_count(latent);
    if (!w->latents) w->latents = malloc(n * (size_t)w->request.count * sizeof(real));
    if (!w->latents) status_fail(&w->status, E_MEMORY, "out of memory for the latents of %d pictures", w->request.count);
    else memcpy(w->latents + n * (size_t)w->done, latent.x, n * sizeof(real));
    w->latent = latent.s;
    return w->latents;
}

static bool on_image(void *user, int image, uint64_t seed, const uint8_t *rgb, int W, int H, Tensor latent)
{
    Work *w = user;
    char path[1200], hex[65];
    PngText texts[METADATA_TEXTS];
    JsonOut o = {0};
    Metadata about = metadata_of(w, image, seed);
    Image m = { (uint8_t *)(uintptr_t)rgb, H, W, false };
    int n = w->g->no_metadata ? 0 : METADATA_TEXTS;
    progress_clear(&w->progress);
    output_numbered(path, sizeof path, w->g->output, image, w->request.count, 0);
    if (n && !w->hashes.files && !weights_hash(&w->hashes, w->folder, &w->status)) return false;
    if (n && !metadata_texts(texts, &w->arena, &about, &w->status)) return false;
    if (w->g->save_latents && !keep_latent(w, latent)) return false;
    if (!image_save(path, &w->arena, &m, texts, n, hex, &w->status)) return false;
    arena_release(&w->arena, 0);
    w->done++;
    console_note(&w->console, "%s", path);
    console_event(&o, "image");
    json_text(&o, "path", path);
    json_integer(&o, "image", image);
    json_integer(&o, "seed", (int64_t)seed);
    json_text(&o, "sha256", hex);
    console_send(&w->console, &o);
    return true;
}

/* Everything that can be refused before a model is read. */
static bool check_options(const Generate *g, Status *s)
{
    const char *dot = strrchr(g->output, '.'), *const not_png[] = { ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff" };
    if (!g->prompt) status_fail(s, E_OPTION, "generate: --prompt is missing");
    else if (!utf8_valid(g->prompt)) status_fail(s, E_OPTION, "--prompt is not valid UTF-8");
    else if (!utf8_valid(g->negative)) status_fail(s, E_OPTION, "--negative is not valid UTF-8");
    for (int i = 0; dot && i < 7; i++)
        if (!strcasecmp(dot, not_png[i])) status_fail(s, E_OPTION, "--output: pictures are written as PNG, found \"%.200s\"", g->output);
    if (g->save_latents && !strcmp(g->save_latents, g->output)) status_fail(s, E_OPTION, "--save-latents and --output name the same file");
    return s->code == OK;
}

static PipelineRequest request_of(const Generate *g)
{
    PipelineRequest q = pipeline_request();
    q.prompt = g->prompt;
    q.negative = g->negative;
    q.steps = g->steps;
    q.scale = g->scale;
    q.eta = g->eta;
    q.rescale = g->rescale;
    q.W = g->W;
    q.H = g->H;
    q.count = g->count;
    q.seed = g->seed.given ? g->seed.value : system_random() & UINT32_MAX;
    q.rng = g->rng ? RANDOM_PHILOX : RANDOM_TORCH;
    q.shared = g->batch_rng != 0;
    q.apart = g->low_memory;
    q.latents = g->latents;
    q.preview_every = g->preview_every;
    return q;
}

/* As pipeline_generate will choose: from the latents, the options, the model. */
static bool choose_size(Work *w, Status *s)
{
    PipelineRequest *q = &w->request;
    const Model *m = &w->p->model;
    int factor = vae_factor(&m->vae.config), own = (m->unet.config.sample_size ? m->unet.config.sample_size : 64) * factor, W = own, H = own;
    if (q->latents) {
        size_t mark = w->p->run.run->used;
        Tensor x = pipeline_latents(w->p, q->latents);
        arena_release(w->p->run.run, mark);
        if (!x.x) return false;
        W = x.s.d[3] * factor;
        H = x.s.d[2] * factor;
        if (q->count == 1) q->count = x.s.d[0];
    }
    if (!q->W) q->W = W;
    if (!q->H) q->H = H;
    return size_check(q->W, q->H, factor, s);
}

/* Model, size, seed and places for the outputs: what the user should hear about before minutes pass. */
static bool prepare(Work *w)
{
    Status *s = &w->p->run.status;
    const Generate *g = w->g;
    char path[1200];
    double began = clock_seconds();
    if (!common_model(&g->common, w->folder, sizeof w->folder, s) || !common_pipeline(w->p, &g->common, w->folder)) return false;
    if (!pipeline_load(w->p, MODEL_UNET | MODEL_VAE | MODEL_TEXT | MODEL_TOKENIZER)) return false;
    common_surplus(&w->console, &w->p->model);
    console_detail(&w->console, "model: %s, looked through in %.2f s", w->folder, clock_seconds() - began);
    if (!choose_size(w, s)) return false;
    if (g->latents && !file_hash(w->latents_sha256, g->latents, s)) return false;
    output_numbered(path, sizeof path, w->g->output, 0, w->request.count, 0);
    return output_check(path, s) && (!g->save_latents || output_check(g->save_latents, s));
}

static void say_start(Work *w, const char *event)
{
    JsonOut o = {0};
    Metadata m = metadata_of(w, 0, w->request.seed);
    console_event(&o, event);
    metadata_members(&o, &m);
    json_integer(&o, "seed", (int64_t)w->request.seed);
    json_integer(&o, "threads", w->p->run.threads);
    json_integer(&o, "estimated_bytes", (int64_t)estimate_generate(w->p, &w->request));
    console_send(&w->console, &o);
    console_note(&w->console, "seed: %llu", (unsigned long long)w->request.seed);
}

static void say_dry(Work *w)
{
    const PipelineRequest *q = &w->request;
    if (w->console.json) return;
    printf("prompt          %s\nnegative        %s\nmodel           %s\nsize            %d x %d\nnum-images      %d\nsteps           %d\n"
           "guidance-scale  %g\nrescale         %g\neta             %g\nseed            %llu\nrng             %s\nbatch-rng       %s\n"
           "kernels         %s\nmath            %s\nthreads         %d\noutput          %s\nmemory          %.0f MB (estimate)\n",
           q->prompt, q->negative, w->folder, q->W, q->H, q->count, q->steps, q->scale, q->rescale, q->eta, (unsigned long long)q->seed,
           q->rng == RANDOM_PHILOX ? "philox" : "torch", q->shared ? "shared" : "own", w->p->run.k->name, common_math(&w->g->common),
           w->p->run.threads, w->g->output, (double)estimate_generate(w->p, q) / 1e6);
}

static bool save_latents(Work *w)
{
    Shape l = w->latent;
    SafeOut t = { "latents", sizeof(real) == 8 ? T_F64 : T_F32, 4, { w->done, l.d[1], l.d[2], l.d[3] }, w->latents, true };
    return !w->g->save_latents || safetensors_save(w->g->save_latents, &t, 1, NULL, 0, &w->status);
}

static void say_done(Work *w)
{
    JsonOut o = {0};
    double seconds = clock_seconds() - w->begun;
    console_detail(&w->console, "%d pictures in %.2f s (steps %.2f s), at most %.0f MB", w->done, seconds, w->steps_took,
                   (double)process_peak_memory() / 1e6);
    console_event(&o, "done");
    json_integer(&o, "images", w->done);
    json_real(&o, "seconds", seconds, 9);
    json_integer(&o, "peak_rss_bytes", (int64_t)process_peak_memory());
    console_send(&w->console, &o);
}

static int generate(Work *w)
{
    PipelineHooks hooks = { w, on_step, on_preview, on_image, on_note };
    Status *s = &w->p->run.status;
    if (check_options(w->g, s) && prepare(w) && (w->g->dry_run || common_memory(&w->console, &w->g->common, estimate_generate(w->p, &w->request), "", s))) {
        w->console.computing = true;
        say_start(w, "start");
        if (w->g->dry_run) {
            say_dry(w);
            return console_end(&w->console, EXIT_DONE);
        }
        if (pipeline_generate(w->p, &w->request, &hooks) && save_latents(w)) say_done(w);
    }
    progress_clear(&w->progress);
    common_sound(&w->console, &w->p->model);
    if (w->status.code != OK) s = &w->status;             /* the hook stopped the run: its reason is the true one */
    return verb_end(&w->console, s);
}

static bool parse(Work *w, Generate *g, int argc, char **argv, int *code)
{
    OptionPage full = page;
    MixingRows mixing;
    int rests;
    mixing_rows(&mixing, offsetof(Generate, mixing));
    full.table[1] = (OptionTable){ "Mixing of predictions (tiller help classifier-free)", mixing.row, CFG_RESCALE };
    return verb_begin(&w->console, &full, g, argc, argv, NULL, &rests, code);
}

int verb_generate(int argc, char **argv)
{
    Generate g = {0};
    Pipeline p = {0};
    Arena words = {0};
    Status s = {0};
    Work w = { .g = &g, .p = &p, .begun = clock_seconds() };
    int code;
    if (!params_asked(&words, &argc, &argv, &s)) {
        code = verb_refused(argc, argv, &s);
    } else if (pixel_asked(argc, argv)) {
        code = verb_pixel(argc, argv);
    } else if (edit_asked(argc, argv)) {
        code = verb_edit(argc, argv);
    } else if (parse(&w, &g, argc, argv, &code)) {
        w.request = request_of(&g);
        code = generate(&w);
    }
    free(w.latents);
    arena_free(&w.arena);
    arena_free(&words);
    pipeline_close(&p);
    return code;
}
