#include <stdlib.h>
#include <string.h>
#include "tensor/hash.h"
#include "tensor/zip.h"

enum { END = 22, LONGEST_COMMENT = 65535, END64 = 56, LOCATOR = 20, CENTRAL = 46, LOCAL = 30, LARGEST_DIRECTORY = 1 << 26, LONGEST_NAME = 1024 };
enum { LOCAL_IS_ZERO = 8, UTF8 = 0x800 };                 /* flag bits 3 and 11, the ones torch sets */

static uint64_t little(const unsigned char *p, int n)
{
    uint64_t v = 0;
    while (n-- > 0) v = v << 8 | p[n];
    return v;
}

static bool signed_as(const unsigned char *p, unsigned mark) { return little(p, 4) == mark; }

/* ---- the end of the archive ---------------------------------------------------------------------------- */

typedef struct { uint64_t count, size, offset, stop; } Directory;            /* stop: where it ends */

static bool outside(Refusal *r, const char *what) { return torch_refuse(r, TORCH_ZIP_BOUNDS, "%s", what); }

static bool fits(uint64_t small, uint64_t large, uint64_t saturated) { return small == large || small == saturated; }

/* The zip64 end record and its locator stand right before the end record; `at` is where that is. */
static bool read_end64(Directory *d, const File *f, uint64_t at, const unsigned char *locator, Refusal *r)
{
    unsigned char b[END64];
    uint64_t place = at - LOCATOR, record = little(locator + 8, 8);
    if (little(locator + 4, 4) || little(locator + 16, 4) != 1) return outside(r, "an archive on several disks");
    if (record > place || place - record < END64) return outside(r, "the zip64 end record lies outside the file");
    if (!file_read(f, b, record, END64, r->status)) return false;
    if (!signed_as(b, 0x06064B50) || little(b + 4, 8) != place - record - 12) return outside(r, "no zip64 end record where its locator points");
    if (little(b + 16, 4) || little(b + 20, 4) || little(b + 24, 8) != little(b + 32, 8)) return outside(r, "an archive on several disks");
    if (!fits(d->count, little(b + 32, 8), 0xFFFF) || !fits(d->size, little(b + 40, 8), 0xFFFFFFFF) || !fits(d->offset, little(b + 48, 8), 0xFFFFFFFF))
        return outside(r, "the end record and the zip64 end record differ");
    *d = (Directory){ little(b + 32, 8), little(b + 40, 8), little(b + 48, 8), record };
    return true;
}

static bool read_end(Directory *d, const File *f, Arena *scratch, Refusal *r)
{
    size_t n = f->size < END + LONGEST_COMMENT ? (size_t)f->size : END + LONGEST_COMMENT;
    unsigned char *b = arena_take(scratch, n), locator[LOCATOR];
    if (!b) return torch_memory(r);
    if (!file_read(f, b, f->size - n, n, r->status)) return false;
    size_t at = n < END ? 0 : n - END + 1;
    while (at-- > 0)
        if (signed_as(b + at, 0x06054B50) && little(b + at + 20, 2) == n - at - END) break;
    if (at == (size_t)-1) return torch_refuse(r, TORCH_NOT_ZIP, "a zip archive without its end (cut off?)");
    if (little(b + at + 4, 2) || little(b + at + 6, 2) || little(b + at + 8, 2) != little(b + at + 10, 2)) return outside(r, "an archive on several disks");
    uint64_t place = f->size - n + at;
    *d = (Directory){ little(b + at + 10, 2), little(b + at + 12, 4), little(b + at + 16, 4), place };
    if (place >= LOCATOR) {
        if (!file_read(f, locator, place - LOCATOR, LOCATOR, r->status)) return false;
        if (signed_as(locator, 0x07064B50) && !read_end64(d, f, place, locator, r)) return false;
    }
    if (d->offset > d->stop || d->size != d->stop - d->offset) return outside(r, "the directory does not end where the end record begins");
    if (d->size > LARGEST_DIRECTORY) return outside(r, "a directory of more than 64 MiB");
    if (d->count > d->size / CENTRAL) return outside(r, "more entries are stated than the directory has room for");
    return true;
}

/* ---- the directory ------------------------------------------------------------------------------------- */

/* Sizes and place that do not fit 32 bits stand in the extra field of kind 1, in this order, and only those. */
static bool read_extra(ZipEntry *e, const unsigned char *p, size_t n, Refusal *r)
{
    uint64_t *const wide[3] = { &e->size, &e->stored, &e->local };
    int wanted = 0;
    for (int i = 0; i < 3; i++) wanted += *wide[i] == 0xFFFFFFFF;
    while (wanted && n >= 4) {
        size_t kind = (size_t)little(p, 2), bytes = (size_t)little(p + 2, 2);
        if (bytes > n - 4) break;
        const unsigned char *q = p + 4, *end = q + bytes;
        p = end;
        n -= 4 + bytes;
        if (kind != 1) continue;
        for (int i = 0; i < 3; i++) {
            if (*wide[i] != 0xFFFFFFFF) continue;
            if (end - q < 8) return outside(r, "a zip64 field that is too short");
            *wide[i] = little(q, 8);
            q += 8;
        }
        wanted = 0;
    }
    return !wanted || outside(r, "an entry whose sizes should be in a zip64 field, and are not");
}

static int by_name(const void *a, const void *b)
{
    const ZipEntry *x = a, *y = b;
    int c = memcmp(x->name, y->name, x->length < y->length ? x->length : y->length);
    return c ? c : (x->length > y->length) - (x->length < y->length);
}

static bool read_entries(Zip *z, const unsigned char *p, size_t n, uint64_t count, Arena *a, Refusal *r)
{
    z->entry = arena_take(a, (size_t)count * sizeof *z->entry);
    char *shelf = arena_take(a, n);                       /* names are shorter than the records that hold them */
    if (!z->entry || !shelf) return torch_memory(r);
    for (uint64_t i = 0; i < count; i++) {
        if (n < CENTRAL || !signed_as(p, 0x02014B50)) return outside(r, "the directory ends early");
        size_t name = (size_t)little(p + 28, 2), extra = (size_t)little(p + 30, 2), comment = (size_t)little(p + 32, 2);
        if (name + extra + comment > n - CENTRAL) return outside(r, "the directory ends early");
        if (little(p + 34, 2)) return outside(r, "an entry on another disk");
        ZipEntry *e = &z->entry[z->entries++];
        *e = (ZipEntry){ .name = memcpy(shelf, p + CENTRAL, name), .length = name, .size = little(p + 24, 4), .stored = little(p + 20, 4),
                         .local = little(p + 42, 4), .crc = (uint32_t)little(p + 16, 4), .flags = (unsigned)little(p + 8, 2),
                         .method = (unsigned)little(p + 10, 2), .use = -1 };
        shelf[name] = 0;
        shelf += name + 1;
        if (!read_extra(e, p + CENTRAL + name, extra, r)) return false;
        p += CENTRAL + name + extra + comment;
        n -= CENTRAL + name + extra + comment;
    }
    if (n) return outside(r, "the directory holds more than its entries");
    qsort(z->entry, (size_t)z->entries, sizeof *z->entry, by_name);
    return true;
}

bool zip_list(Zip *z, const File *file, Arena *a, Arena *scratch, Refusal *r)
{
    Directory d = { 0, 0, 0, 0 };
    *z = (Zip){ .file = file };
    if (!read_end(&d, file, scratch, r)) return false;
    unsigned char *bytes = arena_take(scratch, (size_t)d.size);
    if (!bytes) return torch_memory(r);
    z->directory = d.offset;
    return file_read(file, bytes, d.offset, (size_t)d.size, r->status) && read_entries(z, bytes, (size_t)d.size, d.count, a, r);
}

/* ---- the rest ------------------------------------------------------------------------------------------ */

static bool plain_name(const ZipEntry *e)
{
    if (!e->length || e->length > LONGEST_NAME || e->name[0] == '/') return false;
    for (size_t i = 0; i < e->length; i++)
        if (e->name[i] < 0x20 || e->name[i] > 0x7E || e->name[i] == '\\') return false;
    for (const char *p = e->name; p; p = strchr(p, '/')) {
        if (*p == '/') p++;
        if (p[0] == '.' && p[1] == '.' && (!p[2] || p[2] == '/')) return false;
    }
    return true;
}

static bool names_are_fine(const Zip *z, Refusal *r)
{
    for (int i = 0; i < z->entries; i++)
        if (z->entry[i].method || z->entry[i].stored != z->entry[i].size)
            return torch_refuse(r, TORCH_ZIP_COMPRESSED, "entry \"%.100s\" is compressed", z->entry[i].name);
    for (int i = 1; i < z->entries; i++)
        if (!by_name(&z->entry[i - 1], &z->entry[i])) return torch_refuse(r, TORCH_ZIP_DUPLICATE, "two entries are called \"%.100s\"", z->entry[i].name);
    for (int i = 0; i < z->entries; i++)
        if (!plain_name(&z->entry[i])) return torch_refuse(r, TORCH_BAD_NAME, "entry \"%.100s\": no plain name", z->entry[i].name);
    return true;
}

static bool stated_here(uint64_t local, uint64_t central, const ZipEntry *e, bool size)
{
    return local == central || (size && local == 0xFFFFFFFF) || (e->flags & LOCAL_IS_ZERO && !local);
}

/* The local header of e, where it is told to be; data lie behind it.  Flags come last, as in the list of kinds. */
static bool read_local(const Zip *z, ZipEntry *e, bool *flags_differ, Refusal *r)
{
    unsigned char b[LOCAL + LONGEST_NAME];
    if (e->local > z->directory || z->directory - e->local < LOCAL) return torch_refuse(r, TORCH_ZIP_BOUNDS, "entry \"%.100s\" lies outside the file", e->name);
    uint64_t room = z->directory - e->local;
    size_t n = room < LOCAL + e->length ? (size_t)room : LOCAL + e->length;
    if (!file_read(z->file, b, e->local, n, r->status)) return false;
    uint64_t skip = LOCAL + little(b + 26, 2) + little(b + 28, 2);
    if (skip > room || e->size > room - skip) return torch_refuse(r, TORCH_ZIP_BOUNDS, "entry \"%.100s\" lies outside the file", e->name);
    e->data = e->local + skip;
    if (!signed_as(b, 0x04034B50) || little(b + 26, 2) != e->length || memcmp(b + LOCAL, e->name, e->length) || little(b + 8, 2) != e->method
        || !stated_here(little(b + 14, 4), e->crc, e, false) || !stated_here(little(b + 18, 4), e->size, e, true) || !stated_here(little(b + 22, 4), e->size, e, true))
        return torch_refuse(r, TORCH_ZIP_HEADER_MISMATCH, "entry \"%.100s\" and its local header differ", e->name);
    *flags_differ = little(b + 6, 2) != e->flags;
    return true;
}

static int by_place(const void *a, const void *b)
{
    const ZipEntry *x = a, *y = b;
    return (x->local > y->local) - (x->local < y->local);
}

static bool apart(Zip *z, Refusal *r)
{
    bool ok = true;
    qsort(z->entry, (size_t)z->entries, sizeof *z->entry, by_place);
    for (int i = 1; i < z->entries && ok; i++)
        if (z->entry[i].local < z->entry[i - 1].data + z->entry[i - 1].size)
            ok = torch_refuse(r, TORCH_ZIP_BOUNDS, "entries \"%.80s\" and \"%.80s\" overlap", z->entry[i - 1].name, z->entry[i].name);
    qsort(z->entry, (size_t)z->entries, sizeof *z->entry, by_name);
    return ok;
}

bool zip_check(Zip *z, Refusal *r)
{
    const ZipEntry *flagged = NULL;
    if (!names_are_fine(z, r)) return false;
    for (int i = 0; i < z->entries; i++) {
        bool differ = false;
        if (!read_local(z, &z->entry[i], &differ, r)) return false;
        if (!flagged && (differ || z->entry[i].flags & ~(unsigned)(LOCAL_IS_ZERO | UTF8))) flagged = &z->entry[i];
    }
    if (flagged) return torch_refuse(r, TORCH_ZIP_FLAGS, "entry \"%.100s\" has flags 0x%04x (encrypted?)", flagged->name, flagged->flags);
    return apart(z, r);
}

ZipEntry *zip_find(const Zip *z, const char *name)
{
    ZipEntry wanted = { .name = name, .length = strlen(name) };
    return z->entries ? bsearch(&wanted, z->entry, (size_t)z->entries, sizeof wanted, by_name) : NULL;
}

bool zip_crc(const File *file, uint64_t data, uint64_t size, uint32_t crc, const char *name, unsigned char *buffer, size_t room, Refusal *r)
{
    uint32_t found = 0;
    for (uint64_t at = 0; at < size; ) {
        size_t n = size - at < room ? (size_t)(size - at) : room;
        if (!file_read(file, buffer, data + at, n, r->status)) return false;
        found = crc32_of(found, buffer, n);
        at += n;
    }
    return found == crc || torch_refuse(r, TORCH_ZIP_CRC, "entry \"%.100s\" has CRC-32 %08x, its bytes have %08x", name, crc, found);
}
