/* jpeg_check.h -- what must hold before a JPEG file reaches the decoder.
 *
 * The decoder of stb_image 2.27 fills two Huffman tables of 256 entries without looking at the counts in the
 * file.  So every pair of bytes FF C4 that it could take for a table segment must carry tables of at most 256
 * codes (bytes past the end read as 0, as the decoder reads them).  Segments it would skip (APP1.. and
 * comments: thumbnails, profiles) are taken out first, so that their bytes cannot be mistaken for tables. */
#ifndef REF_JPEG_CHECK_H
#define REF_JPEG_CHECK_H
#include <stdint.h>
#include "tensor/run.h"

enum { JPEG_SCANS = 64 };                                 /* most scans of a progressive file: each costs a pass over the picture */

bool jpeg_begins(const uint8_t *bytes, size_t size);
/* The file from SOI to EOI without skipped segments, in the arena.  NULL with E_FORMAT.  *rotated: EXIF names an orientation. */
uint8_t *jpeg_check(Arena *a, const uint8_t *bytes, size_t size, const char *name, size_t *kept, bool *rotated, Status *s);
bool jpeg_tables_fit(const uint8_t *bytes, size_t size);  /* the rule on FF C4 alone */
#endif
