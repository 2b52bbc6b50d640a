/* The process of pixel-space models: tables of respacings, whole runs with and without the noisy classifier. */
#include <math.h>
#include <string.h>
#include "guidance/classifier.h"
#include "guidance/invert.h"
#include "nn/pixel.h"
#include "ref/conform.h"
#include "tensor/point.h"

static BetaKind betas_named(Case *c, const Json *name)
{
    if (json_is(name, "cosine")) return BETA_COSINE;
    if (name && !json_is(name, "linear")) run_fail(&c->run, E_FORMAT, "%s: noise_schedule: linear or cosine is expected", c->file);
    return BETA_LINEAR;
}

static void judge_process(Case *c, int k, const Gaussian *g)
{
    const struct { const char *name; const double *x; } table[] = {
        { "betas", g->beta }, { "alphas_cumprod", g->alpha_bar }, { "posterior_log_variance_clipped", g->log_posterior },
        { "posterior_mean_coef1", g->mean_x0 }, { "posterior_mean_coef2", g->mean_x },
    };
    int64_t *t = arena_take(c->run.run, (size_t)g->n * sizeof *t);
    for (int i = 0; t && i < g->n; i++) t[i] = g->t[i];
    if (t) judge_integers(c, case_name(c, "out.%d.timestep_map", k), SHAPE(g->n), t);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        judge_doubles(c, case_name(c, "out.%d.%s", k, table[i].name), SHAPE(g->n), table[i].x);
}

/* params.specK: respacing and betas of tables out.K.*; K counts up from 0. */
void conform_respacing(Case *c)
{
    const Json *spec;
    for (int k = 0; run_ok(&c->run) && (spec = json_get(c->params, case_name(c, "spec%d", k))); k++) {
        const Json *text = json_get(spec, "timestep_respacing");
        if (!text || text->kind != JSON_STRING) {
            run_fail(&c->run, E_FORMAT, "%s: spec%d: timestep_respacing: a text is expected", c->file, k);
            return;
        }
        Gaussian g;
        ScheduleConfig config = gaussian_config(betas_named(c, json_get(spec, "noise_schedule")), 1000);
        if (gaussian_make(&g, &config, text->text, VARIANCE_LARGE, c->run.run, &c->run.status) && case_has_under(c, case_name(c, "out.%d.", k)))
            judge_process(c, k, &g);
    }
}

/* ---- whole runs ---- */

typedef struct {
    Case *c;
    Unet unet;
    AdmClassifier classifier;
    Gaussian process;
    Guide guide;
    const int *label;
    double scale, eta;
    int first;                                            /* the index that runs begin with */
    Tensor x, noise, z, x0[64];                           /* [N,C,h,w]; [steps,N,C,h,w] */
    int image;
} Sampling;

static double whole(const Clock *c, const double *par)
{
    (void)c; (void)par;
    return 1;
}

static int index_of(const Sampling *s, const Clock *c) { return s->process.n - 1 - c->i; }

static bool keep_x0(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Sampling *s = user;
    (void)z;
    tensor_copy(&s->c->run, tensor_row(s->x0[index_of(s, &report->clock)], s->image), x0);
    return true;
}

static void given_noise(void *user, NoiseFor what, const Clock *c, Tensor out)
{
    Sampling *s = user;
    size_t each = tensor_count(out);
    (void)what;
    tensor_copy(&s->c->run, out, (Tensor){ s->noise.x + ((size_t)(s->first - index_of(s, c)) * (size_t)s->x.s.d[0] + (size_t)s->image) * each, out.s });
}

static bool sampling_open(Sampling *s, Case *c)
{
    Run *r = &c->run;
    Shape labels = {0};
    memset(s, 0, sizeof *s);
    s->c = c;
    ScheduleConfig config = gaussian_config(BETA_LINEAR, 1000);
    config.clip_sample = case_flag(c, "clip_denoised", true);
    const char *classifier = case_name(c, "%s/%s", c->root, case_text(c, "classifier", ""));
    if (!pixel_load_unet(&s->unet, case_model(c, NULL), c->weights, NULL, &r->status)) return false;
    if (!pixel_load_classifier(&s->classifier, classifier, c->weights, NULL, &r->status)) return false;
    Variance v = s->unet.learned_variance ? VARIANCE_LEARNED : VARIANCE_LARGE;
    if (!gaussian_make(&s->process, &config, case_text(c, "timestep_respacing", ""), v, r->run, &r->status)) return false;
    s->x = case_in(c, "in.x");
    s->noise = case_in(c, "in.noise");
    s->label = case_ids(c, "in.y", &labels);
    s->scale = case_real(c, "classifier_scale", 1);
    s->eta = case_real(c, "eta", 0);
    s->first = case_int(c, "first_index", s->process.n - 1);
    s->guide = (Guide){ .unet = &s->unet, .schedule = &s->process.schedule, .process = &s->process, .noise = given_noise, .watch = keep_x0,
                        .user = s, .first_step = s->process.n - 1 - s->first };
    if (!run_ok(r)) return false;
    if (s->first < 0 || s->first >= s->process.n || s->first >= 64 || shape_count(labels) != (size_t)s->x.s.d[0] ||
        tensor_count(s->noise) != (size_t)(s->first + 1) * tensor_count(s->x))
        run_fail(r, E_FORMAT, "%s: first_index, in.y and in.noise do not fit in.x", c->file);
    s->z = case_new(c, s->x.s);
    for (int j = 0; j <= s->first; j++) s->x0[j] = case_new(c, s->x.s);
    return run_ok(r);
}

static void sample_one(Sampling *s, Sampler sampler, double eta, double scale)
{
    Run *r = &s->c->run;
    ClassifierTarget target = { classifier_adm(&s->classifier, 1), s->label[s->image] };
    Want latent = { SEE_LATENT, "" };
    Energy e = { "classifier", &latent, 1, "", -1, classifier_energy, &target, scale != 0 };
    Branch b = { .name = "cond", .mix = whole };
    Rule rule = classifier_rule(&e, sampler, scale);
    Method m = { .name = "classifier", .branch = &b, .branches = 1, .rule = &rule, .rules = 1 };
    Tensor z = tensor_row(s->z, s->image);
    s->guide.sampler = sampler;
    s->guide.eta = eta;
    tensor_copy(r, z, tensor_row(s->x, s->image));
    guide_sample(r, &s->guide, &(Guidance){ &m, 1 }, z);
    case_pass(s->c);
}

static void sample_all(Sampling *s, const char *kind, Sampler sampler, double eta, double scale)
{
    Case *c = s->c;
    for (s->image = 0; s->image < s->x.s.d[0] && run_ok(&c->run); s->image++) sample_one(s, sampler, eta, scale);
    for (int j = s->first; j >= 0; j--) judge(c, case_name(c, "out.%s.pred_xstart.%d", kind, j), s->x0[j]);
    judge(c, case_name(c, "out.%s.sample", kind), s->z);
}

/* The first ancestral step's parts; the mean is the shifted one. */
static void judge_step(Sampling *s)
{
    Case *c = s->c;
    Run *r = &c->run;
    int N = s->x.s.d[0];
    Tensor m = case_new(c, SHAPE(N, s->unet.config.out_channels, s->x.s.d[2], s->x.s.d[3])), grad = case_new(c, s->x.s);
    Tensor mean = case_new(c, s->x.s), log_variance = case_new(c, s->x.s);
    Clock clock = guide_clock(s->guide.schedule, s->guide.first_step);
    Classifier k = classifier_adm(&s->classifier, 1);
    for (int i = 0; i < N && run_ok(r); i++) {
        UnetPass pass;
        double t = clock.t;
        unet_forward(r, &s->unet, tensor_rows(m, i, 1), &pass, tensor_rows(s->x, i, 1), &t, (Tensor){0}, false);
        case_pass(c);
        k.log_p(k.net, r, tensor_row(grad, i), tensor_row(s->x, i), &clock, t, s->label[i]);
        case_pass(c);
    }
    gaussian_predict(r, &s->process, s->first, mean, log_variance, (Tensor){0}, s->x, m);
    scale(r, grad, (real)s->scale, grad, 0);
    for (size_t i = 0; run_ok(r) && i < tensor_count(mean); i++) mean.x[i] += exp(log_variance.x[i]) * grad.x[i];
    judge(c, "mid.ddpm.mean", mean);
    judge(c, "mid.ddpm.log_variance", log_variance);
    judge(c, "mid.ddpm.grad", grad);
}

static void reverse_all(Sampling *s)
{
    Case *c = s->c;
    Run *r = &c->run;
    Branch b = { .name = "cond" };
    for (int i = 0; i < s->x.s.d[0]; i++) {
        Tensor z = tensor_row(s->z, i);
        tensor_copy(r, z, tensor_row(s->x, i));
        for (int j = 0; j < s->first && run_ok(r); j++) {
            guide_invert_step(r, &s->guide, b.context, s->process.n - 1 - j, z, z);
            case_pass(c);
        }
    }
    judge(c, "out.reverse", s->z);
}

void conform_adm_sampling(Case *c)
{
    Sampling s;
    if (!sampling_open(&s, c)) return;
    judge_step(&s);
    sample_all(&s, "ddpm", SAMPLER_DDPM, 0, s.scale);
    sample_all(&s, "ddpm_unguided", SAMPLER_DDPM, 0, 0);
    sample_all(&s, "ddim", SAMPLER_DDIM, 0, s.scale);
    sample_all(&s, "ddim_eta", SAMPLER_DDIM, s.eta, s.scale);
    reverse_all(&s);
}
