/* metadata.h -- what a picture says about how it was made: enough to make it again.
 * No dates, folders, thread counts or times: the same command gives the same bytes. */
#ifndef REF_METADATA_H
#define REF_METADATA_H
#include "ref/png.h"
#include "ref/verbs.h"

enum { WEIGHT_FILES = 64, METADATA_TEXTS = 3 };
typedef struct { char name[200], sha256[65]; } FileHash;
typedef struct {
    FileHash file[WEIGHT_FILES];                          /* "unet/diffusion_pytorch_model.safetensors", ... */
    int  files;
    char model[65];                                       /* of the UNet: its file's, or of its files' hashes in order */
} WeightHashes;

/* Reads every weight file of the folder: about 0.3 GB a second. */
bool weights_hash(WeightHashes *h, const char *folder, Status *s);
bool file_hash(char hex[65], const char *path, Status *s);

typedef struct {
    const PipelineRequest *request;                       /* W, H resolved */
    const char *folder, *math, *kernels;
    const ScheduleConfig *schedule;
    const WeightHashes *weights;
    const char *latents_sha256;                           /* of the file of starting latents; NULL: drawn */
    const char *method;                                   /* of the run; NULL: generate */
    const char *sampler;                                  /* NULL: DDIM */
    void (*more)(JsonOut *o, const void *user);           /* further members; may be NULL */
    const void *user;
    int image;                                            /* 0 .. count-1 */
    uint64_t seed;                                        /* of this image */
} Metadata;

/* The three texts of a picture, in the arena: parameters, tiller, Software.  False with E_MEMORY. */
bool metadata_texts(PngText texts[METADATA_TEXTS], Arena *a, const Metadata *m, Status *s);
/* The same three from a finished JSON text, which is freed, and the plain one, NULL when memory was short for it. */
bool metadata_pack(PngText texts[METADATA_TEXTS], Arena *a, JsonOut *o, const char *plain, Status *s);
/* The members every description of a run has: the `start` event, --dry-run and the picture's own text share them. */
void metadata_members(JsonOut *o, const Metadata *m);
const char *prediction_name(Prediction p);
#endif
