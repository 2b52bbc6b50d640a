/* What must hold of DiffuseIT, its cuts and its colours, exactly where bits are compared. */
#include "guidance/colourmatch.h"
#include "tensor/point.h"
#include "tests/diffuseit_scene.h"

static DiffuseitOptions options(void)
{
    return (DiffuseitOptions){ .weight = { 20, 10, 2, 3, 20, 30, 20 }, .skip = 2, .diff_iter = 1, .rounds = 3, .max_restarts = 2, .noise_aug_all = true, .restart_above = 1e-9 };
}

typedef struct { Tensor x, x0; } Outcome;

static Outcome outcome(Translation *t)
{
    Outcome o = { numbers(t, t->x.s, 0), numbers(t, t->x.s, 0) };
    if (run_ok(&t->run)) diffuseit_run(&t->run, &t->d, o.x, o.x0);
    return o;
}

static bool same_outcome(Outcome a, Outcome b) { return same(a.x, b.x) && same(a.x0, b.x0); }

/* ---- the loop ---- */

/* Without a weight the loop is ancestral sampling with rounds at the top, written out here. */
static void plain_sampling(void)
{
    Translation t, u;
    DiffuseitOptions o = options();
    memset(o.weight, 0, sizeof o.weight);
    check_seed = 7;
    scene_open(&t, false, false, o);
    check_seed = 7;
    scene_open(&u, false, false, o);
    Run *r = &u.run;
    const Gaussian *p = &u.process;
    int top = diffuseit_top(&u.d);
    Outcome a = outcome(&t);
    Shape s = u.x.s;
    Tensor x = numbers(&u, s, 0), x0 = numbers(&u, s, 0), m = numbers(&u, s, 0), mean = numbers(&u, s, 0), lv = numbers(&u, s, 0), z = numbers(&u, s, 0);
    UnetPass pass;
    scene_noise(&u, z);
    gaussian_noised(r, p, top, x, u.source, z);
    for (int i = top; i >= 0; i--)
        for (int k = 0; k < (i == top ? o.rounds : 1); k++) {
            double time = p->t[i];
            size_t mark = r->keep->used;
            scene_noise(&u, z);
            unet_forward(r, &u.unet, m, &pass, x, &time, (Tensor){0}, false);
            arena_release(r->keep, mark);
            gaussian_x0(r, p, i, x0, x, m);
            gaussian_mean(r, p, i, mean, x0, x);
            gaussian_log_variance(r, p, i, lv, (Tensor){0});
            gaussian_ancestral(r, p, i, x, mean, lv, z);
            if (i < top || k == o.rounds - 1) continue;
            double b = p->beta[i - 1];
            scene_noise(&u, z);
            blend(r, x, (real)sqrt(1 - b), x, (real)sqrt(b), z);
        }
    check_true("no weights: ancestral sampling with rounds at the top, bit for bit", equal(a.x, x) && equal(a.x0, x0) && t.noises == u.noises);
    scene_close(&t);
    scene_close(&u);
}

static Outcome variant(Translation *t, bool latent, bool text, DiffuseitOptions o, int threads, bool recompute)
{
    check_seed = 3;
    scene_open(t, latent, text, o);
    t->run.threads = threads;
    t->d.recompute = recompute;
    return outcome(t);
}

static void same_bits(bool latent, bool text)
{
    Translation a, b, c, d;
    Outcome one = variant(&a, latent, text, options(), 1, false), three = variant(&b, latent, text, options(), 3, false), again = variant(&c, latent, text, options(), 1, true);
    DiffuseitOptions ddim = options();
    ddim.ddim = true;
    Outcome other = variant(&d, latent, text, ddim, 1, false);
    check_true("1 and 3 threads: the same bits", same_outcome(one, three));
    check_true("recomputed: the same bits", same_outcome(one, again));
    check_true("DDIM is another path", !same(one.x, other.x) && moves(other.x));
    check_true("ancestral: the last sample is not the last prediction", !same(one.x, one.x0));
    check_true("DDIM: the last sample is the last prediction", error(other.x, other.x0) < 1e-6);
    /* top = 5, three rounds: 8 calls; noises: start, one a call, one between rounds. */
    check_true("calls and noises", a.calls == 8 && a.noises == 1 + 8 + 2);
    check_true("DDIM: calls and noises", d.calls == 6 && d.noises == 1);
    check_true("cuts: every tower, every call", a.cuts == (text ? 8 * TOWERS * CUTS_EACH : 0));
    scene_close(&a);
    scene_close(&b);
    scene_close(&c);
    scene_close(&d);
}

static void restarts(void)
{
    Translation t;
    DiffuseitOptions o = options();
    o.range_restart = true;
    Outcome a = variant(&t, false, false, o, 1, false);
    /* Each of two restarts throws away three rounds and one step; then the flag is no longer obeyed. */
    check_true("restarts: as many as allowed", t.restarts == 2 && t.calls == 2 * 4 + 8);
    check_true("restarts: noises", t.noises == 3 + t.calls + 3 * 2);
    check_true("restarts: a finite end", moves(a.x) && !count_nonfinite(a.x));
    scene_close(&t);
    o.restart_above = 1e30;                               /* random networks do leave the range */
    variant(&t, false, false, o, 1, false);
    check_true("no restart below the threshold", t.restarts == 0 && t.calls == 8);
    scene_close(&t);
}

static void fractions(void)
{
    Translation t;
    DiffuseitReport p;
    DiffuseitOptions o = options();
    o.regularize_content = o.prog_contrast = true;
    scene_open(&t, false, true, o);
    Tensor g = numbers(&t, t.x.s, 0), mean = numbers(&t, t.x.s, 0), lv = numbers(&t, t.x.s, 0), x0 = numbers(&t, t.x.s, 0);
    double before = t.d.clip_loss;
    check_true("the CLIP loss before the first call is that of the source", before > -1 && before < 1);
    t.d.clip_loss = -0.4;
    diffuseit_guide(&t.run, &t.d, &p, g, mean, lv, x0, t.x, 3, NULL);
    check_true("half the contrast while the text is far", p.frac == 0.5);
    check_below("the loss goes on without its weight", fabs(t.d.clip_loss - p.term[DIT_CLIP] / 20), 1e-7);
    t.d.clip_loss = -0.6;
    diffuseit_guide(&t.run, &t.d, &p, g, mean, lv, x0, t.x, 3, NULL);
    check_true("twice the contrast once it is met", p.frac == 2);
    scene_close(&t);
}

static void refusals(void)
{
    Translation t;
    DiffuseitOptions o = options();
    o.skip = 8;
    scene_open(&t, false, false, o);
    check_true("every step skipped is refused", t.run.status.code == E_OPTION);
    t.run.status = (Status){0};
    scene_close(&t);
    o.skip = 7;
    scene_open(&t, false, false, o);
    check_true("rounds need two indices", t.run.status.code == E_OPTION);
    t.run.status = (Status){0};
    scene_close(&t);
}

/* ---- cuts ---- */

static void cut_laws(void)
{
    Translation t;
    scene_open(&t, false, false, options());
    Run *r = &t.run;
    Tensor x = tensor_row(t.source, 0), y = numbers(&t, SHAPE(1, 3, SIDE, SIDE), 1), half = numbers(&t, SHAPE(1, 3, 5, 7), 0), two = numbers(&t, SHAPE(2, 3, 5, 7), 0);
    Cut whole = cut_whole(SIDE, SIDE), some[2] = { { 5, 1, 2, 8, 9, true }, { -7, 2, 0, 9, 10, false } };
    cutouts(r, y, x, &whole);
    check_true("the whole picture at its size: the same bits", same(tensor_row(y, 0), x));
    whole.angle = 180;
    cutouts(r, y, x, &whole);
    bool turned = true;
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < SIDE * SIDE; i++) turned &= y.x[c * SIDE * SIDE + i] == x.x[c * SIDE * SIDE + SIDE * SIDE - 1 - i];
    check_true("half a turn", turned);
    cutouts(r, two, x, some);
    cutouts(r, half, x, some + 1);
    check_true("cuts do not see each other", same(tensor_row(half, 0), tensor_row(two, 1)));
    Random g, h;
    random_seed(&g, RANDOM_TORCH, 1);
    random_seed(&h, RANDOM_TORCH, 1);
    bool inside = true, drawn = true;
    int mirrored = 0;
    for (int k = 0; k < 2000; k++) {
        Cut c = cut_draw(&g, 30, 40), d = cut_draw(&h, 30, 40);
        double part = (double)c.height * c.width / 1200;
        inside &= c.top >= 0 && c.left >= 0 && c.top + c.height <= 30 && c.left + c.width <= 40 && fabs(c.angle) <= 10 && part > 0.75 && part <= 1;
        drawn &= !memcmp(&c.angle, &d.angle, sizeof c.angle) && c.top == d.top && c.left == d.left && c.flip == d.flip;
        mirrored += c.flip;
    }
    check_true("drawn cuts are inside, and large enough", inside);
    check_true("the same generator draws the same cuts", drawn);
    check_true("half of them mirrored", mirrored > 900 && mirrored < 1100);      /* five standard deviations are 112 */
    cutouts(r, half, x, &(Cut){ 0, 5, 0, 9, 3, false });
    check_true("a crop outside the picture is refused", r->status.code == E_SHAPE);
    r->status = (Status){0};
    scene_close(&t);
}

/* ---- colours ---- */

static void moments_of(Tensor x, double mean[3], double cov[3][3])
{
    size_t n = tensor_count(x) / 3;
    for (size_t c = 0; c < 3; c++) {
        mean[c] = 0;
        for (size_t i = 0; i < n; i++) mean[c] += (double)x.x[c * n + i] / (double)n;
    }
    for (size_t a = 0; a < 3; a++)
        for (size_t b = 0; b < 3; b++) {
            cov[a][b] = 0;
            for (size_t i = 0; i < n; i++) cov[a][b] += ((double)x.x[a * n + i] - mean[a]) * ((double)x.x[b * n + i] - mean[b]) / (double)(n - 1);
        }
}

static void colour_laws(void)
{
    Translation t;
    scene_open(&t, false, false, options());
    Run *r = &t.run;
    double limit = sizeof(real) == 4 ? 1e-5 : 1e-12, mean[2][3], cov[2][3][3], worst = 0;
    Tensor x = numbers(&t, SHAPE(3, 9, 11), 0.4), y = numbers(&t, SHAPE(3, 50), 0.2), out = numbers(&t, x.s, 0), back = numbers(&t, x.s, 0);
    for (int i = 0; i < 50; i++) y.x[50 + i] += y.x[i];   /* colours that go together */
    colourmatch(r, out, x, y);
    moments_of(out, mean[0], cov[0]);
    moments_of(y, mean[1], cov[1]);
    for (int a = 0; a < 3; a++) {
        worst = fmax(worst, fabs(mean[0][a] - mean[1][a]));
        for (int b = 0; b < 3; b++) worst = fmax(worst, fabs(cov[0][a][b] - cov[1][a][b]));
    }
    check_below("mean and covariance are the target's", worst, limit);
    colourmatch(r, back, x, x);
    check_below("onto itself: the identity", error(back, x), limit);
    colourmatch(r, back, out, y);
    check_below("twice is once", error(back, out), limit);
    double A[3][3] = { { 4, 1, -2 }, { 1, 3, 0.5 }, { -2, 0.5, 5 } }, w[3], V[3][3];
    colourmatch_eigen(w, V, A);
    worst = 0;
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 3; i++) worst = fmax(worst, fabs(A[i][0] * V[0][k] + A[i][1] * V[1][k] + A[i][2] * V[2][k] - w[k] * V[i][k]));
    check_below("eigenvectors", worst, 1e-14);
    check_below("trace", fabs(w[0] + w[1] + w[2] - 12), 1e-14);
    for (size_t i = 0; i < tensor_count(x); i++) x.x[i] = (real)0.25;
    colourmatch(r, out, x, y);
    check_true("one colour: finite", !count_nonfinite(out));
    Tensor p = numbers(&t, SHAPE(3, 6, 6), 0.3), like = numbers(&t, SHAPE(3, 6, 6), 0.8);
    colourmatch_picture(r, p, like, COLOURMATCH_STRETCH);
    real low = 2, high = -2;
    for (size_t i = 0; i < tensor_count(p); i++) low = p.x[i] < low ? p.x[i] : low, high = p.x[i] > high ? p.x[i] : high;
    check_true("stretched: the whole range", low == -1 && high == 1);
    scene_close(&t);
}

int main(void)
{
    plain_sampling();
    same_bits(false, false);
    same_bits(false, true);
    same_bits(true, true);
    restarts();
    fractions();
    refusals();
    cut_laws();
    colour_laws();
    return check_done();
}
