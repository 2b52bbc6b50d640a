/* tokenizer_unicode.h -- the little of Unicode that the tokenizer needs: UTF-8, classes, lower case, NFC. */
#ifndef NN_TOKENIZER_UNICODE_H
#define NN_TOKENIZER_UNICODE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { CHAR_OTHER, CHAR_LETTER, CHAR_NUMBER, CHAR_SPACE } CharClass;      /* \p{L}, \p{N}, White_Space */
typedef struct { uint32_t code; int from, to; } Char;     /* a character, and the bytes of the prompt it came from: [from,to) */

/* One character of well-formed UTF-8 (shortest form, no surrogates, at most U+10FFFF): its bytes, or 0. */
int  unicode_read (const char *bytes, size_t length, uint32_t *code);
int  unicode_write(char to[4], uint32_t code);            /* returns the number of bytes */
CharClass unicode_class(uint32_t code);
/* Lower case of one character, whatever its neighbours (no final sigma): one code, or two for U+0130. */
int  unicode_lower(uint32_t code, uint32_t to[2]);

/* Normalisation form C of c[0..n) into out; returns its length.  work and out have room for unicode_room(c, n) characters
 * each; with room 0 the text is composed already, and out stays untouched.  Spans of joined characters are united. */
int  unicode_room(const Char *c, int n);
int  unicode_compose(Char *out, Char *work, const Char *c, int n);
#endif
