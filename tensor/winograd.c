#include <omp.h>
#include <string.h>
#include "tensor/conv.h"
#include "tensor/gemm.h"
#include "tensor/product.h"
#include "tensor/tiles.h"
#include "tensor/winograd.h"

enum { PANEL = WINOGRAD_ROWS };

static int parts(int n, int size) { return (n + size - 1) / size; }
static int least(int a, int b) { return a < b ? a : b; }

bool winograd_pays(int H, int W, int I, int O)
{
    return sizeof(real) == sizeof(float) && I % PANEL == 0 && O % PANEL == 0 && (long)H * W >= 256;
}

Shape winograd_shape(Shape w) { return SHAPE(16, w.d[0] / PANEL, w.d[3], PANEL); }

/* (G g G^T)_p of one kernel, its taps `step` apart:  G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1]. */
static void transform(const real *g, size_t step, real *u, size_t plane)
{
    acc t[4][3];
    for (int j = 0; j < 3; j++) {
        acc a = (acc)g[(size_t)j * step], b = (acc)g[(size_t)(3 + j) * step], c = (acc)g[(size_t)(6 + j) * step];
        t[0][j] = a;
        t[1][j] = (a + b + c) / 2;
        t[2][j] = (a - b + c) / 2;
        t[3][j] = c;
    }
    for (int i = 0; i < 4; i++, u += 4 * plane) {
        acc a = t[i][0], b = t[i][1], c = t[i][2];
        u[0 * plane] = (real)a;
        u[1 * plane] = (real)((a + b + c) / 2);
        u[2 * plane] = (real)((a - b + c) / 2);
        u[3 * plane] = (real)c;
    }
}

void winograd_weights(Run *r, Tensor u, Tensor w)
{
    if (!run_ok(r)) return;
    if (!u.x || !w.x || w.s.d[1] != 3 || w.s.d[2] != 3 || w.s.d[0] % PANEL || !shape_same(u.s, winograd_shape(w.s))) {
        run_fail(r, E_SHAPE, "winograd_weights: w[%d,%d,%d,%d] is not a 3x3 kernel of 32 n outputs, or u does not fit it",
                 w.s.d[0], w.s.d[1], w.s.d[2], w.s.d[3]);
        return;
    }
    int O = w.s.d[0];
    size_t I = (size_t)w.s.d[3], plane = (size_t)O * I;
    #pragma omp parallel for num_threads(r->threads)
    for (int panel = 0; panel < O / PANEL; panel++)
        for (size_t i = 0; i < I; i++)
            for (size_t o = 0; o < PANEL; o++)
                transform(w.x + ((size_t)panel * PANEL + o) * 9 * I + i, I, u.x + ((size_t)panel * I + i) * PANEL + o, plane);
}

void winograd_rows(Tensor u, const real *kernels, int first, int count)
{
    size_t I = (size_t)u.s.d[2], plane = shape_count(u.s) / 16;
    for (int panel = first / PANEL; count > 0; panel++, count -= PANEL, kernels += PANEL * I * 9)
        for (size_t i = 0; i < I; i++)
            for (size_t o = 0; o < PANEL; o++)
                transform(kernels + (o * I + i) * 9, 1, u.x + ((size_t)panel * I + i) * PANEL + o, plane);
}

/* What one convolution is about.  A task has `rows` rows of tiles; V[16][tiles, K + 16], M[16][tiles, columns + 16]. */
typedef struct {
    int N, H, W, K, columns, down, across, rows;
    const real *x, *u, *b, *add;
    real *y;
    bool back;
    int I;                                                /* of the weights: u is [16][O/32][I][32] */
    size_t plane;
} Plan;

static ptrdiff_t wide_v(const Plan *p) { return p->K + 16; }
static ptrdiff_t wide_m(const Plan *p) { return p->columns + 16; }

/* V of tile rows first .. first + rows of image n; zero: K zeros. */
static void inputs(const Run *r, const Plan *p, real *v, size_t plane, int n, int first, int rows, const real *zero)
{
    const real *image = p->x + (size_t)n * (size_t)p->H * (size_t)p->W * (size_t)p->K;
    for (int i = first; i < first + rows; i++)
        for (int j = 0; j < p->across; j++, v += wide_v(p)) {
            const real *d[16];
            for (int q = 0; q < 16; q++) {
                int y = 2 * i - 1 + q / 4, x = 2 * j - 1 + q % 4;
                d[q] = y < 0 || y >= p->H || x < 0 || x >= p->W ? zero : image + ((size_t)y * (size_t)p->W + (size_t)x) * (size_t)p->K;
            }
            r->k->tiles->winograd_in(p->K, v, plane, d);
        }
}

static void outputs(const Run *r, const Plan *p, const real *m, size_t plane, int n, int first, int rows)
{
    for (int i = first; i < first + rows; i++)
        for (int j = 0; j < p->across; j++, m += wide_m(p)) {
            real *y[4];
            const real *add[4];
            for (int q = 0; q < 4; q++) {
                int row = 2 * i + q / 2, column = 2 * j + q % 2;
                size_t at = (((size_t)n * (size_t)p->H + (size_t)row) * (size_t)p->W + (size_t)column) * (size_t)p->columns;
                bool inside = row < p->H && column < p->W;
                y[q] = inside ? p->y + at : NULL;
                add[q] = inside && p->add ? p->add + at : NULL;
            }
            r->k->tiles->winograd_out(p->columns, y, m, plane, p->b, p->add ? add : NULL);
        }
}

/* Columns j .. j + wide of B for k .. k + count, as a panel of row stride *bk: in place going forward, turned going back. */
static const real *panel_of(const Tiles *t, const Plan *p, int plane, int k, int count, int j, real *turned, ptrdiff_t *bk)
{
    static const int other[4] = { 3, 1, 2, 0 };
    if (!p->back) {
        *bk = PANEL;
        return p->u + (size_t)plane * p->plane + ((size_t)(j / PANEL) * (size_t)p->I + (size_t)k) * PANEL + (size_t)(j % PANEL);
    }
    const real *u = p->u + (size_t)(4 * other[plane / 4] + other[plane % 4]) * p->plane;
    *bk = t->wide;
    for (int o = k; o < k + count; o += PANEL)
        t->turn(PANEL, t->wide, turned + (size_t)(o - k) * (size_t)t->wide,
                u + ((size_t)(o / PANEL) * (size_t)p->I + (size_t)j) * PANEL, PANEL);
    return turned;
}

/* M = V U for columns first .. first + n of one plane. */
static void plane_product(const Run *r, const Plan *p, int plane, real *m, const real *v, int tiles, int first, int n, real *turned)
{
    const Tiles *t = r->k->tiles;
    int deep = parts(product_chunk(p->K), PANEL) * PANEL, strips = parts(tiles, t->high);
    for (int k = 0; k < p->K; k += deep) {
        int count = least(deep, p->K - k);
        for (int j = first; j < first + n; j += t->wide) {
            ptrdiff_t bk;
            const real *b = panel_of(t, p, plane, k, count, j, turned, &bk);
            for (int s = 0, i = 0; s < strips; s++) {
                int next = (int)((long)tiles * (s + 1) / strips);
                t->product(next - i, count, v + i * wide_v(p) + k, wide_v(p), 1, b, bk, m + i * wide_m(p) + j, wide_m(p), k > 0);
                i = next;
            }
        }
    }
}

/* Each task transforms, multiplies and transforms back its own rows of tiles. */
static void by_rows(Run *r, const Plan *p, const real *zero)
{
    int tasks = parts(p->down, p->rows);
    size_t tiles = (size_t)p->rows * (size_t)p->across, plane_v = tiles * (size_t)wide_v(p), plane_m = tiles * (size_t)wide_m(p);
    size_t turned = (size_t)(p->back ? (PRODUCT_DEEP + PANEL) * PANEL : 0), each = 16 * (plane_v + plane_m) + turned;
    real *scratch = scratch_take(r, each * (size_t)r->threads);
    if (!scratch) return;

    #pragma omp parallel for collapse(2) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < p->N; n++)
        for (int i = 0; i < tasks; i++) {
            real *v = scratch + (size_t)omp_get_thread_num() * each, *m = v + 16 * plane_v;
            int first = i * p->rows, rows = least(p->rows, p->down - first);
            inputs(r, p, v, plane_v, n, first, rows, zero);
            for (int q = 0; q < 16; q++)
                plane_product(r, p, q, m + (size_t)q * plane_m, v + (size_t)q * plane_v, rows * p->across, 0, p->columns, m + 16 * plane_m);
            outputs(r, p, m, plane_m, n, first, rows);
        }
}

/* Small images: all tiles at once, tasks are planes, so that each number of u is read once an image. */
static void by_planes(Run *r, const Plan *p, const real *zero)
{
    size_t tiles = (size_t)p->down * (size_t)p->across, plane_v = tiles * (size_t)wide_v(p), plane_m = tiles * (size_t)wide_m(p);
    size_t turned = (size_t)(p->back ? (PRODUCT_DEEP + PANEL) * PANEL : 0);
    real *v = scratch_take(r, 16 * (plane_v + plane_m) + turned * (size_t)r->threads), *m = v + 16 * plane_v;
    if (!v) return;
    for (int n = 0; n < p->N; n++) {
        #pragma omp parallel for num_threads(r->threads)
        for (int i = 0; i < p->down; i++)
            inputs(r, p, v + i * p->across * wide_v(p), plane_v, n, i, 1, zero);

        #pragma omp parallel for schedule(dynamic) num_threads(r->threads)
        for (int q = 0; q < 16; q++)
            plane_product(r, p, q, m + (size_t)q * plane_m, v + (size_t)q * plane_v, (int)tiles, 0, p->columns,
                          m + 16 * plane_m + (size_t)omp_get_thread_num() * turned);

        #pragma omp parallel for num_threads(r->threads)
        for (int i = 0; i < p->down; i++)
            outputs(r, p, m + i * p->across * wide_m(p), plane_m, n, i, 1);
    }
}

void winograd(Run *r, Tensor y, Tensor x, Tensor u, Tensor b, Tensor add, bool back)
{
    Plan p = { .N = x.s.d[0], .H = x.s.d[1], .W = x.s.d[2], .K = x.s.d[3], .columns = y.s.d[3], .x = x.x, .u = u.x, .b = b.x,
               .add = add.x, .y = y.x, .back = back, .I = u.s.d[2], .plane = shape_count(u.s) / 16 };
    p.down = parts(p.H, 2);
    p.across = parts(p.W, 2);
    p.rows = least(p.down, parts(128, p.across));
    real *zero = scratch_take(r, (size_t)p.K);
    if (!zero) return;
    memset(zero, 0, (size_t)p.K * sizeof *zero);
    if (p.down * p.across >= 256) by_rows(r, &p, zero);
    else by_planes(r, &p, zero);
}
