/* guide_scene.h -- a tiny network under guidance, for gradient checks and laws of the engine. */
#ifndef TESTS_GUIDE_SCENE_H
#define TESTS_GUIDE_SCENE_H
#include "guidance/guide.h"
#include "guidance/methods.h"
#include "tests/tiny_nets.h"

static const char *const UNET_GUIDED =
    "{\"in_channels\":3,\"out_channels\":3,\"block_out_channels\":[8,12],\"layers_per_block\":1,\"norm_num_groups\":2,"
    "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\"],"
    "\"attention_head_dim\":2,\"cross_attention_dim\":6}";

typedef struct {
    Arena weights, kept, scratch, step, whole;
    Run run;
    Unet unet;
    ScheduleConfig config;
    Schedule schedule;
    Guide guide;
    Tensor z, text[3];
    int drawn;                                            /* numbers asked of guide.noise so far */
} SceneG;

static inline Tensor scene_numbers(SceneG *s, Shape shape, double spread)
{
    Tensor t = tensor_in(&s->run, &s->whole, shape);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)(spread * check_uniform());
    return t;
}

static inline void scene_noise(void *user, NoiseFor what, const Clock *c, Tensor out)
{
    SceneG *s = user;
    uint64_t seed = (uint64_t)(c->i * 31 + (int)what * 7 + c->repeat + 1) * 2654435761u;
    for (size_t i = 0; i < tensor_count(out); i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        out.x[i] = (real)((double)(seed >> 11) / 4503599627370496.0 - 1);
    }
    s->drawn += (int)tensor_count(out);
}

static inline void scene_open(SceneG *s, Prediction prediction, int steps)
{
    memset(s, 0, sizeof *s);
    s->run = (Run){ .keep = &s->kept, .temp = &s->scratch, .step = &s->step, .run = &s->whole, .k = kernels_pick(NULL),
                    .threads = 1, .blas = true };
    s->kept.poison = s->scratch.poison = s->step.poison = true;
    tiny_unet(&s->unet, UNET_GUIDED, &s->weights, &s->run.status);
    s->config = (ScheduleConfig){ .train_steps = 1000, .steps_offset = 1, .beta_start = 0.00085, .beta_end = 0.012,
                                  .beta = BETA_SCALED_LINEAR, .prediction = prediction, .clip_range = 1, .threshold_max = 1,
                                  .threshold_quantile = 0.995 };
    schedule_make(&s->schedule, &s->config, ALPHAS_FLOAT64, steps, &s->whole, &s->run.status);
    s->guide = (Guide){ .unet = &s->unet, .schedule = &s->schedule, .noise = scene_noise, .user = s };
    s->z = scene_numbers(s, SHAPE(3, 6, 4), 1);
    for (int i = 0; i < 3; i++) s->text[i] = scene_numbers(s, SHAPE(5, 6), 1);
}

static inline void scene_close(SceneG *s)
{
    check_true(run_ok(&s->run) ? "no error was raised" : s->run.status.text, run_ok(&s->run));
    arena_free(&s->weights);
    arena_free(&s->kept);
    arena_free(&s->scratch);
    arena_free(&s->step);
    arena_free(&s->whole);
}
#endif
