/* steps_build.c -- making, walking and measuring step lists; running them is steps.c. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "nn/steps.h"

void steps_begin(StepsBuilder *b, Steps *s, int room, int channels, Arena *weights, Status *status)
{
    *b = (StepsBuilder){ .steps = s, .arena = weights, .status = status, .room = room, .channels = channels };
    *s = (Steps){ .step = arena_take(weights, (size_t)room * sizeof(Step)) };
    if (!s->step) status_fail(status, E_MEMORY, "out of memory for %d steps", room);
}

char *steps_path(StepsBuilder *b, const char *format, ...)
{
    enum { ROOM = 160 };
    char *p = arena_take(b->arena, ROOM);
    if (!p) {
        status_fail(b->status, E_MEMORY, "out of memory for names");
        return NULL;
    }
    va_list ap;
    va_start(ap, format);
    vsnprintf(p, ROOM, format, ap);
    va_end(ap);
    return p;
}

static Step *append(StepsBuilder *b, StepKind kind, const char *path, int channels)
{
    Steps *s = b->steps;
    if (s->n == b->room) status_fail(b->status, E_OPTION, "more than %d steps", b->room);
    if (b->status->code != OK) return NULL;
    Step *step = &s->step[s->n++];
    memset(step, 0, sizeof *step);
    step->kind = kind;
    step->path = path;
    step->channels = b->channels = channels;
    step->pair = -1;
    return step;
}

void steps_conv(StepsBuilder *b, const char *path, const char *leaf, Conv conv)
{
    Step *s = append(b, STEP_CONV, path, conv.w.size[0]);
    if (!s) return;
    s->leaf = leaf;
    s->conv = conv;
}

void steps_up(StepsBuilder *b, const char *path, const char *leaf, Conv conv)
{
    Step *s = append(b, STEP_UP, path, conv.w.size[0]);
    if (!s) return;
    s->leaf = leaf;
    s->conv = conv;
    s->pair = b->skips ? b->skip[b->skips - 1] : -1;
}

void steps_res(StepsBuilder *b, const char *path, ResBlock block)
{
    const char *conv2 = steps_path(b, "%s.%s", path ? path : "", resblock_name(&block, 4));
    Step *s = append(b, STEP_RES, path, block.conv1.w.size[0]);
    if (!s) return;
    s->res = block;
    s->res.conv2_path = conv2;
}

void steps_spatial(StepsBuilder *b, const char *path, Spatial block)
{
    Step *s = append(b, STEP_SPATIAL, path, b->channels);
    if (s) s->spatial = block;
}

void steps_attention(StepsBuilder *b, const char *path, AttentionBlock block)
{
    Step *s = append(b, STEP_ATTENTION, path, b->channels);
    if (!s) return;
    s->attention = block;
    s->attention.attention.path = path;
}

void steps_norm(StepsBuilder *b, const char *path, Norm norm)
{
    Step *s = append(b, STEP_NORM, path, b->channels);
    if (s) s->norm = norm;
}

void steps_push(StepsBuilder *b)
{
    if (b->skips == SKIPS_MOST) status_fail(b->status, E_OPTION, "more than %d skip connections", SKIPS_MOST);
    if (append(b, STEP_PUSH, NULL, b->channels)) b->skip[b->skips++] = b->steps->n - 1;
}

int steps_next_skip(const StepsBuilder *b)
{
    return b->skips ? b->steps->step[b->skip[b->skips - 1]].channels : 0;
}

void steps_pop(StepsBuilder *b)
{
    if (!b->skips) {
        status_fail(b->status, E_OPTION, "no skip connection left to join");
        return;
    }
    Step *s = append(b, STEP_POP, NULL, b->channels + steps_next_skip(b));
    if (s) s->pair = b->skip[--b->skips];
}

void steps_ends(StepsBuilder *b, const char *path)
{
    if (b->status->code == OK && b->steps->n) b->steps->step[b->steps->n - 1].ends = path;
}

static void conv_step_walk(Step *s, Walk *w)
{
    if (!s->leaf) {
        conv_walk(&s->conv, w, s->path);
        return;
    }
    size_t before = walk_enter(w, s->path);
    conv_walk(&s->conv, w, s->leaf);
    walk_leave(w, before);
}

void step_walk(Step *s, Walk *w)
{
    if (s->kind == STEP_PUSH || s->kind == STEP_POP) return;
    if (s->kind == STEP_CONV || s->kind == STEP_UP) {
        conv_step_walk(s, w);
        return;
    }
    if (s->kind == STEP_NORM) {
        norm_walk(&s->norm, w, s->path);
        return;
    }
    size_t before = walk_enter(w, s->path);
    if (s->kind == STEP_RES)       resblock_walk(&s->res, w);
    if (s->kind == STEP_SPATIAL)   spatial_walk(&s->spatial, w);
    if (s->kind == STEP_ATTENTION) attention_block_walk(&s->attention, w);
    walk_leave(w, before);
}

void steps_walk(Steps *s, Walk *w)
{
    for (int i = 0; i < s->n; i++) step_walk(&s->step[i], w);
}

static bool shape_fails(Status *status, const Step *s, const char *what, int H, int W)
{
    status_fail(status, E_SHAPE, "%s: %s (%d x %d)", s->path ? s->path : "skip connection", what, H, W);
    return false;
}

bool steps_shapes(const Steps *list, Shape in, int first, Shape out[STEPS_MOST], Status *status)
{
    Shape x = in;
    for (int i = first; i < list->n; i++) {
        const Step *s = &list->step[i];
        Shape was = x, skip = s->pair >= 0 ? out[s->pair] : x;
        x.d[3] = s->channels;
        if (s->kind == STEP_CONV) {
            if (was.d[1] + s->conv.at.before + s->conv.at.after < s->conv.w.size[2] ||
                was.d[2] + s->conv.at.before + s->conv.at.after < s->conv.w.size[3])
                return shape_fails(status, s, "the map is too small", was.d[1], was.d[2]);
            x = conv2d_shape(was, SHAPE(s->conv.w.size[0], s->conv.w.size[2], s->conv.w.size[3], s->conv.w.size[1]), s->conv.at);
        }
        if (s->kind == STEP_RES) {
            if (!resblock_fits(&s->res, was)) return shape_fails(status, s, "sizes to halve are odd", was.d[1], was.d[2]);
            x = resblock_shape(&s->res, was);
        }
        if (s->kind == STEP_UP)
            for (int k = 1; k <= 2; k++) {
                x.d[k] = s->pair >= 0 ? skip.d[k] : 2 * was.d[k];
                if (x.d[k] != 2 * was.d[k] && x.d[k] != 2 * was.d[k] - 1)
                    return shape_fails(status, s, "doubling does not meet the size of the skip connection", skip.d[1], skip.d[2]);
            }
        if (s->kind == STEP_POP && (skip.d[1] != was.d[1] || skip.d[2] != was.d[2]))
            return shape_fails(status, s, "sizes to join differ", skip.d[1], skip.d[2]);
        out[i] = x;
    }
    return true;
}

int steps_plan(Steps *s, Shape in, int least)
{
    Shape out[STEPS_MOST];
    Status status = { OK, "" };                           /* a size that cannot be is the pass's to refuse */
    int lost = 0;
    if (!steps_shapes(s, in, 0, out, &status)) return 0;
    for (int i = 0; i < s->n; i++) {
        Step *p = &s->step[i];
        int H = out[i].d[1], W = out[i].d[2];
        if (p->kind == STEP_CONV || p->kind == STEP_UP) lost += conv_plan(&p->conv, H, W, least);
        if (p->kind == STEP_RES) lost += conv_plan(&p->res.conv1, H, W, least) + conv_plan(&p->res.conv2, H, W, least);
    }
    return lost;
}

static void attention_sites(const Attention *l, int queries, int keys, SiteVisit *visit, void *self)
{
    int width = l->q.w.size[0];
    visit(self, SITE_QUERY, l->path, SHAPE(1, queries, width));
    visit(self, SITE_KEY,   l->path, SHAPE(1, keys, width));
    visit(self, SITE_VALUE, l->path, SHAPE(1, keys, width));
    visit(self, SITE_PROBS, l->path, SHAPE(1, l->heads, queries, keys));
}

static void step_sites(const Step *s, Shape out, int tokens, SiteVisit *visit, void *self)
{
    int places = out.d[1] * out.d[2];
    if (s->kind == STEP_PUSH || s->kind == STEP_POP) return;
    if (s->kind == STEP_RES) visit(self, SITE_FEATURE, s->res.conv2_path, out);
    if (s->kind == STEP_ATTENTION) attention_sites(&s->attention.attention, places, places, visit, self);
    for (int i = 0; s->kind == STEP_SPATIAL && i < s->spatial.blocks; i++) {
        const SpatialBlock *b = &s->spatial.block[i];
        attention_sites(&b->attn1, places, b->cross_only ? tokens : places, visit, self);
        attention_sites(&b->attn2, places, tokens, visit, self);
    }
    visit(self, SITE_FEATURE, s->path, out);
    if (s->ends) visit(self, SITE_FEATURE, s->ends, out);
}

void steps_sites(const Steps *s, Shape in, int tokens, SiteVisit *visit, void *self)
{
    Shape out[STEPS_MOST];
    Status status = { OK, "" };
    in.d[0] = 1;
    if (!steps_shapes(s, in, 0, out, &status)) return;
    for (int i = 0; i < s->n; i++) step_sites(&s->step[i], out[i], tokens, visit, self);
}
