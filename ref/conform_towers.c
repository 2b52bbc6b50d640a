/* The towers that see: DINO, CLIP's two kinds, the LPIPS head.  Losses are sum(in.gK * output). */
#include <string.h>
#include "nn/clip_tower.h"
#include "nn/dino.h"
#include "nn/lpips.h"
#include "ref/conform.h"
#include "tensor/shape.h"

/* ---- kinds "pix-dino", "pix-dino-pos" ---- */

/* [N,T,D], head h owning columns h D/heads ..., <-> [N,heads,T,D/heads] */
static void by_heads(Tensor apart, Tensor tokens, bool gather)
{
    int N = tokens.s.d[0], T = tokens.s.d[1], D = tokens.s.d[2], heads = apart.s.d[1], wide = D / heads;
    for (int n = 0; n < N; n++)
        for (int h = 0; h < heads; h++)
            for (int t = 0; t < T; t++)
                for (int i = 0; i < wide; i++) {
                    real *a = &apart.x[((n * heads + h) * T + t) * wide + i], *b = &tokens.x[(n * T + t) * D + h * wide + i];
                    if (gather) *b = *a;
                    else *a = *b;
                }
}

void conform_dino(Case *c)
{
    Run *r = &c->run;
    Dino m;
    DinoPass p = {0};
    const char *folder = case_model(c, NULL);
    if (!run_ok(r) || !dino_load(&m, folder, c->weights, NULL, &r->status)) return;
    Tensor x = case_in(c, "in.x"), gcls = case_in(c, "in.g0"), glast = case_in(c, "in.g1"), gheads = case_in(c, "in.g2");
    if (!run_ok(r)) return;
    int N = x.s.d[0], D = m.config.width, T = dino_tokens(&m, x.s.d[2], x.s.d[3]);
    Shape tokens = SHAPE(N, T, D);
    Tensor cls = case_new(c, SHAPE(N, D)), last = case_new(c, tokens), keys = case_new(c, tokens), dkeys = case_new(c, tokens);
    Tensor apart = case_new(c, SHAPE(N, m.config.heads, T, D / m.config.heads)), table = case_new(c, SHAPE(T, D)), dx = case_new(c, x.s);
    dino_positions(r, &m, table, x.s.d[2], x.s.d[3]);
    dino_forward(r, &m, cls, last, keys, &p, x);
    if (!run_ok(r)) return;
    by_heads(apart, keys, false);
    judge(c, "mid.pos_embed", tensor_as(table, SHAPE(1, T, D)));
    judge(c, "out.cls", cls);
    judge(c, "out.last_block", last);
    judge(c, "out.keys", apart);
    by_heads(gheads, dkeys, true);
    dino_backward(r, &m, dx, gcls, glast, dkeys, &p);
    judge(c, "grad.x", dx);
}

/* ---- kinds "pix-clip-vit", "pix-clip-rn" ---- */

void conform_clip_tower(Case *c)
{
    Run *r = &c->run;
    ClipTower t;
    ClipTowerPass p = {0};
    const char *folder = case_model(c, NULL);
    if (!run_ok(r) || !clip_tower_load(&t, folder, c->weights, NULL, &r->status)) return;
    Tensor x = case_in(c, "in.x"), g = case_in(c, "in.gy");
    int N = x.s.d[0], S = case_int(c, "clip_size", t.size);
    if (!strcmp(case_text(c, "resize", "bicubic"), "bilinear")) t.preprocess.kernel = RESIZE_BILINEAR;
    t.preprocess.antialias = case_flag(c, "antialias", false);
    Tensor pixels = case_new(c, SHAPE(N, 3, S, S)), embed = case_new(c, SHAPE(N, t.width)), dx = case_new(c, x.s);
    preprocess_forward(r, &t.preprocess, pixels, x);
    judge(c, "mid.preprocessed", pixels);
    clip_tower_embed(r, &t, embed, &p, x);
    judge(c, "out.embed", embed);
    clip_tower_embed_backward(r, &t, dx, g, &p);
    judge(c, "grad.x", dx);
}

/* ---- kind "pix-lpips-head": loss = sum of the distances ---- */

static Tensor map_in(Case *c, const char *name)
{
    Tensor x = case_in(c, name), y = run_ok(&c->run) ? case_new(c, SHAPE(x.s.d[0], x.s.d[2], x.s.d[3], x.s.d[1])) : x;
    if (run_ok(&c->run)) nchw_to_nhwc(&c->run, y, x);
    return y;
}

void conform_lpips(Case *c)
{
    Run *r = &c->run;
    Tensor d = {0}, dd = {0}, none = {0};
    for (int k = 0; case_has(c, case_name(c, "in.lin.%d", k)) && run_ok(r); k++) {
        Tensor f = map_in(c, case_name(c, "in.f0.%d", k)), g = map_in(c, case_name(c, "in.f1.%d", k)), w = case_in(c, case_name(c, "in.lin.%d", k));
        if (!run_ok(r)) return;
        if (!k) {
            d = case_new(c, SHAPE(f.s.d[0]));
            dd = case_new(c, d.s);
            tensor_zero(d);
            for (int n = 0; n < f.s.d[0] && dd.x; n++) dd.x[n] = 1;
        }
        lpips_level(r, d, f, g, w);
        const char *name = case_name(c, "grad.f0.%d", k);
        if (!case_has(c, name)) continue;
        Tensor df = case_new(c, f.s);
        lpips_level_back(r, df, none, dd, f, g, w);
        judge_nhwc(c, name, df);
    }
    judge(c, "out.distance", d);
}
