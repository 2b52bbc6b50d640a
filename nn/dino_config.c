/* dino_config.c -- config.json, or shapes alone -> DinoConfig; a folder -> Dino. */
#include <stdio.h>
#include <string.h>
#include "nn/config.h"
#include "nn/dino.h"
#include "tensor/file.h"

enum { WIDEST = 16384, WIDEST_MLP = 65536, MOST_LAYERS = 256, MOST_HEADS = 256, LARGEST = 4096, HEAD = 64 };

static bool sound(Config *c, const DinoConfig *d, const char *width, const char *heads)
{
    if (c->status->code == OK && d->width % d->heads) config_fail(c, heads, "expected a divisor of %s %d, found %d", width, d->width, d->heads);
    if (c->status->code == OK && d->patch > d->image) config_fail(c, "patch_size", "expected at most image_size %d, found %d", d->image, d->patch);
    return config_end(c);
}

static bool published(DinoConfig *d, Config *c)
{
    config_only(c, "kind", "dino_vit");
    d->published = true;
    d->image  = config_int(c, "image_size", 224, 1, LARGEST);
    d->patch  = config_int(c, "patch_size", 16, 1, LARGEST);
    d->width  = config_int(c, "embed_dim", 768, 1, WIDEST);
    d->layers = config_int(c, "depth", 12, 1, MOST_LAYERS);
    d->heads  = config_int(c, "num_heads", 12, 1, MOST_HEADS);
    d->mlp    = 4 * d->width;
    d->eps    = 1e-6;
    config_only(c, "mlp_ratio", "4");
    return sound(c, d, "embed_dim", "num_heads");
}

static bool transformers(DinoConfig *d, Config *c)
{
    static const char *const idle[] = {
        "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "initializer_range", "attention_probs_dropout_prob",
        "hidden_dropout_prob", "encoder_stride", "pooler_act", "pooler_output_size", "id2label", "label2id", "problem_type", "return_dict",
    };
    d->image    = config_int(c, "image_size", 224, 1, LARGEST);
    d->patch    = config_int(c, "patch_size", 16, 1, LARGEST);
    d->width    = config_int(c, "hidden_size", 768, 1, WIDEST);
    d->layers   = config_int(c, "num_hidden_layers", 12, 1, MOST_LAYERS);
    d->heads    = config_int(c, "num_attention_heads", 12, 1, MOST_HEADS);
    d->mlp      = config_int(c, "intermediate_size", 3072, 1, WIDEST_MLP);
    d->channels = config_int(c, "num_channels", 3, 1, 16);
    d->eps      = config_number(c, "layer_norm_eps", 1e-12, 1e-12, 1);
    config_only(c, "hidden_act", "gelu");
    if (!config_bool(c, "qkv_bias", true)) config_fail(c, "qkv_bias", "expected true: DINO's queries, keys and values have biases");
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) config_ignore(c, idle[i]);
    return sound(c, d, "hidden_size", "num_attention_heads");
}

bool dino_config(DinoConfig *d, const Json *j, const char *file, Status *s)
{
    Config c;
    *d = (DinoConfig){ .channels = 3 };
    const Json *model = json_get(j, "model_type");
    config_begin(&c, j, file, "", s);
    if (s->code != OK) return false;
    if (json_get(j, "kind")) return published(d, &c);
    if (!json_is(model, "vit")) {
        status_fail(s, E_FORMAT, "%s: model_type: expected \"vit\", or kind \"dino_vit\", found %.60s", file, model && model->kind == JSON_STRING ? model->text : "neither");
        return false;
    }
    return transformers(d, &c);
}

/* ---- from the shapes of published weights ---- */

static const SafeEntry *shaped(const Weights *w, const char *name, int rank, Status *s)
{
    const SafeEntry *e = weights_find(w, name, NULL);
    const char *file = w->files ? w->file[0].file.name : "no file";
    if (!e) status_fail(s, E_FORMAT, "%.200s: no %s: not the weights of a DINO transformer, or a config.json is needed", file, name);
    else if (e->rank != rank) status_fail(s, E_FORMAT, "%.200s: %s: expected %d sizes, found %d", file, name, rank, e->rank);
    return s->code == OK ? e : NULL;
}

static int blocks_in(const Weights *w)
{
    char name[64];
    int n = 0;
    do snprintf(name, sizeof name, "blocks.%d.norm1.weight", n);
    while (weights_find(w, name, NULL) && ++n < MOST_LAYERS);
    return n;
}

static int square_root(uint64_t n)
{
    int g = 0;
    while ((uint64_t)(g + 1) * (uint64_t)(g + 1) <= n) g++;
    return g;
}

bool dino_config_of(DinoConfig *d, const Weights *w, Status *s)
{
    const SafeEntry *table = shaped(w, "pos_embed", 3, s), *patch = table ? shaped(w, "patch_embed.proj.weight", 4, s) : NULL;
    *d = (DinoConfig){ .published = true, .eps = 1e-6, .layers = blocks_in(w) };
    if (!patch) return false;
    bool good = table->size[1] > 1 && table->size[1] < LARGEST * LARGEST && table->size[2] <= WIDEST && table->size[2] % HEAD == 0 && d->layers > 0
             && patch->size[2] >= 1 && patch->size[2] <= 64 && patch->size[2] == patch->size[3] && patch->size[1] <= 16;
    int g = good ? square_root(table->size[1] - 1) : 0;
    if (!good || (uint64_t)g * (uint64_t)g + 1 != table->size[1]) {
        status_fail(s, E_FORMAT, "%.200s: pos_embed [%llu,%llu,%llu] and patch_embed.proj.weight: not the shapes of a DINO transformer with heads of %d",
                    w->file[0].file.name, (unsigned long long)table->size[0], (unsigned long long)table->size[1], (unsigned long long)table->size[2], HEAD);
        return false;
    }
    d->width = (int)table->size[2];
    d->mlp = 4 * d->width;
    d->heads = d->width / HEAD;
    d->patch = (int)patch->size[2];
    d->channels = (int)patch->size[1];
    d->image = g * d->patch;
    return true;
}

bool dino_load(Dino *m, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    char file[520];
    DinoConfig c;
    Weights w = {0};
    snprintf(file, sizeof file, "%.500s/config.json", folder);
    const Json *j = file_exists(file) ? json_load(weights, file, s) : NULL;
    bool good = s->code == OK && weights_open(&w, folder, "model", s) && (j ? dino_config(&c, j, file, s) : dino_config_of(&c, &w, s))
             && dino_build(m, &c, weights, s) && params_load(dino_walk, m, &w, weights, report, s) && preprocess_read(&m->preprocess, folder, weights, s);
    weights_close(&w);
    return good;
}
