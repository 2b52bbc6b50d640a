/* suppress_masked.c -- Suppress to Impress as first released: masks given, the loss moved in map space. */
#include <math.h>
#include "guidance/suppress.h"

int masked_evaluations(const Masked *p, int i) { return p->total - i > 1 ? p->total - i - 1 : 0; }

double masked_strength(const Clock *c, const double *par) { return c->i + 1 < par[1] ? par[0] : 0; }

/* mean_p softplus(x) - x y:  dx = (sigmoid(x) - y) / N */
static acc bce(real *dx, const real *x, const real *y, int N, acc weight)
{
    acc E = 0;
    for (int p = 0; p < N; p++) {
        acc v = (acc)x[p], plus = fmax(v, 0) + log1p(exp(-fabs(v)));
        E += plus - v * (acc)y[p];
        dx[p] += (real)(weight * (1 / (1 + exp(-v)) - (acc)y[p]) / N);
    }
    return E / N;
}

/* The strongest rival of token t at each pixel inside, its own value standing as 0; q: a rival's best value outside. */
static acc contrast(Run *r, Tensor dU, Tensor U, const real *mask, int t, acc weight)
{
    int K = U.s.d[0], N = U.s.d[1] * U.s.d[2], inside = 0;
    size_t mark = r->temp->used;
    acc *q = arena_take(r->temp, (size_t)K * sizeof *q), best = 0, beyond = 0;
    for (int p = 0; p < N; p++) inside += mask[p] > 0;
    if (!q || !inside || inside == N) {
        run_fail(r, q ? E_OPTION : E_MEMORY, "the mask of token %d %s", t + 1, !q ? "needs memory" : inside ? "covers the whole frame" : "is empty");
        return 0;
    }
    for (int k = 0; k < K; k++) {
        q[k] = (acc)-INFINITY;
        for (int p = 0; p < N; p++)
            if (!(mask[p] > 0)) q[k] = fmax(q[k], (acc)U.x[(size_t)k * N + p]);
    }
    q[t] = 0;
    for (int p = 0; p < N; p++) {
        if (!(mask[p] > 0)) continue;
        int top = 0;
        acc value = t == 0 ? 0 : (acc)U.x[p];
        for (int k = 1; k < K; k++) {
            acc v = k == t ? 0 : (acc)U.x[(size_t)k * N + p];
            if (v > value) value = v, top = k;
        }
        best += value;
        beyond += q[top];
        if (top != t) dU.x[(size_t)top * N + p] += (real)(weight * 2 / inside);
    }
    arena_release(r->temp, mark);
    return (2 * best - beyond) / inside;
}

acc masked_loss(Run *r, Tensor dU, Tensor U, const Masked *p, acc part[2])
{
    int T = p->objects.groups, N = U.s.d[1] * U.s.d[2];
    acc b = 0, c = 0;
    if (!tensor_same(dU, U) || tensor_count(p->mask) != (size_t)T * (size_t)N) {
        run_fail(r, E_SHAPE, "masks and maps differ in size");
        return 0;
    }
    tensor_zero(dU);
    for (int i = 0; i < T && run_ok(r); i++) {
        int t = p->objects.group[i][0] - 1;
        const real *mask = p->mask.x + (size_t)i * N;
        b += bce(dU.x + (size_t)t * N, U.x + (size_t)t * N, mask, N, p->bce);
        c += contrast(r, dU, U, mask, t, p->contrast / T) / T;
    }
    if (part) {
        part[0] = b;
        part[1] = c;
    }
    return p->bce * b + p->contrast * c;
}

acc masked_moves(Run *r, Tensor dU, Tensor U, const Masked *p, double step, int evaluations, acc (*part)[2])
{
    acc E = 0;
    for (int j = 0; j < evaluations && run_ok(r); j++) {
        E = masked_loss(r, dU, U, p, part ? part[j] : NULL);
        for (size_t i = 0; i < tensor_count(U) && j < evaluations - 1; i++) U.x[i] += (real)(step * (acc)dU.x[i]);
    }
    return E;
}

acc masked_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)ref; (void)state;
    const Masked *p = e->par;
    const Clock *c = &now->clock;
    int evaluations = masked_evaluations(p, c->i);
    size_t mark = r->temp->used;
    ObjectMaps maps;
    acc E = 0;
    if (!evaluations) return 0;
    objects_see(r, &maps, &p->objects, now);
    Tensor U = temp(r, maps.S.s), dU = temp(r, maps.S.s);
    if (run_ok(r)) {
        tensor_copy(r, U, maps.S);
        E = masked_moves(r, dU, U, p, object_step_size(c->i, c->n, p->scale, p->first, p->last), evaluations, NULL);
        for (size_t i = 0; i < tensor_count(dU) && weight != 1; i++) dU.x[i] *= (real)weight;
        objects_pull(r, now, (Tensor){0}, dU, &p->objects, &maps);
    }
    arena_release(r->temp, mark);
    return weight * E;
}

PixelCentre pixel_centre(const real *m, int h, int w)
{
    PixelCentre c = {0};
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            acc v = (acc)m[y * w + x];
            c.mass += v;
            c.x += v * x;
            c.y += v * y;
        }
    if (c.mass > 0) {
        c.x /= c.mass;
        c.y /= c.mass;
    }
    return c;
}

acc masked_centroid(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    (void)ref; (void)state;
    const Masked *p = e->par;
    int h = p->objects.h, w = p->objects.w;
    size_t mark = r->temp->used;
    ObjectMaps maps;
    acc E = 0;
    objects_see(r, &maps, &p->objects, now);
    Tensor dS = temp(r, maps.S.s);
    tensor_zero(dS);
    for (int i = 0; i < p->objects.groups && run_ok(r); i++) {
        size_t t = (size_t)(p->objects.group[i][0] - 1) * (size_t)(h * w);
        PixelCentre a = pixel_centre(maps.S.x + t, h, w), b = pixel_centre(p->mask.x + (size_t)i * (size_t)(h * w), h, w);
        acc sx = (a.x > b.x) - (a.x < b.x), sy = (a.y > b.y) - (a.y < b.y);
        E += fabs(a.x - b.x) + fabs(a.y - b.y);
        for (int y = 0; y < h && a.mass > 0; y++)
            for (int x = 0; x < w; x++)
                dS.x[t + (size_t)(y * w + x)] += (real)(weight * (sx * (x - a.x) + sy * (y - a.y)) / a.mass);
    }
    objects_pull(r, now, (Tensor){0}, dS, &p->objects, &maps);
    arena_release(r->temp, mark);
    return weight * E;
}
