/* prompt2prompt_blend.c -- where to change a picture: the words' maps summed over the steps so far, pooled, cut, and used to
 * lay the edited latent over the source's. */
#include <string.h>
#include "guidance/maps.h"
#include "guidance/prompt2prompt.h"

bool prompt_blend(Run *r, PromptState *s, int queries, int h, int w)
{
    int mh, mw;
    if (!map_size(h, w, queries, &mh, &mw)) {
        run_fail(r, E_SHAPE, "prompt-to-prompt: attention with %d queries is no map of a %d x %d latent", queries, h, w);
        return false;
    }
    s->mask = tensor_in(r, r->run, SHAPE(h, w));
    s->mask_source = tensor_in(r, r->run, SHAPE(h, w));
    for (int side = 0; side < 2; side++) {
        s->sum[side] = tensor_in(r, r->run, SHAPE(mh, mw));
        tensor_zero(s->sum[side]);
        if (!s->apart[side].x) continue;
        s->sum_apart[side] = tensor_in(r, r->run, SHAPE(mh, mw));
        tensor_zero(s->sum_apart[side]);
    }
    return run_ok(r);
}

/* The mean over heads and sites is a sum here: a mask is cut at a part of its own maximum. */
static void accumulate(Run *r, Tensor sum, const View *v, const char *maps, Tensor words)
{
    const Sight *p;
    for (int k = 0; (p = view_see(v, SEE_PROBS, maps, k)); k++) {
        size_t n = (size_t)p->val.s.d[2], Q = tensor_count(sum), rows = (size_t)p->val.s.d[0] * (size_t)p->val.s.d[1];
        if ((size_t)p->val.s.d[1] != Q || n != tensor_count(words)) {
            run_fail(r, E_SHAPE, "prompt-to-prompt: %s is not of the blend's size", p->site);
            return;
        }
        for (size_t row = 0; row < rows; row++) {
            acc here = 0;
            for (size_t j = 0; j < n; j++) here += (acc)words.x[j] * (acc)p->val.x[row * n + j];
            sum.x[row % Q] += (real)here;
        }
    }
}

void prompt_after_pass(const Clock *c, Run *r, const View *now, const View *const *ref, void *state)
{
    PromptState *s = state;
    const View *view[2] = { ref[0], now };
    (void)c;
    if (!s->maps) return;
    while (view[1]->branch && strcmp(view[1]->branch, "cond")) view[1]++;
    for (int side = 0; side < 2 && run_ok(r); side++) {
        if (!view[side] || !view_see(view[side], SEE_PROBS, s->maps, 0)) {
            run_fail(r, E_OPTION, "prompt-to-prompt: no attention map matches %s", s->maps);
            return;
        }
        accumulate(r, s->sum[side], view[side], s->maps, s->words[side]);
        if (s->apart[side].x) accumulate(r, s->sum_apart[side], view[side], s->maps, s->apart[side]);
    }
}

static real pooled(Tensor a, int i, int j, int by)
{
    real most = a.x[i * a.s.d[1] + j];
    for (int y = i - by; y <= i + by; y++)
        for (int x = j - by; x <= j + by; x++)
            if (y >= 0 && x >= 0 && y < a.s.d[0] && x < a.s.d[1] && a.x[y * a.s.d[1] + x] > most) most = a.x[y * a.s.d[1] + x];
    return most;
}

/* mask = pool(map), nearest to the latent's size, over its maximum, above the threshold; or'ed with the source's when given. */
static void cut(Tensor mask, Tensor map, int by, double threshold, Tensor source)
{
    int H = mask.s.d[0], W = mask.s.d[1];
    for (int i = 0; i < H; i++)
        for (int j = 0; j < W; j++) mask.x[i * W + j] = pooled(map, i * map.s.d[0] / H, j * map.s.d[1] / W, by);
    real most = mask.x[0];
    for (int i = 1; i < H * W; i++)
        if (mask.x[i] > most) most = mask.x[i];
    for (int i = 0; i < H * W; i++) mask.x[i] = (double)(mask.x[i] / most) > threshold || (source.x && source.x[i] != 0);
}

void prompt_after_step(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state)
{
    PromptState *s = state;
    size_t mark = r->temp->used, plane = tensor_count(s->mask);
    if (!s->maps || c->i < s->start) return;
    Tensor away[2] = { temp(r, s->mask.s), temp(r, s->mask.s) };
    if (!run_ok(r)) return;
    cut(s->mask_source, s->sum[SIDE_SOURCE], 1, s->threshold, (Tensor){0});
    cut(s->mask, s->sum[SIDE_TARGET], 1, s->threshold, s->mask_source);
    if (s->apart[SIDE_SOURCE].x) {
        cut(away[0], s->sum_apart[SIDE_SOURCE], 0, s->threshold, (Tensor){0});
        cut(away[1], s->sum_apart[SIDE_TARGET], 0, s->threshold, away[0]);
        for (size_t i = 0; i < plane; i++) {
            s->mask_source.x[i] *= away[0].x[i] == 0;
            s->mask.x[i] *= away[1].x[i] == 0;
        }
    }
    for (size_t i = 0; i < tensor_count(z); i++) z.x[i] = zref[0].x[i] + s->mask.x[i % plane] * (z.x[i] - zref[0].x[i]);
    arena_release(r->temp, mark);
}

Tensor prompt_null_text(const Clock *c, void *state) { return ((const PromptState *)state)->null_text[c->i]; }
