#include "tensor/conv.h"

/* u = G g G^T for every kernel g:  G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1]. */
static void transform(const real *g, real *u, size_t step, size_t plane)
{
    acc t[4][3];
    for (int j = 0; j < 3; j++) {
        acc a = (acc)g[(size_t)j * step], b = (acc)g[(size_t)(3 + j) * step], c = (acc)g[(size_t)(6 + j) * step];
        t[0][j] = a;
        t[1][j] = (a + b + c) / 2;
        t[2][j] = (a - b + c) / 2;
        t[3][j] = c;
    }
    for (int i = 0; i < 4; i++) {
        acc a = t[i][0], b = t[i][1], c = t[i][2];
        real *to = u + (size_t)(4 * i) * plane;
        to[0 * plane] = (real)a;
        to[1 * plane] = (real)((a + b + c) / 2);
        to[2 * plane] = (real)((a - b + c) / 2);
        to[3 * plane] = (real)c;
    }
}

void winograd_weights(Run *r, Tensor u, Tensor w)
{
    if (!run_ok(r)) return;
    if (!u.x || !w.x || w.s.d[1] != 3 || w.s.d[2] != 3 || !shape_same(u.s, winograd_shape(w.s))) {
        run_fail(r, E_SHAPE, "winograd_weights: w[%d,%d,%d,%d] is not a 3x3 kernel, or u does not fit it", w.s.d[0], w.s.d[1], w.s.d[2], w.s.d[3]);
        return;
    }
    int O = w.s.d[0], I = w.s.d[3];
    size_t plane = (size_t)O * (size_t)I;
    #pragma omp parallel for num_threads(r->threads)
    for (int o = 0; o < O; o++)
        for (int i = 0; i < I; i++)
            transform(w.x + (size_t)o * 9 * (size_t)I + (size_t)i, u.x + (size_t)o * (size_t)I + (size_t)i, (size_t)I, plane);
}
