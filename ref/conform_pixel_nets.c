/* The pixel-space networks: outputs, h, and gradients of the input. */
#include <string.h>
#include "nn/pixel.h"
#include "ref/conform.h"
#include "tensor/point.h"

static double *times(Case *c, int N)
{
    Tensor t = case_in(c, "in.t");
    double *out = arena_take(c->run.run, (size_t)N * sizeof *out);
    if (!out) run_fail(&c->run, E_MEMORY, "%s: no memory for %d times", c->file, N);
    if (run_ok(&c->run) && tensor_count(t) != (size_t)N)
        run_fail(&c->run, E_FORMAT, "%s: tensor in.t: expected %d numbers, found %zu", c->file, N, tensor_count(t));
    for (int i = 0; run_ok(&c->run) && i < N; i++) out[i] = (double)t.x[i];
    return out;
}

/* in.y as a tensor of numbers, [N,1] */
static Tensor classes(Case *c, int N)
{
    Shape s;
    const int *y = case_ids(c, "in.y", &s);
    Tensor t = case_new(c, SHAPE(N, 1));
    if (y && shape_count(s) != (size_t)N) run_fail(&c->run, E_FORMAT, "%s: tensor in.y: expected %d numbers", c->file, N);
    for (int i = 0; run_ok(&c->run) && i < N; i++) t.x[i] = (real)y[i];
    return t;
}

/* mid.input_block1 is what the second skip holds. */
static Tensor second_skip(const Unet *u, const UnetPass *p)
{
    int skips = 0;
    for (int i = 0; i < u->mid_end; i++)
        if (u->steps.step[i].kind == STEP_PUSH && ++skips == 2) return p->steps.cache[i].in;
    return (Tensor){0};
}

static bool same(Tensor a, Tensor b) { return a.x && b.x && !memcmp(a.x, b.x, tensor_count(a) * sizeof(real)); }

/* out.y = network(x, t, y), grad.x of sum(out.y in.gy); in one pass, and in two halves that must give the same bits. */
void conform_pixel_unet(Case *c)
{
    Run *r = &c->run;
    Unet u;
    UnetPass p = {0}, encoded = {0}, decoded = {0};
    Tensor none = {0};
    if (!pixel_load_unet(&u, case_model(c, NULL), c->weights, NULL, &r->status)) return;
    Tensor x = case_in(c, "in.x"), gy = case_in(c, "in.gy"), y = case_new(c, gy.s), again = case_new(c, gy.s), dx = case_new(c, x.s);
    if (!run_ok(r)) return;
    int N = x.s.d[0];
    const double *t = times(c, N);
    Tensor label = u.classes ? classes(c, N) : none, h = case_new(c, unet_h_shape(&u, N, x.s.d[2], x.s.d[3]));

    case_pass(c);
    unet_forward(r, &u, y, &p, x, t, label, false);
    judge(c, "out.y", y);
    judge(c, "mid.emb", p.temb);
    if (run_ok(r)) judge_nhwc(c, "mid.input_block1", second_skip(&u, &p));
    unet_backward(r, &u, dx, none, gy, &p);
    judge(c, "grad.x", dx);

    case_pass(c);
    unet_encode(r, &u, h, &encoded, x, t, label, false);
    unet_decode(r, &u, again, &decoded, &encoded, h, false);
    judge(c, "mid.h", h);
    if (run_ok(r)) judge_truth(c, "decoded h is the whole pass, bit for bit", same(again, y), "the numbers differ");
}

void conform_pixel_classifier(Case *c)
{
    Run *r = &c->run;
    AdmClassifier net;
    AdmClassifierPass p;
    Shape s = {0};
    if (!pixel_load_classifier(&net, case_model(c, NULL), c->weights, NULL, &r->status)) return;
    Tensor x = case_in(c, "in.x"), dx = case_new(c, x.s);
    const int *y = case_ids(c, "in.y", &s);
    if (!run_ok(r)) return;
    int N = x.s.d[0], K = net.config.out_channels;
    const double *t = times(c, N);
    Tensor logits = case_new(c, SHAPE(N, K)), dlogits = case_new(c, SHAPE(N, K)), logp = case_new(c, SHAPE(N));
    if (run_ok(r) && shape_count(s) != (size_t)N) run_fail(r, E_FORMAT, "%s: tensor in.y: expected %d numbers", c->file, N);
    if (!run_ok(r)) return;
    case_pass(c);
    adm_classifier_forward(r, &net, logits, &p, x, t, false);
    adm_classifier_logp(r, logp, dlogits, logits, y);
    adm_classifier_backward(r, &net, dx, dlogits, &p);
    judge(c, "out.logits", logits);
    judge(c, "out.logp", logp);
    judge(c, "grad.x", dx);
}
