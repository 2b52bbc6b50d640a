#include <string.h>
#include "tensor/gemm.h"
#include "tensor/product.h"
#include "tensor/tiles.h"

static int parts(int n, int size) { return (n + size - 1) / size; }
static int least(int a, int b) { return a < b ? a : b; }

size_t product_scratch(int rows) { return (size_t)rows * PRODUCT_STRIDE + (size_t)PRODUCT_DEEP * TILE_WIDE; }

bool product_needs_blas(const Run *r) { return r->blas && gemm_has_blas() && !r->k->tiles->fast; }

int product_chunk(int K)
{
    if (K < 1) return 1;
    int deep = parts(K, parts(K, PRODUCT_DEEP));
    return least(K, (deep + 15) / 16 * 16);
}

void matrix_fill(const void *matrix, real *a, int row, int rows, int k, int count)
{
    const Matrix *m = matrix;
    const real *x = m->x + row * m->row + k * m->column;
    for (int i = 0; i < rows; i++, x += m->row, a += PRODUCT_STRIDE) {
        if (m->column == 1) memcpy(a, x, (size_t)count * sizeof *a);
        else for (int j = 0; j < count; j++) a[j] = x[j * m->column];
        if (m->f != 1) for (int j = 0; j < count; j++) a[j] *= m->f;
    }
}

/* Columns first .. first + n of chunk k .. k + count of B. */
static void panel_fill(const Tiles *t, real *panel, const Product *p, int k, int count, int first, int n)
{
    const real *b = p->b + k * p->bk + first * p->bj;
    if (p->bk == 1 && p->bj != 1) t->turn(count, n, panel, b, p->bj);
    else for (int i = 0; i < count; i++, b += p->bk, panel += t->wide) {
        memcpy(panel, b, (size_t)n * sizeof *panel);
        if (n < t->wide) memset(panel + n, 0, (size_t)(t->wide - n) * sizeof *panel);
    }
}

/* A tile whose last columns are not there. */
static void ragged(const Tiles *t, int rows, int count, const real *a, const real *panel, real *c, ptrdiff_t ldc, int n, bool add)
{
    real whole[TILE_HIGH * TILE_WIDE];
    t->product(rows, count, a, PRODUCT_STRIDE, 1, panel, t->wide, whole, t->wide, false);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < n; j++) c[i * ldc + j] = whole[i * t->wide + j] + (add ? c[i * ldc + j] : 0);
}

static void chunk_by_tiles(const Tiles *t, const Product *p, const real *a, real *panel, int k, int count, bool add)
{
    int strips = parts(p->rows, t->high);
    for (int j = 0; j < p->columns; j += t->wide) {
        int n = least(t->wide, p->columns - j);
        panel_fill(t, panel, p, k, count, j, n);
        for (int s = 0, i = 0; s < strips; s++) {
            int next = (int)((long)p->rows * (s + 1) / strips), rows = next - i;         /* even heights */
            real *c = p->c + i * p->ldc + j;
            if (n == t->wide) t->product(rows, count, a + i * PRODUCT_STRIDE, PRODUCT_STRIDE, 1, panel, t->wide, c, p->ldc, add);
            else ragged(t, rows, count, a + i * PRODUCT_STRIDE, panel, c, p->ldc, n, add);
            i = next;
        }
    }
}

void product(const Run *r, const Product *p, real *scratch)
{
    real *a = scratch, *panel = scratch + (size_t)p->rows * PRODUCT_STRIDE;
    int deep = product_chunk(p->K);
    for (int k = 0; k < p->K; k += deep) {
        int count = least(deep, p->K - k);
        bool add = p->add || k > 0;
        p->fill(p->self, a, 0, p->rows, k, count);
        if (!product_needs_blas(r)) chunk_by_tiles(r->k->tiles, p, a, panel, k, count, add);
        else if (p->bj == 1)                              /* both strides are 1 when K is: then any row stride will do */
            gemm_blas(false, p->rows, p->columns, count, a, PRODUCT_STRIDE, p->b + k * p->bk, p->bk < p->columns ? p->columns : (int)p->bk, add, p->c, (int)p->ldc);
        else
            gemm_blas(true, p->rows, p->columns, count, a, PRODUCT_STRIDE, p->b + k, (int)p->bj, add, p->c, (int)p->ldc);
    }
}

real *scratch_take(Run *r, size_t count)
{
    real *x = run_ok(r) ? arena_take(r->temp, count * sizeof *x) : NULL;
    if (!x) run_fail(r, E_MEMORY, "out of memory: %zu KB of scratch wanted", count * sizeof *x >> 10);
    return x;
}
