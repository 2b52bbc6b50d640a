/* CLIP's towers: hidden states, pooled states, projections, similarity, and gradients to tokens and pixels. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "nn/clip.h"
#include "ref/conform.h"
#include "tensor/point.h"

/* A tap that copies what a layer gave: mid.hidden.(i+1) is the output of layer i. */
typedef struct { Case *c; const char *name; } Hidden;

static void hidden(void *self, Run *r, Tensor value)
{
    Hidden *h = self;
    if (!r->replay) judge(h->c, h->name, value);
}

static void watch_layers(Case *c, const char *tower, int layers)
{
    Hidden *h = arena_take(c->run.run, (size_t)layers * sizeof *h);
    Tap *tap = arena_take(c->run.run, (size_t)layers * sizeof *tap);
    if (!h || !tap) {
        run_fail(&c->run, E_MEMORY, "%s: no memory for %d taps", c->file, layers);
        return;
    }
    for (int i = 0; i < layers; i++) {
        h[i] = (Hidden){ c, case_name(c, "mid.hidden.%d", i + 1) };
        tap[i] = (Tap){ SITE_FEATURE, case_name(c, "%s.encoder.layers.%d", tower, i), &h[i], hidden, NULL, false };
    }
    c->run.tap = tap;
    c->run.taps = layers;
}

static void stop_looking(Case *c)
{
    c->run.tap = NULL;
    c->run.taps = 0;
}

/* A folder may be a pipeline (text_encoder/), a text tower, or a whole CLIPModel, whose config has two towers. */
static const char *text_folder(Case *c)
{
    const char *folder = case_model(c, "text_encoder");
    return folder_exists(folder) ? folder : case_model(c, NULL);
}

/* ---- kind "clip-text" ---- */

typedef struct { Case *c; ClipText m; Tensor x, last, pooled, embeds, dx; int *ids; Shape s; } Text;

static void text_forward(Text *k, ClipTextPass *p, Tensor last, Tensor pooled, Tensor embeds, int skip)
{
    case_pass(k->c);
    *p = (ClipTextPass){0};
    clip_text_forward(&k->c->run, &k->m, last, pooled, embeds, p, k->x, k->ids, skip);
}

static void text_hidden_gradient(Text *k)
{
    Case *c = k->c;
    ClipTextPass p;
    watch_layers(c, "text_model", k->m.config.layers);
    text_forward(k, &p, k->last, k->pooled, k->embeds, 0);
    stop_looking(c);
    judge(c, "mid.hidden.0", p.hidden0);
    judge(c, "out.last_hidden_state", k->last);
    judge(c, "out.pooled", k->pooled);
    judge(c, "out.text_embeds", k->embeds);
    if (!case_has(c, "in.w_hidden")) return;
    Tensor dlast = case_in(c, "in.w_hidden");
    clip_text_backward(&c->run, &k->m, k->dx, dlast, (Tensor){0}, (Tensor){0}, &p);
    judge(c, "grad.token_embeddings", k->dx);
}

static void text_embeds_gradient(Text *k)
{
    Case *c = k->c;
    ClipTextPass p;
    if (!case_has(c, "in.w_embeds")) return;
    Tensor dembeds = case_in(c, "in.w_embeds");
    text_forward(k, &p, k->last, k->pooled, k->embeds, 0);
    clip_text_backward(&c->run, &k->m, k->dx, (Tensor){0}, (Tensor){0}, dembeds, &p);
    judge(c, "grad.token_embeddings_from_embeds", k->dx);
}

void conform_text(Case *c)
{
    Text k = { .c = c };
    LoadReport report = {0};
    ClipTextPass p;
    const char *folder = text_folder(c);
    if (!run_ok(&c->run) || !model_load_text(&k.m, folder, c->weights, &report, &c->run.status)) return;
    k.ids = case_ids(c, "in.input_ids", &k.s);
    if (!k.ids) return;
    Shape shape = SHAPE(k.s.d[0], k.s.d[1], k.m.config.width);
    k.x = case_new(c, shape);
    k.dx = case_new(c, shape);
    k.last = case_new(c, shape);
    k.pooled = case_new(c, SHAPE(k.s.d[0], k.m.config.width));
    if (k.m.config.projection) k.embeds = case_new(c, SHAPE(k.s.d[0], k.m.config.projection));
    clip_text_embed(&c->run, &k.m, k.x, k.ids);
    text_hidden_gradient(&k);
    text_embeds_gradient(&k);
    text_forward(&k, &p, k.last, (Tensor){0}, (Tensor){0}, 1);
    judge(c, "out.penultimate_normed", k.last);
}

/* ---- kind "clip-image" ---- */

typedef struct {
    Case *c;
    Clip m;
    Tensor pixels, dpixels, last, pooled, embeds, text;   /* text [T,P]: the prompts' embeddings */
} Image;

static bool load_clip(Image *k)
{
    Case *c = k->c;
    Weights w;
    LoadReport report = {0};
    const char *folder = case_model(c, NULL), *file = case_model(c, "config.json");
    const Json *config = run_ok(&c->run) ? json_load(c->run.run, file, &c->run.status) : NULL;
    if (!config || !clip_build(&k->m, config, file, c->weights, &c->run.status)) return false;
    if (!weights_open(&w, folder, "model", &c->run.status)) return false;
    params_load(clip_walk, &k->m, &w, c->weights, &report, &c->run.status);
    weights_close(&w);
    return run_ok(&c->run);
}

static void read_texts(Image *k)
{
    Case *c = k->c;
    Shape s;
    ClipTextPass p = {0};
    int *ids = case_ids(c, "in.input_ids", &s);
    if (!ids) return;
    Shape wide = SHAPE(s.d[0], s.d[1], k->m.text.config.width);
    Tensor x = case_new(c, wide), last = case_new(c, wide), pooled = case_new(c, SHAPE(s.d[0], k->m.text.config.width));
    k->text = case_new(c, SHAPE(s.d[0], k->m.text.config.projection));
    clip_text_embed(&c->run, &k->m.text, x, ids);
    clip_text_forward(&c->run, &k->m.text, last, pooled, k->text, &p, x, ids, 0);
    judge(c, "out.text_embeds", k->text);
}

static double norm_of(Tensor t, int row)
{
    double sum = 0;
    int D = t.s.d[1];
    for (int i = 0; i < D; i++) sum += (double)t.x[row * D + i] * (double)t.x[row * D + i];
    return sqrt(sum);
}

static double cosine(Tensor a, int i, Tensor b, int j)
{
    double sum = 0;
    int D = a.s.d[1];
    for (int k = 0; k < D; k++) sum += (double)a.x[i * D + k] * (double)b.x[j * D + k];
    return sum / norm_of(a, i) / norm_of(b, j);
}

static void judge_similarity(Image *k)
{
    Case *c = k->c;
    int B = k->embeds.s.d[0], T = k->text.s.d[0];
    Tensor logits = case_new(c, SHAPE(B, T));
    if (!run_ok(&c->run)) return;
    double scale = exp((double)k->m.logit_scale.v.x[0]), loss = 0;
    for (int i = 0; i < B; i++) {
        for (int j = 0; j < T; j++) logits.x[i * T + j] = (real)(scale * cosine(k->embeds, i, k->text, j));
        loss += 1 - cosine(k->embeds, i, k->text, i % T);
    }
    judge(c, "out.logits_per_image", logits);
    judge_doubles(c, "out.loss_cos", SHAPE(1), &loss);
}

/* loss = sum_i 1 - cos(e_i, t_(i mod T)), texts constant:  de_i = -(t/|t| - cos e/|e|) / |e| */
static void cosine_gradient(const Image *k, Tensor de)
{
    int B = de.s.d[0], D = de.s.d[1], T = k->text.s.d[0];
    for (int i = 0; i < B; i++) {
        int j = i % T;
        double e = norm_of(k->embeds, i), t = norm_of(k->text, j), cos_ij = cosine(k->embeds, i, k->text, j);
        for (int n = 0; n < D; n++)
            de.x[i * D + n] = (real)(-((double)k->text.x[j * D + n] / t - cos_ij * (double)k->embeds.x[i * D + n] / e) / e);
    }
}

/* Forward again, then the gradient that arrives at the pixels. */
static void pull_back(Image *k, const char *name, Tensor dlast, Tensor dembeds)
{
    Case *c = k->c;
    ClipImagePass p = {0};
    if (!run_ok(&c->run)) return;
    case_pass(c);
    clip_image_forward(&c->run, &k->m.image, k->last, k->pooled, k->embeds, &p, k->pixels);
    clip_image_backward(&c->run, &k->m.image, k->dpixels, dlast, (Tensor){0}, dembeds, &p);
    judge(c, name, k->dpixels);
}

static void see_pictures(Image *k)
{
    Case *c = k->c;
    ClipImagePass p = {0};
    const ClipImageConfig *f = &k->m.image.config;
    int B = k->pixels.s.d[0], side = f->image / f->patch;
    k->dpixels = case_new(c, k->pixels.s);
    k->last = case_new(c, SHAPE(B, 1 + side * side, f->width));
    k->pooled = case_new(c, SHAPE(B, f->width));
    k->embeds = case_new(c, SHAPE(B, f->projection));
    case_pass(c);
    watch_layers(c, "vision_model", f->layers);
    clip_image_forward(&c->run, &k->m.image, k->last, k->pooled, k->embeds, &p, k->pixels);
    stop_looking(c);
    judge(c, "mid.hidden.0", p.x0);
    judge(c, "out.last_hidden_state", k->last);
    judge(c, "out.pooled", k->pooled);
    judge(c, "out.image_embeds", k->embeds);
}

void conform_image(Case *c)
{
    Image k = { .c = c };
    if (!load_clip(&k)) return;
    k.pixels = case_in(c, "in.pixel_values");
    read_texts(&k);
    if (!run_ok(&c->run)) return;
    see_pictures(&k);
    judge_similarity(&k);
    Tensor de = case_new(c, k.embeds.s);
    if (!run_ok(&c->run)) return;
    pull_back(&k, "grad.pixels_from_embeds", (Tensor){0}, case_in(c, "in.w_embeds"));
    pull_back(&k, "grad.pixels_from_hidden", case_in(c, "in.w_hidden"), (Tensor){0});
    cosine_gradient(&k, de);
    pull_back(&k, "grad.pixels_from_cos", (Tensor){0}, de);
}

/* ---- kind "clip-preprocess": 8-bit pictures, stored as [H,W,3] numbers 0..255 ---- */

static bool three(Case *c, const char *key, double v[3])
{
    const Json *j = json_get(c->params, key);
    for (int i = 0; i < 3; i++)
        if (!json_number(json_at(j, i), &v[i])) {
            run_fail(&c->run, E_FORMAT, "%s: params.%s: expected three numbers", c->file, key);
            return false;
        }
    return true;
}

static void prepare(Case *c, const char *name, const double mean[3], const double std[3], int side)
{
    Tensor in = case_in(c, case_name(c, "in.image.%s", name + strlen("out.pixel_values.")));
    size_t n = tensor_count(in);
    uint8_t *rgb = arena_take(c->run.run, n);
    Tensor pixels = case_new(c, SHAPE(3, side, side));
    if (!rgb) run_fail(&c->run, E_MEMORY, "%s: no memory for a picture of %zu bytes", c->file, n);
    if (!run_ok(&c->run)) return;
    for (size_t i = 0; i < n; i++) rgb[i] = (uint8_t)in.x[i];
    if (clip_prepare(&c->run, pixels, rgb, in.s.d[0], in.s.d[1], mean, std)) judge(c, name, pixels);
}

void conform_preprocess(Case *c)
{
    double mean[3], std[3];
    int side = case_int(c, "size", 224);
    if (!three(c, "mean", mean) || !three(c, "std", std)) return;
    for (int i = 0; i < c->tensors.entries && run_ok(&c->run); i++)
        if (!strncmp(c->tensors.entry[i].name, "out.pixel_values.", strlen("out.pixel_values.")))
            prepare(c, c->tensors.entry[i].name, mean, std, side);
}
