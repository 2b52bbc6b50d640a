/* diffuseit_run.c -- the guidance through the network, a step, and the loop of DiffuseIT. */
#include "guidance/diffuseit.h"
#include "tensor/point.h"

/* ---- the network ---- */

/* x0 = on_x x + on_m m */
static void x0_of(const Diffuseit *d, int i, double *on_x, double *on_m)
{
    double a = d->process->alpha_bar[i];
    switch (d->prediction) {
    case PREDICT_EPS: *on_x = sqrt(1 / a), *on_m = -sqrt(1 / a - 1); break;
    case PREDICT_V:   *on_x = sqrt(a),     *on_m = -sqrt(1 - a);     break;
    default:          *on_x = 0,           *on_m = 1;                break;
    }
}

typedef struct { UnetPass pass; Tensor m, z; int n; } Asked;     /* n passes of one x, as a batch */

static bool guided_by_text(const Diffuseit *d) { return d->context.x && shape_rank(d->context.s) == 3 && d->context.s.d[0] == 2; }

static void ask(Run *r, const Diffuseit *d, Asked *q, Tensor x, int i)
{
    Shape s = x.s;
    int out = d->process->variance == VARIANCE_LEARNED ? 2 * s.d[1] : s.d[1];
    double t = d->process->t[i] * d->process->time_scale, times[2] = { t, t };
    q->n = guided_by_text(d) ? 2 : 1;
    q->z = keep(r, SHAPE(q->n, s.d[1], s.d[2], s.d[3]));
    q->m = keep(r, SHAPE(q->n, out, s.d[2], s.d[3]));
    for (int k = 0; k < q->n && run_ok(r); k++) tensor_copy(r, tensor_rows(q->z, k, 1), x);
    if (run_ok(r)) unet_forward(r, d->unet, q->m, &q->pass, q->z, times, d->context, d->recompute);
}

/* What the passes say together: negative + scale (prompt - negative). */
static void mix_passes(Run *r, const Diffuseit *d, Tensor m, const Asked *q)
{
    if (!run_ok(r)) return;
    if (q->n == 1) tensor_copy(r, m, q->m);
    else blend(r, tensor_as(m, tensor_row(q->m, 0).s), (real)(1 - d->scale), tensor_row(q->m, 0), (real)d->scale, tensor_row(q->m, 1));
}

/* dx += the gradient of the first channels of m, pulled through the network; dm is that of the mixed prediction. */
static void pull_network(Run *r, const Diffuseit *d, Tensor dx, Tensor dm, Asked *q)
{
    size_t mark = r->temp->used;
    Tensor dout = temp(r, q->m.s), dz = temp(r, q->z.s);
    if (!run_ok(r)) return;
    tensor_zero(dout);
    for (int k = 0; k < q->n; k++) {
        Tensor half = tensor_row(dout, k);
        half.s.d[0] = dm.s.d[1];
        real share = q->n == 1 ? 1 : (real)(k ? d->scale : 1 - d->scale);
        scale(r, half, share, tensor_row(dm, 0), 0);
    }
    unet_backward(r, d->unet, dz, (Tensor){0}, dout, &q->pass);
    for (int k = 0; k < q->n && run_ok(r); k++) add(r, dx, tensor_rows(dz, k, 1));
    arena_release(r->temp, mark);
}

/* ---- the guidance ---- */

static double fraction(const Diffuseit *d)
{
    static const double FAR = -0.5;
    double frac = 1;
    if (!d->towers) return frac;
    if (d->o.prog_contrast && d->clip_loss > FAR) frac = 0.5;
    if (d->o.regularize_content && d->clip_loss < FAR) frac = 2;
    return frac;
}

static void predictions(Run *r, const Diffuseit *d, Tensor mean, Tensor log_variance, Tensor x0, Tensor m, Tensor x, int i)
{
    size_t mark = r->temp->used;
    double on_x, on_m;
    Tensor eps = temp(r, x.s), v = d->process->variance == VARIANCE_LEARNED ? temp(r, x.s) : (Tensor){0};
    x0_of(d, i, &on_x, &on_m);
    if (run_ok(r)) gaussian_split(r, eps, v, m);
    if (run_ok(r)) blend(r, x0, (real)on_x, x, (real)on_m, eps);
    if (run_ok(r)) gaussian_mean(r, d->process, i, mean, x0, x);
    if (run_ok(r)) gaussian_log_variance(r, d->process, i, log_variance, v);
    arena_release(r->temp, mark);
}

static void variance_range(DiffuseitReport *report, Tensor log_variance)
{
    double low = (double)log_variance.x[0], high = low;
    for (size_t i = 0; i < tensor_count(log_variance); i++) {
        low = fmin(low, (double)log_variance.x[i]);
        high = fmax(high, (double)log_variance.x[i]);
    }
    report->variance_low = exp(low);
    report->variance_high = exp(high);
}

static bool asks_anything(const Diffuseit *d)
{
    for (int k = 0; k < DIT_TERMS; k++)
        if (d->o.weight[k] != 0) return true;
    return false;
}

void diffuseit_guide(Run *r, Diffuseit *d, DiffuseitReport *report, Tensor g, Tensor mean, Tensor log_variance, Tensor x0, Tensor x, int i, const Cut *const *cut)
{
    size_t kept = r->keep->used, mark = r->temp->used;
    double on_x, on_m;
    Asked q;
    Tensor dx0 = temp(r, x.s), dm = temp(r, x.s), m, cls = d->cls.x ? temp(r, d->cls.s) : (Tensor){0};
    *report = (DiffuseitReport){ .index = i, .call = d->call++, .restarts = d->restarts, .frac = fraction(d) };
    ask(r, d, &q, x, i);
    m = temp(r, SHAPE(1, q.m.s.d[1], x.s.d[2], x.s.d[3]));
    mix_passes(r, d, m, &q);
    if (run_ok(r)) predictions(r, d, mean, log_variance, x0, m, x, i);
    if (run_ok(r)) variance_range(report, log_variance);
    if (run_ok(r)) diffuseit_terms(r, d, report, dx0, g, cls, d->x_in, x0, x, i, cut);
    x0_of(d, i, &on_x, &on_m);
    if (run_ok(r)) {
        axpy(r, g, (real)on_x, dx0);
        scale(r, dm, (real)on_m, dx0, 0);
        if (asks_anything(d)) pull_network(r, d, g, dm, &q);
        scale(r, g, -1, g, 0);
    }
    if (run_ok(r)) {
        report->grad_norm = sqrt(dot(r, g, g));
        report->restart = d->o.range_restart && i < diffuseit_top(d) && report->term[DIT_RANGE] > d->o.restart_above;
        if (cls.x) tensor_copy(r, d->cls, cls);
        if (!isnan(report->term[DIT_CLIP])) d->clip_loss = report->term[DIT_CLIP] / d->o.weight[DIT_CLIP];
    }
    arena_release(r->temp, mark);
    arena_release(r->keep, kept);
}

void diffuseit_step(Run *r, const Diffuseit *d, Tensor x_prev, Tensor x0, Tensor x, Tensor g, Tensor mean, Tensor log_variance, Tensor noise, int i)
{
    size_t mark = r->temp->used;
    const Gaussian *p = d->process;
    Tensor t = temp(r, x.s);
    if (run_ok(r) && d->o.ddim) {
        gaussian_eps(r, p, i, t, x, x0);
        axpy(r, t, (real)-sqrt(1 - p->alpha_bar[i]), g);
        gaussian_x0(r, p, i, x0, x, t);
        gaussian_ddim(r, p, i, x_prev, x0, t, (Tensor){0}, 0);
    } else if (run_ok(r)) {
        for (size_t k = 0; k < tensor_count(t); k++) t.x[k] = mean.x[k] + exp(log_variance.x[k]) * g.x[k];
        gaussian_ancestral(r, p, i, x_prev, t, log_variance, noise);
    }
    arena_release(r->temp, mark);
}

/* ---- the loop ---- */

typedef struct { Tensor g, mean, log_variance, noise; Cut *cut[DIT_TOWERS]; } Room;

static void room_take(Run *r, const Diffuseit *d, Room *m, Shape s)
{
    *m = (Room){ temp(r, s), temp(r, s), temp(r, s), temp(r, s), { 0 } };
    for (int k = 0; k < d->towers && d->cuts; k++) {
        m->cut[k] = arena_take(r->temp, (size_t)d->cuts * sizeof(Cut));
        if (!m->cut[k]) run_fail(r, E_MEMORY, "out of memory: cuts");
    }
}

static void start(Run *r, const Diffuseit *d, const Room *m, Tensor x)
{
    if (!run_ok(r)) return;
    d->noise(d->user, m->noise);
    gaussian_noised(r, d->process, diffuseit_top(d), x, d->x_source, m->noise);
}

/* One call: true when it flags a restart that is to be obeyed. */
static bool one_call(Run *r, Diffuseit *d, Room *m, Tensor x, Tensor x0, int i, int round)
{
    DiffuseitReport report;
    const Cut *cut[DIT_TOWERS];
    if (d->draw_class) d->draw_class(d->user, d->context);
    if (!d->o.ddim) d->noise(d->user, m->noise);
    for (int k = 0; k < d->towers; k++) {
        if (d->cuts && d->cut) d->cut(d->user, k, m->cut[k], d->cuts, d->source.s.d[2], d->source.s.d[3]);
        cut[k] = m->cut[k];
    }
    diffuseit_guide(r, d, &report, m->g, m->mean, m->log_variance, x0, x, i, d->cuts ? cut : NULL);
    diffuseit_step(r, d, x, x0, x, m->g, m->mean, m->log_variance, m->noise, i);
    report.round = round;
    if (run_ok(r) && count_nonfinite(x)) run_fail(r, E_NUMBER, "diffuseit: index %d, round %d: %zu numbers are not finite", i, round, count_nonfinite(x));
    if (run_ok(r) && d->watch && !d->watch(d->user, &report, x, x0)) run_fail(r, E_STOP, "stopped");
    return run_ok(r) && report.restart && d->restarts < d->o.max_restarts;
}

/* All rounds of an index; true: begin again. */
static bool one_index(Run *r, Diffuseit *d, Room *m, Tensor x, Tensor x0, int i)
{
    int rounds = i == diffuseit_top(d) && !d->o.ddim ? d->o.rounds : 1;
    for (int k = 0; k < rounds && run_ok(r); k++) {
        if (one_call(r, d, m, x, x0, i, k)) return true;
        if (k == rounds - 1 || !run_ok(r)) continue;
        double b = d->process->beta[i - 1];
        d->noise(d->user, m->noise);
        blend(r, x, (real)sqrt(1 - b), x, (real)sqrt(b), m->noise);
    }
    return false;
}

void diffuseit_run(Run *r, Diffuseit *d, Tensor x, Tensor x0)
{
    size_t mark = r->temp->used;
    Room m;
    room_take(r, d, &m, x.s);
    start(r, d, &m, x);
    for (int i = diffuseit_top(d); i >= 0 && run_ok(r); i--)
        if (one_index(r, d, &m, x, x0, i)) {
            d->restarts++;
            start(r, d, &m, x);
            i = diffuseit_top(d) + 1;
        }
    arena_release(r->temp, mark);
}
