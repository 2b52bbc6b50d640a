/* preprocess.h -- what stands between a picture and a tower that reads normalised pixels, with its gradient.
 *
 *     cover: resize so that the picture just covers [h,w] (the longer side rounded down); cut out the centre, the offset
 *            rounded half to even, as torchvision does it on tensors;   v = (cover(x) in 0..1 - mean) / std */
#ifndef NN_PREPROCESS_H
#define NN_PREPROCESS_H
#include "tensor/json.h"
#include "tensor/resize.h"

typedef struct {
    ResizeKernel kernel;
    bool antialias;                                       /* false: as the papers' code had it */
    bool signed_range;                                    /* pictures in [-1,1], not [0,1] */
    double mean[3], std[3];
} Preprocess;
extern const Preprocess preprocess_clip, preprocess_dino; /* of the published models: bicubic, bilinear; [-1,1] */

/* pixels [N,3,h,w] from image [N,3,H,W]; any sizes. */
void preprocess_forward (Run *r, const Preprocess *p, Tensor pixels, Tensor image);
void preprocess_backward(Run *r, const Preprocess *p, Tensor dimage, Tensor dpixels);
/* The last part alone, for pictures of the right size, in the range p says. */
void preprocess_normalise     (Run *r, const Preprocess *p, Tensor pixels, Tensor image);
void preprocess_normalise_back(Run *r, const Preprocess *p, Tensor dimage, Tensor dpixels);
/* image_mean and image_std of folder/preprocessor_config.json when it is there; else p stays.  E_FORMAT names file and field. */
bool preprocess_read(Preprocess *p, const char *folder, Arena *scratch, Status *s);
#endif
