/* exif.h -- the one thing wanted from EXIF data: whether it asks to turn the picture. */
#ifndef REF_EXIF_H
#define REF_EXIF_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* tiff: from the byte order mark on.  True when tag 0x0112 (orientation) is there and is not 1, "upright". */
bool exif_turns(const uint8_t *tiff, size_t size);
#endif
