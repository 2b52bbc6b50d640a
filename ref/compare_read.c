#include <string.h>
#include "ref/compare_pairs.h"

enum { PIECE = 1 << 15 };

static bool short_of(Status *s, const Source *from, uint64_t n)
{
    status_fail(s, E_MEMORY, "%s: no memory for %llu numbers", from->name, (unsigned long long)n);
    return false;
}

static double integer_at(Dtype type, const unsigned char *p)
{
    uint64_t u = 0;
    size_t n = dtype_size(type);
    for (size_t i = n; i-- > 0; ) u = u << 8 | p[i];      /* files are little-endian */
    bool sign = type == T_I64 || type == T_I32 || type == T_I16 || type == T_I8;
    if (!sign) return (double)u;
    if (n < 8 && u >> (8 * n - 1)) u |= ~(uint64_t)0 << (8 * n);
    int64_t i;
    memcpy(&i, &u, sizeof i);
    return (double)i;
}

static double double_at(const unsigned char *p)
{
    uint64_t u = 0;
    double v;
    for (int i = 8; i-- > 0; ) u = u << 8 | p[i];
    memcpy(&v, &u, sizeof v);
    return v;
}

/* F32, F16 and BF16 are exact in real; F64 and integers go past it, so that the float program loses nothing. */
static bool stored(const Source *from, uint64_t first, size_t n, double *to, Arena *scratch, Status *s)
{
    const SafeEntry *e = from->entry;
    size_t mark = scratch->used, one = dtype_size(e->type);
    bool small = e->type == T_F32 || e->type == T_F16 || e->type == T_BF16;
    void *raw = arena_take(scratch, n * (small ? sizeof(real) : one));
    bool good = raw && (small ? safetensors_read_part(from->file, e, first, n, raw, s)
                              : file_read(&from->file->file, raw, e->offset + first * one, n * one, s));
    if (!raw) short_of(s, from, n);
    for (size_t i = 0; good && i < n; i++) {
        if (small) to[i] = (double)((const real *)raw)[i];
        else if (e->type == T_F64) to[i] = double_at((unsigned char *)raw + i * one);
        else to[i] = integer_at(e->type, (unsigned char *)raw + i * one);
    }
    arena_release(scratch, mark);
    return good;
}

/* The whole tensor with its axes moved: to[i0,i1,...] = from[... i_k at axis[k] ...]. */
static bool moved(const Source *from, double *to, Arena *scratch, Status *s)
{
    size_t mark = scratch->used, n = (size_t)from->count;
    double *raw = arena_take(scratch, n * sizeof *raw);
    if (!raw) return short_of(s, from, n);
    bool good = stored(from, 0, n, raw, scratch, s);
    uint64_t step[RANK], i[RANK] = {0};
    for (int k = 0; k < from->axes; k++) {
        step[k] = 1;
        for (int j = from->axis[k] + 1; j < from->axes; j++) step[k] *= from->entry->size[j];
    }
    for (size_t at = 0; good && at < n; at++) {
        uint64_t place = 0;
        for (int k = 0; k < from->axes; k++) place += i[k] * step[k];
        to[at] = raw[place];
        for (int k = from->axes; k-- > 0 && ++i[k] == from->size[k]; ) i[k] = 0;
    }
    arena_release(scratch, mark);
    return good;
}

bool source_read(const Source *from, uint64_t first, size_t n, double *to, Arena *scratch, Status *s)
{
    if (from->bytes) {
        for (size_t i = 0; i < n; i++) to[i] = from->bytes[first + i];
        return true;
    }
    if (!from->axes) return stored(from, first, n, to, scratch, s);
    return moved(from, to, scratch, s);
}

bool pair_measure(Pair *p, double rtol, double atol, Arena *scratch, Status *s)
{
    size_t mark = scratch->used, n = (size_t)p->b.count;
    size_t piece = p->a.axes || p->b.axes || n < PIECE ? n : PIECE;
    DifferenceSum *sum = arena_take(scratch, sizeof *sum);
    double *a = arena_take(scratch, piece * sizeof *a), *b = arena_take(scratch, piece * sizeof *b);
    bool good = sum && a && b;
    if (!good) short_of(s, &p->b, piece);
    else difference_begin(sum, rtol, atol);
    for (int pass = 0; pass < 2 && good; pass++) {
        for (size_t at = 0; at < n && good; at += piece) {
            size_t now = n - at < piece ? n - at : piece;
            good = source_read(&p->a, at, now, a, scratch, s) && source_read(&p->b, at, now, b, scratch, s);
            if (good && pass == 0) difference_add(sum, a, b, now);
            if (good && pass == 1) difference_again(sum, a, b, now);
        }
        if (good && pass == 0) difference_middle(sum);
    }
    if (good) difference_end(sum);
    if (good) p->d = sum->d;
    arena_release(scratch, mark);
    return good;
}
