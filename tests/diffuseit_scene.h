/* diffuseit_scene.h -- DiffuseIT on networks small enough to differentiate numerically: in pixels, or behind a decoder. */
#ifndef TESTS_DIFFUSEIT_SCENE_H
#define TESTS_DIFFUSEIT_SCENE_H
#include "guidance/diffuseit.h"
#include "tests/tiny_nets.h"

static const char *const UNET_LATENT =
    "{\"in_channels\":2,\"out_channels\":2,\"block_out_channels\":[4,6],\"layers_per_block\":1,\"norm_num_groups\":2,"
    "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\"],"
    "\"attention_head_dim\":2,\"cross_attention_dim\":6}";
static const char *const UNET_PIXELS =
    "{\"in_channels\":3,\"out_channels\":3,\"block_out_channels\":[4,6],\"layers_per_block\":1,\"norm_num_groups\":2,"
    "\"down_block_types\":[\"DownBlock2D\",\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\",\"UpBlock2D\"],\"mid_block_type\":null}";
enum { SIDE = 12, TOWERS = 2, CUTS_EACH = 2 };

typedef struct {
    Arena weights, kept, scratch, step, whole;
    Run run;
    Unet unet;
    Vae vae;
    Dino dino;
    ClipTower tower[TOWERS];
    Gaussian process;
    Diffuseit d;
    Tensor source, target, x_source, x;
    int noises, cuts, calls, restarts;
    Random random;
} Translation;

static inline Tensor numbers(Translation *t, Shape s, double spread)
{
    Tensor x = tensor_in(&t->run, &t->whole, s);
    for (size_t i = 0; i < tensor_count(x); i++) x.x[i] = (real)(spread * check_uniform());
    return x;
}

static inline void scene_noise(void *user, Tensor out)
{
    Translation *t = user;
    t->noises++;
    for (size_t i = 0; i < tensor_count(out); i++) {
        float u;
        random_uniform(&t->random, 1, &u);
        out.x[i] = (real)(2 * u - 1);
    }
}

static inline void scene_cuts(void *user, int tower, Cut *cut, int n, int H, int W)
{
    Translation *t = user;
    (void)tower;
    t->cuts += n;
    for (int k = 0; k < n; k++) cut[k] = cut_draw(&t->random, H, W);
}

static inline bool scene_watch(void *user, const DiffuseitReport *r, Tensor x, Tensor x0)
{
    Translation *t = user;
    (void)x;
    (void)x0;
    t->calls++;
    t->restarts = r->restarts;
    return true;
}

static inline void scene_towers(Translation *t)
{
    Status *s = &t->run.status;
    DinoConfig dino = { .width = 12, .mlp = 16, .heads = 2, .layers = 2, .image = 8, .patch = 4, .channels = 3, .eps = 1e-6 };
    ClipImageConfig clip = { .width = 8, .mlp = 12, .heads = 2, .layers = 1, .image = 8, .patch = 4, .channels = 3, .projection = 6, .act = POINT_QUICK_GELU, .eps = 1e-5 };
    dino_build(&t->dino, &dino, &t->weights, s);
    t->dino.preprocess = preprocess_dino;
    if (run_ok(&t->run)) params_randomise(dino_walk, &t->dino, &t->weights, 3, s);
    for (int k = 0; k < TOWERS && run_ok(&t->run); k++) {
        t->tower[k] = (ClipTower){ .size = 8, .width = 6, .preprocess = preprocess_clip };
        clip_image_build(&t->tower[k].vit, &clip, &t->weights, s);
        if (run_ok(&t->run)) params_randomise(clip_image_walk, &t->tower[k].vit, &t->weights, (uint64_t)(4 + k), s);
    }
}

/* latent: behind the tiny decoder, guided by two texts.  text: with towers, cuts and text features; else with a target picture. */
static inline void scene_open(Translation *t, bool latent, bool text, DiffuseitOptions o)
{
    memset(t, 0, sizeof *t);
    t->run = (Run){ .keep = &t->kept, .temp = &t->scratch, .step = &t->step, .run = &t->whole, .k = kernels_pick(NULL), .threads = 1, .blas = true };
    t->kept.poison = t->scratch.poison = true;
    Run *r = &t->run;
    ScheduleConfig betas = gaussian_config(BETA_LINEAR, 1000);
    Tensor to[TOWERS], from[TOWERS];
    tiny_unet(&t->unet, latent ? UNET_LATENT : UNET_PIXELS, &t->weights, &r->status);
    if (latent) tiny_vae(&t->vae, VAE_TINY, &t->weights, &r->status);
    scene_towers(t);
    gaussian_make(&t->process, &betas, "8", VARIANCE_SMALL, &t->whole, &r->status);
    int side = latent ? SIDE / vae_factor(&t->vae.config) : SIDE, C = latent ? 2 : 3;
    t->source = numbers(t, SHAPE(1, 3, SIDE, SIDE), 0.9);
    t->target = text ? (Tensor){0} : numbers(t, SHAPE(1, 3, SIDE, SIDE), 0.9);
    t->x_source = latent ? numbers(t, SHAPE(1, C, side, side), 1) : (Tensor){0};
    t->x = numbers(t, SHAPE(1, C, side, side), 1.5);
    for (int k = 0; k < TOWERS; k++) {
        to[k] = numbers(t, SHAPE(6), 1);
        from[k] = numbers(t, SHAPE(6), 1);
    }
    t->d = (Diffuseit){ .unet = &t->unet, .process = &t->process, .prediction = PREDICT_EPS, .scale = 1.5, .vae = latent ? &t->vae : NULL, .dino = &t->dino,
                        .dino_size = 8, .o = o, .user = t, .noise = scene_noise, .cut = scene_cuts, .watch = scene_watch, .cuts = text ? CUTS_EACH : 0 };
    if (latent) t->d.context = numbers(t, SHAPE(2, 5, 6), 1);
    for (int k = 0; k < TOWERS && text; k++) t->d.tower[t->d.towers++] = &t->tower[k];
    random_seed(&t->random, RANDOM_TORCH, 5);
    if (run_ok(r)) diffuseit_open(r, &t->d, t->source, t->x_source, t->target, to, from);
}

static inline void scene_close(Translation *t)
{
    check_true(run_ok(&t->run) ? "no error was raised" : t->run.status.text, run_ok(&t->run));
    arena_free(&t->weights);
    arena_free(&t->kept);
    arena_free(&t->scratch);
    arena_free(&t->step);
    arena_free(&t->whole);
}
#endif
