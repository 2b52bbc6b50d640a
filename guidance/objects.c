#include <math.h>
#include "guidance/objects.h"

/* ---- A ---- */

static int heads_of(const Objects *o, const View *now)
{
    int heads = 0;
    const Sight *p;
    for (int l = 0; (p = view_see(now, SEE_PROBS, o->want.sites, l)); l++) heads += p->val.s.d[0];
    return heads;
}

void map_mean(Run *r, Tensor A, const Objects *o, const View *now)
{
    int heads = heads_of(o, now);
    const Sight *p;
    if (!A.x) return;
    if (!heads) run_fail(r, E_OPTION, "no attention map matches %s", o->want.sites);
    tensor_zero(A);
    for (int l = 0; (p = view_see(now, SEE_PROBS, o->want.sites, l)); l++) {
        size_t n = tensor_count(A);
        if (tensor_count(p->val) != n * (size_t)p->val.s.d[0]) {
            run_fail(r, E_SHAPE, "%s: %d x %d probabilities, wanted %d x %d", p->site, p->val.s.d[1], p->val.s.d[2], A.s.d[0], A.s.d[1]);
            return;
        }
        for (size_t i = 0; i < n; i++) {
            acc sum = 0;
            for (int h = 0; h < p->val.s.d[0]; h++) sum += (acc)p->val.x[(size_t)h * n + i];
            A.x[i] += (real)(sum / heads);
        }
    }
}

void map_mean_back(Run *r, View *now, Tensor dA, const Objects *o)
{
    int heads = heads_of(o, now);
    Sight *p;
    for (int l = 0; (p = view_at(now, SEE_PROBS, o->want.sites, l)) && dA.x; l++) {
        size_t n = tensor_count(dA);
        if (!p->adj.x || tensor_count(p->adj) != n * (size_t)p->val.s.d[0]) {
            run_fail(r, E_SHAPE, "%s: no gradient there", p->site);
            return;
        }
        for (int h = 0; h < p->val.s.d[0]; h++)
            for (size_t i = 0; i < n; i++) p->adj.x[(size_t)h * n + i] += dA.x[i] / (real)heads;
    }
}

/* ---- S ---- */

void map_sharpen(Run *r, Tensor S, Tensor A, double sharp)
{
    int Q = A.s.d[0], K = A.s.d[1], T = S.s.d[0];
    if (!S.x || !A.x || T < 1 || T + 1 > K || tensor_count(S) != (size_t)T * (size_t)Q) {
        run_fail(r, E_SHAPE, "sharpened maps of %d tokens from %d", T, K);
        return;
    }
    for (int q = 0; q < Q; q++) {
        const real *a = A.x + (size_t)q * K + 1;
        if (sharp == 0) {
            for (int k = 0; k < T; k++) S.x[(size_t)k * Q + q] = a[k];
            continue;
        }
        acc top = (acc)a[0], sum = 0;
        for (int k = 1; k < T; k++) top = fmax(top, (acc)a[k]);
        for (int k = 0; k < T; k++) sum += exp(sharp * ((acc)a[k] - top));
        for (int k = 0; k < T; k++) S.x[(size_t)k * Q + q] = (real)(exp(sharp * ((acc)a[k] - top)) / sum);
    }
}

/* dA_k = s S_k (dS_k - sum_j S_j dS_j) */
void map_sharpen_back(Run *r, Tensor dA, Tensor dS, Tensor S, double sharp)
{
    int Q = dA.s.d[0], K = dA.s.d[1], T = S.s.d[0];
    if (!dA.x || !tensor_same(dS, S) || tensor_count(S) != (size_t)T * (size_t)Q) {
        run_fail(r, E_SHAPE, "sharpened maps: gradients differ in shape");
        return;
    }
    tensor_zero(dA);
    for (int q = 0; q < Q; q++) {
        acc along = 0;
        for (int k = 0; k < T; k++) along += (acc)S.x[(size_t)k * Q + q] * (acc)dS.x[(size_t)k * Q + q];
        for (int k = 0; k < T; k++) {
            size_t i = (size_t)k * Q + q;
            dA.x[(size_t)q * K + k + 1] = sharp == 0 ? dS.x[i] : (real)(sharp * (acc)S.x[i] * ((acc)dS.x[i] - along));
        }
    }
}

/* ---- G ---- */

static int reflect(int i, int n)
{
    if (n == 1) return 0;
    return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
}

static void kernel(acc k[3])
{
    acc e = exp(-1.0);
    k[0] = k[2] = e / (1 + 2 * e);
    k[1] = 1 / (1 + 2 * e);
}

void map_smooth(Tensor y, Tensor x)
{
    int h = x.s.d[0], w = x.s.d[1];
    acc g[3];
    kernel(g);
    for (int i = 0; i < h && y.x; i++)
        for (int j = 0; j < w; j++) {
            acc sum = 0;
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++) sum += g[a] * g[b] * (acc)x.x[reflect(i + a - 1, h) * w + reflect(j + b - 1, w)];
            y.x[i * w + j] = (real)sum;
        }
}

void map_smooth_back(Tensor dx, Tensor dy)
{
    int h = dy.s.d[0], w = dy.s.d[1];
    acc g[3];
    kernel(g);
    tensor_zero(dx);
    for (int i = 0; i < h && dx.x; i++)
        for (int j = 0; j < w; j++)
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++)
                    dx.x[reflect(i + a - 1, h) * w + reflect(j + b - 1, w)] += (real)(g[a] * g[b] * (acc)dy.x[i * w + j]);
}

/* ---- m ---- */

void objects_see(Run *r, ObjectMaps *maps, const Objects *o, const View *now)
{
    const Sight *p = view_see(now, SEE_PROBS, o->want.sites, 0);
    *maps = (ObjectMaps){0};
    if (!p) {
        run_fail(r, E_OPTION, "no attention map matches %s", o->want.sites);
        return;
    }
    int Q = p->val.s.d[1], K = p->val.s.d[2], last = o->last ? o->last : K - 1;
    if (Q != o->h * o->w || last < 2 || last > K) {
        run_fail(r, E_SHAPE, "%s: %d queries and %d tokens; wanted a map of %d x %d and tokens 1 to %d", p->site, Q, K, o->h, o->w, last - 1);
        return;
    }
    *maps = (ObjectMaps){ temp(r, SHAPE(Q, K)), temp(r, SHAPE(last - 1, o->h, o->w)), temp(r, SHAPE(o->groups, o->h, o->w)) };
    map_mean(r, maps->A, o, now);
    map_sharpen(r, maps->S, maps->A, o->sharp);
    size_t mark = r->temp->used;
    Tensor mean = temp(r, SHAPE(o->h, o->w));
    for (int c = 0; c < o->groups && run_ok(r); c++) {
        tensor_zero(mean);
        for (int k = 0; k < o->size[c]; k++) {
            int t = o->group[c][k];
            if (t < 1 || t >= last) {
                run_fail(r, E_OPTION, "token %d cannot be guided: the maps are of tokens 1 to %d", t, last - 1);
                return;
            }
            for (int q = 0; q < Q; q++) mean.x[q] += maps->S.x[(size_t)(t - 1) * Q + q] / (real)o->size[c];
        }
        if (o->smooth) map_smooth(tensor_row(maps->m, c), mean);
        else tensor_copy(r, tensor_row(maps->m, c), mean);
    }
    arena_release(r->temp, mark);
}

void objects_pull(Run *r, View *now, Tensor dm, Tensor dS, const Objects *o, const ObjectMaps *maps)
{
    size_t mark = r->temp->used;
    Tensor dA = temp(r, maps->A.s), all = temp(r, maps->S.s), mean = temp(r, SHAPE(o->h, o->w));
    int Q = o->h * o->w;
    if (!run_ok(r)) return;
    tensor_zero(all);
    if (dS.x) tensor_copy(r, all, dS);
    for (int c = 0; c < o->groups && dm.x; c++) {
        if (o->smooth) map_smooth_back(mean, tensor_row(dm, c));
        else tensor_copy(r, mean, tensor_row(dm, c));
        for (int k = 0; k < o->size[c]; k++)
            for (int q = 0; q < Q; q++) all.x[(size_t)(o->group[c][k] - 1) * Q + q] += mean.x[q] / (real)o->size[c];
    }
    map_sharpen_back(r, dA, all, maps->S, o->sharp);
    map_mean_back(r, now, dA, o);
    arena_release(r->temp, mark);
}

/* ---- shared by losses ---- */

void map_hot(Tensor hot, Tensor m, double fraction)
{
    acc top = 0;
    for (size_t i = 0; i < tensor_count(m); i++) top = fmax(top, (acc)m.x[i]);
    for (size_t i = 0; i < tensor_count(hot); i++) hot.x[i] = (acc)m.x[i] >= fraction * top;
}

/* o = N/D:  do/da_p = ([a < b] + [a = b]/2 - o) / D */
acc map_overlap(Tensor da, Tensor db, Tensor a, Tensor b, acc weight)
{
    acc least = 0, both = 0;
    size_t n = tensor_count(a);
    for (size_t i = 0; i < n; i++) {
        least += fmin((acc)a.x[i], (acc)b.x[i]);
        both += (acc)a.x[i] + (acc)b.x[i];
    }
    if (!(both > 0)) return 0;
    acc o = least / both;
    for (size_t i = 0; i < n; i++) {
        acc mine = a.x[i] < b.x[i] ? 1 : a.x[i] > b.x[i] ? 0 : 0.5;
        if (da.x) da.x[i] += (real)(weight * (mine - o) / both);
        if (db.x) db.x[i] += (real)(weight * (1 - mine - o) / both);
    }
    return weight * o;
}

Carried carried_make(Run *r, Shape s) { return (Carried){ .before = tensor_in(r, r->run, s), .now = tensor_in(r, r->run, s) }; }

void carried_lasts(Carried *m, const Keeper *k)
{
    guide_keep(k, m->before);
    guide_keep(k, m->now);
    k->part(k->self, &m->step, sizeof m->step);
    k->part(k->self, &m->seen, sizeof m->seen);
    k->part(k->self, &m->has_before, sizeof m->has_before);
}

void carried_turn(Carried *m, const Clock *c)
{
    if (m->seen && c->i == m->step) return;
    Tensor old = m->before;
    m->has_before = m->seen && c->i > m->step;
    m->before = m->now;
    m->now = old;
    m->step = c->i;
    m->seen = true;
}

/* ---- schedules ---- */

double object_step_size(int i, int n, double scale, double first, double last)
{
    return scale * sqrt(first + (n > 1 ? (last - first) * i / (n - 1) : 0));
}

double object_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state)
{
    (void)r; (void)g; (void)delta; (void)state;
    double s = object_step_size(c->i, c->n, par[0], par[1], par[2]);
    if (s == 0) tensor_zero(each);
    return s;
}

bool object_early(const Clock *c, double from, double until)
{
    return c->i >= lround(from * c->n) && c->i < lround(until * c->n);
}

double object_strength(const Clock *c, const double *par) { return object_early(c, par[1], par[2]) ? par[0] : 0; }
