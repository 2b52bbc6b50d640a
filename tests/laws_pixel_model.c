/* laws_pixel_model.c -- pixel-space models as the program runs them: an upsampler's small picture, noise, and
 * pictures on their way to it.  EPS is the unit roundoff of the build. */
#include "ref/pixel_verbs.h"
#include "tests/check.h"
#include "tests/files.h"
#include "tests/pixel_nets.h"

static const double EPS = sizeof(real) == 4 ? 6e-8 : 1.2e-16;
static const char *const UP =
    "{\"kind\":\"adm_unet\",\"image_size\":4,\"in_channels\":6,\"num_channels\":4,\"num_res_blocks\":1,\"channel_mult\":\"1,2\",\"attention_resolutions\":\"2\","
    "\"num_head_channels\":4,\"resblock_updown\":true,\"learn_sigma\":true,\"num_classes\":3,\"norm_groups\":2,\"timestep_respacing\":\"5\"}";

static void make_model(const char *config)
{
    Arena a = {0}, w = {0}, t = {0};
    Status s = {0};
    Unet u;
    put_bytes(at("config.json"), config, strlen(config));
    if (pixel_build_unet(&u, scratch, &a, &s) && params_randomise(unet_walk, &u, &w, 1, &s))
        params_save(unet_walk, &u, at("model.safetensors"), T_F32, &t, &s);
    check_true(s.code == OK ? "a model folder" : s.text, s.code == OK);
    arena_free(&a);
    arena_free(&w);
    arena_free(&t);
}

static double apart(Tensor a, Tensor b)
{
    double worst = 0;
    for (size_t i = 0; i < tensor_count(b); i++) worst = fmax(worst, isnan(a.x[i]) ? (double)HUGE_VAL : fabs((double)a.x[i] - (double)b.x[i]));
    return tensor_same(a, b) ? worst : (double)HUGE_VAL;
}

static Tensor sample(PixelModel *p, const PixelRequest *q, uint64_t seed)
{
    Gaussian g;
    Random random;
    Tensor z = tensor_in(&p->run, p->run.run, SHAPE(3, q->H, q->W));
    pixel_process(p, &g, q->respacing);
    pixel_noise(p, &random, q, seed, z);
    pixel_sample(p, &g, q, &random, z, NULL);
    return z;
}

static void upsampler(void)
{
    PixelModel p;
    Common m = { .threads = 1 };
    make_model(UP);
    check_true("an upsampler", pixel_model_open(&p, &m, scratch, NULL) && p.upsampler && p.sampling.variance == VARIANCE_LEARNED && !strcmp(p.sampling.respacing, "5"));
    static const uint8_t one[] = { 0, 255, 51 }, two[] = { 0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255 };
    Tensor flat = pixel_enlarge(&p, one, 1, 1, 4, 4), ramp = pixel_enlarge(&p, two, 2, 2, 4, 4);
    double worst = 0;
    for (int i = 0; i < 48; i++) {
        static const double colour[] = { -1, 1, -0.6 }, column[] = { -1, -0.5, 0.5, 1 };         /* half-pixel centres, the edge repeated */
        worst = fmax(worst, fabs((double)flat.x[i] - colour[i / 16]));
        worst = fmax(worst, fabs((double)ramp.x[i] - column[i % 4]));
    }
    check_below("small pictures enlarged, by hand", worst, 4 * EPS);         /* measured 1 EPS */
    PixelRequest q = { .sampler = SAMPLER_DDPM, .respacing = "5", .label = 2, .low = flat, .W = 4, .H = 4 };
    Tensor a = sample(&p, &q, 7), b = sample(&p, &q, 7);
    check_true("the same bits again", run_ok(&p.run) && !memcmp(a.x, b.x, 48 * sizeof(real)));
    q.low = ramp;
    check_true("the small picture is seen", apart(sample(&p, &q, 7), a) > 1e-3);
    q.low = flat;
    q.label = 1;
    check_true("the class is seen", apart(sample(&p, &q, 7), a) > 1e-3);
    q.label = 3;
    sample(&p, &q, 7);
    check_true("a class that is not there", !run_ok(&p.run));
    pixel_model_close(&p);
    scratch_empty();
}

/* Each stored picture is a level above the one before it, by the network's answer there. */
static void inverted(void)
{
    PixelModel p;
    Common m = { .threads = 1 };
    Gaussian g;
    PixelRequest q = { .sampler = SAMPLER_DDIM, .respacing = "ddim5", .label = -1, .W = 4, .H = 4 };
    make_model(DDPM_TINY);
    check_true("a DDPM UNet", pixel_model_open(&p, &m, scratch, NULL) && p.sampling.variance == VARIANCE_SMALL && !p.upsampler);
    Run *r = &p.run;
    pixel_process(&p, &g, q.respacing);
    Shape one = SHAPE(1, 3, 4, 4);
    Tensor all = tensor_in(r, r->run, SHAPE(g.n + 1, 3, 4, 4)), eps = tensor_in(r, r->run, one), x0 = tensor_in(r, r->run, one), up = tensor_in(r, r->run, one);
    Tensor *stored = arena_take(r->run, (size_t)(g.n + 1) * sizeof *stored);
    if (!stored) exit(2);
    for (int i = 0; i <= g.n; i++) stored[i] = tensor_row(all, i);
    for (int i = 0; i < 48; i++) stored[g.n].x[i] = (real)(0.8 * check_uniform());
    pixel_invert(&p, &g, &q, stored, NULL);
    check_true("the picture is taken for the first level", !memcmp(stored[g.n].x, stored[g.n - 1].x, 48 * sizeof(real)));
    double worst = 0;
    for (int j = 0; j + 1 < g.n; j++) {
        UnetPass pass;
        double t = g.t[j];
        size_t mark = r->temp->used, kept = r->keep->used;
        Tensor x = { stored[g.n - 1 - j].x, one }, next = { stored[g.n - 2 - j].x, one };
        unet_forward(r, &p.unet, eps, &pass, x, &t, (Tensor){0}, false);
        gaussian_x0(r, &g, j, x0, x, eps);
        gaussian_clamp(r, &g, x0);
        gaussian_eps(r, &g, j, eps, x, x0);
        gaussian_reverse(r, &g, j, up, x0, eps);
        worst = fmax(worst, apart(up, next));
        arena_release(r->temp, mark);
        arena_release(r->keep, kept);
    }
    check_true("every level up, to the bit", worst == 0);
    check_true(run_ok(r) ? "no error" : r->status.text, run_ok(r));
    pixel_model_close(&p);
    scratch_empty();
}

int main(int argc, char **argv)
{
    (void)argc;
    if (!scratch_make(argv[0])) return 2;
    upsampler();
    inverted();
    scratch_remove();
    return check_done();
}
