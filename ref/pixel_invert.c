/* `tiller invert` with a pixel-space model: reverse DDIM, and the way back measured. */
#include <stdlib.h>
#include <string.h>
#include "ref/guided.h"
#include "ref/image.h"
#include "ref/pixel_verbs.h"
#include "ref/progress.h"
#include "tensor/safetensors.h"

typedef struct {
    Common common;
    const char *class_name, *respacing, *labels, *output, *strip, *prompt, *negative;
    int steps, W, H, fit;
} Invert;

#define AT(member) offsetof(Invert, member)
static const Option row[] = {
    { "class",     'c', OPTION_TEXT,   AT(class_name), 0, 0,     NULL, "N",    "what the picture shows: a number, or a name where names are there", NULL },
    { "respacing", 0,   OPTION_TEXT,   AT(respacing),  0, 0,     NULL, "LIST", "the times that are kept, as in generate [default: ddim25]", "timestep-respacing" },
    { "steps",     0,   OPTION_INT,    AT(steps),      2, 10000, NULL, "N",    "the same as --respacing ddimN", NULL },
    { "width",     'W', OPTION_INT,    AT(W),          1, 8192,  NULL, "N",    "pixels [default: the model's]", NULL },
    { "height",    'H', OPTION_INT,    AT(H),          1, 8192,  NULL, "N",    "pixels [default: the model's]", NULL },
    { "fit",       0,   OPTION_CHOICE, AT(fit),        0, 0, "crop", "crop|pad|stretch", "what happens to a photo of another size", NULL },
    { "labels",    0,   OPTION_TEXT,   AT(labels),     0, 0,     NULL, "FILE", "names of classes, one a line [default: labels.txt of the model, if it is there]", NULL },
    { "output",    'o', OPTION_TEXT,   AT(output),     0, 0, "noise.safetensors", "FILE",
      "latents [1,3,H,W]: the noise; stored [n+1,3,H,W]: the picture at each step, the last the clean one", NULL },
    { "strip",     0,   OPTION_TEXT,   AT(strip),      0, 0,     NULL, "FILE", "the picture and its reconstruction side by side", NULL },
    { "prompt",    'p', OPTION_TEXT,   AT(prompt),     0, 0,     NULL, "TEXT", "refused: a pixel-space model reads no text", NULL },
    { "negative",  'n', OPTION_TEXT,   AT(negative),   0, 0,     NULL, "TEXT", "likewise", "negative-prompt" },
    { "json",      0,   OPTION_FLAG,   AT(common.json), 0, 0,    NULL, NULL,   "events as JSON Lines on standard output", NULL },
};
static const OptionPage page = {
    "invert", "A picture to the noise it came from.", "tiller invert photo.png --model ffhq-256 --steps 50 -o z.safetensors", "IMAGE", 1, 1,
    "The way back from the noise is drawn, too, and measured in dB (PSNR). tiller generate --model FOLDER --latents FILE --sampler ddim, with the same "
    "respacing, starts from the noise.",
    { TABLE("Inversion", row), MACHINE_TABLE, COMMON_TABLE }
};

typedef struct {
    const Invert *v;
    Console console;
    PixelModel *p;
    Gaussian process;
    PixelRequest request;
    Progress progress;
    const char *what;
    char folder[1024], respacing[80];
    Arena arena;
    Image picture, back;
    Tensor *stored;
    double psnr;
} Work;

static bool on_step(void *user, const GuideReport *report, double seconds, Tensor z, Tensor x0)
{
    Work *w = user;
    JsonOut o = {0};
    int step = report->clock.i + 1, of = report->clock.n;
    (void)z; (void)x0;
    if (step == 1) progress_begin(&w->progress, &w->console, w->what, of);
    progress_step(&w->progress, step);
    if (step == of) progress_clear(&w->progress);
    pixel_step_event(&o, 0, report, seconds);
    console_send(&w->console, &o);
    return true;
}

static bool load_picture(Work *w, const char *path)
{
    const Invert *v = w->v;
    Status *s = &w->p->run.status;
    Image in = {0};
    char said[200];
    int own = w->p->unet.config.sample_size;
    w->request.W = v->W ? v->W : own;
    w->request.H = v->H ? v->H : own;
    if (!size_check(w->request.W, w->request.H, w->p->unet.multiple, s) || !image_load(&in, &w->arena, path, s)) return false;
    if (in.rotated) console_warning(&w->console, "%s: its EXIF orientation is ignored", path);
    if (!image_fit(&w->p->run, &w->picture, &w->arena, &in, w->request.H, w->request.W, (Fit)v->fit, said, sizeof said)) return false;
    if (*said) console_note(&w->console, "%s: %s", path, said);
    return true;
}

static bool prepare(Work *w, const char *path)
{
    const Invert *v = w->v;
    PixelModel *p = w->p;
    Status *s = &p->run.status;
    if (v->prompt || v->negative) status_fail(s, E_OPTION, "--%s: a pixel-space model reads no text; --class says what the picture shows", v->prompt ? "prompt" : "negative");
    if (v->steps && v->respacing) status_fail(s, E_OPTION, "--steps and --respacing say the same thing: give one of them");
    if (s->code != OK || !common_model(&v->common, w->folder, sizeof w->folder, s) || !pixel_model_open(p, &v->common, w->folder, NULL)) return false;
    pixel_surplus(&w->console, p);
    if (p->upsampler) status_fail(s, E_OPTION, "invert: this model is an upsampler: it enlarges a small picture, and inverts none");
    if (!pixel_model_labels(p, v->labels)) return false;
    if (v->class_name && !p->unet.classes) status_fail(s, E_OPTION, "--class: this model knows no classes");
    if (!v->class_name && p->unet.classes) status_fail(s, E_OPTION, "invert: --class is missing: this model draws classes");
    w->request.label = s->code == OK && v->class_name ? pixel_model_class(p, v->class_name) : -1;
    w->request.sampler = SAMPLER_DDIM;
    snprintf(w->respacing, sizeof w->respacing, "ddim%d", v->steps ? v->steps : 25);
    if (v->respacing) snprintf(w->respacing, sizeof w->respacing, "%s", v->respacing);
    w->request.respacing = w->respacing;
    return s->code == OK && pixel_process(p, &w->process, w->respacing) && load_picture(w, path) && output_check(v->output, s) &&
           (!v->strip || output_check(v->strip, s));
}

static bool invert(Work *w)
{
    Run *r = &w->p->run;
    PixelHooks hooks = { w, on_step };
    Random none;
    int n = w->process.n;
    Shape one = SHAPE(3, w->request.H, w->request.W);
    Tensor all = tensor_in(r, r->run, SHAPE(n + 1, 3, w->request.H, w->request.W)), z = tensor_in(r, r->run, one);
    w->stored = arena_take(r->run, (size_t)(n + 1) * sizeof *w->stored);
    if (!w->stored) run_fail(r, E_MEMORY, "out of memory: an inversion of %d steps", n);
    for (int i = 0; i <= n && run_ok(r); i++) w->stored[i] = tensor_row(all, i);
    if (!run_ok(r)) return false;
    image_to_network(w->stored[n], &w->picture);
    w->what = "inversion";
    if (!pixel_invert(w->p, &w->process, &w->request, w->stored, &hooks)) return false;
    w->what = "the way back";
    tensor_copy(r, z, w->stored[0]);
    random_seed(&none, RANDOM_TORCH, 0);
    if (!pixel_sample(w->p, &w->process, &w->request, &none, z, &hooks)) return false;
    w->back = (Image){ pixel_levels(w->p, &w->arena, z), one.d[1], one.d[2], false };
    if (!run_ok(r)) return false;
    w->psnr = psnr_of(w->back.rgb, w->picture.rgb, 3 * (size_t)one.d[1] * (size_t)one.d[2]);
    return true;
}

static bool save_strip(Work *w)
{
    Status *s = &w->p->run.status;
    size_t line = 3 * (size_t)w->picture.W;
    Image both = { arena_take(&w->arena, 2 * line * (size_t)w->picture.H), w->picture.H, 2 * w->picture.W, false };
    if (!both.rgb) status_fail(s, E_MEMORY, "out of memory: two pictures");
    for (int y = 0; y < both.H && both.rgb; y++) {
        memcpy(both.rgb + 2 * line * (size_t)y, w->picture.rgb + line * (size_t)y, line);
        memcpy(both.rgb + 2 * line * (size_t)y + line, w->back.rgb + line * (size_t)y, line);
    }
    return both.rgb && image_save(w->v->strip, &w->arena, &both, NULL, 0, NULL, s);
}

static bool save(Work *w)
{
    Dtype type = sizeof(real) == 8 ? T_F64 : T_F32;
    int n = w->process.n, H = w->request.H, W = w->request.W;
    SafeOut t[2] = { { "latents", type, 4, { 1, 3, H, W }, w->stored[0].x, true }, { "stored", type, 4, { n + 1, 3, H, W }, w->stored[0].x, true } };
    JsonOut o = {0};
    if (!safetensors_save(w->v->output, t, 2, NULL, 0, &w->p->run.status) || (w->v->strip && !save_strip(w))) return false;
    console_note(&w->console, "%s: the noise, and the picture at %d steps; the way back is %.1f dB from it", w->v->output, n, w->psnr);
    console_event(&o, "latents");
    json_text(&o, "path", w->v->output);
    json_integer(&o, "steps", n);
    json_real(&o, "psnr_reconstruction", w->psnr, 9);
    console_send(&w->console, &o);
    return true;
}

int verb_pixel_invert(int argc, char **argv)
{
    Invert v = {0};
    PixelModel *p = calloc(1, sizeof *p);
    Work w = { .v = &v, .p = p };
    char *rest[1];
    int rests, code = EXIT_MEMORY;
    if (p && verb_begin(&w.console, &page, &v, argc, argv, rest, &rests, &code)) {
        w.console.computing = prepare(&w, rest[0]);
        if (w.console.computing && invert(&w)) save(&w);
        progress_clear(&w.progress);
        pixel_sound(&w.console, p);
        code = verb_end(&w.console, &p->run.status);
    }
    arena_free(&w.arena);
    if (p) pixel_model_close(p);
    free(p);
    return code;
}
