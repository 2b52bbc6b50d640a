#include <math.h>
#include "guidance/ddim.h"
#include "guidance/ddpm.h"
#include "tensor/point.h"

static double level_before(const Schedule *s, int t)
{
    int before = schedule_previous(s, t);
    return before < 0 ? 1 : schedule_alpha_bar(s, before);
}

double ddpm_variance(const Schedule *s, int t)
{
    double a = schedule_alpha_bar(s, t), p = level_before(s, t);
    return fmax((1 - a / p) * (1 - p) / (1 - a), 1e-20);
}

void ddpm_step(Run *r, const Schedule *s, int t, Tensor x_prev, Tensor x0, Tensor x, Tensor m, Tensor noise)
{
    double a = schedule_alpha_bar(s, t), p = level_before(s, t), b = 1 - a / p;
    size_t mark = r->temp->used;
    Tensor clean = x0.x ? x0 : temp(r, x.s);
    ddim_predict(r, s, t, clean, (Tensor){0}, x, m);
    blend(r, x_prev, (real)(sqrt(p) * b / (1 - a)), clean, (real)(sqrt(a / p) * (1 - p) / (1 - a)), x);
    if (t > 0) {
        if (noise.x) axpy(r, x_prev, (real)sqrt(ddpm_variance(s, t)), noise);
        else run_fail(r, E_OPTION, "ddpm_step: noise is needed at t %d", t);
    }
    arena_release(r->temp, mark);
}
