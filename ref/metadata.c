#include <stdlib.h>
#include <string.h>
#include "ref/metadata.h"
#include "ref/stop.h"
#include "tensor/file.h"
#include "tensor/hash.h"

bool file_hash(char hex[65], const char *path, Status *s)
{
    enum { CHUNK = 1 << 20 };
    File f;
    Sha256 h;
    if (!file_open(&f, path, s)) return false;
    char *bytes = malloc(CHUNK);
    if (!bytes) status_fail(s, E_MEMORY, "%s: out of memory", path);
    sha256_begin(&h);
    for (uint64_t at = 0; bytes && at < f.size; at += CHUNK) {
        size_t n = f.size - at < CHUNK ? (size_t)(f.size - at) : CHUNK;
        if (stop_asked(NULL)) status_fail(s, E_STOP, "stopped while %s was read", path);
        if (s->code != OK || !file_read(&f, bytes, at, n, s)) break;
        sha256_add(&h, bytes, n);
    }
    sha256_end(&h, hex);
    free(bytes);
    file_close(&f);
    return s->code == OK;
}

static bool component_hash(WeightHashes *h, const char *folder, const char *component, const char *stem, Status *s)
{
    char path[1024], name[200];
    Weights w = {0};
    snprintf(path, sizeof path, "%s/%s", folder, component);
    if (!folder_exists(path)) return true;
    bool good = weights_open(&w, path, stem, s);
    for (int i = 0; good && i < w.files && h->files < WEIGHT_FILES; i++) {
        FileHash *f = &h->file[h->files++];
        snprintf(f->name, sizeof f->name, "%s/%.120s", component, base_name(w.file[i].file.name, name, sizeof name));
        snprintf(path, sizeof path, "%s/%s", folder, f->name);
        good = file_hash(f->sha256, path, s);
    }
    weights_close(&w);
    return good;
}

bool weights_hash(WeightHashes *h, const char *folder, Status *s)
{
    *h = (WeightHashes){0};
    if (!component_hash(h, folder, "unet", "diffusion_pytorch_model", s)) return false;
    memcpy(h->model, h->file[0].sha256, sizeof h->model);
    if (h->files > 1) {
        Sha256 all;
        sha256_begin(&all);
        for (int i = 0; i < h->files; i++) sha256_add(&all, h->file[i].sha256, 64);
        sha256_end(&all, h->model);
    }
    return component_hash(h, folder, "vae", "diffusion_pytorch_model", s) && component_hash(h, folder, "text_encoder", "model", s);
}

const char *prediction_name(Prediction p) { return p == PREDICT_V ? "v_prediction" : p == PREDICT_X0 ? "sample" : "epsilon"; }

void metadata_members(JsonOut *o, const Metadata *m)
{
    const PipelineRequest *q = m->request;
    char name[200];
    json_text(o, "version", TILLER_VERSION);
    json_text(o, "method", m->method ? m->method : "generate");
    json_text(o, "prompt", q->prompt);
    json_text(o, "negative", q->negative ? q->negative : "");
    json_text(o, "sampler", m->sampler ? m->sampler : "DDIM");
    json_integer(o, "steps", q->steps);
    json_real(o, "guidance_scale", q->scale, 9);
    json_real(o, "eta", q->eta, 9);
    json_real(o, "rescale", q->rescale, 9);
    json_integer(o, "width", q->W);
    json_integer(o, "height", q->H);
    json_integer(o, "num_images", q->count);
    json_text(o, "rng", q->rng == RANDOM_PHILOX ? "philox" : "torch");
    json_text(o, "batch_rng", q->shared ? "shared" : "own");
    if (q->latents) json_text(o, "latents", base_name(q->latents, name, sizeof name));
    json_text(o, "model", base_name(m->folder, name, sizeof name));
    json_text(o, "prediction_type", prediction_name(m->schedule->prediction));
    json_text(o, "math", m->math);
    json_text(o, "kernels", m->kernels);
    json_text(o, "number", sizeof(real) == sizeof(double) ? "float64" : "float32");
    if (m->more) m->more(o, m->user);
}

static void object(JsonOut *o, const Metadata *m)
{
    json_open(o, NULL, '{');
    metadata_members(o, m);
    json_integer(o, "image", m->image);
    json_integer(o, "seed", (int64_t)m->seed);
    if (m->latents_sha256) json_text(o, "latents_sha256", m->latents_sha256);
    json_open(o, "weights_sha256", '{');
    for (int i = 0; i < m->weights->files; i++) json_text(o, m->weights->file[i].name, m->weights->file[i].sha256);
    json_close(o, '}');
    json_close(o, '}');
}

/* As a JSON string where the reader of "name: value, name: value" would stumble. */
static void value(char *to, size_t room, const char *text)
{
    JsonOut o = {0};
    if (strpbrk(text, ",:\"\n")) json_text(&o, NULL, text);
    snprintf(to, room, "%.*s", o.bytes ? (int)o.size : (int)strlen(text), o.bytes ? o.bytes : text);
    json_free(&o);
}

static char *parameters(Arena *a, const Metadata *m)
{
    const PipelineRequest *q = m->request;
    const char *negative = q->negative && *q->negative ? q->negative : NULL;
    char name[200], model[440];
    size_t room = strlen(q->prompt) + (negative ? strlen(negative) : 0) + 1000;
    char *to = arena_take(a, room);
    value(model, sizeof model, base_name(m->folder, name, sizeof name));
    if (to) snprintf(to, room, "%s\n%s%s%sSteps: %d, Sampler: %s, CFG scale: %g, Seed: %llu, Size: %dx%d, Model hash: %.10s, Model: %s, Version: tiller %s",
                     q->prompt, negative ? "Negative prompt: " : "", negative ? negative : "", negative ? "\n" : "", q->steps, m->sampler ? m->sampler : "DDIM", q->scale,
                     (unsigned long long)m->seed, q->W, q->H, m->weights->model, model, TILLER_VERSION);
    return to;
}

bool metadata_pack(PngText texts[METADATA_TEXTS], Arena *a, JsonOut *o, const char *plain, Status *s)
{
    char *json = o->failed ? NULL : arena_take(a, o->size + 1);
    if (json) {
        memcpy(json, o->bytes, o->size);
        json[o->size] = 0;
    }
    json_free(o);
    if (!json || !plain) status_fail(s, E_MEMORY, "out of memory for the texts of a picture");
    texts[0] = (PngText){ "parameters", plain };
    texts[1] = (PngText){ "tiller", json };
    texts[2] = (PngText){ "Software", "tiller " TILLER_VERSION };
    return s->code == OK;
}

bool metadata_texts(PngText texts[METADATA_TEXTS], Arena *a, const Metadata *m, Status *s)
{
    JsonOut o = {0};
    object(&o, m);
    return metadata_pack(texts, a, &o, parameters(a, m), s);
}
