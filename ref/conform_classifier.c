/* Classifier guidance with a classifier in closed form: gradient, both forms of the step. */
#include <math.h>
#include <stdlib.h>
#include "guidance/classifier.h"
#include "guidance/ddpm.h"
#include "ref/conform.h"
#include "tensor/point.h"

enum { CLASSES_MOST = 64 };

/* logits l_c = -10 kappa_c mean((z - sqrt(ab) m_c)^2) */
typedef struct { Tensor means; double kappa[CLASSES_MOST], log_p[CLASSES_MOST]; int classes; } Quadratic;

static acc quadratic_log_p(void *net, Run *r, Tensor dz, Tensor z, const Clock *c, double t, int label)
{
    Quadratic *q = net;
    size_t n = tensor_count(z);
    double root = sqrt(c->ab), most = -HUGE_VAL, sum = 0;
    (void)t;
    for (int k = 0; k < q->classes && run_ok(r); k++) {
        Tensor m = tensor_row(q->means, k);
        double squares = 0;
        for (size_t i = 0; i < n; i++) squares += ((double)z.x[i] - root * (double)m.x[i]) * ((double)z.x[i] - root * (double)m.x[i]);
        q->log_p[k] = -10 * q->kappa[k] * squares / (double)n;
        most = fmax(most, q->log_p[k]);
    }
    for (int k = 0; k < q->classes; k++) sum += exp(q->log_p[k] - most);
    for (int k = 0; k < q->classes; k++) q->log_p[k] -= most + log(sum);
    tensor_zero(dz);
    for (int k = 0; k < q->classes && run_ok(r); k++) {
        double slope = -20 * q->kappa[k] / (double)n * ((k == label) - exp(q->log_p[k]));
        axpy(r, dz, (real)slope, z);
        axpy(r, dz, (real)(-slope * root), tensor_row(q->means, k));
    }
    return (acc)q->log_p[label];
}

static bool quadratic_of(Case *c, Quadratic *q)
{
    const char *text = case_text(c, "kappa", "");
    q->means = case_in(c, "in.means");
    for (q->classes = 0; *text && q->classes < CLASSES_MOST; q->classes++) {
        char *end;
        q->kappa[q->classes] = strtod(text, &end);
        if (end == text) break;
        text = end + (*end == ',');
    }
    int label = case_int(c, "label", 0);
    if (run_ok(&c->run) && (q->classes != q->means.s.d[0] || label < 0 || label >= q->classes))
        run_fail(&c->run, E_FORMAT, "%s: kappa: one number for each of %d means, and a label among them, are expected", c->file, q->means.s.d[0]);
    return run_ok(&c->run);
}

typedef struct { Case *c; const char *name; Tensor noise; Shape s; } Watching;

static bool watch(void *user, const GuideReport *report, Tensor z, Tensor x0)
{
    Watching *w = user;
    (void)report; (void)x0;
    z.s = w->s;
    judge(w->c, w->name, z);
    return false;                                         /* one step is asked for */
}

static void given_noise(void *user, NoiseFor what, const Clock *c, Tensor out)
{
    Watching *w = user;
    (void)what; (void)c;
    if (w->noise.x) tensor_copy(&w->c->run, out, w->noise);
    else tensor_zero(out);
}

static void one_step(Case *c, Guide *g, const Method *m, const char *name, Tensor start, Tensor noise)
{
    Tensor z = case_new(c, start.s);
    Watching w = { c, name, noise, case_in(c, "in.z").s };
    g->noise = given_noise;
    g->watch = watch;
    g->user = &w;
    tensor_copy(&c->run, z, start);
    guide_sample(&c->run, g, &(Guidance){ m, 1 }, z);
    if (c->run.status.code == E_STOP) c->run.status = (Status){0};
    case_pass(c);
}

/* The energy on its own, and the shift of eps. */
static void judge_parts(Case *c, const Guide *g, const Quadratic *q, const Energy *e, const Rule *rule, const Branch *b, Tensor z)
{
    Run *r = &c->run;
    Clock clock = guide_clock(g->schedule, g->first_step);
    Lane l = lane_make(b, NULL);
    Sight sight = { SEE_LATENT, "", z, case_new(c, z.s) };
    View now = { "", &sight, 1, z.s.d[1], z.s.d[2], clock };
    Shape four = case_in(c, "in.z").s;
    tensor_zero(sight.adj);
    e->eval(e, r, &now, NULL, 1, NULL);
    judge_doubles(c, "out.logp", SHAPE(q->classes), q->log_p);
    Tensor grad = case_new(c, z.s);
    scale(r, grad, -1, sight.adj, 0);
    judge(c, "grad.z", (Tensor){ grad.x, four });
    l.z = z;
    guide_observe(r, g, &l, &clock, NULL, 0, NULL, false, true);
    judge(c, "out.eps", (Tensor){ l.eps.x, four });
    if (run_ok(r)) axpy(r, l.eps, (real)rule->gain(&clock, r, sight.adj, (Tensor){0}, (Tensor){0}, rule->par, NULL), sight.adj);
    judge(c, "out.eps_hat", (Tensor){ l.eps.x, four });
}

static double whole(const Clock *c, const double *par)
{
    (void)c; (void)par;
    return 1;
}

void conform_classifier(Case *c)
{
    Unet unet;
    ScheduleConfig config;
    Schedule s;
    Quadratic q = {0};
    int t = case_int(c, "t", 0), apart = t - case_int(c, "t_prev", 0);
    if (!quadratic_of(c, &q) || !case_unet(c, &unet) || !case_scheduler(c, &config) || apart < 1) return;
    if (!case_schedule(c, &s, &config, config.train_steps / apart)) return;
    Guide g = { .unet = &unet, .schedule = &s };
    while (g.first_step < s.n - 1 && s.t[g.first_step] != t) g.first_step++;
    double scale = case_real(c, "scale", 1);
    ClassifierTarget target = { { &q, quadratic_log_p, q.classes, 1 }, case_int(c, "label", 0) };
    Want latent = { SEE_LATENT, "" };
    Energy e = { "classifier", &latent, 1, "", -1, classifier_energy, &target, 1 };
    Branch b = { .name = "cond", .context = tensor_row(case_in(c, "in.context"), 0), .mix = whole };
    Rule eps = classifier_rule(&e, SAMPLER_DDIM, scale), mean = classifier_rule(&e, SAMPLER_DDPM, scale);
    Tensor z = tensor_row(case_in(c, "in.z"), 0), noise = tensor_row(case_in(c, "in.noise"), 0);
    judge_parts(c, &g, &q, &e, &eps, &b, z);
    case_pass(c);
    Method m = { .name = "classifier", .branch = &b, .branches = 1, .rule = &eps, .rules = 1 };
    one_step(c, &g, &m, "out.ddim_prev", z, (Tensor){0});
    g.sampler = SAMPLER_DDPM;
    m.rule = &mean;
    one_step(c, &g, &m, "out.ddpm_prev", z, noise);
    one_step(c, &g, &m, "out.ddpm_mean_shifted", z, (Tensor){0});
    m.rules = 0;
    one_step(c, &g, &m, "out.ddpm_mean", z, (Tensor){0});
    judge_number(c, "variance", ddpm_variance(&s, t), case_real(c, "variance", 0), 1, 1e-9);
}
