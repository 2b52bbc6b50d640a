/* bench_guidance_learned.c -- an attribute learned by Asyrp (data/deltas/snow.safetensors) on pictures it was not learned from: does
 * CLIP see the target's text, does the detector see snow, and is the object still the same one where it was?  Beside it the target's
 * prompt from the same noise, which may redraw everything. */
#include <string.h>
#include "guidance/asyrp_learn.h"
#include "nn/dino.h"
#include "ref/deltas.h"
#include "tests/bench_guidance.h"

enum { UNGUIDED, PROMPT, LEARNED };
enum { BEFORE, AFTER, THERE, SHIFT, SNOW, LOOK };         /* cosines with the target's text; DINO's between the class tokens */

static const Row row[] = {
    { "on grass, unguided",              NULL,    UNGUIDED, 0  },
    { "in the snow: by the prompt",      NULL,    PROMPT,   20 },
    { "in the snow: learned by asyrp",   "asyrp", LEARNED,  30 },
};

static struct { bool open; Arena weights; ClipText reader; ClipTower tower; Dino dino; AsyrpEye eye; Deltas deltas; } eye;

static bool open_eye(Bench *b)
{
    Status *s = &b->pipeline.run.status;
    Weights w;
    DeltaOptions o = { .delta = { 1, { "data/deltas/snow.safetensors" } }, .similarity = (double)NAN };
    if (eye.open) return true;
    const Json *j = json_load(&eye.weights, "data/tiny-model/clip/config.json", s);
    ClipTextConfig text;
    if (!j || !clip_text_config(&text, j, "clip", s) || !clip_text_build(&eye.reader, &text, &eye.weights, s) || !weights_open(&w, "data/tiny-model/clip", "model", s)) return false;
    params_load(clip_text_walk, &eye.reader, &w, &eye.weights, NULL, s);
    weights_close(&w);
    eye.eye = (AsyrpEye){ .tower = &eye.tower };
    if (s->code != OK || !clip_tower_load(&eye.tower, "data/tiny-model/clip", &eye.weights, NULL, s) || !dino_load(&eye.dino, "data/tiny-model/dino", &eye.weights, NULL, s)) return false;
    int side = SIDE / vae_factor(&b->pipeline.model.vae.config);
    eye.open = deltas_read(&eye.deltas, &o, &eye.weights, s) && deltas_load(&eye.deltas, &b->pipeline.model.unet, side, side, &eye.weights, s);
    return eye.open;
}

static double cosine(Run *r, Tensor a, Tensor b) { return (double)dot(r, a, b) / sqrt((double)dot(r, a, a) * (double)dot(r, b, b)); }

static Tensor network_picture(Run *r, const Picture *p)
{
    Tensor x = tensor_in(r, r->run, SHAPE(1, 3, SIDE, SIDE));
    if (x.x) image_to_network(tensor_row(x, 0), &(Image){ (uint8_t *)(uintptr_t)p->rgb, SIDE, SIDE, false });
    return x;
}

/* CLIP's cosine of a picture and a text. */
static double clip_score(Bench *b, const Picture *p, const char *text)
{
    Run *r = &b->pipeline.run;
    size_t mark = r->run->used;
    const ClipTextConfig *c = &eye.reader.config;
    Tensor x = network_picture(r, p), e = tensor_in(r, r->run, SHAPE(1, c->projection)), f = tensor_in(r, r->run, e.s), words = tensor_in(r, r->run, SHAPE(1, c->positions, c->width));
    int *ids = arena_take(r->run, (size_t)c->positions * sizeof *ids);
    AsyrpEyePass pass;
    ClipTextPass read;
    if (!ids || !run_ok(r)) return (double)NAN;
    tokenizer_encode(b->pipeline.model.tokenizer, r->run, text, strlen(text), ids, c->positions, NULL, &r->status);
    clip_text_embed(r, &eye.reader, words, ids);
    clip_text_forward(r, &eye.reader, (Tensor){0}, (Tensor){0}, f, &read, words, ids, 0);
    asyrp_eye_forward(r, &eye.eye, e, &pass, x);
    double score = run_ok(r) ? cosine(r, e, f) : (double)NAN;
    arena_release(r->temp, 0);
    arena_release(r->run, mark);
    return score;
}

static double look(Bench *b, const Picture *p, const Picture *q)
{
    Run *r = &b->pipeline.run;
    size_t mark = r->run->used;
    Tensor pixels = tensor_in(r, r->run, SHAPE(2, 3, SIDE, SIDE)), cls = tensor_in(r, r->run, SHAPE(2, eye.dino.config.width));
    DinoPass pass;
    preprocess_normalise(r, &eye.dino.preprocess, tensor_rows(pixels, 0, 1), network_picture(r, p));
    preprocess_normalise(r, &eye.dino.preprocess, tensor_rows(pixels, 1, 1), network_picture(r, q));
    dino_forward(r, &eye.dino, cls, (Tensor){0}, (Tensor){0}, &pass, pixels);
    double same = run_ok(r) ? cosine(r, tensor_row(cls, 0), tensor_row(cls, 1)) : (double)NAN;
    arena_release(r->temp, 0);
    arena_release(r->run, mark);
    return same;
}

static uint64_t seed(const Bench *b, int i) { return b->first_seed + 500 + (uint64_t)i; }

static void source(Bench *b, Picture *to, int i)
{
    GuidedRequest q = bench_request(b, NULL, bench_prompt(b, bench_noun(b, i), NULL, "on grass"));
    bench_take(b, to, &q, seed(b, i), NULL);
}

static void score(Bench *b, const Row *r, const Picture *before, Score *s, int i)
{
    const char *name = bench_noun(b, i), *target = bench_prompt(b, name, NULL, "in the snow");
    const Sighting *a = bench_seen(b, before, name);
    static Picture after;
    if (!open_eye(b)) return;
    s->made = true;
    int snow = names_place(b->judge.config.backgrounds, "snow");
    s->counts = bench_is_there(a) && before->place != snow;
    if (!s->counts) return;
    s->v[BEFORE] = clip_score(b, before, target);
    s->v[SNOW] = before->place == snow;
    s->v[THERE] = 1;
    if (r->variant == UNGUIDED) return;
    GuidedRequest q = bench_request(b, r->method, r->variant == PROMPT ? target : bench_prompt(b, name, NULL, "on grass"));
    if (r->variant == LEARNED) {
        q.delta = eye.deltas.given;
        q.deltas = eye.deltas.n;
        q.train_steps = eye.deltas.train_steps;
        bench_set(&q, "t-edit", eye.deltas.about[0][1]);
        bench_set(&q, "t-boost", eye.deltas.about[0][2]);
    }
    if (!bench_take(b, &after, &q, seed(b, i), NULL)) return;
    const Sighting *now = bench_seen(b, &after, name);
    bool there = bench_is_there(now);
    s->seconds = after.seconds;
    s->v[AFTER] = clip_score(b, &after, target);
    s->v[THERE] = there;
    s->v[SHIFT] = there ? hypot(now->x - a->x, now->y - a->y) : (double)NAN;
    s->v[SNOW] = after.place == snow;
    s->v[LOOK] = look(b, before, &after);
}

static void print(FILE *f, const Row *r, const Score *s, int n)
{
    if (r->variant == UNGUIDED) {
        fprintf(f, "CLIP score of the target's text %.3f | -", score_mean(s, n, BEFORE));
        return;
    }
    int up = 0;
    for (int i = 0; i < n; i++) up += s[i].counts && s[i].v[AFTER] > s[i].v[BEFORE];
    fprintf(f, "CLIP score %.3f, up in %d of %d, snow %.2f | there %.2f, centroid shift %.1f px, DINO %.2f", score_mean(s, n, AFTER), up, score_count(s, n), score_mean(s, n, SNOW),
            score_mean(s, n, THERE), score_median(s, n, SHIFT), score_mean(s, n, LOOK));
}

const Section bench_learned = { "learned", row, sizeof row / sizeof *row, source, score, print, 24 };
