/* parts.h -- the networks of a model folder without their numbers: structure, counts and files, in no time.  A folder of a
 * pixel-space network (pixel.h) is one part: the UNet or the classifier itself. */
#ifndef REF_PARTS_H
#define REF_PARTS_H
#include "nn/model.h"
#include "nn/pixel.h"

enum { PARTS = 4, PART_UNET = 0, PART_VAE = 1, PART_TEXT = 2, PART_CLASSIFIER = 3 };
typedef struct {
    const char *folder, *stem;                            /* "unet", "diffusion_pytorch_model"; the kind of a pixel-space network, "model" */
    bool there;
    size_t numbers;                                       /* parameters */
    int tensors, files;
    uint64_t bytes;                                       /* of the files */
    const char *dtype;                                    /* of the first tensor; "mixed" when they differ */
    int surplus;                                          /* tensors of the files that nothing asks for (pixel-space networks) ... */
    const char **unused;                                  /* ... and their names */
} Part;

typedef struct {
    Part part[PARTS];
    Unet unet;
    Vae vae;
    ClipText text;
    AdmClassifier classifier;
    PixelKind pixel;
    Arena arena;
} Parts;

/* Reads the configurations and the headers of the weight files.  E_FILE when the folder holds none of the parts. */
bool parts_open (Parts *t, const char *folder, Status *s);
void parts_close(Parts *t);
#endif
