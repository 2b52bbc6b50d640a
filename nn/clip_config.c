/* clip_config.c -- config.json -> ClipTextConfig, ClipImageConfig. */
#include <string.h>
#include "nn/clip.h"
#include "nn/config.h"

enum { WIDEST = 16384, WIDEST_MLP = 65536, MOST_LAYERS = 256, MOST_HEADS = 256, MOST_IDS = 1000000, MOST_POSITIONS = 65536, LARGEST = 4096 };
static const char *const act_names[] = { "gelu", "quick_gelu", NULL };
static const PointAct acts[] = { POINT_GELU, POINT_QUICK_GELU };

/* Training, text generation and bookkeeping, which older files spell out in full: no effect on a tower's numbers. */
static const char *const idle[] = {
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "initializer_range", "initializer_factor",
    "attention_dropout", "dropout", "bos_token_id", "pad_token_id", "sep_token_id", "id2label", "label2id", "return_dict",
    "tie_word_embeddings", "diversity_penalty", "length_penalty", "repetition_penalty", "temperature", "top_k", "top_p", "typical_p",
    "max_length", "min_length", "num_beams", "num_beam_groups", "num_return_sequences", "gradient_checkpointing", "use_cache",
};

static bool has_projection(const Json *j)
{
    if (json_is(json_get(j, "kind"), "clip_vision")) return true;
    const Json *names = json_get(j, "architectures");
    for (const Json *e = names && names->kind == JSON_ARRAY ? names->child : NULL; e; e = e->next)
        if (e->kind == JSON_STRING && strstr(e->text, "WithProjection")) return true;
    return false;
}

/* The tower's own object, and the width of its projection (0: none): of a whole CLIPModel, or of a tower alone. */
static void tower(Config *c, const Json *j, const char *name, const char *file, int *projection, Status *s)
{
    const Json *inner = json_get(j, name);
    bool whole = inner && inner->kind != JSON_NULL;
    bool other = !whole && (json_get(j, "text_config") || json_get(j, "vision_config"));
    *projection = 0;
    if (other) status_fail(s, E_FORMAT, "%s: %s: expected an object, found none", file, name);
    if (whole) {
        config_begin(c, j, file, "CLIPModel", s);
        *projection = config_int(c, "projection_dim", 512, 1, WIDEST);
    }
    config_begin(c, whole ? inner : j, file, "", s);
    int own = s->code == OK ? config_int(c, "projection_dim", 512, 0, WIDEST) : 0;
    if (!whole && j && has_projection(j)) *projection = own;
}

static void common(Config *c, int *width, int *mlp, int *heads, int *layers, PointAct *act, double *eps, int wide, int many)
{
    *width  = config_int(c, "hidden_size", wide, 1, WIDEST);
    *mlp    = config_int(c, "intermediate_size", 4 * wide, 1, WIDEST_MLP);
    *heads  = config_int(c, "num_attention_heads", many, 1, MOST_HEADS);
    *layers = config_int(c, "num_hidden_layers", 12, 1, MOST_LAYERS);
    *eps    = config_number(c, "layer_norm_eps", 1e-5, 1e-12, 1);
    int f   = config_word(c, "hidden_act", 1, act_names);
    if (f < 0) config_fail(c, "hidden_act", "expected \"gelu\" or \"quick_gelu\", found null");
    *act = f < 0 ? POINT_GELU : acts[f];
    if (*width % *heads) config_fail(c, "num_attention_heads", "expected a divisor of hidden_size %d, found %d", *width, *heads);
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) config_ignore(c, idle[i]);
}

bool clip_text_config(ClipTextConfig *t, const Json *j, const char *file, Status *s)
{
    Config c;
    *t = (ClipTextConfig){0};
    tower(&c, j, "text_config", file, &t->projection, s);
    if (s->code != OK) return false;
    common(&c, &t->width, &t->mlp, &t->heads, &t->layers, &t->act, &t->eps, 512, 8);
    t->vocabulary = config_int(&c, "vocab_size", 49408, 1, MOST_IDS);
    t->positions  = config_int(&c, "max_position_embeddings", 77, 1, MOST_POSITIONS);
    t->eos        = config_int(&c, "eos_token_id", 49407, 0, MOST_IDS);
    return config_end(&c);
}

bool clip_image_config(ClipImageConfig *t, const Json *j, const char *file, Status *s)
{
    Config c;
    *t = (ClipImageConfig){0};
    tower(&c, j, "vision_config", file, &t->projection, s);
    if (s->code != OK) return false;
    common(&c, &t->width, &t->mlp, &t->heads, &t->layers, &t->act, &t->eps, 768, 12);
    config_ignore(&c, "eos_token_id");
    config_only(&c, "kind", "clip_vision");
    t->image    = config_int(&c, "image_size", 224, 1, LARGEST);
    t->patch    = config_int(&c, "patch_size", 32, 1, LARGEST);
    t->channels = config_int(&c, "num_channels", 3, 1, 16);
    if (s->code == OK && t->patch > t->image) config_fail(&c, "patch_size", "expected at most image_size %d, found %d", t->image, t->patch);
    return config_end(&c);
}

bool clip_build(Clip *m, const Json *config, const char *file, Arena *weights, Status *s)
{
    ClipTextConfig text;
    ClipImageConfig image;
    *m = (Clip){0};
    m->logit_scale = (Param){ .rank = 0 };
    if (!json_get(config, "text_config") || !json_get(config, "vision_config")) {
        status_fail(s, E_FORMAT, "%s: not a whole CLIPModel: text_config and vision_config expected", file);
        return false;
    }
    return clip_text_config(&text, config, file, s) && clip_image_config(&image, config, file, s)
        && clip_text_build(&m->text, &text, weights, s) && clip_image_build(&m->image, &image, weights, s);
}

void clip_walk(void *model, Walk *w)
{
    Clip *m = model;
    clip_text_walk(&m->text, w);
    clip_image_walk(&m->image, w);
    walk_param(w, &m->logit_scale, "logit_scale");
}
