#include <stdlib.h>
#include "guidance/ddim.h"
#include "tensor/point.h"

/* ---- from the model's output to x0 and noise, at level a ---- */

static void copy(Run *r, Tensor to, Tensor from)
{
    if (!from.x || to.x != from.x) tensor_copy(r, to, from);
}

static void predict_x0(Run *r, Prediction kind, double a, Tensor x0, Tensor x, Tensor m)
{
    double root = sqrt(a), rest = sqrt(1 - a);
    switch (kind) {
    case PREDICT_EPS: blend(r, x0, (real)(1 / root), x, (real)(-rest / root), m); break;
    case PREDICT_X0:  copy(r, x0, m); break;
    case PREDICT_V:   blend(r, x0, (real)root, x, (real)-rest, m); break;
    }
}

static void derive_eps(Run *r, double a, Tensor eps, Tensor x, Tensor x0)
{
    double root = sqrt(a), rest = sqrt(1 - a);
    blend(r, eps, (real)(1 / rest), x, (real)(-root / rest), x0);
}

static void predict_eps(Run *r, Prediction kind, double a, Tensor eps, Tensor x, Tensor m)
{
    switch (kind) {
    case PREDICT_EPS: copy(r, eps, m); break;
    case PREDICT_X0:  derive_eps(r, a, eps, x, m); break;
    case PREDICT_V:   blend(r, eps, (real)sqrt(a), m, (real)sqrt(1 - a), x); break;
    }
}

/* ---- thresholding and clipping ---- */

static int by_size(const void *a, const void *b)
{
    real x = *(const real *)a, y = *(const real *)b;
    return (x > y) - (x < y);
}

/* Quantile of |x|, linear between the two nearest ranks. */
static double quantile(Run *r, Tensor x, double q)
{
    size_t n = tensor_count(x), mark = r->temp->used;
    Tensor sorted = temp(r, x.s);
    if (!sorted.x) return 0;
    for (size_t i = 0; i < n; i++) sorted.x[i] = fabs(x.x[i]);
    qsort(sorted.x, n, sizeof *sorted.x, by_size);
    double rank = q * (double)(n - 1);
    size_t low = (size_t)rank, high = low + 1 < n ? low + 1 : low;
    double below = (double)sorted.x[low], above = (double)sorted.x[high];
    arena_release(r->temp, mark);
    return below + (rank - (double)low) * (above - below);
}

static void clamp_to(Tensor x, double range, double divisor)
{
    real s = (real)range, d = (real)divisor;
    for (size_t i = 0; i < tensor_count(x); i++) {
        real v = x.x[i];
        x.x[i] = (v < -s ? -s : v > s ? s : v) / d;       /* a NaN stays one */
    }
}

static void restrain(Run *r, const ScheduleConfig *c, Tensor x0)
{
    if (c->thresholding)
        for (int i = 0; run_ok(r) && i < x0.s.d[0]; i++) {
            Tensor image = tensor_rows(x0, i, 1);
            double s = fmin(fmax(quantile(r, image, c->threshold_quantile), 1), c->threshold_max);
            clamp_to(image, s, s);
        }
    else if (c->clip_sample) clamp_to(x0, c->clip_range, 1);
}

/* ---- steps ---- */

static bool level_fits(Run *r, const Schedule *s, const char *who, int t, double a)
{
    if (!run_ok(r)) return false;
    if (!(a >= 0 && a <= 1))
        run_fail(r, E_OPTION, "%s: time %d is not below the model's %d", who, t, s->config.train_steps);
    else if (a <= 0 && s->config.prediction == PREDICT_EPS)
        run_fail(r, E_OPTION, "%s: at time %d no signal is left, and a noise prediction gives no x0", who, t);
    else if (a >= 1 && s->config.prediction == PREDICT_X0)
        run_fail(r, E_OPTION, "%s: at time %d there is no noise, and a prediction of x0 gives no direction", who, t);
    return run_ok(r);
}

static bool shapes_fit(Run *r, const char *who, Tensor out, Tensor x, Tensor m)
{
    if (run_ok(r) && (!tensor_same(x, m) || (out.x && !tensor_same(out, x))))
        run_fail(r, E_SHAPE, "%s: latents, model output and result differ in shape", who);
    return run_ok(r);
}

void ddim_predict(Run *r, const Schedule *s, int t, Tensor x0, Tensor eps, Tensor x, Tensor m)
{
    double a = schedule_alpha_bar(s, t);
    if (!level_fits(r, s, "ddim_predict", t, a) || !shapes_fit(r, "ddim_predict", x0, x, m) || !shapes_fit(r, "ddim_predict", eps, x, m)) return;
    if (eps.x) predict_eps(r, s->config.prediction, a, eps, x, m);
    if (!x0.x) return;
    predict_x0(r, s->config.prediction, a, x0, x, m);
    restrain(r, &s->config, x0);
}

double ddim_sigma(const Schedule *s, int t, double eta)
{
    double a = schedule_alpha_bar(s, t), p = schedule_alpha_bar(s, schedule_previous(s, t));
    return a < p ? eta * sqrt((1 - p) / (1 - a)) * sqrt(1 - a / p) : 0;
}

void ddim_combine(Run *r, const Schedule *s, int t, Tensor x_prev, Tensor x0, Tensor eps_dir, Tensor noise, double eta)
{
    if (!(eta >= 0 && eta <= 1)) run_fail(r, E_OPTION, "eta: %g is not from 0 to 1", eta);
    if (eta > 0 && !noise.x) run_fail(r, E_OPTION, "eta: %g needs noise, and there is none", eta);
    if (!shapes_fit(r, "ddim_combine", x_prev, x0, eps_dir)) return;
    double p = schedule_alpha_bar(s, schedule_previous(s, t)), sigma = ddim_sigma(s, t, eta);
    blend(r, x_prev, (real)sqrt(p), x0, (real)sqrt(fmax(1 - p - sigma * sigma, 0)), eps_dir);
    if (eta > 0) axpy(r, x_prev, (real)sigma, noise);
}

void ddim_step(Run *r, const Schedule *s, int t, Tensor x_prev, Tensor x0, Tensor x, Tensor m_x0, Tensor m_dir, Tensor noise, DdimOptions o)
{
    size_t mark = r->temp->used;
    Tensor clean = x0.x ? x0 : temp(r, x.s), eps = temp(r, x.s);
    ddim_predict(r, s, t, clean, (Tensor){0}, x, m_x0);
    ddim_predict(r, s, t, (Tensor){0}, eps, x, m_dir);
    if (o.use_clipped && run_ok(r)) derive_eps(r, schedule_alpha_bar(s, t), eps, x, clean);
    ddim_combine(r, s, t, x_prev, clean, eps, noise, o.eta);
    arena_release(r->temp, mark);
}

int ddim_inverse_t(const Schedule *s, int i)          { return s->t[s->n - 1 - i]; }
int ddim_inverse_from(const Schedule *s, int t)       { return schedule_previous(s, t); }

void ddim_inverse_step(Run *r, const Schedule *s, int t, Tensor x_next, Tensor x, Tensor m)
{
    double from = schedule_alpha_bar(s, ddim_inverse_from(s, t)), to = schedule_alpha_bar(s, t);
    if (!level_fits(r, s, "ddim_inverse_step", ddim_inverse_from(s, t), from) || !shapes_fit(r, "ddim_inverse_step", x_next, x, m)) return;
    if (!(to >= 0)) run_fail(r, E_OPTION, "ddim_inverse_step: time %d is not below the model's %d", t, s->config.train_steps);
    size_t mark = r->temp->used;
    Tensor x0 = temp(r, x.s), eps = temp(r, x.s);
    predict_x0(r, s->config.prediction, from, x0, x, m);
    predict_eps(r, s->config.prediction, from, eps, x, m);
    if (s->config.clip_sample) clamp_to(x0, s->config.clip_range, 1);
    blend(r, x_next, (real)sqrt(to), x0, (real)sqrt(1 - to), eps);
    arena_release(r->temp, mark);
}

void ddim_add_noise(Run *r, const Schedule *s, int t, Tensor x_t, Tensor x0, Tensor noise)
{
    double a = schedule_alpha_bar(s, t);
    if (!(a >= 0)) run_fail(r, E_OPTION, "ddim_add_noise: time %d is not below the model's %d", t, s->config.train_steps);
    else blend(r, x_t, (real)sqrt(a), x0, (real)sqrt(1 - a), noise);
}
