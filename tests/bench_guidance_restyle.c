/* bench_guidance_restyle.c -- the same object in another place: does it stay where it is? */
#include <string.h>
#include "tests/bench_guidance.h"

enum { PLAIN, LAYOUT, PROMPT };
enum { THERE, ASKED, SHIFT, RATIO };                      /* values; ASKED: and on the background that was asked for */

static const Row row[] = {
    { "another place, same noise",                    NULL,               PLAIN,  12 },
    { "another place, self-guidance of the layout",   "self-guidance",    LAYOUT, 30 },
    { "another place, prompt-to-prompt",              "prompt-to-prompt", PROMPT, 25 },
};

static uint64_t seed(const Bench *b, int i)             { return b->first_seed + 600 + (uint64_t)i; }
static const char *noun(const Bench *b, int i)          { return bench_noun(b, 5 * i + i / 24); }
static const char *from(Bench *b, int i)                { return bench_prompt(b, noun(b, i), NULL, bench_place(b, i)); }

static void source(Bench *b, Picture *to, int i)
{
    GuidedRequest q = bench_request(b, NULL, from(b, i));
    bench_take(b, to, &q, seed(b, i), NULL);
}

/* The detector says "grass", "plain blue"; prompts "on grass", "on a blue background". */
static bool is_place(const Bench *b, int background, const char *words)
{
    const char *name = b->judge.config.backgrounds.name[background];
    return strstr(words, strncmp(name, "plain ", 6) ? name : name + 6) != NULL;
}

static void score(Bench *b, const Row *r, const Picture *before, Score *s, int i)
{
    const char *name = noun(b, i), *place = bench_place(b, i + 1 + i % 3);
    const Sighting *a = bench_seen(b, before, name);
    static Picture after;
    s->made = true;
    s->counts = bench_is_there(a);
    if (!s->counts) return;
    GuidedRequest q = bench_request(b, r->method, bench_prompt(b, name, NULL, place));
    q.source_prompt = from(b, i);
    q.object = &name;
    q.objects = 1;
    if (r->variant == LAYOUT) q.edit[q.edits++] = (GuidedEdit){ EDIT_SHAPE, name, 0, 0, NULL };
    if (!bench_take(b, &after, &q, seed(b, i), NULL)) return;
    const Sighting *now = bench_seen(b, &after, name);
    bool there = bench_is_there(now);
    s->seconds = after.seconds;
    s->v[THERE] = there;
    s->v[ASKED] = there && is_place(b, after.place, place);
    s->v[SHIFT] = there ? hypot(now->x - a->x, now->y - a->y) : (double)NAN;
    s->v[RATIO] = there ? now->area / a->area : (double)NAN;
}

static void print(FILE *f, const Row *r, const Score *s, int n)
{
    (void)r;
    fprintf(f, "there %.2f, and where asked %.2f | centroid shift %.1f px, median %.1f; area ratio %.2f", score_mean(s, n, THERE), score_mean(s, n, ASKED),
            score_mean(s, n, SHIFT), score_median(s, n, SHIFT), score_median(s, n, RATIO));
}

const Section bench_restyle = { "restyle", row, sizeof row / sizeof *row, source, score, print, 24 };
