#include <limits.h>
#include <math.h>
#include <string.h>
#include "guidance/maps.h"

bool map_size(int H, int W, int queries, int *h, int *w)
{
    for (*h = H, *w = W; *h * *w > queries && *h * *w > 1; *h = (*h + 1) / 2) *w = (*w + 1) / 2;
    return *h * *w == queries;
}

typedef struct { const char *pattern; int least, most, wanted, nearest; char *text; size_t length; } Listing;

static void list_site(void *self, SiteKind kind, const char *path, Shape shape)
{
    Listing *l = self;
    int queries = shape.d[2];
    if (kind != SITE_PROBS || queries < l->least || queries > l->most || !site_matches(l->pattern, path)) return;
    if (!l->nearest || fabs(log((double)queries / l->wanted)) < fabs(log((double)l->nearest / l->wanted))) l->nearest = queries;
    size_t n = strlen(path);
    if (l->text) {
        if (l->length) l->text[l->length - 1] = ',';
        memcpy(l->text + l->length, path, n + 1);
    }
    l->length += n + 1;
}

const char *map_sites(Run *r, const Unet *u, int h, int w, const char *pattern, int least, int most)
{
    Listing l = { pattern, least, most, 1, 0, NULL, 0 };
    unet_sites(u, h, w, 1, list_site, &l);
    if (!l.length) return "";
    l.text = arena_take(r->run, l.length);
    if (!l.text) {
        run_fail(r, E_MEMORY, "out of memory: a list of sites");
        return "";
    }
    l.length = 0;
    unet_sites(u, h, w, 1, list_site, &l);
    return l.text;
}

int map_queries(const Unet *u, int h, int w, const char *pattern, int wanted)
{
    Listing l = { pattern, 1, INT_MAX, wanted, 0, NULL, 0 };
    unet_sites(u, h, w, 1, list_site, &l);
    return l.nearest;
}

void map_of(Run *r, Tensor map, const Sight *probs, int token)
{
    int heads = probs->val.s.d[0], Q = probs->val.s.d[1], K = probs->val.s.d[2];
    if (!map.x || !probs->val.x || tensor_count(map) != (size_t)Q || token < 0 || token >= K) {
        run_fail(r, E_SHAPE, "%s: no map of token %d among %d", probs->site, token, K);
        return;
    }
    for (int q = 0; q < Q; q++) {
        acc sum = 0;
        for (int h = 0; h < heads; h++) sum += (acc)probs->val.x[((size_t)h * Q + q) * K + token];
        map.x[q] = (real)(sum / heads);
    }
}

void map_back(Run *r, Sight *probs, int token, Tensor dmap)
{
    int heads = probs->val.s.d[0], Q = probs->val.s.d[1], K = probs->val.s.d[2];
    if (!probs->adj.x || tensor_count(dmap) != (size_t)Q) {
        run_fail(r, E_SHAPE, "%s: no gradient of token %d", probs->site, token);
        return;
    }
    for (int h = 0; h < heads; h++)
        for (int q = 0; q < Q; q++) probs->adj.x[((size_t)h * Q + q) * K + token] += dmap.x[q] / (real)heads;
}

typedef struct { size_t lo, hi; acc low, range; } Range;

static Range range_of(Tensor x)
{
    Range g = {0};
    for (size_t i = 1; i < tensor_count(x); i++) {
        if (x.x[i] < x.x[g.lo]) g.lo = i;
        if (x.x[i] > x.x[g.hi]) g.hi = i;
    }
    g.low = (acc)x.x[g.lo];
    g.range = (acc)x.x[g.hi] - g.low + MAP_EPS;
    return g;
}

static void normalise(Tensor y, Tensor x, Range g)
{
    for (size_t i = 0; i < tensor_count(x); i++) y.x[i] = (real)(((acc)x.x[i] - g.low) / g.range);
}

/* y = (x - lo)/R, R = hi - lo + e:   dx = dy/R,  d lo = -sum dy/R + sum dy y/R,  d hi = -sum dy y/R */
static void normalise_back(Tensor dx, Tensor dy, Tensor y, Range g)
{
    acc sum = 0, along = 0;
    for (size_t i = 0; i < tensor_count(y); i++) {
        sum += (acc)dy.x[i];
        along += (acc)dy.x[i] * (acc)y.x[i];
        dx.x[i] = (real)((acc)dy.x[i] / g.range);
    }
    dx.x[g.lo] += (real)((along - sum) / g.range);
    dx.x[g.hi] -= (real)(along / g.range);
}

static void squash(Tensor s, Tensor u, double sharp, double at)
{
    for (size_t i = 0; i < tensor_count(u); i++) s.x[i] = (real)(1 / (1 + exp(-sharp * ((acc)u.x[i] - at))));
}

void mask_soft(Run *r, Tensor m, Tensor map, double sharp, double at)
{
    if (!tensor_same(m, map)) {
        run_fail(r, E_SHAPE, "mask_soft: mask and map differ in shape");
        return;
    }
    normalise(m, map, range_of(map));
    squash(m, m, sharp, at);
    normalise(m, m, range_of(m));
}

void mask_soft_back(Run *r, Tensor dmap, Tensor dm, Tensor map, double sharp, double at)
{
    if (!tensor_same(dmap, map) || !tensor_same(dm, map)) {
        run_fail(r, E_SHAPE, "mask_soft_back: gradients and map differ in shape");
        return;
    }
    size_t mark = r->temp->used;
    Tensor u = temp(r, map.s), s = temp(r, map.s), m = temp(r, map.s), ds = temp(r, map.s);
    if (!ds.x) {
        arena_release(r->temp, mark);
        return;
    }
    Range first = range_of(map);
    normalise(u, map, first);
    squash(s, u, sharp, at);
    Range second = range_of(s);
    normalise(m, s, second);
    normalise_back(ds, dm, m, second);
    for (size_t i = 0; i < tensor_count(s); i++) ds.x[i] *= (real)sharp * s.x[i] * (1 - s.x[i]);
    normalise_back(dmap, ds, u, first);
    arena_release(r->temp, mark);
}

void mask_hard(Run *r, Tensor m, Tensor map, double at)
{
    if (!tensor_same(m, map)) {
        run_fail(r, E_SHAPE, "mask_hard: mask and map differ in shape");
        return;
    }
    Range g = range_of(map);
    for (size_t i = 0; i < tensor_count(map); i++) m.x[i] = ((acc)map.x[i] - g.low) / g.range > at;
}

static acc place(int i, int n) { return n > 1 ? (acc)i / (n - 1) : 0; }

Centroid centroid_of(Tensor map)
{
    int h = map.s.d[0], w = map.s.d[1];
    Centroid c = { 0, 0, MAP_EPS };
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            acc a = (acc)map.x[y * w + x];
            c.mass += a;
            c.x += a * place(x, w);
            c.y += a * place(y, h);
        }
    c.x /= c.mass;
    c.y /= c.mass;
    return c;
}

/* d c_x / d A(p) = (x_p - c_x) / (sum A + e) */
void centroid_back(Tensor dmap, Tensor map, Centroid c, acc dx, acc dy)
{
    int h = map.s.d[0], w = map.s.d[1];
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            dmap.x[y * w + x] = (real)((dx * (place(x, w) - c.x) + dy * (place(y, h) - c.y)) / c.mass);
}

static acc at_or_zero(Tensor m, int y, int x)
{
    int h = m.s.d[0], w = m.s.d[1];
    return y >= 0 && y < h && x >= 0 && x < w ? (acc)m.x[y * w + x] : 0;
}

void map_warp(Tensor out, Tensor m, Centroid centre, Warp warp)
{
    int h = m.s.d[0], w = m.s.d[1];
    acc cx = centre.x * (w - 1), cy = centre.y * (h - 1);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            acc u = cx + (x - cx - warp.dx * w) / warp.sx, v = cy + (y - cy - warp.dy * h) / warp.sy;
            int x0 = (int)floor(u), y0 = (int)floor(v);
            acc fx = u - x0, fy = v - y0;
            out.x[y * w + x] = (real)((1 - fy) * ((1 - fx) * at_or_zero(m, y0, x0) + fx * at_or_zero(m, y0, x0 + 1)) +
                                      fy * ((1 - fx) * at_or_zero(m, y0 + 1, x0) + fx * at_or_zero(m, y0 + 1, x0 + 1)));
        }
}

static acc mass_of(Tensor m)
{
    acc sum = MAP_EPS;
    for (size_t i = 0; i < tensor_count(m); i++) sum += (acc)m.x[i];
    return sum;
}

void appearance_of(Run *r, Tensor a, Tensor feature, Tensor m)
{
    size_t n = tensor_count(m);
    if (!a.x || !n || tensor_count(feature) != n * (size_t)a.s.d[0]) {
        run_fail(r, E_SHAPE, "appearance: feature and mask differ in size");
        return;
    }
    acc mass = mass_of(m);
    for (int c = 0; c < a.s.d[0]; c++) {
        const real *f = feature.x + (size_t)c * n;
        acc sum = 0;
        for (size_t i = 0; i < n; i++) sum += (acc)m.x[i] * (acc)f[i];
        a.x[c] = (real)(sum / mass);
    }
}

/* d a_c / d F_cp = m_p / M,   d a_c / d m_p = (F_cp - a_c) / M,   M = e + sum m */
void appearance_back(Run *r, Tensor dfeature, Tensor dm, Tensor da, Tensor a, Tensor feature, Tensor m)
{
    size_t n = tensor_count(m);
    if (!tensor_same(dfeature, feature) || !tensor_same(da, a) || (dm.x && !tensor_same(dm, m))) {
        run_fail(r, E_SHAPE, "appearance_back: gradients differ in shape");
        return;
    }
    acc mass = mass_of(m);
    for (int c = 0; c < a.s.d[0]; c++) {
        const real *f = feature.x + (size_t)c * n;
        acc g = (acc)da.x[c] / mass;
        for (size_t i = 0; i < n; i++) {
            dfeature.x[(size_t)c * n + i] += (real)(g * (acc)m.x[i]);
            if (dm.x) dm.x[i] += (real)(g * ((acc)f[i] - (acc)a.x[c]));
        }
    }
}

acc distance(const real *a, const real *b, size_t n, bool squared, acc weight, real *da)
{
    acc sum = 0;
    for (size_t i = 0; i < n; i++) {
        acc d = (acc)a[i] - (acc)b[i], slope = squared ? d : (d > 0) - (d < 0);
        sum += squared ? d * d / 2 : fabs(d);
        if (da) da[i] += (real)(weight * slope / (acc)n);
    }
    return weight * sum / (acc)n;
}
