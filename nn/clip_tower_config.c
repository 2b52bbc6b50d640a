/* clip_tower_config.c -- the image towers' configurations where they are not transformers' own: shapes, and "kind": "clip_resnet". */
#include <stdio.h>
#include "nn/clip_tower.h"
#include "nn/config.h"

enum { WIDEST = 16384, MOST_LAYERS = 256, LARGEST = 4096, HEAD = 64, SHRUNK = 32, WIDER = 32 };

static const char *file_of(const Weights *w) { return w->files ? w->file[0].file.name : "no file"; }

/* The tensor under its full name, or without "visual."; its sizes must be in range. */
static const SafeEntry *shaped(const Weights *w, const char *name, int rank, Status *s)
{
    const SafeEntry *e = weights_find(w, name, NULL);
    if (!e) e = weights_find(w, name + sizeof "visual." - 1, NULL);
    if (!e) status_fail(s, E_FORMAT, "%.200s: no %s: not a CLIP image tower in OpenAI's names", file_of(w), name);
    else if (e->rank != rank) status_fail(s, E_FORMAT, "%.200s: %s: expected %d sizes, found %d", file_of(w), name, rank, e->rank);
    for (int i = 0; e && i < e->rank && s->code == OK; i++)
        if (e->size[i] < 1 || e->size[i] > 65536) status_fail(s, E_FORMAT, "%.200s: %s: a size of %llu", file_of(w), name, (unsigned long long)e->size[i]);
    return s->code == OK ? e : NULL;
}

static int count(const Weights *w, const char *format, int most)
{
    char name[80];
    for (int n = 0; n < most; n++) {
        snprintf(name, sizeof name, format, n);
        if (!weights_find(w, name, NULL) && !weights_find(w, name + sizeof "visual." - 1, NULL)) return n;
    }
    return most;
}

static int side_of(uint64_t places)                       /* 0: not a square */
{
    uint64_t g = 0;
    while ((g + 1) * (g + 1) <= places) g++;
    return g * g == places ? (int)g : 0;
}

static bool odd(const Weights *w, const char *what, Status *s)
{
    status_fail(s, E_FORMAT, "%.200s: the shapes are not those of a CLIP %s", file_of(w), what);
    return false;
}

bool clip_image_config_of(ClipImageConfig *c, const Weights *w, Status *s)
{
    const SafeEntry *patch = shaped(w, "visual.conv1.weight", 4, s), *table = patch ? shaped(w, "visual.positional_embedding", 2, s) : NULL;
    const SafeEntry *proj = table ? shaped(w, "visual.proj", 2, s) : NULL, *fc = proj ? shaped(w, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2, s) : NULL;
    *c = (ClipImageConfig){ .act = POINT_QUICK_GELU, .eps = 1e-5 };
    if (!fc) return false;
    int side = side_of(table->size[0] - 1), patch_side = (int)patch->size[2];
    c->width = (int)patch->size[0];
    c->mlp = (int)fc->size[0];
    c->heads = c->width / HEAD;
    c->layers = count(w, "visual.transformer.resblocks.%d.ln_1.weight", MOST_LAYERS);
    c->patch = patch_side;
    c->channels = (int)patch->size[1];
    c->projection = (int)proj->size[1];
    if (!side || c->width % HEAD || c->width > WIDEST || patch->size[3] != patch->size[2] || side * patch_side > LARGEST || c->channels > 16 || !c->layers)
        return odd(w, "vision transformer", s);
    c->image = side * patch_side;
    return true;
}

bool clip_resnet_config_of(ClipResnetConfig *c, const Weights *w, Status *s)
{
    const SafeEntry *stem = shaped(w, "visual.conv3.weight", 4, s), *table = stem ? shaped(w, "visual.attnpool.positional_embedding", 2, s) : NULL;
    const SafeEntry *proj = table ? shaped(w, "visual.attnpool.c_proj.weight", 2, s) : NULL;
    *c = (ClipResnetConfig){ .width = 0 };
    if (!proj) return false;
    int side = side_of(table->size[0] - 1);
    c->width = (int)stem->size[0];
    c->image = side * SHRUNK;
    c->projection = (int)proj->size[0];
    bool good = side && c->width % 2 == 0 && c->image <= LARGEST && table->size[1] == (uint64_t)c->width * WIDER && table->size[1] <= WIDEST;
    for (int i = 0; i < CLIP_RESNET_STAGES; i++) {
        char format[64];
        snprintf(format, sizeof format, "visual.layer%d.%%d.conv1.weight", i + 1);
        c->layers[i] = count(w, format, MOST_LAYERS);
        good = good && c->layers[i];
    }
    return good || odd(w, "residual network", s);
}

bool clip_resnet_config(ClipResnetConfig *r, const Json *j, const char *file, Status *s)
{
    Config c;
    static const int usual[] = { 3, 4, 6, 3 };
    *r = (ClipResnetConfig){ .width = 0 };
    config_begin(&c, j, file, "", s);
    if (s->code != OK) return false;
    config_only(&c, "kind", "clip_resnet");
    r->width = config_int(&c, "width", 64, 2, WIDEST / WIDER);
    r->image = config_int(&c, "input_resolution", 224, SHRUNK, LARGEST);
    r->projection = config_int(&c, "output_dim", 1024, 1, WIDEST);
    int n = config_list(&c, "layers", usual, CLIP_RESNET_STAGES, 1, MOST_LAYERS, CLIP_RESNET_STAGES, r->layers);
    if (s->code == OK && n != CLIP_RESNET_STAGES) config_fail(&c, "layers", "expected %d numbers, found %d", CLIP_RESNET_STAGES, n);
    if (s->code == OK && r->width % 2) config_fail(&c, "width", "expected an even number, found %d", r->width);
    if (s->code == OK && r->image % SHRUNK) config_fail(&c, "input_resolution", "expected a multiple of %d, found %d", SHRUNK, r->image);
    return config_end(&c);
}
