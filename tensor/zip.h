/* zip.h -- the container of .pt files: a zip archive read by its central directory (APPNOTE 6.3, with zip64), strictly.
 * One disk, stored entries only, nothing compressed or encrypted; every range is inside the file and no two overlap. */
#ifndef TENSOR_ZIP_H
#define TENSOR_ZIP_H
#include "tensor/file.h"
#include "tensor/torchkind.h"

typedef struct {
    const char *name;                                     /* `length` bytes and a NUL; ASCII once zip_check has passed */
    size_t   length;
    uint64_t size, stored, local, data;                   /* bytes, bytes in the archive, places of header and data in the file */
    uint32_t crc;
    unsigned flags, method;
    int      use;                                         /* the caller's own number; -1 at first */
} ZipEntry;

typedef struct {
    const File *file;
    ZipEntry *entry;                                      /* in order of name */
    int entries;
    uint64_t directory;                                   /* where it begins: data end before it */
} Zip;

/* Two steps, so that the caller may look at the names first: zip_list reads the directory, zip_check makes sure of the rest and
 * finds the data.  Memory: a small multiple of the directory, whose size is checked against the file. */
bool zip_list (Zip *z, const File *file, Arena *a, Arena *scratch, Refusal *r);
bool zip_check(Zip *z, Refusal *r);
ZipEntry *zip_find(const Zip *z, const char *name);       /* NULL: not there */
/* The CRC-32 of an entry's bytes is as stated; TORCH_ZIP_CRC.  Reads all of it, `room` bytes at a time into buffer. */
bool zip_crc(const File *file, uint64_t data, uint64_t size, uint32_t crc, const char *name, unsigned char *buffer, size_t room, Refusal *r);
#endif
