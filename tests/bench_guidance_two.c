/* bench_guidance_two.c -- two objects in one prompt: are both there? */
#include "guidance/cfg_method.h"
#include "tests/bench_guidance.h"

enum { UNGUIDED, GUIDED, RESCALED, INTERVAL, COMPOSED };
enum { BOTH, ONE, WON, LOST };                            /* values; WON, LOST: both there now and not before, and the other way round */

static const Row row[] = {
    { "two objects, unguided", NULL,                  UNGUIDED, 0  },
    { "guidance rescale 0.7",  NULL,                  RESCALED, 12 },
    { "guidance interval",     NULL,                  INTERVAL, 12 },
    { "composed prompts, half the scale each", NULL,                  COMPOSED, 14 },
    { "attend-and-excite",     "attend-and-excite",   GUIDED,   30 },
    { "a-star",                "a-star",              GUIDED,   30 },
    { "suppress-to-impress",   "suppress-to-impress", GUIDED,   30 },
    { "multi",                 "multi",               GUIDED,   30 },
};

typedef struct { const char *name[2], *prompt; uint64_t seed; } Case;

static Case case_of(Bench *b, int i)
{
    int classes = b->judge.config.classes.n, first = i % classes;
    Case c = { .name = { bench_noun(b, i), bench_noun(b, first + 1 + (11 * i + i / 3) % (classes - 1)) }, .seed = b->first_seed + 400 + (uint64_t)i };
    c.prompt = bench_prompt(b, c.name[0], c.name[1], bench_place(b, i));
    return c;
}

static void source(Bench *b, Picture *to, int i)
{
    Case c = case_of(b, i);
    GuidedRequest q = bench_request(b, NULL, c.prompt);
    bench_take(b, to, &q, c.seed, NULL);
}

static const double interval[CFG_NUMBERS] = { [CFG_LOW] = 0.28, [CFG_HIGH] = 5.42, [CFG_PROJECTION] = 1 };     /* the paper's, for SD-XL */

static GuidedRequest request(Bench *b, const Row *r, const Case *c, int i)
{
    GuidedRequest q = bench_request(b, r->method, c->prompt);
    if (r->variant == RESCALED) q.base.rescale = 0.7;
    if (r->variant == INTERVAL) q.mixing = interval;
    if (r->variant == COMPOSED) {
        q.base.prompt = bench_prompt(b, c->name[0], NULL, bench_place(b, i));
        q.base.scale /= 2;
        q.compose[q.composed++] = (GuidedPrompt){ bench_prompt(b, c->name[1], NULL, bench_place(b, i)), q.base.scale };
    }
    if (r->variant != GUIDED) return q;
    q.object = c->name;
    q.objects = 2;
    return q;
}

static int found(const Bench *b, const Picture *p, const Case *c) { return bench_seen(b, p, c->name[0])->there + bench_seen(b, p, c->name[1])->there; }

static void score(Bench *b, const Row *r, const Picture *before, Score *s, int i)
{
    Case c = case_of(b, i);
    static Picture after;
    const Picture *p = before;
    if (r->variant != UNGUIDED) {
        GuidedRequest q = request(b, r, &c, i);
        if (!bench_take(b, &after, &q, c.seed, NULL)) return;
        s->seconds = after.seconds;
        p = &after;
    }
    int now = found(b, p, &c), then = found(b, before, &c);
    s->made = s->counts = true;
    s->v[BOTH] = now == 2;
    s->v[ONE] = now == 1;
    s->v[WON] = now == 2 && then < 2;
    s->v[LOST] = now < 2 && then == 2;
}

static void print(FILE *f, const Row *r, const Score *s, int n)
{
    fprintf(f, "both there %.2f, one of them %.2f", score_mean(s, n, BOTH), score_mean(s, n, ONE));
    if (r->variant != UNGUIDED) fprintf(f, "; won %.0f, lost %.0f", n * score_mean(s, n, WON), n * score_mean(s, n, LOST));
    fprintf(f, " | -");
}

const Section bench_two = { "two", row, sizeof row / sizeof *row, source, score, print, PROMPTS_MOST };
