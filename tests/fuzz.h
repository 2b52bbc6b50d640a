/* fuzz.h -- what the fuzz targets share: a broken promise, and bytes under a path. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static inline void require(int holds)                     /* a broken promise is a finding */
{
    if (!holds) abort();
}

/* The path of a file in memory that holds these bytes, until the next call. */
static inline const char *fuzz_path(const void *bytes, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(!ftruncate(fd, 0) && pwrite(fd, bytes, n, 0) == (ssize_t)n);
    return path;
}
#endif
