/* pickle.h -- the machine behind torchfile.h: pickle protocol 2 (PEP 307), as far as a checkpoint needs it.
 *
 * Opcodes, all there are:  } ] ) ( t 85 86 87 N 88 89 K M J 8a G X U T q r h j 0 a e s u c Q R b .
 * Names, all there are:    torch._utils._rebuild_tensor_v2   torch._utils._rebuild_parameter   collections.OrderedDict
 *                          torch.{Float,Half,BFloat16,Double,Long,Int,Short,Char,Byte,Bool}Storage
 * A name is compared as bytes and becomes a number; "calling" it is a case in a switch.
 * Nothing recurses.  Memory: 16 bytes for a value on the stack, in a container, in the memo; 48 for a container, 176 for a tensor:
 * at most a hundred times the pickle, which is at most 16 MiB. */
#ifndef TENSOR_PICKLE_H
#define TENSOR_PICKLE_H
#include "tensor/torchfile.h"
#include "tensor/zip.h"

enum { PICKLE_DEEPEST = 64, PICKLE_LARGEST = 1 << 24, PICKLE_TENSORS = 200000, PICKLE_NAME = 1024, PICKLE_EXPANSION = 4096 };

typedef enum { V_NOTHING, V_NONE, V_BOOL, V_INT, V_FLOAT, V_TEXT, V_GLOBAL, V_STORAGE, V_TENSOR, V_TUPLE, V_LIST, V_DICT } ValueKind;
typedef enum { G_TENSOR, G_PARAMETER, G_ORDERED, G_STORAGE } Global;         /* G_STORAGE + Dtype */

typedef struct Node Node;
typedef struct {
    ValueKind kind;
    uint32_t length;                                      /* of a text */
    union { int64_t i; double x; const char *text; Node *node; const TorchTensor *tensor; } is;       /* i: also bool, global, storage */
} Value;

struct Node {                                             /* a tuple, list or dict */
    Value *item;                                          /* of a dict: key, value, key, value, ... */
    size_t count, room;                                   /* values */
    uint64_t tensors;                                     /* beneath it, over all paths; known when it is done */
    unsigned char height;                                 /* containers on the longest way down, this one counted */
    bool ordered, entered, done;                          /* OrderedDict; states of the walk at the end */
};

typedef struct {
    Refusal *refusal;
    Torchfile *file;                                      /* storages are added to it */
    const Zip *zip;
    const char *prefix;                                   /* of the entries' names, with its slash */
    Arena *scratch;
    char *shelf;                                          /* what is left of the last piece taken */
    size_t shelf_left;
    const unsigned char *code;
    size_t size, at, start;                               /* start: of this operation */
    Value *stack;
    size_t depth, room;
    size_t *mark;                                         /* heights of the stack */
    size_t marks, mark_room;
    Value *memo;
    size_t memo_room;
} Pickle;

/* pickle.c: all opcodes.  The one value that is left at the end. */
bool pickle_run(Pickle *p, Value *result);
/* An error at this operation: "..., at byte 17 of data.pkl, opcode REDUCE".  Gives false. */
bool pickle_wrong(const Pickle *p, TorchKind k, const char *format, ...) __attribute__((format(printf, 3, 4)));
void *pickle_take(Pickle *p, size_t bytes);               /* NULL, with the status set, when memory is short */
Node *pickle_node(Pickle *p, size_t room);

/* pickle_build.c: what the names stand for. */
bool pickle_global(Pickle *p, const char *module, size_t m, const char *name, size_t n, Value *to);
bool pickle_storage(Pickle *p, Value id, Value *to);
bool pickle_reduce(Pickle *p, Value callee, Value arguments, Value *to);

/* pickle_list.c: no cycles, not too deep, no key twice; and the tensors by path, into p->file. */
bool pickle_list(Pickle *p, Value root, Arena *a);
#endif
