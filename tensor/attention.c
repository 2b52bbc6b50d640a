#include <math.h>
#include <omp.h>
#include <string.h>
#include "tensor/attention.h"
#include "tensor/product.h"
#include "tensor/tiles.h"

/* One head of one image:  S = q k^T,  P = softmax(scale S) by rows,  out = P v.
 *
 *     dP = dout v^T      dS_ij = scale P_ij (dP_ij - sum_l P_il dP_il)
 *     dq = dS k          dk = dS^T q          dv = P^T dout
 *
 * Work goes by panels: `wide` queries side by side, complete rows of P as the columns of a [Tk, wide] panel.  The
 * products S^T = k q^T and out^T = v^T P^T then run along the registers whatever the width of a head, softmax needs no
 * sum across a register, and both forms do the same arithmetic.  Keys and values are first copied head by head. */
typedef struct { int N, Tq, Tk, heads, C, D, panels, wide, padded; real scale; } Heads;

static int parts(int n, int size) { return (n + size - 1) / size; }
static int least(int a, int b) { return a < b ? a : b; }
static int most(int a, int b) { return a > b ? a : b; }
static int tokens(Tensor t) { return shape_rank(t.s) == 4 ? t.s.d[1] * t.s.d[2] : t.s.d[1]; }
static int width(Tensor t) { return shape_rank(t.s) == 4 ? t.s.d[3] : t.s.d[2]; }
static bool like(Tensor t, Tensor model) { return !t.x || tensor_count(t) == tensor_count(model); }

static bool wrong(Run *r, const char *who, bool bad)
{
    if (bad) run_fail(r, E_SHAPE, "%s: tensors that do not fit each other, or an empty one", who);
    return bad;
}

static bool sizes(Run *r, const char *who, Heads *s, Tensor query, Tensor key, int heads)
{
    if (query.x && key.x && heads > 0 && shape_rank(query.s) >= 3 && shape_rank(key.s) >= 3) {
        int wide = r->k->tiles->wide, C = width(query), D = C / heads;
        *s = (Heads){ query.s.d[0], tokens(query), tokens(key), heads, C, D, parts(tokens(query), wide), wide,
                      parts(D, wide) * wide, D ? 1 / sqrt((real)D) : 0 };
        if (key.s.d[0] == s->N && width(key) == C && D && C % heads == 0) return true;
    }
    run_fail(r, E_SHAPE, "%s: queries [%d,%d,%d] and keys [%d,%d,%d] do not make %d heads", who, query.s.d[0], query.s.d[1], query.s.d[2],
             key.s.d[0], key.s.d[1], key.s.d[2], heads);
    return false;
}

static bool map_sizes(Run *r, const char *who, Heads *s, Tensor P, Tensor query, Tensor key)
{
    if (wrong(r, who, !P.x || shape_rank(P.s) != 4) || !sizes(r, who, s, query, key, P.s.d[1])) return false;
    return !wrong(r, who, P.s.d[0] != s->N || P.s.d[2] != s->Tq || P.s.d[3] != s->Tk);
}

/* Where head h of token t of image n begins, for T tokens an image; and where row t of its map is, in rows. */
static size_t at(Heads s, int T, int n, int t, int h)
{
    return ((size_t)n * (size_t)T + (size_t)t) * (size_t)s.C + (size_t)h * (size_t)s.D;
}

static size_t row_of(Heads s, int n, int h, int t) { return ((size_t)n * (size_t)s.heads + (size_t)h) * (size_t)s.Tq + (size_t)t; }
static size_t rows_of(Heads s) { return (size_t)s.N * (size_t)s.heads * (size_t)s.Tq; }

/* Head by head: to[n, h, t, ld] = x[n, t, h D ..], zeros beyond D. */
static real *by_heads(Run *r, Heads s, Tensor x, int T, int ld)
{
    real *to = x.x ? scratch_take(r, (size_t)s.N * (size_t)s.heads * (size_t)T * (size_t)ld) : NULL;
    if (!to) return NULL;
    #pragma omp parallel for collapse(2) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int h = 0; h < s.heads; h++) {
            real *row = to + ((size_t)n * (size_t)s.heads + (size_t)h) * (size_t)T * (size_t)ld;
            for (int t = 0; t < T; t++, row += ld) {
                memcpy(row, x.x + at(s, T, n, t, h), (size_t)s.D * sizeof *row);
                memset(row + s.D, 0, (size_t)(ld - s.D) * sizeof *row);
            }
        }
    return to;
}

/* S^T [Tk, wide] = keys query^T for n queries; turned: room for [D, wide]. */
static void scores(const Tiles *t, Heads s, real *p, const real *keys, const real *query, int n, real *turned)
{
    t->turn(s.D, n, turned, query, s.C);
    int strips = parts(s.Tk, t->high);
    for (int i = 0, j = 0; i < strips; i++) {
        int next = (int)((long)s.Tk * (i + 1) / strips);
        t->product(next - j, s.D, keys + (ptrdiff_t)j * s.D, s.D, 1, turned, s.wide, p + (ptrdiff_t)j * s.wide, s.wide, false);
        j = next;
    }
}

/* out[n queries, D] = P values; turned: room for [D, wide]. */
static void mix(const Tiles *t, Heads s, real *out, const real *p, const real *values, int n, real *turned)
{
    int strips = parts(s.D, t->high), deep = product_chunk(s.Tk);
    for (int k = 0; k < s.Tk; k += deep)
        for (int i = 0, d = 0; i < strips; i++) {
            int next = (int)((long)s.D * (i + 1) / strips);
            t->product(next - d, least(deep, s.Tk - k), values + (ptrdiff_t)k * s.D + d, 1, s.D, p + (ptrdiff_t)k * s.wide, s.wide,
                       turned + d * s.wide, s.wide, k > 0);
            d = next;
        }
    for (int i = 0; i < n; i++)
        for (int d = 0; d < s.D; d++) out[(ptrdiff_t)i * s.C + d] = turned[d * s.wide + i];
}

/* Query first + i of the panel sees keys 0 .. first + i. */
static void mask(Heads s, real *p, int first)
{
    for (int j = first + 1; j < s.Tk; j++)
        for (int i = 0; i < least(s.wide, j - first); i++) p[(ptrdiff_t)j * s.wide + i] = (real)-INFINITY;
}

/* Rows of a map from a panel. */
static void put_rows(Heads s, real *rows, const real *p, int n)
{
    for (int j = 0; j < s.Tk; j += 16)
        for (int i = 0; i < n; i++)
            for (int k = j; k < least(j + 16, s.Tk); k++) rows[(ptrdiff_t)i * s.Tk + k] = p[(ptrdiff_t)k * s.wide + i];
}

/* All of forward; out or P or stat may be missing.  With P and v but no q, P is read. */
typedef struct { Heads s; Tensor out, P, stat, q; const real *k, *v; bool causal; } Forward;

static void forward_panel(const Run *r, const Forward *f, int n, int h, int panel, real *p)
{
    Heads s = f->s;
    int t = panel * s.wide, count = least(s.wide, s.Tq - t);
    size_t key = ((size_t)n * (size_t)s.heads + (size_t)h) * (size_t)s.Tk * (size_t)s.D;
    real *turned = p + (ptrdiff_t)s.Tk * s.wide, high[TILE_WIDE], part[TILE_WIDE];
    real *map = f->P.x ? f->P.x + row_of(s, n, h, t) * (size_t)s.Tk : NULL;
    if (f->q.x) {
        scores(r->k->tiles, s, p, f->k + key, f->q.x + at(s, s.Tq, n, t, h), count, turned);
        if (f->causal) mask(s, p, t);
        r->k->tiles->softmax(s.Tk, p, s.scale, high, part);
        if (map) put_rows(s, map, p, count);
    } else
        r->k->tiles->turn(s.Tk, count, p, map, s.Tk);
    for (int i = 0; i < count && f->stat.x; i++) {
        real *stat = f->stat.x + 2 * row_of(s, n, h, t + i);
        stat[0] = high[i], stat[1] = part[i];
    }
    if (f->out.x) mix(r->k->tiles, s, f->out.x + at(s, s.Tq, n, t, h), p, f->v + key, count, turned);
}

static void forward(Run *r, const Forward *f)
{
    Heads s = f->s;
    size_t each = (size_t)(s.Tk + s.D) * (size_t)s.wide;
    real *scratch = scratch_take(r, each * (size_t)r->threads);
    if (!scratch) return;
    #pragma omp parallel for collapse(3) schedule(dynamic) num_threads(r->threads)
    for (int n = 0; n < s.N; n++)
        for (int h = 0; h < s.heads; h++)
            for (int panel = 0; panel < s.panels; panel++)
                forward_panel(r, f, n, h, panel, scratch + (size_t)omp_get_thread_num() * each);
}

void attention(Run *r, Tensor out, Tensor stat, Tensor q, Tensor k, Tensor v, int heads, bool causal)
{
    Forward f = { .out = out, .stat = stat, .q = q, .causal = causal };
    if (!run_ok(r) || !sizes(r, "attention", &f.s, q, k, heads)) return;
    if (wrong(r, "attention", !out.x || !v.x || !like(out, q) || !like(v, k) || (stat.x && tensor_count(stat) != 2 * rows_of(f.s)))) return;
    size_t mark = r->temp->used;
    f.k = by_heads(r, f.s, k, f.s.Tk, f.s.D);
    f.v = by_heads(r, f.s, v, f.s.Tk, f.s.D);
    if (run_ok(r)) forward(r, &f);
    arena_release(r->temp, mark);
}

void attention_probs(Run *r, Tensor P, Tensor q, Tensor k, int heads, bool causal)
{
    Forward f = { .P = P, .q = q, .causal = causal };
    if (!run_ok(r) || !map_sizes(r, "attention_probs", &f.s, P, q, k)) return;
    if (wrong(r, "attention_probs", f.s.heads != heads)) return;
    size_t mark = r->temp->used;
    f.k = by_heads(r, f.s, k, f.s.Tk, f.s.D);
    if (run_ok(r)) forward(r, &f);
    arena_release(r->temp, mark);
}

void attention_mix(Run *r, Tensor out, Tensor P, Tensor v)
{
    Forward f = { .out = out, .P = P };
    if (!run_ok(r) || !map_sizes(r, "attention_mix", &f.s, P, out, v)) return;
    size_t mark = r->temp->used;
    f.v = by_heads(r, f.s, v, f.s.Tk, f.s.D);
    if (run_ok(r)) forward(r, &f);
    arena_release(r->temp, mark);
}

/* All of backward.  P comes from the map, or from q, k and stat; dP from the map, or from dout and v; with k, dS takes its
 * place.  keys, values: by heads; q_rows, d_rows: queries and dout by heads, rows padded to whole tiles. */
typedef struct {
    Heads s;
    Tensor dq, dk, dv, dP, dout, stat, P, q;
    const real *keys, *values, *q_rows, *d_rows;
    bool causal;
    int block, group, reach;                              /* panels and heads at a time; keys a task owns */
    real *dk_rows, *dv_rows;                              /* [group, Tk, padded] */
} Back;

/* P^T and dS^T (or dP^T) of one panel. */
static void back_panel(const Run *r, const Back *b, int n, int h, int panel, real *p, real *dp, real *turned)
{
    Heads s = b->s;
    const Tiles *tiles = r->k->tiles;
    int t = panel * s.wide, count = least(s.wide, s.Tq - t);
    size_t key = ((size_t)n * (size_t)s.heads + (size_t)h) * (size_t)s.Tk * (size_t)s.D, map = row_of(s, n, h, t) * (size_t)s.Tk;
    if (b->P.x) tiles->turn(s.Tk, count, p, b->P.x + map, s.Tk);
    else {
        real high[TILE_WIDE] = {0}, part[TILE_WIDE] = {0};
        for (int i = 0; i < count; i++) {
            const real *stat = b->stat.x + 2 * row_of(s, n, h, t + i);
            high[i] = stat[0], part[i] = stat[1];
        }
        scores(tiles, s, p, b->keys + key, b->q.x + at(s, s.Tq, n, t, h), count, turned);
        if (b->causal) mask(s, p, t);
        tiles->softmax_again(s.Tk, p, s.scale, high, part);
    }
    if (b->values) scores(tiles, s, dp, b->values + key, b->dout.x + at(s, s.Tq, n, t, h), count, turned);
    else tiles->turn(s.Tk, count, dp, b->dP.x + map, s.Tk);
    if (b->keys) tiles->softmax_back(s.Tk, dp, p, s.scale);
    if (b->dP.x) put_rows(s, b->dP.x + map, dp, count);
    if (b->dq.x) mix(tiles, s, b->dq.x + at(s, s.Tq, n, t, h), dp, b->keys + key, count, turned);
}

/* out[keys first .. first + count, padded] += map^T rows, over one panel of n queries. */
static void back_keys(const Run *r, Heads s, real *out, const real *map, const real *rows, int first, int count, int n)
{
    const Tiles *t = r->k->tiles;
    int strips = parts(count, t->high);
    for (int c = 0; c < s.padded; c += s.wide)
        for (int i = 0, j = 0; i < strips; i++) {
            int next = (int)((long)count * (i + 1) / strips);
            t->product(next - j, n, map + (ptrdiff_t)(first + j) * s.wide, s.wide, 1, rows + c, s.padded,
                       out + (ptrdiff_t)(first + j) * s.padded + c, s.padded, true);
            j = next;
        }
}

/* Panels first .. first + block of heads h .. h + group of image n: first their rows, then every key's share of them. */
static void back_block(Run *r, const Back *b, int n, int h, int heads, int first, real *maps, real *turned)
{
    Heads s = b->s;
    int panels = least(b->block, s.panels - first), ranges = parts(s.Tk, b->reach);
    size_t each = (size_t)s.Tk * (size_t)s.wide, keys = (size_t)s.Tk * (size_t)s.padded;

    #pragma omp parallel for collapse(2) schedule(dynamic) num_threads(r->threads)
    for (int g = 0; g < heads; g++)
        for (int i = 0; i < panels; i++) {
            real *p = maps + (size_t)(g * b->block + i) * 2 * each;
            back_panel(r, b, n, h + g, first + i, p, p + each, turned + (size_t)omp_get_thread_num() * (size_t)(s.D * s.wide));
        }

    #pragma omp parallel for collapse(2) schedule(dynamic) num_threads(r->threads)
    for (int g = 0; g < heads; g++)
        for (int j = 0; j < ranges; j++)
            for (int i = 0; i < panels; i++) {
                const real *p = maps + (size_t)(g * b->block + i) * 2 * each;
                int t = (first + i) * s.wide, from = j * b->reach, count = least(b->reach, s.Tk - from);
                size_t row = row_of(s, n, h + g, t) * (size_t)s.padded;
                if (b->dv.x) back_keys(r, s, b->dv_rows + (size_t)g * keys, p, b->d_rows + row, from, count, least(s.wide, s.Tq - t));
                if (b->dk.x) back_keys(r, s, b->dk_rows + (size_t)g * keys, p + each, b->q_rows + row, from, count, least(s.wide, s.Tq - t));
            }
}

static void from_heads(Heads s, Tensor to, const real *rows, int n, int h, int heads)
{
    for (int g = 0; g < heads && to.x; g++)
        for (int t = 0; t < s.Tk; t++, rows += s.padded) memcpy(to.x + at(s, s.Tk, n, t, h + g), rows, (size_t)s.D * sizeof *rows);
}

static void back(Run *r, Back *b)
{
    Heads s = b->s;
    b->block = least(s.panels, most(8, 32768 / s.Tk));
    b->group = least(s.heads, parts(8, b->block));
    b->reach = most(56, parts(s.Tk, 8));
    size_t keys = (size_t)s.Tk * (size_t)s.padded * (size_t)b->group;
    real *maps = scratch_take(r, (size_t)(b->group * b->block) * 2 * (size_t)s.Tk * (size_t)s.wide);
    real *turned = scratch_take(r, (size_t)r->threads * (size_t)(s.D * s.wide));
    b->dk_rows = scratch_take(r, keys);
    b->dv_rows = scratch_take(r, keys);
    for (int n = 0; n < s.N && run_ok(r); n++)
        for (int h = 0; h < s.heads; h += b->group) {
            int heads = least(b->group, s.heads - h);
            memset(b->dk_rows, 0, keys * sizeof(real));
            memset(b->dv_rows, 0, keys * sizeof(real));
            for (int first = 0; first < s.panels; first += b->block) back_block(r, b, n, h, heads, first, maps, turned);
            from_heads(s, b->dk, b->dk_rows, n, h, heads);
            from_heads(s, b->dv, b->dv_rows, n, h, heads);
        }
}

void attention_back(Run *r, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor stat,
                    Tensor q, Tensor k, Tensor v, int heads, bool causal)
{
    Back b = { .dq = dq, .dk = dk, .dv = dv, .dout = dout, .stat = stat, .q = q, .causal = causal };
    if (!run_ok(r) || !sizes(r, "attention_back", &b.s, q, k, heads)) return;
    if (wrong(r, "attention_back", !dout.x || !v.x || !like(dout, q) || !like(dq, q) || !like(dk, k) || !like(dv, k) || !like(v, k) ||
              tensor_count(stat) != 2 * rows_of(b.s))) return;
    size_t mark = r->temp->used;
    b.keys = by_heads(r, b.s, k, b.s.Tk, b.s.D);
    b.values = by_heads(r, b.s, v, b.s.Tk, b.s.D);
    if (dk.x) b.q_rows = by_heads(r, b.s, q, b.s.Tq, b.s.padded);
    if (dv.x) b.d_rows = by_heads(r, b.s, dout, b.s.Tq, b.s.padded);
    if (run_ok(r)) back(r, &b);
    arena_release(r->temp, mark);
}

void attention_mix_back(Run *r, Tensor dP, Tensor dv, Tensor dout, Tensor P, Tensor v)
{
    Back b = { .dv = dv, .dP = dP, .dout = dout, .P = P };
    if (!run_ok(r) || !map_sizes(r, "attention_mix_back", &b.s, P, dout, v)) return;
    if (wrong(r, "attention_mix_back", !like(dP, P) || !like(dv, v))) return;
    size_t mark = r->temp->used;
    b.values = by_heads(r, b.s, v, b.s.Tk, b.s.D);
    if (dv.x) b.d_rows = by_heads(r, b.s, dout, b.s.Tq, b.s.padded);
    if (run_ok(r)) back(r, &b);
    arena_release(r->temp, mark);
}

void attention_probs_back(Run *r, Tensor dq, Tensor dk, Tensor dP, Tensor P, Tensor q, Tensor k, int heads)
{
    Back b = { .dq = dq, .dk = dk, .dP = dP, .P = P };
    if (!run_ok(r) || !map_sizes(r, "attention_probs_back", &b.s, P, q, k)) return;
    if (wrong(r, "attention_probs_back", b.s.heads != heads || !dP.x || !like(dP, P) || !like(dq, q) || !like(dk, k))) return;
    size_t mark = r->temp->used;
    b.keys = by_heads(r, b.s, k, b.s.Tk, b.s.D);
    if (dk.x) b.q_rows = by_heads(r, b.s, q, b.s.Tq, b.s.padded);
    if (run_ok(r)) back(r, &b);
    arena_release(r->temp, mark);
}
