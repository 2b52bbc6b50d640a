#include <stdio.h>
#include "nn/clip_tower.h"
#include "tensor/file.h"

static bool named(const Weights *w, const char *name)     /* with "visual." or without */
{
    return weights_find(w, name, NULL) || weights_find(w, name + sizeof "visual." - 1, NULL);
}

static bool build_resnet(ClipTower *t, const Json *j, const char *file, const Weights *w, Arena *weights, Status *s)
{
    ClipResnetConfig c;
    t->resnet = true;
    if (!(j ? clip_resnet_config(&c, j, file, s) : clip_resnet_config_of(&c, w, s)) || !clip_resnet_build(&t->rn, &c, weights, s)) return false;
    t->size = c.image;
    t->width = c.projection;
    return true;
}

static bool build_vit(ClipTower *t, const Json *j, const char *file, const Weights *w, Arena *weights, Status *s)
{
    ClipImageConfig c;
    bool openai = named(w, "visual.class_embedding");
    if (!(j ? clip_image_config(&c, j, file, s) : clip_image_config_of(&c, w, s))) return false;
    if (!c.projection) {
        status_fail(s, E_FORMAT, "%s: architectures: a tower with a projection is wanted (CLIPModel, CLIPVisionModelWithProjection)", file);
        return false;
    }
    if (!(openai ? clip_image_build_openai : clip_image_build)(&t->vit, &c, weights, s)) return false;
    t->size = c.image;
    t->width = c.projection;
    return true;
}

void clip_tower_walk(void *tower, Walk *w)
{
    ClipTower *t = tower;
    if (t->resnet) clip_resnet_walk(&t->rn, w);
    else clip_image_walk(&t->vit, w);
}

bool clip_tower_load(ClipTower *t, const char *folder, Arena *weights, LoadReport *report, Status *s)
{
    char file[520];
    Weights w = {0};
    *t = (ClipTower){ .preprocess = preprocess_clip };
    snprintf(file, sizeof file, "%.500s/config.json", folder);
    const Json *j = file_exists(file) ? json_load(weights, file, s) : NULL, *kind = json_get(j, "kind");
    bool good = s->code == OK && weights_open(&w, folder, "model", s);
    if (good && kind && !json_is(kind, "clip_vision") && !json_is(kind, "clip_resnet")) {
        status_fail(s, E_FORMAT, "%s: kind: expected \"clip_vision\" or \"clip_resnet\", found \"%.60s\"", file, kind->kind == JSON_STRING ? kind->text : "");
        good = false;
    }
    bool resnet = kind ? json_is(kind, "clip_resnet") : !j && named(&w, "visual.attnpool.positional_embedding");
    good = good && (resnet ? build_resnet : build_vit)(t, j, file, &w, weights, s) && params_load(clip_tower_walk, t, &w, weights, report, s)
        && preprocess_read(&t->preprocess, folder, weights, s);
    weights_close(&w);
    return good;
}

void clip_tower_forward(Run *r, const ClipTower *t, Tensor embeds, ClipTowerPass *p, Tensor pixels)
{
    Tensor none = {0};
    if (t->resnet) clip_resnet_forward(r, &t->rn, embeds, &p->rn, pixels);
    else clip_image_forward(r, &t->vit, none, none, embeds, &p->vit, pixels);
}

void clip_tower_backward(Run *r, ClipTower *t, Tensor dpixels, Tensor dembeds, const ClipTowerPass *p)
{
    Tensor none = {0};
    if (t->resnet) clip_resnet_backward(r, &t->rn, dpixels, dembeds, &p->rn);
    else clip_image_backward(r, &t->vit, dpixels, none, none, dembeds, &p->vit);
}

/* The tower keeps its pixels by value: they may be temporary. */
void clip_tower_embed(Run *r, const ClipTower *t, Tensor embeds, ClipTowerPass *p, Tensor image)
{
    size_t mark = r->temp->used;
    Tensor pixels = temp(r, SHAPE(image.s.d[0], 3, t->size, t->size));
    if (run_ok(r)) preprocess_forward(r, &t->preprocess, pixels, image);
    if (run_ok(r)) clip_tower_forward(r, t, embeds, p, pixels);
    arena_release(r->temp, mark);
}

void clip_tower_embed_backward(Run *r, ClipTower *t, Tensor dimage, Tensor dembeds, const ClipTowerPass *p)
{
    size_t mark = r->temp->used;
    Tensor dpixels = temp(r, SHAPE(dimage.s.d[0], 3, t->size, t->size));
    if (run_ok(r)) clip_tower_backward(r, t, dpixels, dembeds, p);
    if (run_ok(r)) preprocess_backward(r, &t->preprocess, dimage, dpixels);
    arena_release(r->temp, mark);
}
