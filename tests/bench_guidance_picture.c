/* bench_guidance_picture.c -- prompts, pictures, and what is measured on them. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tests/bench_guidance.h"

/* ---- prompts ---- */

enum { PLACES = 6 };
static const char *const place[2][PLACES] = {             /* reported on; chosen on */
    { "on the beach", "on grass", "on a white background", "in the snow", "on a blue background", "in the sky" },
    { "at night", "on the street", "on a yellow background", "on a gray background", "on a red background", "on a gradient background" },
};

const char *bench_noun(const Bench *b, int i)  { return b->judge.config.classes.name[i % b->judge.config.classes.n]; }
const char *bench_place(const Bench *b, int i) { return place[b->choosing][(i + i / PLACES) % PLACES]; }

static const char *article(const char *noun) { return strchr("aeiou", *noun) ? "an" : "a"; }

const char *bench_prompt(Bench *b, const char *a, const char *other, const char *where)
{
    char text[200];
    if (other) snprintf(text, sizeof text, "a photo of %s %s and %s %s %s", article(a), a, article(other), other, where);
    else       snprintf(text, sizeof text, "a photo of %s %s %s", article(a), a, where);
    char *copy = arena_take(&b->text, strlen(text) + 1);
    if (copy) strcpy(copy, text);
    return copy ? copy : "";
}

/* ---- pictures ---- */

GuidedRequest bench_request(Bench *b, const char *method, const char *prompt)
{
    char verb[] = "edit", flag[] = "--method", name[60];
    char *argv[] = { verb, flag, name, NULL };
    GuidedRequest q = { .base = pipeline_request(), .nouns = "data/nouns.txt", .templates = "data/templates.txt" };
    snprintf(name, sizeof name, "%s", method ? method : "self-guidance");
    EditWork *w = edit_work(3, argv);
    if (!w) return q;
    if (w->status.code != OK) b->pipeline.run.status = w->status;
    else edit_numbers(&w->edit, &q, &w->rows, b->presets, &b->text, &b->pipeline.run.status);
    q.base.steps = w->edit.steps;
    q.base.scale = w->edit.scale;
    q.base.prompt = prompt;
    q.base.W = q.base.H = SIDE;
    if (!method) q.methods = 0;
    edit_work_free(w);
    return q;
}

void bench_set(GuidedRequest *q, const char *option, double value)
{
    int k = methods_option(q->method[0].info, option);
    if (k >= 0) q->method[0].number[k] = value;
}

static void judge(Bench *b, Picture *p)
{
    Run *r = &b->pipeline.run;
    const DetectorConfig *c = &b->judge.config;
    size_t mark = r->run->used;
    Tensor x = tensor_in(r, r->run, SHAPE(1, 3, SIDE, SIDE));
    DetectorOut out = { tensor_in(r, r->run, detector_cells(&b->judge, x.s)), tensor_in(r, r->run, SHAPE(1, c->classes.n)), {0},
                        tensor_in(r, r->run, SHAPE(1, c->backgrounds.n)) };
    if (!run_ok(r)) return;
    image_to_network(tensor_row(x, 0), &(Image){ p->rgb, SIDE, SIDE, false });
    detector_forward(r, &b->judge, out, x);
    for (int k = 0; k < c->classes.n && k < SEEN_MOST; k++) p->seen[k] = detector_find(&out, 0, k);
    detector_background(&out, 0, p->background);
    p->place = 0;
    for (int k = 1; k < c->backgrounds.n; k++)
        if (out.background.x[k] > out.background.x[p->place]) p->place = k;
    arena_release(r->run, mark);
}

bool bench_take(Bench *b, Picture *to, const GuidedRequest *q, uint64_t seed, double *psnr)
{
    static Guided g;
    static const GuidedHooks quiet;
    Run *r = &b->pipeline.run;
    size_t mark = r->run->used;
    clock_t began = clock();
    Tensor z = {0};
    int W = 0, H = 0;
    const uint8_t *rgb = NULL;
    memset(&g, 0, sizeof g);
    if (guided_open(&g, &b->pipeline, q, &quiet) && guided_sample(&g, &z, seed, false)) rgb = pipeline_decode(&b->pipeline, z, &W, &H);
    if (psnr) *psnr = g.psnr_reconstruction;
    guided_close(&g);
    to->seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
    if (rgb && (W != SIDE || H != SIDE)) run_fail(r, E_SHAPE, "bench: a picture of %d x %d", W, H);
    if (!rgb || !run_ok(r)) return false;
    memcpy(to->rgb, rgb, sizeof to->rgb);
    arena_release(r->run, mark);
    judge(b, to);
    to->made = run_ok(r);
    return to->made;
}

const Sighting *bench_seen(const Bench *b, const Picture *p, const char *noun)
{
    int k = names_place(b->judge.config.classes, noun);
    return &p->seen[k < 0 ? 0 : k];
}

bool bench_is_there(const Sighting *s) { return s->there && s->cells > 0; }

Stayed bench_stayed(const Picture *a, const Picture *b)
{
    double sum = 0, squares = 0;
    int n = 0, wide = SIDE / DETECTOR_CELL;
    for (int i = 0; i < SIDE * SIDE; i++) {
        int cell = i / SIDE / DETECTOR_CELL * wide + i % SIDE / DETECTOR_CELL;
        if (!a->background[cell] || !b->background[cell]) continue;
        for (int k = 0; k < 3; k++, n++) {
            double d = (a->rgb[3 * i + k] - b->rgb[3 * i + k]) / 255.0;
            sum += fabs(d);
            squares += d * d;
        }
    }
    if (n < 1500) return (Stayed){ (double)NAN, (double)NAN };
    return (Stayed){ sum / n, squares > 0 ? -10 * log10(squares / n) : 99 };
}

/* ---- scores ---- */

int score_count(const Score *s, int n)
{
    int count = 0;
    for (int i = 0; i < n; i++) count += s[i].counts;
    return count;
}

static int gather(double *to, const Score *s, int n, int k)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        if (s[i].counts && !isnan(s[i].v[k])) to[count++] = s[i].v[k];
    return count;
}

int score_with(const Score *s, int n, int k)
{
    double v[PROMPTS_MOST];
    return gather(v, s, n, k);
}

double score_mean(const Score *s, int n, int k)
{
    double v[PROMPTS_MOST], sum = 0;
    int count = gather(v, s, n, k);
    for (int i = 0; i < count; i++) sum += v[i];
    return count ? sum / count : (double)NAN;
}

static int by_size(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

double score_median(const Score *s, int n, int k)
{
    double v[PROMPTS_MOST];
    int count = gather(v, s, n, k);
    if (!count) return (double)NAN;
    qsort(v, (size_t)count, sizeof *v, by_size);
    return count % 2 ? v[count / 2] : (v[count / 2 - 1] + v[count / 2]) / 2;
}
