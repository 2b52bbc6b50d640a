/* safetensors.h -- the file format of weights and traces: u64 N, N bytes of JSON, then the data.
 * The reader trusts nothing: every rule is checked before the first byte of data is read, and the first
 * broken one is reported with file and tensor.  Rank is at most 8 in the file, at most 4 for tensors read. */
#ifndef TENSOR_SAFETENSORS_H
#define TENSOR_SAFETENSORS_H
#include "tensor/file.h"

typedef enum { T_F64, T_F32, T_F16, T_BF16, T_I64, T_I32, T_I16, T_I8, T_U8, T_BOOL, T_U16, T_U32, T_U64 } Dtype;
size_t dtype_size(Dtype t);
const char *dtype_name(Dtype t);
void dtype_to_real(Dtype t, const unsigned char *from, size_t n, real *to);          /* F64 F32 F16 BF16 */
void dtype_to_i64 (Dtype t, const unsigned char *from, size_t n, int64_t *to);       /* the others */

typedef struct {
    const char *name;                                     /* UTF-8, NUL-terminated */
    Dtype    type;
    int      rank;
    uint64_t size[8];
    uint64_t count, offset;                               /* elements; position in the file */
} SafeEntry;

typedef struct {
    File file;
    Arena *arena;                                         /* holds entries and metadata */
    SafeEntry *entry;                                     /* in order of name */
    int entries;
    const char *const *meta;                              /* key, value, key, value, ... */
    int metas;                                            /* number of pairs */
} Safetensors;

bool safetensors_open (Safetensors *f, Arena *a, const char *path, Status *s);
void safetensors_close(Safetensors *f);
const SafeEntry *safetensors_find(const Safetensors *f, const char *name);           /* NULL: not there */
bool safetensors_shape(const SafeEntry *e, Shape *shape);            /* false when rank > 4 or a size is 0 or > INT_MAX; rank 0 gives [1] */
/* All elements converted to real (F64 F32 F16 BF16 only; subnormals, inf and nan kept) in the file's order. */
bool safetensors_read (const Safetensors *f, const SafeEntry *e, real *to, Status *s);
/* The same for elements first .. first + count only. */
bool safetensors_read_part(const Safetensors *f, const SafeEntry *e, uint64_t first, uint64_t count, real *to, Status *s);
bool safetensors_read_i64(const Safetensors *f, const SafeEntry *e, int64_t *to, Status *s);   /* integer types only */
bool safetensors_bytes(const Safetensors *f, const SafeEntry *e, void *to, Status *s);         /* as stored */

/* Writer.  Order in the file: larger items first, then by name (so every tensor is aligned to its item); the header is
 * padded with blanks to a multiple of 8: the layout of the reference writer.  from: reals when is_real (rounded to
 * nearest even into F64 F32 F16 BF16), else numbers of exactly that type (int64_t for T_I64, uint8_t for T_BOOL ...).
 * Names: UTF-8, at most 1024 bytes, all different, not "__metadata__"; else E_OPTION.  Failed writing: E_WRITE, nothing is left behind. */
typedef struct { const char *name; Dtype type; int rank; int size[8]; const void *from; bool is_real; } SafeOut;
bool safetensors_save(const char *path, const SafeOut *t, int n, const char *const *meta, int metas, Status *s);

/* The same in parts, for what is never in memory as a whole.  begin sorts t into the order of the file; then the
 * elements of t[0], t[1], ... are put, in any portions that do not straddle two tensors; finish checks that all came. */
typedef struct { FileOut out; const SafeOut *t; int n, at; uint64_t done; } SafeWriter;
bool safetensors_begin (SafeWriter *w, const char *path, SafeOut *t, int n, const char *const *meta, int metas, Status *s);
bool safetensors_put   (SafeWriter *w, const void *from, uint64_t count, Status *s);
bool safetensors_finish(SafeWriter *w, Status *s);
void safetensors_abandon(SafeWriter *w);                             /* safe at any time */
#endif
