/* engine_memory.c -- what lasts from one step of a run to the next, shown to whoever keeps it; and where a number first stopped being one. */
#include <stdio.h>
#include <string.h>
#include "guidance/engine.h"
#include "tensor/point.h"

void guide_keep(const Keeper *k, Tensor t)
{
    if (t.x) k->part(k->self, t.x, tensor_count(t) * sizeof *t.x);
}

void guide_memory(GuideMemory *memory, const Keeper *k)
{
    Engine *e = memory->engine;
    guide_keep(k, e->z);
    for (int j = 0; j < e->refs; j++) guide_keep(k, e->ref[j].z);
    for (int i = 0; i < e->methods->parts; i++)
        if (e->methods->part[i].lasts) e->methods->part[i].lasts(e->methods->part[i].state, k);
}

/* ---- NaN and infinity ---- */

static const char *const see_name[] = { "attention", "queries", "keys", "values", "output", "time", "eps", "x0", "next latent", "latent" };

static bool bad_sight(char *to, size_t room, const View *v, bool gradient)
{
    for (int i = 0; i < v->sights; i++) {
        const Sight *s = &v->sight[i];
        Tensor t = gradient ? s->adj : s->val;
        if (!t.x || !count_nonfinite(t)) continue;
        snprintf(to, room, "%s%s%s%s of branch %s", gradient ? "the gradient at the " : "the ", see_name[s->kind], *s->site ? " of " : "", s->site, v->branch);
        return true;
    }
    return false;
}

/* What the passes of this step showed; then, from the latent before it, every block of the first branch whose prediction is none. */
static void first_place(Engine *e, const Clock *c, char *to, size_t room)
{
    snprintf(to, room, "the step itself");
    for (int k = 0; k < e->lanes; k++)
        if (bad_sight(to, room, &e->lane[k].view, false)) return;
    for (int k = 0; k < e->lanes; k++) {
        Lane *l = &e->lane[k];
        Wants w = {0};
        if (!l->eps.x || !count_nonfinite(l->eps)) continue;
        snprintf(to, room, "the prediction of branch %s", l->b.name);
        tensor_copy(e->r, e->z, e->before);
        if (e->own_z) tensor_copy(e->r, l->z, e->before);
        wants_add(e, &w, SEE_FEATURE, "*");
        engine_see(e, l, c, &w, false, true);
        bad_sight(to, room, &l->view, false);
        return;
    }
    for (int k = 0; k < e->lanes; k++)
        if (bad_sight(to, room, &e->lane[k].view, true)) return;
}

void engine_finite(Engine *e, const Clock *c)
{
    char where[300];
    size_t bad = run_ok(e->r) ? count_nonfinite(e->z) : 0;
    if (!bad) return;
    first_place(e, c, where, sizeof where);
    run_fail(e->r, E_NUMBER, "%zu numbers of the latent are not finite after step %d of %d (t %d); first seen in %s", bad, c->i + 1, c->n, c->t, where);
}
