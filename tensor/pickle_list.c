#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tensor/pickle.h"

enum { NAMES_MOST = 16 };                                 /* bytes of names for a byte of pickle: shared containers must not unfold */

typedef struct { Value v; size_t next; } Level;           /* a container on the way down, and which of its values comes next */

static bool is_container(Value v) { return v.kind >= V_TUPLE; }

/* ---- what the machine cannot see while it builds: containers may be filled after they were put into others ----- */

static int by_key(const void *a, const void *b)
{
    const Value *x = *(const Value *const *)a, *y = *(const Value *const *)b;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->kind == V_INT) return (x->is.i > y->is.i) - (x->is.i < y->is.i);
    int c = memcmp(x->is.text, y->is.text, x->length < y->length ? x->length : y->length);
    return c ? c : (x->length > y->length) - (x->length < y->length);
}

static bool keys_differ(Pickle *p, const Node *n)
{
    size_t keys = n->count / 2, mark = p->scratch->used;
    const Value **key = arena_take(p->scratch, keys * sizeof *key);
    bool ok = true;
    if (!key) return torch_memory(p->refusal);
    for (size_t i = 0; i < keys; i++) key[i] = &n->item[2 * i];
    qsort(key, keys, sizeof *key, by_key);
    for (size_t i = 1; i < keys && ok; i++) {
        if (by_key(&key[i - 1], &key[i])) continue;
        if (key[i]->kind == V_INT) ok = pickle_wrong(p, TORCH_DUPLICATE_KEY, "key %lld twice in a dict", (long long)key[i]->is.i);
        else ok = pickle_wrong(p, TORCH_DUPLICATE_KEY, "key \"%.*s\" twice in a dict", key[i]->length < 100 ? (int)key[i]->length : 100, key[i]->is.text);
    }
    arena_release(p->scratch, mark);
    return ok;
}

static bool finish(Pickle *p, Value v)                    /* all that is beneath is finished */
{
    Node *n = v.is.node;
    n->done = true;
    n->height = 1;
    for (size_t i = v.kind == V_DICT; i < n->count; i += v.kind == V_DICT ? 2 : 1) {
        const Value *c = &n->item[i];
        uint64_t more = c->kind == V_TENSOR ? 1 : is_container(*c) ? c->is.node->tensors : 0;
        if (__builtin_add_overflow(n->tensors, more, &n->tensors)) n->tensors = UINT64_MAX;
        if (is_container(*c) && c->is.node->height >= n->height) n->height = (unsigned char)(c->is.node->height + 1);
    }
    return v.kind != V_DICT || keys_differ(p, n);
}

/* Depth first, each container once; the way down is never longer than PICKLE_DEEPEST. */
static bool check(Pickle *p, Value root)
{
    Level way[PICKLE_DEEPEST];
    int levels = 0;
    if (!is_container(root)) return true;
    way[levels++] = (Level){ root, 0 };
    root.is.node->entered = true;
    while (levels) {
        Level *l = &way[levels - 1];
        if (l->next == l->v.is.node->count) {
            if (!finish(p, l->v)) return false;
            levels--;
            continue;
        }
        Value c = l->v.is.node->item[l->next++];
        if (!is_container(c)) continue;
        Node *n = c.is.node;
        if (n->entered && !n->done) return pickle_wrong(p, TORCH_CYCLE, "a container that holds itself");
        if (levels + (n->done ? n->height : 1) > PICKLE_DEEPEST) return pickle_wrong(p, TORCH_DEPTH, "more than %d containers in each other", PICKLE_DEEPEST);
        if (n->done) continue;
        n->entered = true;
        way[levels++] = (Level){ c, 0 };
    }
    return true;
}

/* ---- the tensors by path ------------------------------------------------------------------------------- */

typedef struct { Pickle *p; Arena *a; char path[PICKLE_NAME + 1]; size_t length, names; } Listing;

/* "/key" behind the path as it is; the length of the whole, SIZE_MAX when it is refused. */
static size_t extended(Listing *l, size_t length, bool first, Value key)
{
    char number[24];
    const char *text = key.is.text;
    size_t n = key.length;
    if (key.kind == V_INT) {
        n = (size_t)snprintf(number, sizeof number, "%lld", (long long)key.is.i);
        text = number;
    }
    if (memchr(text, 0, n) || length + n + 1 > PICKLE_NAME) {
        pickle_wrong(l->p, TORCH_STRING, "a tensor whose name holds a NUL, or is longer than %d bytes", PICKLE_NAME - 1);
        return SIZE_MAX;
    }
    if (!first) l->path[length++] = '/';
    memcpy(l->path + length, text, n);
    l->path[length + n] = 0;
    return length + n;
}

static bool add_tensor(Listing *l, const TorchTensor *t, size_t length)
{
    Torchfile *f = l->p->file;
    l->names += length + 1;
    if (l->names > NAMES_MOST * l->p->size) return pickle_wrong(l->p, TORCH_STRUCTURE, "shared containers whose tensors have more names than the file has bytes");
    char *name = arena_take(l->a, length + 1);
    if (!name) return torch_memory(l->p->refusal);
    f->tensor[f->tensors] = *t;
    f->tensor[f->tensors++].name = memcpy(name, l->path, length + 1);
    return true;
}

static bool walk(Listing *l, Value root)
{
    struct { Level at; size_t length; } way[PICKLE_DEEPEST];
    int levels = 0;
    if (root.kind == V_TENSOR) return add_tensor(l, root.is.tensor, 0);
    if (is_container(root)) way[levels].at = (Level){ root, 0 }, way[levels++].length = 0;
    while (levels) {
        Level *at = &way[levels - 1].at;
        Node *n = at->v.is.node;
        bool dict = at->v.kind == V_DICT;
        if (at->next == n->count) {
            levels--;
            continue;
        }
        Value key = dict ? n->item[at->next++] : (Value){ .kind = V_INT, .is.i = (int64_t)at->next }, v = n->item[at->next++];
        if (v.kind != V_TENSOR && !(is_container(v) && v.is.node->tensors)) continue;        /* so no way down is for nothing */
        size_t length = extended(l, way[levels - 1].length, levels == 1, key);
        if (length == SIZE_MAX) return false;
        if (v.kind == V_TENSOR && !add_tensor(l, v.is.tensor, length)) return false;
        if (v.kind != V_TENSOR) way[levels].at = (Level){ v, 0 }, way[levels++].length = length;
    }
    return true;
}

static int by_name(const void *a, const void *b) { return strcmp(((const TorchTensor *)a)->name, ((const TorchTensor *)b)->name); }

bool pickle_list(Pickle *p, Value root, Arena *a)
{
    Torchfile *f = p->file;
    Listing l = { .p = p, .a = a };
    if (!check(p, root)) return false;
    uint64_t n = is_container(root) ? root.is.node->tensors : root.kind == V_TENSOR;
    if (n > PICKLE_TENSORS || n > p->size) return pickle_wrong(p, TORCH_STRUCTURE, "%llu tensors, at most %d are listed", (unsigned long long)n, PICKLE_TENSORS);
    f->tensor = arena_take(a, (size_t)n * sizeof *f->tensor);
    if (!f->tensor) return torch_memory(p->refusal);
    f->list = root.kind == V_LIST || root.kind == V_TUPLE;
    if (!walk(&l, root)) return false;
    qsort(f->tensor, (size_t)f->tensors, sizeof *f->tensor, by_name);
    for (int i = 1; i < f->tensors; i++)
        if (!by_name(&f->tensor[i - 1], &f->tensor[i])) return pickle_wrong(p, TORCH_DUPLICATE_KEY, "two tensors are called \"%.100s\"", f->tensor[i].name);
    return true;
}
