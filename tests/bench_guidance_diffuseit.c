/* bench_guidance_diffuseit.c -- DiffuseIT: does the look move to the target's while the structure stays?
 *
 * Look: cosine of DINO's class tokens, result against target picture; for texts the cosine of CLIP's embeddings, and what the
 * detector, which guides nothing, says of the style.  Structure: correlation of the keys' self-similarity with the source's, over
 * all pairs of cells.  Beside each row the same run without its guidance: what re-noising and denoising alone does. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "ref/diffuseit.h"
#include "ref/diffuseit_text.h"
#include "tensor/point.h"
#include "tests/bench_guidance.h"

enum { PICTURE_OFF, PICTURE, TEXT_OFF, TEXT };
enum { LOOK_BEFORE, LOOK, STRUCTURE, OTHER, STYLED };     /* values; OTHER: structure of the target picture itself */
static const char *const style[] = { "sketch", "mosaic", "watercolor" };
static const Row row[] = {
    { "diffuseit to a picture, its guidance off", "diffuseit", PICTURE_OFF, 10 },
    { "diffuseit to a picture",                   "diffuseit", PICTURE,     50 },
    { "diffuseit to a text, its guidance off",    "diffuseit", TEXT_OFF,    10 },
    { "diffuseit to a text",                      "diffuseit", TEXT,        70 },
};

static uint64_t seed(const Bench *b, int i)      { return b->first_seed + 900 + (uint64_t)i; }
static const char *noun(const Bench *b, int i)   { return bench_noun(b, 7 * i + i / 24); }
static const char *styled(int i)                 { return style[i % 3]; }

static char *words(Bench *b, const char *how, const char *what, const char *where)
{
    char text[200];
    snprintf(text, sizeof text, "a %s of %s %s %s", how, strchr("aeiou", *what) ? "an" : "a", what, where);
    char *copy = arena_take(&b->text, strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

static void source(Bench *b, Picture *to, int i)
{
    GuidedRequest q = bench_request(b, NULL, words(b, "photo", noun(b, i), bench_place(b, i)));
    bench_take(b, to, &q, seed(b, i), NULL);
}

/* ---- judges ---- */

static struct { bool ready; Dino dino; ClipTower clip; } eyes;

static bool open_eyes(Bench *b)
{
    Status *s = &b->pipeline.run.status;
    if (!eyes.ready) eyes.ready = dino_load(&eyes.dino, "data/tiny-model/dino", &b->weights, NULL, s) && clip_tower_load(&eyes.clip, "data/tiny-model/clip", &b->weights, NULL, s);
    return eyes.ready;
}

typedef struct { Tensor cls, similarity, embed; int style; } Seen;

static Seen look_at(Bench *b, const uint8_t *rgb)
{
    Run *r = &b->pipeline.run;
    int size = eyes.dino.config.image, T = critic_dino_tokens(&eyes.dino, size), D = eyes.dino.config.width, n = b->judge.config.styles.n;
    Seen s = { tensor_in(r, r->run, SHAPE(D)), tensor_in(r, r->run, SHAPE(T, T)), tensor_in(r, r->run, SHAPE(1, eyes.clip.width)), 0 };
    size_t mark = r->temp->used;
    Tensor x = temp(r, SHAPE(1, 3, SIDE, SIDE)), keys = temp(r, SHAPE(T, D));
    DetectorOut out = { .style = temp(r, SHAPE(1, n)) };
    CriticDino dino;
    CriticClip clip;
    if (!run_ok(r)) return s;
    image_to_network(tensor_row(x, 0), &(Image){ (uint8_t *)(uintptr_t)rgb, SIDE, SIDE, false });
    critic_dino(r, &eyes.dino, &dino, s.cls, keys, x, size);
    critic_clip(r, &eyes.clip, &clip, s.embed, x, NULL, 0);
    detector_forward(r, &b->judge, out, x);
    if (run_ok(r)) diffuseit_similarity(r, s.similarity, keys);
    for (int k = 1; k < n; k++)
        if (out.style.x[k] > out.style.x[s.style]) s.style = k;
    arena_release(r->temp, mark);
    return s;
}

static double cosine(Run *r, Tensor a, Tensor b) { return dot(r, a, b) / sqrt(dot(r, a, a) * dot(r, b, b)); }

static double correlation(Tensor a, Tensor b)
{
    size_t n = tensor_count(a);
    double ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) ma += (double)a.x[i] / (double)n, mb += (double)b.x[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        double p = (double)a.x[i] - ma, q = (double)b.x[i] - mb;
        ab += p * q, aa += p * p, bb += q * q;
    }
    return ab / sqrt(aa * bb);
}

/* ---- the run ---- */

typedef struct { DitSettings settings; MethodRows rows; GuidedRequest request; DitRun run; } Work;

static void without_guidance(Work *k)
{
    double *number = k->request.method[0].number;
    for (int i = 0; i < DIT_TERMS; i++) number[i] = 0;
    number[DIT_RANGE_RESTART] = 0;
}

/* to receives the result; look NULL: towards the text `target`. */
static bool translate(Bench *b, Picture *to, Picture *from, Picture *look, const char *said, const char *target, bool off, uint64_t with)
{
    char verb[] = "edit", flag[] = "--method", name[] = "diffuseit", *argv[] = { verb, flag, name, NULL };
    Status *s = &b->pipeline.run.status;
    Work *k = calloc(1, sizeof *k);
    clock_t began = clock();
    if (!k) return status_fail(s, E_MEMORY, "out of memory: a run"), false;
    DitRun *w = &k->run;
    w->s = &k->settings;
    Edit *e = &k->settings.edit;
    edit_defaults(e);
    edit_methods(&k->rows, 3, argv, s);
    e->common = (Common){ .model = "data/tiny-model", .threads = 1, .quiet = true };
    e->image = "source";
    k->settings.templates = "none";
    k->settings.colours = COLOURMATCH_NONE + 1;           /* class tokens know colours: matched ones would hide what the guidance does */
    if (!look) e->source = said, e->target = target;
    w->console = console_begin(true, false, false, COLOR_NEVER);
    w->seed = with;
    w->source = (Image){ from->rgb, SIDE, SIDE, false };
    if (look) w->target = (Image){ look->rgb, SIDE, SIDE, false };
    bool good = dit_numbers(w, &k->request, &k->rows, b->presets, s);
    if (good && off) without_guidance(k);
    good = good && dit_open(w) && dit_run(w);
    if (good) memcpy(to->rgb, w->result.rgb, sizeof to->rgb);
    else if (w->r) status_fail(s, w->r->status.code, "%s", w->r->status.text);
    dit_close(w);
    free(k);
    to->seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
    return good;
}

/* The text's embedding, by the tower that looks at pictures. */
static Tensor text_of(Bench *b, const char *text)
{
    Run *r = &b->pipeline.run;
    Tensor t = tensor_in(r, r->run, SHAPE(eyes.clip.width)), again = tensor_in(r, r->run, SHAPE(eyes.clip.width));
    diffuseit_texts(r, t, again, "data/tiny-model/clip", b->pipeline.model.tokenizer, text, text, NULL);
    return t;
}

static void score(Bench *b, const Row *row_, const Picture *before, Score *s, int i)
{
    static Picture after, look, from;
    Run *r = &b->pipeline.run;
    bool picture = row_->variant <= PICTURE, off = row_->variant == PICTURE_OFF || row_->variant == TEXT_OFF;
    const char *where = bench_place(b, i), *said = words(b, "photo", noun(b, i), where), *target = words(b, styled(i), noun(b, i), where);
    s->made = s->counts = true;
    from = *before;
    if (!open_eyes(b)) return;
    GuidedRequest q = bench_request(b, NULL, words(b, styled(i), noun(b, i + 1 + i % 5), bench_place(b, i + 1 + i % 4)));
    if (picture && !bench_take(b, &look, &q, seed(b, i) + 50, NULL)) return;
    if (!translate(b, &after, &from, picture ? &look : NULL, said, target, off, seed(b, i))) return;
    Seen was = look_at(b, before->rgb), is = look_at(b, after.rgb), like = picture ? look_at(b, look.rgb) : was;
    Tensor text = picture ? (Tensor){0} : text_of(b, target);
    if (!run_ok(r)) return;
    s->seconds = after.seconds;
    s->v[LOOK_BEFORE] = picture ? cosine(r, was.cls, like.cls) : cosine(r, tensor_row(was.embed, 0), text);
    s->v[LOOK] = picture ? cosine(r, is.cls, like.cls) : cosine(r, tensor_row(is.embed, 0), text);
    s->v[STRUCTURE] = correlation(is.similarity, was.similarity);
    s->v[OTHER] = picture ? correlation(like.similarity, was.similarity) : (double)NAN;
    s->v[STYLED] = !strcmp(b->judge.config.styles.name[is.style], styled(i));
}

static void print(FILE *f, const Row *r, const Score *s, int n)
{
    bool picture = r->variant <= PICTURE;
    fprintf(f, "%s with the target %.3f, before %.3f; the style asked for %.2f | structure %.3f", picture ? "class token" : "CLIP", score_mean(s, n, LOOK),
            score_mean(s, n, LOOK_BEFORE), score_mean(s, n, STYLED), score_mean(s, n, STRUCTURE));
    if (picture) fprintf(f, ", of the target itself %.3f", score_mean(s, n, OTHER));
}

const Section bench_diffuseit = { "diffuseit", row, sizeof row / sizeof *row, source, score, print, 12 };
