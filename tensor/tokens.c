#include <string.h>
#include "tensor/tokens.h"

/* All of these move or add a few rows: one thread does it, hence one owner per element and one order. */

static bool wrong(Run *r, const char *what, Tensor y, Tensor x)
{
    run_fail(r, E_SHAPE, "%s: [%d,%d,%d,%d] and [%d,%d,%d,%d] do not fit", what, y.s.d[0], y.s.d[1], y.s.d[2], y.s.d[3],
             x.s.d[0], x.s.d[1], x.s.d[2], x.s.d[3]);
    return false;
}

static bool rows_fit(Run *r, const char *what, Tensor y, Tensor table)
{
    return (y.x && table.x && shape_rank(y.s) == 3 && shape_rank(table.s) == 2 && y.s.d[2] == table.s.d[1]) || wrong(r, what, y, table);
}

static bool ids_fit(Run *r, Tensor y, Tensor table, const int *ids)
{
    for (int i = 0, n = y.s.d[0] * y.s.d[1]; i < n; i++)
        if (ids[i] < 0 || ids[i] >= table.s.d[0]) {
            run_fail(r, E_OPTION, "token %d has the id %d; the table has %d rows", i, ids[i], table.s.d[0]);
            return false;
        }
    return true;
}

void embed(Run *r, Tensor y, Tensor table, const int *ids)
{
    if (!rows_fit(r, "embed", y, table) || !ids_fit(r, y, table, ids)) return;
    size_t D = (size_t)table.s.d[1], n = tensor_count(y) / D;
    for (size_t i = 0; i < n; i++) memcpy(y.x + i * D, table.x + (size_t)ids[i] * D, D * sizeof(real));
}

void embed_back(Run *r, Tensor dtable, Tensor dy, const int *ids)
{
    if (!rows_fit(r, "embed_back", dy, dtable) || !ids_fit(r, dy, dtable, ids)) return;
    size_t D = (size_t)dtable.s.d[1], n = tensor_count(dy) / D;
    for (size_t i = 0; i < n; i++) r->k->add((int)D, dtable.x + (size_t)ids[i] * D, dy.x + i * D);
}

static bool positions_fit(Run *r, const char *what, Tensor y, Tensor table)
{
    return rows_fit(r, what, y, table) && (y.s.d[1] <= table.s.d[0] || wrong(r, what, y, table));
}

void add_positions(Run *r, Tensor y, Tensor table)
{
    if (!positions_fit(r, "add_positions", y, table)) return;
    size_t T = (size_t)y.s.d[1], D = (size_t)y.s.d[2], rows = (size_t)y.s.d[0] * T;
    for (size_t i = 0; i < rows; i++) r->k->add((int)D, y.x + i * D, table.x + i % T * D);
}

void add_positions_back(Run *r, Tensor dtable, Tensor dy)
{
    if (!positions_fit(r, "add_positions_back", dy, dtable)) return;
    size_t T = (size_t)dy.s.d[1], D = (size_t)dy.s.d[2], rows = (size_t)dy.s.d[0] * T;
    for (size_t i = 0; i < rows; i++) r->k->add((int)D, dtable.x + i % T * D, dy.x + i * D);
}

static bool picks_fit(Run *r, const char *what, Tensor one, Tensor all, const int *at)
{
    bool fit = one.x && all.x && shape_rank(all.s) == 3 && shape_same(one.s, SHAPE(all.s.d[0], all.s.d[2]));
    for (int n = 0; fit && at && n < all.s.d[0]; n++) fit = at[n] >= 0 && at[n] < all.s.d[1];
    return fit || wrong(r, what, one, all);
}

static size_t place(Tensor all, int n, const int *at)
{
    return ((size_t)n * (size_t)all.s.d[1] + (size_t)(at ? at[n] : 0)) * (size_t)all.s.d[2];
}

void pick_tokens(Run *r, Tensor y, Tensor x, const int *at)
{
    if (!picks_fit(r, "pick_tokens", y, x, at)) return;
    size_t D = (size_t)x.s.d[2];
    for (int n = 0; n < x.s.d[0]; n++) memcpy(y.x + (size_t)n * D, x.x + place(x, n, at), D * sizeof(real));
}

void pick_tokens_back(Run *r, Tensor dx, Tensor dy, const int *at)
{
    if (!picks_fit(r, "pick_tokens_back", dy, dx, at)) return;
    int D = dx.s.d[2];
    for (int n = 0; n < dx.s.d[0]; n++) r->k->add(D, dx.x + place(dx, n, at), dy.x + (size_t)n * (size_t)D);
}

void prepend_token(Run *r, Tensor y, Tensor token, Tensor x)
{
    if (!y.x || !x.x || shape_rank(x.s) != 3 || !shape_same(y.s, SHAPE(x.s.d[0], x.s.d[1] + 1, x.s.d[2])) || tensor_count(token) != (size_t)x.s.d[2]) {
        wrong(r, "prepend_token", y, x);
        return;
    }
    size_t D = (size_t)x.s.d[2], row = (size_t)x.s.d[1] * D;
    for (size_t n = 0; n < (size_t)x.s.d[0]; n++) {
        memcpy(y.x + n * (row + D), token.x, D * sizeof(real));
        memcpy(y.x + n * (row + D) + D, x.x + n * row, row * sizeof(real));
    }
}

void prepend_token_back(Run *r, Tensor dtoken, Tensor dx, Tensor dy)
{
    bool fit = dy.x && shape_rank(dy.s) == 3 && (!dtoken.x || tensor_count(dtoken) == (size_t)dy.s.d[2])
            && (!dx.x || shape_same(dx.s, SHAPE(dy.s.d[0], dy.s.d[1] - 1, dy.s.d[2])));
    if (!fit) {
        wrong(r, "prepend_token_back", dx, dy);
        return;
    }
    size_t D = (size_t)dy.s.d[2], row = (size_t)(dy.s.d[1] - 1) * D;
    for (size_t n = 0; n < (size_t)dy.s.d[0]; n++) {
        if (dtoken.x) r->k->add((int)D, dtoken.x, dy.x + n * (row + D));
        if (dx.x) memcpy(dx.x + n * row, dy.x + n * (row + D) + D, row * sizeof(real));
    }
}

static bool one_longer(Run *r, const char *what, Tensor y, Tensor x)
{
    if (y.x && x.x && shape_rank(x.s) == 3 && shape_same(y.s, SHAPE(x.s.d[0], x.s.d[1] + 1, x.s.d[2]))) return true;
    wrong(r, what, y, x);
    return false;
}

void prepend_mean(Run *r, Tensor y, Tensor x)
{
    if (!one_longer(r, "prepend_mean", y, x)) return;
    int T = x.s.d[1], D = x.s.d[2];
    size_t row = (size_t)T * (size_t)D;
    #pragma omp parallel for num_threads(r->threads)
    for (int n = 0; n < x.s.d[0]; n++) {
        real *mean = y.x + (size_t)n * (row + (size_t)D);
        const real *from = x.x + (size_t)n * row;
        for (int j = 0; j < D; j++) {
            acc sum = 0;
            for (int t = 0; t < T; t++) sum += (acc)from[(size_t)t * (size_t)D + (size_t)j];
            mean[j] = (real)(sum / T);
        }
        memcpy(mean + D, from, row * sizeof(real));
    }
}

void prepend_mean_back(Run *r, Tensor dx, Tensor dy)
{
    if (!one_longer(r, "prepend_mean_back", dy, dx)) return;
    int T = dx.s.d[1], D = dx.s.d[2];
    size_t row = (size_t)T * (size_t)D;
    #pragma omp parallel for num_threads(r->threads)
    for (int n = 0; n < dx.s.d[0]; n++) {
        const real *dmean = dy.x + (size_t)n * (row + (size_t)D);
        real *to = dx.x + (size_t)n * row;
        memcpy(to, dmean + D, row * sizeof(real));
        for (int t = 0; t < T; t++)
            for (int j = 0; j < D; j++) to[(size_t)t * (size_t)D + (size_t)j] += dmean[j] / (real)T;
    }
}
