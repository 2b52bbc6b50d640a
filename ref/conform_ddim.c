/* DDIM and its inversion on a model in closed form, so that the sampler is tested alone:
 *     m(x, t) = 0.8 sin(1.3 x + 0.01 t) + 0.1 x */
#include <math.h>
#include <stdio.h>
#include "guidance/ddim.h"
#include "ref/conform.h"
#include "tensor/point.h"

static void toy_model(Tensor m, Tensor x, int t)
{
    for (size_t i = 0; i < tensor_count(m); i++) {
        double v = (double)x.x[i];
        m.x[i] = (real)(0.8 * sin(1.3 * v + 0.01 * t) + 0.1 * v);
    }
}

typedef struct { Case *c; Schedule s; Tensor x, next, x0, m; double *table; } Toy;

static bool begin(Case *c, Toy *w)
{
    ScheduleConfig config;
    *w = (Toy){ .c = c };
    const Json *j = json_get(c->params, "scheduler");
    if (!j) run_fail(&c->run, E_FORMAT, "%s: params.scheduler: expected an object", c->file);
    if (!j || !schedule_config(&config, j, c->file, &c->run.status)) return false;
    if (!case_schedule(c, &w->s, &config, case_int(c, "steps", 0))) return false;
    Tensor x = case_in(c, "in.x");
    w->x = case_new(c, x.s);
    w->next = case_new(c, x.s);
    w->x0 = case_new(c, x.s);
    w->m = case_new(c, x.s);
    w->table = arena_take(c->run.run, (size_t)w->s.n * 5 * sizeof *w->table);
    if (!w->table) run_fail(&c->run, E_MEMORY, "%s: no memory for %d steps", c->file, w->s.n);
    if (run_ok(&c->run)) tensor_copy(&c->run, w->x, x);
    return run_ok(&c->run);
}

static void advance(Toy *w)
{
    Tensor t = w->x;
    w->x = w->next;
    w->next = t;
}

static void judge_times(Case *c, const Schedule *s, bool ascending)
{
    int64_t *t = arena_take(c->run.run, (size_t)s->n * sizeof *t);
    for (int i = 0; t && i < s->n; i++) t[i] = ascending ? ddim_inverse_t(s, i) : s->t[i];
    if (t) judge_integers(c, "out.timesteps", SHAPE(s->n), t);
}

static void judge_alphas(Case *c, const ScheduleConfig *config, AlphaKind kind, const char *name)
{
    Schedule s;
    if (!case_has(c, name) || !schedule_make(&s, config, kind, 1, c->run.run, &c->run.status)) return;
    judge_doubles(c, name, SHAPE(config->train_steps), s.alpha_bar);
}

static double sigma(double eta, double a, double p) { return eta * sqrt((1 - p) / (1 - a) * (1 - a / p)); }

void conform_ddim(Case *c)
{
    Toy w;
    if (!begin(c, &w)) return;
    judge_times(c, &w.s, false);
    judge_alphas(c, &w.s.config, ALPHAS_FLOAT32, "out.alphas_cumprod");
    judge_alphas(c, &w.s.config, ALPHAS_FLOAT64, "out.alphas_cumprod_exact");
    DdimOptions o = { .eta = case_real(c, "eta", 0), .use_clipped = case_flag(c, "use_clipped", false) };
    for (int i = 0; i < w.s.n && run_ok(&c->run); i++) {
        int t = w.s.t[i], before = schedule_previous(&w.s, t);
        double a = schedule_alpha_bar(&w.s, t), p = schedule_alpha_bar(&w.s, before);
        double row[5] = { t, before, a, p, o.eta > 0 ? sigma(o.eta, a, p) : 0 };
        for (int k = 0; k < 5; k++) w.table[i * 5 + k] = row[k];
        Tensor noise = o.eta > 0 ? case_in(c, case_name(c, "in.noise.%02d", i)) : (Tensor){0};
        toy_model(w.m, w.x, t);
        ddim_step(&c->run, &w.s, t, w.next, w.x0, w.x, w.m, w.m, noise, o);
        judge(c, case_name(c, "out.x.%02d", i), w.next);
        judge(c, case_name(c, "out.x0.%02d", i), w.x0);
        advance(&w);
    }
    judge_doubles(c, "out.table", SHAPE(w.s.n, 5), w.table);
}

/* Prompt-to-prompt's published form of the inversion, which always reads the model as a noise prediction:
 *     x <- sqrt(b) (x - sqrt(1-a) e) / sqrt(a) + sqrt(1-b) e        from alpha-bar a up to b */
static void prompt_to_prompt(Toy *w, Tensor x)
{
    Case *c = w->c;
    for (int i = 0; i < w->s.n; i++) {
        int t = w->s.t[w->s.n - 1 - i];
        double a = schedule_alpha_bar(&w->s, ddim_inverse_from(&w->s, t)), b = schedule_alpha_bar(&w->s, t);
        double row[3] = { t, a, b };
        for (int k = 0; k < 3; k++) w->table[i * 3 + k] = row[k];
        toy_model(w->m, x, t);
        double keep_x = sqrt(b / a), add_e = sqrt(1 - b) - keep_x * sqrt(1 - a);
        blend(&c->run, x, (real)keep_x, x, (real)add_e, w->m);
    }
    judge(c, "out.p2p_final", x);
    judge_doubles(c, "out.p2p_table", SHAPE(w->s.n, 3), w->table);
}

void conform_ddim_inverse(Case *c)
{
    Toy w;
    if (!begin(c, &w)) return;
    judge_times(c, &w.s, true);
    for (int i = 0; i < w.s.n && run_ok(&c->run); i++) {
        int t = ddim_inverse_t(&w.s, i), from = ddim_inverse_from(&w.s, t);
        double row[4] = { t, from, schedule_alpha_bar(&w.s, from), schedule_alpha_bar(&w.s, t) };
        for (int k = 0; k < 4; k++) w.table[i * 4 + k] = row[k];
        toy_model(w.m, w.x, t);
        ddim_inverse_step(&c->run, &w.s, t, w.next, w.x, w.m);
        judge(c, case_name(c, "out.x.%02d", i), w.next);
        advance(&w);
    }
    judge_doubles(c, "out.table", SHAPE(w.s.n, 4), w.table);
    Tensor again = case_in(c, "in.x");
    if (run_ok(&c->run)) prompt_to_prompt(&w, again);
    for (int i = 0; i < w.s.n && run_ok(&c->run); i++) {
        toy_model(w.m, w.x, w.s.t[i]);
        ddim_step(&c->run, &w.s, w.s.t[i], w.next, (Tensor){0}, w.x, w.m, w.m, (Tensor){0}, (DdimOptions){0});
        advance(&w);
    }
    judge(c, "out.round_trip", w.x);
}
