/* Pictures to learn from: what chains begin with, and what they are to end in.
 *
 * A cache file is named by the SHA-256 of all that decides it, and holds `noise` and `clean` [1,C,h,w]. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include "ref/train.h"
#include "ref/words.h"
#include "tensor/file.h"
#include "tensor/safetensors.h"

#define KIND "tiller asyrp picture 1"
enum { FILES_MOST = 10000, LINES_MOST = 10000 };

typedef struct { TrainPicture *to; const char *prompt; const Image *image; uint64_t seed; char path[1200]; } Source;

static Shape latent_shape(const TrainRun *w)
{
    int f = w->pixel ? 1 : vae_factor(&w->p.model.vae.config);
    return SHAPE(1, w->learner.unet->config.in_channels, w->H / f, w->W / f);
}

/* ---- cache ---- */

static void name_file(TrainRun *w, Source *s)
{
    const Train *o = w->o;
    const ScheduleConfig *c = &w->config;
    char hex[65], text[300];
    Sha256 h;
    sha256_begin(&h);
    snprintf(text, sizeof text, "%s %zu %d %d %d %d %.17g %.17g %d %.17g %llu", KIND, sizeof(real), w->W, w->H, s->image ? o->invert_steps : o->steps, (int)c->beta,
             c->beta_start, c->beta_end, (int)c->prediction, s->image ? 1 : o->scale, s->image ? 0ULL : (unsigned long long)s->seed);
    sha256_add(&h, text, strlen(text) + 1);
    sha256_add(&h, w->weights_hash, 64);
    if (s->prompt) sha256_add(&h, s->prompt, strlen(s->prompt) + 1);
    if (s->image) sha256_add(&h, s->image->rgb, 3 * (size_t)w->W * (size_t)w->H);
    sha256_end(&h, hex);
    snprintf(s->path, sizeof s->path, "%.1000s/%.32s.safetensors", o->cache, hex);
}

/* A file that cannot be read is as if there were none. */
static bool read_file(TrainRun *w, const Source *s)
{
    Status status = {0};
    Safetensors f;
    size_t mark = w->r->temp->used;
    memset(&f, 0, sizeof f);
    if (!file_exists(s->path) || !safetensors_open(&f, w->r->temp, s->path, &status)) return false;
    const SafeEntry *noise = safetensors_find(&f, "noise"), *clean = safetensors_find(&f, "clean");
    size_t n = tensor_count(s->to->noise);
    bool good = noise && clean && noise->count == n && clean->count == n &&
                safetensors_read(&f, noise, s->to->noise.x, &status) && safetensors_read(&f, clean, s->to->clean.x, &status);
    safetensors_close(&f);
    arena_release(w->r->temp, mark);
    return good;
}

static void write_file(TrainRun *w, const Source *s)
{
    Shape z = s->to->noise.s;
    Status status = {0};
    Dtype type = sizeof(real) == 8 ? T_F64 : T_F32;
    SafeOut t[2] = { { "noise", type, 4, { z.d[0], z.d[1], z.d[2], z.d[3] }, s->to->noise.x, true }, { "clean", type, 4, { z.d[0], z.d[1], z.d[2], z.d[3] }, s->to->clean.x, true } };
    const char *meta[] = { "kind", KIND };
    if (!safetensors_save(s->path, t, 2, meta, 1, &status)) console_warning(&w->console, "%s", status.text);
}

/* ---- up and down ---- */

static void up_pixels(TrainRun *w, Tensor x)
{
    Run *r = w->r;
    Schedule s;
    size_t mark = r->temp->used;
    int n = w->o->invert_steps, *t = arena_take(r->temp, (size_t)n * sizeof *t);
    Tensor eps = temp(r, x.s);
    if (!t) run_fail(r, E_MEMORY, "out of memory: times");
    if (run_ok(r) && asyrp_sequence(t, n, 999, &r->status) && asyrp_schedule(&s, &w->config, ALPHAS_FLOAT64, t, n, r->temp, &r->status))
        for (int k = 0; k + 1 < n && run_ok(r); k++) {
            asyrp_predict(r, w->learner.unet, eps, (Tensor){0}, (Tensor){0}, NULL, x, t[k], (Tensor){0});
            asyrp_invert_step(r, &s, t[k], t[k + 1], x, x, eps);
        }
    arena_release(r->temp, mark);
}

static void invert(TrainRun *w, const Source *s)
{
    Run *r = w->r;
    size_t mark = r->run->used;
    TrainPicture *to = s->to;
    if (w->pixel) {
        image_to_network(tensor_row(to->clean, 0), s->image);
        tensor_copy(r, to->noise, to->clean);
        up_pixels(w, to->noise);
        return;
    }
    Tensor z = pipeline_encode(&w->p, s->image->rgb, w->W, w->H, NULL);
    if (run_ok(r)) tensor_copy(r, to->clean, z);
    if (run_ok(r)) tensor_copy(r, to->noise, z);
    if (run_ok(r)) pipeline_invert(&w->p, to->noise, s->prompt, w->o->invert_steps, ALPHAS_FLOAT32, (SampleHook){0});
    arena_release(r->run, mark);
}

static void generate(TrainRun *w, const Source *s)
{
    Run *r = w->r;
    Random g;
    random_seed(&g, RANDOM_TORCH, s->seed);
    sample_noise(r, s->to->noise, &g, 1);
    if (run_ok(r)) tensor_copy(r, s->to->clean, s->to->noise);
    if (run_ok(r)) sample_down(r, w->learner.unet, &w->chain, s->to->clean, s->to->context, (SampleOptions){ .scale = w->o->scale }, (SampleHook){0});
}

/* ---- one picture ---- */

static void add_context(TrainRun *w, Source *s)
{
    const char *text[2] = { "", s->prompt };
    int first = w->o->scale == 1, dropped[2];
    if (!w->pixel) s->to->context = pipeline_text(&w->p, text + first, 2 - first, dropped);
}

static void add_picture(TrainRun *w, Source *s)
{
    Run *r = w->r;
    TrainPicture *to = s->to;
    to->noise = tensor_in(r, r->run, latent_shape(w));
    to->clean = tensor_in(r, r->run, latent_shape(w));
    to->embed = tensor_in(r, r->run, SHAPE(1, w->tower.width));
    add_context(w, s);
    if (!run_ok(r)) return;
    if (w->o->cache) name_file(w, s);
    if (!w->o->cache || !read_file(w, s)) {
        if (s->image) invert(w, s);
        else generate(w, s);
        if (w->o->cache && run_ok(r)) write_file(w, s);
    }
    AsyrpEyePass pass;
    size_t mark = r->temp->used;
    Arena *kept = r->keep;
    r->keep = r->temp;
    if (run_ok(r)) asyrp_eye_forward(r, &w->learner.eye, to->embed, &pass, to->clean);
    r->keep = kept;
    arena_release(r->temp, mark);
}

static bool begin(TrainRun *w, int n)
{
    size_t bytes = (size_t)n * sizeof *w->picture;
    w->picture = arena_take(w->r->run, bytes);
    if (!w->picture) {
        run_fail(w->r, E_MEMORY, "out of memory: %d pictures", n);
        return false;
    }
    memset(w->picture, 0, bytes);
    w->pictures = n;
    progress_begin(&w->progress, &w->console, "pictures", n);
    return true;
}

static void from_prompts(TrainRun *w)
{
    Run *r = w->r;
    const Train *o = w->o;
    const char **line = arena_take(r->run, LINES_MOST * sizeof *line);
    if (!line) run_fail(r, E_MEMORY, "out of memory: prompts");
    int n = line ? text_lines(line, LINES_MOST, r->run, o->prompts, &r->status) : 0;
    if (run_ok(r) && n < 1) run_fail(r, E_FORMAT, "%s: no prompt in it; one a line is wanted", o->prompts);
    if (run_ok(r) && w->pixel) run_fail(r, E_OPTION, "--prompts: this model reads no text; --images names a folder of pictures");
    if (!run_ok(r) || !begin(w, o->count ? o->count : n)) return;
    for (int k = 0; k < w->pictures && run_ok(r); k++) {
        Source s = { .to = &w->picture[k], .prompt = line[k % n], .seed = o->seed.value + (uint64_t)k };
        snprintf(s.to->name, sizeof s.to->name, "%.150s, seed %llu", s.prompt, (unsigned long long)s.seed);
        add_picture(w, &s);
        progress_step(&w->progress, k + 1);
    }
}

static bool is_picture(const char *name)
{
    static const char *const ending[] = { ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG" };
    size_t n = strlen(name);
    for (int i = 0; i < 6; i++)
        if (n > strlen(ending[i]) && !strcmp(name + n - strlen(ending[i]), ending[i])) return true;
    return false;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The pictures of a folder, by name. */
static int list_folder(TrainRun *w, const char **name)
{
    Run *r = w->r;
    int n = 0;
    DIR *d = opendir(w->o->images);
    if (!d) run_fail(r, E_FILE, "--images: %.300s: no such folder", w->o->images);
    for (struct dirent *e; d && run_ok(r) && (e = readdir(d)); ) {
        if (!is_picture(e->d_name)) continue;
        if (n == FILES_MOST) run_fail(r, E_OPTION, "--images: more than %d pictures", FILES_MOST);
        else if (!(name[n++] = text_copy(r->run, e->d_name, strlen(e->d_name)))) run_fail(r, E_MEMORY, "out of memory: names");
    }
    if (d) closedir(d);
    if (run_ok(r) && !n) run_fail(r, E_FILE, "--images: %.300s: no PNG or JPEG in this folder", w->o->images);
    if (run_ok(r)) qsort(name, (size_t)n, sizeof *name, by_name);
    return n;
}

static void from_images(TrainRun *w)
{
    Run *r = w->r;
    const Train *o = w->o;
    const char **name = arena_take(r->run, FILES_MOST * sizeof *name);
    if (!name) run_fail(r, E_MEMORY, "out of memory: names");
    int n = name ? list_folder(w, name) : 0;
    if (!run_ok(r) || !begin(w, o->count && o->count < n ? o->count : n)) return;
    for (int k = 0; k < w->pictures && run_ok(r); k++) {
        Arena scratch = {0};
        Image in = {0}, fitted = {0};
        char path[1400], said[200];
        Source s = { .to = &w->picture[k], .prompt = o->prompt, .image = &fitted };
        snprintf(s.to->name, sizeof s.to->name, "%.190s", name[k]);
        snprintf(path, sizeof path, "%.1000s/%.300s", o->images, name[k]);
        if (image_load(&in, &scratch, path, &r->status) && image_fit(r, &fitted, &scratch, &in, w->H, w->W, FIT_CROP, said, sizeof said)) add_picture(w, &s);
        arena_free(&scratch);
        progress_step(&w->progress, k + 1);
    }
}

bool train_pictures(TrainRun *w)
{
    if (w->o->cache && !folder_make(w->o->cache, &w->r->status)) return false;
    if (w->o->prompts) from_prompts(w);
    else from_images(w);
    progress_clear(&w->progress);
    return run_ok(w->r);
}
