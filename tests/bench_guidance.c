/* bench_guidance.c -- methods on the bundled model, scored by its scene detector.
 *
 *     bench_guidance SECTION [PROMPTS] [choose|report]       SECTION: move, larger, smaller, swap, or two
 *
 * Numbers come from data/presets/tiny-model.txt.  Two lists that share no prompt and no seed: numbers are chosen on one and
 * reported on the other.  A row a method, as a line of a table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nn/detector.h"
#include "ref/edit.h"
#include "tensor/file.h"

typedef struct { DetectorOut out; uint8_t *rgb; double seconds; } Shot;

static Pipeline pipeline;
static Detector judge;
static Arena shots, judge_weights;
static uint64_t first_seed = 71000;
static bool choosing;

enum { PLACES = 6, MOST = 96 };
static const char *const place[2][PLACES] = {             /* reported on; chosen on */
    { "on the beach", "on grass", "on a white background", "in the snow", "on a blue background", "in the sky" },
    { "at night", "on the street", "on a yellow background", "on a gray background", "on a red background", "on a gradient background" },
};

static const char *article(const char *noun) { return strchr("aeiou", *noun) ? "an" : "a"; }
static const char *noun(int i) { return judge.config.classes.name[i % judge.config.classes.n]; }

static const char *said(const char *a, const char *b, int i)
{
    char text[200];
    const char *where = place[choosing][(i + i / PLACES) % PLACES];
    if (b) snprintf(text, sizeof text, "a photo of %s %s and %s %s %s", article(a), a, article(b), b, where);
    else   snprintf(text, sizeof text, "a photo of %s %s %s", article(a), a, where);
    char *copy = arena_take(&shots, strlen(text) + 1);
    if (copy) strcpy(copy, text);
    return copy ? copy : "";
}

static GuidedRequest request(const char *method, const char *prompt)
{
    char verb[] = "edit", flag[] = "--method", name[60];
    char *argv[] = { verb, flag, name, NULL };
    GuidedRequest q = { .base = pipeline_request(), .nouns = "data/nouns.txt", .templates = "data/templates.txt" };
    snprintf(name, sizeof name, "%s", method ? method : "self-guidance");
    EditWork *w = edit_work(3, argv);
    if (!w) return q;
    edit_numbers(&w->edit, &q, &w->rows, "data/presets/tiny-model.txt", &shots, &pipeline.run.status);
    q.base.steps = w->edit.steps;
    q.base.scale = w->edit.scale;
    q.base.prompt = prompt;
    q.base.W = q.base.H = 128;
    if (!method) q.methods = 0;
    edit_work_free(w);
    return q;
}

static bool take_shot(Shot *shot, const GuidedRequest *q, uint64_t seed)
{
    static Guided g;
    static const GuidedHooks quiet;
    Run *r = &pipeline.run;
    const DetectorConfig *c = &judge.config;
    size_t mark = r->run->used;
    double began = clock_seconds();
    Tensor z = {0};
    int W = 0, H = 0;
    const uint8_t *rgb = NULL;
    memset(&g, 0, sizeof g);
    if (guided_open(&g, &pipeline, q, &quiet) && guided_sample(&g, &z, seed, !q->methods)) rgb = pipeline_decode(&pipeline, z, &W, &H);
    guided_close(&g);
    shot->seconds = clock_seconds() - began;
    if (!rgb) return false;
    size_t bytes = (size_t)(3 * W * H);
    Tensor x = tensor_in(r, r->run, SHAPE(1, 3, H, W));
    shot->rgb = arena_take(&shots, bytes);
    shot->out = (DetectorOut){ tensor_in(r, &shots, detector_cells(&judge, x.s)), tensor_in(r, &shots, SHAPE(1, c->classes.n)), {0}, {0} };
    if (!run_ok(r) || !shot->rgb) return false;
    memcpy(shot->rgb, rgb, bytes);
    image_to_network(tensor_row(x, 0), &(Image){ shot->rgb, H, W, false });
    detector_forward(r, &judge, shot->out, x);
    arena_release(r->run, mark);
    return run_ok(r);
}

static Sighting seen(const Shot *s, const char *name) { return detector_find(&s->out, 0, names_place(judge.config.classes, name)); }

/* Mean change, in parts of full scale, of the cells that are background in both; NaN when they are few. */
static double background_change(const Shot *a, const Shot *b)
{
    bool in_a[256], in_b[256];
    double sum = 0;
    int n = 0;
    detector_background(&a->out, 0, in_a);
    detector_background(&b->out, 0, in_b);
    for (int i = 0; i < 128 * 128; i++) {
        int cell = i / 128 / DETECTOR_CELL * 16 + i % 128 / DETECTOR_CELL;
        if (!in_a[cell] || !in_b[cell]) continue;
        for (int k = 0; k < 3; k++) sum += abs(a->rgb[3 * i + k] - b->rgb[3 * i + k]);
        n += 3;
    }
    return n >= 1500 ? sum / n / 255 : (double)NAN;
}

static int by_size(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static double median(double *v, int n)
{
    if (!n) return (double)NAN;
    qsort(v, (size_t)n, sizeof *v, by_size);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double share(int n, int of) { return of ? (double)n / of : (double)NAN; }
static double peak_mb(void) { return (double)process_peak_memory() / 1e6; }

/* ---- sections ---- */

/* Move by 32 px away from the nearer side, or change the size: only objects that are there unguided can be judged. */
static void self_guidance(int n, double factor)
{
    double error[MOST], ratio[MOST], change[MOST], seconds = 0;
    int had = 0, kept = 0, changes = 0;
    for (int i = 0; i < n; i++) {
        const char *name = noun(i), *prompt = said(name, NULL, i);
        Shot before, after;
        GuidedRequest plain = request(NULL, prompt), q = request("self-guidance", prompt);
        uint64_t seed = first_seed + (uint64_t)i;
        if (!take_shot(&before, &plain, seed)) return;
        Sighting a = seen(&before, name);
        if (!a.there || !a.cells) continue;
        double dx = factor ? 0 : a.x > 64 ? -0.25 : 0.25;
        q.object = &name;
        q.objects = 1;
        q.edit[q.edits++] = factor ? (GuidedEdit){ EDIT_RESIZE, name, sqrt(factor), sqrt(factor) } : (GuidedEdit){ EDIT_MOVE, name, dx, 0 };
        if (!take_shot(&after, &q, seed)) return;
        Sighting b = seen(&after, name);
        seconds += after.seconds;
        had++;
        if (!b.there || !b.cells) continue;
        error[kept] = hypot(b.x - a.x - 128 * dx, b.y - a.y);
        ratio[kept++] = b.area / a.area;
        double c = background_change(&before, &after);
        if (!isnan(c)) change[changes++] = c;
    }
    double m = median(change, changes), e = median(error, kept), q = median(ratio, kept);
    if (factor) printf("| self-guidance, area x %.2f | %d | there %.2f, area ratio %.2f, centroid %.1f px off | background changed by %.3f | %.1f | %.0f |\n",
                       factor, had, share(kept, had), q, e, m, seconds / had, peak_mb());
    else printf("| self-guidance, move by 32 px | %d | there %.2f, %.1f px from the target, area ratio %.2f | background changed by %.3f | %.1f | %.0f |\n",
                had, share(kept, had), e, q, m, seconds / had, peak_mb());
}

typedef struct { double shift[MOST], change[MOST], seconds; int n, shifts, changes, there, gone; } Swap;

static void add_swap(Swap *s, const Shot *from, const Shot *to, const char *old, const char *new)
{
    Sighting a = seen(from, old), b = seen(to, new);
    double c = background_change(from, to);
    s->n++;
    s->seconds += to->seconds;
    s->there += b.there;
    s->gone += b.there && !seen(to, old).there;
    if (b.there && b.cells) s->shift[s->shifts++] = hypot(a.x - b.x, a.y - b.y);
    if (!isnan(c)) s->change[s->changes++] = c;
}

static void print_swap(const char *name, Swap *s)
{
    double mean = 0;
    for (int i = 0; i < s->shifts; i++) mean += s->shift[i] / s->shifts;
    printf("| %s | %d | new one there %.2f, and old one gone %.2f; centroid shift %.1f px, median %.1f | background changed by %.3f | %.1f | %.0f |\n",
           name, s->n, share(s->there, s->n), share(s->gone, s->n), mean, median(s->shift, s->shifts), median(s->change, s->changes),
           s->seconds / s->n, peak_mb());
}

/* A word for another: the new prompt alone, Prompt-to-Prompt; on the picture, Pix2Pix-Zero without its guidance and with. */
static void swaps(int n)
{
    static const char *const pair[][2] = { { "cat", "dog" }, { "car", "bus" }, { "apple", "ball" }, { "horse", "elephant" }, { "bird", "fish" },
                                           { "frog", "bear" }, { "tree", "house" }, { "rabbit", "cat" } };
    static Swap plain, p2p, zero[2];
    for (int i = 0; i < n; i++) {
        const char *old = pair[i % 8][0], *new = pair[i % 8][1], *a = said(old, NULL, i + i / 8), *b = said(new, NULL, i + i / 8);
        Shot from, to;
        uint64_t seed = first_seed + 200 + (uint64_t)i;
        GuidedRequest q = request(NULL, a);
        if (!take_shot(&from, &q, seed)) return;
        if (!seen(&from, old).there || !seen(&from, old).cells) continue;
        q = request(NULL, b);
        if (!take_shot(&to, &q, seed)) return;
        add_swap(&plain, &from, &to, old, new);
        q = request("prompt-to-prompt", b);
        q.source_prompt = a;
        if (!take_shot(&to, &q, seed)) return;
        add_swap(&p2p, &from, &to, old, new);
        for (int guided = 0; guided < 2; guided++) {
            q = request("pix2pix-zero", a);
            q.source_prompt = a;
            q.from = old, q.to = new;
            q.picture = from.rgb;
            int k = methods_option(q.method[0].info, "xa-guidance");
            if (!guided && k >= 0) q.method[0].number[k] = 0;
            if (!take_shot(&to, &q, seed)) return;
            add_swap(&zero[guided], &from, &to, old, new);
        }
    }
    print_swap("the new prompt, same noise", &plain);
    print_swap("prompt-to-prompt", &p2p);
    print_swap("pix2pix-zero without its guidance", &zero[0]);
    print_swap("pix2pix-zero", &zero[1]);
}

static void two_objects(int n)
{
    static const char *const method[] = { NULL, "attend-and-excite", "a-star", "suppress-to-impress", "multi" };
    int classes = judge.config.classes.n;
    for (size_t k = 0; k < sizeof method / sizeof *method; k++) {
        int both = 0, one = 0;
        double seconds = 0;
        for (int i = 0; i < n; i++) {
            const char *name[2] = { noun(i), judge.config.classes.name[(names_place(judge.config.classes, noun(i)) + 1 + (11 * i + i / 3) % (classes - 1)) % classes] };
            const char *prompt = said(name[0], name[1], i);
            Shot s;
            GuidedRequest q = request(method[k], prompt);
            q.object = name;
            q.objects = 2;
            if (!take_shot(&s, &q, first_seed + 400 + (uint64_t)i)) return;
            int found = seen(&s, name[0]).there + seen(&s, name[1]).there;
            both += found == 2;
            one += found == 1;
            seconds += s.seconds;
        }
        printf("| %s | %d | both there %.3f, one of them %.3f | | %.1f | %.0f |\n", method[k] ? method[k] : "two objects, unguided", n,
               share(both, n), share(one, n), seconds / n, peak_mb());
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    const char *section = argc > 1 ? argv[1] : "";
    int n = argc > 2 ? atoi(argv[2]) : 32;
    PipelineSetup setup = { .model = "data/tiny-model", .threads = 1, .blas = true };
    choosing = argc > 3 && !strcmp(argv[3], "choose");
    if (choosing) first_seed = 11000;
    if (n < 1 || n > MOST) return 2;
    Status *s = &pipeline.run.status;
    if (pipeline_open(&pipeline, &setup) && pipeline_load(&pipeline, MODEL_UNET | MODEL_VAE | MODEL_TEXT | MODEL_TOKENIZER) &&
        detector_load(&judge, "data/tiny-model/detector", &judge_weights, NULL, s)) {
        if (!strcmp(section, "move")) self_guidance(n, 0);
        else if (!strcmp(section, "larger")) self_guidance(n, 1.6);
        else if (!strcmp(section, "smaller")) self_guidance(n, 0.6);
        else if (!strcmp(section, "swap")) swaps(n);
        else if (!strcmp(section, "two")) two_objects(n);
        else status_fail(s, E_OPTION, "bench_guidance: move, larger, smaller, swap or two is wanted");
    }
    if (s->code != OK) fprintf(stderr, "%s\n", s->text);
    return s->code != OK;
}
