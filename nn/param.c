#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "nn/names.h"
#include "nn/param_parts.h"
#include "tensor/conv.h"
#include "tensor/point.h"

Param param_none(void)                { return (Param){ .rank = -1 }; }
Param param_vector(int n)             { return (Param){ .rank = 1, .size = { n } }; }
Param param_matrix(int out, int in)   { return (Param){ .rank = 2, .size = { out, in } }; }
Param param_conv(int out, int in, int kh, int kw)
{
    return (Param){ .layout = CONV, .rank = 4, .size = { out, in, kh, kw } };
}

Param param_part(Param p, int part, int parts, int block)
{
    p.part = part;
    p.parts = parts;
    p.block = block;
    return p;
}

bool param_there(const Param *p) { return p->rank >= 0; }

Shape param_shape(const Param *p)
{
    const int *d = p->size;
    if (p->layout == CONV || p->layout == WINOGRAD) return SHAPE(d[0], d[2], d[3], d[1]);
    if (p->rank <= 0) return SHAPE(p->rank == 0);         /* a scalar is [1] */
    Shape s = {{ 0 }};
    memcpy(s.d, d, (size_t)p->rank * sizeof *d);
    return s;
}

/* ---- walking ------------------------------------------------------------------------------------------- */

size_t walk_enter(Walk *w, const char *module)
{
    size_t before = strlen(w->path);
    snprintf(w->path + before, sizeof w->path - before, "%s%s", before ? "." : "", module);
    return before;
}

size_t walk_enter_at(Walk *w, const char *list, int i)
{
    size_t before = walk_enter(w, list), n = strlen(w->path);
    snprintf(w->path + n, sizeof w->path - n, ".%d", i);
    return before;
}

void walk_leave(Walk *w, size_t before) { w->path[before] = 0; }

void walk_param(Walk *w, Param *p, const char *leaf)
{
    char name[sizeof w->path + 64];
    if (!param_there(p)) return;
    size_t n = strlen(w->path);
    snprintf(name, sizeof name, "%s%s%s", w->path, n && *leaf && w->path[n - 1] != '_' ? "." : "", leaf);
    w->visit(w, p, name);
}

void params_each(WalkModel *walk, void *model, void visit(Walk *w, Param *p, const char *name), void *self)
{
    Walk w = { .visit = visit, .self = self };
    walk(model, &w);
}

typedef struct { size_t numbers, bytes, gradients; int tensors; const char *name; Param *found; } Count;

static Shape value_shape(const Param *p) { return p->layout == WINOGRAD ? winograd_shape(param_shape(p)) : param_shape(p); }
static size_t slab_bytes(Shape s) { return (shape_count(s) * sizeof(real) + 63) / 64 * 64; }

static void count_visit(Walk *w, Param *p, const char *name)
{
    Count *c = w->self;
    c->numbers += shape_count(param_shape(p));
    c->bytes += slab_bytes(value_shape(p));
    c->gradients += slab_bytes(param_shape(p));
    c->tensors += !p->part;
    if (c->name && !p->part && !strcmp(c->name, name)) c->found = p;
}

size_t params_count(WalkModel *walk, void *model, int *tensors)
{
    Count c = { .numbers = 0 };
    params_each(walk, model, count_visit, &c);
    if (tensors) *tensors = c.tensors;
    return c.numbers;
}

size_t params_bytes(WalkModel *walk, void *model)
{
    Count c = { .numbers = 0 };
    params_each(walk, model, count_visit, &c);
    return c.bytes;
}

Param *params_find(WalkModel *walk, void *model, const char *name)
{
    Count c = { .name = name };
    params_each(walk, model, count_visit, &c);
    return c.found;
}

/* All tensors of a model lie in one piece, each at a multiple of 64 bytes: nothing is lost between arena blocks. */
static bool slab(size_t bytes, Arena *a, char **at, const char *what, Status *s)
{
    *at = arena_take(a, bytes);
    if (!*at) status_fail(s, E_MEMORY, "no memory for %zu MB of %s", bytes >> 20, what);
    return *at != NULL;
}

static Tensor from_slab(char **at, Shape s)
{
    Tensor t = { (real *)(void *)*at, s };
    *at += slab_bytes(s);
    return t;
}

/* ---- gradients and random values ----------------------------------------------------------------------- */

static void gradient_visit(Walk *w, Param *p, const char *name)
{
    (void)name;
    p->grad = from_slab(w->self, param_shape(p));
    tensor_zero(p->grad);
}

bool params_want_gradients(WalkModel *walk, void *model, Arena *a, Status *s)
{
    char *at;
    Count c = { .numbers = 0 };
    params_each(walk, model, count_visit, &c);
    if (!slab(c.gradients, a, &at, "gradients", s)) return false;
    params_each(walk, model, gradient_visit, &at);
    return true;
}

static uint64_t mixed(uint64_t x)                         /* the output function of splitmix64 (Steele, Lea, Flood 2014) */
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* The sum of four 16-bit uniforms, less its mean: variance 4 (2^32 - 1) / 12.  Bounded by 3.46 standard deviations. */
static float bell(uint64_t key, uint64_t i)
{
    uint64_t x = mixed(key + i * 0x9E3779B97F4A7C15u);
    int sum = (int)((x & 0xFFFF) + (x >> 16 & 0xFFFF) + (x >> 32 & 0xFFFF) + (x >> 48)) - 131070;
    return (float)sum * (float)(1 / 37837.22749);         /* sqrt(4 (2^32 - 1) / 12) = 37837.2... */
}

static bool ends(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

/* value = mean + spread n */
static void healthy(const Param *p, const char *name, float *mean, float *spread)
{
    float fan_in = 1;
    for (int i = 1; i < p->rank; i++) fan_in *= (float)p->size[i];
    *mean = 0;
    if (ends(name, "logit_scale"))      *mean = 2.6592f, *spread = 0;        /* ln(1/0.07), where CLIP's training starts */
    else if (ends(name, "_embedding") || ends(name, "token_embedding.weight") || ends(name, "position_embedding.weight")) *spread = 0.5f;
    else if (p->rank >= 2)              *spread = 1 / sqrt(fan_in);
    else if (ends(name, "bias") || ends(name, "running_mean")) *spread = 0.1f;
    else                                *mean = 1, *spread = 0.2f;           /* the weight of a norm */
}

static void batch_visit(Walk *w, Param *p, const char *name)                 /* what is converted at a time */
{
    (void)name;
    size_t *most = w->self, row = p->layout != AS_STORED ? shape_count(param_shape(p)) / (size_t)p->size[0] : 0;
    if (p->layout == WINOGRAD) row *= WINOGRAD_ROWS;
    if (p->layout == TRANSPOSED) row = (size_t)p->size[0];
    if (row > *most) *most = row;
}

real *params_batch(WalkModel *walk, void *model, Arena *scratch, Status *s)
{
    size_t most = PARAM_BATCH;
    params_each(walk, model, batch_visit, &most);
    real *batch = arena_take(scratch, most * sizeof *batch);
    if (!batch) status_fail(s, E_MEMORY, "no memory to convert %zu weights at a time", most);
    return batch;
}

typedef struct { char *at; uint64_t seed; real *batch; } Fill;

/* Kernels [o][i] of a convolution whose outputs begin with `first`, as a file would hold them, for transforming. */
static void random_kernels(real *to, const Param *p, int first, int count, uint64_t key, float mean, float spread)
{
    uint64_t I = (uint64_t)p->size[1], from = (uint64_t)first * I * 9, n = (uint64_t)count * I * 9;
    for (uint64_t i = 0; i < n; i++) to[i] = (real)(mean + spread * bell(key, from + i));
}

/* The rows that are p's of a tensor whose numbers are drawn in the file's order. */
static void random_part(const Param *p, uint64_t key, float mean, float spread)
{
    uint64_t rows = (uint64_t)p->block, row = tensor_count(p->v) / (uint64_t)p->size[0], n = rows * row, blocks = (uint64_t)p->size[0] / rows;
    for (uint64_t b = 0; b < blocks; b++)
        for (uint64_t i = 0; i < n; i++)
            p->v.x[b * n + i] = (real)(mean + spread * bell(key, (b * (uint64_t)p->parts + (uint64_t)p->part) * n + i));
}

static void random_visit(Walk *w, Param *p, const char *name)
{
    Fill *f = w->self;
    uint64_t key = 0xCBF29CE484222325u;                   /* FNV-1a of the name */
    for (const char *c = name; *c; c++) key = (key ^ (unsigned char)*c) * 0x100000001B3u;
    key = mixed(key + mixed(f->seed + 0x9E3779B97F4A7C15u));
    float mean, spread;
    healthy(p, name, &mean, &spread);
    p->v = from_slab(&f->at, value_shape(p));
    for (int o = 0; p->layout == WINOGRAD && o < p->size[0]; o += WINOGRAD_ROWS) {
        random_kernels(f->batch, p, o, WINOGRAD_ROWS, key, mean, spread);
        winograd_rows(p->v, f->batch, o, WINOGRAD_ROWS);
    }
    if (p->parts > 1) random_part(p, key, mean, spread);
    if (p->layout == WINOGRAD || p->parts > 1) return;
    real *x = p->v.x;
    bool conv = p->layout == CONV;
    uint64_t I = conv ? (uint64_t)p->size[1] : tensor_count(p->v), K = conv ? (uint64_t)p->size[2] * (uint64_t)p->size[3] : 1;
    uint64_t O = conv ? (uint64_t)p->size[0] : 1;
    for (uint64_t o = 0; o < O; o++)
        for (uint64_t k = 0; k < K; k++, x += I)
            for (uint64_t i = 0; i < I; i++) x[i] = (real)(mean + spread * bell(key, (o * I + i) * K + k));
}

bool params_randomise(WalkModel *walk, void *model, Arena *weights, uint64_t seed, Status *s)
{
    Fill f = { .seed = seed };
    Arena scratch = {0};
    f.batch = params_batch(walk, model, &scratch, s);
    bool ok = f.batch && slab(params_bytes(walk, model), weights, &f.at, "weights", s);
    if (ok) params_each(walk, model, random_visit, &f);
    arena_free(&scratch);
    return ok;
}

/* ---- loading ------------------------------------------------------------------------------------------- */

bool param_permuted(const Param *p) { return p->layout != AS_STORED && p->layout != TRANSPOSED && p->size[2] * p->size[3] > 1; }

/* Rows [I,kh,kw] of a file <-> rows [kh,kw,I] in memory. */
static void rows_to_memory(real *to, const real *from, size_t rows, const Param *p)
{
    size_t I = (size_t)p->size[1], K = (size_t)p->size[2] * (size_t)p->size[3];
    for (size_t o = 0; o < rows; o++, to += I * K, from += I * K)
        for (size_t k = 0; k < K; k++)
            for (size_t i = 0; i < I; i++) to[k * I + i] = from[i * K + k];
}

typedef struct { char text[170]; size_t length; int count, named; } List;    /* the first few, and how many there are */

static void list_add(List *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void list_add(List *l, const char *format, ...)
{
    char item[140];
    va_list ap;
    va_start(ap, format);
    vsnprintf(item, sizeof item, format, ap);
    va_end(ap);
    if (l->named == l->count && l->length + strlen(item) + 3 < sizeof l->text) {
        l->length += (size_t)snprintf(l->text + l->length, sizeof l->text - l->length, "%s%s", l->count ? ", " : "", item);
        l->named++;
    }
    l->count++;
}

static void list_text(const List *l, const char *what, char *to, size_t room)
{
    char more[32] = "";
    if (l->named < l->count) snprintf(more, sizeof more, " and %d more", l->count - l->named);
    *to = 0;
    if (l->count) snprintf(to, room, "%d %s: %s%s", l->count, what, l->text, more);
}

typedef struct {
    Weights *w;
    Arena scratch;
    bool *used;                                           /* one for each tensor of the files, in their order */
    List missing, misfit;
    char *at;
    real *batch;
    LoadReport *report;                                   /* may be NULL */
    Status *status;
} Load;

static const SafeEntry *look_up(const Load *l, const char *name, const Safetensors **in)
{
    char other[320];
    const SafeEntry *e = weights_find(l->w, name, in);
    return e || !names_other(name, other, sizeof other) ? e : weights_find(l->w, other, in);
}

static int without_ones(const uint64_t *size, int rank)   /* [C,C,1,1] and [C,C] are one shape */
{
    while (rank > 0 && size[rank - 1] == 1) rank--;
    return rank;
}

static void file_size(const Param *p, uint64_t size[4])
{
    for (int i = 0; i < 4; i++) size[i] = i < p->rank ? (uint64_t)p->size[i] : 1;
    if (p->parts > 1) size[0] *= (uint64_t)p->parts;
    if (p->layout == TRANSPOSED) size[0] = (uint64_t)p->size[1], size[1] = (uint64_t)p->size[0];
}

static bool fits(const Param *p, const SafeEntry *e)
{
    uint64_t size[4];
    file_size(p, size);
    int n = without_ones(size, p->rank);
    for (int i = 0; i < e->rank; i++)
        if (e->size[i] != (i < n ? size[i] : 1)) return false;
    return e->rank >= n;
}

static void sizes_text(char text[80], const uint64_t *size, int rank)
{
    size_t n = 0;
    text[0] = 0;
    for (int i = 0; i < rank && n < 56; i++) n += (size_t)snprintf(text + n, 80 - n, "%s%llu", i ? "," : "", (unsigned long long)size[i]);
}

static void check_visit(Walk *w, Param *p, const char *name)
{
    Load *l = w->self;
    const Safetensors *in = NULL;
    const SafeEntry *e = look_up(l, name, &in);
    if (!e) {
        if (!p->part) list_add(&l->missing, "%s", name);
        return;
    }
    size_t first = 0;
    for (const Safetensors *f = l->w->file; f != in; f++) first += (size_t)f->entries;
    l->used[first + (size_t)(e - in->entry)] = true;
    uint64_t size[4];
    char wanted[80], found[80];
    file_size(p, size);
    sizes_text(wanted, size, p->rank);
    sizes_text(found, e->size, e->rank);
    if (p->part) return;
    if (!fits(p, e)) list_add(&l->misfit, "%s is [%s], not [%s]", name, found, wanted);
    else if (e->type > T_BF16) list_add(&l->misfit, "%s is of type %s", name, dtype_name(e->type));
}

static bool read_part(const Weights *w, const Safetensors *in, const SafeEntry *e, const Param *p, real *to, Status *s)
{
    uint64_t n = (uint64_t)p->block * (e->count / e->size[0]);
    for (int b = 0; b < p->size[0] / p->block; b++, to += n)
        if (!weights_read_part(w, in, e, (uint64_t)(b * p->parts + p->part) * n, n, to, s)) return false;
    return true;
}

/* to[o,i] from rows i of the file */
static bool read_transposed(const Weights *w, const Safetensors *in, const SafeEntry *e, const Param *p, real *to, real *batch, Status *s)
{
    uint64_t O = (uint64_t)p->size[0], I = (uint64_t)p->size[1], rows = O < PARAM_BATCH ? PARAM_BATCH / O : 1;
    for (uint64_t i = 0; i < I; i += rows) {
        if (rows > I - i) rows = I - i;
        if (!weights_read_part(w, in, e, i * O, rows * O, batch, s)) return false;
        for (uint64_t k = 0; k < rows; k++)
            for (uint64_t o = 0; o < O; o++) to[o * I + i + k] = batch[k * O + o];
    }
    return true;
}

static void read_visit(Walk *w, Param *p, const char *name)
{
    Load *l = w->self;
    const Safetensors *in = NULL;
    const SafeEntry *e = look_up(l, name, &in);
    Tensor t = from_slab(&l->at, value_shape(p));
    if (l->status->code != OK) return;
    uint64_t row = e->rank ? e->count / e->size[0] : 1;
    if (p->parts > 1) {
        if (!read_part(l->w, in, e, p, t.x, l->status)) return;
    } else if (p->layout == TRANSPOSED) {
        if (!read_transposed(l->w, in, e, p, t.x, l->batch, l->status)) return;
    } else if (p->layout == WINOGRAD)
        for (int o = 0; o < p->size[0]; o += WINOGRAD_ROWS) {
            if (!weights_read_part(l->w, in, e, (uint64_t)o * row, WINOGRAD_ROWS * row, l->batch, l->status)) return;
            winograd_rows(t, l->batch, o, WINOGRAD_ROWS);
        }
    else if (param_permuted(p)) {
        uint64_t rows = row < PARAM_BATCH ? PARAM_BATCH / row : 1;
        for (uint64_t o = 0; o < e->size[0]; o += rows) {
            if (rows > e->size[0] - o) rows = e->size[0] - o;
            if (!weights_read_part(l->w, in, e, o * row, rows * row, l->batch, l->status)) return;
            rows_to_memory(t.x + o * row, l->batch, (size_t)rows, p);
        }
    } else if (!weights_read_part(l->w, in, e, 0, e->count, t.x, l->status)) return;
    if (l->report && l->w->torch && count_nonfinite(t) && !l->report->nonfinite++) snprintf(l->report->first_nonfinite, sizeof l->report->first_nonfinite, "%s", name);
    p->v = t;
}

static void forget_visit(Walk *w, Param *p, const char *name)
{
    (void)w;
    (void)name;
    p->v = (Tensor){0};
}

static void report_surplus(const Load *l, LoadReport *r)
{
    const bool *used = l->used;
    for (int i = 0; i < l->w->files; i++)
        for (int k = 0; k < l->w->file[i].entries; k++, used++) {
            const char *name = l->w->file[i].entry[k].name;
            if (*used) r->loaded++;
            else if (!names_ignored(name) && !r->surplus++) snprintf(r->first_surplus, sizeof r->first_surplus, "%s", name);
        }
}

static void report_misfits(const Load *l)
{
    const char *file = l->w->files ? l->w->file[0].file.name : "no file";
    size_t n = strlen(file);
    char missing[230], misfit[250];
    list_text(&l->missing, "missing", missing, sizeof missing);
    list_text(&l->misfit, "of another shape or type", misfit, sizeof misfit);
    status_fail(l->status, E_FORMAT, "%s%s: tensors: %s%s%s", n > 70 ? "..." : "", n > 70 ? file + n - 70 : file,
                missing, *missing && *misfit ? "; " : "", misfit);
}

void params_forget(WalkModel *walk, void *model) { params_each(walk, model, forget_visit, NULL); }

static bool check(Load *l, WalkModel *walk, void *model, LoadReport *report)
{
    size_t tensors = 0;
    if (report) *report = (LoadReport){ .loaded = 0 };
    if (l->status->code != OK) return false;
    for (int i = 0; i < l->w->files; i++) tensors += (size_t)l->w->file[i].entries;
    l->used = arena_take(&l->scratch, tensors);
    if (!l->used) status_fail(l->status, E_MEMORY, "no memory to look through %zu weights", tensors);
    else {
        memset(l->used, 0, tensors);
        params_each(walk, model, check_visit, l);
        if (l->missing.count || l->misfit.count) report_misfits(l);
        else if (report) report_surplus(l, report);
    }
    return l->status->code == OK;
}

bool params_check(WalkModel *walk, void *model, Weights *w, LoadReport *report, Status *s)
{
    Load l = { .w = w, .status = s };
    bool ok = check(&l, walk, model, report);
    arena_free(&l.scratch);
    return ok;
}

bool params_load(WalkModel *walk, void *model, Weights *w, Arena *weights, LoadReport *report, Status *s)
{
    Load l = { .w = w, .status = s };
    size_t mark = weights->used;
    l.report = report;
    if (check(&l, walk, model, report)) l.batch = params_batch(walk, model, &l.scratch, s);
    if (l.batch && slab(params_bytes(walk, model), weights, &l.at, "weights", s)) params_each(walk, model, read_visit, &l);
    if (s->code != OK) {
        params_forget(walk, model);
        arena_release(weights, mark);
        if (report) *report = (LoadReport){ .loaded = 0 };
    }
    arena_free(&l.scratch);
    return s->code == OK;
}
