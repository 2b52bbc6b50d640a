#include "guidance/ddim.h"
#include "guidance/invert.h"
#include "tensor/point.h"

/* The network was asked at the level the latent is at; the direction is that of the clamped x0. */
static void reverse_step(Run *r, const Guide *g, int j, Tensor to, Tensor from, Tensor m)
{
    size_t mark = r->temp->used;
    Tensor x0 = temp(r, from.s), eps = temp(r, from.s);
    gaussian_x0(r, g->process, j, x0, from, m);
    gaussian_clamp(r, g->process, x0);
    gaussian_eps(r, g->process, j, eps, from, x0);
    gaussian_reverse(r, g->process, j, to, x0, eps);
    arena_release(r->temp, mark);
}

void guide_invert_step(Run *r, const Guide *g, Tensor context, int i, Tensor to, Tensor from)
{
    Branch b = { .name = "cond", .context = context };
    Lane l = lane_make(&b, NULL);
    Clock c = guide_clock(g->schedule, i);
    Shape one = {{ 1, from.s.d[0], from.s.d[1], from.s.d[2] }};
    size_t step = r->step->used;
    l.z = from;
    guide_observe(r, g, &l, &c, NULL, 0, NULL, false, true);
    if (g->process && run_ok(r)) reverse_step(r, g, gaussian_index(g->process, c.t), to, from, l.eps);
    else if (run_ok(r)) ddim_inverse_step(r, g->schedule, c.t, (Tensor){ to.x, one }, (Tensor){ from.x, one }, (Tensor){ l.eps.x, one });
    size_t bad = run_ok(r) ? count_nonfinite(to) : 0;
    if (bad) run_fail(r, E_NUMBER, "%zu numbers of the latent are not finite after inverting to t %d", bad, c.t);
    if (run_ok(r) && g->inverted && !g->inverted(g->user, &c)) run_fail(r, E_STOP, "stopped");
    arena_release(r->step, step);
}

void guide_invert(Run *r, const Guide *g, Tensor context, Tensor *stored)
{
    int n = g->schedule->n;
    if (!g->process) {
        for (int i = n - 1; i >= 0 && run_ok(r); i--) guide_invert_step(r, g, context, i, stored[i], stored[i + 1]);
        return;
    }
    tensor_copy(r, stored[n - 1], stored[n]);             /* taken for the first level as it is */
    for (int i = n - 1; i > 0 && run_ok(r); i--) guide_invert_step(r, g, context, i, stored[i - 1], stored[i]);
}
