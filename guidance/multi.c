#include <math.h>
#include "guidance/maps.h"
#include "guidance/multi.h"

void multi_owners(Tensor owner, Tensor m, double fraction)
{
    int n = m.s.d[0];
    size_t N = n ? tensor_count(m) / (size_t)n : 0;
    for (int c = 0; c < n && owner.x; c++) map_hot(tensor_row(owner, c), tensor_row(m, c), fraction);
    for (size_t p = 0; p < N && owner.x; p++) {
        int best = 0;
        for (int c = 1; c < n; c++)
            if (m.x[(size_t)c * N + p] > m.x[(size_t)best * N + p]) best = c;
        for (int c = 0; c < n; c++)
            if (c != best) owner.x[(size_t)c * N + p] = 0;
    }
}

acc multi_suppress(Tensor dm, Tensor m, Tensor owner, acc weight)
{
    int n = m.s.d[0];
    size_t N = n ? tensor_count(m) / (size_t)n : 0;
    acc E = 0;
    for (int d = 0; d < n && n > 1; d++) {
        const real *o = owner.x + (size_t)d * N;
        acc area = 0;
        for (size_t p = 0; p < N; p++) area += (acc)o[p];
        acc each = weight / ((acc)n * (n - 1)) / fmax(1, area);
        for (int c = 0; c < n; c++)
            for (size_t p = 0; p < N && c != d; p++) {
                E += each * (acc)m.x[(size_t)c * N + p] * (acc)o[p];
                if (dm.x) dm.x[(size_t)c * N + p] += (real)(each * (acc)o[p]);
            }
    }
    return E;
}

/* ---- box ---- */

static bool boxed(const Multi *p, int c) { return p->box[c][2] > p->box[c][0]; }

/* One head of one token: (1 - share)^2, share = sum_{in} P / sum P;  dP = -2 (1 - share) ([in] - share) / sum P. */
static acc box_head(real *dP, const real *P, int K, int h, int w, const int cell[4], acc weight)
{
    acc in = 0, all = 0;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            acc v = (acc)P[(size_t)(y * w + x) * (size_t)K];
            all += v;
            if (x >= cell[0] && x < cell[2] && y >= cell[1] && y < cell[3]) in += v;
        }
    if (!(all > 0)) return weight;
    acc share = in / all;
    for (int y = 0; y < h && dP; y++)
        for (int x = 0; x < w; x++) {
            acc inside = x >= cell[0] && x < cell[2] && y >= cell[1] && y < cell[3];
            dP[(size_t)(y * w + x) * (size_t)K] -= (real)(weight * 2 * (1 - share) * (inside - share) / all);
        }
    return weight * (1 - share) * (1 - share);
}

static acc box_layer(Run *r, Sight *s, const View *now, const Multi *p, acc weight)
{
    int heads = s->val.s.d[0], Q = s->val.s.d[1], K = s->val.s.d[2], h, w;
    acc E = 0;
    if (!map_size(now->h, now->w, Q, &h, &w)) {
        run_fail(r, E_SHAPE, "multi: %s is not a map of a %d x %d latent", s->site, now->h, now->w);
        return 0;
    }
    for (int c = 0; c < p->objects.groups; c++) {
        if (!boxed(p, c)) continue;
        const double *b = p->box[c];
        int cell[4] = { (int)(b[0] * w), (int)(b[1] * h), (int)(b[2] * w), (int)(b[3] * h) };
        for (int k = 0; k < p->objects.size[c]; k++)
            for (int a = 0; a < heads; a++) {
                size_t at = (size_t)a * (size_t)Q * (size_t)K + (size_t)p->objects.group[c][k];
                E += box_head(s->adj.x ? s->adj.x + at : NULL, s->val.x + at, K, h, w, cell, weight / (heads * p->objects.size[c]));
            }
    }
    return E;
}

acc multi_box(Run *r, View *now, const Multi *p, acc weight)
{
    int layers = 0, objects = 0;
    acc E = 0;
    Sight *s;
    for (int c = 0; c < p->objects.groups; c++) objects += boxed(p, c);
    if (!objects) return 0;
    while (view_see(now, SEE_PROBS, p->box_want.sites, layers)) layers++;
    for (int l = 0; (s = view_at(now, SEE_PROBS, p->box_want.sites, l)) && run_ok(r); l++)
        E += box_layer(r, s, now, p, weight / ((acc)objects * layers));
    return E;
}

/* ---- the energy ---- */

MultiState multi_state(Run *r, const Multi *p)
{
    Shape s = SHAPE(p->objects.groups, p->objects.h, p->objects.w);
    return (MultiState){ .hot = carried_make(r, s), .owner = tensor_in(r, r->run, s) };
}

static acc all_terms(Run *r, View *now, Tensor dm, Tensor m, const Multi *p, MultiState *s, const acc w[MULTI_TERMS])
{
    Tensor none = {0}, before = s->hot.has_before ? s->hot.before : none;
    acc *t = s->term, E = 0;
    t[MULTI_EXCITE] = excite_worst(none, m, 1, NULL);
    t[MULTI_SEGREGATE] = astar_segregate(none, m, 1);
    t[MULTI_RETAIN] = astar_retain(none, m, before, 1);
    t[MULTI_SUPPRESS] = multi_suppress(none, m, s->owner, 1);
    if (w[MULTI_EXCITE] != 0) excite_worst(dm, m, w[MULTI_EXCITE], NULL);
    if (w[MULTI_SEGREGATE] != 0) astar_segregate(dm, m, w[MULTI_SEGREGATE]);
    if (w[MULTI_RETAIN] != 0) astar_retain(dm, m, before, w[MULTI_RETAIN]);
    if (w[MULTI_SUPPRESS] != 0) multi_suppress(dm, m, s->owner, w[MULTI_SUPPRESS]);
    t[MULTI_BOX] = w[MULTI_BOX] != 0 ? multi_box(r, now, p, w[MULTI_BOX]) / w[MULTI_BOX] : 0;
    for (int k = 0; k < MULTI_TERMS; k++) E += w[k] * t[k];
    return E;
}

acc multi_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)ref;
    const Multi *p = e->par;
    MultiState *s = state;
    size_t mark = r->temp->used;
    ObjectMaps maps;
    objects_see(r, &maps, &p->objects, now);
    Tensor dm = temp(r, maps.m.s);
    acc E = 0, w[MULTI_TERMS];
    bool early = object_early(&now->clock, 0, p->early);
    for (int k = 0; k < MULTI_TERMS; k++) w[k] = early || k == MULTI_SEGREGATE || k == MULTI_RETAIN ? weight * p->weight[k] : 0;
    if (run_ok(r)) {
        carried_turn(&s->hot, &now->clock);
        for (int c = 0; c < p->objects.groups; c++) map_hot(tensor_row(s->hot.now, c), tensor_row(maps.m, c), p->fraction);
        multi_owners(s->owner, maps.m, p->fraction);
        tensor_zero(dm);
        E = all_terms(r, now, dm, maps.m, p, s, w);
        objects_pull(r, now, dm, (Tensor){0}, &p->objects, &maps);
    }
    arena_release(r->temp, mark);
    return E;
}
