/* objects_build.c -- which layers and which tokens, from words and a network. */
#include <string.h>
#include "guidance/maps.h"
#include "guidance/objects.h"

typedef struct { const char *patterns; int queries; int sites; char *list; size_t size, room; } Finding;

static void find(void *self, SiteKind kind, const char *path, Shape shape)
{
    Finding *f = self;
    if (kind != SITE_PROBS || shape.d[2] != f->queries || !site_matches(f->patterns, path)) return;
    size_t n = strlen(path), comma = f->size > 0;
    if (f->list && f->size + comma + n < f->room) {
        if (comma) f->list[f->size] = ',';
        memcpy(f->list + f->size + comma, path, n + 1);
    }
    f->size += comma + n;
    f->sites++;
}

const char *objects_sites(Run *r, const MethodInput *in, const char *patterns, int h, int w)
{
    Finding f = { .patterns = patterns, .queries = h * w };
    unet_sites(in->unet, in->h, in->w, in->cond.s.d[0], find, &f);
    if (!f.size) {
        run_fail(r, E_OPTION, "the network has no cross-attention of size %d x %d in a latent of %d x %d (%s): choose another number of halvings",
                 h, w, in->h, in->w, patterns);
        return NULL;
    }
    f.room = f.size + 1;
    f.size = 0;
    f.list = arena_take(r->run, f.room);
    if (f.list) unet_sites(in->unet, in->h, in->w, in->cond.s.d[0], find, &f);
    else run_fail(r, E_MEMORY, "out of memory: attention sites");
    return f.list;
}

static void halved(const MethodInput *in, int times, int *h, int *w)
{
    *h = in->h;
    *w = in->w;
    for (int k = 0; k < times; k++) {
        *h = (*h + 1) / 2;
        *w = (*w + 1) / 2;
    }
}

/* Stable Diffusion's level is a quarter of the latent; a smaller network may have attention on larger ones only. */
static int usual_level(const MethodInput *in)
{
    for (int k = 2; k > 0; k--) {
        Finding f = { .patterns = "*attn2" };
        int h, w;
        halved(in, k, &h, &w);
        f.queries = h * w;
        unet_sites(in->unet, in->h, in->w, in->cond.s.d[0], find, &f);
        if (f.sites > 1) return k;
    }
    return 0;
}

bool objects_of(Run *r, Objects *o, const MethodInput *in, int halvings, bool apart)
{
    *o = (Objects){ .sharp = 100, .smooth = true };
    halved(in, halvings < 0 ? usual_level(in) : halvings, &o->h, &o->w);
    o->want = (Want){ SEE_PROBS, objects_sites(r, in, "*attn2", o->h, o->w) };
    for (int k = 0; k < in->objects && run_ok(r); k++)
        for (int i = 0; i < in->object[k].tokens; i++) {
            int c = o->groups;
            if (apart || !i) o->groups++;
            else c--;
            if (c == MOST_GROUPS) {
                run_fail(r, E_OPTION, "more than %d objects to guide", MOST_GROUPS);
                return false;
            }
            o->of[c] = k;
            if (o->size[c] < OBJECT_TOKENS) o->group[c][o->size[c]++] = in->object[k].token[i];
        }
    if (!o->groups) run_fail(r, E_OPTION, "no object to guide: name them, as they stand in the prompt");
    return run_ok(r);
}

void objects_branches(Branch b[2], const MethodInput *in)
{
    b[0] = (Branch){ .name = "uncond", .context = in->uncond, .mix = mix_uncond, .par = { in->scale } };
    b[1] = (Branch){ .name = "cond", .context = in->cond, .mix = mix_cond, .par = { in->scale }, .watch = true };
}
