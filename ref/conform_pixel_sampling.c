#include <string.h>
#include "guidance/gaussian.h"
#include "ref/conform.h"

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
