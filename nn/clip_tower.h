/* clip_tower.h -- one of CLIP's image towers, whichever kind: a picture becomes an embedding, with its gradient. */
#ifndef NN_CLIP_TOWER_H
#define NN_CLIP_TOWER_H
#include "nn/clip.h"
#include "nn/clip_resnet.h"
#include "nn/preprocess.h"

typedef struct {
    bool resnet;
    ClipImage vit;                                        /* the one that is used ... */
    ClipResnet rn;                                        /* ... of these two */
    int size, width;                                      /* pixels a side; numbers of an embedding */
    Preprocess preprocess;                                /* bicubic, [-1,1], CLIP's or the folder's mean and std; the caller may change it */
} ClipTower;

/* A folder with config.json and model.safetensors: "kind" clip_vision or clip_resnet, transformers' CLIPModel or
 * CLIPVisionModelWithProjection.  Weights in transformers' names or in OpenAI's ("visual. ..."). */
bool clip_tower_load(ClipTower *t, const char *folder, Arena *weights, LoadReport *report, Status *s);
void clip_tower_walk(void *t, Walk *w);

typedef struct { ClipImagePass vit; ClipResnetPass rn; } ClipTowerPass;
/* pixels [N,3,size,size] (normalised) -> embeds [N,width], not of unit length. */
void clip_tower_forward (Run *r, const ClipTower *t, Tensor embeds, ClipTowerPass *p, Tensor pixels);
void clip_tower_backward(Run *r, ClipTower *t, Tensor dpixels, Tensor dembeds, const ClipTowerPass *p);
/* From a picture [N,3,H,W] of any size, in the range preprocess says. */
void clip_tower_embed         (Run *r, const ClipTower *t, Tensor embeds, ClipTowerPass *p, Tensor image);
void clip_tower_embed_backward(Run *r, ClipTower *t, Tensor dimage, Tensor dembeds, const ClipTowerPass *p);
#endif
