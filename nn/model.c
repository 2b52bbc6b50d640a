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
    model_unload(m, m->loaded);
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

/* weights NULL: they are only looked through. */
static bool read_weights(WalkModel *walk, void *model, const char *folder, const char *stem, Arena *weights, LoadReport *report, Status *s)
{
    Weights w = {0};
    bool ok = weights_open(&w, folder, stem, s) &&
              (weights ? params_load(walk, model, &w, weights, report, s) : params_check(walk, model, &w, report, s));
    weights_close(&w);
    return ok;
}

static const char *const DIFFUSION = "diffusion_pytorch_model", *const ENCODER = "model";

static bool build_unet(Unet *u, const char *folder, Arena *a, Status *s)
{
    char file[520];
    UnetConfig c;
    const Json *j = load_config(a, folder, "UNet2DConditionModel", file, sizeof file, s);
    return j && unet_config(&c, j, file, s) && unet_build(u, &c, a, s);
}

static bool build_vae(Vae *v, const char *folder, Arena *a, Status *s)
{
    char file[520];
    VaeConfig c;
    const Json *j = load_config(a, folder, "AutoencoderKL", file, sizeof file, s);
    return j && vae_config(&c, j, file, s) && vae_build(v, &c, a, s);
}

static bool build_text(ClipText *t, const char *folder, Arena *a, Status *s)
{
    char file[520];
    ClipTextConfig c;
    const Json *j = load_config(a, folder, NULL, file, sizeof file, s);
    return j && clip_text_config(&c, j, file, s) && clip_text_build(t, &c, a, s);
}

bool model_load_unet(Unet *u, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    return build_unet(u, folder, weights, s) && read_weights(unet_walk, u, folder, DIFFUSION, weights, report, s);
}

bool model_load_vae(Vae *v, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    return build_vae(v, folder, weights, s) && read_weights(vae_walk, v, folder, DIFFUSION, weights, report, s);
}

bool model_load_text(ClipText *t, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    return build_text(t, folder, weights, s) && read_weights(clip_text_walk, t, folder, ENCODER, weights, report, s);
}

/* ---- parts on demand ---- */

typedef struct { WalkModel *walk; void *model; const char *stem; } Network;       /* walk NULL: the part is none */

static Network network_of(Model *m, ModelPart part)
{
    switch (part) {
    case MODEL_UNET: return (Network){ unet_walk, &m->unet, DIFFUSION };
    case MODEL_VAE:  return (Network){ vae_walk, &m->vae, DIFFUSION };
    case MODEL_TEXT: return (Network){ clip_text_walk, &m->text, ENCODER };
    default:         return (Network){ NULL, NULL, NULL };
    }
}

/* What the others leave of the allowance; 0 means without limit, so an allowance used up is 1. */
static size_t allowance(const Model *m, const Arena *a)
{
    size_t others = model_held(m) - a->reserved;
    return !m->limit ? 0 : others < m->limit ? m->limit - others : 1;
}

static bool build_part(Model *m, int i, const char *folder, Status *s)
{
    Network n = network_of(m, PARTS[i].part);
    bool ok = false;
    switch (PARTS[i].part) {
    case MODEL_UNET:      ok = build_unet(&m->unet, folder, &m->arena, s); break;
    case MODEL_VAE:       ok = build_vae (&m->vae,  folder, &m->arena, s); break;
    case MODEL_TEXT:      ok = build_text(&m->text, folder, &m->arena, s); break;
    case MODEL_TOKENIZER: return (m->tokenizer = tokenizer_load(&m->arena, folder, s)) != NULL;
    case MODEL_SCHEDULER:
        snprintf(m->scheduler_file, sizeof m->scheduler_file, "%s/scheduler/scheduler_config.json", m->folder);
        return (m->scheduler = json_load(&m->arena, m->scheduler_file, s)) != NULL;
    }
    return ok && read_weights(n.walk, n.model, folder, n.stem, NULL, &m->report[i], s);
}

static bool part_folder(const Model *m, int i, char *folder, size_t room, Status *s)
{
    snprintf(folder, room, "%s/%s", m->folder, PARTS[i].key);
    if (!(m->listed & PARTS[i].part))
        status_fail(s, E_FORMAT, "%s/model_index.json: %s: the model has no %s, and this needs one", m->folder, PARTS[i].key, PARTS[i].what);
    return s->code == OK;
}

bool model_build(Model *m, unsigned parts, Status *s)
{
    char folder[480];
    for (int i = 0; i < MODEL_PARTS && s->code == OK; i++) {
        if (!(parts & PARTS[i].part & ~m->built)) continue;
        size_t mark = m->arena.used;
        m->arena.limit = allowance(m, &m->arena);
        if (part_folder(m, i, folder, sizeof folder, s) && build_part(m, i, folder, s)) m->built |= PARTS[i].part;
        else arena_release(&m->arena, mark);
    }
    return s->code == OK;
}

bool model_load(Model *m, unsigned parts, Status *s)
{
    char folder[480];
    model_build(m, parts, s);
    for (int i = 0; i < MODEL_PARTS && s->code == OK; i++) {
        Network n = network_of(m, PARTS[i].part);
        if (!(parts & PARTS[i].part & ~m->loaded)) continue;
        m->numbers[i].limit = allowance(m, &m->numbers[i]);
        if (!n.walk || (part_folder(m, i, folder, sizeof folder, s) &&
                        read_weights(n.walk, n.model, folder, n.stem, &m->numbers[i], &m->report[i], s))) m->loaded |= PARTS[i].part;
        else arena_free(&m->numbers[i]);
    }
    return s->code == OK;
}

void model_unload(Model *m, unsigned parts)
{
    for (int i = 0; i < MODEL_PARTS; i++) {
        Network n = network_of(m, PARTS[i].part);
        if (!n.walk || !(parts & PARTS[i].part & m->loaded)) continue;
        params_forget(n.walk, n.model);
        arena_free(&m->numbers[i]);
        m->loaded &= ~(unsigned)PARTS[i].part;
    }
}

size_t model_held(const Model *m)
{
    size_t n = m->arena.reserved;
    for (int i = 0; i < MODEL_PARTS; i++) n += m->numbers[i].reserved;
    return n;
}

size_t model_bytes(Model *m, unsigned parts)
{
    size_t n = 0;
    for (int i = 0; i < MODEL_PARTS; i++) {
        Network w = network_of(m, PARTS[i].part);
        if (w.walk && parts & PARTS[i].part & m->built) n += params_bytes(w.walk, w.model);
    }
    return n;
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

int model_nonfinite(const Model *m, char *first, size_t room)
{
    int n = 0;
    if (room) *first = 0;
    for (int i = 0; i < MODEL_PARTS; i++) {
        if (!n && m->report[i].nonfinite) snprintf(first, room, "%s: %s", PARTS[i].key, m->report[i].first_nonfinite);
        n += m->report[i].nonfinite;
    }
    return n;
}
