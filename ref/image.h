/* image.h -- pictures: 8-bit RGB in memory, PNG and JPEG in files, [-1,1] in networks.
 * Decoding trusts nothing (png.h, jpeg_check.h): at most 64 MiB, 8192 pixels a side, 64 megapixels, and a cap
 * on the decoder's memory.  EXIF orientation is not applied; `rotated` tells that the file asked for it. */
#ifndef REF_IMAGE_H
#define REF_IMAGE_H
#include "ref/png.h"
#include "tensor/run.h"

typedef struct { uint8_t *rgb; int H, W; bool rotated; } Image;              /* rgb [H,W,3], in an arena */

bool image_load  (Image *m, Arena *a, const char *path, Status *s);          /* E_FILE, E_FORMAT */
bool image_decode(Image *m, Arena *a, const void *bytes, size_t size, const char *name, Status *s);
/* A whole PNG file in the arena; NULL with E_MEMORY.  The same picture and texts give the same bytes. */
uint8_t *image_png(Arena *a, const Image *m, const PngText *texts, int n, size_t *size, Status *s);
/* The same to a file.  hex: SHA-256 of its bytes; NULL: nobody asks. */
bool image_save(const char *path, Arena *a, const Image *m, const PngText *texts, int n, char *hex, Status *s);

/* CROP: the largest centred part of the wanted proportions, resized.  PAD: resized to fit, black borders.  STRETCH: resized. */
typedef enum { FIT_CROP, FIT_PAD, FIT_STRETCH } Fit;
/* `said` (room bytes) receives what was done, "" when the size was right. */
bool image_fit(Run *r, Image *to, Arena *a, const Image *from, int H, int W, Fit fit, char *said, size_t room);

void image_to_network  (Tensor x, const Image *m);        /* x [3,H,W] = u8 / 127.5 - 1 */
bool image_from_network(Image *m, Arena *a, Tensor x, Status *s);            /* u8 = round-half-even(255 clamp(x/2 + 0.5, 0, 1)); E_NUMBER for NaN */

const char *image_decoder(void);                          /* "stb_image 2.27" */
#endif
