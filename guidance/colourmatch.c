#include <string.h>
#include "guidance/colourmatch.h"

typedef double Matrix3[3][3];

static void times(Matrix3 C, const Matrix3 A, const Matrix3 B)
{
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) C[i][j] = A[i][0] * B[0][j] + A[i][1] * B[1][j] + A[i][2] * B[2][j];
}

/* One rotation in the plane (p, q) that makes A[p][q] zero. */
static void rotate(Matrix3 A, Matrix3 V, int p, int q)
{
    if (A[p][q] == 0) return;
    double theta = (A[q][q] - A[p][p]) / (2 * A[p][q]);
    double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1), s = t * c;
    for (int k = 0; k < 3; k++) {
        double a = A[k][p], b = A[k][q];
        A[k][p] = c * a - s * b;
        A[k][q] = s * a + c * b;
    }
    for (int k = 0; k < 3; k++) {
        double a = A[p][k], b = A[q][k], u = V[k][p], v = V[k][q];
        A[p][k] = c * a - s * b;
        A[q][k] = s * a + c * b;
        V[k][p] = c * u - s * v;
        V[k][q] = s * u + c * v;
    }
}

void colourmatch_eigen(double w[3], double V[3][3], const double A[3][3])
{
    static const Matrix3 one = { { 1, 0, 0 }, { 0, 1, 0 }, { 0, 0, 1 } };
    enum { SWEEPS = 30 };                                 /* six are enough in practice */
    Matrix3 D;
    memcpy(D, A, sizeof D);
    memcpy(V, one, sizeof one);
    for (int k = 0; k < SWEEPS && (D[0][1] != 0 || D[0][2] != 0 || D[1][2] != 0); k++) {
        rotate(D, V, 0, 1);
        rotate(D, V, 0, 2);
        rotate(D, V, 1, 2);
    }
    for (int i = 0; i < 3; i++) w[i] = D[i][i];
}

static const double TINY = 2.220446049250313e-16;

/* A^(1/2), or its inverse; eigenvalues below 0 count as 0. */
static void root(Matrix3 R, const Matrix3 A, bool inverse)
{
    double w[3];
    Matrix3 V;
    colourmatch_eigen(w, V, A);
    for (int k = 0; k < 3; k++) {
        double s = sqrt(w[k] > 0 ? w[k] : 0);
        w[k] = inverse ? 1 / (s + TINY) : s;
    }
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) R[i][j] = V[i][0] * w[0] * V[j][0] + V[i][1] * w[1] * V[j][1] + V[i][2] * w[2] * V[j][2];
}

static void moments(double mean[3], Matrix3 A, Tensor x)
{
    size_t n = tensor_count(x) / 3;
    for (int c = 0; c < 3; c++) {
        mean[c] = 0;
        for (size_t i = 0; i < n; i++) mean[c] += (double)x.x[(size_t)c * n + i];
        mean[c] /= (double)n;
    }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b <= a; b++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++) sum += ((double)x.x[(size_t)a * n + i] - mean[a]) * ((double)x.x[(size_t)b * n + i] - mean[b]);
            A[a][b] = A[b][a] = sum / (double)(n - 1);
        }
}

void colourmatch(Run *r, Tensor out, Tensor x, Tensor y)
{
    double mx[3], my[3];
    Matrix3 A, B, T, half, back, middle;
    size_t n = tensor_count(x) / 3;
    if (!run_ok(r)) return;
    if (!tensor_same(out, x) || !y.x || x.s.d[0] != 3 || y.s.d[0] != 3 || n < 2 || tensor_count(y) < 6) {
        run_fail(r, E_SHAPE, "colourmatch: planes [3,...] of at least two pixels are wanted");
        return;
    }
    moments(mx, A, x);
    moments(my, B, y);
    root(half, A, false);
    root(back, A, true);
    times(T, half, B);
    times(middle, T, half);
    root(half, middle, false);
    times(T, back, half);
    times(middle, T, back);
    for (size_t i = 0; i < n; i++) {
        double d[3];
        for (size_t c = 0; c < 3; c++) d[c] = (double)x.x[c * n + i] - mx[c];
        for (size_t c = 0; c < 3; c++) out.x[c * n + i] = (real)(middle[c][0] * d[0] + middle[c][1] * d[1] + middle[c][2] * d[2] + my[c]);
    }
}

static void stretch(Tensor x)                             /* to [0,1]; a constant picture becomes 0 */
{
    real low = x.x[0], high = x.x[0];
    size_t n = tensor_count(x);
    for (size_t i = 0; i < n; i++) {
        if (x.x[i] < low) low = x.x[i];
        if (x.x[i] > high) high = x.x[i];
    }
    for (size_t i = 0; i < n; i++) x.x[i] = high > low ? (x.x[i] - low) / (high - low) : 0;
}

void colourmatch_picture(Run *r, Tensor x, Tensor y, ColourMatch how)
{
    size_t mark = r->temp->used;
    Tensor like = how == COLOURMATCH_NONE ? (Tensor){0} : temp(r, y.s);
    if (like.x && x.x) {
        tensor_copy(r, like, y);
        stretch(x);
        stretch(like);
        colourmatch(r, x, x, like);
        if (how == COLOURMATCH_STRETCH) stretch(x);
        for (size_t i = 0; i < tensor_count(x); i++) x.x[i] = 2 * (x.x[i] < 0 ? 0 : x.x[i] > 1 ? 1 : x.x[i]) - 1;
    }
    arena_release(r->temp, mark);
}
