/* fuzz_torch.c -- for libFuzzer (make fuzz): the same bytes as a checkpoint, as one whose CRCs are set right, and as the pickle
 * of a checkpoint whose archive is in order. */
#include "tests/fuzz.h"
#include "tests/torch_archive.h"

enum { MOST = 1 << 16, LIMIT = 1 << 19 };                 /* under a limit below 1 MiB an arena takes just what it needs: quick */

static void as_file(const void *bytes, size_t n)
{
    static real x[MOST];
    static int64_t v[MOST];
    Arena a = { .limit = LIMIT, .poison = true };
    Status s = {0};
    Torchfile f;
    bool ok = torchfile_open(&f, &a, fuzz_path(bytes, n), &s);
    require(ok == (s.code == OK) && (ok || s.code == E_MEMORY || (s.code == E_FORMAT && f.refused != TORCH_FINE)));
    require(ok || (!a.used && !f.tensors && !f.storages));
    if (ok && !torch_promises(&f, MOST, x, v, &s)) require(s.code == E_MEMORY || (s.code == E_FORMAT && f.refused == TORCH_ZIP_CRC));
    torchfile_close(&f);
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (n > MOST) return 0;
    Bytes copy = {0}, whole = {0};
    bytes_put(&copy, bytes, n);
    as_file(bytes, n);
    archive_mend(copy.b, n);
    as_file(copy.b, n);
    copy.n = 0;
    bytes_put(&copy, "\x80\2", 2);
    bytes_put(&copy, bytes, n);
    checkpoint(&whole, &copy, n % 2);
    as_file(whole.b, whole.n);
    bytes_free(&copy);
    bytes_free(&whole);
    return 0;
}
