#include "guidance/diffuseit_losses.h"
#include "tensor/gemm.h"
#include "tensor/point.h"

static Tensor row(Tensor t, int i) { return tensor_row(t, i); }

/* u_i = k_i / |k_i|, lengths [T] */
static void unit_rows(Run *r, Tensor u, Tensor lengths, Tensor k)
{
    for (int i = 0; run_ok(r) && i < k.s.d[0]; i++) {
        lengths.x[i] = (real)sqrt(dot(r, row(k, i), row(k, i)));
        scale(r, row(u, i), 1 / lengths.x[i], row(k, i), 0);
    }
}

/* dk_i += (du_i - (du_i . u_i) u_i) / |k_i| */
static void unit_rows_back(Run *r, Tensor dk, Tensor du, Tensor u, Tensor lengths)
{
    for (int i = 0; run_ok(r) && i < dk.s.d[0]; i++) {
        acc along = dot(r, row(du, i), row(u, i));
        axpy(r, row(dk, i), 1 / lengths.x[i], row(du, i));
        axpy(r, row(dk, i), (real)(-along / (acc)lengths.x[i]), row(u, i));
    }
}

/* ---- key self-similarity ---- */

static const double LEAST = 1e-8;

static real product_of(Tensor lengths, int i, int j) { return lengths.x[i] * lengths.x[j]; }

static void similarity(Run *r, Tensor S, Tensor lengths, Tensor k)
{
    int T = k.s.d[0];
    linear(r, S, k, k, (Tensor){0}, false);
    for (int i = 0; run_ok(r) && i < T; i++) lengths.x[i] = (real)sqrt(dot(r, row(k, i), row(k, i)));
    for (int i = 0; run_ok(r) && i < T; i++)
        for (int j = 0; j < T; j++) {
            real n = product_of(lengths, i, j);
            S.x[(size_t)i * T + j] /= n > (real)LEAST ? n : (real)LEAST;
        }
}

static bool keys_fit(Run *r, const char *what, Tensor k, Tensor dk)
{
    if (run_ok(r) && (!k.x || shape_rank(k.s) != 2 || (dk.x && !tensor_same(k, dk)))) run_fail(r, E_SHAPE, "%s: keys [T,D] and their gradient are wanted", what);
    return run_ok(r);
}

void diffuseit_similarity(Run *r, Tensor S, Tensor k)
{
    size_t mark = r->temp->used;
    if (keys_fit(r, "diffuseit_similarity", k, (Tensor){0})) similarity(r, S, temp(r, SHAPE(k.s.d[0])), k);
    arena_release(r->temp, mark);
}

/* G = dL/dS is symmetric:  dk_i += 2 sum_j G_ij (k_j / n_ij - [n_ij free] S_ij k_i / |k_i|^2),  n_ij = max(|k_i| |k_j|, 1e-8).
 * S is overwritten. */
static void ssim_back(Run *r, Tensor dk, Tensor k, Tensor S, Tensor S0, Tensor lengths, acc weight)
{
    int T = k.s.d[0];
    Tensor d = temp(r, k.s);
    for (int i = 0; run_ok(r) && i < T; i++) {
        acc own = 0;
        for (int j = 0; j < T; j++) {
            real *s = &S.x[(size_t)i * T + j], n = product_of(lengths, i, j);
            acc g = 2 * weight * ((acc)*s - (acc)S0.x[(size_t)i * T + j]) / ((acc)T * T);
            if (n > (real)LEAST) own += g * (acc)*s;
            *s = (real)(2 * g / (n > (real)LEAST ? (acc)n : LEAST));
        }
        if (lengths.x[i] > 0) axpy(r, row(dk, i), (real)(-2 * own / ((acc)lengths.x[i] * (acc)lengths.x[i])), row(k, i));
    }
    linear_back(r, d, (Tensor){0}, (Tensor){0}, S, (Tensor){0}, k);
    add(r, dk, d);
}

acc diffuseit_ssim(Run *r, Tensor dk, Tensor k, Tensor S0, acc weight)
{
    size_t mark = r->temp->used;
    acc sum = 0;
    if (!keys_fit(r, "diffuseit_ssim", k, dk)) return 0;
    int T = k.s.d[0];
    Tensor S = temp(r, SHAPE(T, T)), lengths = temp(r, SHAPE(T));
    similarity(r, S, lengths, k);
    if (run_ok(r) && !tensor_same(S, S0)) run_fail(r, E_SHAPE, "diffuseit_ssim: %d tokens, and a source of %d", T, S0.s.d[0]);
    for (size_t i = 0; run_ok(r) && i < tensor_count(S); i++) sum += ((acc)S.x[i] - (acc)S0.x[i]) * ((acc)S.x[i] - (acc)S0.x[i]);
    if (dk.x && run_ok(r)) ssim_back(r, dk, k, S, S0, lengths, weight);
    arena_release(r->temp, mark);
    return weight * sum / ((acc)T * T);
}

/* ---- contrast of keys ---- */

static const double NEVER = -10;                          /* stands where the positive would be a negative too */

/* Row i of similarities / tau: its cross-entropy; the row becomes its gradient. */
static acc contra_row(real *s, int T, int i, double tau)
{
    acc most = (acc)s[i], sum = 0, own = (acc)s[i];
    for (int j = 0; j < T; j++) most = fmax(most, (acc)s[j]);
    for (int j = 0; j < T; j++) sum += exp((acc)s[j] - most);
    sum += exp(NEVER / tau - most);
    for (int j = 0; j < T; j++) s[j] = (real)(exp((acc)s[j] - most) / sum - (j == i));
    return most + log(sum) - own;
}

acc diffuseit_contra(Run *r, Tensor dk, Tensor k, Tensor k0, double tau, acc weight)
{
    size_t mark = r->temp->used;
    acc sum = 0;
    if (!keys_fit(r, "diffuseit_contra", k, dk)) return 0;
    if (!tensor_same(k, k0)) run_fail(r, E_SHAPE, "diffuseit_contra: keys of picture and source differ in shape");
    int T = k.s.d[0];
    Tensor u = temp(r, k.s), v = temp(r, k.s), lengths = temp(r, SHAPE(T)), lengths0 = temp(r, SHAPE(T)), s = temp(r, SHAPE(T, T)), du = temp(r, k.s);
    unit_rows(r, u, lengths, k);
    unit_rows(r, v, lengths0, k0);
    linear(r, s, u, v, (Tensor){0}, false);
    if (run_ok(r)) scale(r, s, (real)(1 / tau), s, 0);
    for (int i = 0; run_ok(r) && i < T; i++) sum += contra_row(row(s, i).x, T, i, tau);
    if (dk.x && run_ok(r)) {
        scale(r, s, (real)(weight / (T * tau)), s, 0);
        linear_back(r, du, (Tensor){0}, (Tensor){0}, s, (Tensor){0}, v);
        unit_rows_back(r, dk, du, u, lengths);
    }
    arena_release(r->temp, mark);
    return weight * sum / T;
}

/* ---- pictures and tokens ---- */

acc diffuseit_square(Run *r, Tensor dx, Tensor x, Tensor y, acc weight)
{
    acc sum = 0;
    size_t n = tensor_count(x);
    if (run_ok(r) && (!n || n != tensor_count(y) || (dx.x && n != tensor_count(dx)))) run_fail(r, E_SHAPE, "diffuseit_square: %zu numbers and %zu", n, tensor_count(y));
    for (size_t i = 0; run_ok(r) && i < n; i++) {
        acc d = (acc)x.x[i] - (acc)y.x[i];
        sum += d * d;
        if (dx.x) dx.x[i] += (real)(2 * weight * d / (acc)n);
    }
    return run_ok(r) ? weight * sum / (acc)n : 0;
}

acc diffuseit_range(Run *r, Tensor dx, Tensor x, acc weight)
{
    acc sum = 0;
    size_t n = tensor_count(x);
    if (run_ok(r) && (!n || (dx.x && n != tensor_count(dx)))) run_fail(r, E_SHAPE, "diffuseit_range: a picture and its gradient are wanted");
    for (size_t i = 0; run_ok(r) && i < n; i++) {
        acc d = (acc)x.x[i] > 1 ? (acc)x.x[i] - 1 : (acc)x.x[i] < -1 ? (acc)x.x[i] + 1 : (acc)x.x[i] - (acc)x.x[i];       /* a NaN stays one */
        sum += d * d;
        if (dx.x) dx.x[i] += (real)(2 * weight * d / (acc)n);
    }
    return run_ok(r) ? weight * sum / (acc)n : 0;
}

/* ---- embeddings ---- */

void diffuseit_units(Run *r, Tensor mean, Tensor e)
{
    int n = e.s.d[0];
    tensor_zero(mean);
    for (int i = 0; run_ok(r) && i < n; i++) axpy(r, mean, (real)(1 / (sqrt(dot(r, row(e, i), row(e, i))) * n)), row(e, i));
}

acc diffuseit_toward(Run *r, Tensor de, Tensor e, Tensor t, acc weight)
{
    size_t mark = r->temp->used;
    int n = e.s.d[0];
    acc sum = 0;
    if (run_ok(r) && (shape_rank(e.s) != 2 || tensor_count(t) != (size_t)e.s.d[1])) run_fail(r, E_SHAPE, "diffuseit_toward: embeddings [n,D] and a target [D] are wanted");
    Tensor u = temp(r, e.s), lengths = temp(r, SHAPE(n)), du = temp(r, e.s);
    if (run_ok(r)) unit_rows(r, u, lengths, e);
    for (int i = 0; run_ok(r) && i < n; i++) {
        sum -= dot(r, row(u, i), t) / n;
        scale(r, row(du, i), (real)(-weight / n), t, 0);
    }
    if (de.x && run_ok(r)) unit_rows_back(r, de, du, u, lengths);
    arena_release(r->temp, mark);
    return weight * sum;
}
