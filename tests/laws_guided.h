/* laws_guided.h -- a tiny network on a schedule, for laws of guided runs.  Released memory is poisoned, so a prediction that
 * outlives its step shows as NaN. */
#ifndef TESTS_LAWS_GUIDED_H
#define TESTS_LAWS_GUIDED_H
#include "guidance/guide.h"
#include "tests/tiny_nets.h"

static Arena weights, keep_arena = { .poison = true }, temp_arena = { .poison = true }, step_arena = { .poison = true }, run_arena = { .poison = true };
static Run run = { .keep = &keep_arena, .temp = &temp_arena, .step = &step_arena, .run = &run_arena, .threads = 1 };
static Unet unet;
static Schedule schedule;

static inline Tensor filled(Shape s)
{
    Tensor t = tensor_in(&run, &weights, s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)check_uniform();
    return t;
}

static inline Tensor copy_of(Tensor t)
{
    Tensor y = tensor_in(&run, &weights, t.s);
    tensor_copy(&run, y, t);
    return y;
}

/* The network of a configuration, and Stable Diffusion's schedule. */
static inline void latent_net(const char *config, int steps)
{
    static const ScheduleConfig c = { .train_steps = 1000, .steps_offset = 1, .beta_start = 0.00085, .beta_end = 0.012, .beta = BETA_SCALED_LINEAR };
    run.k = kernels_pick(NULL);
    run.blas = true;
    tiny_unet(&unet, config, &weights, &run.status);
    schedule_make(&schedule, &c, ALPHAS_FLOAT64, steps, &weights, &run.status);
}
#endif
