#include <string.h>
#include "ref/latents.h"
#include "tensor/point.h"
#include "tensor/safetensors.h"

static Tensor read(Run *r, const Safetensors *f, const char *file, int C)
{
    const SafeEntry *e = safetensors_find(f, "latents");
    Shape s;
    if (!e) {
        run_fail(r, E_FORMAT, "%s: latents: there is no such tensor", file);
        return (Tensor){0};
    }
    if ((e->type != T_F32 && e->type != T_F64) || !safetensors_shape(e, &s) || (e->rank != 3 && e->rank != 4)) {
        run_fail(r, E_FORMAT, "%s: latents: F32 or F64 [C,h,w] or [N,C,h,w] is expected, %s of rank %d found", file, dtype_name(e->type), e->rank);
        return (Tensor){0};
    }
    if (e->rank == 3) s = SHAPE(1, s.d[0], s.d[1], s.d[2]);
    if (C && s.d[1] != C) run_fail(r, E_FORMAT, "%s: latents: %d channels are expected, %d found", file, C, s.d[1]);
    Tensor x = tensor_in(r, r->run, s);
    if (!x.x || !safetensors_read(f, e, x.x, &r->status)) return (Tensor){0};
    size_t bad = count_nonfinite(x);
    if (bad) run_fail(r, E_FORMAT, "%s: latents: %zu of %zu numbers are not finite", file, bad, tensor_count(x));
    return x;
}

Tensor latents_read(Run *r, const char *file, int C)
{
    Safetensors f;
    memset(&f, 0, sizeof f);
    size_t mark = r->temp->used;
    Tensor x = {0};
    if (safetensors_open(&f, r->temp, file, &r->status)) {
        x = read(r, &f, file, C);
        safetensors_close(&f);
    }
    arena_release(r->temp, mark);
    return run_ok(r) ? x : (Tensor){0};
}
