#include "tensor/point.h"

/* Tasks are CHUNK elements (or about as many, in whole rows), whatever the number of threads. */
enum { CHUNK = 1 << 14, RUN = 64 };

static bool fits(Run *r, const char *what, Tensor y, Tensor x)
{
    if (y.x && x.x && tensor_count(y) == tensor_count(x)) return true;
    run_fail(r, E_SHAPE, "%s: %zu numbers and %zu numbers", what, tensor_count(y), tensor_count(x));
    return false;
}

static size_t tasks(size_t n) { return (n + CHUNK - 1) / CHUNK; }

static int length(size_t n, size_t at) { return (int)(n - at < CHUNK ? n - at : CHUNK); }

void act(Run *r, PointAct f, Tensor y, Tensor x)
{
    if (!fits(r, "act", y, x)) return;
    size_t n = tensor_count(y);
    #pragma omp parallel for num_threads(r->threads) if (tasks(n) > 1)
    for (size_t at = 0; at < n; at += CHUNK) r->k->act[f](length(n, at), y.x + at, x.x + at);
}

void act_back(Run *r, PointAct f, Tensor dx, Tensor dy, Tensor x)
{
    if (!fits(r, "act_back", dx, x) || !fits(r, "act_back", dy, x)) return;
    size_t n = tensor_count(x);
    #pragma omp parallel for num_threads(r->threads) if (tasks(n) > 1)
    for (size_t at = 0; at < n; at += CHUNK) r->k->act_back[f](length(n, at), dx.x + at, dy.x + at, x.x + at);
}

/* x has rows twice as long as y's: the length of y's, or 0 when they do not fit */
static int half_row(Run *r, const char *what, Tensor y, Tensor x)
{
    int rank = shape_rank(x.s), D = rank ? x.s.d[rank - 1] / 2 : 0;
    if (y.x && x.x && D && tensor_count(x) == 2 * tensor_count(y) && y.s.d[rank - 1] == D) return D;
    run_fail(r, E_SHAPE, "%s: [..., 2 D] with %zu numbers and [..., D] with %zu", what, tensor_count(x), tensor_count(y));
    return 0;
}

void geglu(Run *r, Tensor y, Tensor x)
{
    int D = half_row(r, "geglu", y, x);
    size_t rows = D ? tensor_count(y) / (size_t)D : 0;
    #pragma omp parallel for num_threads(r->threads) if (rows * (size_t)D > CHUNK)
    for (size_t t = 0; t < rows; t++)
        r->k->geglu(D, y.x + t * (size_t)D, x.x + 2 * t * (size_t)D, x.x + (2 * t + 1) * (size_t)D);
}

void geglu_back(Run *r, Tensor dx, Tensor dy, Tensor x)
{
    int D = fits(r, "geglu_back", dx, x) ? half_row(r, "geglu_back", dy, x) : 0;
    size_t rows = D ? tensor_count(dy) / (size_t)D : 0;
    #pragma omp parallel for num_threads(r->threads) if (rows * (size_t)D > CHUNK)
    for (size_t t = 0; t < rows; t++) {
        real *value = dx.x + 2 * t * (size_t)D;
        const real *from = x.x + 2 * t * (size_t)D;
        r->k->geglu_back(D, value, value + D, dy.x + t * (size_t)D, from, from + D);
    }
}

void add(Run *r, Tensor y, Tensor x)
{
    if (!fits(r, "add", y, x)) return;
    size_t n = tensor_count(y);
    #pragma omp parallel for num_threads(r->threads) if (tasks(n) > 1)
    for (size_t at = 0; at < n; at += CHUNK) r->k->add(length(n, at), y.x + at, x.x + at);
}

void axpy(Run *r, Tensor y, real a, Tensor x)
{
    if (!fits(r, "axpy", y, x)) return;
    size_t n = tensor_count(y);
    #pragma omp parallel for num_threads(r->threads) if (tasks(n) > 1)
    for (size_t at = 0; at < n; at += CHUNK) r->k->axpy(length(n, at), y.x + at, a, x.x + at);
}

void blend(Run *r, Tensor y, real a, Tensor x, real b, Tensor z)
{
    if (!fits(r, "blend", y, x) || !fits(r, "blend", y, z)) return;
    size_t n = tensor_count(y);
    #pragma omp parallel for num_threads(r->threads) if (tasks(n) > 1)
    for (size_t at = 0; at < n; at += CHUNK) r->k->blend(length(n, at), y.x + at, a, x.x + at, b, z.x + at);
}

void scale(Run *r, Tensor y, real a, Tensor x, real c)
{
    if (!fits(r, "scale", y, x)) return;
    size_t n = tensor_count(y);
    #pragma omp parallel for num_threads(r->threads) if (tasks(n) > 1)
    for (size_t at = 0; at < n; at += CHUNK) r->k->affine(length(n, at), y.x + at, a, x.x + at, c);
}

void multiply(Run *r, Tensor y, Tensor x, Tensor z)
{
    if (!fits(r, "multiply", y, x) || !fits(r, "multiply", y, z)) return;
    size_t n = tensor_count(y);
    #pragma omp parallel for num_threads(r->threads) if (tasks(n) > 1)
    for (size_t at = 0; at < n; at += CHUNK) r->k->multiply(length(n, at), y.x + at, x.x + at, z.x + at);
}

/* y [N,...,C] and bias [N,C]: the number of places in one image, or 0 when they do not fit */
static size_t places(Run *r, const char *what, Tensor y, Tensor bias)
{
    int rank = shape_rank(y.s), N = y.s.d[0], C = rank > 1 ? y.s.d[rank - 1] : 0;
    if (y.x && bias.x && C && shape_same(bias.s, SHAPE(N, C))) return tensor_count(y) / ((size_t)N * (size_t)C);
    run_fail(r, E_SHAPE, "%s: [%d,...,%d] and [%d,%d]", what, N, C, bias.s.d[0], bias.s.d[1]);
    return 0;
}

void add_channels(Run *r, Tensor y, Tensor bias)
{
    size_t P = places(r, "add_channels", y, bias), rows = P * (size_t)y.s.d[0];
    if (!P) return;
    int C = bias.s.d[1];
    #pragma omp parallel for num_threads(r->threads) if (rows * (size_t)C > CHUNK)
    for (size_t t = 0; t < rows; t++) r->k->add(C, y.x + t * (size_t)C, bias.x + t / P * (size_t)C);
}

/* Threads share out the images and blocks of channels; sums are taken in real over RUN places, then in double. */
void add_channels_back(Run *r, Tensor dbias, Tensor dy)
{
    size_t P = places(r, "add_channels_back", dy, dbias);
    if (!P) return;
    int N = dy.s.d[0], C = dbias.s.d[1], blocks = (C + RUN - 1) / RUN;
    #pragma omp parallel for num_threads(r->threads) if (P * (size_t)C * (size_t)N > CHUNK)
    for (int task = 0; task < N * blocks; task++) {
        int n = task / blocks, c = task % blocks * RUN, width = C - c < RUN ? C - c : RUN;
        acc sum[RUN] = {0};
        for (size_t p = 0; p < P; p += RUN) {
            real part[RUN] = {0};
            for (size_t i = p; i < P && i < p + RUN; i++)
                r->k->add(width, part, dy.x + ((size_t)n * P + i) * (size_t)C + c);
            for (int j = 0; j < width; j++) sum[j] += (acc)part[j];
        }
        for (int j = 0; j < width; j++) dbias.x[(size_t)n * (size_t)C + (size_t)(c + j)] += (real)sum[j];
    }
}

void adam(Run *r, Tensor d, Tensor m, Tensor v, Tensor g, double rate, int k)
{
    if (!fits(r, "adam", d, g) || !fits(r, "adam", m, g) || !fits(r, "adam", v, g) || !run_ok(r)) return;
    const acc b1 = 0.9, b2 = 0.999, eps = 1e-8;
    acc size = rate / (1 - pow(b1, (acc)k)), root = sqrt(1 - pow(b2, (acc)k));
    size_t n = tensor_count(g);
    #pragma omp parallel for num_threads(r->threads) if (tasks(n) > 1)
    for (size_t i = 0; i < n; i++) {
        acc x = (acc)g.x[i];
        m.x[i] = (real)((acc)m.x[i] + (1 - b1) * (x - (acc)m.x[i]));
        v.x[i] = (real)(b2 * (acc)v.x[i] + (1 - b2) * x * x);
        d.x[i] = (real)(size * (acc)m.x[i] / (sqrt((acc)v.x[i]) / root + eps));
    }
}

acc dot(Run *r, Tensor x, Tensor y)
{
    if (!fits(r, "dot", x, y)) return 0;
    size_t n = tensor_count(x), mark = r->temp->used;
    acc *part = arena_take(r->temp, tasks(n) * sizeof *part), sum = 0;
    if (!part) {
        run_fail(r, E_MEMORY, "dot: out of memory");
        return 0;
    }
    #pragma omp parallel for num_threads(r->threads) if (tasks(n) > 1)
    for (size_t at = 0; at < n; at += CHUNK) part[at / CHUNK] = r->k->dot(length(n, at), x.x + at, y.x + at);
    for (size_t t = 0; t < tasks(n); t++) sum += part[t];
    arena_release(r->temp, mark);
    return sum;
}

size_t count_nonfinite(Tensor x)
{
    size_t bad = 0, n = tensor_count(x);
    for (size_t i = 0; i < n; i++) bad += !isfinite(x.x[i]);
    return bad;
}
