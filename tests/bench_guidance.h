/* bench_guidance.h -- methods on the bundled model, scored by its scene detector.
 *
 * A section is a list of prompts whose unguided pictures are drawn once, and rows: a method, or what it is compared with.  A
 * row scores picture i of the list; its cells of the table are made of all its scores.  Chunks of a row are processes of one
 * thread, begun after everything is loaded, so that a row's peak memory is its own; they write into memory that all share.
 * A new section: one file with a `const Section`, one line in bench_guidance.c. */
#ifndef TESTS_BENCH_GUIDANCE_H
#define TESTS_BENCH_GUIDANCE_H
#include <math.h>
#include <stdio.h>
#include "nn/detector.h"
#include "ref/edit.h"

enum { SIDE = 128, CELLS = SIDE * SIDE / DETECTOR_CELL / DETECTOR_CELL, SEEN_MOST = 32, PROMPTS_MOST = 96, SCORE_VALUES = 8 };

typedef struct {                                          /* a picture, and what the detector sees in it */
    bool made;
    uint8_t rgb[SIDE * SIDE * 3];
    Sighting seen[SEEN_MOST];                             /* of each class */
    bool background[CELLS];
    int place;                                            /* likeliest background, in the detector's order */
    double seconds;                                       /* of processor time, decoding included */
} Picture;

typedef struct {
    bool made;
    bool counts;                                          /* false: this prompt cannot be judged (its object is not there unguided) */
    double seconds;
    double v[SCORE_VALUES];                               /* the section's; NaN: nothing to say here */
} Score;

typedef struct {
    Pipeline pipeline;
    Detector judge;
    Arena text, weights;
    const char *presets;
    uint64_t first_seed;
    bool choosing;                                        /* the list on which settings are chosen, not that which is reported */
} Bench;

typedef struct {
    const char *name;                                     /* in the table */
    const char *method;                                   /* NULL: none */
    int variant;                                          /* what the section makes of it */
    int cost;                                             /* tenths of a second a picture, about; 0: the source is scored */
} Row;

typedef struct Section Section;
struct Section {
    const char *name;
    const Row *row;
    int rows;
    void (*source)(Bench *b, Picture *to, int i);         /* the unguided picture */
    void (*score) (Bench *b, const Row *row, const Picture *source, Score *s, int i);
    void (*print) (FILE *f, const Row *row, const Score *s, int n);       /* two cells: object and place | what stayed */
    int most;                                             /* pictures a row */
};

extern const Section bench_single, bench_restyle, bench_swap, bench_two, bench_learned, bench_diffuseit;
extern const MethodInfo bench_interval, bench_composed;   /* variants of classifier-free guidance */

/* ---- prompts ---- */
const char *bench_noun(const Bench *b, int i);
const char *bench_place(const Bench *b, int i);
const char *bench_prompt(Bench *b, const char *a, const char *other, const char *place);   /* "a photo of a cat [and a dog] on grass" */

/* ---- pictures ---- */
/* The presets' numbers; method NULL: steps and scale of any method, and none. */
GuidedRequest bench_request(Bench *b, const char *method, const char *prompt);
void bench_set(GuidedRequest *q, const char *option, double value);
/* psnr: of the inversion's way back, when there was one (may be NULL).  Errors are in the pipeline's status. */
bool bench_take(Bench *b, Picture *to, const GuidedRequest *q, uint64_t seed, double *psnr);
const Sighting *bench_seen(const Bench *b, const Picture *p, const char *noun);
bool bench_is_there(const Sighting *s);                   /* there, and somewhere */

/* Over the cells that are background in both: mean absolute change in parts of full scale, and PSNR; NaN when they are few. */
typedef struct { double change, psnr; } Stayed;
Stayed bench_stayed(const Picture *a, const Picture *b);

/* ---- of value k of the scores that count and are not NaN ---- */
int    score_count (const Score *s, int n);
int    score_with  (const Score *s, int n, int k);
double score_mean  (const Score *s, int n, int k);
double score_median(const Score *s, int n, int k);
#endif
