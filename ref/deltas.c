#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/deltas.h"
#include "ref/words.h"

static void numbers_of(double *to, int n, const char *text, const char *option, Status *s)
{
    const char *p = text;
    for (int i = 0; i < n && s->code == OK; i++) {
        char *end;
        to[i] = strtod(p, &end);
        bool last = i + 1 == n;
        if (end == p || !isfinite(to[i]) || *end != (last ? 0 : ',')) status_fail(s, E_OPTION, "--%s: %d number%s with commas between, found \"%.80s\"", option, n, n > 1 ? "s" : "", text);
        p = end + 1;
    }
}

bool deltas_read(Deltas *d, const DeltaOptions *o, Arena *a, Status *s)
{
    *d = (Deltas){ .from = (double)NAN };
    for (int i = 0; i < o->delta.n && s->code == OK; i++)
        for (const char *p = o->delta.text[i]; *p && s->code == OK; p += strcspn(p, ","), p += *p == ',') {
            if (d->n == ASYRP_DELTAS) status_fail(s, E_OPTION, "--delta: more than %d blocks", ASYRP_DELTAS);
            else if (!(d->file[d->n] = text_copy(a, p, strcspn(p, ",")))) status_fail(s, E_MEMORY, "out of memory: names");
            else d->weight[d->n++] = 1;
        }
    if (s->code != OK) return false;
    if (o->weights && !d->n) status_fail(s, E_OPTION, "--weights is about the blocks of --delta");
    if (o->weights) numbers_of(d->weight, d->n, o->weights, "weights", s);
    double ends[2];
    if (o->gradual) {
        numbers_of(ends, 2, o->gradual, "gradual", s);
        d->from = ends[0], d->to = ends[1];
    }
    for (int k = 0; k < d->n && s->code == OK; k++) {
        d->told[k] = train_about(d->about[k], d->file[k]);
        if (d->told[k]) d->train_steps = (int)d->about[k][0];
    }
    return s->code == OK;
}

bool deltas_interval(int *t_edit, int *t_boost, const Deltas *d, const DeltaOptions *o, Status *s)
{
    int best = -1;
    for (int k = 0; k < d->n; k++)
        if (d->told[k] && (best < 0 || d->about[k][3] > d->about[best][3])) best = k;
    if (o->dataset) {
        if (isnan(o->similarity) && best < 0) status_fail(s, E_OPTION, "--dataset: no block says how alike its texts are; --similarity gives the cosine of their CLIP features");
        return s->code == OK && asyrp_interval(t_edit, t_boost, o->dataset, isnan(o->similarity) ? d->about[best][3] : o->similarity, s);
    }
    if (best < 0) return false;
    *t_edit = (int)d->about[best][1];
    *t_boost = (int)d->about[best][2];
    return true;
}

bool deltas_load(Deltas *d, const Unet *u, int H, int W, Arena *a, Status *s)
{
    Shape h = unet_h_shape(u, 1, H, W);
    for (int k = 0; k < d->n && s->code == OK; k++) {
        Delta *b = &d->block[k];
        d->given[k] = b;
        if (!delta_load(b, d->file[k], u->config.groups, a, s)) return false;
        const DeltaConfig *c = &b->config;
        if (c->kind == DELTA_TABLE && (b->table.s.d[1] != h.d[1] || b->table.s.d[2] != h.d[2] || b->table.s.d[3] != h.d[3]))
            status_fail(s, E_FORMAT, "%.300s: a delta [%d,%d,%d], this model's middle block gives [%d,%d,%d]", d->file[k], b->table.s.d[1], b->table.s.d[2], b->table.s.d[3],
                        h.d[1], h.d[2], h.d[3]);
        else if (c->kind != DELTA_TABLE && (c->channels != h.d[1] || c->temb != 4 * u->wave))
            status_fail(s, E_FORMAT, "%.300s: a block of [%d,%d] with a time embedding of %d, this model wants [%d,%d] and %d", d->file[k], c->channels, c->channels, c->temb,
                        h.d[1], h.d[1], 4 * u->wave);
    }
    return s->code == OK;
}
