#include <math.h>
#include "guidance/asyrp_learn.h"
#include "guidance/ddim.h"
#include "tensor/point.h"

static const Tensor none = {0};

/* ---- the loss ---- */

static double length_of(const real *x, int D)
{
    acc sum = 0;
    for (int i = 0; i < D; i++) sum += (acc)x[i] * (acc)x[i];
    return sqrt(sum);
}

/* With d = u(e) - u(source), n = |d|, k = n + 1e-7 and q = d/k, cos(q, T) = q.T / (max(|q|, 1e-8) |T|). */
static double one_direction(real *de, const real *e, const real *source, const real *text, int D, double share)
{
    double le = length_of(e, D), ls = length_of(source, D), lt = fmax(length_of(text, D), 1e-8), n = 0, along = 0, back = 0;
    for (int i = 0; i < D; i++) {
        double d = (double)e[i] / le - (double)source[i] / ls;
        n += d * d;
        along += d * (double)text[i];
    }
    n = sqrt(n);
    double k = n + 1e-7, small = n / k < 1e-8, bottom = small ? k * 1e-8 * lt : n * lt, cosine = along / bottom;
    if (!de) return 1 - cosine;
    for (int i = 0; i < D; i++) {                         /* by u(e), and then what is along u(e) taken off */
        double d = (double)e[i] / le - (double)source[i] / ls;
        double g = (double)text[i] / bottom - (n > 0 ? cosine * d / (n * (small ? k : n)) : 0);
        de[i] = (real)(-share * g);
        back += (double)de[i] * (double)e[i] / le;
    }
    for (int i = 0; i < D; i++) de[i] = (real)(((double)de[i] - back * (double)e[i] / le) / le);
    return 1 - cosine;
}

double asyrp_direction(Run *r, Tensor de, Tensor e, Tensor source, Tensor text)
{
    double sum = 0;
    int N = e.s.d[0], D = e.s.d[1];
    if (!tensor_same(e, source) || tensor_count(text) != (size_t)D || (de.x && !tensor_same(de, e))) {
        run_fail(r, E_SHAPE, "asyrp: embeddings [%d,%d] and [%d,%d], a direction of %zu", N, D, source.s.d[0], source.s.d[1], tensor_count(text));
        return 0;
    }
    for (int i = 0; i < N; i++)
        sum += one_direction(de.x ? tensor_row(de, i).x : NULL, tensor_row(e, i).x, tensor_row(source, i).x, text.x, D, 1.0 / N);
    return sum / N;
}

/* mean |a - b| over all numbers, and weight * its gradient by a, added to da; sign(0) = 0 */
static double mean_distance(Run *r, Tensor da, Tensor a, Tensor b, double weight)
{
    acc sum = 0;
    size_t n = tensor_count(a);
    if (!run_ok(r)) return 0;
    for (size_t i = 0; i < n; i++) {
        real d = a.x[i] - b.x[i];
        sum += fabs((acc)d);
        if (da.x) da.x[i] += (real)(weight / (double)n) * (real)((d > 0) - (d < 0));
    }
    return (double)sum / (double)n;
}

/* ---- the eye ---- */

void asyrp_eye_forward(Run *r, const AsyrpEye *eye, Tensor e, AsyrpEyePass *p, Tensor x)
{
    Tensor image = x;
    if (eye->vae) {
        size_t mark = r->temp->used;
        const VaeConfig *v = &eye->vae->config;
        int f = vae_factor(v);
        image = keep(r, SHAPE(x.s.d[0], v->out_channels, x.s.d[2] * f, x.s.d[3] * f));
        Tensor z = temp(r, x.s);
        if (run_ok(r)) scale(r, z, (real)(1 / v->scaling_factor), x, (real)v->shift_factor);
        vae_decode(r, eye->vae, image, &p->vae, z, eye->recompute);
        if (r->keep != r->temp) arena_release(r->temp, mark);
    }
    p->image = image.s;
    clip_tower_embed(r, eye->tower, e, &p->tower, image);
}

void asyrp_eye_backward(Run *r, const AsyrpEye *eye, Tensor dx, Tensor de, AsyrpEyePass *p)
{
    size_t mark = r->temp->used;
    Tensor dimage = eye->vae ? temp(r, p->image) : dx;
    clip_tower_embed_backward(r, eye->tower, dimage, de, &p->tower);
    if (eye->vae) {
        vae_decode_backward(r, eye->vae, dx, dimage, &p->vae);
        if (run_ok(r)) scale(r, dx, (real)(1 / eye->vae->config.scaling_factor), dx, 0);
    }
    arena_release(r->temp, mark);
}

/* ---- passes of N pictures under their contexts ---- */

typedef struct { int N, rows; double w[2]; } Mix;

static Mix mix_of(const AsyrpLearner *a, Tensor x, Tensor context)
{
    Mix m = { x.s.d[0], context.x && !a->unet->classes ? context.s.d[0] / x.s.d[0] : 1, { 1, 0 } };
    if (m.rows == 2) m.w[0] = 1 - a->scale, m.w[1] = a->scale;
    return m;
}

static Tensor one_row(Tensor t, int i, Shape s) { return (Tensor){ t.x ? tensor_row(t, i).x : NULL, { { s.d[1], s.d[2], s.d[3], 0 } } }; }

/* eps[n] = sum_j w_j out[n rows + j], the first half of the channels */
static void mix_outputs(Run *r, Tensor eps, Tensor out, Mix m)
{
    for (int n = 0; n < m.N && run_ok(r); n++) {
        Tensor a = one_row(out, n * m.rows, eps.s);
        if (m.rows == 1) tensor_copy(r, tensor_row(eps, n), a);
        else blend(r, tensor_row(eps, n), (real)m.w[0], a, (real)m.w[1], one_row(out, n * m.rows + 1, eps.s));
    }
}

static void mix_outputs_back(Run *r, Tensor dout, Tensor deps, Mix m)
{
    tensor_zero(dout);
    for (int i = 0; i < m.N * m.rows && run_ok(r); i++)
        scale(r, one_row(dout, i, deps.s), (real)m.w[i % m.rows], tensor_row(deps, i / m.rows), 0);
}

typedef struct { UnetPass encoded, edited; DeltaCache delta; AsyrpShift shift; Tensor out, h; Mix m; } Passes;

static void encode(Run *r, const AsyrpLearner *a, Passes *p, Tensor x, int t, Tensor context)
{
    p->m = mix_of(a, x, context);
    int n = p->m.N * p->m.rows;
    Tensor xs = temp(r, SHAPE(n, x.s.d[1], x.s.d[2], x.s.d[3]));
    double *time = arena_take(r->temp, (size_t)n * sizeof *time);
    if (!time) run_fail(r, E_MEMORY, "out of memory: times");
    for (int i = 0; i < n && run_ok(r); i++) {
        tensor_copy(r, tensor_row(xs, i), tensor_row(x, i / p->m.rows));
        time[i] = t;
    }
    p->out = temp(r, SHAPE(n, a->unet->config.out_channels, x.s.d[2], x.s.d[3]));
    p->h = temp(r, unet_h_shape(a->unet, n, x.s.d[2], x.s.d[3]));
    Arena *kept = r->keep;
    r->keep = r->temp;
    unet_encode(r, a->unet, p->h, &p->encoded, xs, time, context, false);
    r->keep = kept;
}

static void decode_plain(Run *r, const AsyrpLearner *a, Passes *p, Tensor eps)
{
    Arena *kept = r->keep;
    UnetPass unused;
    r->keep = r->temp;
    unet_decode(r, a->unet, p->out, &unused, &p->encoded, p->h, false);
    r->keep = kept;
    mix_outputs(r, eps, p->out, p->m);
}

static void decode_edited(Run *r, const AsyrpLearner *a, Passes *p, Tensor eps, const Delta *const *delta, int t)
{
    Tensor y = temp(r, p->h.s);
    p->shift = (AsyrpShift){ .delta = delta, .c = { 1 }, .c0 = 1, .deltas = 1, .timeless = a->timeless };
    asyrp_shift(r, y, &p->shift, &p->delta, p->h, p->encoded.silu_temb, t);
    unet_decode(r, a->unet, p->out, &p->edited, &p->encoded, y, a->eye.recompute);
    mix_outputs(r, eps, p->out, p->m);
}

/* dP/dm of a prediction m at alpha-bar a */
static double slope(const Schedule *s, int t)
{
    double a = schedule_alpha_bar(s, t);
    if (s->config.prediction == PREDICT_X0) return 1;
    return s->config.prediction == PREDICT_V ? -sqrt(1 - a) : -sqrt(1 - a) / sqrt(a);
}

static void pull(Run *r, const AsyrpLearner *a, Passes *p, Tensor dx0, int t)
{
    Tensor deps = temp(r, dx0.s), dout = temp(r, p->out.s), dh = temp(r, p->h.s);
    if (!run_ok(r)) return;
    scale(r, deps, (real)slope(&a->schedule, t), dx0, 0);
    mix_outputs_back(r, dout, deps, p->m);
    unet_decode_backward(r, a->unet, dh, dout, &p->edited);
    asyrp_shift_back(r, &p->shift, &(Delta *){ a->delta }, dh, &p->delta);
}

/* The loss of P~ against P, its gradient into dx0. */
static AsyrpLoss judge(Run *r, const AsyrpLearner *a, Tensor dx0, Tensor x0, Tensor plain, Tensor source)
{
    AsyrpEyePass p;
    AsyrpLoss l = {0};
    Tensor e = temp(r, source.s), de = temp(r, source.s);
    asyrp_eye_forward(r, &a->eye, e, &p, x0);
    if (!run_ok(r)) return l;
    l.direction = asyrp_direction(r, de, e, source, a->text);
    l.clip = -log((2 - l.direction) / 2);
    scale(r, de, (real)(a->w_clip / (2 - l.direction)), de, 0);
    asyrp_eye_backward(r, &a->eye, dx0, de, &p);
    l.l1 = mean_distance(r, dx0, x0, plain, a->w_l1 * a->cosine);
    l.loss = a->w_clip * l.clip + a->w_l1 * a->cosine * l.l1;
    return l;
}

AsyrpLoss asyrp_learn(Run *r, const AsyrpLearner *a, Tensor x_edit, Tensor x_plain, Tensor x0, Tensor dx0, int t, Tensor context, Tensor source, bool learn)
{
    size_t mark = r->temp->used, kept = r->keep->used;
    const Delta *const delta = a->delta;
    Tensor eps = temp(r, x_edit.s), eps_edit = temp(r, x_edit.s), dir = temp(r, x_edit.s);
    Tensor plain = temp(r, x_edit.s), edited = x0.x ? x0 : temp(r, x_edit.s), grad = dx0.x ? dx0 : temp(r, x_edit.s);
    AsyrpLoss l = {0};
    Passes p;

    size_t mid = r->temp->used;
    encode(r, a, &p, x_plain, t, context);
    decode_plain(r, a, &p, eps);
    if (run_ok(r)) ddim_predict(r, &a->schedule, t, plain, dir, x_plain, eps);
    if (run_ok(r)) ddim_combine(r, &a->schedule, t, x_plain, plain, dir, none, 0);
    arena_release(r->temp, mid);

    encode(r, a, &p, x_edit, t, context);
    decode_plain(r, a, &p, eps);
    decode_edited(r, a, &p, eps_edit, &delta, t);
    if (run_ok(r)) ddim_predict(r, &a->schedule, t, edited, none, x_edit, eps_edit);
    if (run_ok(r)) ddim_predict(r, &a->schedule, t, none, dir, x_edit, eps);
    if (run_ok(r)) l = judge(r, a, grad, edited, plain, source);
    if (run_ok(r) && learn) pull(r, a, &p, grad, t);
    if (run_ok(r)) ddim_combine(r, &a->schedule, t, x_edit, edited, dir, none, 0);
    arena_release(r->keep, kept);
    arena_release(r->temp, mark);
    return l;
}
