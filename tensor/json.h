/* json.h -- a strict JSON reader for hostile input (RFC 8259), and a small writer.
 * Rejected: anything outside the grammar, duplicate keys, nesting deeper than `deepest`, invalid UTF-8, lone
 * surrogates, trailing text, more than 4 194 304 values (a node takes 64 bytes: hostile text cannot ask for more
 * than 256 MiB beside its own size).  Numbers keep their text: integers are read exactly, never through double.
 * "\u0000" is legal in a string: lengths count, and text with one inside equals no C string. */
#ifndef TENSOR_JSON_H
#define TENSOR_JSON_H
#include <stdint.h>
#include "tensor/run.h"

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;
typedef struct Json Json;
struct Json {
    JsonKind kind;
    const char *key;                                      /* of a member of an object; NUL-terminated */
    size_t key_length;
    const char *text;                                     /* string (decoded UTF-8) or the number's digits; NUL-terminated */
    size_t length;
    int count;                                            /* children of an array or object */
    const Json *child, *next;                             /* first child; next sibling */
};

/* Parse bytes into the arena.  NULL with E_FORMAT ("NAME: byte 17: a colon is wanted") or E_MEMORY on failure; what was
 * taken from the arena is then the caller's to release.  Keys are compared by sorting: n log n, whatever they are. */
const Json *json_parse(Arena *a, const char *bytes, size_t size, int deepest, const char *name, Status *s);
const Json *json_load(Arena *a, const char *path, Status *s);        /* a file of at most 64 MiB, depth 64 */

const Json *json_get(const Json *object, const char *key);           /* NULL: absent, or not an object */
const Json *json_at (const Json *array, int i);
/* These give false, and leave *v alone, when j is NULL, of another kind or out of range. */
bool   json_u64   (const Json *j, uint64_t *v);                      /* an unsigned integer, exactly; no sign, fraction, exponent */
bool   json_int   (const Json *j, int *v);                           /* may have a minus; no fraction, no exponent */
bool   json_number(const Json *j, double *v);                        /* finite */
bool   json_bool  (const Json *j, bool *v);
bool   json_is    (const Json *j, const char *text);                 /* a string equal to text */

bool   utf8_valid(const char *text);                      /* well-formed: no overlong form, no surrogate, at most U+10FFFF */
bool   utf8_valid_bytes(const char *text, size_t bytes);  /* the same of a text that may hold NUL */

/* Writer: appends to a growing buffer (start from a zeroed JsonOut; `bytes` is NUL-terminated once something is written);
 * numbers with 9 (float) or 17 digits as asked, NaN and infinity as null; a byte that is not UTF-8 as U+FFFD.
 * failed: memory ran out, nothing more is appended. */
typedef struct { char *bytes; size_t size, room; bool failed; int depth; bool comma; } JsonOut;
void json_open  (JsonOut *o, const char *key, char bracket);         /* '{' or '['; key NULL inside arrays and at the top */
void json_close (JsonOut *o, char bracket);                          /* '}' or ']' */
void json_text  (JsonOut *o, const char *key, const char *text);
void json_integer(JsonOut *o, const char *key, int64_t v);
void json_real  (JsonOut *o, const char *key, double v, int digits);
void json_truth (JsonOut *o, const char *key, bool v);
void json_null  (JsonOut *o, const char *key);
void json_free  (JsonOut *o);
#endif
