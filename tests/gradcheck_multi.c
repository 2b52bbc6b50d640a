/* Gradients of the methods for several objects: every piece, every term, every energy, on made-up maps and views. */
#include "guidance/multi.h"
#include "guidance/suppress.h"
#include "tests/gradcheck.h"

/* Smooth functions of numbers near one, differences of width 1e-6: they leave about 1e-9. */
static const double LIMIT = 1e-7;
/* Through a softmax ten times steeper: 1e-8. */
static const double STEEP = 1e-6;
static Run run;
static Arena arena, scratch;

static Tensor fresh(Shape s, double centre, double spread) { return grad_fresh(&run, &arena, s, centre, spread); }

/* ---- pieces that make maps: loss = <weight, f(x)> ---- */

static void sharpen(Tensor y, Tensor x) { map_sharpen(&run, y, x, 8); }
static void raw(Tensor y, Tensor x) { map_sharpen(&run, y, x, 0); }
static void smooth(Tensor y, Tensor x) { map_smooth(y, x); }

static void row(const char *what, GradPlain *p, Tensor dx) { gradcheck_plain(what, p, dx, LIMIT); }

static void pieces(void)
{
    GradPlain p = { sharpen, fresh(SHAPE(6, 9), 0.2, 0.2), fresh(SHAPE(7, 2, 3), 0, 0), fresh(SHAPE(7, 2, 3), 0, 1) };
    Tensor dA = fresh(SHAPE(6, 9), 0, 1);
    sharpen(p.y, p.x);
    map_sharpen_back(&run, dA, p.weight, p.y, 8);
    row("map_sharpen_back", &p, dA);
    p.f = raw;
    map_sharpen_back(&run, dA, p.weight, p.y, 0);
    row("map_sharpen_back, probabilities as they are", &p, dA);

    static const int size[][2] = { { 4, 6 }, { 1, 5 }, { 2, 2 }, { 3, 1 } };
    for (int i = 0; i < 4; i++) {
        Shape s = SHAPE(size[i][0], size[i][1]);
        GradPlain q = { smooth, fresh(s, 0, 1), fresh(s, 0, 0), fresh(s, 0, 1) };
        Tensor dx = fresh(s, 0, 1);
        map_smooth_back(dx, q.weight);
        row("map_smooth_back", &q, dx);
    }
}

/* ---- terms of maps m [n,h,w] with constants beside ---- */

typedef struct Term Term;
struct Term { acc (*f)(const Term *t, Tensor dm); Tensor m, beside; };

static acc overlap(const Term *t, Tensor d)
{
    return map_overlap(d.x ? tensor_row(d, 0) : d, d.x ? tensor_row(d, 1) : d, tensor_row(t->m, 0), tensor_row(t->m, 1), 1.3);
}
static acc excite   (const Term *t, Tensor d) { return excite_worst(d, t->m, 1.3, NULL); }
static acc segregate(const Term *t, Tensor d) { return astar_segregate(d, t->m, 1.3); }
static acc retain   (const Term *t, Tensor d) { return astar_retain(d, t->m, t->beside, 1.3); }
static acc others   (const Term *t, Tensor d) { return multi_suppress(d, t->m, t->beside, 1.3); }
static acc exclusive(const Term *t, Tensor d) { return exclusive_term(d, t->m, 1.3); }
static acc outside  (const Term *t, Tensor d) { return suppress_term(d, t->m, t->beside, 1.3); }
static acc even     (const Term *t, Tensor d) { return even_term(d, t->m, t->beside, 1.3); }
static acc even_cv2 (const Term *t, Tensor d) { return even_cv2_term(d, t->m, t->beside, 1.3); }
static acc emphasise(const Term *t, Tensor d) { return emphasise_term(d, t->m, t->beside, 2, 1.3); }

static double term_loss(void *self)
{
    const Term *t = self;
    return t->f(t, (Tensor){0});
}

static void terms(void)
{
    static const struct { const char *name; acc (*f)(const Term *, Tensor); } all[] = {
        { "map_overlap", overlap }, { "excite_worst", excite }, { "astar_segregate", segregate }, { "astar_retain", retain },
        { "multi_suppress", others }, { "exclusive_term", exclusive }, { "suppress_term", outside }, { "even_term", even },
        { "even_cv2_term", even_cv2 }, { "emphasise_term", emphasise },
    };
    for (int k = 0; k < 10; k++) {
        Term t = { all[k].f, fresh(SHAPE(3, 4, 5), 0.5, 0.4), fresh(SHAPE(3, 4, 5), 0.5, 0.5) };
        Tensor dm = fresh(t.m.s, 0, 0);
        t.f(&t, dm);
        GradCheck g = { term_loss, &t, 1e-6, 2000 };
        gradcheck(all[k].name, &g, &(GradPart){ "m", t.m, dm }, 1, LIMIT);
    }
}

/* ---- the loss of the released form: its q is a constant, taken outside the mask, so inside it differences see all ---- */

typedef struct { Masked p; Tensor U, dU; } Given;

static double given_loss(void *self)
{
    Given *g = self;
    size_t mark = scratch.used;
    double E = masked_loss(&run, temp(&run, g->U.s), g->U, &g->p, NULL);
    arena_release(&scratch, mark);
    return E;
}

static Masked masked(int h, int w, Tensor mask)
{
    Masked p = { .objects = { .want = { SEE_PROBS, "a.*,b.*" }, .h = h, .w = w, .sharp = 9, .groups = 2, .size = { 1, 1 } }, .mask = mask, .bce = 10,
                 .contrast = 1, .scale = 2, .first = 1, .last = 0.5, .total = 2 };
    p.objects.group[0][0] = 2;
    p.objects.group[1][0] = 5;
    return p;
}

static void released(void)
{
    Tensor mask = fresh(SHAPE(2, 4, 5), 0.5, 0.4);
    for (int k = 0; k < 2; k++)
        for (int i = 10; i < 20; i++) mask.x[k * 20 + i] = 0;
    Given g = { masked(4, 5, mask), fresh(SHAPE(7, 4, 5), 0.5, 0.4), fresh(SHAPE(7, 4, 5), 0, 0) };
    GradCheck check = { given_loss, &g, 1e-6, 2000 };
    GradPart part[7];
    masked_loss(&run, g.dU, g.U, &g.p, NULL);
    for (int k = 0; k < 7; k++)
        part[k] = (GradPart){ "U inside", { g.U.x + 20 * k, SHAPE(10) }, { g.dU.x + 20 * k, SHAPE(10) } };
    int used = 0;
    for (int k = 0; k < 7; k++) {                         /* a token that is nobody's strongest rival has no gradient */
        double norm = 0;
        for (int i = 0; i < 10; i++) norm += fabs((double)part[k].grad.x[i]);
        if (norm > 0) part[used++] = part[k];
    }
    check_true("masked_loss: rivals and guided tokens have gradients", used > 3);
    gradcheck("masked_loss", &check, part, used, LIMIT);
    g.p.contrast = 0;
    masked_loss(&run, g.dU, g.U, &g.p, NULL);
    gradcheck("masked_loss, BCE alone", &check, &(GradPart){ "U", g.U, g.dU }, 1, LIMIT);
}

/* ---- energies: loss = eval on a view of three layers: objects_pull and map_mean_back, through S and A to each head ---- */

typedef struct { Energy e; View now; void *state; } Score;
enum { SIGHTS = 3 };

static View made(void)
{
    static const char *const site[] = { "a.attn2", "b.attn2", "mid.attn2" };
    static const Shape shape[] = { {{ 2, 24, 8, 0 }}, {{ 3, 24, 8, 0 }}, {{ 2, 6, 8, 0 }} };
    View v = { .branch = "cond", .sights = SIGHTS, .h = 8, .w = 12, .clock = { .i = 1, .n = 4 } };
    v.sight = arena_take(&arena, SIGHTS * sizeof *v.sight);
    for (int i = 0; i < SIGHTS; i++)
        v.sight[i] = (Sight){ SEE_PROBS, site[i], fresh(shape[i], 0.2, 0.18), fresh(shape[i], 0, 0) };
    return v;
}

static double score_loss(void *self)
{
    Score *s = self;
    View quiet = s->now;
    Sight copy[SIGHTS];
    size_t mark = arena.used;
    memcpy(copy, s->now.sight, sizeof copy);
    for (int i = 0; i < SIGHTS; i++) copy[i].adj = fresh(copy[i].val.s, 0, 0);
    quiet.sight = copy;
    double E = s->e.eval(&s->e, &run, &quiet, NULL, 1.5, s->state);
    arena_release(&arena, mark);
    return E;
}

static void energy(const char *what, acc (*eval)(const Energy *, Run *, View *, const View *, acc, void *), const void *par, void *state, int layers)
{
    Score s = { { .name = what, .eval = eval, .par = par, .weight = 1.5 }, made(), state };
    GradCheck g = { score_loss, &s, 1e-6, 400 };
    GradPart part[SIGHTS];
    eval(&s.e, &run, &s.now, NULL, 1.5, state);
    for (int i = 0; i < layers; i++) part[i] = (GradPart){ s.now.sight[i].site, s.now.sight[i].val, s.now.sight[i].adj };
    gradcheck(what, &g, part, layers, STEEP);
}

static Objects objects(void)
{
    return (Objects){ .want = { SEE_PROBS, "a.*,b.*" }, .h = 4, .w = 6, .sharp = 9, .smooth = true,
                      .group = { { 2 }, { 4, 5 }, { 6 } }, .size = { 1, 2, 1 }, .groups = 3 };
}

static Carried carried(Tensor before)
{
    return (Carried){ .before = before, .now = fresh(before.s, 0, 0), .step = 1, .seen = true, .has_before = true };
}

static void energies(void)
{
    Objects o = objects();
    Shape m = SHAPE(3, 4, 6);
    energy("attend_excite", attend_excite, &o, NULL, 2);
    o.last = 6;
    o.groups = 2;
    energy("attend_excite, without the end mark", attend_excite, &o, NULL, 2);

    Astar a = { .objects = objects(), .segregate = 0.7, .retain = 1.2, .fraction = 0.5 };
    Carried before = carried(fresh(m, 0.5, 0.5));
    energy("astar_energy", astar_energy, &a, &before, 2);

    /* lambda 1: the regions come from the steps before alone, and differences see constants as constants. */
    Suppress p = { .objects = objects(), .region = { THRESHOLD_OTSU, 0.1 }, .memory = 1, .weight = { 0.2, 0.4, 0.1, 0.4 }, .level = 0.9 };
    SuppressState s = { carried(fresh(m, 0.5, 0.5)), fresh(m, 0, 0), { 0 } };
    energy("suppress_energy", suppress_energy, &p, &s, 2);
    p.cv2 = true;
    p.region = (RegionRule){ THRESHOLD_MEAN, 0 };
    energy("suppress_energy, cv2, hard", suppress_energy, &p, &s, 2);

    Multi c = { .objects = objects(), .weight = { 1, 1.2, 0.8, 0.5, 1.5 }, .fraction = 0.5, .early = 1, .box_want = { SEE_PROBS, "mid.*,b.*" },
                .box = { { 0, 0.25, 0.5, 1 }, { 0 }, { 0.4, 0.1, 1, 0.8 } } };
    MultiState t = { .hot = carried(fresh(m, 0.5, 0.5)), .owner = fresh(m, 0, 0) };
    energy("multi_energy", multi_energy, &c, &t, 3);

    Masked g = masked(4, 6, fresh(SHAPE(2, 4, 6), 0.5, 0.4));
    g.mask.x[3] = g.mask.x[30] = 0;
    g.contrast = 0;
    g.total = 3;                                          /* one evaluation at step 1: no moves in map space */
    energy("masked_energy", masked_energy, &g, NULL, 2);
    energy("masked_centroid", masked_centroid, &g, NULL, 2);
}

int main(void)
{
    run = (Run){ .keep = &scratch, .temp = &scratch, .step = &arena, .run = &arena, .k = &kernels_plain, .threads = 1 };
    pieces();
    terms();
    released();
    energies();
    check_true(run_ok(&run) ? "no error was raised" : run.status.text, run_ok(&run));
    arena_free(&arena);
    arena_free(&scratch);
    return check_done();
}
