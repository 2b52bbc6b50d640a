/* bench_ops -- milliseconds and GFLOP/s of the products at the sizes of Stable Diffusion 1.x, 512x512.
 *     bench_ops [threads [part-of-a-name [table]]]
 * Minimum of at least 5 repeats and half a second, by the clock and in processor time (which other load disturbs less).  A Winograd convolution is credited with the direct one's work. */
#include "tensor/attention.h"
#include "tensor/conv.h"
#include "tensor/file.h"
#include "tensor/gemm.h"
#include "tests/check.h"
#include <time.h>

static Run run;
static Arena arena, temporary;
static const char *wanted;

static Tensor fresh(Shape s)
{
    Tensor t = tensor_in(&run, &arena, s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)check_uniform();
    return t;
}

typedef struct { Tensor y, x, w, b, u, q, k, v, stat, dq, dk, dv; Conv2d c; int heads; } Case;
typedef void Operation(Case *c);

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void time_of(const char *name, double flops, Operation *f, Case *c)
{
    if (wanted && !strstr(name, wanted)) return;
    double best = 1e9, least = 1e9, begin = clock_seconds();
    for (int i = 0; i < 5 || clock_seconds() - begin < 0.5; i++) {
        double t = clock_seconds(), busy = processor_seconds();
        f(c);
        best = fmin(best, clock_seconds() - t);
        least = fmin(least, processor_seconds() - busy);
    }
    printf("%-36s %9.2f ms %6.0f GF   processor %9.2f ms %6.0f GF%s\n", name, best * 1e3, flops / best * 1e-9,
           least * 1e3, flops / least * 1e-9, run_ok(&run) ? "" : run.status.text);
    fflush(stdout);
}

static void conv_there(Case *c) { conv2d(&run, c->y, c->x, c->w, c->b, c->u, (Tensor){0}, c->c); }
static void conv_again(Case *c) { conv2d_back(&run, c->x, (Tensor){0}, (Tensor){0}, c->y, (Tensor){0}, c->w, c->u, c->c); }
static void conv_dw(Case *c) { conv2d_back(&run, (Tensor){0}, c->w, (Tensor){0}, c->y, c->x, c->w, c->u, c->c); }
static void linear_there(Case *c) { linear(&run, c->y, c->x, c->w, c->b, false); }
static void linear_again(Case *c) { linear_back(&run, c->x, (Tensor){0}, (Tensor){0}, c->y, (Tensor){0}, c->w); }
static void linear_dw(Case *c) { linear_back(&run, (Tensor){0}, c->w, (Tensor){0}, c->y, c->x, c->w); }
static void attention_there(Case *c) { attention(&run, c->y, c->stat, c->q, c->k, c->v, c->heads, false); }
static void attention_again(Case *c) { attention_back(&run, c->dq, c->dk, c->dv, c->y, c->stat, c->q, c->k, c->v, c->heads, false); }

static void conv(int size, int I, int O, int kernel, Conv2d g, bool fast)
{
    char name[80];
    snprintf(name, sizeof name, "conv%d/%d%s %d %d->%d dx dw", kernel, g.stride, fast ? " winograd" : "", size, I, O);
    if (wanted && !strstr(name, wanted)) return;
    size_t mark = arena.used;
    Case c = { .x = fresh(SHAPE(1, size, size, I)), .w = fresh(SHAPE(O, kernel, kernel, I)), .b = fresh(SHAPE(O)), .c = g };
    Shape out = conv2d_shape(c.x.s, c.w.s, g);
    c.y = fresh(out);
    if (fast) {
        c.u = fresh(winograd_shape(c.w.s));
        winograd_weights(&run, c.u, c.w);
    }
    double work = 2.0 * out.d[1] * out.d[2] * kernel * kernel * I * O;
    snprintf(name, sizeof name, "conv%d/%d%s %d %d->%d", kernel, g.stride, fast ? " winograd" : "", size, I, O);
    time_of(name, work, conv_there, &c);
    snprintf(name, sizeof name, "conv%d/%d%s %d %d->%d dx", kernel, g.stride, fast ? " winograd" : "", size, I, O);
    time_of(name, work, conv_again, &c);
    snprintf(name, sizeof name, "conv%d/%d %d %d->%d dw", kernel, g.stride, size, I, O);
    if (!fast) time_of(name, work, conv_dw, &c);
    arena_release(&arena, mark);
}

static void matrix(int T, int I, int O)
{
    char name[80];
    snprintf(name, sizeof name, "linear %dx%dx%d dx", T, I, O);
    if (wanted && !strstr(name, wanted)) return;
    size_t mark = arena.used;
    Case c = { .x = fresh(SHAPE(1, T, I)), .w = fresh(SHAPE(O, I)), .b = fresh(SHAPE(O)), .y = fresh(SHAPE(1, T, O)) };
    snprintf(name, sizeof name, "linear %dx%dx%d", T, I, O);
    time_of(name, 2.0 * T * I * O, linear_there, &c);
    snprintf(name, sizeof name, "linear %dx%dx%d dx", T, I, O);
    time_of(name, 2.0 * T * I * O, linear_again, &c);
    snprintf(name, sizeof name, "linear %dx%dx%d dw", T, I, O);
    time_of(name, 2.0 * T * I * O, linear_dw, &c);
    arena_release(&arena, mark);
}

static void heads(int Tq, int Tk, int count, int D)
{
    char name[80];
    snprintf(name, sizeof name, "attention %dx%d %dx%d back", Tq, Tk, count, D);
    if (wanted && !strstr(name, wanted)) return;
    size_t mark = arena.used;
    Shape q = SHAPE(1, Tq, count * D), k = SHAPE(1, Tk, count * D);
    Case c = { .q = fresh(q), .k = fresh(k), .v = fresh(k), .dq = fresh(q), .dk = fresh(k), .dv = fresh(k), .y = fresh(q),
               .stat = fresh(SHAPE(1, count, Tq, 2)), .heads = count };
    snprintf(name, sizeof name, "attention %dx%d %dx%d", Tq, Tk, count, D);
    time_of(name, 4.0 * Tq * Tk * count * D, attention_there, &c);
    attention_there(&c);
    snprintf(name, sizeof name, "attention %dx%d %dx%d back", Tq, Tk, count, D);
    time_of(name, 10.0 * Tq * Tk * count * D, attention_again, &c);
    arena_release(&arena, mark);
}

int main(int argc, char **argv)
{
    static const int three[][3] = { {64,320,320}, {64,640,320}, {64,960,320}, {32,640,640}, {32,1280,640}, {32,1920,640},
                                    {16,1280,1280}, {16,2560,1280}, {8,1280,1280}, {8,2560,1280} };
    static const int lines[][3] = { {4096,320,320}, {4096,320,2560}, {4096,1280,320}, {1024,640,640}, {1024,640,5120}, {1024,2560,640},
                                    {256,1280,1280}, {256,1280,10240}, {256,5120,1280}, {64,1280,1280}, {77,768,320}, {77,768,1280},
                                    {77,768,3072}, {77,3072,768}, {1,1280,1280} };
    static const int maps[][4] = { {4096,4096,8,40}, {1024,1024,8,80}, {256,256,8,160}, {4096,77,8,40}, {1024,77,8,80}, {4096,4096,1,512}, {77,77,12,64} };
    run = (Run){ .keep = &arena, .temp = &temporary, .k = kernels_pick(argc > 3 ? argv[3] : NULL), .threads = argc > 1 ? atoi(argv[1]) : 2, .blas = true };
    wanted = argc > 2 && *argv[2] ? argv[2] : NULL;
    if (!run.k || run.threads < 1) return 2;
    printf("%s, %d threads\n", run.k->name, run.threads);
    for (size_t i = 0; i < sizeof three / sizeof *three; i++) {
        int size = three[i][0], I = three[i][1], O = three[i][2];
        conv(size, I, O, 3, (Conv2d){ 1, 1, 1 }, winograd_pays(size, size, I, O));
        if (I == O) conv(size, I, O, 3, (Conv2d){ 1, 1, 1 }, false);
    }
    conv(64, 320, 320, 3, (Conv2d){ 2, 1, 1 }, false);
    conv(64, 960, 320, 1, (Conv2d){ 1, 0, 0 }, false);
    conv(64, 4, 320, 3, (Conv2d){ 1, 1, 1 }, false);
    conv(64, 320, 4, 3, (Conv2d){ 1, 1, 1 }, false);
    conv(64, 512, 512, 3, (Conv2d){ 1, 1, 1 }, true);
    conv(256, 256, 256, 3, (Conv2d){ 1, 1, 1 }, true);
    conv(512, 128, 128, 3, (Conv2d){ 1, 1, 1 }, true);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) matrix(lines[i][0], lines[i][1], lines[i][2]);
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) heads(maps[i][0], maps[i][1], maps[i][2], maps[i][3]);
    return !run_ok(&run);
}
