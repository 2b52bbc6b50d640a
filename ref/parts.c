#include <stdio.h>
#include <string.h>
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
    static WalkModel *const walk[PARTS] = { unet_walk, vae_walk, clip_text_walk };
    void *const model[PARTS] = { &t->unet, &t->vae, &t->text };
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

bool parts_open(Parts *t, const char *folder, Status *s)
{
    bool any = false;
    memset(t, 0, sizeof *t);
    t->part[PART_UNET] = (Part){ .folder = "unet", .stem = "diffusion_pytorch_model" };
    t->part[PART_VAE] = (Part){ .folder = "vae", .stem = "diffusion_pytorch_model" };
    t->part[PART_TEXT] = (Part){ .folder = "text_encoder", .stem = "model" };
    for (int i = 0; i < PARTS; i++) {
        if (!open_part(t, i, folder, s)) return false;
        any = any || t->part[i].there;
    }
    if (!any) status_fail(s, E_FILE, "%s: no unet, vae or text_encoder folder in it: not a model folder", folder);
    return any;
}

void parts_close(Parts *t) { arena_free(&t->arena); }
