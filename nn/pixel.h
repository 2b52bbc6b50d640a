/* pixel.h -- folders of pixel-space networks: config.json, whose `kind` says which, and model.safetensors with the original names.
 * A missing or misshapen tensor fails, what nothing asks for is reported. */
#ifndef NN_PIXEL_H
#define NN_PIXEL_H
#include "nn/adm_classifier.h"
#include "nn/ddpm_unet.h"

typedef enum { PIXEL_OTHER, PIXEL_ADM_UNET, PIXEL_DDPM_UNET, PIXEL_ADM_CLASSIFIER } PixelKind;

PixelKind pixel_kind(const char *folder);                 /* PIXEL_OTHER: none of these, or no readable config.json */
const char *pixel_kind_name(PixelKind kind);              /* as in config.json */
/* The structure alone, no numbers. */
bool pixel_build_unet(Unet *u, const char *folder, Arena *weights, Status *s);             /* adm_unet or ddpm_unet */
bool pixel_build_classifier(AdmClassifier *c, const char *folder, Arena *weights, Status *s);
/* With the numbers.  report may be NULL.  report->surplus counts tensors nothing asked for. */
bool pixel_load_unet(Unet *u, const char *folder, Arena *weights, LoadReport *report, Status *s);
bool pixel_load_classifier(AdmClassifier *c, const char *folder, Arena *weights, LoadReport *report, Status *s);
#endif
