/* cutouts.h -- random views of a picture, as differentiable as the picture: what stands between an image and CLIP.
 *
 * One cut, in order: rotation about the centre by `angle` degrees counter-clockwise (nearest pixel, zeros from outside, same
 * size), crop, bilinear resize (half-pixel centres, no antialiasing), mirror.  Output pixel (i, j) of a rotation reads
 *
 *     row sin(a) X + cos(a) Y + (H-1)/2,   column cos(a) X - sin(a) Y + (W-1)/2,   X = j - (W-1)/2,  Y = i - (H-1)/2
 *
 * rounded, halves to even.  With cut_whole this is plain bilinear resizing; at the same size it copies.
 * Source: the cut-outs of Kwon & Ye 2209.15264; Pillow's nearest rotation reads the same pixels. */
#ifndef TENSOR_CUTOUTS_H
#define TENSOR_CUTOUTS_H
#include "tensor/random.h"
#include "tensor/run.h"

typedef struct { double angle; int top, left, height, width; bool flip; } Cut;

Cut  cut_whole (int H, int W);
Cut  cut_centre(int H, int W);                            /* the square in the middle, offset rounded down */
/* angle U(-10,10); area U(0.8,1) of the picture and ratio exp U(ln 0.9, ln 1.1), ten attempts, then the middle; left and top
 * uniform; mirrored with probability 1/2.  Draws, in this order: angle, then area and ratio per attempt, left, top, mirror. */
Cut  cut_draw(Random *g, int H, int W);

void cutouts     (Run *r, Tensor y, Tensor x, const Cut *cut);      /* y[n,C,h,w]: n cuts of x[C,H,W]; E_SHAPE for a crop outside it */
void cutouts_back(Run *r, Tensor dx, Tensor dy, const Cut *cut);    /* written */
#endif
