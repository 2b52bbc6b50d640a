#include <stdio.h>
#include "nn/pixel.h"

static const char *const names[] = { "other", "adm_unet", "ddpm_unet", "adm_classifier" };

const char *pixel_kind_name(PixelKind kind) { return names[kind]; }

static PixelKind kind_of(const Json *j)
{
    const Json *kind = j && j->kind == JSON_OBJECT ? json_get(j, "kind") : NULL;
    for (int i = PIXEL_ADM_CLASSIFIER; kind && i > PIXEL_OTHER; i--)
        if (json_is(kind, names[i])) return (PixelKind)i;
    return PIXEL_OTHER;
}

PixelKind pixel_kind(const char *folder)
{
    char file[520];
    Arena a = {0};
    Status s = { OK, "" };
    if (snprintf(file, sizeof file, "%s/config.json", folder) >= (int)sizeof file) return PIXEL_OTHER;
    PixelKind kind = kind_of(json_load(&a, file, &s));
    arena_free(&a);
    return kind;
}

static const Json *configuration(const char *folder, char *file, size_t room, Arena *a, Status *s)
{
    if (s->code != OK) return NULL;
    if (snprintf(file, room, "%s/config.json", folder) >= (int)room) {
        status_fail(s, E_FILE, "%.300s: too long a path", folder);
        return NULL;
    }
    return json_load(a, file, s);
}

bool pixel_build_unet(Unet *u, const char *folder, Arena *weights, Status *s)
{
    char file[520];
    AdmConfig adm;
    DdpmUnetConfig ddpm;
    const Json *j = configuration(folder, file, sizeof file, weights, s);
    if (!j) return false;
    switch (kind_of(j)) {
    case PIXEL_ADM_UNET:  return adm_config(&adm, j, file, s) && adm_build(u, &adm, weights, s);
    case PIXEL_DDPM_UNET: return ddpm_unet_config(&ddpm, j, file, s) && ddpm_unet_build(u, &ddpm, weights, s);
    default: status_fail(s, E_FORMAT, "%s: kind: expected \"adm_unet\" or \"ddpm_unet\"", file); return false;
    }
}

bool pixel_build_classifier(AdmClassifier *c, const char *folder, Arena *weights, Status *s)
{
    char file[520];
    AdmConfig adm;
    const Json *j = configuration(folder, file, sizeof file, weights, s);
    if (j && kind_of(j) != PIXEL_ADM_CLASSIFIER) status_fail(s, E_FORMAT, "%s: kind: expected \"adm_classifier\"", file);
    return s->code == OK && adm_config(&adm, j, file, s) && adm_classifier_build(c, &adm, weights, s);
}

static bool load(WalkModel *walk, void *model, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    Weights w;
    if (!weights_open(&w, folder, "model", s)) return false;
    bool ok = params_load(walk, model, &w, weights, report, s);
    weights_close(&w);
    return ok;
}

bool pixel_load_unet(Unet *u, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    return pixel_build_unet(u, folder, weights, s) && load(unet_walk, u, folder, weights, report, s);
}

bool pixel_load_classifier(AdmClassifier *c, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    return pixel_build_classifier(c, folder, weights, s) && load(adm_classifier_walk, c, folder, weights, report, s);
}
