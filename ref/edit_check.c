/* edit_check.c -- what can be refused before a model is read. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "ref/edit.h"

static bool not_png(const char *path)
{
    static const char *const other[] = { ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff" };
    const char *dot = path ? strrchr(path, '.') : NULL;
    for (int i = 0; dot && i < 7; i++)
        if (!strcasecmp(dot, other[i])) return true;
    return false;
}

/* ---- options that no chosen method reads ---- */

static bool reads(const MethodRows *m, unsigned what)
{
    for (int k = 0; k < m->methods; k++)
        if (m->info[k]->needs & what) return true;
    return false;
}

/* "self-guidance", "self-guidance and multi", "a, b and c": the methods that read it. */
static void readers(char *to, size_t room, unsigned what)
{
    const char *name[64];
    int n = 0;
    for (int i = 0; methods_all[i] && n < 64; i++)
        if (methods_all[i]->needs & what) name[n++] = methods_all[i]->name;
    *to = 0;
    for (int i = 0; i < n; i++) {
        size_t used = strlen(to);
        snprintf(to + used, room - used, "%s%s", i == 0 ? "" : i == n - 1 ? " and " : ", ", name[i]);
    }
}

static void unread(const MethodRows *m, const char *option, unsigned what, const char *verb, Status *s)
{
    char who[600], those[300] = "";
    readers(who, sizeof who, what);
    for (int k = 0; k < m->methods; k++) {
        size_t used = strlen(those);
        snprintf(those + used, sizeof those - used, "%s%s", k ? " and " : "", m->info[k]->name);
    }
    if (!m->methods) status_fail(s, E_OPTION, "%s: --%s without a method that reads it; %s would, as --method NAME", verb, option, who);
    else status_fail(s, E_OPTION, "--%s: %s would ignore it; methods that read it: %s", option, those, who);
}

static void check_read(const Edit *e, const MethodRows *m, const char *verb, Status *s)
{
    bool inverted = e->image && e->start;
    const struct { bool given; const char *option; unsigned what; } row[] = {
        { e->move.n,           "move",          READS(EDIT_MOVE) },
        { e->resize.n,         "resize",        READS(EDIT_RESIZE) },
        { e->layout.n,         "layout",        READS(EDIT_SHAPE) },
        { e->look.n,           "look",          READS(EDIT_APPEARANCE) },
        { e->keep.n,           "keep",          READS(EDIT_KEEP) },
        { e->reweight.n,       "reweight",      READS(EDIT_REWEIGHT) },
        { e->blend.n,          "blend",         READS(EDIT_BLEND) },
        { e->apart.n,          "blend-not",     READS(EDIT_APART) },
        { e->window.n,         "window",        READS(EDIT_WINDOW) },
        { e->insert.n,         "insert",        READS(EDIT_INSERT) },
        { e->collage.n,        "collage",       READS(EDIT_COLLAGE) },
        { e->box.n,            "box",           READS_BOX },
        { e->mask.n,           "mask",          READS_MASK },
        { e->source_seed.given, "source-seed",  READS_SOURCE_SEED },
        { e->source && e->target, "source",     NEED_DIRECTION },
        { e->source_sentences, "source-sentences", NEED_DIRECTION },
        { e->image && !inverted, "image",       NEED_SOURCE | NEED_IMAGE | NEED_INVERSION },
        { e->cache && !inverted, "cache",       NEED_INVERSION },
        { e->source_prompt && e->prompt && !inverted, "source-prompt", NEED_SOURCE | NEED_IMAGE | NEED_INVERSION },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row && s->code == OK; i++)
        if (row[i].given && !reads(m, row[i].what)) unread(m, row[i].option, row[i].what, verb, s);
    bool objects = e->strip || e->maps;
    for (int k = 0; k < m->methods; k++) objects |= m->info[k]->objects;
    if (e->objects && !objects) status_fail(s, E_OPTION, "--objects: %s would ignore it; it names what --maps and --strip show, and what a method works on that has objects",
                                            m->methods ? m->info[0]->name : verb);
    if (e->apart.n && !e->blend.n) status_fail(s, E_OPTION, "--blend-not goes with --blend, which says where to change the picture");
}

bool edit_check(const Edit *e, const MethodRows *m, const char *verb, Status *s)
{
    const char *const text[] = { e->prompt, e->negative, e->source_prompt, e->objects, e->source, e->target };
    for (int i = 0; i < 6; i++)
        if (text[i] && !utf8_valid(text[i])) status_fail(s, E_OPTION, "%s: a text is not valid UTF-8", verb);
    for (int i = 0; i < e->compose.n; i++)
        if (!utf8_valid(e->compose.text[i])) status_fail(s, E_OPTION, "--compose: the text is not valid UTF-8");
    if (!e->prompt && !e->source_prompt && !e->source) status_fail(s, E_OPTION, "%s: --prompt is missing", verb);
    if (!e->source != !e->target) status_fail(s, E_OPTION, "--source and --target belong together");
    if (!e->source_sentences != !e->target_sentences) status_fail(s, E_OPTION, "--source-sentences and --target-sentences belong together");
    if (e->image && e->latents) status_fail(s, E_OPTION, "--image and --latents both name a start");
    if (e->image && e->source_seed.given) status_fail(s, E_OPTION, "--image and --source-seed both name a source");
    if (e->image && e->count > 1 && e->start && !e->deltas.gradual) status_fail(s, E_OPTION, "--num-images: from an inversion all pictures would be the same");
    if (!e->image && (e->start || e->cache)) status_fail(s, E_OPTION, "--%s is about a photo; --image names it", e->start ? "start" : "cache");
    if (e->deltas.gradual && (e->count < 2 || e->count > GRADUAL_MOST)) status_fail(s, E_OPTION, "--gradual: --num-images from 2 to %d is wanted", GRADUAL_MOST);
    if (e->sampler && e->eta > 0) status_fail(s, E_OPTION, "--eta is about DDIM; ddpm draws noise of its own");
    if (not_png(e->output)) status_fail(s, E_OPTION, "--output: pictures are written as PNG, found \"%.200s\"", e->output);
    if (not_png(e->strip)) status_fail(s, E_OPTION, "--strip: pictures are written as PNG, found \"%.200s\"", e->strip);
    if (s->code == OK) check_read(e, m, verb, s);
    return s->code == OK;
}
