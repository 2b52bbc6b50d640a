/* edit_metadata.c -- what a guided picture says about how it was made.  Members are named as the options are, with '_' for '-', and
 * params.c turns them into options again. */
#include <string.h>
#include "ref/edit.h"

/* By EditKind, as the options are called. */
static const char *const edit_name[] = { "keep", "move", "resize", "layout", "look", "reweight", "blend", "blend-not", "window", "insert", "collage" };

static void methods(JsonOut *o, const GuidedRequest *q)
{
    json_open(o, "methods", '[');
    for (int k = 0; k < q->methods; k++) {
        json_open(o, NULL, '{');
        json_text(o, "name", q->method[k].info->name);
        for (int i = 0; i < q->method[k].info->options; i++) json_real(o, q->method[k].info->option[i].name, q->method[k].number[i], 9);
        json_close(o, '}');
    }
    json_close(o, ']');
}

static void edits(JsonOut *o, const GuidedRequest *q)
{
    json_open(o, "edits", '[');
    for (int i = 0; i < q->edits; i++) {
        if (q->edit[i].picture) continue;
        json_open(o, NULL, '{');
        json_text(o, "kind", edit_name[q->edit[i].kind]);
        json_text(o, "word", q->edit[i].word);
        json_real(o, "x", q->edit[i].x, 9);
        json_real(o, "y", q->edit[i].y, 9);
        json_close(o, '}');
    }
    json_close(o, ']');
}

static void deltas(JsonOut *o, const EditRun *w)
{
    char name[200];
    if (!w->deltas.n) return;
    json_open(o, "deltas", '[');
    for (int k = 0; k < w->deltas.n; k++) {
        json_open(o, NULL, '{');
        json_text(o, "file", base_name(w->deltas.file[k], name, sizeof name));
        json_real(o, "weight", w->deltas.weight[k], 9);
        json_close(o, '}');
    }
    json_close(o, ']');
}

/* Texts as given; "WORD=a/b.png" becomes "WORD=b.png" where the rest is a file. */
static void texts(JsonOut *o, const char *name, const TextList *list, bool files)
{
    char file[200], text[400];
    if (!list->n) return;
    json_open(o, name, '[');
    for (int i = 0; i < list->n; i++) {
        const char *equals = files ? strchr(list->text[i], '=') : NULL;
        if (equals) snprintf(text, sizeof text, "%.*s=%s", (int)(equals - list->text[i]), list->text[i], base_name(equals + 1, file, sizeof file));
        json_text(o, NULL, equals ? text : list->text[i]);
    }
    json_close(o, ']');
}

static void mixing(JsonOut *o, const Edit *e)
{
    for (int i = 0; i < CFG_RESCALE; i++) {
        char name[40];
        const MethodOption *m = &method_cfg.option[i];
        if (!(e->mixing[i] < m->value || e->mixing[i] > m->value)) continue;
        snprintf(name, sizeof name, "%s", m->name);
        for (char *c = name; *c; c++)
            if (*c == '-') *c = '_';
        json_real(o, name, e->mixing[i], 9);
    }
}

void edit_members(JsonOut *o, const void *run)
{
    const EditRun *w = run;
    const Edit *e = w->e;
    const GuidedRequest *q = &w->request;
    char name[200];
    methods(o, q);
    edits(o, q);
    deltas(o, w);
    texts(o, "insert", &e->insert, true);
    texts(o, "collage", &e->collage, true);
    texts(o, "box", &e->box, false);
    texts(o, "mask", &e->mask, true);
    texts(o, "compose", &e->compose, false);
    mixing(o, e);
    if (e->objects) json_text(o, "objects", e->objects);
    if (q->source_prompt) json_text(o, "source_prompt", q->source_prompt);
    if (q->from) json_text(o, "source", q->from);
    if (q->to) json_text(o, "target", q->to);
    if (q->from_file) json_text(o, "source_sentences", base_name(q->from_file, name, sizeof name));
    if (q->to_file) json_text(o, "target_sentences", base_name(q->to_file, name, sizeof name));
    if (e->source_seed.given) json_integer(o, "source_seed", (int64_t)e->source_seed.value);
    if (!e->image) return;
    json_text(o, "init_image", base_name(e->image, name, sizeof name));
    json_text(o, "init_image_sha256", w->image_sha256);
    json_text(o, "fit", e->fit == FIT_PAD ? "pad" : e->fit == FIT_STRETCH ? "stretch" : "crop");
    json_text(o, "start", e->start ? "inverted" : "own");
}

Metadata edit_metadata(const EditRun *w, uint64_t seed)
{
    return (Metadata){ .request = &w->request.base, .folder = w->folder, .math = common_math(&w->e->common), .kernels = w->p->run.k->name,
                       .schedule = &w->p->schedule, .weights = &w->hashes, .latents_sha256 = w->e->latents ? w->latents_sha256 : NULL, .method = "edit",
                       .sampler = w->request.sampler == SAMPLER_DDPM ? "DDPM" : NULL, .more = edit_members, .user = w, .image = w->image, .seed = seed };
}
