#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/edit.h"
#include "ref/maps_picture.h"
#include "ref/plot.h"
#include "tensor/file.h"
#include "tensor/safetensors.h"

void edit_numbered(const EditRun *w, char *to, size_t room, const char *path) { output_numbered(to, room, path, w->image, w->e->count, 0); }

bool edit_preview(EditRun *w, int step, Tensor x0)
{
    char path[1200];
    int W, H;
    size_t mark = w->p->run.run->used, own = w->arena.used;
    output_numbered(path, sizeof path, w->e->output, w->image, w->e->count, step);
    progress_clear(&w->progress);
    x0.s = SHAPE(1, x0.s.d[0], x0.s.d[1], x0.s.d[2]);
    const uint8_t *rgb = pipeline_decode(w->p, x0, &W, &H);
    Image m = { (uint8_t *)(uintptr_t)rgb, H, W, false };
    bool good = rgb && image_save(path, &w->arena, &m, NULL, 0, NULL, &w->status);
    arena_release(&w->arena, own);
    arena_release(w->p->run.run, mark);
    return good;
}

/* ---- maps ---- */

static bool has_map(const Guided *g, int k) { return g->maps_seen && g->map[k].x && g->words.span[k][1] > g->words.span[k][0]; }

/* DIR/02-cat.png: the place among the prompt's words, and what of the word fits a file name. */
static bool save_maps(EditRun *w, const Image *result)
{
    const Guided *g = w->guided;
    if (!folder_make(w->e->maps, &w->status)) return false;
    for (int k = 0; k < g->words.words && w->status.code == OK; k++) {
        char word[40], path[1300], number[20] = "";
        size_t n = 0;
        for (const char *p = g->words.word[k]; *p && n < sizeof word - 1; p++)
            if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", *p)) word[n++] = *p;
        word[n] = 0;
        if (!has_map(g, k)) continue;
        if (w->e->count > 1) snprintf(number, sizeof number, "%d-", w->image);
        snprintf(path, sizeof path, "%.1100s/%s%02d-%s.png", w->e->maps, number, k + 1, n ? word : "word");
        size_t mark = w->arena.used;
        Image m = map_picture(&w->arena, result, g->map[k], &w->status);
        if (m.rgb) image_save(path, &w->arena, &m, NULL, 0, NULL, &w->status);
        arena_release(&w->arena, mark);
    }
    if (w->status.code == OK) console_note(&w->console, "%s: a map of each of %d words", w->e->maps, g->words.words);
    return w->status.code == OK;
}

/* The words of the prompt that an object covers. */
static int words_under(const Guided *g, const Object *o, int *word, int n, int most)
{
    for (int k = 0; k < g->words.words && n < most; k++) {
        bool here = false;
        for (int t = 0; t < o->tokens; t++) here |= o->token[t] >= g->words.span[k][0] && o->token[t] < g->words.span[k][1];
        if (here && has_map(g, k) && (!n || word[n - 1] != k)) word[n++] = k;
    }
    return n;
}

/* The words that the strip shows: the objects of the run; without any, the nouns of the prompt, else its last word.  At most 3. */
static int shown_words(EditRun *w, int word[3])
{
    const Guided *g = w->guided;
    const char *noun[3];
    int n = 0, nouns = g->objects ? 0 : words_nouns(noun, 3, &w->arena, w->nouns, guided_prompt(&w->request), &w->status);
    for (int o = 0; o < g->objects; o++) n = words_under(g, &g->object[o], word, n, 3);
    for (int i = 0; i < nouns; i++) {
        Object o;
        if (words_find(&o, &w->arena, w->p->model.tokenizer, noun[i], guided_prompt(&w->request), NULL, false, &w->status)) n = words_under(g, &o, word, n, 3);
    }
    for (int k = g->words.words - 1; k >= 0 && !n; k--)
        if (has_map(g, k)) word[n++] = k;
    return n;
}

/* The picture before: of the file, of the reference that went along, or the same seed without the methods. */
static bool source_picture(EditRun *w, Image *m, uint64_t seed)
{
    Guided *g = w->guided;
    Tensor z = g->source_z;
    int W, H;
    if (w->picture.rgb) {
        *m = w->picture;
        return true;
    }
    if (z.x) z.s = SHAPE(1, z.s.d[0], z.s.d[1], z.s.d[2]);
    else if (!guided_sample(g, &z, seed, true)) return false;
    const uint8_t *rgb = pipeline_decode(w->p, z, &W, &H);
    if (rgb) *m = (Image){ (uint8_t *)(uintptr_t)rgb, H, W, false };
    return rgb;
}

static bool save_strip(EditRun *w, const Image *result, uint64_t seed)
{
    Image part[5] = { { 0 }, *result };
    char path[1200];
    int word[3], n = shown_words(w, word);
    if (!source_picture(w, &part[0], seed)) return false;
    for (int i = 0; i < n && w->status.code == OK; i++) part[2 + i] = map_picture(&w->arena, result, w->guided->map[word[i]], &w->status);
    if (w->status.code != OK) return false;
    Image all = pictures_joined(&w->arena, part, 2 + n, false, &w->status);
    edit_numbered(w, path, sizeof path, w->e->strip);
    if (!all.rgb || !image_save(path, &w->arena, &all, NULL, 0, NULL, &w->status)) return false;
    console_note(&w->console, "%s: source, result%s", path, n ? ", attention" : "");
    return true;
}

/* ---- all of one picture ---- */

static bool save_result(EditRun *w, const Image *m, uint64_t seed)
{
    char path[1200], hex[65];
    PngText texts[METADATA_TEXTS];
    JsonOut o = {0};
    int n = w->e->no_metadata ? 0 : METADATA_TEXTS;
    edit_numbered(w, path, sizeof path, w->e->output);
    if (n && !w->hashes.files && !weights_hash(&w->hashes, w->folder, &w->status)) return false;
    Metadata about = edit_metadata(w, seed);
    if (n && !metadata_texts(texts, &w->arena, &about, &w->status)) return false;
    if (!image_save(path, &w->arena, m, texts, n, hex, &w->status)) return false;
    console_note(&w->console, "%s", path);
    console_event(&o, "image");
    json_text(&o, "path", path);
    json_integer(&o, "image", w->image);
    json_integer(&o, "seed", (int64_t)seed);
    json_text(&o, "sha256", hex);
    console_send(&w->console, &o);
    return true;
}

static bool save_latents(EditRun *w, const char *path, Tensor z)
{
    SafeOut t = { "latents", sizeof(real) == 8 ? T_F64 : T_F32, 4, { 1, z.s.d[1], z.s.d[2], z.s.d[3] }, z.x, true };
    return safetensors_save(path, &t, 1, NULL, 0, &w->status);
}

static bool save_plot(EditRun *w)
{
    char path[1200], title[200] = "";
    for (int k = 0; k < w->request.methods; k++) {
        size_t used = strlen(title);
        snprintf(title + used, sizeof title - used, "%s%s", k ? " + " : "", w->request.method[k].info->name);
    }
    edit_numbered(w, path, sizeof path, w->e->plot);
    if (!plot_save(path, w->guided->report, w->guided->reports, title, &w->status)) return false;
    console_note(&w->console, "%s: energy and push per step", path);
    return true;
}

static bool keep_gradual(EditRun *w, const Image *m)
{
    size_t n = 3 * (size_t)m->W * (size_t)m->H;
    Image *to = &w->gradual[w->image];
    *to = (Image){ arena_take(&w->arena, n), m->H, m->W, false };
    if (!to->rgb) status_fail(&w->status, E_MEMORY, "out of memory: a strip");
    else memcpy(to->rgb, m->rgb, n);
    w->done++;
    return to->rgb;
}

bool edit_gradual_strip(EditRun *w)
{
    Image all = pictures_joined(&w->arena, w->gradual, w->e->count, false, &w->status);
    if (!all.rgb || !image_save(w->e->strip, &w->arena, &all, NULL, 0, NULL, &w->status)) return false;
    console_note(&w->console, "%s: strengths from %g to %g", w->e->strip, w->deltas.from, w->deltas.to);
    return true;
}

bool edit_outputs(EditRun *w, Tensor z, uint64_t seed)
{
    char path[1200];
    int W, H;
    const uint8_t *rgb = pipeline_decode(w->p, z, &W, &H);
    Image m = { (uint8_t *)(uintptr_t)rgb, H, W, false };
    size_t mark = w->arena.used;
    if (!rgb || !save_result(w, &m, seed)) return false;
    edit_numbered(w, path, sizeof path, w->e->save_latents ? w->e->save_latents : "");
    if (w->e->save_latents && !save_latents(w, path, z)) return false;
    if (w->e->plot && !save_plot(w)) return false;
    if (w->e->maps && !save_maps(w, &m)) return false;
    if (!isnan(w->deltas.from)) return keep_gradual(w, &m);
    if (w->e->strip && !save_strip(w, &m, seed)) return false;
    arena_release(&w->arena, mark);
    w->done++;
    return true;
}

bool edit_reconstruction(EditRun *w)
{
    Image part[2] = { w->picture, { (uint8_t *)(uintptr_t)w->guided->reconstruction, w->picture.H, w->picture.W, false } };
    Image all = pictures_joined(&w->arena, part, 2, false, &w->status);
    return all.rgb && image_save(w->e->strip, &w->arena, &all, NULL, 0, NULL, &w->status);
}

bool edit_keep_last(EditRun *w)
{
    const Guided *g = w->guided;
    char path[1300];
    const char *dot = strrchr(w->e->output, '.'), *slash = strrchr(w->e->output, '/');
    if (!g || !g->last.x || g->p->run.status.code != E_NUMBER) return false;
    size_t stem = dot && (!slash || dot > slash) ? (size_t)(dot - w->e->output) : strlen(w->e->output);
    snprintf(path, sizeof path, "%.*s-last-good.safetensors", (int)(stem < 1000 ? stem : 1000), w->e->output);
    Tensor z = g->last;
    z.s = SHAPE(1, z.s.d[0], z.s.d[1], z.s.d[2]);
    if (!save_latents(w, path, z)) return false;
    console_note(&w->console, "%s: the last finite latent, after step %d of %d", path, g->last_step, g->schedule.n);
    return true;
}
