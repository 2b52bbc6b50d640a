#include <string.h>
#include "ref/pipeline.h"
#include "tensor/file.h"
#include "tensor/point.h"

void sample_noise(Run *r, Tensor to, Random *generator, int generators)
{
    size_t n = tensor_count(to), mark = r->temp->used;
    if (!run_ok(r)) return;
    if (!n || !generator || (generators != 1 && generators != to.s.d[0])) {
        run_fail(r, E_OPTION, "noise: %d generators for %d images", generators, to.s.d[0]);
        return;
    }
    float *drawn = arena_take(r->temp, n * sizeof *drawn);
    if (!drawn) {
        run_fail(r, E_MEMORY, "out of memory: %zu random numbers", n);
        return;
    }
    size_t each = n / (size_t)generators;
    for (int g = 0; g < generators; g++) random_normal(&generator[g], each, drawn + (size_t)g * each);
    for (size_t i = 0; i < n; i++) to.x[i] = (real)drawn[i];
    arena_release(r->temp, mark);
}

/* ---- the network on x, once or for two rows of text ---- */

typedef struct {
    Run *r;
    const Unet *u;
    Tensor context;                                       /* [passes N, T, D]: the text of every row */
    double *t;                                            /* [passes N] */
    Tensor z, out;                                        /* [passes N, C, h, w] */
    int N, passes;
    bool apart;
    Arena *keep;                                          /* the Run's own, put back at the end */
} Predictor;

static bool predictor_begin(Predictor *p, Run *r, const Unet *u, Tensor x, Tensor context, int passes, bool apart)
{
    int N = x.s.d[0], rows = context.s.d[0];
    *p = (Predictor){ .r = r, .u = u, .N = N, .passes = passes, .apart = apart, .keep = r->keep };
    r->keep = r->temp;                                    /* nothing goes backward here */
    if (!run_ok(r)) return false;
    if (shape_rank(x.s) != 4 || shape_rank(context.s) != 3 || rows < passes || x.s.d[1] != u->config.in_channels || x.s.d[1] != u->config.out_channels) {
        run_fail(r, E_SHAPE, "sampling: latents [%d,%d,..] and %d rows of text, for a UNet of %d channels in and %d out, and %d passes",
                 N, x.s.d[1], rows, u->config.in_channels, u->config.out_channels, passes);
        return false;
    }
    p->z       = temp(r, SHAPE(passes * N, x.s.d[1], x.s.d[2], x.s.d[3]));
    p->out     = temp(r, p->z.s);
    p->context = temp(r, SHAPE(passes * N, context.s.d[1], context.s.d[2]));
    p->t       = arena_take(r->temp, (size_t)(passes * N) * sizeof *p->t);
    if (!p->t) run_fail(r, E_MEMORY, "out of memory");
    for (int i = 0; run_ok(r) && i < passes * N; i++)
        tensor_copy(r, tensor_row(p->context, i), tensor_row(context, rows - passes + i / N));
    return run_ok(r);
}

static void predictor_end(Predictor *p, size_t mark)
{
    p->r->keep = p->keep;
    arena_release(p->r->temp, mark);
}

static void forward_rows(Predictor *p, int first, int count)
{
    UnetPass pass;
    memset(&pass, 0, sizeof pass);
    size_t mark = p->r->temp->used;
    unet_forward(p->r, p->u, tensor_rows(p->out, first, count), &pass, tensor_rows(p->z, first, count), p->t + first,
                 tensor_rows(p->context, first, count), false);
    arena_release(p->r->temp, mark);
}

/* All rows at once, or pass by pass; short of memory for the first, the second is tried, once and for all. */
static void predictor_run(Predictor *p, Tensor x, int t)
{
    Run *r = p->r;
    for (int i = 0; i < p->passes * p->N; i++) p->t[i] = t;
    for (int i = 0; i < p->passes; i++) tensor_copy(r, tensor_rows(p->z, i * p->N, p->N), x);
    size_t mark = r->temp->used;
    if (!p->apart) forward_rows(p, 0, p->passes * p->N);
    if (r->status.code == E_MEMORY && p->passes > 1 && !p->apart) {
        r->status = (Status){0};
        arena_release(r->temp, mark);
        p->apart = true;
    }
    for (int i = 0; p->apart && i < p->passes; i++) forward_rows(p, i * p->N, p->N);
}

static void finish_step(Run *r, const SampleStep *at, SampleHook hook)
{
    size_t bad = run_ok(r) ? count_nonfinite(at->x) : 0;
    if (bad) run_fail(r, E_NUMBER, "step %d of %d (time %d): %zu of %zu numbers of the latent are not finite", at->step, at->of, at->t, bad, tensor_count(at->x));
    if (run_ok(r) && hook.step && !hook.step(hook.user, r, at)) run_fail(r, E_STOP, "stopped after step %d of %d", at->step, at->of);
}

/* ---- down: noise to image ---- */

static Tensor mix(Run *r, const Predictor *p, SampleStep *at, SampleOptions o)
{
    at->cond = tensor_rows(p->out, (p->passes - 1) * p->N, p->N);
    if (p->passes == 1) return at->cond;
    at->uncond = tensor_rows(p->out, 0, p->N);
    Tensor e = temp(r, at->cond.s);
    cfg_mix(r, e, at->uncond, at->cond, o.scale);
    cfg_rescale(r, e, at->cond, o.rescale);
    return e;
}

static Tensor step_noise(Run *r, Tensor x, int step, SampleOptions o)
{
    if (!(o.eta > 0)) return (Tensor){0};
    if (o.given) return o.given[step];
    Tensor noise = temp(r, x.s);
    sample_noise(r, noise, o.generator, o.generators);
    return noise;
}

void sample_down(Run *r, const Unet *u, const Schedule *s, Tensor x, Tensor context, SampleOptions o, SampleHook hook)
{
    Predictor p;
    size_t mark = r->temp->used;
    predictor_begin(&p, r, u, x, context, o.scale == 1 ? 1 : 2, o.apart);
    for (int k = 0; k < s->n && run_ok(r); k++) {
        SampleStep at = { .step = k + 1, .of = s->n, .t = s->t[k], .x = x };
        double began = clock_seconds();
        size_t inner = r->temp->used;
        predictor_run(&p, x, at.t);
        at.out = mix(r, &p, &at, o);
        at.x0 = temp(r, x.s);
        ddim_step(r, s, at.t, x, at.x0, x, at.out, at.out, step_noise(r, x, k, o), (DdimOptions){ o.eta, false });
        at.seconds = clock_seconds() - began;
        finish_step(r, &at, hook);
        arena_release(r->temp, inner);
    }
    predictor_end(&p, mark);
}

/* ---- up: image to noise ---- */

void sample_up(Run *r, const Unet *u, const Schedule *s, Tensor x, Tensor context, SampleHook hook)
{
    Predictor p;
    size_t mark = r->temp->used;
    predictor_begin(&p, r, u, x, context, 1, false);
    for (int k = 0; k < s->n && run_ok(r); k++) {
        SampleStep at = { .step = k + 1, .of = s->n, .t = ddim_inverse_t(s, k), .x = x };
        double began = clock_seconds();
        predictor_run(&p, x, at.t);
        at.out = at.cond = p.out;
        ddim_inverse_step(r, s, at.t, x, x, at.out);
        at.seconds = clock_seconds() - began;
        finish_step(r, &at, hook);
    }
    predictor_end(&p, mark);
}
