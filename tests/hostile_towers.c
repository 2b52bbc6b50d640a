/* hostile_towers.c -- folders of towers that are not what they say: refused, with file and field or tensor; nothing else happens. */
#include "nn/clip_tower.h"
#include "nn/dino.h"
#include "nn/lpips.h"
#include "tests/check.h"
#include "tests/files.h"

static Arena arena, brief;

static void refused(const char *what, bool loaded, const Status *s, const char *said)
{
    check_line(what, s->text, !loaded && s->code != OK && strstr(s->text, said));
}

static void settle(const char *config)                    /* the folder's config.json; NULL: none */
{
    unlink(at("folder/config.json"));
    unlink(at("folder/preprocessor_config.json"));
    if (config) put_text(at("folder/config.json"), config);
}

static void dino(const char *config, const char *said)
{
    Dino m;
    Status s = {0};
    settle(config);
    refused("dino", dino_load(&m, at("folder"), &arena, NULL, &s), &s, said);
}

static void tower(const char *config, const char *said)
{
    ClipTower t;
    Status s = {0};
    settle(config);
    refused("clip", clip_tower_load(&t, at("folder"), &arena, NULL, &s), &s, said);
}

static void save(WalkModel *walk, void *model, const char *what)
{
    Status s = {0};
    bool good = params_randomise(walk, model, &arena, 3, &s) && params_save(walk, model, at("folder/model.safetensors"), T_F32, &brief, &s);
    check_line(what, s.text, good);
}

#define SMALL "\"image_size\":16,\"patch_size\":8,\"embed_dim\":64,\"depth\":2,"
static void dinos(void)
{
    DinoConfig c = { .width = 64, .mlp = 256, .heads = 1, .layers = 2, .image = 16, .patch = 8, .channels = 3, .eps = 1e-6, .published = true };
    Dino m;
    Status s = {0};
    check_true("built", dino_build(&m, &c, &arena, &s));
    save(dino_walk, &m, "saved");
    settle("{\"kind\":\"dino_vit\"," SMALL "\"num_heads\":1}");
    check_line("the right one", s.text, dino_load(&m, at("folder"), &arena, NULL, &s));
    settle(NULL);
    check_line("without a configuration", s.text, dino_load(&m, at("folder"), &arena, NULL, &s) && m.config.layers == 2 && m.config.patch == 8);
    dino("{\"kind\":\"dino_vit\"," SMALL "\"num_heads\":5}", "config.json: num_heads: expected a divisor of embed_dim 64, found 5");
    dino("{\"kind\":\"dino_vit\"," SMALL "\"num_heads\":0}", "num_heads: expected an integer from 1 to 256, found 0");
    dino("{\"kind\":\"dino_vit\"," SMALL "\"num_heads\":1,\"mlp_ratio\":2}", "mlp_ratio");
    dino("{\"kind\":\"dino_vit\"," SMALL "\"num_heads\":1,\"registers\":4}", "registers: unknown field");
    dino("{\"kind\":\"clip_vision\"}", "kind: expected");
    dino("{\"model_type\":\"beit\"}", "model_type: expected \"vit\", or kind \"dino_vit\", found beit");
    dino("[]", "config.json: expected an object");
    dino("{\"kind\":", "config.json");
    dino("{\"kind\":\"dino_vit\",\"image_size\":4,\"patch_size\":8,\"embed_dim\":64,\"depth\":2,\"num_heads\":1}", "patch_size: expected at most image_size 4");
    dino("{\"kind\":\"dino_vit\",\"image_size\":24,\"patch_size\":8,\"embed_dim\":64,\"depth\":2,\"num_heads\":1}", "pos_embed is [1,5,64], not [1,10,64]");
    dino("{\"kind\":\"dino_vit\",\"image_size\":16,\"patch_size\":8,\"embed_dim\":64,\"depth\":3,\"num_heads\":1}", "12 missing: blocks.2.norm1.weight");
    dino("{\"model_type\":\"vit\",\"hidden_size\":64,\"num_hidden_layers\":1,\"num_attention_heads\":1}", "missing: embeddings.cls_token");
    dino("{\"model_type\":\"vit\",\"hidden_size\":64,\"num_attention_heads\":1,\"qkv_bias\":false}", "qkv_bias: expected true");
    dino("{\"model_type\":\"vit\",\"hidden_size\":64,\"num_attention_heads\":1,\"hidden_act\":\"relu\"}", "hidden_act");
    settle(NULL);
    put_text(at("folder/preprocessor_config.json"), "{\"image_mean\":[0.5,0.5]}");
    refused("mean", dino_load(&m, at("folder"), &arena, NULL, &s), &s, "preprocessor_config.json: image_mean: expected three numbers");
    s = (Status){0};
    put_text(at("folder/preprocessor_config.json"), "{\"image_mean\":[0.5,0.5,0.5],\"image_std\":[0.5,0,0.5]}");
    refused("std", dino_load(&m, at("folder"), &arena, NULL, &s), &s, "image_std: expected three numbers above 0");

    Param was = m.positions;                              /* shapes that cannot be told apart, or are none */
    s = (Status){0};
    m.positions.size[1] = 4;
    save(dino_walk, &m, "a table of three places");
    dino(NULL, "not the shapes of a DINO transformer");
    m.positions = was;
    m.positions.rank = 2, m.positions.size[0] = 5, m.positions.size[1] = 64;
    save(dino_walk, &m, "a table of two sizes");
    dino(NULL, "pos_embed: expected 3 sizes, found 2");
    dino("{\"kind\":\"dino_vit\"," SMALL "\"num_heads\":1}", "pos_embed is [5,64], not [1,5,64]");
}

static void clips(void)
{
    ClipTower t = { .resnet = true };
    ClipResnetConfig rn = { 2, { 1, 1, 1, 1 }, 32, 7 };
    Status s = {0};
    check_true("built", clip_resnet_build(&t.rn, &rn, &arena, &s));
    save(clip_tower_walk, &t, "saved");
    settle("{\"kind\":\"clip_resnet\",\"width\":2,\"layers\":[1,1,1,1],\"input_resolution\":32,\"output_dim\":7}");
    check_line("the right one", s.text, clip_tower_load(&t, at("folder"), &arena, NULL, &s));
    settle(NULL);
    check_line("without a configuration", s.text, clip_tower_load(&t, at("folder"), &arena, NULL, &s) && t.resnet && t.size == 32);
    tower("{\"kind\":\"clip_resnet\",\"width\":2,\"layers\":[1,1,1],\"input_resolution\":32,\"output_dim\":7}", "layers: expected 4 numbers, found 3");
    tower("{\"kind\":\"clip_resnet\",\"width\":3,\"layers\":[1,1,1,1],\"input_resolution\":32,\"output_dim\":7}", "width: expected an even number, found 3");
    tower("{\"kind\":\"clip_resnet\",\"width\":2,\"layers\":[1,1,1,1],\"input_resolution\":40,\"output_dim\":7}", "input_resolution: expected a multiple of 32, found 40");
    tower("{\"kind\":\"clip_resnet\",\"width\":2,\"layers\":[1,2,1,1],\"input_resolution\":32,\"output_dim\":7}", "missing: visual.layer2.1.conv1.weight");
    tower("{\"kind\":\"clip_resnet\",\"width\":2,\"layers\":[1,1,1,1],\"input_resolution\":64,\"output_dim\":7}", "visual.attnpool.positional_embedding is [2,64], not [5,64]");
    tower("{\"kind\":\"dino_vit\"}", "kind: expected \"clip_vision\" or \"clip_resnet\", found \"dino_vit\"");
    tower("{\"kind\":7}", "kind: expected");
    tower("{\"kind\":\"clip_vision\",\"hidden_size\":64,\"num_attention_heads\":1}", "missing: vision_model.embeddings.class_embedding");
    tower("{\"model_type\":\"clip_vision_model\",\"architectures\":[\"CLIPVisionModel\"]}", "a tower with a projection is wanted");
    t.rn.block[0].a.conv.w = param_conv(2, 2, 1, 1);      /* shapes are checked against each other, too */
    t.rn.positions.size[0] = 3;
    save(clip_tower_walk, &t, "two places");
    tower(NULL, "the shapes are not those of a CLIP residual network");
    unlink(at("folder/model.safetensors"));
    tower(NULL, "no model.safetensors");

    ClipImageConfig vit = { 64, 96, 1, 1, 16, 8, 3, 5, POINT_QUICK_GELU, 1e-5 };
    t.resnet = false;
    check_true("built", clip_image_build_openai(&t.vit, &vit, &arena, &s));
    save(clip_tower_walk, &t, "saved");
    settle(NULL);
    check_line("OpenAI's names, no configuration", s.text, clip_tower_load(&t, at("folder"), &arena, NULL, &s) && !t.resnet && t.width == 5 && t.vit.config.mlp == 96);
    t.vit.positions.size[0] = 4;
    save(clip_tower_walk, &t, "three places");
    tower(NULL, "the shapes are not those of a CLIP vision transformer");
}

static void judges(void)
{
    Lpips m;
    Status s = {0};
    lpips_build(&m, LPIPS_ALEX);
    save(lpips_walk, &m, "saved");
    check_line("both in one file", s.text, lpips_load(&m, at("folder/model.safetensors"), NULL, &arena, &s) && m.kind == LPIPS_ALEX);
    m.conv[0] = conv_make(3, 64, 7, 4, 2, 2);
    save(lpips_walk, &m, "another network");
    refused("lpips", lpips_load(&m, at("folder/model.safetensors"), NULL, &arena, &s), &s, "features.0.weight: kernels of 11x11 (AlexNet) or 3x3 (VGG16) expected, found others");
    s = (Status){0};
    lpips_build(&m, LPIPS_ALEX);
    m.lin[2] = param_conv(1, 5, 1, 1);
    save(lpips_walk, &m, "another head");
    refused("lpips", lpips_load(&m, at("folder/model.safetensors"), NULL, &arena, &s), &s, "lin2.model.1.weight is [1,5,1,1], not [1,384,1,1]");
}

/* Tensors of the wrong size: an error before anything is written. */
static void shapes(void)
{
    Arena kept = {0};
    Run r = { .keep = &kept, .temp = &brief, .k = kernels_pick(NULL), .threads = 1, .blas = true };
    Dino m;
    DinoPass p;
    DinoConfig c = { .width = 8, .mlp = 16, .heads = 2, .layers = 1, .image = 16, .patch = 8, .channels = 3, .eps = 1e-6, .published = true };
    check_true("built", dino_build(&m, &c, &arena, &r.status) && params_randomise(dino_walk, &m, &arena, 1, &r.status));
    Tensor small = tensor_in(&r, &arena, SHAPE(1, 3, 7, 16)), grey = tensor_in(&r, &arena, SHAPE(1, 1, 16, 16)), good = tensor_in(&r, &arena, SHAPE(1, 3, 16, 16));
    Tensor keys = tensor_in(&r, &arena, SHAPE(1, 4, 8)), none = {0};
    const Tensor pixels[] = { small, grey, none, good };
    for (int i = 0; i < 4; i++) {
        r.status = (Status){0};
        dino_forward(&r, &m, none, none, i == 3 ? keys : none, &p, pixels[i]);
        check_line("dino", r.status.text, r.status.code == E_SHAPE);
    }
    r.status = (Status){0};
    preprocess_forward(&r, &preprocess_clip, good, grey);
    check_line("preprocess", r.status.text, r.status.code == E_SHAPE);
    arena_free(&kept);
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    mkdir(at("folder"), 0777);
    dinos();
    clips();
    judges();
    shapes();
    unlink(at("folder/model.safetensors"));
    settle(NULL);
    rmdir(at("folder"));
    scratch_remove();
    arena_free(&arena);
    arena_free(&brief);
    return check_done();
}
