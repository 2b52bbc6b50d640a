/* bench_guidance.c -- the table of docs/guidance-bench.md.
 *
 *     bench_guidance SECTION[:PART OF A ROW'S NAME]|all [PROMPTS [report|choose [PRESETS [PROCESSES]]]]
 *
 * Numbers come from data/presets/tiny-model.txt or the file given.  Two lists that share no prompt and no seed: numbers are
 * chosen on one and reported on the other. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tensor/file.h"
#include "tests/bench_guidance.h"

static const Section *const section[] = { &bench_single, &bench_restyle, &bench_swap, &bench_two, &bench_learned, &bench_diffuseit };
enum { SECTIONS = sizeof section / sizeof *section, ROWS_MOST = 40, CHUNK = 6, JOBS_MOST = 4096 };

typedef struct { Picture source[PROMPTS_MOST]; Score score[ROWS_MOST][PROMPTS_MOST]; long peak[ROWS_MOST + 1]; } Results;        /* peak: kB; the last: of the sources */
typedef struct { int section, row, first, last, cost; } Job;                                     /* row -1: the sources */

static Bench bench;
static Results *results;                                  /* [SECTIONS], shared by all processes */

/* ---- jobs: processes ---- */

static void work(const Job *j)
{
    const Section *s = section[j->section];
    Results *to = &results[j->section];
    for (int i = j->first; i < j->last && run_ok(&bench.pipeline.run); i++) {
        size_t mark = bench.pipeline.run.run->used;
        if (j->row < 0) s->source(&bench, &to->source[i], i);
        else s->score(&bench, &s->row[j->row], &to->source[i], &to->score[j->row][i], i);
        arena_release(bench.pipeline.run.run, mark);
    }
    long *peak = &to->peak[j->row < 0 ? ROWS_MOST : j->row], now = (long)(process_peak_memory() / 1000);
    if (now > *peak) *peak = now;
    const Status *status = &bench.pipeline.run.status;
    if (status->code != OK) fprintf(stderr, "%s, %s, picture %d: %s\n", s->name, j->row < 0 ? "unguided" : s->row[j->row].name, j->first, status->text);
    fflush(NULL);
    _exit(status->code != OK);
}

static bool wait_one(void)
{
    int status = 0;
    return wait(&status) > 0 && status == 0;
}

static bool run_jobs(const Job *job, int n, int processes)
{
    bool good = true;
    int alive = 0;
    for (int i = 0; i < n && good; i++) {
        if (alive == processes) {
            good = wait_one();
            alive--;
        }
        fflush(NULL);
        pid_t child = good ? fork() : -1;
        if (child == 0) work(&job[i]);
        good = child > 0;
        alive += good;
    }
    while (alive-- > 0) good = wait_one() && good;
    return good;
}

static int costliest(const void *a, const void *b)
{
    const Job *p = a, *q = b;
    return p->cost != q->cost ? (p->cost < q->cost) - (p->cost > q->cost) : p->first - q->first;
}

/* Chunks of a row, longest pictures first; of the sources with row -1. */
static int chunks(Job *job, int have, int which, int row, int n, int cost)
{
    for (int i = 0; i < n && have < JOBS_MOST; i += CHUNK) job[have++] = (Job){ which, row, i, i + CHUNK < n ? i + CHUNK : n, cost };
    return have;
}

/* ---- the table ---- */

static void print_row(int k, int row, int n)
{
    const Section *s = section[k];
    const Row *r = &s->row[row];
    const Results *from = &results[k];
    double seconds = 0;
    int taken = 0;
    for (int i = 0; i < n; i++) {
        double one = r->cost ? from->score[row][i].seconds : from->source[i].seconds;
        seconds += one;
        taken += one > 0;
    }
    printf("| %s | %d | ", r->name, score_count(from->score[row], n));
    s->print(stdout, r, from->score[row], n);
    printf(" | %.1f | %.0f |\n", taken ? seconds / taken : (double)NAN, (double)from->peak[r->cost ? row : ROWS_MOST] / 1000);
}

static int pictures(int k, int n) { return n < section[k]->most ? n : section[k]->most; }

/* "all", a section's name, or that and a part of the row's: two:multi. */
static bool chosen(const char *asked, int k, int row)
{
    size_t length = strlen(section[k]->name);
    if (!strcmp(asked, "all") || !strcmp(asked, section[k]->name)) return true;
    return !strncmp(asked, section[k]->name, length) && asked[length] == ':' && (row < 0 || strstr(section[k]->row[row].name, asked + length + 1));
}

/* Unguided pictures of every section first; then rows, and rows that score those pictures at once. */
static bool run_all(const char *asked, int n, int processes)
{
    static Job job[JOBS_MOST];
    int jobs = 0;
    for (int k = 0; k < SECTIONS; k++)
        if (chosen(asked, k, -1) && section[k]->source) jobs = chunks(job, jobs, k, -1, pictures(k, n), 0);
    if (!run_jobs(job, jobs, processes)) return false;
    jobs = 0;
    for (int k = 0; k < SECTIONS; k++)
        for (int row = 0; row < section[k]->rows; row++) {
            const Row *r = &section[k]->row[row];
            if (!chosen(asked, k, row)) continue;
            if (r->cost) jobs = chunks(job, jobs, k, row, pictures(k, n), r->cost);
            for (int i = 0; i < pictures(k, n) && !r->cost; i++) section[k]->score(&bench, r, &results[k].source[i], &results[k].score[row][i], i);
        }
    qsort(job, (size_t)jobs, sizeof *job, costliest);
    return run_jobs(job, jobs, processes);
}

static double processor_seconds(void)
{
    struct rusage own, children;
    getrusage(RUSAGE_SELF, &own);
    getrusage(RUSAGE_CHILDREN, &children);
    return (double)(own.ru_utime.tv_sec + children.ru_utime.tv_sec) + (double)(own.ru_utime.tv_usec + children.ru_utime.tv_usec) / 1e6;
}

/* Everything that all processes share is loaded and laid out by drawing one picture. */
static bool open_all(void)
{
    PipelineSetup setup = { .model = "data/tiny-model", .threads = 1, .blas = true };
    Status *s = &bench.pipeline.run.status;
    static Picture first;
    if (!pipeline_open(&bench.pipeline, &setup) || !pipeline_load(&bench.pipeline, MODEL_UNET | MODEL_VAE | MODEL_TEXT | MODEL_TOKENIZER) ||
        !detector_load(&bench.judge, "data/tiny-model/detector", &bench.weights, NULL, s)) return false;
    results = mmap(NULL, SECTIONS * sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED) return status_fail(s, E_MEMORY, "out of memory: results"), false;
    GuidedRequest q = bench_request(&bench, NULL, "a photo of a cat on grass");
    q.base.steps = 1;
    return bench_take(&bench, &first, &q, 1, NULL);
}

int main(int argc, char **argv)
{
    const char *asked = argc > 1 ? argv[1] : "all", *list = argc > 3 ? argv[3] : "report";
    int n = argc > 2 ? atoi(argv[2]) : 36, processes = argc > 5 ? atoi(argv[5]) : 2;
    bool known = !strcmp(asked, "all");
    for (int k = 0; k < SECTIONS; k++) known |= chosen(asked, k, -1);
    bench.choosing = !strcmp(list, "choose");
    bench.first_seed = bench.choosing ? 11000 : 71000;
    bench.presets = argc > 4 ? argv[4] : "data/presets/tiny-model.txt";
    if (!known || n < 1 || n > PROMPTS_MOST || processes < 1 || (!bench.choosing && strcmp(list, "report"))) {
        for (int k = 0; k < SECTIONS; k++) fprintf(stderr, "%s|", section[k]->name);
        fprintf(stderr, "all [PROMPTS up to %d [report|choose [PRESETS [PROCESSES]]]]\n", PROMPTS_MOST);
        return 2;
    }
    double began = clock_seconds();
    if (!open_all() || !run_all(asked, n, processes)) {
        if (bench.pipeline.run.status.code != OK) fprintf(stderr, "%s\n", bench.pipeline.run.status.text);
        return 1;
    }
    printf("| method | pictures | object and place | what stayed | s a picture | peak MB |\n|---|---|---|---|---|---|\n");
    for (int k = 0; k < SECTIONS; k++)
        for (int row = 0; row < section[k]->rows; row++)
            if (chosen(asked, k, row)) print_row(k, row, pictures(k, n));
    printf("\nAt most %d prompts a row, of the %s list; %.0f s of processor time, %.0f s by the clock with %d process%s.\n", n, list, processor_seconds(),
           clock_seconds() - began, processes, processes > 1 ? "es" : "");
    return 0;
}
