#include <stdio.h>
#include <string.h>
#include "nn/model.h"

enum { CLASSES_MOST = 3 };
typedef struct {
    ModelPart part;
    const char *key, *what;                               /* in model_index.json, also the folder; for error texts */
    const char *classes[CLASSES_MOST];                    /* those that are built here; none: any (the reader of the file judges) */
} PartRow;

static const PartRow PARTS[MODEL_PARTS] = {
    { MODEL_UNET,      "unet",         "UNet",         { "UNet2DConditionModel" } },
    { MODEL_VAE,       "vae",          "autoencoder",  { "AutoencoderKL" } },
    { MODEL_TEXT,      "text_encoder", "text encoder", { "CLIPTextModel", "CLIPTextModelWithProjection" } },
    { MODEL_TOKENIZER, "tokenizer",    "tokenizer",    { "CLIPTokenizer", "CLIPTokenizerFast" } },
    { MODEL_SCHEDULER, "scheduler",    "scheduler",    { NULL } },
};

static const char *const PIPELINES[] = {
    "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline", "StableDiffusionPix2PixZeroPipeline",
    "StableDiffusionDiffEditPipeline", "StableDiffusionAttendAndExcitePipeline", "StableDiffusionSAGPipeline",
};
enum { PIPELINE_COUNT = sizeof PIPELINES / sizeof *PIPELINES };

/* The value must be one of names; otherwise E_FORMAT lists them. */
static bool one_of(const Json *value, const char *const *names, int n, const char *file, const char *key, Status *s)
{
    char list[300] = "";
    for (int i = 0; i < n && names[i]; i++) {
        if (json_is(value, names[i])) return true;
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", names[i]);
    }
    status_fail(s, E_FORMAT, "%s: %s: class \"%.60s\" is not supported; supported: %s", file, key, value->text ? value->text : "", list);
    return false;
}

static bool list_part(Model *m, const PartRow *row, const Json *index, const char *file, Status *s)
{
    const Json *pair = json_get(index, row->key);
    if (!pair || pair->kind == JSON_NULL) return true;
    const Json *class_name = pair->kind == JSON_ARRAY && pair->count == 2 ? json_at(pair, 1) : NULL;
    if (!class_name || (class_name->kind != JSON_STRING && class_name->kind != JSON_NULL)) {
        status_fail(s, E_FORMAT, "%s: %s: a pair of library and class is expected", file, row->key);
        return false;
    }
    if (class_name->kind == JSON_NULL) return true;
    if (row->classes[0] && !one_of(class_name, row->classes, CLASSES_MOST, file, row->key, s)) return false;
    m->listed |= row->part;
    return true;
}

bool model_open(Model *m, const char *folder, Status *s)
{
    *m = (Model){0};
    char file[480];
    if (s->code != OK) return false;
    if (snprintf(m->folder, sizeof m->folder, "%s", folder) >= (int)sizeof m->folder || !folder_exists(folder)) {
        status_fail(s, E_FILE, "%.300s: no such model folder", folder);
        return false;
    }
    snprintf(file, sizeof file, "%s/model_index.json", folder);
    const Json *index = json_load(&m->arena, file, s), *class_name = json_get(index, "_class_name");
    if (!index) return false;
    if (!class_name || class_name->kind != JSON_STRING)
        status_fail(s, E_FORMAT, "%s: _class_name: the name of a pipeline is expected", file);
    else if (one_of(class_name, PIPELINES, PIPELINE_COUNT, file, "_class_name", s))
        snprintf(m->class_name, sizeof m->class_name, "%s", class_name->text);
    for (int i = 0; s->code == OK && i < MODEL_PARTS; i++) list_part(m, &PARTS[i], index, file, s);
    return s->code == OK;
}

void model_close(Model *m)
{
    arena_free(&m->arena);
    *m = (Model){0};
}

/* ---- one component ---- */

static const Json *load_config(Arena *a, const char *folder, const char *class_wanted, char *file, size_t room, Status *s)
{
    snprintf(file, room, "%s/config.json", folder);
    const Json *j = json_load(a, file, s), *class_name = json_get(j, "_class_name");
    if (!j) return NULL;
    if (class_wanted && class_name && !one_of(class_name, &class_wanted, 1, file, "_class_name", s)) return NULL;
    return j;
}

static bool load_weights(WalkModel *walk, void *model, const char *folder, const char *stem, Arena *weights, LoadReport *report, Status *s)
{
    Weights w = {0};
    *report = (LoadReport){0};
    bool ok = weights_open(&w, folder, stem, s) && params_load(walk, model, &w, weights, report, s);
    weights_close(&w);
    return ok;
}

bool model_load_unet(Unet *u, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    char file[520];
    UnetConfig c;
    const Json *j = load_config(weights, folder, "UNet2DConditionModel", file, sizeof file, s);
    return j && unet_config(&c, j, file, s) && unet_build(u, &c, weights, s) &&
           load_weights(unet_walk, u, folder, "diffusion_pytorch_model", weights, report, s);
}

bool model_load_vae(Vae *v, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    char file[520];
    VaeConfig c;
    const Json *j = load_config(weights, folder, "AutoencoderKL", file, sizeof file, s);
    return j && vae_config(&c, j, file, s) && vae_build(v, &c, weights, s) &&
           load_weights(vae_walk, v, folder, "diffusion_pytorch_model", weights, report, s);
}

bool model_load_text(ClipText *t, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    char file[520];
    ClipTextConfig c;
    const Json *j = load_config(weights, folder, NULL, file, sizeof file, s);
    return j && clip_text_config(&c, j, file, s) && clip_text_build(t, &c, weights, s) &&
           load_weights(clip_text_walk, t, folder, "model", weights, report, s);
}

/* ---- parts on demand ---- */

static bool load_part(Model *m, int i, Status *s)
{
    char folder[480];
    snprintf(folder, sizeof folder, "%s/%s", m->folder, PARTS[i].key);
    if (!(m->listed & PARTS[i].part)) {
        status_fail(s, E_FORMAT, "%s/model_index.json: %s: the model has no %s, and this needs one", m->folder, PARTS[i].key, PARTS[i].what);
        return false;
    }
    switch (PARTS[i].part) {
    case MODEL_UNET:      return model_load_unet(&m->unet, folder, &m->arena, &m->report[i], s);
    case MODEL_VAE:       return model_load_vae (&m->vae,  folder, &m->arena, &m->report[i], s);
    case MODEL_TEXT:      return model_load_text(&m->text, folder, &m->arena, &m->report[i], s);
    case MODEL_TOKENIZER: return (m->tokenizer = tokenizer_load(&m->arena, folder, s)) != NULL;
    case MODEL_SCHEDULER:
        snprintf(m->scheduler_file, sizeof m->scheduler_file, "%s/scheduler/scheduler_config.json", m->folder);
        return (m->scheduler = json_load(&m->arena, m->scheduler_file, s)) != NULL;
    }
    return false;
}

bool model_load(Model *m, unsigned parts, Status *s)
{
    for (int i = 0; i < MODEL_PARTS && s->code == OK; i++)
        if (parts & PARTS[i].part & ~m->loaded && load_part(m, i, s)) m->loaded |= PARTS[i].part;
    return s->code == OK;
}

int model_surplus(const Model *m, char *first, size_t room)
{
    int n = 0;
    if (room) *first = 0;
    for (int i = 0; i < MODEL_PARTS; i++) {
        if (!n && m->report[i].surplus) snprintf(first, room, "%s: %s", PARTS[i].key, m->report[i].first_surplus);
        n += m->report[i].surplus;
    }
    return n;
}
