#include <string.h>
#include "nn/clip_tower.h"
#include "nn/dino.h"
#include "ref/tower_info.h"

typedef enum { NO_TOWER, TOWER_DINO, TOWER_CLIP } TowerKind;
static const struct { const char *field, *word; TowerKind kind; } WORDS[] = {
    { "kind", "dino_vit", TOWER_DINO }, { "kind", "clip_vision", TOWER_CLIP }, { "kind", "clip_resnet", TOWER_CLIP },
    { "model_type", "vit", TOWER_DINO }, { "model_type", "clip", TOWER_CLIP }, { "model_type", "clip_vision_model", TOWER_CLIP },
};

static TowerKind kind_of(const char *folder)
{
    char file[1100];
    Arena a = {0};
    Status unread = {0};
    TowerKind kind = NO_TOWER;
    snprintf(file, sizeof file, "%.1000s/config.json", folder);
    const Json *j = json_load(&a, file, &unread);
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS && kind == NO_TOWER; i++)
        if (json_is(json_get(j, WORDS[i].field), WORDS[i].word)) kind = WORDS[i].kind;
    arena_free(&a);
    return kind;
}

bool tower_folder(const char *folder) { return kind_of(folder) != NO_TOWER; }

typedef struct { const char *what; int size, width, layers, heads, patch; size_t numbers; int tensors; LoadReport report; } Facts;

static bool dino_facts(Facts *f, const char *folder, Arena *a, Status *s)
{
    Dino m;
    if (!dino_load(&m, folder, a, &f->report, s)) return false;
    const DinoConfig *c = &m.config;
    *f = (Facts){ c->published ? "DINO transformer, published names" : "DINO transformer, names of ViTModel", c->image, c->width, c->layers, c->heads, c->patch, 0, 0, f->report };
    f->numbers = params_count(dino_walk, &m, &f->tensors);
    return true;
}

static bool clip_facts(Facts *f, const char *folder, Arena *a, Status *s)
{
    ClipTower t;
    if (!clip_tower_load(&t, folder, a, &f->report, s)) return false;
    const ClipImageConfig *c = &t.vit.config;
    if (t.resnet) *f = (Facts){ "CLIP residual network", t.size, t.width, t.rn.blocks, t.rn.pool.heads, 0, 0, 0, f->report };
    else *f = (Facts){ t.vit.openai ? "CLIP transformer, OpenAI's names" : "CLIP transformer", t.size, t.width, c->layers, c->heads, c->patch, 0, 0, f->report };
    f->numbers = params_count(clip_tower_walk, &t, &f->tensors);
    return true;
}

static void send(const Console *c, const char *folder, const Facts *f)
{
    JsonOut o = {0};
    console_event(&o, "info");
    json_text(&o, "model", folder);
    json_text(&o, "tower", f->what);
    json_integer(&o, "parameters", (int64_t)f->numbers);
    json_integer(&o, "tensors", f->tensors);
    json_integer(&o, "pixels", f->size);
    json_integer(&o, "width", f->width);
    json_integer(&o, "layers", f->layers);
    json_integer(&o, "heads", f->heads);
    json_integer(&o, "other_tensors", f->report.surplus);
    console_send(c, &o);
}

bool tower_info(const Console *c, const char *folder, Status *s)
{
    Arena a = {0};
    Facts f = { .report = { .loaded = 0 } };
    bool good = (kind_of(folder) == TOWER_DINO ? dino_facts : clip_facts)(&f, folder, &a, s);
    arena_free(&a);
    if (!good) return false;
    if (c->json) {
        send(c, folder, &f);
        return true;
    }
    printf("model        %s\ntower        %s: %d layers, %d heads, results of %d numbers\n", folder, f.what, f.layers, f.heads, f.width);
    printf("parameters   %zu in %d tensors\npictures     %d x %d", f.numbers, f.tensors, f.size, f.size);
    if (f.patch) printf(" in patches of %d", f.patch);
    printf("\n");
    if (f.report.surplus) printf("others       %d tensors of the file are not the tower's, the first is %s\n", f.report.surplus, f.report.first_surplus);
    return true;
}
