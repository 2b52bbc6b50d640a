#include <math.h>
#include "guidance/ddim.h"
#include "guidance/pix2pixzero.h"
#include "tensor/point.h"

const PixzeroNoise pixzero_noise = { 20, 20, 5, 5 };

static void add_mean(Tensor direction, Tensor set, acc sign)
{
    size_t n = tensor_count(direction);
    for (size_t i = 0; i < n; i++) {
        acc sum = 0;
        for (int k = 0; k < set.s.d[0]; k++) sum += (acc)set.x[(size_t)k * n + i];
        direction.x[i] += (real)(sign * sum / set.s.d[0]);
    }
}

void pixzero_direction(Run *r, Tensor direction, Tensor source, Tensor target)
{
    size_t n = tensor_count(direction);
    if (!n || !source.x || !target.x || tensor_count(source) != n * (size_t)source.s.d[0] || tensor_count(target) != n * (size_t)target.s.d[0]) {
        run_fail(r, E_SHAPE, "edit direction: the sentences are not of the direction's shape");
        return;
    }
    tensor_zero(direction);
    add_mean(direction, target, 1);
    add_mean(direction, source, -1);
}

/* ---- white noise ---- */

int pixzero_levels(int height)
{
    int n = 1;
    for (; height > 8; height /= 2) n++;
    return n;
}

void pixzero_draw(Random *g, int *rolls, int calls, int channels, int height)
{
    int levels = pixzero_levels(height);
    for (int i = 0; i < calls * channels; i++)
        for (int l = 0; l < levels; l++) {
            int half = (height >> l) / 2;
            rolls[i * levels + l] = half > 2 ? 1 + (int)random_below(g, (uint64_t)half - 1) : 1;
        }
}

typedef struct { real *x; int h, w; } Plane;

static real at(Plane p, int i, int j) { return p.x[i * p.w + j]; }
static int  wrap(int i, int n) { return ((i % n) + n) % n; }

/* m^2 for both axes;  dm^2/dx = 2 m/(h w) (roll(x, r) + roll(x, -r)), added to dx. */
static acc correlate(Plane dx, Plane x, int roll)
{
    acc rows = 0, columns = 0, n = (acc)x.h * x.w;
    for (int i = 0; i < x.h; i++)
        for (int j = 0; j < x.w; j++) {
            rows += (acc)at(x, i, j) * (acc)at(x, wrap(i - roll, x.h), j);
            columns += (acc)at(x, i, j) * (acc)at(x, i, wrap(j - roll, x.w));
        }
    rows /= n;
    columns /= n;
    for (int i = 0; i < x.h && dx.x; i++)
        for (int j = 0; j < x.w; j++) {
            acc up = (acc)at(x, wrap(i - roll, x.h), j) + (acc)at(x, wrap(i + roll, x.h), j);
            acc side = (acc)at(x, i, wrap(j - roll, x.w)) + (acc)at(x, i, wrap(j + roll, x.w));
            dx.x[i * x.w + j] += (real)(2 * (rows * up + columns * side) / n);
        }
    return rows * rows + columns * columns;
}

static void halve(Plane small, Plane x)
{
    for (int i = 0; i < small.h; i++)
        for (int j = 0; j < small.w; j++)
            small.x[i * small.w + j] = (at(x, 2 * i, 2 * j) + at(x, 2 * i, 2 * j + 1) + at(x, 2 * i + 1, 2 * j) + at(x, 2 * i + 1, 2 * j + 1)) / 4;
}

static void halve_gradient(Plane dx, Plane dsmall)         /* added */
{
    for (int i = 0; i < 2 * dsmall.h; i++)
        for (int j = 0; j < 2 * dsmall.w; j++) dx.x[i * dx.w + j] += at(dsmall, i / 2, j / 2) / 4;
}

/* One channel: this level and those below it. */
static acc pyramid(Run *r, Plane dx, Plane x, const int *rolls)
{
    acc E = correlate(dx, x, *rolls);
    if (x.h <= 8) return E;
    int h = x.h / 2, w = x.w / 2;
    Tensor small = temp(r, SHAPE(h, w)), dsmall = dx.x ? temp(r, SHAPE(h, w)) : (Tensor){0};
    if (!run_ok(r)) return E;
    Plane half = { small.x, h, w }, dhalf = { dsmall.x, h, w };
    tensor_zero(dsmall);
    halve(half, x);
    E += pyramid(r, dhalf, half, rolls + 1);
    if (dx.x) halve_gradient(dx, dhalf);
    return E;
}

acc pixzero_autocorrelation(Run *r, Tensor de, Tensor e, const int *rolls)
{
    acc E = 0;
    int h = e.s.d[1], w = e.s.d[2];
    tensor_zero(de);
    for (int c = 0; c < e.s.d[0] && run_ok(r); c++) {
        size_t mark = r->temp->used, from = (size_t)c * (size_t)(h * w);
        E += pyramid(r, (Plane){ de.x ? de.x + from : NULL, h, w }, (Plane){ e.x + from, h, w }, rolls + c * pixzero_levels(h));
        arena_release(r->temp, mark);
    }
    return E;
}

/* d var/d e_i = 2 (e_i - mean)/(n-1),  d mean^2/d e_i = 2 mean/n */
acc pixzero_divergence(Run *r, Tensor de, Tensor e)
{
    size_t n = tensor_count(e);
    acc mean = 0, var = 0;
    if (n < 2) {
        run_fail(r, E_SHAPE, "the variance of %zu numbers", n);
        return 0;
    }
    for (size_t i = 0; i < n; i++) mean += (acc)e.x[i];
    mean /= (acc)n;
    for (size_t i = 0; i < n; i++) var += ((acc)e.x[i] - mean) * ((acc)e.x[i] - mean);
    var /= (acc)(n - 1);
    acc slope = 1 - 1 / (var + 1e-7);
    for (size_t i = 0; i < n && de.x; i++) de.x[i] = (real)(slope * 2 * ((acc)e.x[i] - mean) / (acc)(n - 1) + 2 * mean / (acc)n);
    return var + mean * mean - 1 - log(var + 1e-7);
}

void pixzero_whiten(Run *r, Tensor e, const int *rolls, PixzeroNoise o, double *log_ac, double *log_kl)
{
    size_t mark = r->temp->used;
    Tensor g = temp(r, e.s);
    int each = e.s.d[0] * pixzero_levels(e.s.d[1]);
    for (int k = 0; k < o.rounds && run_ok(r); k++) {
        for (int i = 0; i < o.ac_rolls && o.lambda_ac > 0; i++) {
            int call = k * o.ac_rolls + i;
            acc E = pixzero_autocorrelation(r, g, e, rolls + call * each);
            if (log_ac) log_ac[call] = (double)E;
            axpy(r, e, (real)(-o.lambda_ac / o.ac_rolls), g);
        }
        if (!(o.lambda_kl > 0)) continue;
        acc E = pixzero_divergence(r, g, e);
        if (log_kl) log_kl[k] = (double)E;
        axpy(r, e, (real)-o.lambda_kl, g);
    }
    arena_release(r->temp, mark);
}

/* ---- inversion ---- */

int pixzero_inversion_steps(const Schedule *s)        { return s->n > 2 ? s->n - 2 : 0; }
int pixzero_inversion_t(const Schedule *s, int i)     { return s->t[s->n - 2 - i]; }

/* With a, b alpha-bar one below this timestep and one below the next:  z' = sqrt(b) (z - sqrt(1-a) e)/sqrt(a) + sqrt(1-b) e */
void pixzero_inversion_step(Run *r, const Guide *g, Lane *cond, int i, const int *rolls, PixzeroNoise o, Tensor raw,
                            double *log_ac, double *log_kl)
{
    const Schedule *s = g->schedule;
    int t = pixzero_inversion_t(s, i), up = t - schedule_previous(s, t);
    double a = schedule_alpha_bar(s, t - 1), b = schedule_alpha_bar(s, t + up - 1);
    Clock c = { .i = i, .n = pixzero_inversion_steps(s), .t = t, .t_prev = t + up, .ab = schedule_alpha_bar(s, t), .ab_prev = b };
    size_t mark = r->temp->used, step = r->step->used;
    guide_observe(r, g, cond, &c, NULL, 0, NULL, false, true);
    Tensor e = temp(r, cond->z.s);
    Shape one = {{ 1, e.s.d[0], e.s.d[1], e.s.d[2] }};
    if (run_ok(r)) ddim_predict(r, s, t, (Tensor){0}, (Tensor){ e.x, one }, (Tensor){ cond->z.x, one }, (Tensor){ cond->eps.x, one });
    if (raw.x) tensor_copy(r, raw, e);
    pixzero_whiten(r, e, rolls, o, log_ac, log_kl);
    double keeps = sqrt(b) / sqrt(a);
    blend(r, cond->z, (real)keeps, cond->z, (real)(sqrt(1 - b) - keeps * sqrt(1 - a)), e);
    arena_release(r->temp, mark);
    arena_release(r->step, step);
}

/* ---- edit ---- */

acc pixzero_maps(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    acc E = 0;
    (void)state;
    for (int k = 0; run_ok(r); k++) {
        Sight *p = view_at(now, SEE_PROBS, e->want->sites, k);
        if (!p) break;
        const Sight *q = ref ? view_see(ref, SEE_PROBS, p->site, 0) : NULL;
        if (!q || !tensor_same(q->val, p->val)) {
            run_fail(r, E_OPTION, "pix2pix-zero: %s has no map in the reference to be compared with", p->site);
            break;
        }
        acc each = weight / (2 * p->val.s.d[0]), sum = 0;
        for (size_t i = 0; i < tensor_count(p->val); i++) {
            acc d = (acc)p->val.x[i] - (acc)q->val.x[i];
            sum += d * d;
            if (p->adj.x) p->adj.x[i] += (real)(2 * each * d);
        }
        E += each * sum;
    }
    return E;
}

double pixzero_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    (void)c; (void)r; (void)g; (void)delta; (void)each; (void)state;
    return par[0];
}
