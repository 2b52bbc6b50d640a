/* bench_dino.c -- DINO ViT-B/8, timed: random healthy weights, two threads by default.
 *
 *     bench_dino [dino] [side] [threads] [batch]
 *
 * Reads commands from standard input and answers each with one line of seconds, so that a script can let another program take
 * turns with this one: "forward", "both" (forward, and backward from class token, last block and keys to the pixels).
 * "memory" answers with the peak in MB. */
#include <string.h>
#include "nn/dino.h"
#include "tensor/file.h"
#include "tests/bench.h"

static const DinoConfig VIT_B8 = { .width = 768, .mlp = 3072, .heads = 12, .layers = 12, .image = 224, .patch = 8, .channels = 3, .eps = 1e-6, .published = true };
typedef struct { Arena weights, kept, scratch, io; Run run; Dino dino; Tensor pixels, dpixels, cls, last, keys, dcls, dlast, dkeys; } Bench;

static void load(Bench *b, int side, int batch)
{
    Status *s = &b->run.status;
    if (dino_build(&b->dino, &VIT_B8, &b->weights, s)) params_randomise(dino_walk, &b->dino, &b->weights, 1, s);
    stop_if_failed(s);
    Shape tokens = SHAPE(batch, dino_tokens(&b->dino, side, side), VIT_B8.width);
    b->pixels = normal(&b->run, &b->io, SHAPE(batch, 3, side, side), 1);
    b->dcls = normal(&b->run, &b->io, SHAPE(batch, VIT_B8.width), 2);
    b->dlast = normal(&b->run, &b->io, tokens, 3);
    b->dkeys = normal(&b->run, &b->io, tokens, 4);
    b->dpixels = tensor_in(&b->run, &b->io, b->pixels.s);
    b->cls = tensor_in(&b->run, &b->io, b->dcls.s);
    b->last = tensor_in(&b->run, &b->io, tokens);
    b->keys = tensor_in(&b->run, &b->io, tokens);
    stop_if_failed(s);
}

static void pass(Bench *b, bool both)
{
    Run *r = &b->run;
    DinoPass p;
    r->keep = both ? &b->kept : &b->scratch;
    dino_forward(r, &b->dino, b->cls, b->last, b->keys, &p, b->pixels);
    if (both) dino_backward(r, &b->dino, b->dpixels, b->dcls, b->dlast, b->dkeys, &p);
    arena_release(&b->kept, 0);
    arena_release(&b->scratch, 0);
    stop_if_failed(&r->status);
}

int main(int argc, char **argv)
{
    int side = argc > 2 ? atoi(argv[2]) : 224, threads = argc > 3 ? atoi(argv[3]) : 2, batch = argc > 4 ? atoi(argv[4]) : 1;
    Bench *b = calloc(1, sizeof *b);
    if (!b || side < 8 || side > 1024 || batch < 1 || batch > 8) return 2;
    b->run = (Run){ .keep = &b->scratch, .temp = &b->scratch, .k = kernels_pick(NULL), .threads = threads, .blas = true };
    load(b, side, batch);
    char command[64];
    while (fgets(command, sizeof command, stdin)) {
        command[strcspn(command, "\n")] = 0;
        double before = clock_seconds();
        if (!strcmp(command, "memory")) printf("%.0f\n", (double)process_peak_memory() / 1048576);
        else {
            pass(b, !strcmp(command, "both"));
            printf("%.4f\n", clock_seconds() - before);
        }
        fflush(stdout);
    }
    return 0;
}
