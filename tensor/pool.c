#include "tensor/pool.h"

static bool pools(Run *r, const char *who, Tensor y, Tensor x, int size, int stride)
{
    const int *a = x.s.d, *b = y.s.d;
    bool fit = y.x && x.x && size > 0 && stride > 0 && a[0] == b[0] && a[3] == b[3] && a[1] >= size && a[2] >= size
            && b[1] == (a[1] - size) / stride + 1 && b[2] == (a[2] - size) / stride + 1;
    if (!fit) run_fail(r, E_SHAPE, "%s: windows of %d at every %d: [%d,%d,%d,%d] of [%d,%d,%d,%d]", who, size, stride, b[0], b[1], b[2], b[3], a[0], a[1], a[2], a[3]);
    return fit;
}

static real *place(Tensor t, int n, int i, int j)
{
    const int *d = t.s.d;
    return t.x + (((size_t)n * (size_t)d[1] + (size_t)i) * (size_t)d[2] + (size_t)j) * (size_t)d[3];
}

void mean_pool(Run *r, Tensor y, Tensor x, int s)
{
    if (!pools(r, "mean_pool", y, x, s, s)) return;
    int H = y.s.d[1], W = y.s.d[2], C = y.s.d[3], rows = y.s.d[0] * H;
    #pragma omp parallel for num_threads(r->threads)
    for (int k = 0; k < rows; k++)
        for (int j = 0; j < W; j++) {
            real *to = place(y, k / H, k % H, j);
            for (int c = 0; c < C; c++) {
                acc sum = 0;
                for (int w = 0; w < s * s; w++) sum += (acc)place(x, k / H, k % H * s + w / s, j * s + w % s)[c];
                to[c] = (real)(sum / (s * s));
            }
        }
}

void mean_pool_back(Run *r, Tensor dx, Tensor dy, int s)
{
    if (!pools(r, "mean_pool_back", dy, dx, s, s)) return;
    int H = dx.s.d[1], W = dx.s.d[2], C = dx.s.d[3], rows = dx.s.d[0] * H;
    real share = (real)(1.0 / (s * s));
    #pragma omp parallel for num_threads(r->threads)
    for (int k = 0; k < rows; k++)
        for (int j = 0; j < W; j++) {
            int i = k % H;
            bool read = i / s < dy.s.d[1] && j / s < dy.s.d[2];
            real *to = place(dx, k / H, i, j), *from = read ? place(dy, k / H, i / s, j / s) : NULL;
            for (int c = 0; c < C; c++) to[c] = from ? share * from[c] : 0;
        }
}

/* The first largest of a window. */
static real *largest(Tensor x, Tensor at, int n, int i, int j, int c, int size)
{
    real *best = place(at, n, i, j) + c, *most = place(x, n, i, j) + c;
    for (int w = 1; w < size * size; w++) {
        real *v = place(x, n, i + w / size, j + w % size) + c;
        if (*v > *most || *v != *v) {                     /* NaN is kept, as a maximum that anyone can see */
            most = v;
            best = place(at, n, i + w / size, j + w % size) + c;
        }
    }
    return best;
}

void max_pool(Run *r, Tensor y, Tensor x, int size, int stride)
{
    if (!pools(r, "max_pool", y, x, size, stride)) return;
    int H = y.s.d[1], W = y.s.d[2], C = y.s.d[3], rows = y.s.d[0] * H;
    #pragma omp parallel for num_threads(r->threads)
    for (int k = 0; k < rows; k++)
        for (int j = 0; j < W; j++)
            for (int c = 0; c < C; c++) place(y, k / H, k % H, j)[c] = *largest(x, x, k / H, k % H * stride, j * stride, c, size);
}

/* Windows may overlap: an image's channel has one owner. */
void max_pool_back(Run *r, Tensor dx, Tensor dy, Tensor x, int size, int stride)
{
    if (!pools(r, "max_pool_back", dy, dx, size, stride) || !tensor_same(dx, x)) {
        run_fail(r, E_SHAPE, "max_pool_back: gradient and input differ in shape");
        return;
    }
    int H = dy.s.d[1], W = dy.s.d[2], C = dy.s.d[3], owners = dy.s.d[0] * C;
    tensor_zero(dx);
    #pragma omp parallel for num_threads(r->threads)
    for (int k = 0; k < owners; k++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++) *largest(x, dx, k / C, i * stride, j * stride, k % C, size) += place(dy, k / C, i, j)[k % C];
}

void relu(Run *r, Tensor y, Tensor x)
{
    if (!tensor_same(y, x)) {
        run_fail(r, E_SHAPE, "relu: input and result differ in shape");
        return;
    }
    size_t n = tensor_count(x);
    #pragma omp parallel for num_threads(r->threads)
    for (size_t i = 0; i < n; i++) y.x[i] = x.x[i] < 0 ? 0 : x.x[i];
}

void relu_back(Run *r, Tensor dx, Tensor dy, Tensor y)
{
    if (!tensor_same(dx, dy) || !tensor_same(dy, y)) {
        run_fail(r, E_SHAPE, "relu_back: gradients and result differ in shape");
        return;
    }
    size_t n = tensor_count(y);
    #pragma omp parallel for num_threads(r->threads)
    for (size_t i = 0; i < n; i++) dx.x[i] = y.x[i] > 0 ? dy.x[i] : 0;
}

/* ---- batch normalisation ---- */

static bool norm_fits(Run *r, const char *who, Tensor y, Tensor x, BatchNorm n, Tensor base)
{
    size_t C = (size_t)x.s.d[3];
    bool fit = tensor_same(y, x) && shape_rank(x.s) == 4 && tensor_count(n.gamma) == C && tensor_count(n.beta) == C
            && tensor_count(n.mean) == C && tensor_count(n.var) == C && (!base.x || tensor_same(base, x));
    if (!fit) run_fail(r, E_SHAPE, "%s: [%d,%d,%d,%d] with %zu channels", who, x.s.d[0], x.s.d[1], x.s.d[2], x.s.d[3], tensor_count(n.gamma));
    return fit;
}

/* a = gamma / sqrt(var + eps), b = beta - a mean */
static bool folded(Run *r, real **a, real **b, BatchNorm n, real eps)
{
    size_t C = tensor_count(n.gamma);
    *a = arena_take(r->temp, C * sizeof **a);
    *b = arena_take(r->temp, C * sizeof **b);
    if (!*a || !*b) {
        run_fail(r, E_MEMORY, "out of memory: batchnorm");
        return false;
    }
    for (size_t c = 0; c < C; c++) {
        acc k = (acc)n.gamma.x[c] / sqrt((acc)n.var.x[c] + (acc)eps);
        (*a)[c] = (real)k;
        (*b)[c] = (real)((acc)n.beta.x[c] - k * (acc)n.mean.x[c]);
    }
    return true;
}

void batchnorm(Run *r, Tensor y, Tensor x, BatchNorm n, real eps, Tensor base, bool rectify)
{
    size_t mark = r->temp->used;
    real *a, *b;
    if (!norm_fits(r, "batchnorm", y, x, n, base) || !folded(r, &a, &b, n, eps)) return;
    size_t C = (size_t)x.s.d[3], places = tensor_count(x) / C;
    #pragma omp parallel for num_threads(r->threads)
    for (size_t p = 0; p < places; p++) {
        const real *from = x.x + p * C, *onto = base.x ? base.x + p * C : NULL;
        real *to = y.x + p * C;
        for (size_t c = 0; c < C; c++) {
            real v = a[c] * from[c] + b[c] + (onto ? onto[c] : 0);
            to[c] = rectify && v < 0 ? 0 : v;
        }
    }
    arena_release(r->temp, mark);
}

/* With z the sum before f and u = (x - mean) / sqrt(var + eps):   dbeta_c += sum dz,   dgamma_c += sum dz u */
static void parameters_back(Run *r, Tensor dgamma, Tensor dbeta, Tensor dy, Tensor x, Tensor y, BatchNorm n, real eps)
{
    int C = dy.s.d[3];
    size_t places = tensor_count(dy) / (size_t)C;
    #pragma omp parallel for num_threads(r->threads)
    for (int c = 0; c < C; c++) {
        acc sum = 0, sum_u = 0, s = 1 / sqrt((acc)n.var.x[c] + (acc)eps), mu = (acc)n.mean.x[c];
        for (size_t i = (size_t)c; i < places * (size_t)C; i += (size_t)C) {
            acc dz = !y.x || y.x[i] > 0 ? (acc)dy.x[i] : 0;
            sum += dz;
            if (dgamma.x) sum_u += dz * ((acc)x.x[i] - mu) * s;
        }
        if (dbeta.x) dbeta.x[c] += (real)sum;
        if (dgamma.x) dgamma.x[c] += (real)sum_u;
    }
}

void batchnorm_back(Run *r, Tensor dx, Tensor dgamma, Tensor dbeta, Tensor dbase, Tensor dy, Tensor x, Tensor y, BatchNorm n, real eps)
{
    size_t mark = r->temp->used;
    real *a, *b;
    if (!norm_fits(r, "batchnorm_back", dy, dy, n, dbase) || !folded(r, &a, &b, n, eps)) return;
    if ((dx.x && !tensor_same(dx, dy)) || (y.x && !tensor_same(y, dy)) || (dgamma.x && !tensor_same(x, dy))) {
        run_fail(r, E_SHAPE, "batchnorm_back: gradients and values differ in shape");
        return;
    }
    if (dgamma.x || dbeta.x) parameters_back(r, dgamma, dbeta, dy, x, y, n, eps);
    size_t C = (size_t)dy.s.d[3], places = tensor_count(dy) / C;
    #pragma omp parallel for num_threads(r->threads)
    for (size_t p = 0; p < places; p++)
        for (size_t c = 0; c < C; c++) {
            size_t i = p * C + c;
            real dz = !y.x || y.x[i] > 0 ? dy.x[i] : 0;
            if (dbase.x) dbase.x[i] = dz;
            if (dx.x) dx.x[i] = a[c] * dz;
        }
    arena_release(r->temp, mark);
}
