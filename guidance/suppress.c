/* suppress.c -- Suppress to Impress without masks: regions, terms, energy. */
#include <math.h>
#include <stdlib.h>
#include "guidance/suppress.h"

/* ---- regions ---- */

static int ascending(const void *a, const void *b)
{
    acc x = *(const acc *)a, y = *(const acc *)b;
    return (x > y) - (x < y);
}

acc otsu_threshold(Run *r, Tensor m)
{
    size_t n = tensor_count(m), mark = r->temp->used;
    acc *v = arena_take(r->temp, n * sizeof *v), total = 0, low = 0, best = -1, at = 0;
    if (!v) {
        run_fail(r, E_MEMORY, "out of memory: threshold");
        return 0;
    }
    for (size_t i = 0; i < n; i++) total += v[i] = (acc)m.x[i];
    qsort(v, n, sizeof *v, ascending);
    at = n ? v[0] : 0;
    for (size_t k = 1; k < n; k++) {
        low += v[k - 1];
        if (!(v[k - 1] < v[k])) continue;
        acc below = low / (acc)k, above = (total - low) / (acc)(n - k);
        acc between = (acc)k * (acc)(n - k) * (above - below) * (above - below);
        if (between <= best) continue;
        best = between;
        at = (v[k - 1] + v[k]) / 2;
    }
    arena_release(r->temp, mark);
    return at;
}

static acc sum_of(Tensor t)
{
    acc sum = 0;
    for (size_t i = 0; i < tensor_count(t); i++) sum += (acc)t.x[i];
    return sum;
}

void region_of(Run *r, Tensor region, Tensor m, RegionRule how)
{
    if (!tensor_same(region, m)) {
        run_fail(r, E_SHAPE, "region and map differ in shape");
        return;
    }
    size_t n = tensor_count(m);
    acc lo = (acc)m.x[0], hi = lo;
    for (size_t i = 1; i < n; i++) {
        lo = fmin(lo, (acc)m.x[i]);
        hi = fmax(hi, (acc)m.x[i]);
    }
    acc th = how.threshold == THRESHOLD_OTSU ? otsu_threshold(r, m) : sum_of(m) / (acc)n;
    for (size_t i = 0; i < n; i++) {
        acc x = (acc)m.x[i] - th;
        region.x[i] = lo == hi ? 1 : how.softness == 0 ? x > 0 : (real)(1 / (1 + exp(-x / (how.softness * (hi - lo)))));
    }
}

/* ---- terms ---- */

typedef struct { acc D, R, mu; } Inside;                  /* sum r m, sum r, their ratio */

static Inside inside_of(Tensor m, Tensor region)
{
    Inside s = {0};
    for (size_t i = 0; i < tensor_count(m); i++) {
        s.D += (acc)region.x[i] * (acc)m.x[i];
        s.R += (acc)region.x[i];
    }
    if (s.R > 0) s.mu = s.D / s.R;
    return s;
}

/* u = sum (1-r) m / M:  du = ((1-r) - u) / M */
acc suppress_term(Tensor dm, Tensor m, Tensor region, acc weight)
{
    acc M = sum_of(m), out = M - inside_of(m, region).D;
    if (!(M > 0)) return 0;
    acc u = out / M;
    for (size_t i = 0; i < tensor_count(dm); i++) dm.x[i] += (real)(weight * (1 - (acc)region.x[i] - u) / M);
    return weight * u;
}

/* e = sum r m log(m/mu) / D:  de = (r/D) (log(m/mu) - e) */
acc even_term(Tensor dm, Tensor m, Tensor region, acc weight)
{
    Inside s = inside_of(m, region);
    acc e = 0;
    if (!(s.D > 0)) return 0;
    for (size_t i = 0; i < tensor_count(m); i++)
        if (m.x[i] > 0) e += (acc)region.x[i] * (acc)m.x[i] * log((acc)m.x[i] / s.mu);
    e /= s.D;
    for (size_t i = 0; i < tensor_count(dm); i++)
        if (m.x[i] > 0) dm.x[i] += (real)(weight * (acc)region.x[i] / s.D * (log((acc)m.x[i] / s.mu) - e));
    return weight * e;
}

/* v = sum r (m-mu)^2 / (R mu^2):  dv = 2 r (m - mu (1+v)) / (R mu^2) */
acc even_cv2_term(Tensor dm, Tensor m, Tensor region, acc weight)
{
    Inside s = inside_of(m, region);
    acc v = 0;
    if (!(s.D > 0)) return 0;
    for (size_t i = 0; i < tensor_count(m); i++) v += (acc)region.x[i] * ((acc)m.x[i] - s.mu) * ((acc)m.x[i] - s.mu);
    acc over = s.R * s.mu * s.mu;
    v /= over;
    for (size_t i = 0; i < tensor_count(dm); i++)
        dm.x[i] += (real)(weight * 2 * (acc)region.x[i] * ((acc)m.x[i] - s.mu * (1 + v)) / over);
    return weight * v;
}

acc emphasise_term(Tensor dm, Tensor m, Tensor region, double level, acc weight)
{
    Inside s = inside_of(m, region);
    acc lack = 1 - s.mu / level;
    if (!(s.R > 0) || !(lack > 0)) return 0;
    for (size_t i = 0; i < tensor_count(dm); i++) dm.x[i] -= (real)(weight * (acc)region.x[i] / (level * s.R));
    return weight * lack;
}

/* c = <a,b>/(|a||b|):  dc/da = (b/|b| - c a/|a|) / |a| */
static acc cosine(Tensor da, Tensor db, Tensor a, Tensor b, acc weight)
{
    acc ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < tensor_count(a); i++) {
        ab += (acc)a.x[i] * (acc)b.x[i];
        aa += (acc)a.x[i] * (acc)a.x[i];
        bb += (acc)b.x[i] * (acc)b.x[i];
    }
    if (!(aa > 0) || !(bb > 0)) return 0;
    acc na = sqrt(aa), nb = sqrt(bb), c = ab / (na * nb);
    for (size_t i = 0; i < tensor_count(da); i++) {
        da.x[i] += (real)(weight * ((acc)b.x[i] / nb - c * (acc)a.x[i] / na) / na);
        db.x[i] += (real)(weight * ((acc)a.x[i] / na - c * (acc)b.x[i] / nb) / nb);
    }
    return weight * c;
}

acc exclusive_term(Tensor dm, Tensor m, acc weight)
{
    int n = m.s.d[0];
    acc E = 0, each = n > 1 ? weight * 2 / ((acc)n * (n - 1)) : 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            E += cosine(dm.x ? tensor_row(dm, i) : dm, dm.x ? tensor_row(dm, j) : dm, tensor_row(m, i), tensor_row(m, j), each);
    return E;
}

/* ---- the energy ---- */

SuppressState suppress_state(Run *r, const Suppress *p)
{
    Shape s = SHAPE(p->objects.groups, p->objects.h, p->objects.w);
    return (SuppressState){ .memory = carried_make(r, s), .region = tensor_in(r, r->run, s) };
}

static void remember(Run *r, const Suppress *p, SuppressState *s, Tensor m, const Clock *c)
{
    carried_turn(&s->memory, c);
    for (size_t i = 0; i < tensor_count(m); i++)
        s->memory.now.x[i] = !s->memory.has_before ? m.x[i]
                           : (real)(p->memory * (acc)s->memory.before.x[i] + (1 - p->memory) * (acc)m.x[i]);
    for (int k = 0; k < p->objects.groups; k++) region_of(r, tensor_row(s->region, k), tensor_row(s->memory.now, k), p->region);
}

static acc add_term(SuppressState *s, int term, acc value, acc weight)
{
    s->term[term] += value;
    return weight * value;
}

/* dm of a term that is off, or of weight zero, is not touched; its value is reported all the same. */
static acc all_terms(Tensor dm, Tensor m, const Suppress *p, SuppressState *s, const acc weight[TERMS])
{
    int n = p->objects.groups;
    acc E = 0;
    for (int k = 0; k < TERMS; k++) s->term[k] = 0;
    for (int c = 0; c < n; c++) {
        Tensor mc = tensor_row(m, c), rc = tensor_row(s->region, c), d = tensor_row(dm, c), none = {0};
        acc (*even)(Tensor, Tensor, Tensor, acc) = p->cv2 ? even_cv2_term : even_term;
        if (weight[TERM_SUPPRESS] != 0) suppress_term(d, mc, rc, weight[TERM_SUPPRESS] / n);
        if (weight[TERM_EVEN] != 0) even(d, mc, rc, weight[TERM_EVEN] / n);
        if (weight[TERM_EMPHASISE] != 0) emphasise_term(d, mc, rc, p->level, weight[TERM_EMPHASISE] / n);
        E += add_term(s, TERM_SUPPRESS, suppress_term(none, mc, rc, 1) / n, weight[TERM_SUPPRESS]);
        E += add_term(s, TERM_EVEN, even(none, mc, rc, 1) / n, weight[TERM_EVEN]);
        E += add_term(s, TERM_EMPHASISE, emphasise_term(none, mc, rc, p->level, 1) / n, weight[TERM_EMPHASISE]);
    }
    if (weight[TERM_EXCLUSIVE] != 0) exclusive_term(dm, m, weight[TERM_EXCLUSIVE]);
    return E + add_term(s, TERM_EXCLUSIVE, exclusive_term((Tensor){0}, m, 1), weight[TERM_EXCLUSIVE]);
}

acc suppress_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)ref;
    const Suppress *p = e->par;
    size_t mark = r->temp->used;
    ObjectMaps maps;
    objects_see(r, &maps, &p->objects, now);
    Tensor dm = temp(r, maps.m.s);
    acc E = 0, w[TERMS];
    bool shape = now->clock.i >= lround(p->shape_from * now->clock.n);
    for (int k = 0; k < TERMS; k++) w[k] = k > TERM_EVEN || shape ? weight * p->weight[k] : 0;
    if (run_ok(r)) {
        remember(r, p, state, maps.m, &now->clock);
        tensor_zero(dm);
        E = all_terms(dm, maps.m, p, state, w);
        objects_pull(r, now, dm, (Tensor){0}, &p->objects, &maps);
    }
    arena_release(r->temp, mark);
    return E;
}
