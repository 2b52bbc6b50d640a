/* tiny_nets.h -- networks small enough to differentiate numerically, and a tap that does everything a tap may do. */
#ifndef TESTS_TINY_NETS_H
#define TESTS_TINY_NETS_H
#include "nn/unet.h"
#include "nn/vae.h"
#include "tests/check.h"

/* 1.x in small: two depths, lists per level, text at one level only; an odd map (5x6) crops in the upsampler. */
static const char *const UNET_PLAIN =
    "{\"_class_name\":\"UNet2DConditionModel\",\"in_channels\":4,\"out_channels\":3,\"block_out_channels\":[8,12],"
    "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\"],"
    "\"layers_per_block\":[1,2],\"attention_head_dim\":[1,2],\"cross_attention_dim\":6,\"transformer_layers_per_block\":[2,1],"
    "\"norm_num_groups\":2,\"downsample_padding\":1}";
/* Every variant at once. */
static const char *const UNET_VARIED =
    "{\"in_channels\":4,\"out_channels\":4,\"block_out_channels\":[8,12],\"layers_per_block\":1,\"norm_num_groups\":2,"
    "\"down_block_types\":[\"DownBlock2D\",\"CrossAttnDownBlock2D\"],\"up_block_types\":[\"CrossAttnUpBlock2D\",\"UpBlock2D\"],"
    "\"attention_head_dim\":2,\"cross_attention_dim\":[6,6],\"use_linear_projection\":true,\"only_cross_attention\":[false,true],"
    "\"center_input_sample\":true,\"flip_sin_to_cos\":false,\"freq_shift\":1,\"resnet_time_scale_shift\":\"scale_shift\","
    "\"mid_block_scale_factor\":2,\"downsample_padding\":0,\"conv_in_kernel\":1,\"conv_out_kernel\":5}";
/* No middle block, no text, an odd width. */
static const char *const UNET_BARE =
    "{\"in_channels\":2,\"out_channels\":2,\"block_out_channels\":[3,6],\"layers_per_block\":1,\"norm_num_groups\":1,"
    "\"down_block_types\":[\"DownBlock2D\",\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\",\"UpBlock2D\"],\"mid_block_type\":null}";
static const char *const VAE_TINY =
    "{\"_class_name\":\"AutoencoderKL\",\"block_out_channels\":[4,6],\"down_block_types\":[\"DownEncoderBlock2D\",\"DownEncoderBlock2D\"],"
    "\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"],\"layers_per_block\":1,\"latent_channels\":2,\"norm_num_groups\":2}";

static inline const Json *tiny_json(Arena *a, const char *text, Status *s) { return json_parse(a, text, strlen(text), 16, "config", s); }

/* planned > 0: kernels are held transformed for latents of planned x planned, where it pays. */
static inline void planned_unet(Unet *u, const char *text, int planned, Arena *a, Status *s)
{
    UnetConfig c;
    unet_config(&c, tiny_json(a, text, s), "config.json", s);
    if (s->code == OK) unet_build(u, &c, a, s);
    if (s->code == OK && planned) unet_plan(u, planned, planned, 0);
    if (s->code == OK) params_randomise(unet_walk, u, a, 1, s);
}

static inline void tiny_unet(Unet *u, const char *text, Arena *a, Status *s) { planned_unet(u, text, 0, a, s); }

static inline void tiny_vae(Vae *v, const char *text, Arena *a, Status *s)
{
    VaeConfig c;
    vae_config(&c, tiny_json(a, text, s), "config.json", s);
    if (s->code == OK) vae_build(v, &c, a, s);
    if (s->code == OK) params_randomise(vae_walk, v, a, 2, s);
}

/* ---- comparing ---- */

static inline bool same(Tensor a, Tensor b) { return tensor_same(a, b) && !memcmp(a.x, b.x, tensor_count(a) * sizeof(real)); }

static inline bool equal(Tensor a, Tensor b)                     /* as numbers: -0 equals 0 */
{
    if (!tensor_same(a, b)) return false;
    for (size_t i = 0, n = tensor_count(a); i < n; i++)
        if (!(a.x[i] == b.x[i])) return false;
    return true;
}

static inline bool moves(Tensor t)
{
    for (size_t i = 0, n = tensor_count(t); i < n; i++)
        if (t.x[i] != 0 && t.x[i] == t.x[i]) return true;
    return false;
}

static inline double error(Tensor a, Tensor b)
{
    double worst = 0, largest = 0;
    for (size_t i = 0, n = tensor_count(b); i < n; i++) {
        double off = fabs((double)a.x[i] - (double)b.x[i]);
        if (!(off <= worst)) worst = off;                 /* NaN stays */
        largest = fmax(largest, fabs((double)b.x[i]));
    }
    return worst / largest;
}

/* Reads, overwrites and pulls:  E = sum w v^2 / 2,  v' = gain v + leaf.   dv = gain dv' + w v,  dleaf = dv'. */
typedef struct { Arena *arena; Tensor seen, weight, leaf, dleaf; real gain; double E; int calls, replays; } Steer;

static inline void steer_forward(void *self, Run *r, Tensor v)
{
    Steer *s = self;
    size_t n = tensor_count(v);
    if (!s->seen.x) {
        s->seen = tensor_in(r, s->arena, v.s);
        s->weight = tensor_in(r, s->arena, v.s);
        s->leaf = tensor_in(r, s->arena, v.s);
        s->dleaf = tensor_in(r, s->arena, v.s);
        for (size_t i = 0; run_ok(r) && i < n; i++) s->weight.x[i] = (real)check_uniform(), s->leaf.x[i] = (real)(check_uniform() / 10);
    }
    if (!run_ok(r)) return;
    s->calls++;
    s->replays += r->replay;
    s->E = 0;
    for (size_t i = 0; i < n; i++) {
        s->seen.x[i] = v.x[i];
        s->E += (double)s->weight.x[i] * (double)v.x[i] * (double)v.x[i] / 2;
        v.x[i] = s->gain * v.x[i] + s->leaf.x[i];
    }
}

static inline void steer_backward(void *self, Run *r, Tensor dv)
{
    Steer *s = self;
    if (!run_ok(r) || !s->dleaf.x) return;
    for (size_t i = 0; i < tensor_count(dv); i++) {
        s->dleaf.x[i] = dv.x[i];
        dv.x[i] = s->gain * dv.x[i] + s->weight.x[i] * s->seen.x[i];
    }
}

static inline Tap steer_tap(Steer *s, SiteKind kind, const char *path, Arena *a)
{
    *s = (Steer){ .arena = a, .gain = (real)0.7 };
    return (Tap){ kind, path, s, steer_forward, steer_backward, true };
}
#endif
