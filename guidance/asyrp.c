#include <math.h>
#include <stdio.h>
#include <string.h>
#include "guidance/asyrp.h"
#include "guidance/ddim.h"
#include "tensor/point.h"

static const Tensor none = {0};

/* ---- h-space ---- */

void asyrp_lerp(Run *r, Tensor y, Tensor u, Tensor v, double w) { blend(r, y, (real)(1 - w), u, (real)w, v); }

void asyrp_slerp(Run *r, Tensor y, Tensor u, Tensor v, double w)
{
    if (!tensor_same(y, u) || !tensor_same(y, v)) {
        run_fail(r, E_SHAPE, "asyrp: two h that differ in shape");
        return;
    }
    for (int n = 0; n < y.s.d[0]; n++) {
        Tensor a = tensor_row(u, n), b = tensor_row(v, n);
        double length = sqrt((double)dot(r, a, a) * (double)dot(r, b, b)), cosine = length > 0 ? (double)dot(r, a, b) / length : 1;
        double theta = acos(fmin(1, fmax(-1, cosine))), s = sin(theta);
        if (s < 1e-6) asyrp_lerp(r, tensor_row(y, n), a, b, w);
        else blend(r, tensor_row(y, n), (real)(sin((1 - w) * theta) / s), a, (real)(sin(w * theta) / s), b);
    }
}

/* d |h| / |d|, image by image */
static void to_length(Run *r, Tensor d, Tensor h)
{
    for (int n = 0; n < d.s.d[0] && run_ok(r); n++) {
        Tensor a = tensor_row(d, n), b = tensor_row(h, n);
        double length = sqrt((double)dot(r, a, a));
        if (length > 0) scale(r, a, (real)(sqrt((double)dot(r, b, b)) / length), a, 0);
    }
}

void asyrp_shift(Run *r, Tensor y, const AsyrpShift *a, DeltaCache *cache, Tensor h, Tensor silu_temb, double t)
{
    size_t mark = r->temp->used;
    Tensor f = temp(r, h.s), sum = a->slerp > 0 ? temp(r, h.s) : y;
    Arena *kept = r->keep;
    DeltaCache unused;
    if (!cache) r->keep = r->temp;
    if (a->slerp > 0) tensor_zero(sum);
    else if (run_ok(r)) scale(r, sum, (real)a->c0, h, 0);
    for (int k = 0; k < a->deltas && run_ok(r); k++) {
        delta_forward(r, a->delta[k], f, cache ? &cache[k] : &unused, h, a->timeless ? none : silu_temb, t);
        if (run_ok(r)) axpy(r, sum, (real)a->c[k], f);
    }
    r->keep = kept;
    if (a->slerp > 0) {
        to_length(r, sum, h);
        if (run_ok(r)) asyrp_slerp(r, y, h, sum, a->slerp);
    }
    arena_release(r->temp, mark);
}

void asyrp_shift_back(Run *r, const AsyrpShift *a, Delta *const *delta, Tensor dy, const DeltaCache *cache)
{
    size_t mark = r->temp->used;
    Tensor df = temp(r, dy.s);
    for (int k = 0; k < a->deltas && run_ok(r); k++) {
        scale(r, df, (real)a->c[k], dy, 0);
        delta_backward(r, delta[k], none, none, df, &cache[k]);
    }
    arena_release(r->temp, mark);
}

void asyrp_coefficients(AsyrpShift *a, const double *weight, double strength, int n_train, int n_test)
{
    for (int k = 0; k < a->deltas; k++)
        a->c[k] = strength * (weight ? weight[k] : 1) * n_train / n_test / sqrt((double)a->deltas);
}

/* ---- times ---- */

bool asyrp_sequence(int *t, int n, int t0, Status *s)
{
    for (int i = 0; i < n; i++) {
        t[i] = n == 1 ? 0 : (int)((double)i / (n - 1) * t0 + 1e-6);
        if (i && t[i] == t[i - 1]) status_fail(s, E_OPTION, "%d times from 0 to %d are not all different", n, t0);
    }
    return s->code == OK;
}

bool asyrp_schedule(Schedule *s, const ScheduleConfig *c, AlphaKind alphas, const int *t, int n, Arena *a, Status *status)
{
    ScheduleConfig plain = *c;
    plain.clip_sample = plain.thresholding = false;
    plain.set_alpha_to_one = true;
    return schedule_make(s, &plain, alphas, 1, a, status) && schedule_respace(s, t, n, a, status);
}

void asyrp_invert_step(Run *r, const Schedule *s, int t, int t_next, Tensor x_next, Tensor x, Tensor m)
{
    size_t mark = r->temp->used;
    Tensor x0 = temp(r, x.s), eps = temp(r, x.s);
    double a = schedule_alpha_bar(s, t_next);
    ddim_predict(r, s, t, x0, eps, x, m);
    if (run_ok(r)) blend(r, x_next, (real)sqrt(a), x0, (real)sqrt(1 - a), eps);
    arena_release(r->temp, mark);
}

enum { COLUMNS = 9 };
static const double COLUMN[COLUMNS] = { 0.20, 0.22, 0.24, 0.26, 0.28, 0.30, 0.32, 0.33, 0.34 };
static const struct { const char *set; int edit[COLUMNS], boost; } INTERVAL[] = {
    { "celeba-hq", { 424, 446, 468, 487, 503, 516, 533, 538, 544 }, 167 },
    { "church",    { 265, 288, 310, 331, 351, 370, 387, 396, 404 }, 293 },
    { "bedroom",   { 295, 313, 328, 342, 355, 369, 381, 384, 391 }, 221 },
    { "afhq-dog",  { 242, 286, 329, 375, 412, 444, 471, 482, 493 }, 167 },
    { "metfaces",  { 97, 122, 158, 202, 262, 320, 369, 396, 417 }, 180 },
};
enum { SETS = sizeof INTERVAL / sizeof *INTERVAL };

bool asyrp_interval(int *t_edit, int *t_boost, const char *set, double cosine, Status *s)
{
    int k = 0, i = 0;
    double threshold = 0.33 * cosine;
    while (k < SETS && strcmp(INTERVAL[k].set, set)) k++;
    if (k == SETS) status_fail(s, E_OPTION, "no table of intervals for \"%.60s\": celeba-hq, church, bedroom, afhq-dog, metfaces are known", set);
    else if (!(threshold >= COLUMN[0] && threshold <= COLUMN[COLUMNS - 1]))
        status_fail(s, E_OPTION, "the texts' similarity %.3f asks for a threshold of %.3f, the tables hold 0.20 to 0.34: give t-edit and t-boost", cosine, threshold);
    if (s->code != OK) return false;
    while (i + 2 < COLUMNS && COLUMN[i + 1] < threshold) i++;
    double part = (threshold - COLUMN[i]) / (COLUMN[i + 1] - COLUMN[i]);
    *t_edit = (int)floor(INTERVAL[k].edit[i] + part * (INTERVAL[k].edit[i + 1] - INTERVAL[k].edit[i]) + 0.5);
    *t_boost = INTERVAL[k].boost;
    return true;
}

/* ---- one evaluation ---- */

void asyrp_predict(Run *r, const Unet *u, Tensor eps, Tensor eps_edit, Tensor h_out, const AsyrpShift *a, Tensor x, double t, Tensor context)
{
    size_t mark = r->temp->used;
    Arena *kept = r->keep;
    int N = x.s.d[0];
    UnetPass encoded, pass;
    r->keep = r->temp;
    double *times = arena_take(r->temp, (size_t)N * sizeof *times);
    Tensor out = temp(r, SHAPE(N, u->config.out_channels, x.s.d[2], x.s.d[3])), h = h_out.x ? h_out : temp(r, unet_h_shape(u, N, x.s.d[2], x.s.d[3]));
    if (!times) run_fail(r, E_MEMORY, "out of memory: times");
    for (int n = 0; n < N && run_ok(r); n++) times[n] = t;
    unet_encode(r, u, h, &encoded, x, times, context, false);
    unet_decode(r, u, out, &pass, &encoded, h, false);
    if (run_ok(r)) gaussian_split(r, eps, none, out);
    if (eps_edit.x && run_ok(r)) {
        Tensor y = temp(r, h.s);
        asyrp_shift(r, y, a, NULL, h, encoded.silu_temb, t);
        unet_decode(r, u, out, &pass, &encoded, y, false);
        if (run_ok(r)) gaussian_split(r, eps_edit, none, out);
    }
    r->keep = kept;
    arena_release(r->temp, mark);
}
