/* hostile_torch.c -- checkpoints made to hurt: each is refused for a stated reason, or gives the very tensors it gave before.
 * Meant to run under address and undefined-behaviour checkers too. */
#include <sys/mman.h>
#include <time.h>
#include "tensor/json.h"
#include "tests/check.h"
#include "tests/files.h"
#include "tests/torch_archive.h"

enum { ROOM = 1 << 16, LIMIT = 1 << 19 };                 /* below 1 MiB an arena takes what it needs, not a block: quick */

static const char GOOD[] = "tests/golden/cases/pix-pt-good", BAD[] = "tests/golden/cases/pix-pt-bad";
static int fd;                                            /* the file under test has no place on any disk: quick */
static char path[64];
static real numbers[ROOM];
static int64_t integers[ROOM];

static uint64_t mixed(uint64_t h, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)bytes)[i]) * 0x100000001B3u;
    return h;
}

/* A number that stands for all tensors: names, types, sizes, values.  0: the file was refused, in a clean way.
 * 1: a promise was broken. */
static uint64_t digest(const unsigned char *bytes, size_t n, size_t limit, Status *why)
{
    Arena a = { .limit = limit, .poison = true };
    Status s = {0};
    Torchfile f;
    uint64_t h = 0xCBF29CE484222325u;
    if (ftruncate(fd, 0) || pwrite(fd, bytes, n, 0) != (ssize_t)n) return 1;
    bool ok = torchfile_open(&f, &a, path, &s);
    if (ok != (s.code == OK) || (!ok && (a.used || f.tensors || f.storages || f.file.fd > 0))) h = 1;
    if (ok) ok = torch_promises(&f, ROOM, numbers, integers, &s);
    if (!ok && (!strstr(s.text, path) || (s.code != E_FORMAT && s.code != E_MEMORY) || (s.code == E_FORMAT && f.refused == TORCH_FINE))) h = 1;
    for (int i = 0; i < f.tensors && ok; i++) {
        const TorchTensor *t = &f.tensor[i];
        h = mixed(h, t->name, strlen(t->name) + 1);
        h = mixed(h, &t->type, sizeof t->type);
        h = mixed(h, t->size, (size_t)t->rank * sizeof *t->size);
        if (t->type <= T_BF16 ? !torchfile_read(&f, t, numbers, &s) : !torchfile_read_i64(&f, t, integers, &s)) ok = false;
        h = t->type <= T_BF16 ? mixed(h, numbers, (size_t)t->count * sizeof *numbers) : mixed(h, integers, (size_t)t->count * sizeof *integers);
    }
    torchfile_close(&f);
    arena_free(&a);
    if (why) *why = s;
    return ok || h == 1 ? h : 0;
}

static unsigned char *loaded(const char *folder, const char *name, size_t *n)
{
    char from[300];
    Status s = {0};
    snprintf(from, sizeof from, "%s/%s", folder, name);
    return (unsigned char *)file_load(from, 1 << 20, n, &s);
}

static void all_bad(void)
{
    char from[300];
    Arena a = {0};
    Status s = {0};
    int files = 0;
    snprintf(from, sizeof from, "%s/case.json", BAD);
    const Json *j = json_load(&a, from, &s), *expect = json_get(json_get(j, "params"), "expect");
    for (const Json *c = expect ? expect->child : NULL; c; c = c->next, files++) {
        size_t n;
        char kind[64];
        unsigned char *b = loaded(BAD, c->key, &n);
        snprintf(kind, sizeof kind, ": %s: ", c->text);
        check_line(c->key, s.text, b && !digest(b, n, 0, &s) && s.code == E_FORMAT && strstr(s.text, kind));
        for (size_t limit = 1; b && limit < 1 << 18; limit = limit * 3 + 64) check_true("and with little memory", !digest(b, n, limit, &s));
        free(b);
    }
    check_true("86 files", files == 86);
    arena_free(&a);
}

static double busy_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static const char *const FILES[] = { "plain.pt", "nested.pt", "delta_h.pth", "list.ckpt", "asyrp.pth" };

/* Every byte changed, and every third length: refused, or the same tensors. */
static void damaged(void)
{
    for (size_t k = 0; k < sizeof FILES / sizeof *FILES; k++) {
        size_t n, refusals = 0, same = 0, other = 0, stride = k == 4 ? 37 : 1;
        unsigned char *b = loaded(GOOD, FILES[k], &n);
        uint64_t whole = b ? digest(b, n, 0, NULL) : 0;
        for (size_t i = 0; i < n && b; i += stride) {
            unsigned char before = b[i];
            b[i] = (unsigned char)(i % 3 ? before ^ 1 << i % 8 : ~before);
            uint64_t h = digest(b, n, LIMIT, NULL);
            refusals += h == 0;
            same += h == whole;
            other += h && h != whole;
            b[i] = before;
        }
        for (size_t cut = 0; cut < n && b; cut += 3 * stride) other += digest(b, cut, LIMIT, NULL) != 0;
        char detail[100];
        snprintf(detail, sizeof detail, "%s: %zu refused, %zu the same, %zu others", FILES[k], refusals, same, other);
        check_line("a byte changed, or the end cut off", detail, whole > 1 && refusals && same && !other);
        free(b);
    }
}

/* The same with every CRC set right: then other tensors are what the file says, and no promise may break. */
static void believed(void)
{
    for (size_t k = 0; k < 4; k++) {
        size_t n, broken = 0, read = 0;
        unsigned char *b = loaded(GOOD, FILES[k], &n), *c = b ? malloc(n) : NULL;
        for (size_t i = 0; i < 2 * n && c; i++) {
            memcpy(c, b, n);
            size_t first = (size_t)((check_uniform() + 1) / 2 * (double)n);
            for (int m = 0; m < 1 + (int)(i % 3) && first + (size_t)m < n; m++) c[first + (size_t)m] = (unsigned char)(i * 31 + first * 7 + (size_t)m * 13);
            archive_mend(c, n);
            uint64_t h = digest(c, n, LIMIT, NULL);
            broken += h == 1;
            read += h > 1;
        }
        check_line("bytes changed, CRCs mended", FILES[k], c && !broken && read);
        free(b);
        free(c);
    }
}

/* Random opcodes, mostly those that mean something, in an archive that is in order. */
static void nonsense(void)
{
    static const char code[] = "}])(tNKMJGXUTqrhj0aesucQRb.\x85\x86\x87\x88\x89\x8A";
    Bytes p = {0}, z = {0};
    int broken = 0, fine = 0;
    for (int i = 0; i < 10000; i++) {
        p.n = 0;
        op_byte(&p, 0x80);
        op_byte(&p, 2);
        op(&p, "](");
        for (int k = 0; k < i % 40; k++) {
            unsigned pick = (unsigned)((check_uniform() + 1) * 40);
            if (pick < sizeof code - 1) op_byte(&p, code[pick]);
            else if (pick < 40) op_view(&p, (View){ .numel = 24, .rank = 1, .size = { (int64_t)(pick % 32) }, .stride = { (int64_t)(pick % 3) } });
            else if (pick < 50) op_text(&p, pick % 2 ? "a" : "");
            else if (pick < 60) op_byte(&p, (int)pick % 4);
            else if (pick < 70) op_global(&p, "collections", "OrderedDict");
            else op(&p, "]");
        }
        op(&p, "e.");
        checkpoint(&z, &p, i % 2);
        uint64_t h = digest(z.b, z.n, LIMIT, NULL);
        broken += h == 1;
        fine += h > 1;
    }
    char detail[60];
    snprintf(detail, sizeof detail, "%d were in order", fine);
    check_line("ten thousand pickles at random", detail, !broken && fine > 100);
    bytes_free(&p);
    bytes_free(&z);
}

/* Every limit of memory up to what is needed: E_MEMORY, cleanly, and then the same tensors. */
static void without_memory(void)
{
    for (size_t k = 0; k < 4; k++) {
        size_t n, limit = 1;
        unsigned char *b = loaded(GOOD, FILES[k], &n);
        uint64_t whole = digest(b, n, 0, NULL), h = 0;
        int failures = 0, wrong = 0;
        for (Status s; !h && limit < 1 << 19; limit += 64) {
            h = digest(b, n, limit, &s);
            failures++;
            wrong += h ? h != whole : s.code != E_MEMORY;
        }
        char detail[80];
        snprintf(detail, sizeof detail, "%s: %d times refused, then %zu bytes do", FILES[k], failures - 1, limit);
        check_line("memory that grows by 64 bytes", detail, whole > 1 && h == whole && !wrong && failures > 20);
        free(b);
    }
}

/* A pickle of a million bytes of each kind that makes the machine work: done in no time, and in a hundred times its size at most. */
static void heavy(void)
{
    enum { LONG = 1000000 };
    static const struct { const char *before, *unit, *after; } row[] = {
        { "", "N", "." }, { "", "]", "." }, { "", "(", "." }, { "", "}", "." }, { "N", "\x85", "." }, { "]", "Na", "." }, { "](", "N", "e." }, { "]q", "h", "." },
        { "(", "N", "t." }, { "]", "]a", "." }, { "(", "]", "t." }, { "Nr", "Nr", "." }, { "X", "\xC3\xA9", "." }, { "c", "x", "." } };
    Bytes p = {0}, z = {0};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        Status s;
        p.n = 0;
        op_byte(&p, 0x80);
        op_byte(&p, 2);
        op(&p, row[i].before);
        while (p.n < LONG) op(&p, row[i].unit);
        op(&p, row[i].after);
        checkpoint(&z, &p, false);
        double start = busy_seconds();
        uint64_t h = digest(z.b, z.n, (size_t)128 << 20, &s);            /* 102 MB, of a million lists in a tuple; 19 MB as a rule */
        check_line(row[i].unit, s.text, h != 1 && s.code != E_MEMORY);
        check_below("in seconds", busy_seconds() - start, 4);            /* 0.03 here; 0.1 under sanitizers */
    }
    for (int n = 199999; n <= 200001; n += 2) {           /* 200 000 tensors are the most */
        Status s;
        p.n = 0;
        op_byte(&p, 0x80);
        op_byte(&p, 2);
        op_view(&p, (View){ .numel = 24, .rank = 1, .size = { 6 }, .stride = { 1 } });
        op(&p, "q");
        op_byte(&p, 0);
        op(&p, "0](");
        for (int i = 0; i < n; i++) op(&p, "h"), op_byte(&p, 0);
        op(&p, "e.");
        checkpoint(&z, &p, false);
        uint64_t h = digest(z.b, z.n, 0, &s);
        check_line("two hundred thousand tensors", s.text, n <= 200000 ? h > 1 : !h && strstr(s.text, ": structure: "));
    }
    bytes_free(&p);
    bytes_free(&z);
}

static void shrinking(void)
{
    size_t n;
    Arena a = {0};
    Status s = {0};
    Torchfile f;
    unsigned char *b = loaded(GOOD, "plain.pt", &n);
    put_bytes(at("x.pt"), b, n);
    bool opened = torchfile_open(&f, &a, at("x.pt"), &s);
    check_true("the file shrinks under the reader", opened && !truncate(at("x.pt"), 1000) && !torchfile_verify(&f, &s) && s.code == E_FILE);
    torchfile_close(&f);
    s = (Status){0};
    check_true("no such file", !torchfile_open(&f, &a, at("none.pt"), &s) && s.code == E_FILE);
    torchfile_close(&f);
    s = (Status){0};
    check_true("a folder", !torchfile_open(&f, &a, scratch, &s) && s.code == E_FILE && strstr(s.text, "folder"));
    torchfile_close(&f);
    arena_free(&a);
    free(b);
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0]) || (fd = memfd_create("hostile", 0)) < 0) return 2;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    all_bad();
    damaged();
    believed();
    nonsense();
    without_memory();
    heavy();
    shrinking();
    scratch_remove();
    return check_done();
}
