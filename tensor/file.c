#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif
#include "tensor/file.h"

enum { MOST_AT_ONCE = 1 << 30 };                          /* systems refuse or cut transfers of 2 GiB and more */

/* Descriptors 0, 1, 2 are never ours: a zeroed File or FileOut is thereby closed, and a host that closed its
 * standard output does not print into our file. */
static int above_standard(int fd)
{
    if (fd < 0 || fd > 2) return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3), why = errno;
    close(fd);
    errno = why;
    return moved;
}

static const char *kind_of(mode_t m)
{
    return S_ISDIR(m) ? "a folder" : S_ISFIFO(m) ? "a pipe" : S_ISSOCK(m) ? "a socket" : "a device";
}

static bool name_copy(char *to, size_t room, const char *path)
{
    size_t n = strlen(path);
    if (n < room) {
        memcpy(to, path, n + 1);
        return true;
    }
    memcpy(to, "...", 3);                                 /* the end of a long path says more than its start */
    memcpy(to + 3, path + n - (room - 4), room - 3);
    return false;
}

/* Kind is asked before opening (opening a device can act on it) and after (the name may have changed hands). */
bool file_open(File *f, const char *path, Status *s)
{
    struct stat st;
    *f = (File){ .fd = -1 };
    name_copy(f->name, sizeof f->name, path);
    int seen = stat(path, &st);
    if (!seen && S_ISREG(st.st_mode)) {
        f->fd = above_standard(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
        seen = f->fd < 0 ? -1 : fstat(f->fd, &st);
    }
    if (seen) status_fail(s, E_FILE, "%s: %s", f->name, strerror(errno));
    else if (!S_ISREG(st.st_mode)) status_fail(s, E_FILE, "%s: is %s, not a file", f->name, kind_of(st.st_mode));
    else {
        f->size = (uint64_t)st.st_size;
        return true;
    }
    file_close(f);
    return false;
}

bool file_read(const File *f, void *to, uint64_t offset, size_t bytes, Status *s)
{
    if (f->fd <= 0 || offset > f->size || bytes > f->size - offset) {
        status_fail(s, E_FILE, "%s: %zu bytes wanted at %llu, the file has %llu", f->name, bytes,
                    (unsigned long long)offset, (unsigned long long)f->size);
        return false;
    }
    for (char *p = to; bytes; ) {
        ssize_t n = pread(f->fd, p, bytes < MOST_AT_ONCE ? bytes : MOST_AT_ONCE, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            status_fail(s, E_FILE, "%s: at byte %llu: %s", f->name, (unsigned long long)offset,
                        n < 0 ? strerror(errno) : "the file ended early (it became shorter while it was read)");
            return false;
        }
        p += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return true;
}

void file_close(File *f)
{
    if (f->fd > 0) close(f->fd);
    f->fd = -1;
    f->size = 0;
}

char *file_load(const char *path, size_t most, size_t *size, Status *s)
{
    File f;
    *size = 0;
    if (!file_open(&f, path, s)) return NULL;
    char *text = NULL;
    if (f.size > most)
        status_fail(s, E_FILE, "%s: %llu bytes, at most %zu are read", f.name, (unsigned long long)f.size, most);
    else if (!(text = malloc((size_t)f.size + 1)))
        status_fail(s, E_MEMORY, "%s: no memory for %llu bytes", f.name, (unsigned long long)f.size);
    else if (!file_read(&f, text, 0, (size_t)f.size, s)) {
        free(text);
        text = NULL;
    } else {
        *size = (size_t)f.size;
        text[*size] = 0;
    }
    file_close(&f);
    return text;
}

bool file_exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

bool folder_exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

int folder_find(const char *folder, const char *const *ending, int endings, char *path, size_t room)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d)); ) {
        char found[1024];
        bool ends = false;
        size_t length = strlen(e->d_name);
        for (int i = 0; i < endings; i++) {
            size_t m = strlen(ending[i]);
            ends |= length > m && !strcmp(e->d_name + length - m, ending[i]);
        }
        if (!ends || snprintf(found, sizeof found, "%s/%s", folder, e->d_name) >= (int)sizeof found || strlen(found) >= room || !file_exists(found)) continue;
        if (!n++) memcpy(path, found, strlen(found) + 1);
    }
    if (d) closedir(d);
    return n;
}

bool folder_make(const char *path, Status *s)
{
    if (!mkdir(path, 0777)) return true;
    int why = errno;
    if (why == EEXIST && folder_exists(path)) return true;
    status_fail(s, E_WRITE, "%s: cannot make this folder: %s", path, strerror(why));
    return false;
}

/* ---- outputs ------------------------------------------------------------------------------------------- */

static bool out_failed(FileOut *f, const char *what, int why, Status *s)
{
    status_fail(s, E_WRITE, "%s: %s: %s", f->path, what, why ? strerror(why) : "it is not open");
    file_abandon(f);
    return false;
}

static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* Where the bytes shall end up: through symbolic links, and never in place of a folder or device. */
static bool out_target(FileOut *f, const char *path, Status *s)
{
    struct stat st;
    char *real_path = !lstat(path, &st) && S_ISLNK(st.st_mode) ? realpath(path, NULL) : NULL;
    bool fits = name_copy(f->path, sizeof f->path, real_path ? real_path : path);
    free(real_path);
    size_t n = strlen(f->path);
    if (!fits) status_fail(s, E_WRITE, "%s: the path is longer than %zu bytes", f->path, sizeof f->path - 1);
    else if (!n || f->path[n - 1] == '/') status_fail(s, E_WRITE, "%s: a file name is wanted", f->path);
    else if (!stat(f->path, &st) && !S_ISREG(st.st_mode))
        status_fail(s, E_WRITE, "%s: is %s, not a file", f->path, kind_of(st.st_mode));
    else return true;
    return false;
}

bool file_begin(FileOut *f, const char *path, Status *s)
{
    *f = (FileOut){ .fd = -1 };
    if (!out_target(f, path, s)) return false;
    int folder = (int)folder_length(f->path);
    for (int tries = 0; tries < 8 && f->fd < 0; tries++) {
        snprintf(f->temporary, sizeof f->temporary, "%.*s.tiller-%016llx.part", folder, f->path,
                 (unsigned long long)system_random());
        f->fd = above_standard(open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
        if (f->fd < 0 && errno != EEXIST) break;
    }
    if (f->fd > 0) return true;
    int why = errno;
    f->temporary[0] = 0;                                  /* what bears this name is not ours */
    return out_failed(f, "cannot write here", why, s);
}

bool file_append(FileOut *f, const void *from, size_t bytes, Status *s)
{
    if (f->fd <= 0) return out_failed(f, "cannot write", 0, s);
    for (const char *p = from; bytes; ) {
        ssize_t n = write(f->fd, p, bytes < MOST_AT_ONCE ? bytes : MOST_AT_ONCE);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return out_failed(f, "cannot write", n ? errno : EIO, s);
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

bool file_finish(FileOut *f, Status *s)
{
    if (f->fd <= 0) return out_failed(f, "cannot write", 0, s);
    if (fsync(f->fd)) return out_failed(f, "cannot write", errno, s);
    int fd = f->fd;
    f->fd = -1;
    if (close(fd)) return out_failed(f, "cannot write", errno, s);
    if (rename(f->temporary, f->path)) return out_failed(f, "cannot rename to this", errno, s);
    f->temporary[0] = 0;
    char folder[sizeof f->path];
    snprintf(folder, sizeof folder, "%.*s.", (int)folder_length(f->path) < (int)sizeof folder - 2
             ? (int)folder_length(f->path) : 0, f->path);
    int d = open(folder, O_RDONLY | O_CLOEXEC);           /* makes the new name itself durable where the system can */
    if (d >= 0) {
        fsync(d);
        close(d);
    }
    return true;
}

void file_abandon(FileOut *f)
{
    if (f->fd > 0) close(f->fd);
    f->fd = -1;
    if (f->temporary[0]) unlink(f->temporary);
    f->temporary[0] = 0;
}

bool file_save(const char *path, const void *from, size_t bytes, Status *s)
{
    FileOut f;
    return file_begin(&f, path, s) && file_append(&f, from, bytes, s) && file_finish(&f, s);
}

/* ---- the machine --------------------------------------------------------------------------------------- */

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t system_random(void)
{
    uint64_t v = 0;
    if (!getentropy(&v, sizeof v)) return v;
    struct timespec t;                                    /* no source at all: still not the same twice */
    clock_gettime(CLOCK_REALTIME, &t);
    return ((uint64_t)t.tv_sec << 30 ^ (uint64_t)t.tv_nsec) * 0x9E3779B97F4A7C15u ^ (uint64_t)getpid() << 40;
}

#ifdef __linux__
/* A small text of the system's; its stated size is 0, so it is read until it ends. */
static bool small_text(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t n = 0;
    ssize_t got;
    while (n + 1 < room && ((got = read(fd, text + n, room - 1 - n)) > 0 || (got < 0 && errno == EINTR)))
        if (got > 0) n += (size_t)got;
    close(fd);
    text[n] = 0;
    return n > 0;
}

/* The number after `word` at the start of a line; `other` when it is not there. */
static uint64_t number_after(const char *text, const char *word, uint64_t other)
{
    size_t n = strlen(word);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, word, n)) return strtoull(line + n, NULL, 10);
    return other;
}

/* Calls look(folder) for this process's control group of that controller ("" is version 2) and every group above it. */
static uint64_t least_of_groups(const char *controller, const char *root, uint64_t look(const char *folder), uint64_t least)
{
    char text[4096], folder[4600];
    if (!small_text("/proc/self/cgroup", text, sizeof text)) return least;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        if (*controller ? !strstr(names + 1, controller) : names[1] != 0) continue;
        snprintf(folder, sizeof folder, "%s%s", root, path);
        for (size_t n = strlen(folder); n >= strlen(root); ) {
            uint64_t v = look(folder);
            if (v < least) least = v;
            while (n && folder[n] != '/') n--;
            folder[n] = 0;
            if (!n) break;
        }
    }
    return least;
}

static uint64_t number_in(const char *folder, const char *leaf, uint64_t other)
{
    char path[4700], text[64];
    snprintf(path, sizeof path, "%s/%s", folder, leaf);
    return small_text(path, text, sizeof text) && text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10) : other;
}

static uint64_t processors_v2(const char *folder)
{
    char path[4700], text[64];
    unsigned long long quota, period;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (!small_text(path, text, sizeof text) || sscanf(text, "%llu %llu", &quota, &period) != 2 || !period) return UINT64_MAX;
    return (quota + period - 1) / period;
}

static uint64_t processors_v1(const char *folder)
{
    uint64_t quota = number_in(folder, "cpu.cfs_quota_us", 0), period = number_in(folder, "cpu.cfs_period_us", 0);
    return quota && period ? (quota + period - 1) / period : UINT64_MAX;
}

static uint64_t memory_left(const char *folder, const char *most, const char *now, const char *cache)
{
    char path[4700], text[8192];
    uint64_t limit = number_in(folder, most, UINT64_MAX), used = number_in(folder, now, 0);
    if (limit == UINT64_MAX) return limit;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    uint64_t idle = small_text(path, text, sizeof text) ? number_after(text, cache, 0) : 0;
    used = used > idle ? used - idle : 0;                 /* the page cache gives way */
    return limit > used ? limit - used : 0;
}

static uint64_t memory_v2(const char *folder)
{
    return memory_left(folder, "memory.max", "memory.current", "inactive_file ");
}

static uint64_t memory_v1(const char *folder)
{
    return memory_left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ");
}

int system_processors(void)
{
    cpu_set_t set;
    uint64_t n = sched_getaffinity(0, sizeof set, &set) ? (uint64_t)sysconf(_SC_NPROCESSORS_ONLN) : (uint64_t)CPU_COUNT(&set);
    n = least_of_groups("", "/sys/fs/cgroup", processors_v2, n);
    n = least_of_groups("cpu", "/sys/fs/cgroup/cpu", processors_v1, n);
    return n > 1 ? (int)n : 1;
}

uint64_t system_memory(void)
{
    char text[8192];
    struct rlimit space;
    uint64_t n = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (small_text("/proc/meminfo", text, sizeof text)) n = number_after(text, "MemAvailable:", n >> 10) << 10;
    if (!getrlimit(RLIMIT_AS, &space) && space.rlim_cur != RLIM_INFINITY && space.rlim_cur < n) n = space.rlim_cur;
    n = least_of_groups("", "/sys/fs/cgroup", memory_v2, n);
    return least_of_groups("memory", "/sys/fs/cgroup/memory", memory_v1, n);
}

uint64_t process_peak_memory(void)
{
    char text[8192];
    return small_text("/proc/self/status", text, sizeof text) ? number_after(text, "VmHWM:", 0) << 10 : 0;
}
#else
int system_processors(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 1 ? (int)n : 1;
}

uint64_t system_memory(void) { return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE); }

uint64_t process_peak_memory(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) ? 0 : (uint64_t)u.ru_maxrss;     /* bytes on macOS */
}
#endif
