/* maps_picture.h -- attention as pictures: a word's map over the image, and pictures side by side. */
#ifndef REF_MAPS_PICTURE_H
#define REF_MAPS_PICTURE_H
#include "ref/image.h"

/* The map [h,w], from its least to its greatest value, as heat (dark blue to yellow) over a grey picture.  In the arena. */
Image map_picture(Arena *a, const Image *over, Tensor map, Status *s);
/* Pictures of any size beside (or above) each other on white, rows centred in height, columns at the left, a small gap between them. */
Image pictures_joined(Arena *a, const Image *m, int n, bool down, Status *s);
#endif
