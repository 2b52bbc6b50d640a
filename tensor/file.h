/* file.h -- the operating system: the only place that knows it. */
#ifndef TENSOR_FILE_H
#define TENSOR_FILE_H
#include <stdint.h>
#include "tensor/run.h"

typedef struct { int fd; uint64_t size; char name[400]; } File;

bool   file_open (File *f, const char *path, Status *s);             /* regular files only; E_FILE names the path and the reason */
bool   file_read (const File *f, void *to, uint64_t offset, size_t bytes, Status *s);        /* all of it, or E_FILE */
void   file_close(File *f);
/* The whole file in malloc'd memory with a NUL after it (not counted in *size); at most `most` bytes. NULL on failure. */
char  *file_load (const char *path, size_t most, size_t *size, Status *s);
bool   file_exists(const char *path);
bool   folder_exists(const char *path);
/* How many regular files in the folder have a name that ends so; the path of one of them. */
int    folder_find(const char *folder, const char *const *ending, int endings, char *path, size_t room);
bool   folder_make(const char *path, Status *s);                     /* fine if it is there */

/* Outputs appear whole or not at all: written beside the target under a temporary name, fsync'ed, then renamed. */
typedef struct { int fd; char path[1024], temporary[1060]; } FileOut;
bool   file_begin (FileOut *f, const char *path, Status *s);         /* E_WRITE */
bool   file_append(FileOut *f, const void *from, size_t bytes, Status *s);
bool   file_finish(FileOut *f, Status *s);                           /* the rename */
void   file_abandon(FileOut *f);                                     /* safe at any time, also after finish */
bool   file_save(const char *path, const void *from, size_t bytes, Status *s);               /* all four in one */

double   clock_seconds(void);                                        /* monotonic */
uint64_t system_random(void);
int      system_processors(void);                                    /* those this process may use: affinity and cgroup quota */
uint64_t system_memory(void);                                        /* bytes this process may use: cgroup limit and free memory */
uint64_t process_peak_memory(void);                                  /* bytes, resident */
#endif
