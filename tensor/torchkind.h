/* torchkind.h -- why a .pt file is refused.  A closed list, in the order in which the checks are made. */
#ifndef TENSOR_TORCHKIND_H
#define TENSOR_TORCHKIND_H
#include "tensor/run.h"

typedef enum {
    TORCH_FINE,                                           /* or what failed is no fault of the format: see the status */
    TORCH_NOT_ZIP, TORCH_LEGACY_FORMAT, TORCH_TORCHSCRIPT, TORCH_NO_DATA_PKL, TORCH_AMBIGUOUS, TORCH_ZIP_CRC, TORCH_ZIP_COMPRESSED,
    TORCH_ZIP_DUPLICATE, TORCH_BAD_NAME, TORCH_ZIP_BOUNDS, TORCH_ZIP_HEADER_MISMATCH, TORCH_ZIP_FLAGS, TORCH_BYTEORDER,
    TORCH_GLOBAL_NOT_ALLOWED, TORCH_OPCODE, TORCH_PROTOCOL, TORCH_BAD_BUILD, TORCH_BAD_REDUCE, TORCH_TRUNCATED_PICKLE, TORCH_STACK,
    TORCH_MEMO, TORCH_INTEGER, TORCH_STRING, TORCH_DEPTH, TORCH_CYCLE, TORCH_STRUCTURE, TORCH_DUPLICATE_KEY, TORCH_PERSISTENT_ID,
    TORCH_TENSOR_BOUNDS, TORCH_STORAGE_SIZE, TORCH_STORAGE_MISSING, TORCH_STORAGE_CONFLICT, TORCH_KINDS
} TorchKind;

typedef struct { const char *file; TorchKind kind; Status *status; } Refusal;

const char *torch_kind_name(TorchKind k);                 /* "zip_crc" */
/* Keeps the first: E_FORMAT "FILE: KIND: text".  Gives false. */
bool torch_refuse(Refusal *r, TorchKind k, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool torch_memory(Refusal *r);                            /* E_MEMORY, and false */
const char *torch_advice(const Status *s);                /* what to do about a refusal with this text; NULL: nothing special */
#endif
