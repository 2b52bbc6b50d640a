#include <math.h>
#include <string.h>
#include "guidance/gaussian.h"
#include "guidance/respace.h"
#include "tensor/point.h"

ScheduleConfig gaussian_config(BetaKind beta, int T)
{
    double scale = 1000.0 / T;
    return (ScheduleConfig){ .train_steps = T, .beta_start = fmin(scale * 1e-4, 0.999), .beta_end = fmin(scale * 0.02, 0.999), .beta = beta,
                             .prediction = PREDICT_EPS, .clip_sample = true, .clip_range = 1, .set_alpha_to_one = true,
                             .threshold_quantile = 0.995, .threshold_max = 1 };
}

static void tables(Gaussian *g, const double *alpha_bar)
{
    double before = 1, product = 1;
    for (int j = 0; j < g->n; j++) {
        double b = g->beta[j] = 1 - alpha_bar[g->t[j]] / before, p = g->alpha_bar_prev[j] = product;
        before = alpha_bar[g->t[j]];
        product *= 1 - b;
        double a = g->alpha_bar[j] = product;
        g->posterior[j] = b * (1 - p) / (1 - a);
        g->mean_x0[j] = b * sqrt(p) / (1 - a);
        g->mean_x[j] = (1 - p) * sqrt(1 - b) / (1 - a);
    }
    for (int j = 0; j < g->n; j++) g->log_posterior[j] = log(g->posterior[j ? j : 1]);
}

bool gaussian_make(Gaussian *g, const ScheduleConfig *c, const char *respacing, Variance variance, Arena *a, Status *s)
{
    *g = (Gaussian){ .variance = variance, .clamp = c->clip_sample, .time_scale = 1 };
    if (s->code != OK || !schedule_make(&g->schedule, c, ALPHAS_FLOAT64, 1, a, s)) return false;
    g->n = respace_times(&g->t, respacing, c->train_steps, a, s);
    if (g->n == 1) status_fail(s, E_OPTION, "respacing: \"%.60s\" keeps one time, at least 2 are needed", respacing);
    double **table[] = { &g->beta, &g->alpha_bar, &g->alpha_bar_prev, &g->posterior, &g->log_posterior, &g->mean_x0, &g->mean_x };
    for (size_t i = 0; i < sizeof table / sizeof *table && s->code == OK; i++) {
        *table[i] = arena_take(a, (size_t)g->n * sizeof **table[i]);
        if (!*table[i]) status_fail(s, E_MEMORY, "out of memory: tables of %d steps", g->n);
    }
    if (s->code != OK) return false;
    tables(g, g->schedule.alpha_bar);
    return schedule_respace(&g->schedule, g->t, g->n, a, s);
}

int gaussian_index(const Gaussian *g, int t)
{
    int lo = 0, hi = g->n - 1;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (g->t[mid] < t) lo = mid + 1;
        else hi = mid;
    }
    return g->t[lo] == t ? lo : -1;
}

static bool there(Run *r, const Gaussian *g, int j)
{
    if (run_ok(r) && (j < 0 || j >= g->n)) run_fail(r, E_OPTION, "a step of index %d, in a process of %d", j, g->n);
    return run_ok(r);
}

void gaussian_x0(Run *r, const Gaussian *g, int j, Tensor x0, Tensor x, Tensor eps)
{
    if (there(r, g, j)) blend(r, x0, (real)sqrt(1 / g->alpha_bar[j]), x, (real)-sqrt(1 / g->alpha_bar[j] - 1), eps);
}

void gaussian_eps(Run *r, const Gaussian *g, int j, Tensor eps, Tensor x, Tensor x0)
{
    if (!there(r, g, j)) return;
    double rest = sqrt(1 / g->alpha_bar[j] - 1);
    blend(r, eps, (real)(sqrt(1 / g->alpha_bar[j]) / rest), x, (real)(-1 / rest), x0);
}

void gaussian_clamp(Run *r, const Gaussian *g, Tensor x0)
{
    for (size_t i = 0; i < tensor_count(x0) && g->clamp && run_ok(r); i++) {
        real v = x0.x[i];
        x0.x[i] = v < -1 ? -1 : v > 1 ? 1 : v;            /* a NaN stays one */
    }
}

void gaussian_mean(Run *r, const Gaussian *g, int j, Tensor mean, Tensor x0, Tensor x)
{
    if (there(r, g, j)) blend(r, mean, (real)g->mean_x0[j], x0, (real)g->mean_x[j], x);
}

void gaussian_log_variance(Run *r, const Gaussian *g, int j, Tensor log_variance, Tensor v)
{
    if (!there(r, g, j)) return;
    bool learned = g->variance == VARIANCE_LEARNED;
    if (learned && !tensor_same(log_variance, v)) {
        run_fail(r, E_SHAPE, "a learned variance needs the second half of the network's channels");
        return;
    }
    double most = log(g->beta[j]), least = g->log_posterior[j];
    double fixed = g->variance == VARIANCE_LARGE && j ? most : least;
    for (size_t i = 0; i < tensor_count(log_variance); i++) {
        double f = learned ? ((double)v.x[i] + 1) / 2 : 0;
        log_variance.x[i] = (real)(learned ? f * most + (1 - f) * least : fixed);
    }
}

void gaussian_variance(Run *r, const Gaussian *g, int j, Tensor variance, Tensor v)
{
    gaussian_log_variance(r, g, j, variance, v);
    for (size_t i = 0; i < tensor_count(variance) && run_ok(r); i++) variance.x[i] = exp(variance.x[i]);
}

void gaussian_split(Run *r, Tensor eps, Tensor v, Tensor m)
{
    size_t n = tensor_count(eps);
    bool twice = tensor_count(m) == 2 * n, images = shape_rank(m.s) == 4;
    if (!run_ok(r)) return;
    if (!n || (!twice && tensor_count(m) != n) || (v.x && (!twice || !tensor_same(v, eps)))) {
        run_fail(r, E_SHAPE, "a network's output of %zu numbers, for %zu", tensor_count(m), n);
        return;
    }
    int N = images ? m.s.d[0] : 1;
    size_t one = n / (size_t)N, of = one * (twice ? 2 : 1);
    for (int i = 0; i < N; i++) {
        const real *from = m.x + (size_t)i * of;
        memmove(eps.x + (size_t)i * one, from, one * sizeof *from);
        if (v.x) memcpy(v.x + (size_t)i * one, from + one, one * sizeof *from);
    }
}

void gaussian_predict(Run *r, const Gaussian *g, int j, Tensor mean, Tensor log_variance, Tensor x0, Tensor x, Tensor m)
{
    size_t mark = r->temp->used;
    bool learned = g->variance == VARIANCE_LEARNED;
    Tensor clean = x0.x ? x0 : temp(r, x.s), eps = temp(r, x.s), v = learned ? temp(r, x.s) : (Tensor){0};
    gaussian_split(r, eps, v, m);
    gaussian_x0(r, g, j, clean, x, eps);
    gaussian_clamp(r, g, clean);
    if (mean.x) gaussian_mean(r, g, j, mean, clean, x);
    if (log_variance.x) gaussian_log_variance(r, g, j, log_variance, v);
    arena_release(r->temp, mark);
}

void gaussian_ancestral(Run *r, const Gaussian *g, int j, Tensor x_prev, Tensor mean, Tensor log_variance, Tensor noise)
{
    if (!there(r, g, j)) return;
    if (!tensor_same(x_prev, mean) || (j && (!tensor_same(mean, log_variance) || !tensor_same(mean, noise)))) {
        run_fail(r, E_SHAPE, "an ancestral step: mean, variance and noise differ in shape");
        return;
    }
    for (size_t i = 0; i < tensor_count(mean); i++)
        x_prev.x[i] = mean.x[i] + (j ? exp(log_variance.x[i] / 2) * noise.x[i] : 0);
}

double gaussian_sigma(const Gaussian *g, int j, double eta)
{
    double a = g->alpha_bar[j], p = g->alpha_bar_prev[j];
    return eta * sqrt((1 - p) / (1 - a)) * sqrt(1 - a / p);
}

void gaussian_ddim(Run *r, const Gaussian *g, int j, Tensor x_prev, Tensor x0, Tensor eps, Tensor noise, double eta)
{
    if (!there(r, g, j)) return;
    double p = g->alpha_bar_prev[j], sigma = gaussian_sigma(g, j, eta);
    blend(r, x_prev, (real)sqrt(p), x0, (real)sqrt(fmax(1 - p - sigma * sigma, 0)), eps);
    if (j && sigma > 0) axpy(r, x_prev, (real)sigma, noise);
}

void gaussian_reverse(Run *r, const Gaussian *g, int j, Tensor x_next, Tensor x0, Tensor eps)
{
    if (!there(r, g, j)) return;
    double next = j + 1 < g->n ? g->alpha_bar[j + 1] : 0;
    blend(r, x_next, (real)sqrt(next), x0, (real)sqrt(1 - next), eps);
}

void gaussian_noised(Run *r, const Gaussian *g, int j, Tensor x_t, Tensor x0, Tensor noise)
{
    if (there(r, g, j)) blend(r, x_t, (real)sqrt(g->alpha_bar[j]), x0, (real)sqrt(1 - g->alpha_bar[j]), noise);
}

uint8_t gaussian_byte(real x)
{
    real v = (x + 1) * (real)127.5;
    return (uint8_t)(v > 0 ? v < 255 ? v : 255 : 0);
}
