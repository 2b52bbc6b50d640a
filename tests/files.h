/* files.h -- a scratch folder beside the test program, and safetensors files from their parts. */
#ifndef TESTS_FILES_H
#define TESTS_FILES_H
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tensor/safetensors.h"

static char scratch[1024];

static inline int scratch_make(const char *program)       /* program: argv[0] */
{
    snprintf(scratch, sizeof scratch - 64, "%s.XXXXXX", program);
    return mkdtemp(scratch) != NULL;
}

static inline const char *at(const char *name)            /* the path of a name in the scratch folder; eight live at a time */
{
    static char path[8][PATH_MAX];
    static int turn = 0;
    char *p = path[turn++ % 8];
    snprintf(p, PATH_MAX, "%s/%s", scratch, name);
    return p;
}

static inline int scratch_count(void)                     /* names in the folder */
{
    int n = -2;                                           /* "." and ".." */
    DIR *d = opendir(scratch);
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

static inline void scratch_empty(void)
{
    DIR *d = opendir(scratch);
    for (struct dirent *e; d && (e = readdir(d)); )
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) remove(at(e->d_name));
    if (d) closedir(d);
}

static inline void scratch_remove(void)
{
    scratch_empty();
    rmdir(scratch);
}

static inline int put_bytes(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f) return 0;
    int ok = fwrite(bytes, 1, n, f) == n;
    return !fclose(f) && ok;
}

static inline int put_text(const char *path, const char *text) { return put_bytes(path, text, strlen(text)); }

/* u64 length, header, `data` bytes of 0, 1, 2, ...: the bytes into `to`, their number returned. */
static inline size_t safetensors_image(unsigned char *to, const char *header, size_t length, uint64_t stated, size_t data)
{
    for (int i = 0; i < 8; i++) to[i] = (unsigned char)(stated >> 8 * i);
    memcpy(to + 8, header, length);
    for (size_t i = 0; i < data; i++) to[8 + length + i] = (unsigned char)i;
    return 8 + length + data;
}
#endif
