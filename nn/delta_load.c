#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nn/delta.h"

static void walk_first(void *delta, Walk *w)              /* as the authors' checkpoints hold the first of their blocks */
{
    size_t mark = walk_enter(w, "0");
    delta_walk(delta, w);
    walk_leave(w, mark);
}

static const SafeEntry *entry_of(const Weights *w, const char *under, const char *name)
{
    char full[80];
    snprintf(full, sizeof full, "%s%s", under, name);
    return weights_find(w, full, NULL);
}

/* Kind and widths from the shapes of the first 1x1 convolution and of the time's linear layer. */
static bool config_of(DeltaConfig *c, const Weights *w, const char *under, int groups)
{
    const SafeEntry *ddpm = entry_of(w, under, "conv1.weight"), *adm = entry_of(w, under, "in_layers.2.weight");
    const SafeEntry *time = entry_of(w, under, adm ? "emb_layers.1.weight" : "temb_proj.weight"), *first = adm ? adm : ddpm;
    if (!first || !time || first->rank < 2 || time->rank != 2 || first->size[0] > INT_MAX || time->size[1] > INT_MAX) return false;
    *c = (DeltaConfig){ adm ? DELTA_ADM : DELTA_DDPM, (int)first->size[0], (int)time->size[1], groups };
    return true;
}

static bool load_block(Delta *d, Weights *w, const DeltaConfig *c, bool first, Arena *weights, Status *s)
{
    LoadReport report = {0};
    return delta_build(d, c, s) && params_load(first ? walk_first : delta_walk, d, w, weights, &report, s);
}

/* ---- a tensor per time ---- */

static bool is_time(const SafeEntry *e, int *t)
{
    char *end;
    long v = strtol(e->name, &end, 10);
    *t = (int)v;
    return end != e->name && !*end && v >= 0 && v < 1000000 && (e->rank == 3 || (e->rank == 4 && e->size[0] == 1));
}

typedef struct { const Safetensors *file; const SafeEntry *entry; int t; } Row;

static int by_time(const void *a, const void *b) { return ((const Row *)a)->t - ((const Row *)b)->t; }

static int rows_of(Row *row, const Weights *w)
{
    int n = 0, t;
    for (int f = 0; f < w->files; f++)
        for (int i = 0; i < w->file[f].entries; i++)
            if (is_time(&w->file[f].entry[i], &t)) {
                if (row) row[n] = (Row){ &w->file[f], &w->file[f].entry[i], t };
                n++;
            }
    return n;
}

static bool load_table(Delta *d, const Weights *w, Row *row, int n, const char *path, Arena *weights, Status *s)
{
    Run r = { .status = *s };
    const uint64_t *size = row->entry->size + (row->entry->rank == 4);
    if (size[0] > INT_MAX || size[1] > INT_MAX || size[2] > INT_MAX) run_fail(&r, E_FORMAT, "%.300s: a delta of impossible size", path);
    *d = (Delta){ .config = { .kind = DELTA_TABLE, .channels = (int)size[0] }, .times = n };
    d->table = run_ok(&r) ? tensor_in(&r, weights, SHAPE(n, (int)size[0], (int)size[1], (int)size[2])) : (Tensor){0};
    d->time_of = run_ok(&r) ? arena_take(weights, (size_t)n * sizeof *d->time_of) : NULL;
    if (run_ok(&r) && !d->time_of) run_fail(&r, E_MEMORY, "%.300s: no memory for a table of deltas", path);
    (void)rows_of(row, w);
    qsort(row, (size_t)n, sizeof *row, by_time);
    for (int i = 0; i < n && run_ok(&r); i++) {
        Tensor to = tensor_row(d->table, i);
        if (row[i].entry->count != tensor_count(to)) run_fail(&r, E_FORMAT, "%.300s: %.40s: expected %zu numbers as in the first, found %llu", path, row[i].entry->name,
                                                              tensor_count(to), (unsigned long long)row[i].entry->count);
        else weights_read_part(w, row[i].file, row[i].entry, 0, row[i].entry->count, to.x, &r.status);
        d->time_of[i] = row[i].t;
    }
    *s = r.status;
    return s->code == OK;
}

bool delta_load(Delta *d, const char *path, int groups, Arena *weights, Status *s)
{
    Weights w;
    DeltaConfig c;
    Arena scratch = {0};
    bool ok = false;
    if (s->code != OK || !(folder_exists(path) ? weights_open(&w, path, "model", s) : weights_open_file(&w, path, s))) return false;
    bool plain = config_of(&c, &w, "", groups), first = !plain && config_of(&c, &w, "0.", groups);
    int n = plain || first ? 0 : rows_of(NULL, &w);
    Row *row = n ? arena_take(&scratch, (size_t)n * sizeof *row) : NULL;
    if (plain || first) ok = load_block(d, &w, &c, first, weights, s);
    else if (row && rows_of(row, &w) == n) ok = load_table(d, &w, row, n, path, weights, s);
    else status_fail(s, n ? E_MEMORY : E_FORMAT, "%.300s: expected a delta block (conv1 and temb_proj, or in_layers and emb_layers) or a tensor [C,h,w] per time, found neither", path);
    weights_close(&w);
    arena_free(&scratch);
    return ok;
}
