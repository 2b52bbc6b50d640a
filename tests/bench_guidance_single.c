/* bench_guidance_single.c -- one object: unguided, moved by 32 px away from the nearer side, made larger and smaller; and the
 * variants of classifier-free guidance. */
#include "tests/bench_guidance.h"

enum { UNGUIDED, MOVE, LARGER, SMALLER, RESCALE, INTERVAL };
enum { THERE, OFF, RATIO, CHANGE, PSNR, PLACE };          /* values; OFF: px from where it should be */

static const Row row[] = {
    { "one object, unguided",                  NULL,            UNGUIDED, 0  },
    { "self-guidance, move by 32 px",          "self-guidance", MOVE,     30 },
    { "self-guidance, area x 1.6",             "self-guidance", LARGER,   30 },
    { "self-guidance, area x 0.6",             "self-guidance", SMALLER,  30 },
};

static uint64_t seed(const Bench *b, int i) { return b->first_seed + (uint64_t)i; }

static void source(Bench *b, Picture *to, int i)
{
    GuidedRequest q = bench_request(b, NULL, bench_prompt(b, bench_noun(b, i), NULL, bench_place(b, i)));
    bench_take(b, to, &q, seed(b, i), NULL);
}

static void score(Bench *b, const Row *r, const Picture *before, Score *s, int i)
{
    const char *name = bench_noun(b, i);
    const Sighting *a = bench_seen(b, before, name);
    static Picture after;
    s->counts = s->made = true;
    s->v[THERE] = a->there;
    if (r->variant == UNGUIDED) return;
    s->counts = bench_is_there(a);
    if (!s->counts) return;
    double dx = r->variant != MOVE ? 0 : a->x > SIDE / 2.0 ? -0.25 : 0.25, factor = r->variant == LARGER ? 1.6 : 0.6;
    GuidedRequest q = bench_request(b, r->method, bench_prompt(b, name, NULL, bench_place(b, i)));
    q.object = &name;
    q.objects = 1;
    q.edit[q.edits++] = r->variant == MOVE ? (GuidedEdit){ EDIT_MOVE, name, dx, 0, NULL } : (GuidedEdit){ EDIT_RESIZE, name, sqrt(factor), sqrt(factor), NULL };
    if (!bench_take(b, &after, &q, seed(b, i), NULL)) return;
    const Sighting *now = bench_seen(b, &after, name);
    Stayed stayed = bench_stayed(before, &after);
    bool there = bench_is_there(now);
    s->seconds = after.seconds;
    s->v[THERE] = there;
    s->v[OFF] = there ? hypot(now->x - a->x - SIDE * dx, now->y - a->y) : (double)NAN;
    s->v[RATIO] = there ? now->area / a->area : (double)NAN;
    s->v[CHANGE] = stayed.change;
    s->v[PSNR] = stayed.psnr;
}

static void print(FILE *f, const Row *r, const Score *s, int n)
{
    fprintf(f, "there %.2f", score_mean(s, n, THERE));
    if (r->variant == UNGUIDED) {
        fprintf(f, " | -");
        return;
    }
    if (r->variant == MOVE) fprintf(f, ", %.1f px from the target, area ratio %.2f", score_median(s, n, OFF), score_median(s, n, RATIO));
    else fprintf(f, ", area ratio %.2f, centroid %.1f px off", score_median(s, n, RATIO), score_median(s, n, OFF));
    fprintf(f, " | %.1f dB, changed by %.3f", score_median(s, n, PSNR), score_median(s, n, CHANGE));
}

const Section bench_single = { "single", row, sizeof row / sizeof *row, source, score, print, PROMPTS_MOST };
