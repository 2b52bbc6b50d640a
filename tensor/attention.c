#include <omp.h>
#include <string.h>
#include "tensor/attention.h"
#include "tensor/gemm.h"

/* One head of one image:  S = scale q k^T,  P = softmax(S) by rows,  out = P v.
 *
 *     dP = dout v^T      dS_ij = P_ij (dP_ij - sum_l P_il dP_il)
 *     dq = scale dS k    dk = scale dS^T q    dv = P^T dout
 *
 * Rows are taken BLOCK at a time in every function, so that both forms do the same arithmetic. */
enum { BLOCK = 256 };
typedef struct { int N, Tq, Tk, heads, C, D; real scale; } Heads;

static int least(int a, int b) { return a < b ? a : b; }
static int tokens(Tensor t) { return shape_rank(t.s) == 4 ? t.s.d[1] * t.s.d[2] : t.s.d[1]; }
static int width(Tensor t) { return shape_rank(t.s) == 4 ? t.s.d[3] : t.s.d[2]; }
static bool like(Tensor t, Tensor model) { return !t.x || tensor_count(t) == tensor_count(model); }

static bool sizes(Run *r, const char *who, Heads *s, Tensor q, Tensor k, int heads)
{
    if (q.x && k.x && heads > 0 && shape_rank(q.s) >= 3 && shape_rank(k.s) >= 3) {
        *s = (Heads){ q.s.d[0], tokens(q), tokens(k), heads, width(q), width(q) / heads, 0 };
        s->scale = 1 / sqrt((real)s->D);
        if (k.s.d[0] == s->N && width(k) == s->C && s->C % heads == 0) return true;
    }
    run_fail(r, E_SHAPE, "%s: q[%d,%d,%d] and k[%d,%d,%d] do not make %d heads", who,
             q.s.d[0], q.s.d[1], q.s.d[2], k.s.d[0], k.s.d[1], k.s.d[2], heads);
    return false;
}

static bool wrong(Run *r, const char *who, bool bad)
{
    if (bad) run_fail(r, E_SHAPE, "%s: tensors that do not fit each other, or an empty one", who);
    return bad;
}

/* Where head h of token t of image n begins, for a tensor of T tokens an image. */
static size_t at(Heads s, int T, int n, int t, int h)
{
    return ((size_t)n * (size_t)T + (size_t)t) * (size_t)s.C + (size_t)h * (size_t)s.D;
}

static size_t row_of(Heads s, int n, int h, int t) { return ((size_t)n * (size_t)s.heads + (size_t)h) * (size_t)s.Tq + (size_t)t; }

static void softmax_row(const Run *r, Heads s, real *p, int seen, real *stat)
{
    real high = r->k->row_max(seen, p, s.scale);
    real part = (real)(1 / r->k->row_exp(seen, p, p, s.scale, high));
    r->k->row_scale(seen, p, part);
    memset(p + seen, 0, (size_t)(s.Tk - seen) * sizeof *p);
    if (stat) stat[0] = high, stat[1] = part;
}

/* The same from what the forward pass remembered. */
static void softmax_again(const Run *r, Heads s, real *p, int seen, const real *stat)
{
    r->k->row_exp(seen, p, p, s.scale, stat[0]);
    r->k->row_scale(seen, p, stat[1]);
    memset(p + seen, 0, (size_t)(s.Tk - seen) * sizeof *p);
}

static int seen(Heads s, bool causal, int t) { return causal ? least(t + 1, s.Tk) : s.Tk; }

static void scores(const Run *r, Heads s, real *p, const real *q, const real *k, int rows)
{
    gemm(r, false, true, rows, s.Tk, s.D, 1, q, s.C, k, s.C, 0, p, s.Tk);
}

static void mix(const Run *r, Heads s, real *out, const real *p, const real *v, int rows)
{
    gemm(r, false, false, rows, s.D, s.Tk, 1, p, s.Tk, v, s.C, 0, out, s.C);
}

void attention(Run *r, Tensor out, Tensor stat, Tensor q, Tensor k, Tensor v, int heads, bool causal)
{
    Heads s;
    if (!run_ok(r) || !sizes(r, "attention", &s, q, k, heads)) return;
    if (wrong(r, "attention", !out.x || !v.x || !like(out, q) || !like(v, k) ||
              (stat.x && tensor_count(stat) != row_of(s, s.N, 0, 0) * 2))) return;
    size_t mark = r->temp->used, each = (size_t)least(BLOCK, s.Tq) * (size_t)s.Tk;
    Tensor map = temp(r, SHAPE(r->threads, least(BLOCK, s.Tq), s.Tk));
    if (!run_ok(r)) return;
    gemm_begin(r);

    #pragma omp parallel for collapse(3) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int h = 0; h < s.heads; h++)
            for (int t = 0; t < s.Tq; t += BLOCK) {
                int rows = least(BLOCK, s.Tq - t);
                real *p = map.x + (size_t)omp_get_thread_num() * each;
                scores(r, s, p, q.x + at(s, s.Tq, n, t, h), k.x + at(s, s.Tk, n, 0, h), rows);
                for (int i = 0; i < rows; i++)
                    softmax_row(r, s, p + (size_t)i * (size_t)s.Tk, seen(s, causal, t + i),
                                stat.x ? stat.x + 2 * row_of(s, n, h, t + i) : NULL);
                mix(r, s, out.x + at(s, s.Tq, n, t, h), p, v.x + at(s, s.Tk, n, 0, h), rows);
            }
    arena_release(r->temp, mark);
}

void attention_probs(Run *r, Tensor P, Tensor q, Tensor k, int heads, bool causal)
{
    Heads s;
    if (!run_ok(r) || !sizes(r, "attention_probs", &s, q, k, heads)) return;
    if (wrong(r, "attention_probs", tensor_count(P) != row_of(s, s.N, 0, 0) * (size_t)s.Tk)) return;
    gemm_begin(r);

    #pragma omp parallel for collapse(3) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int h = 0; h < s.heads; h++)
            for (int t = 0; t < s.Tq; t += BLOCK) {
                int rows = least(BLOCK, s.Tq - t);
                real *p = P.x + row_of(s, n, h, t) * (size_t)s.Tk;
                scores(r, s, p, q.x + at(s, s.Tq, n, t, h), k.x + at(s, s.Tk, n, 0, h), rows);
                for (int i = 0; i < rows; i++)
                    softmax_row(r, s, p + (size_t)i * (size_t)s.Tk, seen(s, causal, t + i), NULL);
            }
}

static bool map_sizes(Run *r, const char *who, Heads *s, Tensor P, Tensor out, Tensor v)
{
    if (wrong(r, who, !P.x || shape_rank(P.s) != 4 || !out.x || !v.x || shape_rank(out.s) < 3 || shape_rank(v.s) < 3)) return false;
    *s = (Heads){ out.s.d[0], tokens(out), tokens(v), P.s.d[1], width(out), width(out) / P.s.d[1], 0 };
    return !wrong(r, who, P.s.d[0] != s->N || P.s.d[2] != s->Tq || P.s.d[3] != s->Tk || v.s.d[0] != s->N ||
                  width(v) != s->C || s->C % s->heads);
}

void attention_mix(Run *r, Tensor out, Tensor P, Tensor v)
{
    Heads s;
    if (!run_ok(r) || !map_sizes(r, "attention_mix", &s, P, out, v)) return;
    gemm_begin(r);

    #pragma omp parallel for collapse(3) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int h = 0; h < s.heads; h++)
            for (int t = 0; t < s.Tq; t += BLOCK)
                mix(r, s, out.x + at(s, s.Tq, n, t, h), P.x + row_of(s, n, h, t) * (size_t)s.Tk,
                    v.x + at(s, s.Tk, n, 0, h), least(BLOCK, s.Tq - t));
}

/* scale dS, the gradient of q k^T, in the place of dP. */
static void softmax_back(const Run *r, Heads s, real *dp, const real *p, int rows)
{
    for (int i = 0; i < rows; i++, dp += s.Tk, p += s.Tk) r->k->row_softmax_back(s.Tk, dp, p, s.scale);
}

/* dv += P^T dout or dk += (scale dS)^T q, for one block of rows; the first block writes. */
static void keys_back(const Run *r, Heads s, real *dkey, const real *map, const real *query, int rows, bool first)
{
    gemm(r, true, false, s.Tk, s.D, rows, 1, map, s.Tk, query, s.C, first ? 0 : 1, dkey, s.C);
}

void attention_mix_back(Run *r, Tensor dP, Tensor dv, Tensor dout, Tensor P, Tensor v)
{
    Heads s;
    if (!run_ok(r) || !map_sizes(r, "attention_mix_back", &s, P, dout, v)) return;
    if (wrong(r, "attention_mix_back", !like(dP, P) || !like(dv, v))) return;
    gemm_begin(r);

    #pragma omp parallel for collapse(2) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int h = 0; h < s.heads; h++)
            for (int t = 0; t < s.Tq; t += BLOCK) {
                int rows = least(BLOCK, s.Tq - t);
                const real *d = dout.x + at(s, s.Tq, n, t, h);
                size_t map = row_of(s, n, h, t) * (size_t)s.Tk, key = at(s, s.Tk, n, 0, h);
                if (dP.x) gemm(r, false, true, rows, s.Tk, s.D, 1, d, s.C, v.x + key, s.C, 0, dP.x + map, s.Tk);
                if (dv.x) keys_back(r, s, dv.x + key, P.x + map, d, rows, t == 0);
            }
}

void attention_probs_back(Run *r, Tensor dq, Tensor dk, Tensor dP, Tensor P, Tensor q, Tensor k, int heads)
{
    Heads s;
    if (!run_ok(r) || !sizes(r, "attention_probs_back", &s, q, k, heads)) return;
    if (wrong(r, "attention_probs_back", !dP.x || !P.x || !like(dP, P) || !like(dq, q) || !like(dk, k) ||
              tensor_count(P) != row_of(s, s.N, 0, 0) * (size_t)s.Tk)) return;
    gemm_begin(r);

    #pragma omp parallel for collapse(2) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int h = 0; h < s.heads; h++)
            for (int t = 0; t < s.Tq; t += BLOCK) {
                int rows = least(BLOCK, s.Tq - t);
                size_t map = row_of(s, n, h, t) * (size_t)s.Tk, query = at(s, s.Tq, n, t, h), key = at(s, s.Tk, n, 0, h);
                softmax_back(r, s, dP.x + map, P.x + map, rows);
                if (dq.x) gemm(r, false, false, rows, s.D, s.Tk, 1, dP.x + map, s.Tk, k.x + key, s.C, 0, dq.x + query, s.C);
                if (dk.x) keys_back(r, s, dk.x + key, dP.x + map, q.x + query, rows, t == 0);
            }
}

void attention_back(Run *r, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor stat,
                    Tensor q, Tensor k, Tensor v, int heads, bool causal)
{
    Heads s;
    if (!run_ok(r) || !sizes(r, "attention_back", &s, q, k, heads)) return;
    if (wrong(r, "attention_back", !dout.x || !v.x || !like(dout, q) || !like(dq, q) || !like(dk, k) || !like(dv, k) || !like(v, k) ||
              tensor_count(stat) != row_of(s, s.N, 0, 0) * 2)) return;
    size_t mark = r->temp->used, each = (size_t)least(BLOCK, s.Tq) * (size_t)s.Tk;
    Tensor map = temp(r, SHAPE(r->threads, 2, least(BLOCK, s.Tq), s.Tk));
    if (!run_ok(r)) return;
    gemm_begin(r);

    #pragma omp parallel for collapse(2) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int h = 0; h < s.heads; h++)
            for (int t = 0; t < s.Tq; t += BLOCK) {
                int rows = least(BLOCK, s.Tq - t);
                size_t query = at(s, s.Tq, n, t, h), key = at(s, s.Tk, n, 0, h);
                real *p = map.x + (size_t)omp_get_thread_num() * 2 * each, *dp = p + each;
                scores(r, s, p, q.x + query, k.x + key, rows);
                for (int i = 0; i < rows; i++)
                    softmax_again(r, s, p + (size_t)i * (size_t)s.Tk, seen(s, causal, t + i), stat.x + 2 * row_of(s, n, h, t + i));
                if (dv.x) keys_back(r, s, dv.x + key, p, dout.x + query, rows, t == 0);
                gemm(r, false, true, rows, s.Tk, s.D, 1, dout.x + query, s.C, v.x + key, s.C, 0, dp, s.Tk);
                softmax_back(r, s, dp, p, rows);
                if (dq.x) gemm(r, false, false, rows, s.D, s.Tk, 1, dp, s.Tk, k.x + key, s.C, 0, dq.x + query, s.C);
                if (dk.x) keys_back(r, s, dk.x + key, dp, q.x + query, rows, t == 0);
            }
    arena_release(r->temp, mark);
}
