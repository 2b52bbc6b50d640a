/* What a learned block adds, without the block: the mean of f(h, t) over the pictures, a tensor [C,h,w] for each time, or one for all
 * times, which is the mean of those.  Names as in the authors' files: "540"; "0". */
#include <stdio.h>
#include "ref/train.h"
#include "tensor/point.h"
#include "tensor/safetensors.h"

/* sum += share f(h, t) at x, under the last context */
static void add_delta(TrainRun *w, Tensor sum, Tensor x, Tensor context, int t, double share)
{
    Run *r = w->r;
    const Unet *u = w->learner.unet;
    size_t mark = r->temp->used;
    Arena *kept = r->keep;
    UnetPass pass;
    DeltaCache cache;
    Shape s = unet_h_shape(u, 1, x.s.d[2], x.s.d[3]);
    Tensor h = temp(r, s), d = temp(r, s), text = context.x ? tensor_rows(context, context.s.d[0] - 1, 1) : context;
    r->keep = r->temp;
    unet_encode(r, u, h, &pass, x, &(double){ t }, text, false);
    if (run_ok(r)) delta_forward(r, &w->delta, d, &cache, h, w->o->timeless ? (Tensor){0} : pass.silu_temb, t);
    if (run_ok(r)) axpy(r, sum, (real)share, tensor_as(d, sum.s));
    r->keep = kept;
    arena_release(r->temp, mark);
}

static void one_chain(TrainRun *w, const TrainPicture *p, Tensor table)
{
    Run *r = w->r;
    size_t mark = r->temp->used;
    Tensor edit = temp(r, p->noise.s), plain = temp(r, p->noise.s);
    if (!run_ok(r)) return;
    tensor_copy(r, edit, p->noise);
    tensor_copy(r, plain, p->noise);
    for (int i = w->times; i-- > 0 && run_ok(r); ) {
        add_delta(w, tensor_row(table, i), edit, p->context, w->time[i], 1.0 / w->pictures);
        asyrp_learn(r, &w->learner, edit, plain, (Tensor){0}, (Tensor){0}, w->time[i], p->context, p->embed, false);
    }
    arena_release(r->temp, mark);
}

static bool save(TrainRun *w, Tensor table, const char *path, int rows)
{
    Run *r = w->r;
    Shape s = table.s;
    SafeOut *t = arena_take(r->temp, (size_t)rows * sizeof *t);
    char (*name)[16] = arena_take(r->temp, (size_t)rows * sizeof *name);
    if (!t || !name) run_fail(r, E_MEMORY, "out of memory: a table of deltas");
    for (int i = 0; i < rows && run_ok(r); i++) {
        snprintf(name[i], sizeof *name, "%d", rows > 1 ? w->time[i] : 0);
        t[i] = (SafeOut){ name[i], sizeof(real) == 8 ? T_F64 : T_F32, 3, { s.d[1], s.d[2], s.d[3] }, tensor_row(table, i).x, true };
    }
    return run_ok(r) && safetensors_save(path, t, rows, NULL, 0, &r->status);
}

bool train_deltas(TrainRun *w, const char *path, bool global)
{
    Run *r = w->r;
    Arena *kept = r->keep;
    size_t mark = r->temp->used;
    Shape z = w->picture[0].noise.s, h = unet_h_shape(w->learner.unet, 1, z.d[2], z.d[3]);
    Tensor table = tensor_in(r, &w->state, SHAPE(w->times, h.d[1], h.d[2], h.d[3]));
    tensor_zero(table);
    r->keep = &w->keep;
    for (int k = 0; k < w->pictures && run_ok(r); k++) one_chain(w, &w->picture[k], table);
    r->keep = kept;
    for (int i = 1; i < w->times && global && run_ok(r); i++) add(r, tensor_row(table, 0), tensor_row(table, i));
    if (global && run_ok(r)) scale(r, tensor_row(table, 0), (real)(1.0 / w->times), tensor_row(table, 0), 0);
    bool good = run_ok(r) && save(w, table, path, global ? 1 : w->times);
    arena_release(r->temp, mark);
    return good;
}
