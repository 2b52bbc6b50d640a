/* laws_sampler.c -- what must hold of schedules, DDIM steps and mixed predictions whatever the numbers are.  EPS is the
 * unit roundoff of the build; limits are multiples of it, some two to five times what either build measures. */
#include <float.h>
#include "guidance/cfg.h"
#include "guidance/ddim.h"
#include "guidance/ddpm.h"
#include "tensor/point.h"
#include "tensor/random.h"
#include "tests/check.h"

static const double EPS = sizeof(real) == 4 ? 6e-8 : 1.2e-16;
static Arena arena;
static Run run;
static Random numbers;

static Tensor normal(Shape s)
{
    Tensor t = temp(&run, s);
    float drawn[512];
    random_normal(&numbers, tensor_count(t), drawn);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)drawn[i];
    return t;
}
static Tensor empty(Shape s) { return temp(&run, s); }
static const Shape SIZE = {{ 2, 4, 5, 3 }};

static double apart(Tensor a, Tensor b)                   /* max|a - b| / max|b| */
{
    double worst = 0, size = 0;
    for (size_t i = 0; i < tensor_count(b); i++) {
        worst = fmax(worst, isnan(a.x[i]) ? (double)INFINITY : fabs((double)a.x[i] - (double)b.x[i]));
        size = fmax(size, fabs((double)b.x[i]));
    }
    return tensor_same(a, b) && size > 0 ? worst / size : (double)INFINITY;
}
static int same_bits(Tensor a, Tensor b) { return tensor_same(a, b) && !memcmp(a.x, b.x, tensor_count(b) * sizeof(real)); }

static Schedule make(Prediction kind, int steps)
{
    static const ScheduleConfig SD = { .train_steps = 1000, .steps_offset = 1, .beta_start = 0.00085, .beta_end = 0.012, .beta = BETA_SCALED_LINEAR,
                                       .clip_range = 1, .threshold_quantile = 0.995, .threshold_max = 1 };
    Schedule s;
    ScheduleConfig c = SD;
    c.prediction = kind;
    schedule_make(&s, &c, ALPHAS_FLOAT32, steps, &arena, &run.status);
    return s;
}

/* What a perfect network would answer. */
static Tensor perfect(const Schedule *s, int t, Tensor x0, Tensor n)
{
    double a = schedule_alpha_bar(s, t);
    Tensor m = empty(x0.s);
    switch (s->config.prediction) {
    case PREDICT_EPS: tensor_copy(&run, m, n); break;
    case PREDICT_X0:  tensor_copy(&run, m, x0); break;
    case PREDICT_V:   blend(&run, m, (real)sqrt(a), n, (real)-sqrt(1 - a), x0); break;
    }
    return m;
}

static void predictions(void)
{
    static const char *const names[] = { "eps", "x0", "v" };
    for (int kind = PREDICT_EPS; kind <= PREDICT_V; kind++) {
        Schedule s = make((Prediction)kind, 10);
        Tensor x0 = normal(SIZE), n = normal(SIZE), x = empty(SIZE), clean = empty(SIZE), eps = empty(SIZE), step = empty(SIZE), there = empty(SIZE);
        double worst_x0 = 0, worst_eps = 0, worst_step = 0;
        for (int k = 0; k < s.n; k++) {
            int t = s.t[k];
            ddim_add_noise(&run, &s, t, x, x0, n);
            Tensor m = perfect(&s, t, x0, n);
            ddim_predict(&run, &s, t, clean, eps, x, m);
            double a = schedule_alpha_bar(&s, t), p = schedule_alpha_bar(&s, schedule_previous(&s, t));
            worst_x0 = fmax(worst_x0, apart(clean, x0) * sqrt(a));        /* dividing by sqrt(a) or sqrt(1-a) is what costs digits */
            worst_eps = fmax(worst_eps, apart(eps, n) * sqrt(1 - a));
            ddim_step(&run, &s, t, step, (Tensor){0}, x, m, m, (Tensor){0}, (DdimOptions){0});
            blend(&run, there, (real)sqrt(p), x0, (real)sqrt(1 - p), n);
            worst_step = fmax(worst_step, apart(step, there) * sqrt(a * (1 - a)));
        }
        char what[80];
        snprintf(what, sizeof what, "exact %s prediction: x0 returns", names[kind]);
        check_below(what, worst_x0, 8 * EPS);           /* measured at most 2.5 EPS */
        check_below("    and the noise", worst_eps, 8 * EPS);                     /* 2 EPS */
        check_below("    and the step lies on the same line", worst_step, 8 * EPS);       /* 2 EPS */
    }
}

static void steps(void)
{
    Schedule s = make(PREDICT_EPS, 10);
    Tensor x = normal(SIZE), m = normal(SIZE), other = normal(SIZE), noise = normal(SIZE);
    Tensor a = empty(SIZE), b = empty(SIZE), c = empty(SIZE), x0 = empty(SIZE);
    const int t = 401;
    const double p = schedule_alpha_bar(&s, 301), ab = schedule_alpha_bar(&s, t);

    ddim_step(&run, &s, t, a, x0, x, m, m, (Tensor){0}, (DdimOptions){0});
    tensor_copy(&run, b, x);
    ddim_step(&run, &s, t, b, (Tensor){0}, b, m, m, (Tensor){0}, (DdimOptions){0});
    check_true("eta 0: the same bits again, and in place", same_bits(a, b));
    ddim_step(&run, &s, t, tensor_rows(c, 1, 1), (Tensor){0}, tensor_rows(x, 1, 1), tensor_rows(m, 1, 1), tensor_rows(m, 1, 1), (Tensor){0}, (DdimOptions){0});
    check_true("an image alone, or with others: the same bits", same_bits(tensor_rows(c, 1, 1), tensor_rows(a, 1, 1)));

    ddim_step(&run, &s, t, a, x0, x, m, other, (Tensor){0}, (DdimOptions){0});
    blend(&run, b, (real)sqrt(p), x0, (real)sqrt(1 - p), other);
    check_true("two noises: x0 from one, direction from the other", same_bits(a, b));

    check_below("eta 1: the posterior's variance (DDPM)", fabs(pow(ddim_sigma(&s, t, 1), 2) / ((1 - p) / (1 - ab) * (1 - ab / p)) - 1), 1e-14);   /* rounding in double */
    check_true("DDPM: the last step's variance is the least there is, not 0", ddpm_variance(&s, 1) == 1e-20 && ddpm_variance(&s, t) > 1e-4);
    check_true("eta scales sigma", fabs(ddim_sigma(&s, t, 0.25) - ddim_sigma(&s, t, 1) / 4) < 1e-16);
    ddim_step(&run, &s, t, a, (Tensor){0}, x, m, m, noise, (DdimOptions){ 1, false });
    double sigma = ddim_sigma(&s, t, 1);
    ddim_predict(&run, &s, t, x0, (Tensor){0}, x, m);
    blend(&run, b, (real)sqrt(p), x0, (real)sqrt(1 - p - sigma * sigma), m);
    axpy(&run, b, (real)sigma, noise);
    check_true("eta 1: noise added, direction shortened", same_bits(a, b));

    ddim_inverse_step(&run, &s, t, a, x, m);
    ddim_step(&run, &s, t, b, (Tensor){0}, a, m, m, (Tensor){0}, (DdimOptions){0});
    check_below("one step up and down with one noise", apart(b, x), 20 * EPS);    /* measured 2 EPS */
    check_true("inversion walks the list upwards", ddim_inverse_t(&s, 0) == 1 && ddim_inverse_t(&s, 9) == 901 && ddim_inverse_from(&s, 1) == -99);
}

/* A quantile by its definition, from the sorted sizes 0, 1, ... of x0 in some order. */
static void restraint(void)
{
    Schedule s = make(PREDICT_X0, 10);
    Shape line = SHAPE(2, 9, 1, 1);
    Tensor x = normal(line), m = empty(line), x0 = empty(line), eps = empty(line), again = empty(line);
    static const int order[9] = { 3, -7, 0, 8, -1, 5, -2, 6, 4 };
    for (int i = 0; i < 9; i++) m.x[i] = (real)order[i] / 4, m.x[9 + i] = (real)order[i] / 16;
    s.config.thresholding = true, s.config.threshold_quantile = 0.8, s.config.threshold_max = 1.55;
    ddim_predict(&run, &s, 401, x0, (Tensor){0}, x, m);   /* rank 0.8 * 8 = 6.4: quantile 6.4 / 4 = 1.6, above the most allowed */
    int ok = 1;
    for (int i = 0; i < 9; i++) ok &= fabs((double)x0.x[i] - fmax(-1, fmin(1, order[i] / 4.0 / 1.55))) < 4 * EPS;
    check_true("thresholding: the largest divisor allowed", ok);
    s.config.threshold_max = 10, ok = 1;
    ddim_predict(&run, &s, 401, x0, (Tensor){0}, x, m);
    for (int i = 0; i < 9; i++) ok &= fabs((double)x0.x[i] - fmax(-1, fmin(1, order[i] / 4.0 / 1.6))) < 4 * EPS;
    check_true("thresholding: the interpolated quantile", ok);
    check_true("    a small image is left alone, in the same batch", same_bits(tensor_rows(x0, 1, 1), tensor_rows(m, 1, 1)));

    s.config.thresholding = false, s.config.clip_sample = true, s.config.clip_range = 0.5, ok = 1;
    ddim_predict(&run, &s, 401, x0, eps, x, m);
    for (int i = 0; i < 9; i++) ok &= x0.x[i] == (real)fmax(-0.5, fmin(0.5, order[i] / 4.0));
    check_true("clipping", ok);
    ddim_step(&run, &s, 401, again, (Tensor){0}, x, m, m, (Tensor){0}, (DdimOptions){ 0, true });
    double a = schedule_alpha_bar(&s, 401), p = schedule_alpha_bar(&s, 301), worst = 0;
    for (int i = 0; i < 18; i++) {
        double e = ((double)x.x[i] - sqrt(a) * (double)x0.x[i]) / sqrt(1 - a);
        worst = fmax(worst, fabs((double)again.x[i] - (sqrt(p) * (double)x0.x[i] + sqrt(1 - p) * e)));
    }
    check_below("direction from the clipped x0", worst, 20 * EPS);        /* measured 2 EPS */
}

static double deviation(Tensor x)
{
    double mean = 0, q = 0, n = (double)tensor_count(x);
    for (size_t i = 0; i < tensor_count(x); i++) mean += (double)x.x[i] / n;
    for (size_t i = 0; i < tensor_count(x); i++) q += pow((double)x.x[i] - mean, 2) / (n - 1);
    return sqrt(q);
}

static void mixing(void)
{
    Tensor u = normal(SIZE), c = normal(SIZE), n = normal(SIZE), e = empty(SIZE), f = empty(SIZE), both[2] = { c, n };
    cfg_mix(&run, e, u, c, 1);
    check_true("scale 1 is the conditional prediction, bit for bit", same_bits(e, c));
    cfg_mix(&run, e, (Tensor){0}, c, 1);
    check_true("    without an unconditional one", run_ok(&run) && same_bits(e, c));
    cfg_mix(&run, e, u, c, 0);
    check_below("scale 0 is the unconditional one", apart(e, u), EPS / 2);        /* 0 (c - u) added: no rounding */
    cfg_mix(&run, e, u, c, 7.5);
    cfg_mix_paper(&run, f, u, c, 6.5);
    check_below("the paper's scale is one less", apart(f, e), 4 * EPS);           /* measured 1.2 EPS */
    cfg_compose(&run, f, u, &c, (double[]){ 7.5 }, 1);
    check_below("one composed prompt is guidance", apart(f, e), EPS * 2);
    cfg_compose(&run, f, u, both, (double[]){ 7.5, 0 }, 2);
    check_below("a prompt of weight 0 changes nothing", apart(f, e), EPS * 2);
    cfg_project(&run, f, u, c, 7.5, 1, 0, false);
    check_below("projection with eta 1 is guidance", apart(f, e), 2 * EPS);
    cfg_project(&run, f, u, c, 7.5, 1, 0, true);
    check_below("    from either base", apart(f, e), 4 * EPS);                    /* measured 1 EPS */
    cfg_project(&run, f, c, c, 7.5, 0.5, 1, false);
    check_true("nothing to project: nothing moves", same_bits(f, c));

    cfg_project(&run, f, u, c, 7.5, 0, 3, false);
    blend(&run, f, 1, f, -1, u);
    for (int i = 0; i < 2; i++) {
        Tensor d = tensor_rows(f, i, 1), ci = tensor_rows(c, i, 1);
        check_below("eta 0: the change is orthogonal to the prediction", fabs(dot(&run, d, ci)) / sqrt(dot(&run, d, d) * dot(&run, ci, ci)), 20 * EPS);
        check_true("    and capped", sqrt(dot(&run, d, d)) < 7.5 * 3 * (1 + 10 * EPS));
    }
    tensor_copy(&run, f, e);
    cfg_rescale(&run, f, c, 1);
    for (int i = 0; i < 2; i++)
        check_below("rescaled fully: the deviation of the conditional", fabs(deviation(tensor_rows(f, i, 1)) / deviation(tensor_rows(c, i, 1)) - 1), 20 * EPS);     /* 6 EPS in double: sums of 60 */
    Tensor part = empty(SIZE);
    tensor_copy(&run, part, e);
    cfg_rescale(&run, part, c, 0.7);
    blend(&run, f, (real)0.7, f, (real)0.3, e);
    check_below("    in part: so much of it", apart(part, f), 8 * EPS);
    tensor_copy(&run, f, e);
    cfg_rescale(&run, f, c, 0);
    check_true("rescaled not at all", same_bits(f, e));
    check_true("interval: lower end out, upper end in", cfg_interval(5, 1, 2, 0.5) == 1 && cfg_interval(5, 0.5, 1, 0.5) == 5 && cfg_interval(5, 2, 3, 0.5) == 1);
}

static void refused(const char *what, Code code)
{
    check_true(what, run.status.code == code);
    run.status = (Status){0};
}

static void refusals(void)
{
    Schedule s = make(PREDICT_EPS, 10), white = s;
    Tensor x = normal(SIZE), m = normal(SIZE), y = empty(SIZE), none = {0}, odd = normal(SHAPE(2, 4, 3, 5));
    white.config.prediction = PREDICT_X0, white.final_alpha_bar = 1;
    ddim_step(&run, &s, 401, y, none, x, odd, odd, none, (DdimOptions){0});
    refused("shapes that differ", E_SHAPE);
    ddim_step(&run, &s, 401, y, none, x, m, m, none, (DdimOptions){ 0.5, false });
    refused("eta without noise", E_OPTION);
    ddim_step(&run, &s, 401, y, none, x, m, m, m, (DdimOptions){ 1.5, false });
    refused("eta above 1", E_OPTION);
    ddim_step(&run, &s, 401, y, none, x, m, m, m, (DdimOptions){ (double)NAN, false });
    refused("eta that is no number", E_OPTION);
    ddim_step(&run, &s, 1000, y, none, x, m, m, none, (DdimOptions){0});
    refused("a time beyond the model", E_OPTION);
    ddim_inverse_step(&run, &s, 1001, y, x, m);
    refused("inversion to a time beyond the model", E_OPTION);
    ddim_inverse_step(&run, &white, 1, y, x, m);
    refused("inversion of x0 predictions from where no noise is", E_OPTION);
    ddim_add_noise(&run, &s, 5000, y, x, m);
    refused("noise of a time beyond the model", E_OPTION);
    cfg_mix(&run, y, none, m, 2);
    refused("guidance without an unconditional prediction", E_SHAPE);
    cfg_project(&run, y, x, odd, 2, 1, 0, false);
    refused("projection of shapes that differ", E_SHAPE);
}

int main(void)
{
    arena.poison = true;
    run = (Run){ .keep = &arena, .temp = &arena, .step = &arena, .run = &arena, .k = kernels_pick(NULL), .threads = 2, .blas = true };
    random_seed(&numbers, RANDOM_TORCH, 11);
    predictions();
    steps();
    restraint();
    mixing();
    refusals();
    check_true("no error was left behind", run_ok(&run));
    arena_free(&arena);
    return check_done();
}
