/* bench_guidance_swap.c -- one word for another.  From the noise of the unguided picture: the new prompt alone, Prompt-to-Prompt,
 * Pix2Pix-Zero without its guidance and with.  From that picture, inverted: likewise, and Plug-and-Play. */
#include "tests/bench_guidance.h"

enum { PLAIN, PROMPT, ZERO, ZERO_GUIDED, FROM_PICTURE = 16 };
enum { THERE, GONE, SHIFT, CHANGE, PSNR, BACK };          /* values; BACK: dB of the inversion's way back */

static const Row row[] = {
    { "the new prompt, same noise",                         NULL,               PLAIN,                      12  },
    { "prompt-to-prompt, same noise",                       "prompt-to-prompt", PROMPT,                     25  },
    { "pix2pix-zero without its guidance, same noise",      "pix2pix-zero",     ZERO,                       25  },
    { "pix2pix-zero, same noise",                           "pix2pix-zero",     ZERO_GUIDED,                50  },
    { "the new prompt, on the picture",                     NULL,               FROM_PICTURE | PLAIN,       25  },
    { "plug-and-play, on the picture",                      "plug-and-play",    FROM_PICTURE | PROMPT,      60  },
    { "prompt-to-prompt with null-text, on the picture",    "prompt-to-prompt", FROM_PICTURE | PROMPT,      200 },
    { "pix2pix-zero without its guidance, on the picture",  "pix2pix-zero",     FROM_PICTURE | ZERO,        35  },
    { "pix2pix-zero, on the picture",                       "pix2pix-zero",     FROM_PICTURE | ZERO_GUIDED, 60  },
};

static const char *const pair[][2] = { { "cat", "dog" }, { "car", "bus" }, { "apple", "ball" }, { "horse", "elephant" }, { "bird", "fish" },
                                       { "frog", "bear" }, { "tree", "house" }, { "rabbit", "cat" } };
enum { PAIRS = sizeof pair / sizeof *pair };

static uint64_t seed(const Bench *b, int i)                      { return b->first_seed + 200 + (uint64_t)i; }
static const char *said(Bench *b, const char *name, int i)       { return bench_prompt(b, name, NULL, bench_place(b, i + i / PAIRS)); }

static void source(Bench *b, Picture *to, int i)
{
    GuidedRequest q = bench_request(b, NULL, said(b, pair[i % PAIRS][0], i));
    bench_take(b, to, &q, seed(b, i), NULL);
}

static GuidedRequest request(Bench *b, const Row *r, const Picture *before, int i)
{
    const char *const *word = pair[i % PAIRS], *from = said(b, word[0], i);
    int how = r->variant & ~FROM_PICTURE;
    bool zero = how == ZERO || how == ZERO_GUIDED;
    GuidedRequest q = bench_request(b, r->method, zero ? from : said(b, word[1], i));
    q.source_prompt = from;
    if (zero) q.from = word[0], q.to = word[1];
    if (how == ZERO) bench_set(&q, "xa-guidance", 0);
    if (!(r->variant & FROM_PICTURE)) return q;
    q.picture = before->rgb;
    q.start_inverted = true;
    return q;
}

static void score(Bench *b, const Row *r, const Picture *before, Score *s, int i)
{
    const char *const *word = pair[i % PAIRS];
    const Sighting *a = bench_seen(b, before, word[0]);
    static Picture after;
    s->made = true;
    bool slow = r->variant == (FROM_PICTURE | PROMPT) && r->cost > 100;
    s->counts = bench_is_there(a) && (!slow || i % 2 == 0);             /* null-text inversion: every other picture */
    if (!s->counts) return;
    GuidedRequest q = request(b, r, before, i);
    if (!bench_take(b, &after, &q, seed(b, i), &s->v[BACK])) return;
    const Sighting *now = bench_seen(b, &after, word[1]);
    Stayed stayed = bench_stayed(before, &after);
    s->seconds = after.seconds;
    s->v[THERE] = now->there;
    s->v[GONE] = now->there && !bench_seen(b, &after, word[0])->there;
    s->v[SHIFT] = bench_is_there(now) ? hypot(now->x - a->x, now->y - a->y) : (double)NAN;
    s->v[CHANGE] = stayed.change;
    s->v[PSNR] = stayed.psnr;
}

static void print(FILE *f, const Row *r, const Score *s, int n)
{
    fprintf(f, "new one there %.2f, and old one gone %.2f; centroid shift %.1f px, median %.1f | %.1f dB, changed by %.3f",
            score_mean(s, n, THERE), score_mean(s, n, GONE), score_mean(s, n, SHIFT), score_median(s, n, SHIFT),
            score_median(s, n, PSNR), score_median(s, n, CHANGE));
    if (r->variant & FROM_PICTURE) fprintf(f, "; way back %.1f dB", score_median(s, n, BACK));
}

const Section bench_swap = { "swap", row, sizeof row / sizeof *row, source, score, print, PROMPTS_MOST };
