#include <string.h>
#include "tensor/norm.h"

/* One image is cut into at most MOST_TASKS runs of pixels, each a multiple of RUN; borders depend on the size
 * of one image alone.  A task sums RUN pixels in real, then adds to its own double sums; they meet in order. */
enum { RUN = 64, MOST_TASKS = 32, SAMPLES = 16 };

typedef struct { int N, C, G, tasks; size_t P, each; } Map;          /* P pixels an image, `each` a task */
typedef struct { acc *s, *q; real *part; } Sums;                      /* [N,tasks,C] each; part [N,tasks,2,C] */
typedef struct { real *m, *a, *b, *e, *f; } Channels;                 /* [N,C] each */

static bool map_of(Run *r, const char *what, Map *map, Tensor x, Tensor same, Tensor mean, Tensor rstd, Affine a)
{
    int rank = shape_rank(x.s), N = x.s.d[0], C = rank > 1 ? x.s.d[rank - 1] : 0, G = mean.s.d[1];
    bool good = tensor_same(x, same) && C && G > 0 && C % G == 0 && tensor_same(mean, rstd) && shape_same(mean.s, SHAPE(N, G)) &&
                tensor_count(a.gamma) == (size_t)C && tensor_count(a.beta) == (size_t)C && !a.scale.x == !a.shift.x &&
                (!a.scale.x || (shape_same(a.scale.s, SHAPE(N, C)) && shape_same(a.shift.s, SHAPE(N, C))));
    if (!good) {
        run_fail(r, E_SHAPE, "%s: [%d,...,%d] and [%d,...,%d] in %d groups, gamma %zu, beta %zu, scale %zu, shift %zu", what, N, C,
                 same.s.d[0], rank ? same.s.d[rank - 1] : 0, G, tensor_count(a.gamma), tensor_count(a.beta),
                 tensor_count(a.scale), tensor_count(a.shift));
        return false;
    }
    size_t P = tensor_count(x) / ((size_t)N * (size_t)C), runs = (P + RUN - 1) / RUN;
    size_t each = (runs + MOST_TASKS - 1) / MOST_TASKS * RUN;
    *map = (Map){ N, C, G, (int)((P + each - 1) / each), P, each };
    return true;
}

static bool room(Run *r, const Map *map, Sums *sums, Channels *c)
{
    size_t columns = (size_t)map->N * (size_t)map->C, n = columns * (size_t)map->tasks;
    sums->s = arena_take(r->temp, 2 * n * sizeof *sums->s);
    sums->part = arena_take(r->temp, 2 * n * sizeof *sums->part);
    c->m = arena_take(r->temp, 5 * columns * sizeof *c->m);
    if (!sums->s || !sums->part || !c->m) {
        run_fail(r, E_MEMORY, "normalisation: no memory for %zu sums and %zu coefficients", 4 * n, 5 * columns);
        return false;
    }
    sums->q = sums->s + n;
    c->a = c->m + columns;
    c->b = c->a + columns;
    c->e = c->b + columns;
    c->f = c->e + columns;
    return true;
}

/* What task t works on: how many pixels, its image n, and where its numbers begin. */
static size_t task_pixels(const Map *map, int t, size_t *n, size_t *at)
{
    size_t from = (size_t)(t % map->tasks) * map->each;
    *n = (size_t)(t / map->tasks);
    *at = (*n * map->P + from) * (size_t)map->C;
    return map->P - from < map->each ? map->P - from : map->each;
}

static bool is_small(const Map *map) { return (size_t)map->N * map->P * (size_t)map->C <= 1 << 14; }

static int run_length(size_t count, size_t p) { return (int)(count - p < RUN ? count - p : RUN); }

static void collect(const Sums *sums, int t, size_t C)
{
    acc *s = sums->s + (size_t)t * C, *q = sums->q + (size_t)t * C;
    const real *part = sums->part + (size_t)t * 2 * C;
    for (size_t c = 0; c < C; c++) s[c] += (acc)part[c];
    for (size_t c = 0; c < C; c++) q[c] += (acc)part[C + c];
}

/* The sums of every image's tasks, in their order, into those of its first. */
static void meet(const Map *map, const Sums *sums)
{
    size_t C = (size_t)map->C, tasks = (size_t)map->tasks;
    for (size_t t = 0; t < (size_t)map->N * tasks; t++)
        for (size_t c = 0; c < C && t % tasks; c++) {
            sums->s[t / tasks * tasks * C + c] += sums->s[t * C + c];
            sums->q[t / tasks * tasks * C + c] += sums->q[t * C + c];
        }
}

/* A cheap estimate of each channel's mean: variance is summed about it, so that a mean far from zero costs no digits. */
static void sample_means(const Map *map, real *K, const real *x)
{
    size_t C = (size_t)map->C, count = map->P < SAMPLES ? map->P : SAMPLES;
    for (size_t n = 0; n < (size_t)map->N; n++)
        for (size_t c = 0; c < C; c++) {
            acc sum = 0;
            for (size_t i = 0; i < count; i++) sum += (acc)x[(n * map->P + i * map->P / count) * C + c];
            K[n * C + c] = (real)(sum / (acc)count);
        }
}

static void image_sums(Run *r, const Map *map, const Sums *sums, const real *K, const real *x)
{
    size_t C = (size_t)map->C;
    #pragma omp parallel for num_threads(r->threads) if (!is_small(map))
    for (int t = 0; t < map->N * map->tasks; t++) {
        size_t n, at, count = task_pixels(map, t, &n, &at);
        real *part = sums->part + (size_t)t * 2 * C;
        memset(sums->s + (size_t)t * C, 0, C * sizeof(acc));
        memset(sums->q + (size_t)t * C, 0, C * sizeof(acc));
        for (size_t p = 0; p < count; p += RUN) {
            r->k->channel_sums(run_length(count, p), map->C, x + at + p * C, K + n * C, part, part + C);
            collect(sums, t, C);
        }
    }
    meet(map, sums);
}

/* With d = mu - K:  sum (x - mu)^2  =  sum (x - K)^2 - 2 d sum (x - K) + P d^2 */
static void group_moments(const Map *map, Tensor mean, Tensor rstd, const Sums *sums, const real *K, real eps)
{
    size_t C = (size_t)map->C, G = (size_t)map->G, width = C / G;
    acc P = (acc)map->P;
    for (size_t n = 0; n < (size_t)map->N; n++)
        for (size_t g = 0; g < G; g++) {
            const acc *s = sums->s + n * (size_t)map->tasks * C, *q = sums->q + n * (size_t)map->tasks * C;
            acc sum = 0, square = 0;
            for (size_t c = g * width; c < (g + 1) * width; c++)
                sum += s[c] + P * (acc)K[n * C + c];
            acc mu = sum / (P * (acc)width);
            for (size_t c = g * width; c < (g + 1) * width; c++) {
                acc d = mu - (acc)K[n * C + c];
                square += q[c] - 2 * d * s[c] + P * d * d;
            }
            mean.x[n * G + g] = (real)mu;
            rstd.x[n * G + g] = (real)(1 / sqrt(square / (P * (acc)width) + (acc)eps));
        }
}

static acc gain_of(Affine a, size_t n, size_t C, size_t c) { return a.scale.x ? 1 + (acc)a.scale.x[n * C + c] : 1; }

/* v = a (x - m) + b */
static void coefficients(const Map *map, const Channels *k, Tensor mean, Tensor rstd, Affine a)
{
    size_t C = (size_t)map->C, G = (size_t)map->G;
    for (size_t n = 0; n < (size_t)map->N; n++)
        for (size_t c = 0; c < C; c++) {
            size_t i = n * C + c, g = n * G + c / (C / G);
            acc gain = gain_of(a, n, C, c);
            k->m[i] = mean.x[g];
            k->a[i] = (real)((acc)rstd.x[g] * (acc)a.gamma.x[c] * gain);
            k->b[i] = (real)((acc)a.beta.x[c] * gain + (a.shift.x ? (acc)a.shift.x[i] : 0));
        }
}

void groupnorm(Run *r, Tensor y, Tensor mean, Tensor rstd, Tensor x, Affine a, real eps, NormAct act)
{
    size_t mark = r->temp->used;
    Map map;
    Sums sums;
    Channels k;
    if (!map_of(r, "groupnorm", &map, x, y, mean, rstd, a)) return;
    if (room(r, &map, &sums, &k)) {
        sample_means(&map, k.e, x.x);
        image_sums(r, &map, &sums, k.e, x.x);
        group_moments(&map, mean, rstd, &sums, k.e, eps);
        coefficients(&map, &k, mean, rstd, a);
        #pragma omp parallel for num_threads(r->threads) if (!is_small(&map))
        for (int t = 0; t < map.N * map.tasks; t++) {
            size_t n, at, count = task_pixels(&map, t, &n, &at), i = n * (size_t)map.C;
            r->k->channel_norm[act]((int)count, map.C, y.x + at, x.x + at, k.m + i, k.a + i, k.b + i);
        }
    }
    arena_release(r->temp, mark);
}

static void image_back_sums(Run *r, const Map *map, const Sums *sums, const Channels *k, const real *dy, const real *x, NormAct act)
{
    size_t C = (size_t)map->C;
    #pragma omp parallel for num_threads(r->threads) if (!is_small(map))
    for (int t = 0; t < map->N * map->tasks; t++) {
        size_t n, at, count = task_pixels(map, t, &n, &at), i = n * C;
        real *part = sums->part + (size_t)t * 2 * C;
        memset(sums->s + (size_t)t * C, 0, C * sizeof(acc));
        memset(sums->q + (size_t)t * C, 0, C * sizeof(acc));
        for (size_t p = 0; p < count; p += RUN) {
            r->k->channel_back_sums[act](run_length(count, p), map->C, dy + at + p * C, x + at + p * C,
                                         k->m + i, k->a + i, k->b + i, part, part + C);
            collect(sums, t, C);
        }
    }
    meet(map, sums);
}

/* With S = sum dv and U = sum dv u over the pixels of one channel of one image:
 *     dgamma += (1 + scale) U      dbeta += (1 + scale) S      dscale += gamma U + beta S      dshift += S */
static void parameter_gradients(Affine da, Affine a, size_t n, size_t C, size_t c, acc S, acc U)
{
    acc gain = gain_of(a, n, C, c);
    if (da.gamma.x) da.gamma.x[c] += (real)(gain * U);
    if (da.beta.x)  da.beta.x[c]  += (real)(gain * S);
    if (da.scale.x) da.scale.x[n * C + c] += (real)((acc)a.gamma.x[c] * U + (acc)a.beta.x[c] * S);
    if (da.shift.x) da.shift.x[n * C + c] += (real)S;
}

/* With w = gamma (1 + scale) and M[.] the mean over a group:
 *     dx = s (w dv - M[w dv] - u M[w dv u])  =  a dv + e (x - m) + f,    e = -s^2 M[w dv u],  f = -s M[w dv] */
static void back_coefficients(const Map *map, const Channels *k, const Sums *sums, Affine da, Tensor rstd, Affine a)
{
    size_t C = (size_t)map->C, G = (size_t)map->G, width = C / G;
    for (size_t n = 0; n < (size_t)map->N; n++)
        for (size_t g = 0; g < G; g++) {
            const acc *sum = sums->s + n * (size_t)map->tasks * C, *first_moment = sums->q + n * (size_t)map->tasks * C;
            acc s = (acc)rstd.x[n * G + g], mean = 0, moment = 0, count = (acc)map->P * (acc)width;
            for (size_t c = g * width; c < (g + 1) * width; c++) {
                acc S = sum[c], U = s * first_moment[c];
                acc w = (acc)a.gamma.x[c] * gain_of(a, n, C, c);
                parameter_gradients(da, a, n, C, c, S, U);
                mean += w * S / count;
                moment += w * U / count;
            }
            for (size_t c = g * width; c < (g + 1) * width; c++) {
                k->e[n * C + c] = (real)(-s * s * moment);
                k->f[n * C + c] = (real)(-s * mean);
            }
        }
}

static bool gradients_fit(Run *r, const char *what, Affine da, Affine a)
{
    bool good = (!da.gamma.x || tensor_same(da.gamma, a.gamma)) && (!da.beta.x || tensor_same(da.beta, a.beta)) &&
                (!da.scale.x || tensor_same(da.scale, a.scale)) && (!da.shift.x || tensor_same(da.shift, a.shift));
    if (!good) run_fail(r, E_SHAPE, "%s: a parameter's gradient has not the parameter's shape", what);
    return good;
}

void groupnorm_back(Run *r, Tensor dx, Affine da, Tensor dy, Tensor x, Tensor mean, Tensor rstd, Affine a, NormAct act)
{
    size_t mark = r->temp->used;
    Map map;
    Sums sums;
    Channels k;
    if (!map_of(r, "groupnorm_back", &map, x, dy, mean, rstd, a) || !gradients_fit(r, "groupnorm_back", da, a)) return;
    if (dx.x && !tensor_same(dx, x)) {
        run_fail(r, E_SHAPE, "groupnorm_back: gradient and input differ in shape");
        return;
    }
    if (room(r, &map, &sums, &k)) {
        coefficients(&map, &k, mean, rstd, a);
        image_back_sums(r, &map, &sums, &k, dy.x, x.x, act);
        back_coefficients(&map, &k, &sums, da, rstd, a);
        #pragma omp parallel for num_threads(r->threads) if (!is_small(&map))
        for (int t = 0; t < (dx.x ? map.N * map.tasks : 0); t++) {
            size_t n, at, count = task_pixels(&map, t, &n, &at), i = n * (size_t)map.C;
            r->k->channel_norm_back[act]((int)count, map.C, dx.x + at, dy.x + at, x.x + at,
                                         k.m + i, k.a + i, k.b + i, k.e + i, k.f + i);
        }
    }
    arena_release(r->temp, mark);
}

/* x [N,T,C] or [T,C]: the number of rows, or 0 when something does not fit */
static size_t rows_of(Run *r, const char *what, Tensor x, Tensor same, Tensor mean, Tensor rstd, Tensor gamma)
{
    int rank = shape_rank(x.s), C = rank > 1 ? x.s.d[rank - 1] : 0;
    size_t rows = C ? tensor_count(x) / (size_t)C : 0;
    if (rows && tensor_same(x, same) && tensor_count(mean) == rows && tensor_count(rstd) == rows &&
        tensor_count(gamma) == (size_t)C) return rows;
    run_fail(r, E_SHAPE, "%s: %zu rows of %d, %zu means, %zu deviations, gamma %zu", what, rows, C, tensor_count(mean),
             tensor_count(rstd), tensor_count(gamma));
    return 0;
}

void layernorm(Run *r, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor gamma, Tensor beta, real eps)
{
    size_t rows = rows_of(r, "layernorm", x, y, mean, rstd, gamma), C = tensor_count(gamma);
    if (!rows) return;
    if (tensor_count(beta) != C) {
        run_fail(r, E_SHAPE, "layernorm: gamma %zu, beta %zu", C, tensor_count(beta));
        return;
    }
    #pragma omp parallel for num_threads(r->threads) if (rows * C > 1 << 14)
    for (size_t t = 0; t < rows; t++)
        r->k->layernorm((int)C, y.x + t * C, x.x + t * C, gamma.x, beta.x, eps, mean.x + t, rstd.x + t);
}

/* dgamma += sum dy u, dbeta += sum dy: RUN rows of one image in real, then all in double, in order. */
static void layernorm_parameters(Run *r, Tensor dgamma, Tensor dbeta, Tensor dy, Tensor x, Tensor mean, Tensor rstd, size_t C)
{
    size_t mark = r->temp->used, rows = tensor_count(mean), images = shape_rank(x.s) > 2 ? (size_t)x.s.d[0] : 1;
    size_t T = rows / images, runs = (T + RUN - 1) / RUN;
    real *part = arena_take(r->temp, images * runs * 2 * C * sizeof *part);
    if (!part) {
        run_fail(r, E_MEMORY, "layernorm_back: no memory for %zu sums", images * runs * 2 * C);
        return;
    }
    #pragma omp parallel for num_threads(r->threads) if (rows * C > 1 << 14)
    for (size_t t = 0; t < images * runs; t++) {
        size_t first = t / runs * T + t % runs * RUN, last = t / runs * T + (t % runs + 1 < runs ? (t % runs + 1) * RUN : T);
        real *sum = part + t * 2 * C;
        memset(sum, 0, 2 * C * sizeof *sum);
        for (size_t i = first; i < last; i++)
            r->k->layernorm_sums((int)C, sum, sum + C, dy.x + i * C, x.x + i * C, mean.x[i], rstd.x[i]);
    }
    #pragma omp parallel for num_threads(r->threads) if (images * runs * C > 1 << 14)
    for (size_t c = 0; c < C; c++) {
        acc to_gamma = 0, to_beta = 0;
        for (size_t t = 0; t < images * runs; t++) {
            to_gamma += (acc)part[t * 2 * C + c];
            to_beta += (acc)part[t * 2 * C + C + c];
        }
        if (dgamma.x) dgamma.x[c] += (real)to_gamma;
        if (dbeta.x) dbeta.x[c] += (real)to_beta;
    }
    arena_release(r->temp, mark);
}

void layernorm_back(Run *r, Tensor dx, Tensor dgamma, Tensor dbeta, Tensor dy, Tensor x, Tensor mean, Tensor rstd, Tensor gamma)
{
    size_t rows = rows_of(r, "layernorm_back", x, dy, mean, rstd, gamma), C = tensor_count(gamma);
    if (!rows) return;
    if ((dx.x && !tensor_same(dx, x)) || (dgamma.x && tensor_count(dgamma) != C) || (dbeta.x && tensor_count(dbeta) != C)) {
        run_fail(r, E_SHAPE, "layernorm_back: a gradient has not the shape of what it belongs to");
        return;
    }
    if (dgamma.x || dbeta.x) layernorm_parameters(r, dgamma, dbeta, dy, x, mean, rstd, C);
    if (!dx.x) return;
    #pragma omp parallel for num_threads(r->threads) if (rows * C > 1 << 14)
    for (size_t t = 0; t < rows; t++)
        r->k->layernorm_back((int)C, dx.x + t * C, dy.x + t * C, x.x + t * C, mean.x[t], rstd.x[t], gamma.x);
}
