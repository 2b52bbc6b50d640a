#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tensor/pickle.h"

enum { CHUNK = 1 << 15, BUFFER = 1 << 18 };

/* ---- opening ------------------------------------------------------------------------------------------- */

static bool looks_like_zip(const File *f, Refusal *r)
{
    unsigned char b[262];
    size_t n = f->size < sizeof b ? (size_t)f->size : sizeof b;
    if (!file_read(f, b, 0, n, r->status)) return false;
    if (n >= 4 && !memcmp(b, "PK\3\4", 4)) return true;
    if (n && b[0] == 0x80) return torch_refuse(r, TORCH_LEGACY_FORMAT, "a bare pickle, as torch wrote before 1.6");
    if (n == sizeof b && !memcmp(b + 257, "ustar", 5)) return torch_refuse(r, TORCH_LEGACY_FORMAT, "a tar archive, as torch wrote before 0.2");
    return torch_refuse(r, TORCH_NOT_ZIP, "a file of %llu bytes that does not begin as a zip archive", (unsigned long long)f->size);
}

/* PREFIX/data.pkl, once; its name.  The names are as the archive has them: not checked yet. */
static const char *find_pickle(const Zip *z, Refusal *r)
{
    const char *found = NULL;
    int pickles = 0;
    for (int i = 0; i < z->entries; i++) {
        const char *slash = memchr(z->entry[i].name, '/', z->entry[i].length), *rest = slash ? slash + 1 : "";
        if (!strcmp(rest, "constants.pkl") || !strncmp(rest, "code/", 5)) {
            torch_refuse(r, TORCH_TORCHSCRIPT, "a TorchScript program (entry \"%.100s\")", z->entry[i].name);
            return NULL;
        }
        if (strcmp(rest, "data.pkl") || (found && !strcmp(found, z->entry[i].name))) continue;       /* an equal name is a duplicate, found later */
        found = z->entry[i].name;
        pickles++;
    }
    if (!pickles) torch_refuse(r, TORCH_NO_DATA_PKL, "an archive of %d entries without a data.pkl: no checkpoint of torch", z->entries);
    if (pickles > 1) torch_refuse(r, TORCH_AMBIGUOUS, "an archive with %d files data.pkl", pickles);
    return pickles == 1 ? found : NULL;
}

static bool little_endian(const Zip *z, const char *prefix, Refusal *r)
{
    char name[PICKLE_NAME + 16], text[6];
    snprintf(name, sizeof name, "%sbyteorder", prefix);
    const ZipEntry *e = zip_find(z, name);
    if (!e) return true;
    if (e->size == sizeof text && !file_read(z->file, text, e->data, sizeof text, r->status)) return false;
    return (e->size == sizeof text && !memcmp(text, "little", sizeof text)) || torch_refuse(r, TORCH_BYTEORDER, "entry \"%.100s\" does not say \"little\"", e->name);
}

static unsigned char *load_pickle(const Zip *z, const ZipEntry *e, Arena *scratch, Refusal *r)
{
    if (e->size > PICKLE_LARGEST) {
        torch_refuse(r, TORCH_STRUCTURE, "a pickle of %llu bytes, at most %d are read", (unsigned long long)e->size, PICKLE_LARGEST);
        return NULL;
    }
    unsigned char *code = arena_take(scratch, (size_t)e->size);
    if (!code) torch_memory(r);
    /* read in one portion, the bytes stay in the buffer when their CRC has been taken */
    return code && zip_crc(z->file, e->data, e->size, e->crc, e->name, code, (size_t)e->size, r) ? code : NULL;
}

static bool read_archive(Torchfile *f, Arena *scratch, Refusal *r)
{
    Zip z;
    Value root;
    char prefix[PICKLE_NAME + 1];
    if (!looks_like_zip(&f->file, r) || !zip_list(&z, &f->file, scratch, scratch, r)) return false;
    const char *name = find_pickle(&z, r);
    if (!name || !zip_check(&z, r)) return false;
    snprintf(prefix, sizeof prefix, "%.*s", (int)(strchr(name, '/') + 1 - name), name);
    const ZipEntry *e = zip_find(&z, name);
    unsigned char *code = load_pickle(&z, e, scratch, r);
    if (!code || !little_endian(&z, prefix, r)) return false;
    f->storage = arena_take(f->arena, (size_t)z.entries * sizeof *f->storage);
    if (!f->storage) return torch_memory(r);
    Pickle p = { .refusal = r, .file = f, .zip = &z, .prefix = prefix, .scratch = scratch, .code = code, .size = (size_t)e->size };
    return pickle_run(&p, &root) && pickle_list(&p, root, f->arena);
}

/* Names of storages outlive the archive's directory. */
static bool keep_names(Torchfile *f, Refusal *r)
{
    for (int i = 0; i < f->storages; i++) {
        size_t n = strlen(f->storage[i].name) + 1;
        char *copy = arena_take(f->arena, n);
        if (!copy) return torch_memory(r);
        f->storage[i].name = memcpy(copy, f->storage[i].name, n);
    }
    return true;
}

bool torchfile_open(Torchfile *f, Arena *a, const char *path, Status *s)
{
    *f = (Torchfile){ .arena = a, .cached = -1 };
    size_t mark = a->used, left = a->limit > a->reserved ? a->limit - a->reserved : 1;
    Arena scratch = { .limit = a->limit ? left : 0, .poison = a->poison };
    if (s->code != OK || !file_open(&f->file, path, s)) return false;
    Refusal r = { .file = f->file.name, .status = s };
    bool ok = read_archive(f, &scratch, &r) && keep_names(f, &r);
    arena_free(&scratch);
    f->cache = (Arena){ .limit = a->limit, .poison = a->poison };
    f->refused = r.kind;
    if (ok) return true;
    torchfile_close(f);
    arena_release(a, mark);
    return false;
}

void torchfile_close(Torchfile *f)
{
    file_close(&f->file);
    arena_free(&f->cache);
    f->cached = -1;
    f->tensors = f->storages = 0;
    f->tensor = NULL;
    f->storage = NULL;
}

const TorchTensor *torchfile_find(const Torchfile *f, const char *name)
{
    int low = 0, high = f->tensors;
    while (low < high) {
        int mid = low + (high - low) / 2, c = strcmp(name, f->tensor[mid].name);
        if (!c) return &f->tensor[mid];
        if (c < 0) high = mid;
        else low = mid + 1;
    }
    return NULL;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static bool no_memory(const Torchfile *f, const char *name, uint64_t n, Status *s)
{
    status_fail(s, E_MEMORY, "%s: no memory for the %llu bytes of %.100s", f->file.name, (unsigned long long)n, name);
    return false;
}

static bool checked(Torchfile *f, int i, Status *s)
{
    TorchStorage *st = &f->storage[i];
    if (s->code != OK || st->checked) return s->code == OK;
    uint64_t bytes = st->count * dtype_size(st->type);
    size_t mark = f->cache.used, room = bytes < BUFFER ? (size_t)bytes : BUFFER;
    unsigned char *buffer = arena_take(&f->cache, room);
    if (!buffer) return no_memory(f, st->name, room, s);
    Refusal r = { .file = f->file.name, .status = s };
    st->checked = zip_crc(&f->file, st->at, bytes, st->crc, st->name, buffer, room, &r);
    if (r.kind != TORCH_FINE) f->refused = r.kind;
    arena_release(&f->cache, mark);
    return st->checked;
}

bool torchfile_verify(Torchfile *f, Status *s)
{
    for (int i = 0; i < f->tensors; i++)
        if (!checked(f, f->tensor[i].storage, s)) return false;
    return s->code == OK;
}

/* The whole storage in memory, until another is wanted: its elements are picked in any order. */
static const unsigned char *whole(Torchfile *f, int i, Status *s)
{
    TorchStorage *st = &f->storage[i];
    size_t bytes = (size_t)(st->count * dtype_size(st->type));
    if (f->cached != i) {
        f->cached = -1;
        arena_free(&f->cache);
        f->held = arena_take(&f->cache, bytes);
        if (!f->held) no_memory(f, st->name, bytes, s);
        if (!f->held || !file_read(&f->file, f->held, st->at, bytes, s)) return NULL;
        f->cached = i;
    }
    return f->held;
}

static void gather(const TorchTensor *t, const unsigned char *from, size_t width, uint64_t first, uint64_t count, unsigned char *to)
{
    uint64_t at[8], place = t->offset;
    for (int i = t->rank; i-- > 0; first /= t->size[i]) {
        at[i] = first % t->size[i];
        place += at[i] * t->stride[i];
    }
    for (uint64_t k = 0; k < count; k++, to += width) {
        memcpy(to, from + place * width, width);
        for (int i = t->rank; i-- > 0; ) {
            place += t->stride[i];
            if (++at[i] < t->size[i]) break;
            place -= t->size[i] * t->stride[i];
            at[i] = 0;
        }
    }
}

bool torchfile_bytes(Torchfile *f, const TorchTensor *t, uint64_t first, uint64_t count, void *to, Status *s)
{
    size_t width = dtype_size(t->type);
    if (s->code == OK && (first > t->count || count > t->count - first)) status_fail(s, E_SHAPE, "%s: tensor \"%.160s\": elements past its end", f->file.name, t->name);
    if (!checked(f, t->storage, s)) return false;
    if (t->dense) return file_read(&f->file, to, f->storage[t->storage].at + (t->offset + first) * width, (size_t)count * width, s);
    const unsigned char *from = whole(f, t->storage, s);
    if (from) gather(t, from, width, first, count, to);
    return from != NULL;
}

static bool of_kind(const Torchfile *f, const TorchTensor *t, bool real_wanted, Status *s)
{
    if (s->code == OK && (t->type <= T_BF16) != real_wanted)
        status_fail(s, E_FORMAT, "%s: tensor \"%.160s\" is stored as %s, %s wanted", f->file.name, t->name, dtype_name(t->type),
                    real_wanted ? "F64, F32, F16 or BF16 is" : "an integer type is");
    return s->code == OK;
}

bool torchfile_read_part(Torchfile *f, const TorchTensor *t, uint64_t first, uint64_t count, real *to, Status *s)
{
    unsigned char buffer[CHUNK];
    size_t most = CHUNK / dtype_size(t->type);
    if (!of_kind(f, t, true, s)) return false;
    for (uint64_t i = 0; i < count; ) {
        size_t n = count - i < most ? (size_t)(count - i) : most;
        if (!torchfile_bytes(f, t, first + i, n, buffer, s)) return false;
        dtype_to_real(t->type, buffer, n, to + i);
        i += n;
    }
    return true;
}

bool torchfile_read(Torchfile *f, const TorchTensor *t, real *to, Status *s) { return torchfile_read_part(f, t, 0, t->count, to, s); }

bool torchfile_read_i64(Torchfile *f, const TorchTensor *t, int64_t *to, Status *s)
{
    unsigned char buffer[CHUNK];
    size_t most = CHUNK / dtype_size(t->type);
    if (!of_kind(f, t, false, s)) return false;
    for (uint64_t i = 0; i < t->count; ) {
        size_t n = t->count - i < most ? (size_t)(t->count - i) : most;
        if (!torchfile_bytes(f, t, i, n, buffer, s)) return false;
        dtype_to_i64(t->type, buffer, n, to + i);
        i += n;
    }
    return true;
}
