#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nn/weights.h"
#include "tensor/json.h"

enum { MOST_SHARDS = 500, LONGEST_PATH = 1000 };

static bool failed(Weights *w)
{
    weights_close(w);
    return false;
}

static bool room_for(Weights *w, int files, const char *path, Status *s)
{
    w->file = arena_take(&w->arena, (size_t)files * sizeof *w->file);
    if (!w->file) status_fail(s, E_MEMORY, "%s: no memory for its header", path);
    return w->file != NULL;
}

static bool ends(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n > m && !strcmp(path + n - m, ending);
}

static const char *const PICKLE[] = { ".pt", ".pth", ".ckpt", ".bin" };
enum { PICKLES = sizeof PICKLE / sizeof *PICKLE, BY_NAME_ALONE = 3 };        /* .bin may be anything: not without its usual name */

bool weights_is_torch(const char *path)
{
    File f;
    Status s = {0};
    char start[4] = "";
    for (int i = 0; i < PICKLES; i++)
        if (ends(path, PICKLE[i])) return true;
    bool zip = file_open(&f, path, &s) && f.size >= 4 && file_read(&f, start, 0, 4, &s) && !memcmp(start, "PK\3\4", 4);
    file_close(&f);
    return zip;
}

static bool open_torch(Weights *w, const char *path, Status *s)
{
    w->torch = arena_take(&w->arena, sizeof *w->torch);
    if (!w->torch) status_fail(s, E_MEMORY, "%s: no memory for its header", path);
    else if (torchfile_open(w->torch, &w->arena, path, s)) return true;
    w->torch = NULL;
    return false;
}

bool weights_open_branch(Weights *w, const char *path, const char *branch, const char *strip, Status *s)
{
    *w = (Weights){ .files = 0 };
    if (!room_for(w, 1, path, s)) return failed(w);
    if (weights_is_torch(path)) {
        if (open_torch(w, path, s) && weights_branch(w, branch, s) && weights_strip(w, strip, s)) return true;
        return failed(w);
    }
    if (branch) status_fail(s, E_OPTION, "%.200s: a safetensors file has no branches; \"%.60s\" is wanted", path, branch);
    if (s->code != OK || !safetensors_open(&w->file[0], &w->arena, path, s)) return failed(w);
    w->files = 1;
    return !strip || weights_strip(w, strip, s) || failed(w);
}

bool weights_open_file(Weights *w, const char *path, Status *s) { return weights_open_branch(w, path, NULL, NULL, s); }

/* ---- several files behind an index --------------------------------------------------------------------- */

typedef struct { const char *index, *folder; const Json **pair; int pairs; Status *status; } Index;

static bool wrong(const Index *x, const char *what, const char *name)
{
    status_fail(x->status, E_FORMAT, "%.200s: %s \"%.160s\"", x->index, what, name);
    return false;
}

static bool plain_name(const Json *file)                  /* of a file in this very folder */
{
    return file->kind == JSON_STRING && file->length && file->length < 256 && strlen(file->text) == file->length
        && !strpbrk(file->text, "/\\") && !strstr(file->text, "..");
}

static int by_file(const void *a, const void *b)
{
    return strcmp((*(const Json *const *)a)->text, (*(const Json *const *)b)->text);
}

static bool read_pairs(Index *x, Arena *a, const Json *top)
{
    const Json *map = json_get(top, "weight_map");
    if (!map || map->kind != JSON_OBJECT || !map->count) return wrong(x, "no tensors in", "weight_map");
    x->pair = arena_take(a, (size_t)map->count * sizeof *x->pair);
    if (!x->pair) {
        status_fail(x->status, E_MEMORY, "%s: no memory for its tensors", x->index);
        return false;
    }
    for (const Json *c = map->child; c; c = c->next) {
        if (strlen(c->key) != c->key_length) return wrong(x, "NUL in the name of tensor", c->key);
        if (!plain_name(c)) return wrong(x, "no name of a file in this folder is given for tensor", c->key);
        x->pair[x->pairs++] = c;
    }
    qsort(x->pair, (size_t)x->pairs, sizeof *x->pair, by_file);
    return true;
}

static bool open_shard(Index *x, Weights *w, int from, int to)               /* the pairs that name one file */
{
    char path[LONGEST_PATH];
    const char *leaf = x->pair[from]->text;
    Safetensors *f = &w->file[w->files];
    if (snprintf(path, sizeof path, "%s/%s", x->folder, leaf) >= (int)sizeof path) return wrong(x, "too long a path:", leaf);
    if (!file_exists(path)) {
        status_fail(x->status, E_FILE, "%.200s: names %.160s, which is not in the folder", x->index, leaf);
        return false;
    }
    if (!safetensors_open(f, &w->arena, path, x->status)) return false;
    w->files++;
    for (int i = from; i < to; i++)
        if (!safetensors_find(f, x->pair[i]->key)) {
            status_fail(x->status, E_FORMAT, "%.160s: tensor \"%.140s\" shall be in %.100s, which has none of that name", x->index, x->pair[i]->key, leaf);
            return false;
        }
    return true;
}

static bool held_once(const Index *x, const Weights *w)
{
    for (int i = 0; i < w->files; i++)
        for (int k = 0; k < w->file[i].entries; k++)
            for (int j = i + 1; j < w->files; j++)
                if (safetensors_find(&w->file[j], w->file[i].entry[k].name))
                    return wrong(x, "two of its files hold a tensor", w->file[i].entry[k].name);
    return true;
}

static bool open_shards(Index *x, Weights *w)
{
    int shards = 1;
    for (int i = 1; i < x->pairs; i++) shards += by_file(&x->pair[i - 1], &x->pair[i]) != 0;
    if (shards > MOST_SHARDS) {
        status_fail(x->status, E_FORMAT, "%s: %d files, at most %d are read", x->index, shards, MOST_SHARDS);
        return false;
    }
    if (!room_for(w, shards, x->index, x->status)) return false;
    for (int from = 0, to; from < x->pairs; from = to) {
        for (to = from + 1; to < x->pairs && !by_file(&x->pair[from], &x->pair[to]); ) to++;
        if (!open_shard(x, w, from, to)) return false;
    }
    return held_once(x, w);
}

static bool open_index(Weights *w, const char *folder, const char *path, Status *s)
{
    *w = (Weights){ .files = 0 };
    Arena scratch = {0};
    Index x = { .index = path, .folder = folder, .status = s };
    const Json *top = json_load(&scratch, path, s);
    bool ok = top && read_pairs(&x, &scratch, top) && open_shards(&x, w);
    arena_free(&scratch);
    return ok || failed(w);
}

/* ---- a folder ------------------------------------------------------------------------------------------ */

static bool in_folder(char path[LONGEST_PATH], const char *folder, const char *stem, const char *ending)
{
    return snprintf(path, LONGEST_PATH, "%s/%s%s", folder, stem, ending) < LONGEST_PATH && file_exists(path);
}

bool weights_open(Weights *w, const char *folder, const char *stem, Status *s)
{
    static const char *const ending[] = { ".safetensors", ".safetensors.index.json", ".fp16.safetensors", ".bf16.safetensors", ".non_ema.safetensors" };
    char path[LONGEST_PATH];
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
        if (in_folder(path, folder, stem, ending[i]))
            return i == 1 ? open_index(w, folder, path, s) : weights_open_file(w, path, s);
    *w = (Weights){ .files = 0 };
    if (!folder_exists(folder)) {
        status_fail(s, E_FILE, "%.300s: no such folder", folder);
        return false;
    }
    for (int i = 0; i < 2 * PICKLES; i++)
        if (in_folder(path, folder, i % 2 ? "pytorch_model" : stem, PICKLE[i / 2])) return weights_open_file(w, path, s);
    int n = folder_find(folder, PICKLE, BY_NAME_ALONE, path, sizeof path);
    if (n == 1) return weights_open_file(w, path, s);
    if (n > 1) status_fail(s, E_FILE, "%.250s: %d checkpoints (.pt, .pth, .ckpt) in this folder, one is wanted", folder, n);
    else status_fail(s, E_FILE, "%.250s: no %s.safetensors (nor .safetensors.index.json, .fp16., .bf16., .non_ema.) and no checkpoint (.pt, .pth, .ckpt, .bin) in this folder", folder, stem);
    return false;
}

void weights_close(Weights *w)
{
    for (int i = 0; i < w->files; i++) safetensors_close(&w->file[i]);
    if (w->torch) torchfile_close(w->torch);
    arena_free(&w->arena);
    w->file = NULL;
    w->torch = NULL;
    w->files = 0;
}

const SafeEntry *weights_find(const Weights *w, const char *name, const Safetensors **in)
{
    for (int i = 0; i < w->files; i++) {
        const SafeEntry *e = safetensors_find(&w->file[i], name);
        if (!e) continue;
        if (in) *in = &w->file[i];
        return e;
    }
    return NULL;
}

bool weights_read_part(const Weights *w, const Safetensors *in, const SafeEntry *e, uint64_t first, uint64_t count, real *to, Status *s)
{
    if (w->torch) return torchfile_read_part(w->torch, &w->torch->tensor[e->offset], first, count, to, s);
    return safetensors_read_part(in, e, first, count, to, s);
}

bool weights_bytes(const Weights *w, const Safetensors *in, const SafeEntry *e, uint64_t first, uint64_t count, void *to, Status *s)
{
    size_t width = dtype_size(e->type);
    if (w->torch) return torchfile_bytes(w->torch, &w->torch->tensor[e->offset], first, count, to, s);
    if (first > e->count || count > e->count - first) status_fail(s, E_SHAPE, "%s: tensor \"%.160s\": elements past its end", in->file.name, e->name);
    return s->code == OK && file_read(&in->file, to, e->offset + first * width, (size_t)count * width, s);
}
