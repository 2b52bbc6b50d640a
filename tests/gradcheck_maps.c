/* Gradients of what attention maps are made into, and of the self-guidance energies, on made-up views. */
#include "guidance/selfguide.h"
#include "tensor/resize.h"
#include "tests/gradcheck.h"

/* Smooth functions of numbers near one: differences of width 1e-6 leave about 1e-9. */
static const double LIMIT = 1e-7;
static Run run;
static Arena arena, scratch;

static Tensor fresh(Shape s, double centre, double spread) { return grad_fresh(&run, &arena, s, centre, spread); }

/* ---- single functions: loss = <weight, f(x)> ---- */

static void soft(Tensor y, Tensor x)  { mask_soft(&run, y, x, 6, 0.4); }
static void wide(Tensor y, Tensor x)  { resize_bilinear(&run, y, x); }

static void centre(Tensor y, Tensor x)
{
    Centroid c = centroid_of(x);
    y.x[0] = (real)c.x;
    y.x[1] = (real)c.y;
}

static void row(const char *what, GradPlain *p, Tensor dx) { gradcheck_plain(what, p, dx, LIMIT); }

static void functions(void)
{
    GradPlain p = { soft, fresh(SHAPE(5, 7), 1, 0.5), fresh(SHAPE(5, 7), 0, 0), fresh(SHAPE(5, 7), 0, 1) };
    Tensor dx = fresh(SHAPE(5, 7), 0, 1);
    mask_soft_back(&run, dx, p.weight, p.x, 6, 0.4);
    row("mask_soft_back", &p, dx);

    GradPlain c = { centre, fresh(SHAPE(4, 6), 1, 0.5), fresh(SHAPE(2), 0, 0), fresh(SHAPE(2), 0, 1) };
    Tensor dc = fresh(SHAPE(4, 6), 0, 1);
    centroid_back(dc, c.x, centroid_of(c.x), (acc)c.weight.x[0], (acc)c.weight.x[1]);
    row("centroid_back", &c, dc);

    static const int sizes[][4] = { { 5, 7, 10, 14 }, { 12, 9, 5, 4 }, { 3, 8, 7, 3 }, { 1, 1, 4, 4 } };
    for (int i = 0; i < 4; i++) {
        const int *s = sizes[i];
        GradPlain z = { wide, fresh(SHAPE(2, s[0], s[1]), 0, 1), fresh(SHAPE(2, s[2], s[3]), 0, 0), fresh(SHAPE(2, s[2], s[3]), 0, 1) };
        Tensor dz = fresh(z.x.s, 0, 1);
        resize_bilinear_back(&run, dz, z.weight);
        row("resize_bilinear_back", &z, dz);
    }
}

/* ---- appearance: both inputs ---- */

typedef struct { Tensor f, m, a, weight; } Look;

static double look_loss(void *self)
{
    Look *l = self;
    appearance_of(&run, l->a, l->f, l->m);
    return grad_weighted(l->a, l->weight);
}

static void appearance(void)
{
    Look l = { fresh(SHAPE(3, 4, 5), 0, 1), fresh(SHAPE(4, 5), 0.6, 0.4), fresh(SHAPE(3), 0, 0), fresh(SHAPE(3), 0, 1) };
    Tensor df = fresh(l.f.s, 0, 0), dm = fresh(l.m.s, 0, 0);
    look_loss(&l);
    appearance_back(&run, df, dm, l.weight, l.a, l.f, l.m);
    GradCheck g = { look_loss, &l, 1e-6, 2000 };
    GradPart part[] = { { "feature", l.f, df }, { "mask", l.m, dm } };
    gradcheck("appearance_back", &g, part, 2, LIMIT);
}

/* ---- energies: loss = eval on a view of two maps and one feature; map_back is inside each ---- */

typedef struct { Energy e; View now, ref; } Score;

static View made(bool grads)
{
    View v = { .branch = "cond", .sights = 3, .h = 6, .w = 8 };
    v.sight = arena_take(&arena, 3 * sizeof *v.sight);
    static const char *const site[] = { "a.attn2", "b.attn2", "feature" };
    static const Shape shape[] = { {{ 2, 48, 5, 0 }}, {{ 3, 12, 5, 0 }}, {{ 4, 12, 16, 0 }} };
    for (int i = 0; i < 3; i++) {
        v.sight[i] = (Sight){ i < 2 ? SEE_PROBS : SEE_FEATURE, site[i], fresh(shape[i], i < 2 ? 1 : 0, i < 2 ? 0.8 : 1), {0} };
        if (grads) v.sight[i].adj = fresh(shape[i], 0, 0);
    }
    return v;
}

static double score_loss(void *self)
{
    Score *s = self;
    View quiet = s->now;
    Sight copy[3];
    size_t mark = arena.used;
    memcpy(copy, s->now.sight, sizeof copy);
    for (int i = 0; i < 3; i++) copy[i].adj = fresh(copy[i].val.s, 0, 0);
    quiet.sight = copy;
    double E = (double)s->e.eval(&s->e, &run, &quiet, &s->ref, 1.5, NULL);
    arena_release(&arena, mark);
    return E;
}

static void energy(const char *what, SelfTerm *t, acc (*eval)(const Energy *, Run *, View *, const View *, acc, void *), bool maps, bool features)
{
    Score s = { { .name = what, .eval = eval, .par = t, .weight = 1.5 }, made(true), made(false) };
    GradPart part[3];
    int n = 0;
    eval(&s.e, &run, &s.now, &s.ref, 1.5, NULL);
    if (maps && !features) part[n++] = (GradPart){ "map a", s.now.sight[0].val, s.now.sight[0].adj };
    if (maps) part[n++] = (GradPart){ "map b", s.now.sight[1].val, s.now.sight[1].adj };
    if (features) part[n++] = (GradPart){ "features", s.now.sight[2].val, s.now.sight[2].adj };
    GradCheck g = { score_loss, &s, 1e-7, 400 };
    gradcheck(what, &g, part, n, 1e-6);                  /* steeper: masks squash, so differences leave 1e-8 */
}

static SelfTerm term(bool squared)
{
    SelfTerm t = self_term("*.attn2", "feature");
    t.tokens = 2;
    t.token[0] = t.source[0] = 1;
    t.token[1] = t.source[1] = 3;
    t.squared = squared;
    t.relative = true;
    t.sharp = 5;
    return t;
}

static void energies(void)
{
    for (int squared = 0; squared < 2; squared++) {
        SelfTerm t = term(squared);
        t.x = 0.3;
        t.y = -0.2;
        energy("self_centroid", &t, self_centroid, true, false);
        t = term(squared);
        t.mul = 1.4;
        energy("self_size", &t, self_size, true, false);
        t = term(squared);
        t.warped = true;
        t.warp = (Warp){ 0.2, 0.1, 1.2, 0.8 };
        energy("self_shape, warped", &t, self_shape, true, false);
        t = term(squared);
        energy("self_appearance, hard mask", &t, self_appearance, false, true);
        t.soft = true;
        energy("self_appearance, soft mask", &t, self_appearance, true, true);
    }
}

int main(void)
{
    run = (Run){ .keep = &scratch, .temp = &scratch, .step = &arena, .run = &arena, .k = &kernels_plain, .threads = 1 };
    functions();
    appearance();
    energies();
    check_true(run_ok(&run) ? "no error was raised" : run.status.text, run_ok(&run));
    arena_free(&arena);
    arena_free(&scratch);
    return check_done();
}
