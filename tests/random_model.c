/* random_model.c -- a model folder of full size with healthy random weights, for measuring speed and memory where no real
 * checkpoint is at hand.
 *
 *     random_model sd15|sd21 TOKENIZER_FOLDER OUT_FOLDER      (Stable Diffusion; f16 weights, about 2 GB)
 *     random_model NAME OUT_FOLDER                            (a network of data/pixel-models: 256x256_diffusion_uncond,
 *                                                              64x64_diffusion, ffhq, celebahq, 256x256_classifier ...;
 *                                                              f16 weights, 1.1 GB the first)
 *
 * Each tensor's numbers depend on its name alone, so every run writes the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nn/clip.h"
#include "nn/pixel.h"
#include "nn/vae.h"
#include "tensor/file.h"
#include "tests/published_nets.h"

#define DOWN "\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\",\"DownBlock2D\""
#define UP   "\"UpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\""
#define FOUR(x) "[\"" x "\",\"" x "\",\"" x "\",\"" x "\"]"

static const char UNET15[] =
    "{\"_class_name\":\"UNet2DConditionModel\",\"sample_size\":64,\"attention_head_dim\":8,\"cross_attention_dim\":768,"
    "\"block_out_channels\":[320,640,1280,1280],\"down_block_types\":[" DOWN "],\"up_block_types\":[" UP "]}";
static const char UNET21[] =
    "{\"_class_name\":\"UNet2DConditionModel\",\"sample_size\":64,\"attention_head_dim\":[5,10,20,20],"
    "\"cross_attention_dim\":1024,\"use_linear_projection\":true,"
    "\"block_out_channels\":[320,640,1280,1280],\"down_block_types\":[" DOWN "],\"up_block_types\":[" UP "]}";
static const char VAE[] =
    "{\"_class_name\":\"AutoencoderKL\",\"block_out_channels\":[128,256,512,512],\"layers_per_block\":2,"
    "\"latent_channels\":4,\"scaling_factor\":0.18215,\"sample_size\":512,"
    "\"down_block_types\":" FOUR("DownEncoderBlock2D") ",\"up_block_types\":" FOUR("UpDecoderBlock2D") "}";
static const char TEXT15[] =
    "{\"model_type\":\"clip_text_model\",\"architectures\":[\"CLIPTextModel\"],\"hidden_act\":\"quick_gelu\","
    "\"hidden_size\":768,\"intermediate_size\":3072,\"num_attention_heads\":12,\"num_hidden_layers\":12,"
    "\"max_position_embeddings\":77,\"vocab_size\":49408,\"eos_token_id\":2,\"projection_dim\":768}";
static const char TEXT21[] =
    "{\"model_type\":\"clip_text_model\",\"architectures\":[\"CLIPTextModel\"],\"hidden_act\":\"gelu\","
    "\"hidden_size\":1024,\"intermediate_size\":4096,\"num_attention_heads\":16,\"num_hidden_layers\":23,"
    "\"max_position_embeddings\":77,\"vocab_size\":49408,\"eos_token_id\":2,\"projection_dim\":512}";
static const char SCHEDULER[] =
    "{\"_class_name\":\"DDIMScheduler\",\"num_train_timesteps\":1000,\"beta_start\":0.00085,\"beta_end\":0.012,"
    "\"beta_schedule\":\"scaled_linear\",\"clip_sample\":false,\"set_alpha_to_one\":false,\"steps_offset\":1,"
    "\"prediction_type\":\"epsilon\"}";
static const char INDEX[] =
    "{\"_class_name\":\"StableDiffusionPipeline\",\"unet\":[\"diffusers\",\"UNet2DConditionModel\"],"
    "\"vae\":[\"diffusers\",\"AutoencoderKL\"],\"text_encoder\":[\"transformers\",\"CLIPTextModel\"],"
    "\"tokenizer\":[\"transformers\",\"CLIPTokenizer\"],\"scheduler\":[\"diffusers\",\"DDIMScheduler\"]}";

typedef struct { const char *out; Status status; Arena weights, scratch; } Maker;

static const char *path(const Maker *m, const char *folder, const char *file)
{
    static char text[3][1024];
    static int turn;
    char *p = text[turn++ % 3];
    snprintf(p, sizeof text[0], "%s%s%s%s%s", m->out, *folder ? "/" : "", folder, file ? "/" : "", file ? file : "");
    return p;
}

static void component(Maker *m, const char *folder, const char *config, const char *file, WalkModel *walk, void *model)
{
    folder_make(path(m, folder, NULL), &m->status);
    file_save(path(m, folder, "config.json"), config, strlen(config), &m->status);
    if (m->status.code == OK && params_randomise(walk, model, &m->weights, 1, &m->status))
        params_save(walk, model, path(m, folder, file), T_F16, &m->scratch, &m->status);
    arena_free(&m->weights);
    arena_free(&m->scratch);
}

static const Json *parsed(Maker *m, const char *text)
{
    return json_parse(&m->weights, text, strlen(text), 8, "built-in config", &m->status);
}

static void networks(Maker *m, bool sd2)
{
    static UnetConfig uc; static VaeConfig vc; static ClipTextConfig tc;
    static Unet unet; static Vae vae; static ClipText text;
    Status *s = &m->status;
    if (unet_config(&uc, parsed(m, sd2 ? UNET21 : UNET15), "unet", s) && unet_build(&unet, &uc, &m->weights, s))
        component(m, "unet", sd2 ? UNET21 : UNET15, "diffusion_pytorch_model.safetensors", unet_walk, &unet);
    if (s->code == OK && vae_config(&vc, parsed(m, VAE), "vae", s) && vae_build(&vae, &vc, &m->weights, s))
        component(m, "vae", VAE, "diffusion_pytorch_model.safetensors", vae_walk, &vae);
    if (s->code == OK && clip_text_config(&tc, parsed(m, sd2 ? TEXT21 : TEXT15), "text_encoder", s) &&
        clip_text_build(&text, &tc, &m->weights, s))
        component(m, "text_encoder", sd2 ? TEXT21 : TEXT15, "model.safetensors", clip_text_walk, &text);
}

static void copy(Maker *m, const char *from, const char *name)
{
    char source[1024];
    size_t size;
    snprintf(source, sizeof source, "%s/%s", from, name);
    char *bytes = file_load(source, (size_t)1 << 26, &size, &m->status);
    if (bytes) file_save(path(m, "tokenizer", name), bytes, size, &m->status);
    free(bytes);
}

static void pixel_network(Maker *m, const Published *net)
{
    static Unet unet;
    static AdmClassifier classifier;
    Status *s = &m->status;
    char source[120], config[2048] = "";
    size_t size;
    snprintf(source, sizeof source, "data/pixel-models/%s.json", net->name);
    char *bytes = file_load(source, sizeof config - 1, &size, s);
    if (bytes) memcpy(config, bytes, size);
    free(bytes);
    if (!published_build(net, &unet, &classifier, &m->weights, s)) return;
    if (net->kind == PIXEL_ADM_CLASSIFIER) component(m, "", config, "model.safetensors", adm_classifier_walk, &classifier);
    else                                   component(m, "", config, "model.safetensors", unet_walk, &unet);
}

static int pixel_main(const char *name, const char *out)
{
    for (int i = 0; i < PUBLISHED; i++) {
        if (strcmp(name, published[i].name)) continue;
        Maker m = { .out = out };
        pixel_network(&m, &published[i]);
        if (m.status.code != OK) fprintf(stderr, "random_model: %s\n", m.status.text);
        return m.status.code != OK;
    }
    fputs("random_model: networks are", stderr);
    for (int i = 0; i < PUBLISHED; i++) fprintf(stderr, " %s", published[i].name);
    fputs("\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    if (argc == 3) return pixel_main(argv[1], argv[2]);
    if (argc != 4 || (strcmp(argv[1], "sd15") && strcmp(argv[1], "sd21"))) {
        fputs("usage: random_model sd15|sd21 TOKENIZER_FOLDER OUT_FOLDER\n       random_model NAME OUT_FOLDER\n", stderr);
        return 2;
    }
    static const char *const files[] = { "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json" };
    Maker m = { .out = argv[3] };
    folder_make(m.out, &m.status);
    folder_make(path(&m, "scheduler", NULL), &m.status);
    folder_make(path(&m, "tokenizer", NULL), &m.status);
    file_save(path(&m, "scheduler", "scheduler_config.json"), SCHEDULER, strlen(SCHEDULER), &m.status);
    file_save(path(&m, "model_index.json", NULL), INDEX, strlen(INDEX), &m.status);
    for (int i = 0; i < 4; i++) copy(&m, argv[2], files[i]);
    networks(&m, !strcmp(argv[1], "sd21"));
    if (m.status.code != OK) fprintf(stderr, "random_model: %s\n", m.status.text);
    return m.status.code != OK;
}
