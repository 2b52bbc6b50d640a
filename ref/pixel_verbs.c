#include <stdlib.h>
#include <string.h>
#include "ref/oneline.h"
#include "ref/pixel_verbs.h"
#include "ref/latents.h"
#include "tensor/file.h"
#include "tensor/hash.h"
#include "tensor/safetensors.h"

/* ---- hashes ---- */

static bool folder_hash(char hex[65], const char *folder, Status *s)
{
    Weights w = {0};
    Sha256 all;
    char one[65], path[1024];
    bool good = weights_open(&w, folder, "model", s);
    sha256_begin(&all);
    for (int i = 0; i < w.files && good; i++) {
        snprintf(path, sizeof path, "%s", w.file[i].file.name);
        good = file_hash(one, path, s);
        sha256_add(&all, one, 64);
        memcpy(hex, one, sizeof one);
    }
    if (good && w.files > 1) sha256_end(&all, hex);
    weights_close(&w);
    return good;
}

bool pixel_hash(PixelHashes *h, const PixelModel *p, Status *s)
{
    h->there = folder_hash(h->model, p->folder, s) && (!*p->classifier_folder || folder_hash(h->classifier, p->classifier_folder, s));
    return h->there;
}

/* ---- what a picture says ---- */

static const char *sampler_name(const PixelRequest *q) { return q->sampler == SAMPLER_DDIM ? "ddim" : "ddpm"; }

void pixel_members(JsonOut *o, const PixelText *t)
{
    const PixelModel *p = t->model;
    const PixelRequest *q = t->request;
    const char *label = pixel_model_label(p, q->label);
    char name[200];
    json_text(o, "version", TILLER_VERSION);
    json_text(o, "method", "generate");
    json_text(o, "kind", pixel_kind_name(p->kind));
    if (q->label >= 0) json_integer(o, "class", q->label);
    if (label) json_text(o, "class_name", label);
    json_text(o, "sampler", sampler_name(q));
    json_text(o, "respacing", q->respacing);
    json_integer(o, "steps", t->process->n);
    json_real(o, "eta", q->eta, 9);
    if (*p->classifier_folder) {
        json_text(o, "classifier", base_name(p->classifier_folder, name, sizeof name));
        json_real(o, "classifier_scale", q->scale, 9);
    }
    json_integer(o, "width", q->W);
    json_integer(o, "height", q->H);
    json_integer(o, "num_images", t->count);
    json_text(o, "rng", q->rng == RANDOM_PHILOX ? "philox" : "torch");
    if (t->latents) json_text(o, "latents", base_name(t->latents, name, sizeof name));
    json_text(o, "model", base_name(p->folder, name, sizeof name));
    json_text(o, "math", t->math);
    json_text(o, "kernels", p->run.k->name);
    json_text(o, "number", sizeof(real) == sizeof(double) ? "float64" : "float32");
}

static void object(JsonOut *o, const PixelText *t)
{
    json_open(o, NULL, '{');
    pixel_members(o, t);
    json_integer(o, "image", t->image);
    json_integer(o, "seed", (int64_t)t->seed);
    if (t->latents) json_text(o, "latents_sha256", t->latents_sha256);
    if (t->low_sha256) json_text(o, "low_res_sha256", t->low_sha256);
    json_open(o, "weights_sha256", '{');
    json_text(o, "model", t->hashes->model);
    if (*t->model->classifier_folder) json_text(o, "classifier", t->hashes->classifier);
    json_close(o, '}');
    json_close(o, '}');
}

static char *parameters(Arena *a, const PixelText *t)
{
    enum { ROOM = 1200 };
    const PixelRequest *q = t->request;
    const char *label = pixel_model_label(t->model, q->label);
    char name[200], shown[200], first[260] = "", *to = arena_take(a, ROOM);
    if (q->label >= 0) snprintf(first, sizeof first, "class %d%s%s\n", q->label, label ? ": " : "", label ? oneline(shown, sizeof shown, label) : "");
    if (to) snprintf(to, ROOM, "%sSteps: %d, Sampler: %s, Classifier scale: %g, Seed: %llu, Size: %dx%d, Model hash: %.10s, Model: %s, Version: tiller %s",
                     first, t->process->n, sampler_name(q), q->scale, (unsigned long long)t->seed, q->W, q->H, t->hashes->model,
                     base_name(t->model->folder, name, sizeof name), TILLER_VERSION);
    return to;
}

bool pixel_texts(PngText texts[METADATA_TEXTS], Arena *a, const PixelText *t, Status *s)
{
    JsonOut o = {0};
    object(&o, t);
    return metadata_pack(texts, a, &o, parameters(a, t), s);
}

void pixel_step_event(JsonOut *o, int image, const GuideReport *report, double seconds)
{
    console_event(o, "step");
    json_integer(o, "image", image);
    json_integer(o, "step", report->clock.i + 1);
    json_integer(o, "of", report->clock.n);
    json_integer(o, "t", report->clock.t);
    json_real(o, "seconds", seconds, 9);
    json_integer(o, "rss_bytes", (int64_t)process_peak_memory());
    json_real(o, "loss", (double)report->energy, 9);
    json_real(o, "grad_norm", report->grad_norm, 9);
    json_real(o, "push", report->push, 9);
    json_integer(o, "forwards", report->forwards);
    json_integer(o, "backwards", report->backwards);
}

void pixel_sound(const Console *c, const PixelModel *p)
{
    common_nonfinite(c, "model", p->report[0].nonfinite, p->report[0].first_nonfinite);
    common_nonfinite(c, "classifier", p->report[1].nonfinite, p->report[1].first_nonfinite);
}

void pixel_surplus(const Console *c, const PixelModel *p)
{
    static const char *const what[] = { "model", "classifier" };
    char shown[200];
    for (int i = 0; i < 2; i++) {
        int n = p->report[i].surplus;
        if (n) console_warning(c, "%d tensor%s in the %s's files not used, the first is %s", n, n == 1 ? " is" : "s are", what[i],
                               oneline(shown, sizeof shown, p->report[i].first_surplus));
    }
}

/* ---- inputs ---- */

Tensor pixel_latents(PixelModel *p, const char *file)
{
    Run *r = &p->run;
    Tensor x = latents_read(r, file, 3);
    if (x.x && x.s.d[0] != 1) run_fail(r, E_FORMAT, "%s: latents: [3,H,W] or [1,3,H,W] is expected, %d pictures found", file, x.s.d[0]);
    return run_ok(r) ? tensor_row(x, 0) : (Tensor){0};
}
