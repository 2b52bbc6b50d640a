/* Prompt-to-Prompt: alignment alone, and whole runs with their first maps and last masks. */
#include <string.h>
#include "guidance/maps.h"
#include "guidance/prompt2prompt.h"
#include "ref/conform_edit.h"

/* ---- alignment ---- */

static WordSwap *swaps(Case *c, const Json *spans, int *n)
{
    const Json *s = json_get(spans, "source"), *d = json_get(spans, "target");
    WordSwap *swap = arena_take(c->run.run, (size_t)((s ? s->count : 0) + 1) * sizeof *swap);
    *n = 0;
    if (!swap || !s || !d || s->count != d->count) {
        run_fail(&c->run, E_FORMAT, "%s: params.replace_spans: expected source and target, of one length", c->file);
        return swap;
    }
    for (const Json *a = s->child, *b = d->child; a && b; a = a->next, b = b->next, ++*n) {
        int from = 0, to = 0;
        if (!json_int(a->child, &from) || !json_int(b->child, &to)) run_fail(&c->run, E_FORMAT, "%s: params.replace_spans: expected positions", c->file);
        swap[*n] = (WordSwap){ from, from + a->count, to, to + b->count };
    }
    return swap;
}

static void align_pair(Case *c, int k)
{
    Shape xs, ys, ms = {0};
    const int *x = case_ids(c, case_name(c, "in.source_ids.%d", k), &xs), *y = case_ids(c, case_name(c, "in.target_ids.%d", k), &ys);
    const SafeEntry *e = safetensors_find(&c->tensors, case_name(c, "out.refine_mapper.%d", k));
    if (!run_ok(&c->run) || !e || !safetensors_shape(e, &ms)) return;
    int n = ms.d[0];
    Tensor own = case_new(c, ms), map = case_new(c, ms);
    int *mapper = arena_take(c->run.run, (size_t)n * sizeof *mapper);
    if (!mapper || !run_ok(&c->run)) return;
    prompt_refine(&c->run, mapper, own, x, xs.d[0], y, ys.d[0]);
    for (int i = 0; i < n; i++) {
        map.x[i] = (real)mapper[i];
        own.x[i] = 1 - own.x[i];
    }
    judge(c, case_name(c, "out.refine_mapper.%d", k), map);
    judge(c, case_name(c, "out.refine_alpha.%d", k), own);
}

void conform_prompt_align(Case *c)
{
    int pairs = case_int(c, "pairs", 0), k = 0;
    for (int i = 0; i < pairs && run_ok(&c->run); i++) align_pair(c, i);
    const Json *list = json_get(c->params, "replace_spans");
    for (const Json *j = list ? list->child : NULL; j && run_ok(&c->run); j = j->next, k++) {
        Shape s;
        const char *name = case_name(c, "out.replace_mapper.%d", k);
        const SafeEntry *e = safetensors_find(&c->tensors, name);
        int n;
        WordSwap *swap = swaps(c, j, &n);
        if (!e || !safetensors_shape(e, &s) || !run_ok(&c->run)) continue;
        Tensor M = case_new(c, s);
        if (M.x) prompt_replace(M, swap, n);
        judge(c, name, M);
    }
}

/* ---- whole runs ---- */

typedef struct {
    PromptState state;                                    /* first: the hooks' state */
    PromptEdit edit;
    Write write[2];
    Branch branch[4];
    Reference reference;
    Tensor track;                                         /* the source's latents */
    bool blends;
} Swapping;

/* The matrix of target k: given whole, as a list of sources with their weights, or the identity. */
static bool edit_of(Case *c, Swapping *w, int k, Tensor alpha)
{
    Run *r = &c->run;
    int n = alpha.s.d[1];
    Shape s;
    const SafeEntry *e = safetensors_find(&c->tensors, "in.mapper");
    Tensor M = case_new(c, SHAPE(n, n)), own = case_new(c, SHAPE(n)), eq = {0};
    int *mapper = arena_take(r->run, (size_t)n * sizeof *mapper);
    if (!mapper || !run_ok(r)) return false;
    tensor_zero(own);
    for (int i = 0; i < n; i++) mapper[i] = i;
    if (e && safetensors_shape(e, &s) && shape_rank(s) == 3) tensor_copy(r, M, tensor_row(case_in(c, "in.mapper"), k));
    else {
        const int *ids = e ? case_ids(c, "in.mapper", &s) : NULL;
        Tensor keeps = e ? tensor_row(case_in(c, "in.refine_alpha"), k) : (Tensor){0};
        for (int i = 0; i < n && ids && keeps.x; i++) {
            mapper[i] = ids[k * n + i];
            own.x[i] = 1 - keeps.x[i];
        }
        prompt_matrix(M, mapper, own);
    }
    if (case_has(c, "in.equalizer")) eq = tensor_row(case_in(c, "in.equalizer"), k);
    return run_ok(r) && prompt_edit(r, &w->edit, M, own, eq, alpha);
}

/* alpha [n+1,targets,tokens] of one target. */
static Tensor alpha_of(Case *c, int k)
{
    Tensor all = case_in(c, "in.alpha_time");
    int rows = all.s.d[0], targets = all.s.d[1], n = all.s.d[2];
    Tensor alpha = all.x ? case_new(c, SHAPE(rows, n)) : (Tensor){0};
    for (int i = 0; i < rows && alpha.x; i++) tensor_copy(&c->run, tensor_row(alpha, i), tensor_row(tensor_row(all, i), k));
    (void)targets;
    return alpha;
}

static void blend_of(Stage *s, Swapping *w, int k, Tensor z)
{
    Case *c = s->c;
    w->blends = case_has(c, "in.blend_words");
    if (!w->blends) return;
    Tensor words = case_in(c, "in.blend_words"), apart = case_has(c, "in.blend_words_sub") ? case_in(c, "in.blend_words_sub") : (Tensor){0};
    PromptState *p = &w->state;
    p->maps = case_sites(c, "blend_layers", "");
    p->start = case_int(c, "blend_start", 0);
    p->threshold = case_real(c, "blend_threshold", 0.3);
    for (int side = 0; side < 2 && run_ok(&c->run); side++) {
        p->words[side] = tensor_row(words, side ? 1 + k : 0);
        if (apart.x) p->apart[side] = tensor_row(apart, side ? 1 + k : 0);
    }
    Branch b = w->branch[3];
    Lane l = lane_make(&b, NULL);
    l.z = z;
    Clock clock = guide_clock(&s->schedule, 0);
    guide_observe(&c->run, &s->g, &l, &clock, &(Want){ SEE_PROBS, p->maps }, 1, NULL, false, false);
    const Sight *first = view_see(&l.view, SEE_PROBS, p->maps, 0);
    if (first) prompt_blend(&c->run, p, first->val.s.d[1], z.s.d[1], z.s.d[2]);
    else run_fail(&c->run, E_FORMAT, "%s: params.blend_layers: no such site", c->file);
    arena_release(c->run.step, 0);
}

static void after_step(const Clock *c, Run *r, Tensor z, const Tensor *zref, void *state)
{
    Swapping *w = state;
    tensor_copy(r, tensor_row(w->track, c->i + 1), zref[0]);
    if (w->blends) prompt_after_step(c, r, z, zref, state);
}

/* The passes of the first step: rows of [uncond x B; source, targets]. */
typedef struct { Tensor eps, cross, self; const char *at_cross, *at_self; int rows; } FirstSeen;

static void first_row(Stage *s, FirstSeen *f, Lane *l, int row, const View *ref, Tensor z)
{
    Run *r = &s->c->run;
    Clock clock = guide_clock(&s->schedule, 0);
    Want want[2] = { { SEE_PROBS, "*.attn1" }, { SEE_PROBS, "*.attn2" } };
    const View *refs[1] = { ref };
    l->z = z;
    guide_observe(r, &s->g, l, &clock, want, 2, refs, false, true);
    if (!run_ok(r)) return;
    const Sight *see[2] = { view_see(&l->view, SEE_PROBS, f->at_cross, 0), view_see(&l->view, SEE_PROBS, f->at_self, 0) };
    Tensor *to[2] = { &f->cross, &f->self };
    tensor_copy(r, tensor_row(f->eps, f->rows + row), l->eps);
    for (int k = 0; k < 2 && see[k]; k++) {
        Shape p = see[k]->val.s;
        if (!to[k]->x) *to[k] = case_new(s->c, SHAPE(f->rows, p.d[0], p.d[1], p.d[2]));
        tensor_copy(r, tensor_row(*to[k], row), see[k]->val);
    }
}

static void first_seen(Stage *s, FirstSeen *f, const Swapping *w, int k, Tensor z)
{
    Run *r = &s->c->run;
    Clock clock = guide_clock(&s->schedule, 0);
    Lane source = lane_make(&w->branch[3], NULL), target = lane_make(&w->branch[1], NULL), none = lane_make(&w->branch[0], NULL);
    none.z = z;
    first_row(s, f, &source, 0, NULL, z);
    first_row(s, f, &target, 1 + k, &source.view, z);
    guide_observe(r, &s->g, &none, &clock, NULL, 0, NULL, false, true);
    for (int i = 0; i < f->rows && run_ok(r); i++) tensor_copy(r, tensor_row(f->eps, i), none.eps);
    arena_release(r->step, 0);
    case_pass(s->c);
}

/* One target against the source, as the method does it. */
static bool run_target(Stage *s, Swapping *w, FirstSeen *f, int k, Tensor start)
{
    Case *c = s->c;
    Run *r = &c->run;
    double scale = case_real(c, "guidance_scale", 7.5);
    Tensor cond = case_in(c, "in.ctx_cond");
    if (!run_ok(r) || !edit_of(c, w, k, alpha_of(c, k))) return false;
    const Json *window = json_get(c->params, "self_replace");
    int lo = 0, hi = 0, most = case_int(c, "self_max_pixels", 0);
    if (window && window->child) json_int(window->child, &lo);
    if (window && window->child) json_int(window->child->next, &hi);
    const char *sites = map_sites(r, &s->unet, start.s.d[1], start.s.d[2], "*.attn1", 1, most);
    int writes = prompt_writes(w->write, &w->edit, sites, lo, hi);
    w->branch[0] = w->branch[2] = (Branch){ .name = "uncond", .context = case_one(c, "in.ctx_uncond"), .mix = mix_uncond, .par = { scale } };
    w->branch[1] = w->branch[3] = (Branch){ .name = "cond", .context = tensor_row(cond, 1 + k), .mix = mix_cond, .par = { scale }, .watch = true };
    w->branch[3].context = tensor_row(cond, 0);
    w->branch[1].write = w->write;
    w->branch[1].writes = writes;
    w->reference = (Reference){ REFERENCE_LOCKSTEP, w->branch + 2, 2, {0}, NULL, NULL };
    blend_of(s, w, k, start);
    Want maps = { SEE_PROBS, w->state.maps };
    Method m = { .name = "prompt-to-prompt", .reference = &w->reference, .references = 1, .branch = w->branch, .branches = 2,
                 .remember = w->blends ? &maps : NULL, .remembers = w->blends, .after_pass = w->blends ? prompt_after_pass : NULL,
                 .after_step = after_step, .state = w };
    first_seen(s, f, w, k, start);
    Tensor z = stage_latents(s, start);
    w->track = case_new(c, s->latents.s);
    if (run_ok(r)) tensor_copy(r, tensor_row(w->track, 0), start);
    guide_sample(r, &s->g, &(Guidance){ &m, 1 }, z);
    return run_ok(r);
}

void conform_prompt_loop(Case *c)
{
    Stage s;
    Run *r = &c->run;
    if (!stage_open(c, &s, case_int(c, "num_steps", 0))) return;
    Tensor start = case_one(c, "in.latent"), cond = case_in(c, "in.ctx_cond");
    if (!run_ok(r)) return;
    int B = cond.s.d[0], n = s.schedule.n, plane = start.s.d[1] * start.s.d[2], one = plane * start.s.d[0];
    double *latents = case_doubles(c, (n + 1) * B * one);
    Tensor mask = case_new(c, SHAPE(B, plane));
    FirstSeen f = { .eps = case_new(c, SHAPE(2 * B, start.s.d[0], start.s.d[1], start.s.d[2])), .rows = B,
                    .at_cross = case_text(c, "probe_cross", ""), .at_self = case_text(c, "probe_self", "") };
    for (int k = 0; k < B - 1 && run_ok(r); k++) {
        Swapping w;
        memset(&w, 0, sizeof w);
        if (!run_target(&s, &w, &f, k, start)) return;
        for (int i = 0; i <= n; i++)
            for (int j = 0; j < one; j++) {
                latents[(i * B + 1 + k) * one + j] = (double)s.latents.x[i * one + j];
                if (!k) latents[i * B * one + j] = (double)w.track.x[i * one + j];
            }
        for (int j = 0; j < plane && w.blends; j++) {
            mask.x[(1 + k) * plane + j] = w.state.mask.x[j];
            mask.x[j] = w.state.mask_source.x[j];
        }
    }
    judge_as(c, "mid.noise_first", f.eps);
    judge_as(c, "mid.cross_probs_first", f.cross);
    judge_as(c, "mid.self_probs_first", f.self);
    if (case_has(c, "mid.mask_last")) judge_as(c, "mid.mask_last", mask);
    judge_doubles(c, "out.latents", SHAPE((n + 1) * B, start.s.d[0], start.s.d[1], start.s.d[2]), latents);
}
