#include "guidance/maps.h"
#include "guidance/nulltext.h"
#include "guidance/prompt2prompt.h"

enum { CROSS, SELF, SELF_PIXELS, MODE, BLEND_AT, BLEND_FROM, BLEND_PIXELS, INNER, EARLY, SLOPE, RATE, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [CROSS]        = { "cross-replace",   0.8,  0, 1,    "tau",   "part of the steps whose cross-attention comes from the source" },
    [SELF]         = { "self-replace",    0.4,  0, 1,    "",      "part of the steps whose self-attention comes from the source" },
    [SELF_PIXELS]  = { "self-pixels",     1024, 0, 1e6,  "",      "self-attention maps of at most so many pixels" },
    [MODE]         = { "mode",            0,    0, 2,    "",      "1: swap word for word; 2: align the tokens; 0: swap where both prompts have as many words" },
    [BLEND_AT]     = { "blend-threshold", 0.3,  0, 1,    "k",     "local blend: part of the maximum above which a map counts" },
    [BLEND_FROM]   = { "blend-from",      0.2,  0, 1,    "",      "local blend: after this part of the steps" },
    [BLEND_PIXELS] = { "blend-pixels",    256,  1, 1e6,  "",      "local blend: from maps of about so many pixels" },
    [INNER]        = { "null-inner",      10,   0, 1000, "",      "photographs: most Adam steps on the unconditional text, a sampling step" },
    [EARLY]        = { "null-early",      1e-5, 0, 1e6,  "",      "photographs: stop below this loss" },
    [SLOPE]        = { "null-slope",      2e-5, 0, 1e6,  "",      "photographs: and let it rise by this much a sampling step" },
    [RATE]         = { "null-rate",       0.01, 0, 10,   "eta",   "photographs: Adam's learning rate, times 1 - i/100 at step i" },
};

enum { MOST_SWAPS = 80 };
typedef struct {
    PromptState state;
    PromptEdit edit;
    Write write[2];
    Branch branch[4];
    Reference reference;
    Want remember;
} Swap;

/* M and own of the two prompts. */
static void relate(Run *r, const MethodInput *in, Tensor M, Tensor own)
{
    const PromptWords *a = &in->source_words, *b = &in->words;
    int mode = (int)in->number[MODE];
    if (!a->id) a = b;
    if (!b->id) {
        run_fail(r, E_OPTION, "prompt-to-prompt: there is no prompt");
        return;
    }
    size_t mark = r->temp->used;
    tensor_zero(own);
    if (mode == 1 || (mode == 0 && a->words == b->words)) {
        WordSwap swap[MOST_SWAPS];
        int n = prompt_swaps(r, swap, MOST_SWAPS, a, b);
        prompt_replace(M, swap, n);
    } else {
        int *mapper = arena_take(r->temp, tensor_count(own) * sizeof *mapper);
        if (!mapper) run_fail(r, E_MEMORY, "out of memory: prompt-to-prompt");
        else prompt_refine(r, mapper, own, a->id, a->ids, b->id, b->ids);
        if (run_ok(r)) prompt_matrix(M, mapper, own);
    }
    arena_release(r->temp, mark);
}

static void reweight(Tensor eq, const MethodInput *in)
{
    for (size_t i = 0; i < tensor_count(eq); i++) eq.x[i] = 1;
    for (int k = 0; k < in->edits; k++) {
        const Object *o = &in->object[in->edit[k].object];
        for (int i = 0; i < o->tokens && in->edit[k].kind == EDIT_REWEIGHT; i++)
            if (o->token[i] < (int)tensor_count(eq)) eq.x[o->token[i]] = (real)in->edit[k].x;
    }
}

/* A word's own window takes the place of the common one. */
static void windows(Tensor alpha, const MethodInput *in)
{
    prompt_window(alpha, -1, 0, in->number[CROSS]);
    for (int k = 0; k < in->edits; k++) {
        const Object *o = &in->object[in->edit[k].object];
        for (int i = 0; i < o->tokens && in->edit[k].kind == EDIT_WINDOW; i++)
            if (o->token[i] < alpha.s.d[1]) prompt_window(alpha, o->token[i], in->edit[k].x, in->edit[k].y);
    }
}

static void mark_words(Tensor words, const int *token, int tokens)
{
    for (int i = 0; i < tokens; i++)
        if (token[i] < (int)tensor_count(words)) words.x[token[i]] = 1;
}

/* The tokens of all words of one kind of edit, on both sides; false: there are none, and `words` is left alone. */
static bool words_of_kind(Run *r, Tensor words[2], const MethodInput *in, EditKind kind, int tokens)
{
    bool any = false;
    for (int k = 0; k < in->edits && run_ok(r); k++) {
        const Object *o = &in->object[in->edit[k].object];
        if (in->edit[k].kind != kind) continue;
        for (int side = 0; side < 2 && !any; side++) {
            words[side] = tensor_in(r, r->run, SHAPE(tokens));
            tensor_zero(words[side]);
        }
        any = true;
        if (!run_ok(r)) return false;
        mark_words(words[SIDE_TARGET], o->token, o->tokens);
        mark_words(words[SIDE_SOURCE], o->source, o->sources);
    }
    return any;
}

static void add_blend(Run *r, Method *m, Swap *s, const MethodInput *in, int tokens)
{
    bool apart = words_of_kind(r, s->state.apart, in, EDIT_APART, tokens);
    if (!words_of_kind(r, s->state.words, in, EDIT_BLEND, tokens)) {
        if (apart) run_fail(r, E_OPTION, "prompt-to-prompt: words to leave alone belong to words to blend");
        return;
    }
    int queries = map_queries(in->unet, in->h, in->w, "*.attn2", (int)in->number[BLEND_PIXELS]);
    s->state.maps = map_sites(r, in->unet, in->h, in->w, "*.attn2", queries, queries);
    s->state.start = (int)(in->number[BLEND_FROM] * in->schedule->n);
    s->state.threshold = in->number[BLEND_AT];
    if (!prompt_blend(r, &s->state, queries, in->h, in->w)) return;
    s->remember = (Want){ SEE_PROBS, s->state.maps };
    m->remember = &s->remember;
    m->remembers = 1;
    m->after_pass = prompt_after_pass;
    m->after_step = prompt_after_step;
}

static void lasts(void *state, const Keeper *k)
{
    const PromptState *s = state;
    for (int side = 0; side < 2; side++) {
        guide_keep(k, s->sum[side]);
        guide_keep(k, s->sum_apart[side]);
    }
}

static bool build(Run *r, Method *m, const MethodInput *in)
{
    Swap *s = arena_take(r->run, sizeof *s);
    int tokens = in->cond.s.d[0], n = in->schedule->n;
    Tensor M = tensor_in(r, r->run, SHAPE(tokens, tokens)), own = tensor_in(r, r->run, SHAPE(tokens)), eq = tensor_in(r, r->run, SHAPE(tokens));
    Tensor alpha = tensor_in(r, r->run, SHAPE(n + 1, tokens));
    if (!s) run_fail(r, E_MEMORY, "out of memory: prompt-to-prompt");
    if (!run_ok(r)) return false;
    *s = (Swap){ .state = { .null_text = in->null_text } };
    relate(r, in, M, own);
    reweight(eq, in);
    if (run_ok(r)) windows(alpha, in);
    if (!run_ok(r) || !prompt_edit(r, &s->edit, M, own, eq, alpha)) return false;
    const char *sites = map_sites(r, in->unet, in->h, in->w, "*.attn1", 1, (int)in->number[SELF_PIXELS]);
    int writes = prompt_writes(s->write, &s->edit, sites, 0, (int)(in->number[SELF] * n));

    Branch *b = s->branch;
    b[0] = b[2] = (Branch){ .name = "uncond", .context = in->uncond, .context_at = in->null_text ? prompt_null_text : NULL,
                            .mix = mix_uncond, .par = { in->scale } };
    b[1] = b[3] = (Branch){ .name = "cond", .context = in->cond, .mix = mix_cond, .par = { in->scale }, .watch = true };
    if (in->source.x) b[3].context = in->source;
    b[1].write = s->write;
    b[1].writes = writes;
    s->reference = (Reference){ REFERENCE_LOCKSTEP, b + 2, 2, {0}, NULL, NULL };
    *m = (Method){ .name = "prompt-to-prompt", .reference = &s->reference, .references = 1, .branch = b, .branches = 2, .lasts = lasts, .state = &s->state };
    add_blend(r, m, s, in, tokens);
    return run_ok(r);
}

static bool invert(Run *r, const Guide *g, const MethodInput *in, Tensor *stored, Tensor *null_text, bool *with_null)
{
    const double *v = in->number;
    NullTextOptions o = { (int)v[INNER], v[EARLY], v[SLOPE], v[RATE], in->scale };
    *with_null = true;
    return nulltext_invert(r, g, in->uncond, in->source.x ? in->source : in->cond, stored, null_text, o);
}

const MethodInfo method_prompt2prompt = {
    "prompt-to-prompt", "Prompt-to-Prompt", "Hertz et al., arXiv 2208.01626; Mokady et al., arXiv 2211.09794",
    "change, add or weigh words of a prompt and keep the picture's layout",
    "P <- alpha eq (P* M + own P) + (1 - alpha) P in cross-attention;  P <- P* in self-attention;  z <- z* + mask (z - z*)",
    "tiller edit --method prompt-to-prompt --source-prompt \"a photo of a cat on grass\" --prompt \"a photo of a dog on grass\"",
    option, OPTIONS, NEED_SOURCE | NEED_INVERSION | READS(EDIT_REWEIGHT) | READS(EDIT_BLEND) | READS(EDIT_APART) | READS(EDIT_WINDOW), false, build, invert,
};
