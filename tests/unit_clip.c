/* unit_clip.c -- CLIP's configurations (what is accepted, what is refused and how it is named), parameter counts of
 * published models, requests that cannot be met, and the preparation of pictures. */
#include "nn/clip.h"
#include "tensor/hash.h"
#include "tensor/resample.h"
#include "tests/check.h"

static Arena arena, scratch;
static const Tensor none;

static const char text_l14[] = "{\"architectures\":[\"CLIPTextModel\"],\"hidden_size\":768,\"intermediate_size\":3072,\"num_attention_heads\":12,"
    "\"num_hidden_layers\":12,\"projection_dim\":768,\"vocab_size\":49408,\"hidden_act\":\"quick_gelu\",\"eos_token_id\":2}";
static const char text_h[] = "{\"architectures\":[\"CLIPTextModel\"],\"hidden_size\":1024,\"intermediate_size\":4096,\"num_attention_heads\":16,"
    "\"num_hidden_layers\":23,\"projection_dim\":512,\"hidden_act\":\"gelu\"}";
static const char text_g[] = "{\"architectures\":[\"CLIPTextModelWithProjection\"],\"hidden_size\":1280,\"intermediate_size\":5120,"
    "\"num_attention_heads\":20,\"num_hidden_layers\":32,\"projection_dim\":1280,\"hidden_act\":\"gelu\"}";
static const char image_b32[] = "{\"vision_config\":{\"hidden_size\":768,\"patch_size\":32},\"projection_dim\":512}";
static const char image_l14[] = "{\"vision_config\":{\"hidden_size\":1024,\"intermediate_size\":4096,\"num_attention_heads\":16,"
    "\"num_hidden_layers\":24,\"patch_size\":14},\"projection_dim\":768}";
/* As older transformers wrote them: every field of text generation spelled out. */
static const char text_old[] = "{\"_name_or_path\":\"\",\"add_cross_attention\":false,\"architectures\":null,\"attention_dropout\":0.0,"
    "\"bad_words_ids\":null,\"bos_token_id\":0,\"diversity_penalty\":0.0,\"do_sample\":false,\"dropout\":0.0,\"eos_token_id\":2,"
    "\"hidden_act\":\"quick_gelu\",\"hidden_size\":768,\"id2label\":{\"0\":\"LABEL_0\",\"1\":\"LABEL_1\"},\"initializer_range\":0.02,"
    "\"intermediate_size\":3072,\"label2id\":{\"LABEL_0\":0},\"layer_norm_eps\":1e-05,\"length_penalty\":1.0,\"max_length\":20,"
    "\"max_position_embeddings\":77,\"model_type\":\"clip_text_model\",\"num_attention_heads\":12,\"num_beams\":1,"
    "\"num_hidden_layers\":12,\"pad_token_id\":1,\"pruned_heads\":{},\"repetition_penalty\":1.0,\"return_dict\":true,\"temperature\":1.0,"
    "\"tie_word_embeddings\":true,\"top_k\":50,\"top_p\":1.0,\"torch_dtype\":\"float32\",\"transformers_version\":\"4.22\",\"typical_p\":1.0,"
    "\"use_bfloat16\":false,\"vocab_size\":49408}";

static const Json *parse(const char *text, Status *s) { return json_parse(&arena, text, strlen(text), 16, "config.json", s); }

static void check_count(const char *what, const char *config, bool is_text, size_t numbers, int tensors)
{
    Status s = {0};
    int found = 0;
    size_t count = 0;
    const Json *j = parse(config, &s);
    if (is_text) {
        ClipTextConfig c;
        ClipText m;
        if (j && clip_text_config(&c, j, "config.json", &s) && clip_text_build(&m, &c, &arena, &s)) count = params_count(clip_text_walk, &m, &found);
    } else {
        ClipImageConfig c;
        ClipImage m;
        if (j && clip_image_config(&c, j, "config.json", &s) && clip_image_build(&m, &c, &arena, &s)) count = params_count(clip_image_walk, &m, &found);
    }
    check_line(what, s.text, count == numbers && (!tensors || found == tensors));
}

static void counts(void)
{
    check_count("parameters of the text tower of ViT-L/14", text_l14, true, 123060480, 196);
    check_count("the same, an old file", text_old, true, 123060480, 196);
    check_count("... of ViT-H, 23 layers", text_h, true, 340387840, 372);
    check_count("... of bigG, with projection", text_g, true, 694659840, 0);
    check_count("... of the image tower of ViT-B/32", image_b32, false, 87849216, 0);
    check_count("... of ViT-L/14", image_l14, false, 303966208, 0);
}

typedef struct { bool text; const char *config, *says; } Bad;
static const Bad bad[] = {
    { true, "[]", "expected an object" },
    { true, "{\"hidden_act\":\"gelu_new\"}", "hidden_act: expected \"gelu\" or \"quick_gelu\", found \"gelu_new\"" },
    { true, "{\"hidden_act\":null}", "hidden_act" },
    { true, "{\"hidden_size\":0}", "hidden_size: expected an integer from 1" },
    { true, "{\"hidden_size\":1e3}", "hidden_size" },
    { true, "{\"hidden_size\":99999999999}", "hidden_size" },
    { true, "{\"hidden_size\":100}", "num_attention_heads: expected a divisor of hidden_size 100, found 8" },
    { true, "{\"num_attention_heads\":0}", "num_attention_heads" },
    { true, "{\"num_hidden_layers\":0}", "num_hidden_layers" },
    { true, "{\"num_hidden_layers\":100000}", "num_hidden_layers" },
    { true, "{\"intermediate_size\":\"3072\"}", "intermediate_size" },
    { true, "{\"vocab_size\":-1}", "vocab_size" },
    { true, "{\"vocab_size\":2000000}", "vocab_size" },
    { true, "{\"max_position_embeddings\":0}", "max_position_embeddings" },
    { true, "{\"layer_norm_eps\":0}", "layer_norm_eps" },
    { true, "{\"layer_norm_eps\":\"small\"}", "layer_norm_eps" },
    { true, "{\"eos_token_id\":-2}", "eos_token_id" },
    { true, "{\"eos_token_id\":[1,2]}", "eos_token_id" },
    { true, "{\"mystery\":3}", "mystery" },
    { true, "{\"text_config\":7}", "expected an object" },
    { true, "{\"vision_config\":{}}", "text_config: expected an object" },
    { true, "{\"text_config\":{},\"projection_dim\":0}", "projection_dim" },
    { true, "{\"text_config\":{\"hidden_act\":\"relu\"}}", "hidden_act" },
    { false, "{\"patch_size\":0}", "patch_size" },
    { false, "{\"patch_size\":300}", "patch_size: expected at most image_size 224, found 300" },
    { false, "{\"image_size\":100000}", "image_size" },
    { false, "{\"num_channels\":0}", "num_channels" },
    { false, "{\"hidden_size\":770}", "num_attention_heads" },
    { false, "{\"text_config\":{}}", "vision_config: expected an object" },
};

static void configs(void)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Status s = {0};
        ClipTextConfig t;
        ClipImageConfig v;
        const Json *j = parse(bad[i].config, &s);
        bool fine = bad[i].text ? clip_text_config(&t, j, "config.json", &s) : clip_image_config(&v, j, "config.json", &s);
        check_line(bad[i].config, s.text, !fine && s.code == E_FORMAT && strstr(s.text, "config.json") && strstr(s.text, bad[i].says));
    }
    Status s = {0};
    Clip m;
    check_true("a text tower is no whole model", !clip_build(&m, parse(text_l14, &s), "config.json", &arena, &s) && s.code == E_FORMAT);
    ClipTextConfig c;
    s = (Status){0};
    check_true("no projection unless the class has one", clip_text_config(&c, parse(text_l14, &s), "", &s) && c.projection == 0);
    check_true("... and then its width", clip_text_config(&c, parse(text_g, &s), "", &s) && c.projection == 1280);
    check_true("defaults are the reference's", clip_text_config(&c, parse("{}", &s), "", &s) && c.width == 512 && c.mlp == 2048 && c.heads == 8
               && c.layers == 12 && c.positions == 77 && c.vocabulary == 49408 && c.eos == 49407 && c.act == POINT_QUICK_GELU && c.eps == 1e-5);
}

static Run fresh_run(void)
{
    return (Run){ .keep = &scratch, .temp = &scratch, .threads = 1, .blas = true, .k = kernels_pick(NULL) };
}

static void requests(void)
{
    ClipTextConfig c = { 8, 16, 2, 2, 11, 6, 0, 2, POINT_GELU, 1e-5 };
    ClipImageConfig v = { 8, 16, 2, 2, 6, 3, 3, 0, POINT_GELU, 1e-5 };
    Status s = {0};
    ClipText m;
    ClipImage w;
    ClipTextPass p;
    ClipImagePass q;
    int ids[8] = { 9, 1, 2, 10, 0, 0, 0, 0 };
    clip_text_build(&m, &c, &arena, &s);
    clip_image_build(&w, &v, &arena, &s);
    params_randomise(clip_text_walk, &m, &arena, 1, &s);
    params_randomise(clip_image_walk, &w, &arena, 1, &s);
    Run r = fresh_run();
    Tensor x = tensor_in(&r, &arena, SHAPE(1, 4, 8)), y = tensor_in(&r, &arena, SHAPE(1, 4, 8)), far = tensor_in(&r, &arena, SHAPE(1, 7, 8));
    Tensor narrow = tensor_in(&r, &arena, SHAPE(1, 4, 7)), pixels = tensor_in(&r, &arena, SHAPE(1, 3, 6, 5));
    ids[1] = 11;
    clip_text_embed(&r, &m, x, ids);
    check_line("an id outside the vocabulary", r.status.text, r.status.code == E_OPTION && strstr(r.status.text, "11"));
    ids[1] = -1;
    r = fresh_run();
    clip_text_embed(&r, &m, x, ids);
    check_true("a negative id", r.status.code == E_OPTION);
    for (int skip = -1; skip < 4; skip++) {
        r = fresh_run();
        tensor_zero(x);
        clip_text_forward(&r, &m, y, none, none, &p, x, ids, skip);
        check_true("layers left out: none or one of two", (r.status.code == OK) == (skip == 0 || skip == 1) && (run_ok(&r) || r.status.code == E_OPTION));
    }
    r = fresh_run();
    clip_text_forward(&r, &m, y, none, none, &p, far, ids, 0);
    check_true("more tokens than positions", r.status.code == E_SHAPE);
    r = fresh_run();
    clip_text_forward(&r, &m, y, none, none, &p, narrow, ids, 0);
    check_true("tokens of another width", r.status.code == E_SHAPE);
    r = fresh_run();
    clip_image_forward(&r, &w, none, none, none, &q, pixels);
    check_line("a picture of another size", r.status.text, r.status.code == E_SHAPE && strstr(r.status.text, "[N,3,6,6]"));
    check_true("nothing stays behind", scratch.used == 0);
}

/* Every growth of the arena refused in turn: E_MEMORY, and then it works. */
static void memory(void)
{
    ClipImageConfig v = { 8, 16, 2, 3, 6, 3, 3, 5, POINT_GELU, 1e-5 };
    Status s = {0};
    ClipImage w;
    clip_image_build(&w, &v, &arena, &s);
    params_randomise(clip_image_walk, &w, &arena, 1, &s);
    params_want_gradients(clip_image_walk, &w, &arena, &s);
    Run r = fresh_run();
    Tensor pixels = tensor_in(&r, &arena, SHAPE(2, 3, 6, 6)), embeds = tensor_in(&r, &arena, SHAPE(2, 5)), dpixels = tensor_in(&r, &arena, pixels.s);
    for (size_t i = 0; i < tensor_count(pixels); i++) pixels.x[i] = (real)check_uniform();
    for (size_t i = 0; i < tensor_count(embeds); i++) embeds.x[i] = 1;
    bool worked = false, clean = true;
    int refused = 0;
    for (size_t limit = 64; limit < 4000000 && !worked; limit += 192) {
        Arena keep_ = { .limit = limit }, temp_ = { .limit = limit };
        ClipImagePass p;
        Run t = fresh_run();
        t.keep = &keep_;
        t.temp = &temp_;
        clip_image_forward(&t, &w, none, none, embeds, &p, pixels);
        if (run_ok(&t)) clip_image_backward(&t, &w, dpixels, none, none, embeds, &p);
        worked = run_ok(&t);
        refused += !worked;
        clean &= worked || t.status.code == E_MEMORY;
        arena_free(&keep_);
        arena_free(&temp_);
    }
    check_true("too little memory: E_MEMORY, until it is enough", worked && refused > 3 && clean);
}

/* SHA-256 of what Pillow 13 makes of the same pictures; the fourth is tall enough for its vertical pass to come first. */
static const struct { int H, W, h, w; const char *hash; } resized[] = {
    { 40, 60, 32, 48, "eb39d4b501199fb0949b9ffacde6c0be17df5da7ae2944a7e017c673d5c480b3" },
    { 60, 40, 48, 32, "8c03af5e79295cba4e103844447a151b1907923c3d55d59cdce18941e85cc838" },
    { 20, 33, 32, 52, "e584ce7c872248c4f37c5f8f44c30d68e2f6435495182b1c56c6aef0e2e3a59e" },
    { 150, 50, 96, 32, "63ef268b706e23bac715da2a7dcf75ecb11fa1c2a12d85ab2e3f3eedf78e559e" },
    { 64, 64, 64, 10, "a0b48f5c8fca0bb41f32ee73daecc6e10eff767c20819cd4277afb71d7ef0b18" },
    { 3, 2, 9, 64, "9792d731caf2a1d46af7cd549b124ad88916b1a04018a9f60d1bd73074f9cfa4" },
    { 300, 7, 11, 7, "fdc1734446f3ce86aa712531fa54234c82aab91cf3b3fee2fd280fb3e80f778c" },
    { 1, 1, 5, 4, "07877fa04bd82397bbcbbc84ec38e37172d8c5ff1d10bf053d68ab908e4e5f6a" },
};

static void pictures(void)
{
    static uint8_t in[300 * 64 * 3], out[96 * 64 * 3];
    for (size_t i = 0; i < sizeof resized / sizeof *resized; i++) {
        int H = resized[i].H, W = resized[i].W, h = resized[i].h, w = resized[i].w;
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                for (int c = 0; c < 3; c++) in[(y * W + x) * 3 + c] = (uint8_t)(y * y * 7 + x * x * 13 + c * x * y * 29 + y * 31 + c * 101);
        char hex[65], what[80];
        snprintf(what, sizeof what, "%dx%d resized to %dx%d is Pillow's", H, W, h, w);
        for (int threads = 1; threads <= 3; threads += 2) {
            Run r = fresh_run();
            r.threads = threads;
            Sha256 sum;
            sha256_begin(&sum);
            bool fine = resample_bicubic_8bit(&r, out, h, w, in, H, W);
            sha256_add(&sum, out, (size_t)h * (size_t)w * 3);
            sha256_end(&sum, hex);
            check_line(what, hex, fine && !strcmp(hex, resized[i].hash));
        }
    }
    Run r = fresh_run();
    check_true("no size of zero", !resample_bicubic_8bit(&r, out, 0, 4, in, 3, 3) && r.status.code == E_SHAPE);
    r = fresh_run();
    check_true("no size beyond the limit", !resample_bicubic_8bit(&r, out, 4, 4, in, 1, RESAMPLE_MOST + 1) && r.status.code == E_SHAPE);
}

static void prepared(void)
{
    static const double mean[3] = { 0.5, 0.25, 0 }, std[3] = { 0.5, 0.25, 2 };
    static uint8_t rgb[40 * 24 * 3];
    Run r = fresh_run();
    Tensor p = tensor_in(&r, &arena, SHAPE(3, 8, 8));
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = 51;
    check_true("a plain picture stays plain", clip_prepare(&r, p, rgb, 40, 24, mean, std));
    double worst = 0;
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 64; i++) worst = fmax(worst, fabs((double)p.x[c * 64 + i] - (0.2 - mean[c]) / std[c]));
    check_below("... of the right value", worst, 1e-7);       /* one rounding to real */
    for (int i = 0; i < 8 * 11; i++)
        for (int c = 0; c < 3; c++) rgb[i * 3 + c] = (uint8_t)(i % 11 * 20 + c);
    check_true("8 rows of 11: columns 1 to 8 are kept as they are", clip_prepare(&r, p, rgb, 8, 11, mean, std)
               && fabs((double)p.x[0] - (20 / 255.0 - 0.5) / 0.5) < 1e-6 && fabs((double)p.x[63] - (160 / 255.0 - 0.5) / 0.5) < 1e-6);
    Tensor flat = tensor_in(&r, &arena, SHAPE(3, 8, 9));
    check_true("a tensor that is no square", !clip_prepare(&r, flat, rgb, 8, 11, mean, std) && r.status.code == E_SHAPE);
    r = fresh_run();
    check_true("a sliver that would become too long", !clip_prepare(&r, p, rgb, 1, 60000, mean, std) && r.status.code == E_SHAPE);
    check_true("nothing stays behind", scratch.used == 0);
}

int main(void)
{
    scratch.poison = true;
    counts();
    configs();
    requests();
    memory();
    pictures();
    prepared();
    arena_free(&arena);
    arena_free(&scratch);
    return check_done();
}
