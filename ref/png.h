/* png.h -- PNG at the level of chunks (ISO/IEC 15948): the check before decoding, and text chunks. */
#ifndef REF_PNG_H
#define REF_PNG_H
#include <stdint.h>
#include "tensor/run.h"

typedef struct { const char *keyword, *text; } PngText;   /* keyword: 1..79 bytes of Latin-1; text: UTF-8 */

bool png_begins(const uint8_t *bytes, size_t size);       /* the eight bytes of the signature */

/* Everything that can be checked without inflating: every chunk lies inside the file, IHDR comes first and is
 * legal, critical chunks have their CRC, IDAT and IEND are there, and the data could inflate to the picture
 * (deflate gains at most 1032 : 1).  *rotated: an eXIf chunk names an orientation.  E_FORMAT names the byte. */
bool png_check(const uint8_t *bytes, size_t size, const char *name, bool *rotated, Status *s);

/* The picture with its texts right behind IHDR: tEXt where every character is printable Latin-1 or a line feed,
 * else iTXt (UTF-8, not compressed).  In the arena; NULL with E_MEMORY or, for text that is not UTF-8, E_FORMAT. */
uint8_t *png_with_texts(Arena *a, const uint8_t *png, size_t size, const PngText *t, int n, size_t *total, Status *s);
/* The text behind a keyword, as UTF-8 in the arena; NULL when there is none (or when it is compressed). */
const char *png_text(Arena *a, const uint8_t *png, size_t size, const char *keyword);
#endif
