/* fuzz_files.c -- for libFuzzer (make fuzz): the same bytes as JSON, as a safetensors file, and as the header of one. */
#include <string.h>
#include "nn/names.h"
#include "tensor/json.h"
#include "tensor/safetensors.h"
#include "tests/fuzz.h"

enum { MOST = 1 << 16, DATA = 64, LIMIT = 1 << 19 };      /* under a limit below 1 MiB an arena takes just what it needs: quick */

static void as_json(const char *bytes, size_t n)
{
    Arena a = { .limit = LIMIT, .poison = true };
    Status s = {0};
    JsonOut o = {0};
    const Json *j = json_parse(&a, bytes, n, 16, "fuzz", &s);
    require((j != NULL) == (s.code == OK) && (j || s.code == E_FORMAT || s.code == E_MEMORY));
    if (j && j->kind == JSON_STRING && strlen(j->text) == j->length) {
        json_text(&o, NULL, j->text);
        const Json *again = json_parse(&a, o.bytes, o.size, 1, "again", &s);
        require(again ? json_is(again, j->text) : s.code == E_MEMORY);
    }
    json_free(&o);
    arena_free(&a);
}

static void as_file(const void *bytes, size_t n)
{
    static real x[MOST];
    static int64_t v[MOST];
    static unsigned char raw[8 * MOST];
    Arena a = { .limit = LIMIT, .poison = true };
    Status s = {0};
    Safetensors f;
    char other[64];
    bool ok = safetensors_open(&f, &a, fuzz_path(bytes, n), &s);
    require(ok == (s.code == OK) && (ok || s.code == E_FORMAT || s.code == E_MEMORY));
    uint64_t sum = 0;
    for (int i = 0; ok && i < f.entries; i++) {
        const SafeEntry *e = &f.entry[i];
        sum += e->count * dtype_size(e->type);
        require(e->count <= n && safetensors_find(&f, e->name) == e && e->offset + e->count * dtype_size(e->type) <= n);
        if (e->count > MOST) continue;
        require(e->type <= T_BF16 ? safetensors_read(&f, e, x, &s) : safetensors_read_i64(&f, e, v, &s));
        require(safetensors_bytes(&f, e, raw, &s));
        names_other(e->name, other, sizeof other);
    }
    require(!ok || sum <= n);
    safetensors_close(&f);
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (n > MOST) return 0;
    as_json((const char *)bytes, n);
    as_file(bytes, n);
    uint8_t *whole = malloc(8 + n + DATA);
    for (int i = 0; i < 8; i++) whole[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(whole + 8, bytes, n);
    memset(whole + 8 + n, 1, DATA);
    for (size_t data = 0; data <= DATA; data = data ? 4 * data : 4) as_file(whole, 8 + n + data);
    free(whole);
    return 0;
}
