#include "guidance/cfg.h"
#include "tensor/point.h"

static void copy(Run *r, Tensor to, Tensor from)
{
    if (!from.x || to.x != from.x) tensor_copy(r, to, from);
}

void cfg_mix(Run *r, Tensor e, Tensor u, Tensor c, double w)
{
    if (w == 1) {
        copy(r, e, c);
        return;
    }
    blend(r, e, 1, c, -1, u);
    blend(r, e, 1, u, (real)w, e);
}

void cfg_mix_paper(Run *r, Tensor e, Tensor u, Tensor c, double w)
{
    if (w == 0) copy(r, e, c);
    else blend(r, e, (real)(1 + w), c, (real)-w, u);
}

void cfg_compose(Run *r, Tensor e, Tensor u, const Tensor *c, const double *w, int n)
{
    size_t mark = r->temp->used;
    Tensor d = temp(r, u.s);
    copy(r, e, u);
    for (int j = 0; j < n; j++) {
        blend(r, d, 1, c[j], -1, u);
        axpy(r, e, (real)w[j], d);
    }
    arena_release(r->temp, mark);
}

static double deviation(Tensor x)                         /* unbiased; two passes in double */
{
    size_t n = tensor_count(x);
    acc sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += (acc)x.x[i];
    acc mean = sum / (acc)n;
    for (size_t i = 0; i < n; i++) squares += ((acc)x.x[i] - mean) * ((acc)x.x[i] - mean);
    return sqrt(squares / (acc)(n - 1));
}

void cfg_rescale(Run *r, Tensor e, Tensor c, double phi)
{
    if (phi == 0 || !run_ok(r)) return;
    if (!tensor_same(e, c) || tensor_count(e) < 2 * (size_t)e.s.d[0]) {
        run_fail(r, E_SHAPE, "cfg_rescale: two predictions of one shape, and two numbers an image, are needed");
        return;
    }
    for (int i = 0; i < e.s.d[0]; i++) {
        Tensor ei = tensor_rows(e, i, 1);
        double now = deviation(ei), wanted = deviation(tensor_rows(c, i, 1));
        if (now > 0) scale(r, ei, (real)(phi * wanted / now + 1 - phi), ei, 0);
    }
}

static void project_image(Run *r, Tensor e, Tensor u, Tensor c, double w, double eta, double norm_cap, bool from_cond)
{
    size_t mark = r->temp->used;
    Tensor d = temp(r, u.s);
    blend(r, d, 1, c, -1, u);
    double length = sqrt(dot(r, d, d)), cc = dot(r, c, c);
    if (norm_cap > 0 && length > norm_cap) scale(r, d, (real)(norm_cap / length), d, 0);
    if (cc > 0) axpy(r, d, (real)((eta - 1) * dot(r, d, c) / cc), c);
    blend(r, e, 1, from_cond ? c : u, (real)(from_cond ? w - 1 : w), d);
    arena_release(r->temp, mark);
}

void cfg_project(Run *r, Tensor e, Tensor u, Tensor c, double w, double eta, double norm_cap, bool from_cond)
{
    if (run_ok(r) && (!tensor_same(e, c) || !tensor_same(u, c))) run_fail(r, E_SHAPE, "cfg_project: the predictions differ in shape");
    for (int i = 0; run_ok(r) && i < e.s.d[0]; i++)
        project_image(r, tensor_rows(e, i, 1), tensor_rows(u, i, 1), tensor_rows(c, i, 1), w, eta, norm_cap, from_cond);
}

bool cfg_inside(double lo, double hi, double alpha_bar)
{
    double sigma = sqrt((1 - alpha_bar) / alpha_bar);
    return lo < sigma && sigma <= hi;
}

double cfg_interval(double w, double lo, double hi, double alpha_bar) { return cfg_inside(lo, hi, alpha_bar) ? w : 1; }
