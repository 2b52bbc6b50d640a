/* torchfile.h -- checkpoints as torch.save writes them (.pt, .pth, .ckpt; torch 1.6 and later): a zip archive with a pickle that
 * names tensors, and their numbers.  The pickle is interpreted by a machine (pickle.h) that knows 34 opcodes and 13 names, and
 * builds tensors and plain containers; it imports, calls and executes nothing.  Whatever is not in those lists is refused, with
 * kind (torchkind.h), opcode and place.  Every size is checked against the file before memory is taken for it. */
#ifndef TENSOR_TORCHFILE_H
#define TENSOR_TORCHFILE_H
#include "tensor/safetensors.h"
#include "tensor/torchkind.h"

typedef struct {
    const char *name;                                     /* keys and places in lists joined by '/': "teacher/backbone.cls_token", "4/a" */
    Dtype    type;
    int      rank;
    uint64_t size[8], stride[8];                          /* in elements; a view may be transposed, strided, expanded */
    uint64_t count, offset;                               /* elements; the first one's place in its storage */
    int      storage;
    bool     dense;                                       /* in row-major order without holes */
} TorchTensor;

typedef struct { const char *name; Dtype type; uint64_t count, at; uint32_t crc; bool checked; } TorchStorage;

typedef struct {
    File file;
    Arena *arena;                                         /* holds what follows */
    TorchTensor *tensor;                                  /* in order of name; several may share a storage */
    int tensors;
    TorchStorage *storage;
    int storages;
    bool list;                                            /* the whole is a list or tuple */
    TorchKind refused;                                    /* why opening or reading failed */
    Arena cache;                                          /* one storage, while views of it are gathered */
    unsigned char *held;
    int cached;                                           /* which; -1: none */
} Torchfile;

/* No storage is read.  E_FILE, E_MEMORY, or E_FORMAT with f->refused set. */
bool torchfile_open (Torchfile *f, Arena *a, const char *path, Status *s);
void torchfile_close(Torchfile *f);
const TorchTensor *torchfile_find(const Torchfile *f, const char *name);             /* NULL: not there */
bool torchfile_verify(Torchfile *f, Status *s);           /* CRC-32 of every storage that a tensor uses */
/* Elements first .. first + count of the tensor in row-major order.  The first reading of a storage checks its CRC-32.
 * read_part: converted to real (F64 F32 F16 BF16 only); read_i64: the other types; bytes: as stored. */
bool torchfile_read_part(Torchfile *f, const TorchTensor *t, uint64_t first, uint64_t count, real *to, Status *s);
bool torchfile_read     (Torchfile *f, const TorchTensor *t, real *to, Status *s);
bool torchfile_read_i64 (Torchfile *f, const TorchTensor *t, int64_t *to, Status *s);
bool torchfile_bytes    (Torchfile *f, const TorchTensor *t, uint64_t first, uint64_t count, void *to, Status *s);
#endif
