#include <string.h>
#include "nn/param_parts.h"

static void rows_to_file(real *to, const real *from, size_t rows, const Param *p)
{
    size_t I = (size_t)p->size[1], K = (size_t)p->size[2] * (size_t)p->size[3];
    for (size_t o = 0; o < rows; o++, to += I * K, from += I * K)
        for (size_t i = 0; i < I; i++)
            for (size_t k = 0; k < K; k++) to[i * K + k] = from[k * I + i];
}

void param_to_file_order(real *to, Tensor t, const Param *p)
{
    if (param_permuted(p)) rows_to_file(to, t.x, (size_t)p->size[0], p);
    else memcpy(to, t.x, tensor_count(t) * sizeof *to);
}

typedef struct { SafeOut *out; int n; Dtype type; Arena *scratch; Status *status; } Save;

/* Further parts of a fused tensor join the entry that part 0 made. */
static void join(Save *v, const Param *p, const char *name)
{
    int i = v->n - 1;
    while (i >= 0 && strcmp(v->out[i].name, name)) i--;
    const Param **part = i < 0 ? NULL : (const Param **)v->out[i].from;
    if (part) part[p->part] = p;
}

static void describe_visit(Walk *w, Param *p, const char *name)
{
    Save *v = w->self;
    size_t n = strlen(name) + 1, parts = p->parts > 1 ? (size_t)p->parts : 1;
    char *copy = arena_take(v->scratch, n);
    const Param **part = arena_take(v->scratch, parts * sizeof *part);
    if (!copy || !part) status_fail(v->status, E_MEMORY, "no memory to save weights");
    else if (!p->v.x) status_fail(v->status, E_OPTION, "%s has no value to save", name);
    else if (p->layout == WINOGRAD) status_fail(v->status, E_OPTION, "%s is held as transformed kernels, which cannot be saved: load it unplanned", name);
    if (v->status->code != OK) return;
    if (p->part) {
        join(v, p, name);
        return;
    }
    SafeOut *o = &v->out[v->n++];
    *o = (SafeOut){ .name = memcpy(copy, name, n), .type = v->type, .rank = p->rank, .from = part, .is_real = true };
    memcpy(o->size, p->size, (size_t)p->rank * sizeof *p->size);
    o->size[0] *= p->rank ? (int)parts : 1;
    if (p->layout == TRANSPOSED) o->size[0] = p->size[1], o->size[1] = p->size[0];
    memset(part, 0, parts * sizeof *part);
    part[0] = p;
}

static bool put_parts(SafeWriter *w, const Param *const part[], Status *s)
{
    int parts = part[0]->parts, blocks = part[0]->size[0] / part[0]->block;
    size_t n = tensor_count(part[0]->v) / (size_t)blocks;
    for (int b = 0; b < blocks; b++)
        for (int i = 0; i < parts; i++)
            if (!safetensors_put(w, part[i]->v.x + (size_t)b * n, n, s)) return false;
    return true;
}

static bool put_transposed(SafeWriter *w, const Param *p, real *batch, Status *s)
{
    size_t O = (size_t)p->size[0], I = (size_t)p->size[1];
    for (size_t i = 0; i < I; i++) {
        for (size_t o = 0; o < O; o++) batch[o] = p->v.x[o * I + i];
        if (!safetensors_put(w, batch, O, s)) return false;
    }
    return true;
}

static bool put_param(SafeWriter *w, const Param *const part[], real *batch, Status *s)
{
    const Param *p = part[0];
    for (int i = 1; i < p->parts; i++)
        if (!part[i]) status_fail(s, E_OPTION, "part %d of a fused tensor was not walked", i);
    if (s->code != OK) return false;
    if (p->parts > 1) return put_parts(w, part, s);
    if (p->layout == TRANSPOSED) return put_transposed(w, p, batch, s);
    if (!param_permuted(p)) return safetensors_put(w, p->v.x, tensor_count(p->v), s);
    size_t O = (size_t)p->size[0], row = tensor_count(p->v) / O, rows = row < PARAM_BATCH ? PARAM_BATCH / row : 1;
    for (size_t o = 0; o < O; o += rows) {
        if (rows > O - o) rows = O - o;
        rows_to_file(batch, p->v.x + o * row, rows, p);
        if (!safetensors_put(w, batch, rows * row, s)) return false;
    }
    return true;
}

bool params_save(WalkModel *walk, void *model, const char *path, Dtype type, Arena *scratch, Status *s)
{
    static const char *const meta[] = { "format", "pt" };                    /* without it other programs refuse the file */
    SafeWriter w = { .out = { .fd = -1 } };
    Save v = { .type = type, .scratch = scratch, .status = s };
    size_t mark = scratch->used;
    int tensors;
    params_count(walk, model, &tensors);
    v.out = arena_take(scratch, (size_t)tensors * sizeof *v.out);
    real *numbers = params_batch(walk, model, scratch, s);
    if (!v.out || !numbers) status_fail(s, E_MEMORY, "%s: no memory to save weights", path);
    else params_each(walk, model, describe_visit, &v);
    bool ok = s->code == OK && safetensors_begin(&w, path, v.out, v.n, meta, 1, s);
    for (int i = 0; i < v.n && ok; i++) ok = put_param(&w, v.out[i].from, numbers, s);
    ok = ok && safetensors_finish(&w, s);
    if (!ok) safetensors_abandon(&w);
    arena_release(scratch, mark);
    return ok;
}
