#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "tensor/torchkind.h"

#define RESAVE "where you trust the file, load it with a current torch, x = torch.load(\"old.pt\", weights_only=False), and save its tensors alone, as torch.save(x[\"state_dict\"], \"new.pt\")"

static const struct { const char *name, *advice; } KIND[TORCH_KINDS] = {
    [TORCH_FINE]                = { "fine", NULL },
    [TORCH_NOT_ZIP]             = { "not_zip", "the file is no checkpoint of torch, or was cut: compare its size with the source's" },
    [TORCH_LEGACY_FORMAT]       = { "legacy_format", "this is the format before torch 1.6: torch.save(torch.load(\"old.pt\", map_location=\"cpu\"), \"new.pt\") with a current torch writes it anew" },
    [TORCH_TORCHSCRIPT]         = { "torchscript", "a TorchScript file is a program; use the model's Hugging Face folder, or torch.save(torch.jit.load(\"old.pt\", \"cpu\").state_dict(), \"new.pt\")" },
    [TORCH_NO_DATA_PKL]         = { "no_data_pkl", NULL },
    [TORCH_AMBIGUOUS]           = { "ambiguous", NULL },
    [TORCH_ZIP_CRC]             = { "zip_crc", "the file is damaged: fetch it again" },
    [TORCH_ZIP_COMPRESSED]      = { "zip_compressed", "torch never compresses: save it again with torch.save" },
    [TORCH_ZIP_DUPLICATE]       = { "zip_duplicate", NULL },
    [TORCH_BAD_NAME]            = { "bad_name", NULL },
    [TORCH_ZIP_BOUNDS]          = { "zip_bounds", "the file is damaged: fetch it again" },
    [TORCH_ZIP_HEADER_MISMATCH] = { "zip_header_mismatch", "the file is damaged: fetch it again" },
    [TORCH_ZIP_FLAGS]           = { "zip_flags", NULL },
    [TORCH_BYTEORDER]           = { "byteorder", "save it again on a little-endian machine" },
    [TORCH_GLOBAL_NOT_ALLOWED]  = { "global_not_allowed", RESAVE },
    [TORCH_OPCODE]              = { "opcode", RESAVE },
    [TORCH_PROTOCOL]            = { "protocol", "save it again with torch.save, whose pickle protocol is 2" },
    [TORCH_BAD_BUILD]           = { "bad_build", RESAVE },
    [TORCH_BAD_REDUCE]          = { "bad_reduce", RESAVE },
    [TORCH_TRUNCATED_PICKLE]    = { "truncated_pickle", NULL },
    [TORCH_STACK]               = { "stack", NULL },
    [TORCH_MEMO]                = { "memo", NULL },
    [TORCH_INTEGER]             = { "integer", NULL },
    [TORCH_STRING]              = { "string", NULL },
    [TORCH_DEPTH]               = { "depth", NULL },
    [TORCH_CYCLE]               = { "cycle", NULL },
    [TORCH_STRUCTURE]           = { "structure", NULL },
    [TORCH_DUPLICATE_KEY]       = { "duplicate_key", NULL },
    [TORCH_PERSISTENT_ID]       = { "persistent_id", NULL },
    [TORCH_TENSOR_BOUNDS]       = { "tensor_bounds", NULL },
    [TORCH_STORAGE_SIZE]        = { "storage_size", NULL },
    [TORCH_STORAGE_MISSING]     = { "storage_missing", NULL },
    [TORCH_STORAGE_CONFLICT]    = { "storage_conflict", NULL },
};

const char *torch_kind_name(TorchKind k) { return KIND[k].name; }

bool torch_refuse(Refusal *r, TorchKind k, const char *format, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (r->status->code == OK) r->kind = k;
    status_fail(r->status, E_FORMAT, "%s: %s: %s", r->file, KIND[k].name, text);
    return false;
}

bool torch_memory(Refusal *r)
{
    status_fail(r->status, E_MEMORY, "%s: no memory for its list of tensors", r->file);
    return false;
}

const char *torch_advice(const Status *s)
{
    char mark[40];
    for (int k = 1; k < TORCH_KINDS && s->code == E_FORMAT; k++) {
        snprintf(mark, sizeof mark, ": %s: ", KIND[k].name);
        if (strstr(s->text, mark)) return KIND[k].advice;
    }
    return NULL;
}
