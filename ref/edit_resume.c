/* edit_resume.c -- --resume: a picture's state beside it while it is made; pictures that are there already are left alone. */
#include <stdlib.h>
#include <string.h>
#include "ref/edit.h"
#include "tensor/file.h"
#include "tensor/hash.h"

/* The text that the finished picture will carry: equal texts, equal bytes, but for what is hashed beside it. */
static const char *text_of_run(EditRun *w, uint64_t seed)
{
    PngText texts[METADATA_TEXTS];
    if (!w->hashes.files && !weights_hash(&w->hashes, w->folder, &w->status)) return NULL;
    Metadata about = edit_metadata(w, seed);
    return metadata_texts(texts, &w->arena, &about, &w->status) ? texts[1].text : NULL;
}

/* And of the files whose names alone are in that text. */
static bool add_files(EditRun *w, Sha256 *h)
{
    const GuidedRequest *q = &w->request;
    const char *const file[] = { q->from_file, q->to_file };
    size_t bytes = 3 * (size_t)q->base.W * (size_t)q->base.H;
    char hex[65];
    for (int i = 0; i < q->edits; i++)
        if (q->edit[i].picture) sha256_add(h, q->edit[i].picture, bytes);
    for (int i = 0; i < q->masks; i++) sha256_add(h, q->mask[i].m.x, tensor_count(q->mask[i].m) * sizeof(real));
    for (int i = 0; i < 2; i++) {
        if (!file[i]) continue;
        if (!file_hash(hex, file[i], &w->status)) return false;
        sha256_add(h, hex, 64);
    }
    return true;
}

bool edit_resume(EditRun *w, uint64_t seed)
{
    Sha256 h;
    char path[1200];
    w->resume = (Resume){ .own = guided_lasts, .user = w->guided, .saved = clock_seconds() };
    if (!w->e->resume) return true;
    const char *text = text_of_run(w, seed);
    if (!text) return false;
    sha256_begin(&h);
    sha256_add(&h, text, strlen(text));
    sha256_add(&h, &(char){ w->request.maps }, 1);
    if (!add_files(w, &h)) return false;
    sha256_end(&h, w->resume.key);
    edit_numbered(w, path, sizeof path, w->e->output);
    output_name(w->resume.path, sizeof w->resume.path, path, "-resume");
    char *dot = strrchr(w->resume.path, '.');
    if (dot && !strchr(dot, '/')) *dot = 0;
    strncat(w->resume.path, ".safetensors", sizeof w->resume.path - strlen(w->resume.path) - 1);
    if (resume_find(&w->resume) > w->guided->schedule.n) w->resume.steps = 0;
    if (w->resume.steps) console_note(&w->console, "resumed: %d of %d steps are done, says %s", w->resume.steps, w->guided->schedule.n, w->resume.path);
    w->guided->resume = &w->resume;
    return true;
}

bool edit_finished(EditRun *w, uint64_t seed)
{
    enum { PICTURE_MOST = 64 << 20 };
    char path[1200];
    Status ignored = {0};
    size_t size, mark = w->arena.used;
    const Edit *e = w->e;
    bool more = e->maps || e->strip || e->plot || e->save_latents, named = e->insert.n || e->collage.n || e->mask.n || e->source_sentences;
    edit_numbered(w, path, sizeof path, w->e->output);
    if (!e->resume || more || named || e->no_metadata || !file_exists(path)) return false;
    const char *wanted = text_of_run(w, seed);
    char *bytes = file_load(path, PICTURE_MOST, &size, &ignored);
    const char *text = bytes ? png_text(&w->arena, (const uint8_t *)bytes, size, "tiller") : NULL;
    bool same = wanted && text && !strcmp(wanted, text);
    free(bytes);
    arena_release(&w->arena, mark);
    if (same) console_note(&w->console, "%s: it is there already", path);
    w->done += same;
    return same;
}
