/* selfguide_build.c -- the edits of self-guidance as weighted sums of its four energies (section 3.2 of the paper):
 *
 *     move k      w_shape shape(O without k) + w_appearance appearance(O) + w_moved shape(k; shifted) + w_centroid centroid(k)
 *     resize k    w_shape shape(O without k) + w_appearance appearance(O) + w_moved shape(k; scaled)  + w_size size(k)
 *                 (and ours: w_keep_size size(k) of what is moved, w_keep_centroid centroid(k) of what is resized)
 *     layout      shape(O)           appearance     appearance(O)
 *     insert k    w_insert appearance(k) of a picture of its own          collage k   w_collage shape(k), w_appearance appearance(k) of one */
#include <stdio.h>
#include <string.h>
#include "guidance/selfguide.h"

enum { W_SHAPE, W_APPEARANCE, W_MOVED, W_CENTROID, W_SIZE, W_KEEP_SIZE, W_KEEP_CENTROID, W_INSERT, W_COLLAGE, STRENGTH, UNTIL, SHARP, SQUARED, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [W_SHAPE]      = { "w-shape",      1.5,  0, 1e6, "w", "weight of keeping the other objects' shapes" },
    [W_APPEARANCE] = { "w-appearance", 0.25, 0, 1e6, "w", "weight of keeping every object's look" },
    [W_MOVED]      = { "w-moved",      2,    0, 1e6, "w", "weight of the edited object's shape at its new place or size" },
    [W_CENTROID]   = { "w-centroid",   1,    0, 1e6, "w", "weight of the moved object's centroid" },
    [W_SIZE]       = { "w-size",       1,    0, 1e6, "w", "weight of the resized object's size" },
    [W_KEEP_SIZE]  = { "w-keep-size",  0,    0, 1e6, "w", "weight of keeping a moved object's size" },
    [W_KEEP_CENTROID] = { "w-keep-centroid", 0, 0, 1e6, "w", "weight of keeping a resized object's centroid" },
    [W_INSERT]     = { "w-insert",     1,    0, 1e6, "w", "weight of the look of an object from a picture of its own" },
    [W_COLLAGE]    = { "w-collage",    1,    0, 1e6, "w", "weight of the shape of an object from a picture of its own" },
    [STRENGTH]     = { "strength",     7500, 0, 1e7, "v", "guidance strength: eps += v sigma gradient" },
    [UNTIL]        = { "until",        0,    0, 1,   "",  "guide every step of this first part; 0: the paper's schedule" },
    [SHARP]        = { "sharpness",    10,   0.1, 1000, "S", "steepness of the soft mask" },
    [SQUARED]      = { "squared",      0,    0, 1,   "",  "squared differences in place of absolute ones" },
};


enum { MOST_ENERGIES = 64 };
typedef struct { Energy energy[MOST_ENERGIES]; SelfTerm term[MOST_ENERGIES]; int n; char features[32]; } Terms;

static const Want want_maps[] = { { SEE_PROBS, "up_blocks.*.attn2" } };

static SelfTerm *add_term(Run *r, Terms *t, const char *name, const MethodInput *in, double weight,
                          acc (*eval)(const Energy *, Run *, View *, const View *, acc, void *), const Want *want, int wants)
{
    if (t->n == MOST_ENERGIES) {
        run_fail(r, E_OPTION, "self-guidance: too many edits in one run (%d terms)", MOST_ENERGIES);
        return NULL;
    }
    SelfTerm *term = &t->term[t->n];
    *term = self_term("up_blocks.*.attn2", t->features);
    term->sharp = in->number[SHARP];
    term->squared = in->number[SQUARED] != 0;
    t->energy[t->n++] = (Energy){ name, want, wants, NULL, 0, eval, term, weight };
    return term;
}

static void add_object(SelfTerm *t, const Object *o)
{
    for (int i = 0; t && i < o->tokens && t->tokens < SELF_TOKENS; i++) {
        t->token[t->tokens] = o->token[i];
        t->source[t->tokens++] = i < o->sources ? o->source[i] : o->source[0];
    }
}

static bool edited(const MethodInput *in, int object)
{
    for (int i = 0; i < in->edits; i++)
        if (in->edit[i].object == object && (in->edit[i].kind == EDIT_MOVE || in->edit[i].kind == EDIT_RESIZE)) return true;
    return false;
}

static void add_edit(Run *r, Terms *t, const MethodInput *in, const ObjectEdit *e)
{
    const Object *o = &in->object[e->object];
    const double *w = in->number;
    SelfTerm *s = add_term(r, t, "moved", in, w[W_MOVED], self_shape, want_maps, 1);
    if (!s) return;
    add_object(s, o);
    s->warped = true;
    s->warp = e->kind == EDIT_MOVE ? (Warp){ e->x, e->y, 1, 1 } : (Warp){ 0, 0, e->x, e->y };
    s = add_term(r, t, "centroid", in, w[e->kind == EDIT_MOVE ? W_CENTROID : W_KEEP_CENTROID], self_centroid, want_maps, 1);
    if (!s) return;
    s->relative = true;
    s->x = e->kind == EDIT_MOVE ? e->x : 0;
    s->y = e->kind == EDIT_MOVE ? e->y : 0;
    add_object(s, o);
    s = add_term(r, t, "size", in, w[e->kind == EDIT_MOVE ? W_KEEP_SIZE : W_SIZE], self_size, want_maps, 1);
    if (!s) return;
    s->relative = true;
    s->mul = e->kind == EDIT_MOVE ? 1 : e->x * e->y;
    add_object(s, o);
}

static bool of_own_picture(const MethodInput *in, int object)
{
    for (int i = 0; i < in->edits; i++)
        if (in->edit[i].object == object && (in->edit[i].kind == EDIT_INSERT || in->edit[i].kind == EDIT_COLLAGE)) return true;
    return false;
}

static void add_part(Run *r, Terms *t, const MethodInput *in, const ObjectEdit *e, const Want *look)
{
    Object o = in->object[e->object];
    const ObjectPicture *p = &in->part[e->reference - 1];
    bool collage = e->kind == EDIT_COLLAGE;
    memcpy(o.source, p->token, sizeof o.source);
    o.sources = p->tokens;
    SelfTerm *s = add_term(r, t, "own look", in, in->number[collage ? W_APPEARANCE : W_INSERT], self_appearance, look, 2);
    if (!s) return;
    add_object(s, &o);
    t->energy[t->n - 1].reference = e->reference;
    s = collage ? add_term(r, t, "own shape", in, in->number[W_COLLAGE], self_shape, want_maps, 1) : NULL;
    if (!s) return;
    add_object(s, &o);
    t->energy[t->n - 1].reference = e->reference;
}

/* Words that are in the reference too keep their shape unless they are edited, and their look. */
static void add_keeping(Run *r, Terms *t, const MethodInput *in, const Want *look)
{
    bool shape = in->edits == 0, appearance = in->edits == 0;
    for (int i = 0; i < in->edits; i++) {
        shape |= in->edit[i].kind != EDIT_APPEARANCE;
        appearance |= in->edit[i].kind != EDIT_SHAPE;
    }
    SelfTerm *s = shape ? add_term(r, t, "shape", in, in->number[W_SHAPE], self_shape, want_maps, 1) : NULL;
    SelfTerm *a = appearance ? add_term(r, t, "appearance", in, in->number[W_APPEARANCE], self_appearance, look, 2) : NULL;
    for (int k = 0; k < in->objects; k++) {
        if (!in->object[k].sources || of_own_picture(in, k)) continue;
        if (s && !edited(in, k)) add_object(s, &in->object[k]);
        if (a) add_object(a, &in->object[k]);
    }
}

static void drop_empty(Terms *t)
{
    for (int i = 0; i < t->n; i++)
        if (!t->term[i].tokens) t->energy[i].weight = 0;
}

/* The unguided picture, or the photo, if anything is compared with it; then the objects' own. */
static int references(Run *r, Method *m, Terms *t, const MethodInput *in, const Branch *b)
{
    Reference *ref = arena_take(r->run, (size_t)(in->parts + 1) * sizeof *ref);
    Branch *own = arena_take(r->run, (size_t)(in->parts + 1) * sizeof *own);
    bool base = in->parts == 0;
    int n = 0;
    if (!ref || !own) {
        run_fail(r, E_MEMORY, "out of memory: self-guidance");
        return 0;
    }
    for (int i = 0; i < t->n; i++) base |= t->energy[i].weight != 0 && t->energy[i].reference == 0;
    if (base) ref[n++] = in->images ? (Reference){ REFERENCE_NOISED, b, 2, in->x0[0], NULL, NULL }
                                    : (Reference){ REFERENCE_LOCKSTEP, b, 2, in->source_start, NULL, NULL };
    for (int j = 0; j < in->parts; j++) {
        own[j] = (Branch){ .name = "cond", .context = in->part[j].text, .watch = true };
        ref[n++] = (Reference){ REFERENCE_NOISED, &own[j], 1, in->part[j].x0, NULL, NULL };
    }
    for (int i = 0; i < t->n && !base; i++) t->energy[i].reference--;
    m->reference = ref;
    return m->references = n;
}

static double first_part(const Clock *c, const double *par) { return c->i < (int)(par[1] * c->n) ? par[0] : 0; }

static bool build(Run *r, Method *m, const MethodInput *in)
{
    Terms *t = arena_take(r->run, sizeof *t);
    Branch *b = arena_take(r->run, 4 * sizeof *b);
    Rule *rule = arena_take(r->run, sizeof *rule);
    Want *look = arena_take(r->run, 2 * sizeof *look);
    if (!t || !b || !rule || !look) {
        run_fail(r, E_MEMORY, "out of memory: self-guidance");
        return false;
    }
    t->n = 0;
    snprintf(t->features, sizeof t->features, "up_blocks.%d", in->unet->config.levels - 1);
    look[0] = want_maps[0];
    look[1] = (Want){ SEE_FEATURE, t->features };
    for (int i = 0; i < in->edits && run_ok(r); i++) {
        const ObjectEdit *e = &in->edit[i];
        if (e->kind == EDIT_MOVE || e->kind == EDIT_RESIZE) add_edit(r, t, in, e);
        if (e->kind == EDIT_INSERT || e->kind == EDIT_COLLAGE) add_part(r, t, in, e, look);
    }
    add_keeping(r, t, in, look);
    drop_empty(t);

    b[0] = b[2] = (Branch){ .name = "uncond", .context = in->uncond, .mix = mix_uncond, .par = { in->scale } };
    b[1] = b[3] = (Branch){ .name = "cond", .context = in->cond, .mix = mix_cond, .par = { in->scale }, .watch = true };
    if (in->source.x) b[3].context = in->source;
    *rule = (Rule){ .energy = t->energy, .energies = t->n, .leaf = BY_Z, .into = TO_EPS, .gain = self_gain,
                    .par = { in->number[STRENGTH] }, .strength = in->number[UNTIL] > 0 ? first_part : self_schedule,
                    .when = { in->number[STRENGTH] > 0, in->number[UNTIL] }, .inner = 1 };
    *m = (Method){ .name = "self-guidance", .branch = b, .branches = 2, .rule = rule, .rules = 1 };
    return references(r, m, t, in, b + 2) > 0 && run_ok(r);
}

const MethodInfo method_selfguide = {
    "self-guidance", "Diffusion Self-Guidance", "Epstein et al., arXiv 2306.00986",
    "move, resize or restyle an object, keep what the others are and where",
    "eps += v sigma_t d/dz sum_i w_i | property_i(z) - target_i |,  properties of attention maps and features",
    "tiller edit --method self-guidance --prompt \"a photo of a cat and an apple on grass\" --move \"cat=+0.25,0\"",
    option, OPTIONS, NEED_SOURCE | PULLS | READS_SOURCE_SEED | READS(EDIT_KEEP) | READS(EDIT_MOVE) | READS(EDIT_RESIZE) | READS(EDIT_SHAPE) | READS(EDIT_APPEARANCE) |
                     READS(EDIT_INSERT) | READS(EDIT_COLLAGE), true, build, NULL,
};
