/* detector.h -- the scene detector that ships with the bundled model: it says what a picture of its world shows, and so
 * judges guidance methods (config.json, model.safetensors of its folder).  Forward only: nothing is guided by its own judge.
 *
 *     x = silu(n1(c1(x)))    x = c2(x)    x = r2(x)    x = c3(x)    x = r3.2(r3.1(r3.0(x)))    h = silu(n3(x))
 *     c1, c2, c3  3x3, stride 2, padding 1       r*  x + conv2(silu(norm2(conv1(silu(norm1(x))))))
 *     cell = 1x1(h)      pres = log sum_cells exp 1x1(h) - 5.5      [style, bg] = linear [mean_cells h, max_cells h]
 *
 * Pictures [N,3,H,W] in -1..1 of any size; a cell is 8x8 pixels. */
#ifndef NN_DETECTOR_H
#define NN_DETECTOR_H
#include "nn/resblock.h"
#include "tensor/json.h"

enum { DETECTOR_LEVELS = 3, DETECTOR_DEEP = 3, DETECTOR_CELL = 8 };
typedef struct { const char *const *name; int n; } Names; /* what the outputs mean, in their order */
typedef struct {
    int channels[DETECTOR_LEVELS], groups;
    double eps;
    Names classes, styles, backgrounds;
} DetectorConfig;

typedef struct {
    DetectorConfig config;
    Conv c1, c2, c3;
    Norm n1, n3;
    ResBlock r2, r3[DETECTOR_DEEP];
    Linear cell, pres, glob;
} Detector;

typedef struct {                                          /* logits; each may be empty */
    Tensor cell;                                          /* [N,classes+1,h,w], the last one is background; h = ceil(H/8) */
    Tensor pres;                                          /* [N,classes]; there when > 0 */
    Tensor style, background;                             /* [N,styles], [N,backgrounds] */
} DetectorOut;

/* Names are taken into the arena by reference: j must live as long.  E_FORMAT names file and field. */
bool detector_config(DetectorConfig *c, const Json *j, const char *file, Arena *a, Status *s);
bool detector_build (Detector *d, const DetectorConfig *c, Status *s);
void detector_walk  (void *detector, Walk *w);
/* A folder's configuration and numbers, both in the arena. */
bool detector_load  (Detector *d, const char *folder, Arena *weights, LoadReport *report, Status *s);

Shape detector_cells(const Detector *d, Shape image);     /* of cell */
void  detector_forward(Run *r, const Detector *d, DetectorOut out, Tensor image);

int   names_place(Names list, const char *name);          /* -1: not in the list */

/* What a picture shows of one class: the cells where it is the likeliest of all, weighted by its probability there (softmax). */
typedef struct {
    bool there;                                           /* pres > 0 */
    int  cells;                                           /* how many */
    double x, y;                                          /* centroid in pixels from the top left; NaN without cells */
    double area;                                          /* sum of the weights, in cells */
} Sighting;
Sighting detector_find(const DetectorOut *out, int image, int class_);
/* at[h*w]: is this cell background in the picture? */
void detector_background(const DetectorOut *out, int image, bool *at);
#endif
