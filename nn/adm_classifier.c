#include <math.h>
#include "nn/adm_classifier.h"
#include "tensor/shape.h"
#include "tensor/tokens.h"

static const Tensor none = {0};

static int places(const AdmConfig *c)                     /* T: of the map that is pooled */
{
    int side = c->image_size >> (c->levels - 1);
    return side * side;
}

bool adm_classifier_build(AdmClassifier *c, const AdmConfig *config, Arena *weights, Status *s)
{
    int C = config->width[config->levels - 1];
    *c = (AdmClassifier){
        .config = *config, .positions = param_matrix(C, places(config) + 1),
        .pool = attention_make_fused(C, config->out_channels, C / config->head_width, true),
    };
    c->pool.path = "out.2";
    return adm_encoder_build(&c->encoder, config, weights, s);
}

void adm_classifier_walk(void *classifier, Walk *w)
{
    static const char *const names[4] = { "qkv_proj", "qkv_proj", "qkv_proj", "c_proj" };
    AdmClassifier *c = classifier;
    unet_walk(&c->encoder, w);
    size_t before = walk_enter(w, "out.2");
    walk_param(w, &c->positions, "positional_embedding");
    attention_walk(&c->pool, w, names);
    walk_leave(w, before);
}

void adm_classifier_sites(const AdmClassifier *c, SiteVisit *visit, void *self)
{
    int S = c->config.image_size, T = places(&c->config) + 1, C = c->config.width[c->config.levels - 1];
    unet_sites(&c->encoder, S, S, 0, visit, self);
    visit(self, SITE_QUERY, c->pool.path, SHAPE(1, 1, C));
    visit(self, SITE_KEY,   c->pool.path, SHAPE(1, T, C));
    visit(self, SITE_VALUE, c->pool.path, SHAPE(1, T, C));
    visit(self, SITE_PROBS, c->pool.path, SHAPE(1, c->pool.heads, 1, T));
}

static bool fits(Run *r, const AdmClassifier *c, Tensor logits, Tensor x)
{
    const AdmConfig *a = &c->config;
    int S = a->image_size;
    if (!x.x || shape_rank(x.s) != 4 || x.s.d[1] != a->in_channels || x.s.d[2] != S || x.s.d[3] != S)
        run_fail(r, E_SHAPE, "classifier: pictures are [%d,%d,%d,%d]; its positions are for [N,%d,%d,%d] alone",
                 x.s.d[0], x.s.d[1], x.s.d[2], x.s.d[3], a->in_channels, S, S);
    else if (logits.x && !shape_same(logits.s, SHAPE(x.s.d[0], a->out_channels)))
        run_fail(r, E_SHAPE, "classifier: room for [%d,%d] logits, there are [%d,%d]", logits.s.d[0], logits.s.d[1], x.s.d[0], a->out_channels);
    return run_ok(r);
}

/* tokens = [mean of u, u_1 .. u_T] + positions */
static void tokens_forward(Run *r, const AdmClassifier *c, Tensor tokens, Tensor h)
{
    size_t mark = r->temp->used;
    int N = h.s.d[0], C = h.s.d[1], T = h.s.d[2] * h.s.d[3];
    Tensor u = temp(r, SHAPE(N, T, C)), table = temp(r, SHAPE(T + 1, C));
    transpose(r, u, tensor_as(h, SHAPE(N, C, T)));
    prepend_mean(r, tokens, u);
    transpose(r, table, c->positions.v);
    add_positions(r, tokens, table);
    arena_release(r->temp, mark);
}

static void tokens_backward(Run *r, AdmClassifier *c, Tensor dh, Tensor dtokens)
{
    size_t mark = r->temp->used;
    int N = dtokens.s.d[0], T = dtokens.s.d[1] - 1, C = dtokens.s.d[2];
    if (c->positions.grad.x) {
        Tensor dtable = temp(r, SHAPE(T + 1, C)), turned = temp(r, SHAPE(C, T + 1));
        tensor_zero(dtable);
        add_positions_back(r, dtable, dtokens);
        transpose(r, turned, dtable);
        add(r, c->positions.grad, turned);
    }
    if (dh.x) {
        Tensor du = temp(r, SHAPE(N, T, C));
        prepend_mean_back(r, du, dtokens);
        transpose(r, tensor_as(dh, SHAPE(N, C, T)), du);
    }
    arena_release(r->temp, mark);
}

void adm_classifier_forward(Run *r, const AdmClassifier *c, Tensor logits, AdmClassifierPass *p, Tensor x, const double *t, bool recompute)
{
    size_t mark = r->temp->used;
    *p = (AdmClassifierPass){ .first = none };
    if (!run_ok(r) || !fits(r, c, logits, x)) return;
    int N = x.s.d[0], C = c->config.width[c->config.levels - 1];
    Tensor h = keep(r, unet_h_shape(&c->encoder, N, x.s.d[2], x.s.d[3]));
    unet_encode(r, &c->encoder, h, &p->encoder, x, t, none, recompute);
    p->tokens = keep(r, SHAPE(N, places(&c->config) + 1, C));
    p->first = keep(r, SHAPE(N, 1, C));
    if (run_ok(r)) tokens_forward(r, c, p->tokens, h);
    pick_tokens(r, tensor_as(p->first, SHAPE(N, C)), p->tokens, NULL);
    Tensor room = logits.x ? logits : temp(r, SHAPE(N, c->config.out_channels));
    attention_forward(r, &c->pool, tensor_as(room, SHAPE(N, 1, c->config.out_channels)), &p->pool, p->first, p->tokens, none);
    arena_release(r->temp, mark);
}

static void see_gradient(Walk *w, Param *p, const char *name)
{
    (void)name;
    if (p->grad.x) *(bool *)w->self = true;
}

static bool encoder_trains(AdmClassifier *c)
{
    bool found = false;
    Walk w = { .visit = see_gradient, .self = &found };
    unet_walk(&c->encoder, &w);
    return found;
}

void adm_classifier_backward(Run *r, AdmClassifier *c, Tensor dx, Tensor dlogits, AdmClassifierPass *p)
{
    size_t mark = r->temp->used;
    if (!run_ok(r)) return;
    int N = dlogits.s.d[0], C = c->config.width[c->config.levels - 1], side = c->config.image_size >> (c->config.levels - 1);
    bool deeper = dx.x || r->taps || encoder_trains(c);
    Tensor dtokens = temp(r, p->tokens.s), dfirst = temp(r, p->first.s), dh = deeper ? temp(r, SHAPE(N, C, side, side)) : none;
    tensor_zero(dtokens);
    attention_backward(r, &c->pool, dfirst, dtokens, tensor_as(dlogits, SHAPE(N, 1, c->config.out_channels)), &p->pool);
    pick_tokens_back(r, dtokens, tensor_as(dfirst, SHAPE(N, C)), NULL);
    tokens_backward(r, c, dh, dtokens);
    if (deeper) unet_encode_backward(r, &c->encoder, dx, none, dh, &p->encoder);
    arena_release(r->temp, mark);
}

void adm_classifier_logp(Run *r, Tensor logp, Tensor dlogits, Tensor logits, const int *y)
{
    int N = logits.s.d[0], K = logits.s.d[1];
    bool fit = logits.x && shape_rank(logits.s) == 2 && (!dlogits.x || shape_same(dlogits.s, logits.s)) && (!logp.x || tensor_count(logp) == (size_t)N);
    if (run_ok(r) && !fit) run_fail(r, E_SHAPE, "classifier: logits are [%d,%d], room is for %zu logs and %zu gradients", N, K, tensor_count(logp), tensor_count(dlogits));
    for (int n = 0; n < N && run_ok(r); n++) {
        const real *row = logits.x + (size_t)n * (size_t)K;
        if (y[n] < 0 || y[n] >= K) {
            run_fail(r, E_OPTION, "classifier: class %d of picture %d: its classes are 0 to %d", y[n], n, K - 1);
            return;
        }
        acc largest = (acc)row[0], sum = 0;
        for (int k = 1; k < K; k++) largest = (acc)row[k] > largest ? (acc)row[k] : largest;
        for (int k = 0; k < K; k++) sum += exp((acc)row[k] - largest);
        acc total = largest + log(sum);
        if (logp.x) logp.x[n] = (real)((acc)row[y[n]] - total);
        for (int k = 0; k < K && dlogits.x; k++) dlogits.x[(size_t)n * (size_t)K + (size_t)k] = (real)((k == y[n]) - exp((acc)row[k] - total));
    }
}
