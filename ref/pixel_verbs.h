/* pixel_verbs.h -- what the verbs on pixel-space models share: what they say of a run, inputs, the verbs themselves. */
#ifndef REF_PIXEL_VERBS_H
#define REF_PIXEL_VERBS_H
#include "ref/metadata.h"
#include "ref/pixel_model.h"

int verb_pixel       (int argc, char **argv);             /* generate */
int verb_pixel_invert(int argc, char **argv);             /* invert */

typedef struct { bool there; char model[65], classifier[65]; } PixelHashes;           /* of the weight files; of several, of their hashes */
bool pixel_hash(PixelHashes *h, const PixelModel *p, Status *s);

typedef struct {
    const PixelModel *model;
    const PixelRequest *request;
    const Gaussian *process;
    const char *math;
    const PixelHashes *hashes;
    const char *latents, *latents_sha256;                 /* file of the start; NULL: drawn */
    const char *low_sha256;                               /* of an upsampler's small picture, its file; NULL */
    int image, count;
    uint64_t seed;                                        /* of this image */
} PixelText;
void pixel_members(JsonOut *o, const PixelText *t);       /* shared by the `start` event and the picture's own text */
bool pixel_texts(PngText texts[METADATA_TEXTS], Arena *a, const PixelText *t, Status *s);

void pixel_step_event(JsonOut *o, int image, const GuideReport *report, double seconds);
void pixel_surplus(const Console *c, const PixelModel *p);           /* one warning for tensors that nothing asked for */
void pixel_sound(const Console *c, const PixelModel *p);             /* one for parameters that are NaN or infinite, once they were read */
/* One picture's numbers [3,H,W] of a file, key `latents`, in the run arena. */
Tensor pixel_latents(PixelModel *p, const char *file);
#endif
