/* The table of guidance mixtures.  A tensor's name carries the weights: "out.rescale.7.5.0.7" is w = 7.5, phi = 0.7. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "guidance/cfg.h"
#include "ref/conform.h"

enum { MOST_WEIGHTS = 4 };

/* Read one number as "%g" prints it from the start of `text`, using one dotted part or two.  NULL: not one. */
static const char *number_at(const char *text, int parts, double *v)
{
    char word[40], again[40];
    size_t n = strcspn(text, ".");
    if (parts == 2) {
        if (!text[n]) return NULL;
        n += 1 + strcspn(text + n + 1, ".");
    }
    if (!n || n >= sizeof word) return NULL;
    memcpy(word, text, n);
    word[n] = 0;
    *v = strtod(word, NULL);
    snprintf(again, sizeof again, "%g", *v);
    return strcmp(word, again) ? NULL : text + n + (text[n] == '.');
}

/* "7.5.0.5.5" as three numbers.  A dot both joins a fraction and separates, so several readings may exist: the first
 * that prints back to the same text wins, fractions before whole numbers, from left to right. */
static bool weights_in(const char *text, int n, double *v)
{
    if (!n) return !*text;
    for (int parts = 2; parts >= 1; parts--) {
        const char *rest = number_at(text, parts, v);
        if (rest && weights_in(rest, n - 1, v + 1)) return true;
    }
    return false;
}

typedef struct { Case *c; Tensor cond, uncond, negative, e; Schedule s; } Mix;
typedef void MixRow(Mix *m, const double *v, const char *name);

static void standard(Mix *m, const double *v, const char *name)
{
    cfg_mix(&m->c->run, m->e, m->uncond, m->cond, v[0]);
    judge(m->c, name, m->e);
}

static void original(Mix *m, const double *v, const char *name)
{
    cfg_mix_paper(&m->c->run, m->e, m->uncond, m->cond, v[0]);
    judge(m->c, name, m->e);
}

static void negative(Mix *m, const double *v, const char *name)
{
    cfg_mix(&m->c->run, m->e, m->negative, m->cond, v[0]);
    judge(m->c, name, m->e);
}

static void rescaled(Mix *m, const double *v, const char *name)
{
    cfg_mix(&m->c->run, m->e, m->uncond, m->cond, v[0]);
    cfg_rescale(&m->c->run, m->e, m->cond, v[1]);
    judge(m->c, name, m->e);
}

static void composed(Mix *m, const double *v, const char *name)
{
    Tensor c[2] = { m->cond, m->negative };
    cfg_compose(&m->c->run, m->e, m->uncond, c, v, 2);
    judge(m->c, name, m->e);
}

static void projected(Mix *m, const double *v, const char *name)
{
    bool from_cond = strstr(name, ".cond_base.") != NULL;
    cfg_project(&m->c->run, m->e, m->uncond, m->cond, v[0], v[1], v[2], from_cond);
    judge(m->c, name, m->e);
}

/* Stable Diffusion's schedule in N steps: sigma = sqrt((1 - alpha-bar) / alpha-bar). */
static bool schedule_of(Mix *m, double steps)
{
    ScheduleConfig config = { .train_steps = 1000, .steps_offset = 1, .beta_start = 0.00085, .beta_end = 0.012,
                              .beta = BETA_SCALED_LINEAR, .spacing = SPACING_LEADING, .clip_range = 1 };
    return case_schedule(m->c, &m->s, &config, (int)steps);
}

static void per_step(Mix *m, const double *v, const char *name, bool weight)
{
    Case *c = m->c;
    double *x = schedule_of(m, v[0]) ? arena_take(c->run.run, (size_t)m->s.n * sizeof *x) : NULL;
    if (!x) return;
    double w = case_real(c, "interval_w", 1), lo = case_real(c, "interval_lo", 0), hi = case_real(c, "interval_hi", 1e30);
    for (int i = 0; i < m->s.n; i++) {
        double a = schedule_alpha_bar(&m->s, m->s.t[i]);
        x[i] = weight ? cfg_interval(w, lo, hi, a) : sqrt((1 - a) / a);
    }
    judge_doubles(c, name, SHAPE(m->s.n), x);
}

static void interval(Mix *m, const double *v, const char *name) { per_step(m, v, name, true); }
static void sigmas  (Mix *m, const double *v, const char *name) { per_step(m, v, name, false); }

static const struct { const char *prefix; int weights; MixRow *row; } ROWS[] = {
    { "out.standard.",        1, standard },
    { "out.original.",        1, original },
    { "out.negative.",        1, negative },
    { "out.rescale.",         2, rescaled },
    { "out.composed.",        2, composed },
    { "out.apg.uncond_base.", 3, projected },
    { "out.apg.cond_base.",   3, projected },
    { "out.interval_weight.", 1, interval },
    { "out.sigma.",           1, sigmas },
};

void conform_cfg(Case *c)
{
    Mix m = { .c = c, .cond = case_in(c, "in.eps_cond"), .uncond = case_in(c, "in.eps_uncond") };
    if (case_has(c, "in.eps_negative")) m.negative = case_in(c, "in.eps_negative");
    m.e = case_new(c, m.cond.s);
    for (int i = 0; i < c->tensors.entries && run_ok(&c->run); i++) {
        const char *name = c->tensors.entry[i].name;
        double v[MOST_WEIGHTS];
        for (size_t k = 0; k < sizeof ROWS / sizeof *ROWS; k++) {
            size_t n = strlen(ROWS[k].prefix);
            if (!strncmp(name, ROWS[k].prefix, n) && weights_in(name + n, ROWS[k].weights, v)) ROWS[k].row(&m, v, name);
        }
    }
}
