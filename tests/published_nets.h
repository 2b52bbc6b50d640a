/* published_nets.h -- the published pixel-space networks: their config.json in data/pixel-models, counts, and the shape of h at
 * their own size. */
#ifndef TESTS_PUBLISHED_NETS_H
#define TESTS_PUBLISHED_NETS_H
#include "nn/pixel.h"

typedef struct { const char *name; PixelKind kind; size_t parameters; int tensors, side, h[3]; } Published;
static const Published published[] = {
    { "64x64_diffusion",          PIXEL_ADM_UNET,       295904454, 541, 64,  { 768, 8, 8 } },
    { "128x128_diffusion",        PIXEL_ADM_UNET,       421529606, 493, 128, { 1024, 8, 8 } },
    { "256x256_diffusion",        PIXEL_ADM_UNET,       553838086, 567, 256, { 1024, 8, 8 } },
    { "256x256_diffusion_uncond", PIXEL_ADM_UNET,       552814086, 566, 256, { 1024, 8, 8 } },
    { "512x512_diffusion",        PIXEL_ADM_UNET,       558997638, 645, 512, { 1024, 8, 8 } },
    { "lsun",                     PIXEL_ADM_UNET,       552814086, 566, 256, { 1024, 8, 8 } },
    { "ffhq",                     PIXEL_ADM_UNET,       93563910,  362, 256, { 512, 8, 8 } },
    { "celebahq",                 PIXEL_DDPM_UNET,      113673219, 450, 256, { 512, 8, 8 } },
    { "64x64_classifier",         PIXEL_ADM_CLASSIFIER, 65438568,  307, 64,  { 512, 8, 8 } },
    { "128x128_classifier",       PIXEL_ADM_CLASSIFIER, 42568040,  221, 128, { 512, 8, 8 } },
    { "256x256_classifier",       PIXEL_ADM_CLASSIFIER, 54096360,  249, 256, { 512, 8, 8 } },
    { "512x512_classifier",       PIXEL_ADM_CLASSIFIER, 54448360,  281, 512, { 512, 8, 8 } },
};
enum { PUBLISHED = sizeof published / sizeof *published };

/* Read from the root of the sources; u or c, as its kind says. */
static inline bool published_build(const Published *p, Unet *u, AdmClassifier *c, Arena *a, Status *s)
{
    char file[120];
    AdmConfig adm;
    DdpmUnetConfig ddpm;
    snprintf(file, sizeof file, "data/pixel-models/%s.json", p->name);
    const Json *j = json_load(a, file, s);
    if (!j) return false;
    if (p->kind == PIXEL_DDPM_UNET) return ddpm_unet_config(&ddpm, j, file, s) && ddpm_unet_build(u, &ddpm, a, s);
    if (!adm_config(&adm, j, file, s)) return false;
    return p->kind == PIXEL_ADM_UNET ? adm_build(u, &adm, a, s) : adm_classifier_build(c, &adm, a, s);
}
#endif
