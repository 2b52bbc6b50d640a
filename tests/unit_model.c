/* unit_model.c -- a model folder: what is listed, what is refused, what loading leaves behind. */
#include <unistd.h>
#include "nn/model.h"
#include "tensor/file.h"
#include "tests/check.h"

static char folder[300];

static void put(const char *name, const char *text)
{
    char path[400];
    Status s = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file_save(path, text, strlen(text), &s);
}

static void make_folder(const char *name)
{
    char path[400];
    Status s = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    folder_make(path, &s);
}

static const char PLAIN[] =
    "{\"_class_name\":\"StableDiffusionPipeline\",\"_diffusers_version\":\"0.21.0\",\"safety_checker\":[null,null],\"feature_extractor\":[null,null],"
    "\"requires_safety_checker\":false,\"unet\":[\"diffusers\",\"UNet2DConditionModel\"],\"vae\":[null,null],"
    "\"scheduler\":[\"diffusers\",\"PNDMScheduler\"]}";

static void refused(const char *what, const char *index, Code code, const char *named)
{
    Model m;
    Status s = {0};
    put("model_index.json", index);
    bool opened = model_open(&m, folder, &s);
    check_true(what, !opened && s.code == code && strstr(s.text, named) && strstr(s.text, "model_index.json"));
    if (s.code != code || !strstr(s.text, named)) printf("    %d: %s\n", s.code, s.text);
    model_close(&m);
}

static void indexes(void)
{
    Model m;
    Status s = {0};
    check_true("no such folder", !model_open(&m, "data/no-such-model", &s) && s.code == E_FILE && strstr(s.text, "data/no-such-model"));
    s = (Status){0};
    check_true("a folder without an index", !model_open(&m, folder, &s) && s.code == E_FILE && strstr(s.text, "model_index.json"));
    model_close(&m);
    refused("no JSON", "{", E_FORMAT, "model_index.json");
    refused("no class", "{}", E_FORMAT, "_class_name");
    refused("another family", "{\"_class_name\":\"StableDiffusionXLPipeline\"}", E_FORMAT, "StableDiffusionXLPipeline");
    refused("    and the supported ones are named", "{\"_class_name\":\"FluxPipeline\"}", E_FORMAT, "StableDiffusionPipeline");
    refused("an unknown UNet", "{\"_class_name\":\"StableDiffusionPipeline\",\"unet\":[\"diffusers\",\"UNet3DConditionModel\"]}", E_FORMAT, "UNet3DConditionModel");
    refused("an unknown autoencoder", "{\"_class_name\":\"StableDiffusionPipeline\",\"vae\":[\"diffusers\",\"AutoencoderTiny\"]}", E_FORMAT, "AutoencoderKL");
    refused("an unknown text encoder", "{\"_class_name\":\"StableDiffusionPipeline\",\"text_encoder\":[\"transformers\",\"T5EncoderModel\"]}", E_FORMAT, "CLIPTextModel");
    refused("no pair", "{\"_class_name\":\"StableDiffusionPipeline\",\"unet\":\"UNet2DConditionModel\"}", E_FORMAT, "unet");
    refused("half a pair", "{\"_class_name\":\"StableDiffusionPipeline\",\"unet\":[\"diffusers\"]}", E_FORMAT, "unet");
}

static void part_refused(const char *what, Model *m, unsigned part, Code code, const char *named)
{
    Status s = {0};
    bool loaded = model_load(m, part, &s);
    check_true(what, !loaded && s.code == code && strstr(s.text, named));
    if (s.code != code || !strstr(s.text, named)) printf("    %d: %s\n", s.code, s.text);
}

static void parts(void)
{
    Model m;
    Status s = {0};
    put("model_index.json", PLAIN);
    check_true("an index without autoencoder and text", model_open(&m, folder, &s) && m.listed == (MODEL_UNET | MODEL_SCHEDULER) && !m.loaded);
    part_refused("an absent autoencoder, when needed", &m, MODEL_VAE, E_FORMAT, "no autoencoder");
    part_refused("an absent tokenizer", &m, MODEL_TOKENIZER | MODEL_TEXT, E_FORMAT, "model_index.json");
    part_refused("a UNet without its folder", &m, MODEL_UNET, E_FILE, "unet/config.json");
    part_refused("a scheduler without its file", &m, MODEL_SCHEDULER, E_FILE, "scheduler_config.json");
    make_folder("unet");
    make_folder("scheduler");
    put("scheduler/scheduler_config.json", "{}");
    check_true("a scheduler", model_load(&m, MODEL_SCHEDULER, &s) && m.loaded == MODEL_SCHEDULER && m.scheduler->kind == JSON_OBJECT);
    put("unet/config.json", "{\"_class_name\":\"UNet2DModel\"}");
    part_refused("a UNet of another class", &m, MODEL_UNET, E_FORMAT, "UNet2DModel");
    put("unet/config.json", "{\"_class_name\":\"UNet2DConditionModel\",\"block_out_channels\":[32,32],\"norm_num_groups\":8,\"attention_head_dim\":4,"
        "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\"],\"cross_attention_dim\":16}");
    part_refused("a UNet without weights", &m, MODEL_UNET, E_FILE, "unet");
    part_refused("    stays unloaded, and fails again", &m, MODEL_UNET, E_FILE, "unet");
    model_close(&m);
}

/* Given back and read again: the same numbers, the same structure; the files are compared before a number is read. */
static void given_back(void)
{
    Model m;
    Status s = {0};
    bool ok = model_open(&m, "data/tiny-model", &s) && model_build(&m, MODEL_VAE | MODEL_TEXT, &s);
    const Step *steps = m.vae.decoder.step;
    size_t built = model_held(&m), bytes = model_bytes(&m, MODEL_VAE), text = model_bytes(&m, MODEL_TEXT);
    Param *p = params_find(vae_walk, &m.vae, "decoder.conv_in.bias");
    check_true("built, not loaded", ok && m.built == (MODEL_VAE | MODEL_TEXT) && !m.loaded && p && !p->v.x && m.report[1].loaded > 0 && model_bytes(&m, MODEL_UNET) == 0);
    ok = ok && model_load(&m, MODEL_VAE, &s);
    check_true("    what it takes was known", ok && m.numbers[1].used == bytes && text > 0);
    real copy[8];
    size_t n = ok && tensor_count(p->v) < 8 ? tensor_count(p->v) : 8;
    if (ok) memcpy(copy, p->v.x, n * sizeof *copy);
    check_true("    loaded, it holds more", ok && model_held(&m) >= built + bytes);
    model_unload(&m, MODEL_VAE | MODEL_TEXT);
    check_true("given back: as it was built", ok && model_held(&m) == built && !m.loaded && !p->v.x && m.built == (MODEL_VAE | MODEL_TEXT));
    check_true("    and read again", model_load(&m, MODEL_VAE, &s) && m.vae.decoder.step == steps && !memcmp(copy, p->v.x, n * sizeof *copy) && model_held(&m) >= built + bytes);
    m.limit = model_held(&m) + text - 1;
    check_true("    beside another there is no room", !model_load(&m, MODEL_TEXT, &s) && s.code == E_MEMORY && m.loaded == MODEL_VAE);
    s = (Status){0};
    model_unload(&m, MODEL_VAE);
    check_true("    in its place there is", bytes < text || model_load(&m, MODEL_TEXT, &s));
    model_close(&m);
    check_true("closed", !model_held(&m));
}

static void bundled(void)
{
    Model m;
    Status s = {0};
    char first[100];
    bool ok = model_open(&m, "data/tiny-model", &s) && model_load(&m, MODEL_TOKENIZER | MODEL_SCHEDULER | MODEL_VAE, &s);
    check_true("the bundled model: parts on demand", ok && m.loaded == (MODEL_TOKENIZER | MODEL_SCHEDULER | MODEL_VAE));
    check_true("    every tensor used", ok && model_surplus(&m, first, sizeof first) == 0 && m.report[1].loaded > 0);
    size_t used = m.arena.used + m.numbers[1].used;
    check_true("    loading again does nothing", ok && model_load(&m, MODEL_VAE, &s) && m.arena.used + m.numbers[1].used == used);
    m.limit = model_held(&m) + (1 << 20);
    check_true("    too little memory for the UNet", ok && !model_load(&m, MODEL_UNET, &s) && s.code == E_MEMORY);
    model_close(&m);
}

int main(void)
{
    snprintf(folder, sizeof folder, "%s/tiller-model-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) return 1;
    indexes();
    parts();
    bundled();
    given_back();
    char command[400];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    check_true("cleaned up", system(command) == 0);
    return check_done();
}
