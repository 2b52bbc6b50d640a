#include <string.h>
#include "guidance/prompt2prompt.h"

/* ---- alignment ---- */

enum { LEFT = 1, UP, PAIR };

void prompt_align(Run *r, int *source, const int *x, int nx, const int *y, int ny)
{
    size_t mark = r->temp->used, wide = (size_t)ny + 1;
    int *score = arena_take(r->temp, ((size_t)nx + 1) * wide * sizeof *score);
    char *from = arena_take(r->temp, ((size_t)nx + 1) * wide);
    if (!score || !from) {
        run_fail(r, E_MEMORY, "out of memory: alignment of %d with %d tokens", nx, ny);
        return;
    }
    for (int i = 0; i <= nx; i++)
        for (int j = 0; j <= ny; j++) {
            int *s = &score[(size_t)i * wide + (size_t)j];
            char *f = &from[(size_t)i * wide + (size_t)j];
            if (!i || !j) {
                *s = 0;
                *f = i ? UP : LEFT;
                continue;
            }
            int left = s[-1], up = s[-(ptrdiff_t)wide], pair = s[-(ptrdiff_t)wide - 1] + (x[i - 1] == y[j - 1] ? 1 : -1);
            *s = left >= up ? left : up;
            if (pair > *s) *s = pair;
            *f = *s == left ? LEFT : *s == up ? UP : PAIR;
        }
    for (int i = nx, j = ny; i > 0 || j > 0; ) {
        char f = from[(size_t)i * wide + (size_t)j];
        if (f != LEFT) i--;
        if (f != UP) source[--j] = f == PAIR ? i : -1;
    }
    arena_release(r->temp, mark);
}

void prompt_refine(Run *r, int *mapper, Tensor own, const int *x, int nx, const int *y, int ny)
{
    int n = (int)tensor_count(own);
    if (ny > n) ny = n;
    prompt_align(r, mapper, x, nx, y, ny);
    for (int j = 0; j < n && run_ok(r); j++) {
        if (j >= ny) mapper[j] = j;
        if (mapper[j] >= n) mapper[j] = -1;
        own.x[j] = mapper[j] < 0;
    }
}

/* Walks both prompts together; after the last word that differs the target's positions count for both. */
void prompt_replace(Tensor M, const WordSwap *swap, int swaps)
{
    int n = M.s.d[0], k = 0;
    tensor_zero(M);
    for (int i = 0, j = 0; i < n && j < n; ) {
        if (k == swaps || swap[k].s0 != i) {
            M.x[(k < swaps ? i : j) * n + j] = 1;
            i++;
            j++;
            continue;
        }
        const WordSwap *s = &swap[k++];
        int from = s->s1 - s->s0, to = s->d1 - s->d0;
        for (int a = 0; a < from; a++)
            for (int b = 0; b < to; b++) {
                if (s->s0 + a >= n || s->d0 + b >= n || (from == to && a != b)) continue;
                M.x[(s->s0 + a) * n + s->d0 + b] = from == to ? 1 : 1 / (real)to;
            }
        i += from;
        j += to;
    }
}

int prompt_swaps(Run *r, WordSwap *swap, int most, const PromptWords *source, const PromptWords *target)
{
    int n = 0;
    if (source->words != target->words) {
        run_fail(r, E_OPTION, "prompt-to-prompt: replacing needs as many words in both prompts; they have %d and %d", source->words, target->words);
        return 0;
    }
    for (int k = 0; k < source->words && n < most; k++) {
        if (!strcmp(source->word[k], target->word[k])) continue;
        swap[n] = (WordSwap){ source->span[k][0], source->span[k][1], target->span[k][0], target->span[k][1] };
        n += swap[n].s1 > swap[n].s0;
    }
    return n;
}

void prompt_window(Tensor alpha, int token, double from, double to)
{
    int rows = alpha.s.d[0], n = alpha.s.d[1], lo = (int)(from * rows), hi = (int)(to * rows);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < n; j++)
            if (token < 0 || token == j) alpha.x[i * n + j] = i >= lo && i < hi;
}

/* ---- writes ---- */

void prompt_matrix(Tensor M, const int *mapper, Tensor own)
{
    int n = M.s.d[0];
    tensor_zero(M);
    for (int j = 0; j < n; j++)
        if (mapper[j] >= 0 && mapper[j] < n) M.x[mapper[j] * n + j] = 1 - own.x[j];
}

static Tensor filled(Run *r, Tensor given, int n, real value)
{
    Tensor t = tensor_in(r, r->run, SHAPE(n));
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = given.x ? given.x[i] : value;
    return t;
}

bool prompt_edit(Run *r, PromptEdit *e, Tensor M, Tensor own, Tensor equalizer, Tensor alpha)
{
    int n = M.s.d[0], entries = 0, at = 0;
    if (M.s.d[1] != n || alpha.s.d[1] != n || (own.x && tensor_count(own) != (size_t)n) || (equalizer.x && tensor_count(equalizer) != (size_t)n)) {
        run_fail(r, E_SHAPE, "prompt-to-prompt: matrix, weights and schedule are not of one length");
        return false;
    }
    for (int i = 0; i < n * n; i++) entries += M.x[i] != 0;
    int *first = arena_take(r->run, ((size_t)n + 1) * sizeof *first), *row = arena_take(r->run, (size_t)(entries + 1) * sizeof *row);
    real *share = arena_take(r->run, (size_t)(entries + 1) * sizeof *share);
    *e = (PromptEdit){ n, first, row, share, filled(r, own, n, 0), filled(r, equalizer, n, 1), alpha };
    if (!first || !row || !share) run_fail(r, E_MEMORY, "out of memory: prompt-to-prompt");
    for (int j = 0; j < n && run_ok(r); j++) {
        first[j] = at;
        for (int i = 0; i < n; i++)
            if (M.x[i * n + j] != 0) {
                row[at] = i;
                share[at++] = M.x[i * n + j];
            }
        first[j + 1] = at;
    }
    return run_ok(r);
}

static const real *alpha_at(Run *r, const PromptEdit *e, const Clock *c, const char *site, Tensor val)
{
    if (c->i < e->alpha.s.d[0] && val.s.d[2] == e->tokens) return e->alpha.x + (size_t)c->i * (size_t)e->tokens;
    run_fail(r, E_SHAPE, "prompt-to-prompt: %s has %d tokens at step %d; the edit is for %d tokens and %d steps", site, val.s.d[2], c->i,
             e->tokens, e->alpha.s.d[0] - 1);
    return NULL;
}

static bool shown(Run *r, const char *site, Tensor val, const Sight *ref)
{
    if (ref && tensor_same(ref->val, val)) return true;
    run_fail(r, E_OPTION, "prompt-to-prompt: the source's run shows no attention of this size at %s", site);
    return false;
}

void prompt_put(const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state)
{
    const PromptEdit *e = w->par;
    const real *alpha = alpha_at(r, e, c, site, val);
    int n = e->tokens;
    (void)state;
    if (!alpha || !shown(r, site, val, ref)) return;
    for (size_t p = 0; p < tensor_count(val); p += (size_t)n)
        for (int j = 0; j < n; j++) {
            const real *P = ref->val.x + p;
            acc sum = (acc)e->own.x[j] * (acc)val.x[p + (size_t)j];
            for (int k = e->first[j]; k < e->first[j + 1]; k++) sum += (acc)P[e->row[k]] * (acc)e->share[k];
            val.x[p + (size_t)j] = (real)((acc)alpha[j] * (acc)e->equalizer.x[j] * sum + (1 - (acc)alpha[j]) * (acc)val.x[p + (size_t)j]);
        }
}

/* The source's map is a constant:  d out/d P = alpha eq own + 1 - alpha, token by token. */
void prompt_back(const Write *w, Run *r, const Clock *c, const char *site, Tensor adj, void *state)
{
    const PromptEdit *e = w->par;
    const real *alpha = alpha_at(r, e, c, site, adj);
    (void)state;
    for (size_t i = 0; alpha && i < tensor_count(adj); i++) {
        size_t j = i % (size_t)e->tokens;
        adj.x[i] *= alpha[j] * e->equalizer.x[j] * e->own.x[j] + 1 - alpha[j];
    }
}

void prompt_copy(const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state)
{
    (void)w; (void)c; (void)state;
    if (shown(r, site, val, ref)) tensor_copy(r, val, ref->val);
}

double prompt_between(const Clock *c, const double *par) { return c->i >= par[0] && c->i < par[1]; }

int prompt_writes(Write *write, const PromptEdit *e, const char *self_sites, int self_from, int self_to)
{
    int lo = e->alpha.s.d[0], hi = 0;
    for (int i = 0; i < e->alpha.s.d[0]; i++)
        for (int j = 0; j < e->tokens; j++)
            if (e->alpha.x[i * e->tokens + j] != 0) {
                if (i < lo) lo = i;
                hi = i + 1;
            }
    write[0] = (Write){ SEE_PROBS, "*.attn2", 0, prompt_put, prompt_back, e, prompt_between, { lo, hi } };
    write[1] = (Write){ SEE_PROBS, self_sites, 0, prompt_copy, NULL, NULL, prompt_between, { self_from, self_to } };
    return *self_sites ? 2 : 1;
}
