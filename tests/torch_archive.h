/* torch_archive.h -- checkpoints of torch from their parts: pickles opcode by opcode, zip archives entry by entry. */
#ifndef TESTS_TORCH_ARCHIVE_H
#define TESTS_TORCH_ARCHIVE_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tensor/hash.h"
#include "tensor/torchfile.h"

typedef struct { unsigned char *b; size_t n, room; } Bytes;

static inline void bytes_put(Bytes *o, const void *from, size_t n)
{
    if (o->n + n > o->room) {
        o->room = 2 * (o->n + n) + 256;
        o->b = realloc(o->b, o->room);
        if (!o->b) exit(3);
    }
    if (n) memcpy(o->b + o->n, from, n);
    o->n += n;
}

static inline void bytes_little(Bytes *o, uint64_t v, int n)
{
    for (; n-- > 0; v >>= 8) bytes_put(o, &(unsigned char){ (unsigned char)v }, 1);
}

static inline void bytes_free(Bytes *o)
{
    free(o->b);
    *o = (Bytes){0};
}

/* ---- pickles ------------------------------------------------------------------------------------------- */

static inline void op(Bytes *p, const char *text) { bytes_put(p, text, strlen(text)); }     /* opcodes that are ASCII */

static inline void op_byte(Bytes *p, int code) { bytes_little(p, (uint64_t)code, 1); }

static inline void op_text(Bytes *p, const char *text)
{
    op(p, "X");
    bytes_little(p, strlen(text), 4);
    op(p, text);
}

static inline void op_int(Bytes *p, int64_t v)            /* as pickle writes it: K, M, J or LONG1 */
{
    if (v >= 0 && v < 256) op(p, "K"), bytes_little(p, (uint64_t)v, 1);
    else if (v >= 0 && v < 65536) op(p, "M"), bytes_little(p, (uint64_t)v, 2);
    else if (v >= INT32_MIN && v <= INT32_MAX) op(p, "J"), bytes_little(p, (uint64_t)v, 4);
    else op_byte(p, 0x8A), op_byte(p, 8), bytes_little(p, (uint64_t)v, 8);
}

static inline void op_global(Bytes *p, const char *module, const char *name)
{
    op(p, "c");
    op(p, module);
    op(p, "\n");
    op(p, name);
    op(p, "\n");
}

typedef struct { const char *storage, *key; int64_t numel, offset; int rank; int64_t size[9], stride[9]; } View;

static inline void op_view(Bytes *p, View v)              /* a tensor; all values it takes are given */
{
    op_global(p, "torch._utils", "_rebuild_tensor_v2");
    op(p, "((");
    op_text(p, "storage");
    op_global(p, "torch", v.storage ? v.storage : "FloatStorage");
    op_text(p, v.key ? v.key : "0");
    op_text(p, "cpu");
    op_int(p, v.numel);
    op(p, "tQ");
    op_int(p, v.offset);
    op(p, "(");
    for (int i = 0; i < v.rank; i++) op_int(p, v.size[i]);
    op(p, "t(");
    for (int i = 0; i < v.rank; i++) op_int(p, v.stride[i]);
    op(p, "t");
    op_byte(p, 0x89);
    op_global(p, "collections", "OrderedDict");
    op(p, ")RtR");
}

/* ---- archives ------------------------------------------------------------------------------------------ */

typedef struct { const char *name; const void *bytes; size_t size; } Part;

/* As torch lays it out: central directory, zip64 end record and locator, end record.  wide: sizes and places of every entry
 * stand in zip64 fields. */
static inline void archive(Bytes *z, const Part *part, int n, bool wide)
{
    Bytes directory = {0};
    for (int i = 0; i < n; i++) {
        uint64_t at = z->n;
        uint32_t crc = crc32_of(0, part[i].bytes, part[i].size);
        size_t name = strlen(part[i].name);
        bytes_put(z, "PK\3\4\0\0\10\10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 26);
        bytes_little(z, name, 2);
        bytes_little(z, 5, 2);
        op(z, part[i].name);
        bytes_put(z, "FB\1\0Z", 5);
        bytes_put(z, part[i].bytes, part[i].size);
        bytes_put(&directory, "PK\1\2\0\0\0\0\10\10\0\0\0\0\0\0", 16);
        bytes_little(&directory, crc, 4);
        bytes_little(&directory, wide ? 0xFFFFFFFF : part[i].size, 4);
        bytes_little(&directory, wide ? 0xFFFFFFFF : part[i].size, 4);
        bytes_little(&directory, name, 2);
        bytes_little(&directory, wide ? 28 : 0, 2);
        bytes_put(&directory, "\0\0\0\0\0\0\0\0\0\0", 10);
        bytes_little(&directory, wide ? 0xFFFFFFFF : at, 4);
        op(&directory, part[i].name);
        if (!wide) continue;
        bytes_put(&directory, "\1\0\30\0", 4);
        bytes_little(&directory, part[i].size, 8);
        bytes_little(&directory, part[i].size, 8);
        bytes_little(&directory, at, 8);
    }
    uint64_t from = z->n, end = from + directory.n;
    bytes_put(z, directory.b, directory.n);
    bytes_put(z, "PK\6\6\54\0\0\0\0\0\0\0\36\3\55\0\0\0\0\0\0\0\0\0", 24);
    bytes_little(z, (uint64_t)n, 8);
    bytes_little(z, (uint64_t)n, 8);
    bytes_little(z, directory.n, 8);
    bytes_little(z, from, 8);
    bytes_put(z, "PK\6\7\0\0\0\0", 8);
    bytes_little(z, end, 8);
    bytes_little(z, 1, 4);
    bytes_put(z, "PK\5\6\0\0\0\0", 8);
    bytes_little(z, wide ? 0xFFFF : (uint64_t)n, 2);
    bytes_little(z, wide ? 0xFFFF : (uint64_t)n, 2);
    bytes_little(z, wide ? 0xFFFFFFFF : directory.n, 4);
    bytes_little(z, wide ? 0xFFFFFFFF : from, 4);
    bytes_little(z, 0, 2);
    bytes_free(&directory);
}

enum { ARCHIVE_NUMBERS = 24 };
/* Around a pickle: storage 0 with 24 floats 0, 1/2, 1 ..., storage 1 with the same bytes, storage 2 with none. */
static inline void checkpoint(Bytes *z, const Bytes *pickle, bool wide)
{
    float x[ARCHIVE_NUMBERS];
    for (int i = 0; i < ARCHIVE_NUMBERS; i++) x[i] = (float)i / 2;
    const Part part[] = { { "a/data.pkl", pickle->b, pickle->n }, { "a/byteorder", "little", 6 }, { "a/data/0", x, sizeof x },
                          { "a/data/1", x, sizeof x }, { "a/data/2", "", 0 }, { "a/version", "3\n", 2 } };
    z->n = 0;
    archive(z, part, 6, wide);
}

static inline uint64_t archive_number(const unsigned char *p, int n)
{
    uint64_t v = 0;
    while (n-- > 0) v = v << 8 | p[n];
    return v;
}

static inline void archive_store(unsigned char *p, uint64_t v, int n)
{
    for (; n-- > 0; v >>= 8) *p++ = (unsigned char)v;
}

/* Sets every CRC-32 right, as far as the archive can be followed: what was changed in it is then believed. */
static inline void archive_mend(unsigned char *b, size_t n)
{
    size_t end = n < 22 ? 0 : n - 22, at, count;
    while (end > 0 && memcmp(b + end, "PK\5\6", 4)) end--;
    if (!end) return;
    at = (size_t)archive_number(b + end + 16, 4);
    count = (size_t)archive_number(b + end + 10, 2);
    for (size_t i = 0; i < count && at < n && n - at >= 46 && !memcmp(b + at, "PK\1\2", 4); i++) {
        unsigned char *p = b + at;
        size_t size = (size_t)archive_number(p + 24, 4), local = (size_t)archive_number(p + 42, 4), data;
        at += 46 + archive_number(p + 28, 2) + archive_number(p + 30, 2) + archive_number(p + 32, 2);
        if (local >= n || n - local < 30) continue;
        data = local + 30 + archive_number(b + local + 26, 2) + archive_number(b + local + 28, 2);
        if (data > n || size > n - data) continue;
        uint32_t crc = crc32_of(0, b + data, size);
        if (archive_number(b + local + 14, 4)) archive_store(b + local + 14, crc, 4);
        archive_store(p + 16, crc, 4);
    }
}

/* Every promise of torchfile.h that a caller can check: the tensors lie inside the file, are in order, can be read twice with
 * the same result, and are refused as the other kind.  A tensor beyond `most` elements is not read. */
static inline bool torch_promises(Torchfile *f, uint64_t most, real *x, int64_t *v, Status *s)
{
    for (int i = 0; i < f->tensors; i++) {
        const TorchTensor *t = &f->tensor[i];
        const TorchStorage *st = &f->storage[t->storage];
        Status other = {0};
        if (t->storage < 0 || t->storage >= f->storages || t->rank < 0 || t->rank > 8 || torchfile_find(f, t->name) != t) return false;
        if (i && strcmp(f->tensor[i - 1].name, t->name) >= 0) return false;
        if (st->at > f->file.size || st->count * dtype_size(st->type) > f->file.size - st->at || t->type != st->type) return false;
        if (t->count > 4096 * (st->count + 1)) return false;
        if (t->count > most) continue;
        if (t->type <= T_BF16 ? !torchfile_read(f, t, x, s) : !torchfile_read_i64(f, t, v, s)) return false;
        if (t->type <= T_BF16 ? torchfile_read_i64(f, t, v, &other) : torchfile_read(f, t, x, &other)) return false;
    }
    return true;
}
#endif
