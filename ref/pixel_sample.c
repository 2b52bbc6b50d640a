#include <string.h>
#include "guidance/invert.h"
#include "ref/pixel_model.h"
#include "tensor/file.h"
#include "tensor/point.h"
#include "tensor/resize.h"

bool pixel_process(PixelModel *p, Gaussian *g, const char *respacing)
{
    const PixelSampling *q = &p->sampling;
    ScheduleConfig c = gaussian_config(q->betas, q->T);
    c.clip_sample = q->clamp;
    bool good = gaussian_make(g, &c, respacing, q->variance, p->run.run, &p->run.status);
    if (q->rescale) g->time_scale = 1000.0 / q->T;
    return good;
}

static void draw(Run *r, Random *random, Tensor to)
{
    size_t n = tensor_count(to), mark = r->temp->used;
    float *drawn = run_ok(r) ? arena_take(r->temp, n * sizeof *drawn) : NULL;
    if (!drawn) run_fail(r, E_MEMORY, "out of memory: %zu random numbers", n);
    else random_normal(random, n, drawn);
    for (size_t i = 0; i < n && run_ok(r); i++) to.x[i] = (real)drawn[i];
    arena_release(r->temp, mark);
}

void pixel_noise(PixelModel *p, Random *random, const PixelRequest *q, uint64_t seed, Tensor z)
{
    random_seed(random, q->rng, seed);
    draw(&p->run, random, z);
}

Tensor pixel_enlarge(PixelModel *p, const uint8_t *rgb, int h, int w, int H, int W)
{
    Run *r = &p->run;
    size_t mark = r->temp->used, places = (size_t)h * (size_t)w;
    Tensor x = temp(r, SHAPE(1, 3, h, w)), y = tensor_in(r, r->run, SHAPE(1, 3, H, W));
    for (size_t i = 0; i < 3 * places && run_ok(r); i++) x.x[i] = rgb[i % places * 3 + i / places] / (real)127.5 - 1;
    resize(r, y, x, (Resize){ RESIZE_BILINEAR, false, 0, 0 });
    arena_release(r->temp, mark);
    y.s = SHAPE(3, H, W);
    return run_ok(r) ? y : (Tensor){0};
}

/* ---- the loop ---- */

typedef struct { PixelModel *p; Random *random; const PixelHooks *h; double began; } Loop;

static void fresh(void *user, NoiseFor what, const Clock *c, Tensor out)
{
    Loop *l = user;
    (void)what; (void)c;
    draw(&l->p->run, l->random, out);
}

static bool watch(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Loop *l = user;
    double now = clock_seconds(), took = now - l->began;
    l->began = now;
    return !l->h || !l->h->step || l->h->step(l->h->user, report, took, z, x0);
}

static Tensor class_of(PixelModel *p, const PixelRequest *q)
{
    if (!p->unet.classes) return (Tensor){0};
    Tensor y = tensor_in(&p->run, p->run.run, SHAPE(1));
    if (y.x) y.x[0] = (real)q->label;
    return y;
}

static Guide guide_of(PixelModel *p, const Gaussian *g, const PixelRequest *q, Loop *l)
{
    return (Guide){ .unet = &p->unet, .schedule = &g->schedule, .process = g, .beside = q->low, .sampler = q->sampler, .eta = q->eta,
                    .noise = fresh, .watch = watch, .user = l };
}

bool pixel_sample(PixelModel *p, const Gaussian *g, const PixelRequest *q, Random *random, Tensor z, const PixelHooks *h)
{
    Run *r = &p->run;
    size_t mark = r->run->used;
    Loop l = { p, random, h, clock_seconds() };
    Guide guide = guide_of(p, g, q, &l);
    Classifier classifier = classifier_adm(&p->classifier, g->time_scale);
    Branch b = { .name = "cond", .context = class_of(p, q), .mix = mix_cond, .par = { 1 } };
    Method m = { .name = "plain", .branch = &b, .branches = 1 };
    MethodInput in = { .number = &q->scale, .cond = b.context, .scale = 1, .schedule = &g->schedule, .sampler = q->sampler, .classifier = &classifier,
                       .label = q->label, .unet = &p->unet, .h = q->H, .w = q->W };
    if (!pixel_model_read(p, q->W, q->H)) return false;
    if (!*p->classifier_folder || q->scale == 0 || method_classifier.build(r, &m, &in)) guide_sample(r, &guide, &(Guidance){ &m, 1 }, z);
    arena_release(r->run, mark);
    return run_ok(r);
}

bool pixel_invert(PixelModel *p, const Gaussian *g, const PixelRequest *q, Tensor *stored, const PixelHooks *h)
{
    Run *r = &p->run;
    Loop l = { p, NULL, h, clock_seconds() };
    Guide guide = guide_of(p, g, q, &l);
    Tensor y = class_of(p, q);
    if (!pixel_model_read(p, q->W, q->H)) return false;
    tensor_copy(r, stored[g->n - 1], stored[g->n]);
    for (int i = g->n - 1; i > 0 && run_ok(r); i--) {
        guide_invert_step(r, &guide, y, i, stored[i - 1], stored[i]);
        GuideReport report = { .clock = guide_clock(&g->schedule, i), .forwards = 1 };
        report.clock.i = g->n - 1 - i;
        if (run_ok(r) && !watch(&l, &report, stored[i - 1], stored[i])) run_fail(r, E_STOP, "stopped");
    }
    return run_ok(r);
}

uint8_t *pixel_levels(PixelModel *p, Arena *a, Tensor z)
{
    Run *r = &p->run;
    size_t bad = run_ok(r) ? count_nonfinite(z) : 0, places = run_ok(r) ? (size_t)z.s.d[1] * (size_t)z.s.d[2] : 0;
    if (bad) run_fail(r, E_NUMBER, "%zu of %zu numbers of the picture are not finite", bad, tensor_count(z));
    uint8_t *rgb = run_ok(r) ? arena_take(a, 3 * places) : NULL;
    if (run_ok(r) && !rgb) run_fail(r, E_MEMORY, "out of memory: a picture");
    for (size_t i = 0; rgb && i < 3 * places; i++) rgb[i % places * 3 + i / places] = gaussian_byte(z.x[i]);
    return rgb;
}
