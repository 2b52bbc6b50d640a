#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tensor/run.h"

enum { ALIGN = 64, SMALLEST_BLOCK = 1 << 20 };

struct ArenaBlock {
    ArenaBlock *next, *before;
    size_t start, size;                                   /* this block holds offsets start .. start + size */
    char *base;
};

static void fail_in(Status *s, Code code, const char *format, va_list ap)
{
    if (s->code != OK) return;                            /* the first error is the true one */
    s->code = code;
    vsnprintf(s->text, sizeof s->text, format, ap);
    for (char *c = s->text; *c; c++) {                    /* names come from files: none may steer a terminal */
        if ((unsigned char)*c == 0xC2 && (unsigned char)c[1] >= 0x80 && (unsigned char)c[1] < 0xA0) *c = c[1] = '?';
        if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = '?';
    }
}

void status_fail(Status *s, Code code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fail_in(s, code, format, ap);
    va_end(ap);
}

void run_fail(Run *r, Code code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fail_in(&r->status, code, format, ap);
    va_end(ap);
}

bool run_ok(const Run *r) { return r->status.code == OK; }

static ArenaBlock *grow(Arena *a, size_t bytes)
{
    size_t size = bytes > SMALLEST_BLOCK ? bytes : SMALLEST_BLOCK;
    if (a->limit && (size > a->limit || a->reserved > a->limit - size)) {
        size = bytes;                                     /* near the limit: no more than is needed */
        if (size > a->limit || a->reserved > a->limit - size) return NULL;
    }
    ArenaBlock *b = malloc(sizeof *b);
    char *base = size <= SIZE_MAX - ALIGN ? aligned_alloc(ALIGN, size) : NULL;
    if (!b || !base) {
        free(b);
        free(base);
        return NULL;
    }
    *b = (ArenaBlock){ NULL, a->now, a->now ? a->now->start + a->now->size : 0, size, base };
    if (a->now) a->now->next = b;
    else a->first = b;
    a->reserved += size;
    return b;
}

static void drop_after(Arena *a, ArenaBlock *last)
{
    ArenaBlock *b = last ? last->next : a->first;
    while (b) {
        ArenaBlock *next = b->next;
        a->reserved -= b->size;
        free(b->base);
        free(b);
        b = next;
    }
    if (last) last->next = NULL;
    else a->first = NULL;
}

void *arena_take(Arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGN) return NULL;
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (!bytes) bytes = ALIGN;
    ArenaBlock *b = a->now ? a->now : a->first;
    size_t at = b ? (a->used > b->start ? a->used - b->start : 0) : 0;
    if (!b || bytes > b->size - at) {
        ArenaBlock *next = b ? b->next : NULL;
        if (!next || next->size < bytes) {
            a->now = b;
            drop_after(a, b);                             /* what follows is unused, and too small */
            next = grow(a, bytes);
        }
        if (!next) return NULL;
        b = next;
        at = 0;
    }
    a->now = b;
    a->used = b->start + at + bytes;
    if (a->used > a->peak) a->peak = a->used;
    return b->base + at;
}

void arena_release(Arena *a, size_t mark)
{
    for (ArenaBlock *b = a->poison ? a->now : NULL; b && b->start + b->size > mark; b = b->before) {
        size_t from = mark > b->start ? mark - b->start : 0;
        size_t to = a->used < b->start + b->size ? a->used - b->start : b->size;
        if (from < to) memset(b->base + from, 0xFF, to - from);
    }
    while (a->now && a->now->before && mark <= a->now->start) a->now = a->now->before;
    a->used = mark;
}

void arena_trim(Arena *a)
{
    size_t peak = a->peak;
    if (a->used) drop_after(a, a->now);
    else arena_free(a);
    a->peak = peak;
}

void arena_free(Arena *a)
{
    drop_after(a, NULL);
    *a = (Arena){ .limit = a->limit, .poison = a->poison };
}

size_t shape_count(Shape s)
{
    size_t n = s.d[0] ? 1 : 0;
    for (int i = 0; i < 4 && s.d[i]; i++)
        if (__builtin_mul_overflow(n, (size_t)s.d[i], &n)) return SIZE_MAX;
    return n;
}

int shape_rank(Shape s)
{
    int rank = 0;
    while (rank < 4 && s.d[rank]) rank++;
    return rank;
}

bool shape_same(Shape a, Shape b) { return !memcmp(a.d, b.d, sizeof a.d); }

size_t tensor_count(Tensor t) { return t.x ? shape_count(t.s) : 0; }

bool tensor_same(Tensor a, Tensor b) { return a.x && b.x && shape_same(a.s, b.s); }

Tensor tensor_as(Tensor t, Shape s)
{
    return t.x && shape_count(t.s) == shape_count(s) ? (Tensor){ t.x, s } : (Tensor){0};
}

Tensor tensor_row(Tensor t, int i)
{
    if (!t.x) return t;
    Shape s = {{ t.s.d[1], t.s.d[2], t.s.d[3], 0 }};
    if (!s.d[0]) s.d[0] = 1;
    return (Tensor){ t.x + (size_t)i * shape_count(s), s };
}

Tensor tensor_rows(Tensor t, int first, int count)
{
    if (!t.x) return t;
    size_t row = shape_count(t.s) / (size_t)t.s.d[0];
    t.x += (size_t)first * row;
    t.s.d[0] = count;
    return t;
}

Tensor tensor_in(Run *r, Arena *a, Shape s)
{
    if (!run_ok(r) || !shape_count(s)) return (Tensor){0};
    size_t n = shape_count(s), bytes = n > SIZE_MAX / sizeof(real) ? SIZE_MAX : n * sizeof(real);
    Tensor t = { arena_take(a, bytes), s };
    if (!t.x) run_fail(r, E_MEMORY, "out of memory: %zu MB wanted on top of %zu MB", bytes >> 20, a->used >> 20);
    return t.x ? t : (Tensor){0};
}

Tensor keep(Run *r, Shape s) { return tensor_in(r, r->keep, s); }
Tensor temp(Run *r, Shape s) { return tensor_in(r, r->temp, s); }

void tensor_zero(Tensor t)
{
    if (t.x) memset(t.x, 0, tensor_count(t) * sizeof(real));
}

void tensor_copy(Run *r, Tensor to, Tensor from)
{
    if (!to.x || tensor_count(to) != tensor_count(from)) {
        run_fail(r, E_SHAPE, "copy: %zu numbers into %zu", tensor_count(from), tensor_count(to));
        return;
    }
    memcpy(to.x, from.x, tensor_count(to) * sizeof(real));
}

static bool at_site(const Tap *t, SiteKind kind, const char *path)
{
    return t->kind == kind && path && !strcmp(t->path, path);
}

bool tap_wanted(const Run *r, SiteKind kind, const char *path)
{
    for (int i = 0; i < r->taps; i++)
        if (at_site(&r->tap[i], kind, path)) return true;
    return false;
}

bool tap_pulls(const Run *r, const char *prefix)
{
    size_t n = strlen(prefix);
    for (int i = 0; i < r->taps; i++)
        if (r->tap[i].pulls && !strncmp(r->tap[i].path, prefix, n) && (!r->tap[i].path[n] || r->tap[i].path[n] == '.'))
            return true;
    return false;
}

void tap_forward(Run *r, SiteKind kind, const char *path, Tensor value)
{
    for (int i = 0; i < r->taps && value.x; i++)
        if (at_site(&r->tap[i], kind, path) && r->tap[i].forward) r->tap[i].forward(r->tap[i].self, r, value);
}

void tap_backward(Run *r, SiteKind kind, const char *path, Tensor grad)
{
    for (int i = r->taps; i-- > 0 && grad.x; )            /* the chain rule runs the other way */
        if (at_site(&r->tap[i], kind, path) && r->tap[i].backward) r->tap[i].backward(r->tap[i].self, r, grad);
}
