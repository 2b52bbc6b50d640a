/* `tiller edit --method asyrp` with a pixel-space model: a photo inverted, or noise from a seed, and the asymmetric way down. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/edit.h"
#include "ref/maps_picture.h"
#include "ref/pixel_verbs.h"
#include "tensor/file.h"

enum { STEPS = 40 };

#define AT(member) offsetof(AsyrpEdit, e.member)
typedef struct { Edit e; int invert_steps; } AsyrpEdit;
static const Option row[] = {
    { "method",       0,   OPTION_LIST,   AT(method),         0, 0,     NULL, "NAME",   "asyrp", NULL },
    { "delta",        0,   OPTION_LIST,   AT(deltas.delta),   0, 0,     NULL, "FILE",   "a learned block (or a folder with one); several, with commas, go together", NULL },
    { "weights",      0,   OPTION_TEXT,   AT(deltas.weights), 0, 0,     NULL, "X,X",    "a weight of each block [default: 1]", NULL },
    { "gradual",      0,   OPTION_TEXT,   AT(deltas.gradual), 0, 0,     NULL, "FROM,TO", "--num-images pictures of one start, strengths between; --strip shows all", NULL },
    { "dataset",      0,   OPTION_TEXT,   AT(deltas.dataset), 0, 0,     NULL, "NAME",   "t-edit and t-boost of a published table: celeba-hq, church, ...", NULL },
    { "similarity",   0,   OPTION_REAL,   AT(deltas.similarity), -1, 1, NULL, "X",      "of the two texts, for --dataset [default: as the block's file says]", NULL },
    { "image",        'i', OPTION_TEXT,   AT(image),          0, 0,     NULL, "FILE",   "a photo, PNG or JPEG [default: noise from the seed]", "init-image" },
    { "steps",        0,   OPTION_INT,    AT(steps),          2, 1000,  NULL, "N",      "of the way down [default: 40]", NULL },
    { "invert-steps", 0,   OPTION_INT,    offsetof(AsyrpEdit, invert_steps), 2, 1000, "40", "N", "of the way up from a photo", NULL },
    { "seed",         's', OPTION_SEED,   AT(seed),           0, 0,     NULL, "N",      "-2^63 to 2^64-1; picture k draws from N + k [default: a random one, printed]", NULL },
    { "width",        'W', OPTION_INT,    AT(W),              1, 8192,  NULL, "N",      "pixels [default: the model's]", NULL },
    { "height",       'H', OPTION_INT,    AT(H),              1, 8192,  NULL, "N",      "pixels [default: the model's]", NULL },
    { "fit",          0,   OPTION_CHOICE, AT(fit),            0, 0, "crop", "crop|pad|stretch", "what happens to a photo of another size", NULL },
    { "num-images",   0,   OPTION_INT,    AT(count),          1, 10000, "1", "N",       "how many pictures", NULL },
    { "output",       'o', OPTION_TEXT,   AT(output),         0, 0, "edit.png", "FILE", "PNG; several pictures: x-0.png, x-1.png", NULL },
    { "strip",        0,   OPTION_TEXT,   AT(strip),          0, 0,     NULL, "FILE",   "the photo (or the same start unedited) and the results side by side", NULL },
    { "json",         0,   OPTION_FLAG,   AT(common.json),    0, 0,     NULL, NULL,     "events as JSON Lines on standard output", NULL },
};
static const OptionPage page = {
    "edit", "A picture with attributes a small network has learned (Asyrp).", "tiller edit --method asyrp --model celeba --delta smile.pth -i me.png",
    NULL, 0, 0, "tiller train asyrp learns such blocks.", { TABLE("Editing", row), { 0 }, MACHINE_TABLE, COMMON_TABLE }
};

typedef struct {
    AsyrpEdit *a;
    Console console;
    PixelModel *p;
    MethodRows *rows;
    Deltas deltas;
    Schedule schedule;
    ScheduleConfig config;
    double number[GUIDED_NUMBERS];
    Progress progress;
    char folder[1024], what[40];
    Arena arena;
    Image photo, part[GRADUAL_MOST + 1];
    Tensor start;                                         /* a photo's noise [1,3,H,W]; empty: drawn */
    Random random;
    int W, H, image, parts;
    uint64_t seed;
} Work;

static bool on_step(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Work *w = user;
    JsonOut o = {0};
    (void)z, (void)x0;
    if (!report->clock.i) progress_begin(&w->progress, &w->console, w->what, report->clock.n);
    progress_step(&w->progress, report->clock.i + 1);
    if (report->clock.i + 1 == report->clock.n) progress_clear(&w->progress);
    pixel_step_event(&o, w->image, report, 0);
    console_send(&w->console, &o);
    return true;
}

static void draw(void *user, NoiseFor what, const Clock *c, Tensor out)
{
    Work *w = user;
    (void)what, (void)c;
    sample_noise(&w->p->run, (Tensor){ out.x, SHAPE(1, out.s.d[0], out.s.d[1], out.s.d[2]) }, &w->random, 1);
}

/* ---- before the first step ---- */

static void take_numbers(Work *w)
{
    Status *s = &w->p->run.status;
    const double *given = w->a->e.number[0];
    int t_edit, t_boost, edit = methods_option(&method_asyrp, "t-edit"), boost = methods_option(&method_asyrp, "t-boost");
    for (int i = 0; i < method_asyrp.options; i++) w->number[i] = isnan(given[i]) ? method_asyrp.option[i].value : given[i];
    if (!deltas_interval(&t_edit, &t_boost, &w->deltas, &w->a->e.deltas, s)) return;
    if (isnan(given[edit])) w->number[edit] = t_edit;
    if (isnan(given[boost])) w->number[boost] = t_boost;
}

static bool check_options(Work *w)
{
    Status *s = &w->p->run.status;
    const Edit *e = &w->a->e;
    if (w->rows->methods != 1 || w->rows->info[0] != &method_asyrp)
        status_fail(s, E_OPTION, "edit: of the methods asyrp and diffuseit work on pixel-space models, each alone; --method names it");
    if (e->deltas.gradual && (e->count < 2 || e->count > GRADUAL_MOST)) status_fail(s, E_OPTION, "--gradual: --num-images from 2 to %d is wanted", GRADUAL_MOST);
    if (!e->deltas.delta.n) status_fail(s, E_OPTION, "asyrp adds what a delta block says; --delta names its file, tiller train asyrp makes one");
    if (s->code == OK) output_check(e->output, s);
    return s->code == OK;
}

static bool make_schedule(Work *w)
{
    Run *r = &w->p->run;
    int n = w->a->e.steps ? w->a->e.steps : STEPS, *t = arena_take(r->run, (size_t)n * sizeof *t);
    if (!t) run_fail(r, E_MEMORY, "out of memory: times");
    w->config = gaussian_config(w->p->sampling.betas, w->p->sampling.T);
    return run_ok(r) && asyrp_sequence(t, n, w->p->sampling.T - 1, &r->status) && asyrp_schedule(&w->schedule, &w->config, ALPHAS_FLOAT64, t, n, r->run, &r->status);
}

static bool load_photo(Work *w)
{
    const Edit *e = &w->a->e;
    Status *s = &w->p->run.status;
    Image in = {0};
    char said[200];
    int own = w->p->unet.config.sample_size;
    w->W = e->W ? e->W : own;
    w->H = e->H ? e->H : own;
    if (!size_check(w->W, w->H, w->p->unet.multiple, s)) return false;
    if (!e->image) return true;
    if (!image_load(&in, &w->arena, e->image, s)) return false;
    if (in.rotated) console_warning(&w->console, "%s: its EXIF orientation is ignored", e->image);
    if (!image_fit(&w->p->run, &w->photo, &w->arena, &in, w->H, w->W, (Fit)e->fit, said, sizeof said)) return false;
    if (*said) console_note(&w->console, "%s: %s", e->image, said);
    return true;
}

static bool prepare(Work *w)
{
    PixelModel *p = w->p;
    Status *s = &p->run.status;
    const Edit *e = &w->a->e;
    if (!check_options(w) || !deltas_read(&w->deltas, &e->deltas, &w->arena, s)) return false;
    take_numbers(w);
    if (s->code != OK || !common_model(&e->common, w->folder, sizeof w->folder, s) || !pixel_model_open(p, &e->common, w->folder, NULL)) return false;
    pixel_surplus(&w->console, p);
    if (p->unet.classes) status_fail(s, E_OPTION, "asyrp: %s draws classes; an unconditional model is wanted", w->folder);
    if (!load_photo(w) || !make_schedule(w) || !deltas_load(&w->deltas, &p->unet, w->H, w->W, &w->arena, s) || !pixel_model_read(p, w->W, w->H)) return false;
    pixel_sound(&w->console, p);
    w->seed = e->seed.given ? e->seed.value : system_random() & UINT32_MAX;
    console_note(&w->console, "seed: %llu", (unsigned long long)w->seed);
    return s->code == OK;
}

/* ---- up and down ---- */

static void invert(Work *w)
{
    Run *r = &w->p->run;
    Schedule s;
    int n = w->a->invert_steps, *t = arena_take(r->run, (size_t)n * sizeof *t);
    Tensor x = w->start = tensor_in(r, r->run, SHAPE(1, 3, w->H, w->W)), eps = tensor_in(r, r->run, x.s);
    if (!t) run_fail(r, E_MEMORY, "out of memory: times");
    if (!run_ok(r) || !asyrp_sequence(t, n, w->p->sampling.T - 1, &r->status) || !asyrp_schedule(&s, &w->config, ALPHAS_FLOAT64, t, n, r->run, &r->status)) return;
    image_to_network(tensor_row(x, 0), &w->photo);
    progress_begin(&w->progress, &w->console, "inversion", n - 1);
    for (int k = 0; k + 1 < n && run_ok(r); k++) {
        asyrp_predict(r, &w->p->unet, eps, (Tensor){0}, (Tensor){0}, NULL, x, t[k], (Tensor){0});
        asyrp_invert_step(r, &s, t[k], t[k + 1], x, x, eps);
        progress_step(&w->progress, k + 1);
    }
    progress_clear(&w->progress);
}

static Image *sample(Work *w, double strength)
{
    Run *r = &w->p->run;
    size_t mark = r->run->used;
    uint64_t seed = w->seed + (isnan(w->deltas.from) ? (uint64_t)w->image : 0);
    Image *to = w->parts <= GRADUAL_MOST ? &w->part[w->parts++] : &w->part[GRADUAL_MOST];
    Tensor z = tensor_in(r, r->run, SHAPE(3, w->H, w->W));
    Method m;
    w->number[methods_option(&method_asyrp, "strength")] = strength;
    MethodInput in = { .number = w->number, .scale = 1, .schedule = &w->schedule, .unet = &w->p->unet, .delta = w->deltas.given, .weight = w->deltas.weight,
                       .deltas = w->deltas.n, .train_steps = w->deltas.train_steps };
    Guide guide = { .unet = &w->p->unet, .schedule = &w->schedule, .noise = draw, .watch = on_step, .user = w };
    random_seed(&w->random, RANDOM_TORCH, seed);
    if (run_ok(r) && w->start.x) tensor_copy(r, z, w->start);
    else if (run_ok(r)) draw(w, NOISE_SAMPLER, NULL, z);
    if (run_ok(r) && method_asyrp.build(r, &m, &in)) guide_sample(r, &guide, &(Guidance){ &m, 1 }, z);
    uint8_t *rgb = run_ok(r) ? pixel_levels(w->p, &w->arena, z) : NULL;
    *to = (Image){ rgb, w->H, w->W, false };
    arena_release(r->run, mark);
    return rgb ? to : NULL;
}

static bool save(Work *w, const char *path, const Image *m)
{
    Status *s = &w->p->run.status;
    JsonOut o = {0};
    if (!m || !m->rgb || !image_save(path, &w->arena, m, NULL, 0, NULL, s)) return false;
    console_note(&w->console, "%s", path);
    console_event(&o, "image");
    json_text(&o, "path", path);
    json_integer(&o, "image", w->image);
    json_integer(&o, "seed", (int64_t)w->seed);
    console_send(&w->console, &o);
    return true;
}

static void edit(Work *w)
{
    const Edit *e = &w->a->e;
    Status *s = &w->p->run.status;
    double own = w->number[methods_option(&method_asyrp, "strength")];
    bool gradual = !isnan(w->deltas.from);
    if (e->image) invert(w);
    snprintf(w->what, sizeof w->what, "unedited");
    if (s->code == OK && e->strip && !gradual && e->image) w->part[w->parts++] = w->photo;
    else if (s->code == OK && e->strip && !gradual) sample(w, 0);
    for (w->image = 0; w->image < e->count && s->code == OK; w->image++) {
        char path[1200];
        double strength = gradual ? w->deltas.from + (w->deltas.to - w->deltas.from) * w->image / (e->count - 1) : own;
        snprintf(w->what, sizeof w->what, "picture %d of %d", w->image + 1, e->count);
        output_numbered(path, sizeof path, e->output, w->image, e->count, 0);
        save(w, path, sample(w, strength));
    }
    if (s->code != OK || !e->strip) return;
    Image all = pictures_joined(&w->arena, w->part, w->parts, false, s);
    if (all.rgb) save(w, e->strip, &all);
}

int verb_asyrp(int argc, char **argv)
{
    struct { AsyrpEdit a; MethodRows rows; PixelModel p; Work work; } *all = calloc(1, sizeof *all);
    OptionPage full = page;
    int rests, code = EXIT_MEMORY;
    if (!all) return code;
    Work *w = &all->work;
    Status s = {0};
    w->a = &all->a;
    w->p = &all->p;
    w->rows = &all->rows;
    edit_defaults(&all->a.e);
    edit_methods(&all->rows, argc, argv, &s);
    full.table[1] = (OptionTable){ "Numbers of the method", all->rows.row, all->rows.rows };
    if (s.code != OK) {
        w->console = console_begin(false, false, false, COLOR_AUTO);
        code = console_end(&w->console, console_error(&w->console, &s, NULL));
    } else if (verb_begin(&w->console, &full, &all->a, argc, argv, NULL, &rests, &code)) {
        w->console.computing = prepare(w);
        if (w->console.computing) edit(w);
        progress_clear(&w->progress);
        code = verb_end(&w->console, &all->p.run.status);
    }
    arena_free(&w->arena);
    pixel_model_close(&all->p);
    free(all);
    return code;
}
