#include <string.h>
#include "tensor/gemm.h"

#ifdef TILLER_BLAS
#include <cblas.h>
#pragma weak openblas_set_num_threads
#pragma weak openblas_get_config
extern void openblas_set_num_threads(int threads);
extern char *openblas_get_config(void);

static bool blas(bool ta, bool tb, int M, int N, int K, real alpha, const real *A, int lda,
                 const real *B, int ldb, real beta, real *C, int ldc)
{
#ifdef TILLER_F64
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
#else
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
#endif
    return true;
}

void gemm_begin(const Run *r)
{
    if (r->blas && openblas_set_num_threads) openblas_set_num_threads(1);
}

const char *gemm_name(void) { return openblas_get_config ? openblas_get_config() : "cblas"; }
#else
static bool blas(bool ta, bool tb, int M, int N, int K, real alpha, const real *A, int lda,
                 const real *B, int ldb, real beta, real *C, int ldc)
{
    (void)ta, (void)tb, (void)M, (void)N, (void)K, (void)alpha, (void)A, (void)lda;
    (void)B, (void)ldb, (void)beta, (void)C, (void)ldc;
    return false;
}
void gemm_begin(const Run *r) { (void)r; }
const char *gemm_name(void) { return "own"; }
#endif

enum { STRIP = 32 };                                      /* columns summed side by side in own products */

static void own(bool ta, bool tb, int M, int N, int K, real alpha, const real *A, int lda,
                const real *B, int ldb, real beta, real *C, int ldc)
{
    size_t a_row = ta ? 1 : (size_t)lda, a_k = ta ? (size_t)lda : 1;
    size_t b_k = tb ? 1 : (size_t)ldb, b_col = tb ? (size_t)ldb : 1;
    for (int j = 0; j < N; j += STRIP)
        for (int i = 0; i < M; i++) {
            int n = N - j < STRIP ? N - j : STRIP;
            acc sum[STRIP] = {0};
            const real *a = A + (size_t)i * a_row, *b = B + (size_t)j * b_col;
            for (int k = 0; k < K; k++, a += a_k, b += b_k)
                for (int l = 0; l < n; l++) sum[l] += (acc)*a * (acc)b[(size_t)l * b_col];
            real *c = C + (size_t)i * (size_t)ldc + j;
            for (int l = 0; l < n; l++)
                c[l] = (real)((acc)alpha * sum[l] + (beta == 0 ? 0 : (acc)beta * (acc)c[l]));
        }
}

void gemm(const Run *r, bool ta, bool tb, int M, int N, int K, real alpha, const real *A, int lda,
          const real *B, int ldb, real beta, real *C, int ldc)
{
    if (M < 1 || N < 1) return;
    if (r->blas && blas(ta, tb, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc)) return;
    own(ta, tb, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
}

/* A linear layer as the products of one image: T rows, I -> O; tasks are rows x columns of it. */
typedef struct { int N, T, I, O; } Sizes;
typedef struct { int rows, columns, across, down; } Cut;

static int parts(int n, int size) { return (n + size - 1) / size; }
static int least(int a, int b) { return a < b ? a : b; }

static Cut cut(int T, int O)
{
    Cut c = { T <= 256 ? T : 256, O, 1, 1 };
    if (T < 1024) c.columns = O <= 128 ? O : T < 128 ? 160 : 320;
    c.down = parts(T, c.rows);
    c.across = parts(O, c.columns);
    return c;
}

static bool sizes(Run *r, const char *who, Sizes *s, Tensor y, Tensor x, Tensor w)
{
    Tensor any = y.x ? y : x;
    int rank = shape_rank(any.s);
    size_t all = tensor_count(any), each = rank ? (size_t)any.s.d[rank - 1] : 1;
    *s = (Sizes){ .N = rank >= 3 ? any.s.d[0] : 1, .O = w.x ? w.s.d[0] : 0 };
    s->I = s->O ? (int)(tensor_count(w) / (size_t)s->O) : 0;
    bool fits = all && s->O && (int)each == (y.x ? s->O : s->I);
    if (fits) s->T = (int)(all / each / (size_t)s->N);
    size_t rows = (size_t)s->N * (size_t)s->T;
    if (fits && (!x.x || tensor_count(x) == rows * (size_t)s->I) && (!y.x || tensor_count(y) == rows * (size_t)s->O)) return true;
    run_fail(r, E_SHAPE, "%s: x[..., %d] (%zu numbers) and y[..., %d] (%zu numbers) do not fit w[%d, %d]", who,
             x.s.d[shape_rank(x.s) > 0 ? shape_rank(x.s) - 1 : 0], tensor_count(x), rank ? any.s.d[rank - 1] : 0, tensor_count(y), s->O, s->I);
    return false;
}

/* What a product is added to: bias, the old y, or both. */
static void ground(real *y, int ld, int rows, int columns, const real *b, bool add)
{
    if (!b) return;
    for (int i = 0; i < rows; i++, y += ld) {
        if (!add) memcpy(y, b, (size_t)columns * sizeof *y);
        else for (int j = 0; j < columns; j++) y[j] += b[j];
    }
}

void linear(Run *r, Tensor y, Tensor x, Tensor w, Tensor b, bool add)
{
    Sizes s;
    if (!run_ok(r) || !sizes(r, "linear", &s, y, x, w)) return;
    if (!y.x || !x.x || (b.x && tensor_count(b) != (size_t)s.O)) {
        run_fail(r, E_SHAPE, "linear: bias of %zu numbers for %d outputs, or an empty tensor", tensor_count(b), s.O);
        return;
    }
    Cut c = cut(s.T, s.O);
    gemm_begin(r);

    #pragma omp parallel for collapse(3) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int i = 0; i < c.down; i++)
            for (int j = 0; j < c.across; j++) {
                int t = i * c.rows, o = j * c.columns;
                int rows = least(c.rows, s.T - t), columns = least(c.columns, s.O - o);
                size_t row = (size_t)n * (size_t)s.T + (size_t)t;
                real *to = y.x + row * (size_t)s.O + o;
                ground(to, s.O, rows, columns, b.x ? b.x + o : NULL, add);
                gemm(r, false, true, rows, columns, s.I, 1, x.x + row * (size_t)s.I, s.I,
                     w.x + (size_t)o * (size_t)s.I, s.I, add || b.x ? 1 : 0, to, s.O);
            }
}

/* out[columns] += the sum of x[rows, columns] over its rows. */
void columns_sum(Run *r, real *out, const real *x, size_t rows, int columns)
{
    int tasks = parts(columns, STRIP);
    #pragma omp parallel for num_threads(r->threads)
    for (int t = 0; t < tasks; t++) {
        int first = t * STRIP, n = least(STRIP, columns - first);
        acc sum[STRIP] = {0};
        for (size_t i = 0; i < rows; i++)
            for (int j = 0; j < n; j++) sum[j] += (acc)x[i * (size_t)columns + (size_t)(first + j)];
        for (int j = 0; j < n; j++) out[first + j] += (real)sum[j];
    }
}

static void linear_dw(Run *r, Tensor dw, Tensor dy, Tensor x, Sizes s)
{
    int high = s.O <= 64 ? s.O : 64, tasks = parts(s.O, high);
    #pragma omp parallel for schedule(dynamic) num_threads(r->threads)
    for (int i = 0; i < tasks; i++)
        for (int n = 0; n < s.N; n++) {
            size_t row = (size_t)n * (size_t)s.T;
            int o = i * high;
            gemm(r, true, false, least(high, s.O - o), s.I, s.T, 1, dy.x + row * (size_t)s.O + o, s.O,
                 x.x + row * (size_t)s.I, s.I, 1, dw.x + (size_t)o * (size_t)s.I, s.I);
        }
}

void linear_back(Run *r, Tensor dx, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w)
{
    Sizes s;
    Tensor other = dx.x ? dx : x, shape = w.x ? w : dw;
    if (!run_ok(r) || !sizes(r, "linear_back", &s, dy, other, shape)) return;
    if (!dy.x || (dx.x && !w.x) || (dw.x && (!x.x || tensor_count(x) != (size_t)s.N * (size_t)s.T * (size_t)s.I)) ||
        (db.x && tensor_count(db) != (size_t)s.O) || (dw.x && tensor_count(dw) != (size_t)s.O * (size_t)s.I)) {
        run_fail(r, E_SHAPE, "linear_back: gradients do not fit %d rows, %d -> %d", s.T, s.I, s.O);
        return;
    }
    Cut c = cut(s.T, s.I);
    gemm_begin(r);
    if (dw.x) linear_dw(r, dw, dy, x, s);
    if (db.x) columns_sum(r, db.x, dy.x, (size_t)s.N * (size_t)s.T, s.O);
    if (!dx.x) return;

    #pragma omp parallel for collapse(3) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int i = 0; i < c.down; i++)
            for (int j = 0; j < c.across; j++) {
                int t = i * c.rows, k = j * c.columns;
                size_t row = (size_t)n * (size_t)s.T + (size_t)t;
                gemm(r, false, false, least(c.rows, s.T - t), least(c.columns, s.I - k), s.O, 1, dy.x + row * (size_t)s.O, s.O,
                     w.x + k, s.I, 0, dx.x + row * (size_t)s.I + k, s.I);
            }
}
