/* gradcheck.h -- is this the gradient?  Analytic gradients against central differences, in double.
 *
 *     numeric_i = (loss(x + h e_i) - loss(x - h e_i)) / 2h
 *     error     = max_i |analytic_i - numeric_i| / max_i |numeric_i|
 *
 * For a function y = f(x) take loss = sum weight_i y_i with fixed random weights, and hand the weights to
 * backward as dy.  Every element is tried; of a tensor of more than `most` elements, `most` random ones, and
 * one direction through all of them (else a fault in an element that was not drawn stays unseen):
 *
 *     |sum_i analytic_i s_i - (loss(x + k s) - loss(x - k s)) / 2k| / |analytic|,   s_i = +-1,  k = h / n^(1/4)
 *
 * A gradient that is zero everywhere proves nothing: its error is NaN, which no limit admits.  And a check that
 * cannot fail proves nothing either: after each, a fault of FAULT times the largest element is planted in one
 * tried element of the gradient, and must be seen. */
#ifndef TESTS_GRADCHECK_H
#define TESTS_GRADCHECK_H
#include "tensor/run.h"
#include "tests/check.h"

typedef double GradLoss(void *self);                      /* forward from the values as they are now; leaves arenas as found */
typedef struct { const char *name; Tensor value, grad; } GradPart;   /* value is changed in place, and restored */
typedef struct { GradLoss *loss; void *self; double step; size_t most; } GradCheck;

static const double GRAD_FAULT = 1e-3;

static inline double grad_difference(const GradCheck *g, real *at)
{
    real old = *at;
    *at = old + (real)g->step;
    double up = g->loss(g->self);
    *at = old - (real)g->step;
    double down = g->loss(g->self);
    *at = old;
    return (up - down) / (2 * g->step);
}

/* The derivative along a direction of random signs, of all elements at once; *along is what the gradient says. */
static inline double grad_direction(const GradCheck *g, Tensor value, Tensor grad, double *along)
{
    size_t n = tensor_count(value);
    double h = g->step / sqrt(sqrt((double)n)), loss[2];
    real *old = malloc(n * sizeof *old), *sign = malloc(n * sizeof *sign);
    if (!old || !sign) exit(2);
    *along = 0;
    for (size_t i = 0; i < n; i++) {
        old[i] = value.x[i];
        sign[i] = check_uniform() > 0 ? 1 : -1;
        *along += (double)grad.x[i] * (double)sign[i];
    }
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < n; i++) value.x[i] = old[i] + (real)(k ? -h : h) * sign[i];
        loss[k] = g->loss(g->self);
    }
    for (size_t i = 0; i < n; i++) value.x[i] = old[i];
    free(old);
    free(sign);
    return (loss[0] - loss[1]) / (2 * h);
}

/* The error of one gradient; *planted is what the error is once a fault is planted. */
static inline double grad_error(const GradCheck *g, Tensor value, Tensor grad, double *planted)
{
    size_t n = tensor_count(value), tries = n < g->most ? n : g->most, spoilt = 0;
    double worst = 0, largest = 0, norm = 0, at_spoilt = 0;
    *planted = 0;
    if (!tensor_same(value, grad)) return (double)NAN;
    for (size_t k = 0; k < tries; k++) {
        size_t i = tries == n ? k : (size_t)((check_uniform() + 1) / 2 * (double)n) % n;
        double numeric = grad_difference(g, value.x + i), off = fabs((double)grad.x[i] - numeric);
        if (!(off <= worst)) worst = off;                 /* NaN stays */
        if (!(fabs(numeric) <= largest)) largest = fabs(numeric);
        if (k == tries / 2) spoilt = i, at_spoilt = numeric;
    }
    for (size_t i = 0; i < n; i++) norm += (double)grad.x[i] * (double)grad.x[i];
    if (!(largest > 0) || !(norm > 0)) return (double)NAN;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)grad.x[i]));     /* the few that were tried may all be small */
    *planted = fabs((double)grad.x[spoilt] + GRAD_FAULT * largest - at_spoilt) / largest;
    if (tries == n) return worst / largest;
    double along, numeric = grad_direction(g, value, grad, &along), off = fabs(along - numeric) / sqrt(norm);
    return off > worst / largest ? off : worst / largest;
}

/* One line per part: "what: d name". */
static inline void gradcheck(const char *what, const GradCheck *g, const GradPart *part, int parts, double limit)
{
    for (int i = 0; i < parts; i++) {
        char line[200];
        double planted, error = grad_error(g, part[i].value, part[i].grad, &planted);
        snprintf(line, sizeof line, "%s: d%s", what, part[i].name);
        check_below(line, error, limit);
        if (planted > limit) continue;
        snprintf(line, sizeof line, "%s: a fault planted in d%s was not seen", what, part[i].name);
        check_true(line, 0);
    }
}

/* The other half of the promise, for a backward known to be wrong. */
static inline void gradcheck_must_fail(const char *what, const GradCheck *g, Tensor value, Tensor grad, double limit)
{
    double planted;
    check_true(what, !(grad_error(g, value, grad, &planted) < limit));
}

/* Fresh numbers about a centre, for inputs, weights of the loss and parameters. */
static inline void grad_fill(Tensor t, double centre, double spread)
{
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)(centre + spread * check_uniform());
}

static inline Tensor grad_fresh(Run *r, Arena *a, Shape s, double centre, double spread)
{
    Tensor t = tensor_in(r, a, s);
    grad_fill(t, centre, spread);
    return t;
}

static inline double grad_weighted(Tensor y, Tensor weight)
{
    double sum = 0;
    for (size_t i = 0; i < tensor_count(y); i++) sum += (double)y.x[i] * (double)weight.x[i];
    return sum;
}

/* A function of one tensor, y = f(x): loss = <weight, y>. */
typedef struct { void (*f)(Tensor y, Tensor x); Tensor x, y, weight; } GradPlain;

static inline double grad_plain_loss(void *self)
{
    GradPlain *p = self;
    p->f(p->y, p->x);
    return grad_weighted(p->y, p->weight);
}

static inline void gradcheck_plain(const char *what, GradPlain *p, Tensor dx, double limit)
{
    GradCheck g = { grad_plain_loss, p, 1e-6, 2000 };
    gradcheck(what, &g, &(GradPart){ "x", p->x, dx }, 1, limit);
}
#endif
