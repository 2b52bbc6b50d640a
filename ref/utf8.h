/* utf8.h -- reading text one character at a time (RFC 3629: no overlong forms, no surrogates). */
#ifndef REF_UTF8_H
#define REF_UTF8_H
#include <stdint.h>

int32_t utf8_next(const char **p);                        /* moves past a character; 0 at the end (stays), -1: not UTF-8 (stays) */
#endif
