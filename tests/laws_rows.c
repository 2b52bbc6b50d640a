/* laws_rows.c -- laws of pointwise operations, normalisations and moves, in both builds and every kernel table: the same
 * bits for 1 to 4 threads and for any batch, and what mathematics says. */
#include "tensor/norm.h"
#include "tensor/point.h"
#include "tensor/shape.h"
#include "tests/check.h"

enum { N = 3, H = 19, W = 23, C = 48, G = 8, MOST_OUT = 10 };
static const double EPS = sizeof(real) == 4 ? 6e-8 : 1.2e-16;    /* half a unit in the last place of 1 */
static Run run;
static Arena arena, scratch;

typedef struct { Tensor map, other, channels, bias; Affine a; } In;          /* of one batch */
typedef struct { Tensor t[MOST_OUT]; int count, sums; } Out;                 /* t[0 .. sums): sums over the batch */

static Tensor fresh(Shape s, double centre, double spread)
{
    Tensor t = tensor_in(&run, &arena, s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)(centre + spread * check_uniform());
    return t;
}

static Tensor put(Out *o, Shape s) { return o->t[o->count++] = fresh(s, 0.5, 0); }

static void points(Out *o, const In *in)
{
    Tensor x = in->map, z = in->other;
    for (int f = 0; f < 3; f++) act(&run, (PointAct)f, put(o, x.s), x);
    for (int f = 0; f < 3; f++) act_back(&run, (PointAct)f, put(o, x.s), z, x);
    Tensor half = put(o, SHAPE(x.s.d[0], H, W, C / 2));
    geglu(&run, half, x);
    geglu_back(&run, put(o, x.s), half, x);
}

static void arithmetic(Out *o, const In *in)
{
    Tensor x = in->map, z = in->other;
    add(&run, put(o, x.s), x);
    axpy(&run, put(o, x.s), (real)0.3, x);
    blend(&run, put(o, x.s), (real)0.3, x, (real)-0.7, z);
    scale(&run, put(o, x.s), (real)0.3, x, (real)0.1);
    multiply(&run, put(o, x.s), x, z);
    add_channels(&run, put(o, x.s), in->bias);
    add_channels_back(&run, put(o, in->bias.s), x);
}

static void group(Out *o, const In *in)
{
    int n = in->map.s.d[0];
    Affine da = { put(o, SHAPE(C)), put(o, SHAPE(C)), {0}, {0} };
    o->sums = 2;
    Tensor y = put(o, in->map.s), mean = put(o, SHAPE(n, G)), rstd = put(o, SHAPE(n, G)), dx = put(o, in->map.s);
    da.scale = put(o, SHAPE(n, C));
    da.shift = put(o, SHAPE(n, C));
    groupnorm(&run, y, mean, rstd, in->map, in->a, (real)1e-5, ACT_SILU);
    groupnorm_back(&run, dx, da, in->other, in->map, mean, rstd, in->a, ACT_SILU);
    groupnorm(&run, put(o, in->map.s), mean, rstd, in->map, in->a, (real)1e-5, ACT_NONE);
    groupnorm_back(&run, put(o, in->map.s), (Affine){0}, in->other, in->map, mean, rstd, in->a, ACT_NONE);
}

static void layer(Out *o, const In *in)
{
    int n = in->map.s.d[0];
    Tensor x = tensor_as(in->map, SHAPE(n, H * W, C)), dy = tensor_as(in->other, x.s), dgamma = put(o, SHAPE(C)), dbeta = put(o, SHAPE(C));
    o->sums = 2;
    Tensor y = put(o, x.s), mean = put(o, SHAPE(n, H * W)), rstd = put(o, SHAPE(n, H * W)), dx = put(o, x.s);
    layernorm(&run, y, mean, rstd, x, in->a.gamma, in->a.beta, (real)1e-5);
    layernorm_back(&run, dx, dgamma, dbeta, dy, x, mean, rstd, in->a.gamma);
}

static void moves(Out *o, const In *in)
{
    Tensor x = in->map;
    int n = x.s.d[0];
    Tensor nchw = put(o, SHAPE(n, C, H, W));
    nhwc_to_nchw(&run, nchw, x);
    nchw_to_nhwc(&run, put(o, x.s), nchw);
    transpose(&run, put(o, SHAPE(n, C, H * W)), tensor_as(x, SHAPE(n, H * W, C)));
    Tensor a = put(o, SHAPE(n, H, W, 17)), b = put(o, SHAPE(n, H, W, C - 17));
    split(&run, a, b, x);
    concat(&run, put(o, x.s), a, b);
    slice(&run, put(o, SHAPE(n, H, W, 9)), x, 5);
    Tensor twice = put(o, SHAPE(n, 2 * H, 2 * W - 1, C));
    double_nearest(&run, twice, x);
    double_nearest_back(&run, put(o, x.s), twice);
    slice_back(&run, put(o, x.s), a, 5);
}

static const struct { const char *name; void (*run)(Out *, const In *); } family[] = {
    { "pointwise", points }, { "arithmetic", arithmetic }, { "groupnorm", group }, { "layernorm", layer }, { "moves", moves },
};

static In image(const In *all, int n)
{
    return (In){ tensor_rows(all->map, n, 1), tensor_rows(all->other, n, 1), all->channels, tensor_rows(all->bias, n, 1),
                 { all->a.gamma, all->a.beta, tensor_rows(all->a.scale, n, 1), tensor_rows(all->a.shift, n, 1) } };
}

static bool same_bits(Tensor a, Tensor b)
{
    return tensor_count(a) && tensor_count(a) == tensor_count(b) && !memcmp(a.x, b.x, tensor_count(a) * sizeof(real));
}

static void same_bits_law(const In *in)
{
    char what[100];
    for (size_t f = 0; f < sizeof family / sizeof *family; f++) {
        size_t mark = arena.used;
        Out one = {0};
        run.threads = 1;
        family[f].run(&one, in);
        bool threads = true, batch = true;
        for (run.threads = 2; run.threads <= 4; run.threads++) {
            Out many = {0};
            family[f].run(&many, in);
            for (int i = 0; i < one.count; i++) threads = threads && same_bits(one.t[i], many.t[i]);
        }
        run.threads = 2;
        for (int n = 0; n < N; n++) {
            Out alone = {0};
            In here = image(in, n);
            family[f].run(&alone, &here);
            for (int i = one.sums; i < one.count; i++) batch = batch && same_bits(tensor_rows(one.t[i], n, 1), alone.t[i]);
        }
        snprintf(what, sizeof what, "%s, %s: the same bits for 1, 2, 3, 4 threads", run.k->name, family[f].name);
        check_true(what, threads);
        snprintf(what, sizeof what, "%s, %s: the same bits alone and in a batch", run.k->name, family[f].name);
        check_true(what, batch);
        arena_release(&arena, mark);
    }
    acc first = 0;
    bool same = true;
    for (run.threads = 1; run.threads <= 4; run.threads++) {
        acc d = dot(&run, in->map, in->other);
        if (run.threads == 1) first = d;
        same = same && !memcmp(&d, &first, sizeof d);
    }
    snprintf(what, sizeof what, "%s, dot: the same bits for 1, 2, 3, 4 threads", run.k->name);
    check_true(what, same);
}

static double largest_difference(Tensor a, Tensor b)
{
    double worst = tensor_same(a, b) ? 0 : (double)INFINITY, high = 0;
    for (size_t i = 0; i < tensor_count(a) && i < tensor_count(b); i++) {
        worst = fmax(worst, fabs((double)a.x[i] - (double)b.x[i]));
        high = fmax(high, fabs((double)b.x[i]));
    }
    return worst / high;
}

/* With eps = 0, groupnorm(a x + c) = groupnorm(x).  c is 1000 deviations: rounding the mean costs up to 900 EPS, twice, and
 * a variance from plain sums of squares would be off by 1e6 EPS. */
static void invariance(const In *in)
{
    size_t mark = arena.used;
    Affine a = { fresh(SHAPE(C), 1, 0), fresh(SHAPE(C), 0, 0), {0}, {0} };
    Tensor moved = fresh(in->map.s, 0, 0), y = fresh(in->map.s, 0, 0), z = fresh(in->map.s, 0, 0);
    Tensor mean = fresh(SHAPE(N, G), 0, 0), rstd = fresh(SHAPE(N, G), 0, 0);
    scale(&run, moved, 4, in->map, 4000);
    scale(&run, z, (real)0.25, moved, -1000);             /* the same rounding, then exact */
    groupnorm(&run, y, mean, rstd, moved, a, 0, ACT_NONE);
    groupnorm(&run, z, mean, rstd, z, a, 0, ACT_NONE);
    check_below("groupnorm ignores scale and offset", largest_difference(y, z), 2000 * EPS);
    check_below("groupnorm's mean is zero", fabs((double)dot(&run, z, fresh(z.s, 1, 0))) / (double)tensor_count(z), 10 * EPS);
    check_below("groupnorm's variance is one", fabs((double)dot(&run, z, z) / (double)tensor_count(z) - 1), 20 * EPS);
    arena_release(&arena, mark);
}

/* Groupnorm followed by silu is their fusion. */
static void fusion(const In *in)
{
    size_t mark = arena.used;
    Tensor y = fresh(in->map.s, 0, 0), z = fresh(in->map.s, 0, 0), mean = fresh(SHAPE(N, G), 0, 0), rstd = fresh(SHAPE(N, G), 0, 0);
    groupnorm(&run, y, mean, rstd, in->map, in->a, (real)1e-5, ACT_SILU);
    groupnorm(&run, z, mean, rstd, in->map, in->a, (real)1e-5, ACT_NONE);
    act(&run, POINT_SILU, z, z);
    check_true("groupnorm with silu is groupnorm, then silu", same_bits(y, z));
    arena_release(&arena, mark);
}

static void softmax_law(void)
{
    enum { LONG = 4097 };
    size_t mark = arena.used;
    Tensor x = fresh(SHAPE(LONG), 0, 40), p = fresh(SHAPE(LONG), 0, 0), q = fresh(SHAPE(LONG), 0, 0);
    double sum = 0;
    for (int k = 0; k < 2; k++) {
        real high = run.k->row_max(LONG, x.x, (real)0.5);
        acc total = run.k->row_exp(LONG, k ? q.x : p.x, x.x, (real)0.5, high);
        run.k->row_scale(LONG, k ? q.x : p.x, (real)(1 / total));
        scale(&run, x, 1, x, 16);                         /* softmax does not see an offset */
    }
    for (int i = 0; i < LONG; i++) sum += (double)p.x[i];
    /* the sum itself rounds 4097 times: 30 EPS in double */
    check_below("softmax sums to one", fabs(sum - 1), 40 * EPS);
    check_below("softmax ignores an offset", largest_difference(q, p), 200 * EPS);       /* the offset itself rounds 28 to 5e-8 */
    arena_release(&arena, mark);
}

static void inverses(const In *in)
{
    size_t mark = arena.used;
    Out o = {0};
    moves(&o, in);
    check_true("nhwc_to_nchw, nchw_to_nhwc: back where it was", same_bits(o.t[1], in->map));
    check_true("split, concat: back where it was", same_bits(o.t[5], in->map));
    check_true("transposing and nhwc_to_nchw agree", same_bits(o.t[2], o.t[0]));
    arena_release(&arena, mark);
}

/* What does not fit is refused, says so, and leaves the result alone. */
static void refusals(const In *in)
{
    size_t mark = arena.used;
    Tensor small = fresh(SHAPE(1, 2, 3), 7, 0), none = {0}, x = in->map;
    Affine narrow = in->a;
    narrow.gamma = small;
    for (int k = 0; k < 14; k++) {
        run.status = (Status){0};
        switch (k) {
        case 0:  act(&run, POINT_SILU, small, x);                       break;
        case 1:  add(&run, small, none);                                break;
        case 2:  geglu(&run, small, x);                                 break;
        case 3:  add_channels(&run, x, small);                          break;
        case 4:  groupnorm(&run, x, small, small, x, in->a, 0, ACT_NONE);        break;
        case 5:  groupnorm(&run, x, fresh(SHAPE(N, G), 0, 0), fresh(SHAPE(N, G), 0, 0), x, narrow, 0, ACT_NONE); break;
        case 6:  layernorm(&run, x, small, small, x, in->a.gamma, in->a.beta, 0);   break;
        case 7:  concat(&run, small, small, small);                     break;
        case 8:  slice(&run, small, small, 1);                          break;
        case 9:  double_nearest(&run, small, x);                        break;
        case 10: nchw_to_nhwc(&run, small, x);                          break;
        case 11: transpose(&run, small, x);                             break;
        case 12: split(&run, x, none, small);                           break;
        case 13: dot(&run, small, none);                                break;
        }
        char what[40];
        snprintf(what, sizeof what, "misfit %d is refused", k);
        check_true(what, run.status.code == E_SHAPE && run.status.text[0] && small.x[0] == 7);
    }
    run.status = (Status){0};
    arena_release(&arena, mark);
}

/* Scratch memory that ends early: an error, no crash, everything given back. */
static void memory(const In *in)
{
    size_t mark = arena.used;
    Tensor y = fresh(in->map.s, 0, 0), mean = fresh(SHAPE(N, G), 0, 0), rstd = fresh(SHAPE(N, G), 0, 0);
    Tensor tokens = tensor_as(in->map, SHAPE(N, H * W, C)), mu = fresh(SHAPE(N, H * W), 0, 0), dgamma = fresh(SHAPE(C), 0, 0);
    for (size_t limit = 64; limit <= 4096; limit *= 8)
        for (int k = 0; k < 3; k++) {
            Arena tight = { .limit = limit };
            Run r = run;
            r.temp = &tight;
            switch (k) {
            case 0: groupnorm(&r, y, mean, rstd, in->map, in->a, 0, ACT_SILU);                                  break;
            case 1: groupnorm_back(&r, y, (Affine){0}, in->other, in->map, mean, rstd, in->a, ACT_SILU);        break;
            case 2: layernorm_back(&r, (Tensor){0}, dgamma, dgamma, tokens, tokens, mu, mu, in->a.gamma);       break;
            }
            check_true("too little scratch memory is an error", r.status.code == E_MEMORY && tight.used == 0 && y.x[0] == 0);
            arena_free(&tight);
        }
    arena_release(&arena, mark);
}

int main(void)
{
    run = (Run){ .keep = &arena, .temp = &scratch, .threads = 1 };
    In in = { fresh(SHAPE(N, H, W, C), 0.3, 2), fresh(SHAPE(N, H, W, C), 0, 1), fresh(SHAPE(C), 0, 1), fresh(SHAPE(N, C), 0, 1),
              { fresh(SHAPE(C), 1, 0.5), fresh(SHAPE(C), 0, 0.5), fresh(SHAPE(N, C), 0, 0.5), fresh(SHAPE(N, C), 0, 0.5) } };
    for (int t = 0; (run.k = kernels_at(t)); t++) {
        same_bits_law(&in);
        run.threads = 2;
        invariance(&in);
        fusion(&in);
        softmax_law();
        inverses(&in);
        refusals(&in);
        memory(&in);
    }
    Tensor bad = fresh(SHAPE(7), 0, 1);
    bad.x[3] = (real)NAN;
    bad.x[6] = (real)-INFINITY;
    check_true("count_nonfinite counts", count_nonfinite(bad) == 2 && count_nonfinite(in.map) == 0);
    check_true("scratch memory was given back", scratch.used == 0);
    arena_free(&arena);
    arena_free(&scratch);
    return check_done();
}
