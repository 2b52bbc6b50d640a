#include <omp.h>
#include <string.h>
#include "tensor/gemm.h"
#include "tensor/product.h"
#include "tensor/tiles.h"

static int parts(int n, int size) { return (n + size - 1) / size; }
static int least(int a, int b) { return a < b ? a : b; }

#ifdef TILLER_BLAS
#include <cblas.h>
#ifdef TILLER_F64
#define BLAS_PRODUCT cblas_dgemm
#else
#define BLAS_PRODUCT cblas_sgemm
#endif
#pragma weak openblas_set_num_threads
#pragma weak openblas_get_config
extern void openblas_set_num_threads(int threads);
extern char *openblas_get_config(void);

void gemm_blas(bool tb, int M, int N, int K, const real *A, int lda, const real *B, int ldb, bool add, real *C, int ldc)
{
    BLAS_PRODUCT(CblasRowMajor, CblasNoTrans, tb ? CblasTrans : CblasNoTrans, M, N, K, 1, A, lda, B, ldb, add ? 1 : 0, C, ldc);
}

void gemm_begin(const Run *r)
{
    if (product_needs_blas(r) && openblas_set_num_threads) openblas_set_num_threads(1);
}

const char *gemm_name(void) { return openblas_get_config ? openblas_get_config() : "cblas"; }
bool gemm_has_blas(void) { return true; }
#else
void gemm_blas(bool tb, int M, int N, int K, const real *A, int lda, const real *B, int ldb, bool add, real *C, int ldc)
{
    (void)tb, (void)M, (void)N, (void)K, (void)A, (void)lda, (void)B, (void)ldb, (void)add, (void)C, (void)ldc;
}
void gemm_begin(const Run *r) { (void)r; }
const char *gemm_name(void) { return "own"; }
bool gemm_has_blas(void) { return false; }
#endif

/* Blocks of rows keep the scratch on the stack small. */
void gemm(const Run *r, bool ta, bool tb, int M, int N, int K, real alpha, const real *A, int lda,
          const real *B, int ldb, real beta, real *C, int ldc)
{
    enum { ROWS = 42 };
    real scratch[ROWS * PRODUCT_STRIDE + PRODUCT_DEEP * TILE_WIDE];
    Matrix a = { A, ta ? 1 : lda, ta ? lda : 1, alpha };
    Product p = { .columns = N, .K = K, .fill = matrix_fill, .self = &a, .b = B, .bk = tb ? 1 : ldb, .bj = tb ? ldb : 1,
                  .ldc = ldc, .add = beta != 0 };
    for (int i = 0; i < M && N > 0; i += ROWS) {
        a.x = A + i * a.row;
        p.rows = least(ROWS, M - i);
        p.c = C + (ptrdiff_t)i * ldc;
        for (int k = 0; k < p.rows && (beta != 1 || K < 1); k++)
            for (int j = 0; j < N; j++) p.c[(ptrdiff_t)k * ldc + j] = beta == 0 ? 0 : beta * p.c[(ptrdiff_t)k * ldc + j];
        product(r, &p, scratch);
    }
}

/* A linear layer as the products of one image: T rows, I -> O; tasks are rows x columns of it. */
typedef struct { int N, T, I, O; } Sizes;
typedef struct { int rows, columns, across, down; } Cut;

static Cut cut(int T, int O)
{
    Cut c = { .down = parts(T, 512) };
    c.rows = parts(T, c.down);
    c.across = c.down >= 8 ? 1 : least(parts(O, 128), parts(8, c.down));
    c.columns = parts(parts(O, c.across), TILE_WIDE) * TILE_WIDE;
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

/* y[N,T,O] (+)= x[N,T,I] B[I,O] + b, with B[i,o] = w[i bk + o bj]. */
static void products(Run *r, real *y, const real *x, const real *w, Tensor b, bool add, int N, int T, int I, int O, ptrdiff_t bk, ptrdiff_t bj)
{
    Cut c = cut(T, O);
    size_t mark = r->temp->used, each = product_scratch(c.rows);
    real *scratch = scratch_take(r, each * (size_t)r->threads);
    if (!scratch) return;
    gemm_begin(r);

    #pragma omp parallel for collapse(3) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < N; n++)
        for (int i = 0; i < c.down; i++)
            for (int j = 0; j < c.across; j++) {
                int t = i * c.rows, o = j * c.columns;
                size_t row = (size_t)n * (size_t)T + (size_t)t;
                Matrix a = { x + row * (size_t)I, I, 1, 1 };
                Product p = { least(c.rows, T - t), least(c.columns, O - o), I, matrix_fill, &a, w + o * bj, bk, bj,
                              y + row * (size_t)O + o, O, add || b.x };
                ground(p.c, O, p.rows, p.columns, b.x ? b.x + o : NULL, add);
                product(r, &p, scratch + (size_t)omp_get_thread_num() * each);
            }
    arena_release(r->temp, mark);
}

void linear(Run *r, Tensor y, Tensor x, Tensor w, Tensor b, bool add)
{
    Sizes s;
    if (!run_ok(r) || !sizes(r, "linear", &s, y, x, w)) return;
    if (!y.x || !x.x || (b.x && tensor_count(b) != (size_t)s.O)) {
        run_fail(r, E_SHAPE, "linear: bias of %zu numbers for %d outputs, or an empty tensor", tensor_count(b), s.O);
        return;
    }
    products(r, y.x, x.x, w.x, b, add, s.N, s.T, s.I, s.O, 1, s.I);
}

/* out[columns] += the sum of x[rows, columns] over its rows. */
void columns_sum(Run *r, real *out, const real *x, size_t rows, int columns)
{
    enum { STRIP = 32 };
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
    int high = least(s.O, 56), tasks = parts(s.O, high);
    size_t mark = r->temp->used, each = product_scratch(high);
    real *scratch = scratch_take(r, each * (size_t)r->threads);
    if (!scratch) return;
    #pragma omp parallel for schedule(dynamic) num_threads(r->threads)
    for (int i = 0; i < tasks; i++)
        for (int n = 0; n < s.N; n++) {
            size_t row = (size_t)n * (size_t)s.T;
            int o = i * high;
            Matrix a = { dy.x + row * (size_t)s.O + o, 1, s.O, 1 };
            Product p = { least(high, s.O - o), s.I, s.T, matrix_fill, &a, x.x + row * (size_t)s.I, s.I, 1,
                          dw.x + (size_t)o * (size_t)s.I, s.I, true };
            product(r, &p, scratch + (size_t)omp_get_thread_num() * each);
        }
    arena_release(r->temp, mark);
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
    gemm_begin(r);
    if (dw.x) linear_dw(r, dw, dy, x, s);
    if (db.x) columns_sum(r, db.x, dy.x, (size_t)s.N * (size_t)s.T, s.O);
    if (dx.x) products(r, dx.x, dy.x, w.x, (Tensor){0}, false, s.N, s.T, s.O, s.I, s.I, 1);
}
