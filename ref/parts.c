#include <stdio.h>
#include <string.h>
#include "nn/names.h"
#include "ref/parts.h"

static bool build(Parts *t, int which, const char *file, Status *s)
{
    const Json *j = json_load(&t->arena, file, s);
    UnetConfig u;
    VaeConfig v;
    ClipTextConfig c;
    memset(&u, 0, sizeof u);
    memset(&v, 0, sizeof v);
    memset(&c, 0, sizeof c);
    if (!j) return false;
    if (which == PART_UNET) return unet_config(&u, j, file, s) && unet_build(&t->unet, &u, &t->arena, s);
    if (which == PART_VAE) return vae_config(&v, j, file, s) && vae_build(&t->vae, &v, &t->arena, s);
    return clip_text_config(&c, j, file, s) && clip_text_build(&t->text, &c, &t->arena, s);
}

static void count_files(Part *p, const Weights *w)
{
    p->files = w->files;
    for (int i = 0; i < w->files; i++) {
        p->bytes += w->file[i].file.size;
        for (int k = 0; k < w->file[i].entries; k++) {
            const char *name = dtype_name(w->file[i].entry[k].type);
            if (!p->dtype) p->dtype = name;
            else if (strcmp(p->dtype, name)) p->dtype = "mixed";
        }
    }
}

static bool open_part(Parts *t, int which, const char *folder, Status *s)
{
    static WalkModel *const walk[] = { unet_walk, vae_walk, clip_text_walk };
    void *const model[] = { &t->unet, &t->vae, &t->text };
    Part *p = &t->part[which];
    char path[1200], file[1300];
    Weights w;
    snprintf(path, sizeof path, "%s/%s", folder, p->folder);
    if (!folder_exists(path)) return true;
    snprintf(file, sizeof file, "%s/config.json", path);
    if (!build(t, which, file, s) || !weights_open(&w, path, p->stem, s)) return false;
    p->there = true;
    p->numbers = params_count(walk[which], model[which], &p->tensors);
    count_files(p, &w);
    weights_close(&w);
    return true;
}

/* The names in the files that the network does not have. */
static void list_unused(Part *p, WalkModel *walk, void *model, const Weights *w, int most, Arena *a, Status *s)
{
    p->unused = arena_take(a, (size_t)most * sizeof *p->unused);
    for (int i = 0; p->unused && i < w->files; i++)
        for (int k = 0; k < w->file[i].entries && p->surplus < most; k++) {
            const char *name = w->file[i].entry[k].name;
            if (names_ignored(name) || params_find(walk, model, name)) continue;
            char *copy = arena_take(a, strlen(name) + 1);
            if (copy) p->unused[p->surplus++] = strcpy(copy, name);
            else p->unused = NULL;
            if (!copy) break;
        }
    if (!p->unused) status_fail(s, E_MEMORY, "%s: no memory for %d names", p->folder, most);
}

/* Its names are compared with the file's: what is missing or misshapen fails here already. */
static bool open_pixel(Parts *t, const char *folder, Status *s)
{
    bool classifier = t->pixel == PIXEL_ADM_CLASSIFIER;
    WalkModel *walk = classifier ? adm_classifier_walk : unet_walk;
    void *model = classifier ? (void *)&t->classifier : &t->unet;
    Part *p = &t->part[classifier ? PART_CLASSIFIER : PART_UNET];
    LoadReport report;
    Weights w;
    *p = (Part){ .folder = pixel_kind_name(t->pixel), .stem = "model", .there = true };
    if (classifier ? !pixel_build_classifier(&t->classifier, folder, &t->arena, s) : !pixel_build_unet(&t->unet, folder, &t->arena, s)) return false;
    if (!weights_open(&w, folder, p->stem, s)) return false;
    if (params_check(walk, model, &w, &report, s) && report.surplus) list_unused(p, walk, model, &w, report.surplus, &t->arena, s);
    p->numbers = params_count(walk, model, &p->tensors);
    count_files(p, &w);
    weights_close(&w);
    return s->code == OK;
}

bool parts_open(Parts *t, const char *folder, Status *s)
{
    bool any = false;
    memset(t, 0, sizeof *t);
    t->pixel = pixel_kind(folder);
    if (t->pixel) return open_pixel(t, folder, s);
    t->part[PART_UNET] = (Part){ .folder = "unet", .stem = "diffusion_pytorch_model" };
    t->part[PART_VAE] = (Part){ .folder = "vae", .stem = "diffusion_pytorch_model" };
    t->part[PART_TEXT] = (Part){ .folder = "text_encoder", .stem = "model" };
    for (int i = 0; i <= PART_TEXT; i++) {
        if (!open_part(t, i, folder, s)) return false;
        any = any || t->part[i].there;
    }
    if (!any) status_fail(s, E_FILE, "%s: no unet, vae or text_encoder folder in it, nor a config.json with the kind of a "
                          "pixel-space network (data/pixel-models has some): not a model folder", folder);
    return any;
}

void parts_close(Parts *t) { arena_free(&t->arena); }
