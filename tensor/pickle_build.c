#include <stdio.h>
#include <string.h>
#include "tensor/pickle.h"

static const struct { const char *module, *name; int global; } GLOBALS[] = {
    { "torch._utils", "_rebuild_tensor_v2", G_TENSOR },       { "torch._utils", "_rebuild_parameter", G_PARAMETER },
    { "collections", "OrderedDict", G_ORDERED },              { "torch", "FloatStorage", G_STORAGE + T_F32 },
    { "torch", "HalfStorage", G_STORAGE + T_F16 },            { "torch", "BFloat16Storage", G_STORAGE + T_BF16 },
    { "torch", "DoubleStorage", G_STORAGE + T_F64 },          { "torch", "LongStorage", G_STORAGE + T_I64 },
    { "torch", "IntStorage", G_STORAGE + T_I32 },             { "torch", "ShortStorage", G_STORAGE + T_I16 },
    { "torch", "CharStorage", G_STORAGE + T_I8 },             { "torch", "ByteStorage", G_STORAGE + T_U8 },
    { "torch", "BoolStorage", G_STORAGE + T_BOOL },
};

static bool same(const char *wanted, const char *found, size_t n) { return strlen(wanted) == n && !memcmp(wanted, found, n); }

bool pickle_global(Pickle *p, const char *module, size_t m, const char *name, size_t n, Value *to)
{
    for (size_t i = 0; i < sizeof GLOBALS / sizeof *GLOBALS; i++)
        if (same(GLOBALS[i].module, module, m) && same(GLOBALS[i].name, name, n)) {
            *to = (Value){ .kind = V_GLOBAL, .is.i = GLOBALS[i].global };
            return true;
        }
    return pickle_wrong(p, TORCH_GLOBAL_NOT_ALLOWED, "\"%.*s.%.*s\" is not among the names that a checkpoint may use", m < 60 ? (int)m : 60, module, n < 60 ? (int)n : 60, name);
}

/* ---- storages ------------------------------------------------------------------------------------------ */

static bool is_type(Value v) { return v.kind == V_GLOBAL && v.is.i >= G_STORAGE; }

/* Its entry must hold exactly `count` items; the same entry twice must be of one type. */
static bool find_storage(Pickle *p, Value key, Dtype type, int64_t count, Value *to)
{
    Torchfile *f = p->file;
    char name[PICKLE_NAME + 1];
    uint64_t bytes;
    size_t prefix = strlen(p->prefix);
    const char *text = key.is.text, *shown = key.length < 100 ? text : "";
    int n = key.length < 100 ? (int)key.length : 0;
    if (count < 0 || __builtin_mul_overflow((uint64_t)count, (uint64_t)dtype_size(type), &bytes))
        return pickle_wrong(p, TORCH_STORAGE_SIZE, "storage \"%.*s\" of %lld items", n, shown, (long long)count);
    if (prefix + 5 + key.length >= sizeof name || memchr(text, 0, key.length))
        return pickle_wrong(p, TORCH_STORAGE_MISSING, "storage \"%.*s\" is not in the archive", n, shown);
    memcpy(name, p->prefix, prefix);
    memcpy(name + prefix, "data/", 5);
    memcpy(name + prefix + 5, text, key.length);
    name[prefix + 5 + key.length] = 0;
    ZipEntry *e = zip_find(p->zip, name);
    if (!e) return pickle_wrong(p, TORCH_STORAGE_MISSING, "storage \"%.*s\" is not in the archive", n, shown);
    if (e->size != bytes)
        return pickle_wrong(p, TORCH_STORAGE_SIZE, "storage \"%.*s\": %lld items of %s are stated, there are %llu bytes", n, shown, (long long)count,
                            dtype_name(type), (unsigned long long)e->size);
    if (e->use < 0) {
        e->use = f->storages++;
        f->storage[e->use] = (TorchStorage){ e->name, type, (uint64_t)count, e->data, e->crc, false };
    } else if (f->storage[e->use].type != type)
        return pickle_wrong(p, TORCH_STORAGE_CONFLICT, "storage \"%.*s\" is %s here, and was %s before", n, shown, dtype_name(type), dtype_name(f->storage[e->use].type));
    *to = (Value){ .kind = V_STORAGE, .is.i = e->use };
    return true;
}

bool pickle_storage(Pickle *p, Value id, Value *to)       /* ("storage", type, key, location, count) */
{
    const Value *v = id.kind == V_TUPLE && id.is.node->count == 5 ? id.is.node->item : NULL;
    if (!v || v[0].kind != V_TEXT || !same("storage", v[0].is.text, v[0].length) || !is_type(v[1]) || v[2].kind != V_TEXT || v[3].kind != V_TEXT || v[4].kind != V_INT)
        return pickle_wrong(p, TORCH_PERSISTENT_ID, "(\"storage\", type, key, location, count) is wanted");
    return find_storage(p, v[2], (Dtype)(v[1].is.i - G_STORAGE), v[4].is.i, to);
}

/* ---- tensors ------------------------------------------------------------------------------------------- */

static bool all_ints(Value v)
{
    bool good = v.kind == V_TUPLE;
    for (size_t i = 0; good && i < v.is.node->count; i++) good = v.is.node->item[i].kind == V_INT;
    return good;
}

static bool out_of_bounds(const Pickle *p, const char *what) { return pickle_wrong(p, TORCH_TENSOR_BOUNDS, "a tensor %s", what); }

static bool within(const Pickle *p, TorchTensor *t, const TorchStorage *s)
{
    uint64_t last = t->offset, dense = 1, reach;
    t->count = 1;
    t->dense = true;
    for (int i = t->rank; i-- > 0; ) {
        if (__builtin_mul_overflow(t->count, t->size[i], &t->count)) return out_of_bounds(p, "whose number of elements does not fit 64 bits");
        if (t->size[i] > 1 && t->stride[i] != dense) t->dense = false;
        if (t->size[i] && __builtin_mul_overflow(dense, t->size[i], &dense)) return out_of_bounds(p, "whose number of elements does not fit 64 bits");
        if (t->size[i] && (__builtin_mul_overflow(t->size[i] - 1, t->stride[i], &reach) || __builtin_add_overflow(last, reach, &last)))
            return out_of_bounds(p, "that reaches beyond 64 bits");
    }
    t->dense = t->dense || !t->count;
    if (!t->count) return t->offset <= s->count || out_of_bounds(p, "that begins past the end of its storage");
    if (last >= s->count) {
        char what[100];
        snprintf(what, sizeof what, "that reaches element %llu of a storage of %llu", (unsigned long long)last, (unsigned long long)s->count);
        return out_of_bounds(p, what);
    }
    return (t->count - 1) / PICKLE_EXPANSION < s->count || out_of_bounds(p, "that repeats its storage more than 4096 times");
}

static bool sizes_of(const Pickle *p, TorchTensor *t, const Node *sizes, const Node *strides)
{
    if (sizes->count != strides->count || sizes->count > 8) return out_of_bounds(p, "with more than 8 dimensions, or not a stride for each");
    t->rank = (int)sizes->count;
    for (int i = 0; i < t->rank; i++) {
        if (sizes->item[i].is.i < 0 || strides->item[i].is.i < 0) return out_of_bounds(p, "with a negative size or stride");
        t->size[i] = (uint64_t)sizes->item[i].is.i;
        t->stride[i] = (uint64_t)strides->item[i].is.i;
    }
    return true;
}

/* (storage, offset, sizes, strides, requires_grad, hooks[, metadata]).  Metadata can say "negate": refused unless empty. */
static bool rebuild_tensor(Pickle *p, const Value *v, size_t n, Value *to)
{
    bool plain = n == 6 || (n == 7 && (v[6].kind == V_NONE || (v[6].kind == V_DICT && !v[6].is.node->count)));
    if (!plain || v[0].kind != V_STORAGE || v[1].kind != V_INT || !all_ints(v[2]) || !all_ints(v[3]) || v[4].kind != V_BOOL || v[5].kind != V_DICT)
        return pickle_wrong(p, TORCH_BAD_REDUCE, "_rebuild_tensor_v2 wants (storage, offset, sizes, strides, bool, dict)");
    const TorchStorage *s = &p->file->storage[v[0].is.i];
    TorchTensor *t = pickle_take(p, sizeof *t);
    if (!t) return false;
    *t = (TorchTensor){ .type = s->type, .offset = (uint64_t)v[1].is.i, .storage = (int)v[0].is.i };
    if (v[1].is.i < 0) return out_of_bounds(p, "with a negative offset");
    *to = (Value){ .kind = V_TENSOR, .is.tensor = t };
    return sizes_of(p, t, v[2].is.node, v[3].is.node) && within(p, t, s);
}

bool pickle_reduce(Pickle *p, Value callee, Value arguments, Value *to)
{
    if (callee.kind != V_GLOBAL || arguments.kind != V_TUPLE) return pickle_wrong(p, TORCH_BAD_REDUCE, "this is called with what is no tuple, or cannot be called");
    const Value *v = arguments.is.node->item;
    size_t n = arguments.is.node->count;
    switch (callee.is.i) {
    case G_TENSOR: return rebuild_tensor(p, v, n, to);
    case G_PARAMETER:
        if (n != 3 || v[0].kind != V_TENSOR || v[1].kind != V_BOOL || v[2].kind != V_DICT)
            return pickle_wrong(p, TORCH_BAD_REDUCE, "_rebuild_parameter wants (tensor, bool, dict)");
        *to = v[0];
        return true;
    case G_ORDERED:
        if (n) return pickle_wrong(p, TORCH_BAD_REDUCE, "OrderedDict is called with nothing else than ()");
        *to = (Value){ .kind = V_DICT, .is.node = pickle_node(p, 0) };
        if (to->is.node) to->is.node->ordered = true;
        return to->is.node != NULL;
    default: return pickle_wrong(p, TORCH_BAD_REDUCE, "the type of a storage cannot be called");
    }
}
