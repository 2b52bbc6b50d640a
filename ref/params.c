#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ref/params.h"
#include "ref/png.h"
#include "tensor/file.h"
#include "tensor/json.h"

enum { PICTURE_MOST = 64 << 20, DEEPEST = 16, PICTURE_WORDS = 400 };

/* "--name=value", or "--name" for true; NULL for false, null and what has no value as an option. */
static char *word(Arena *a, const char *name, const Json *j, const char *file, Status *s)
{
    const char *value = j->kind == JSON_STRING || j->kind == JSON_NUMBER ? j->text : NULL;
    if (j->kind == JSON_FALSE || j->kind == JSON_NULL) return NULL;
    if (!value && j->kind != JSON_TRUE) {
        status_fail(s, E_FORMAT, "%s: %.80s: a text, a number or true is wanted", file, name);
        return NULL;
    }
    if (value && strlen(value) != j->length) {
        status_fail(s, E_FORMAT, "%s: %.80s: a text with a zero byte in it", file, name);
        return NULL;
    }
    size_t room = strlen(name) + (value ? j->length : 0) + 4;
    char *to = arena_take(a, room);
    if (!to) {
        status_fail(s, E_MEMORY, "%s: out of memory", file);
        return NULL;
    }
    int n = snprintf(to, room, "--%s%s%s", name, value ? "=" : "", value ? value : "");
    for (char *c = to; c < to + n && *c != '='; c++)
        if (*c == '_') *c = '-';
    return to;
}

static const Json *picture_object(Arena *a, const char *file, Status *s)
{
    size_t size;
    char *bytes = file_load(file, PICTURE_MOST, &size, s);
    const char *text = bytes ? png_text(a, (const uint8_t *)bytes, size, "tiller") : NULL;
    if (bytes && !text) status_fail(s, E_FORMAT, "%s: no values of a run in this picture", file);
    free(bytes);
    return text ? json_parse(a, text, strlen(text), DEEPEST, file, s) : NULL;
}

typedef struct { char **word; int n, most; } Words;

static void add(Words *w, char *text)
{
    if (text && w->n < w->most) w->word[w->n++] = text;
}

static char *text_of(Arena *a, const char *one, const char *two, const char *three)
{
    size_t room = strlen(one) + strlen(two) + strlen(three) + 1;
    char *to = arena_take(a, room);
    if (to) snprintf(to, room, "%s%s%s", one, two, three);
    return to;
}

/* "--method=NAME" and "--NAME-OPTION=NUMBER". */
static void add_methods(Words *w, Arena *a, const Json *list, const char *file, Status *s)
{
    for (const Json *m = list ? list->child : NULL; m; m = m->next) {
        const Json *name = json_get(m, "name");
        if (!name || name->kind != JSON_STRING) continue;
        add(w, text_of(a, "--method=", name->text, ""));
        for (const Json *j = m->child; j; j = j->next) {
            char *option = j->kind == JSON_NUMBER ? text_of(a, strcmp(name->text, "classifier-free") ? name->text : "guidance", "-", j->key) : NULL;
            if (option) add(w, word(a, option, j, file, s));
        }
    }
}

static void add_edits(Words *w, Arena *a, const Json *list)
{
    for (const Json *e = list ? list->child : NULL; e; e = e->next) {
        const Json *kind = json_get(e, "kind"), *word = json_get(e, "word"), *x = json_get(e, "x"), *y = json_get(e, "y");
        if (!kind || !word || kind->kind != JSON_STRING || word->kind != JSON_STRING || !x || !y || x->kind != JSON_NUMBER || y->kind != JSON_NUMBER) continue;
        bool pair = !strcmp(kind->text, "move") || !strcmp(kind->text, "resize") || !strcmp(kind->text, "window"), one = !strcmp(kind->text, "reweight");
        char *option = text_of(a, "--", kind->text, "="), *numbers = text_of(a, x->text, pair ? "," : "", pair ? y->text : "");
        char *left = option ? text_of(a, option, word->text, pair || one ? "=" : "") : NULL;
        if (left && numbers) add(w, pair || one ? text_of(a, left, numbers, "") : left);
    }
}

/* Learned blocks and their weights, each option once: weights belong to all of them. */
static void add_deltas(Words *w, Arena *a, const Json *list)
{
    char *weights = NULL;
    for (const Json *d = list ? list->child : NULL; d; d = d->next) {
        const Json *file = json_get(d, "file"), *weight = json_get(d, "weight");
        if (!file || !weight || file->kind != JSON_STRING || weight->kind != JSON_NUMBER) continue;
        add(w, text_of(a, "--delta=", file->text, ""));
        weights = text_of(a, weights ? weights : "--weights=", weights ? "," : "", weight->text);
    }
    add(w, weights);
}

static void add_texts(Words *w, Arena *a, const Json *j, const char *file, Status *s)
{
    static const char *const names[] = { "insert", "collage", "box", "mask", "compose" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (const Json *t = json_get(j, names[i]) ? json_get(j, names[i])->child : NULL; t; t = t->next) add(w, word(a, names[i], t, file, s));
}

/* The seed in a picture is its own; of a batch with one generator the first picture's is needed, and the whole batch. */
static void add_picture(Words *w, Arena *a, const Json *j, const char *file, Status *s)
{
    static const char *const pixel[] = { "class", "sampler", "respacing", "eta", "classifier_scale", "width", "height", "rng", "math" };
    static const char *const names[] = { "prompt", "negative", "steps", "guidance_scale", "rescale", "eta", "width", "height", "rng", "latents", "math",
                                         "interval_low", "interval_high", "projection", "norm_cap", "objects", "source_prompt", "source", "target",
                                         "source_sentences", "target_sentences", "source_seed", "init_image", "fit", "start" };
    const Json *seed = json_get(j, "seed"), *count = json_get(j, "num_images");
    bool of_pixels = json_get(j, "kind") != NULL;
    size_t rows = of_pixels ? sizeof pixel / sizeof *pixel : sizeof names / sizeof *names;
    int image = 0;
    for (size_t i = 0; i < rows; i++) {
        const char *name = of_pixels ? pixel[i] : names[i];
        if (json_get(j, name)) add(w, word(a, name, json_get(j, name), file, s));
    }
    add_methods(w, a, json_get(j, "methods"), file, s);
    add_edits(w, a, json_get(j, "edits"));
    add_deltas(w, a, json_get(j, "deltas"));
    add_texts(w, a, j, file, s);
    if (!of_pixels && json_is(json_get(j, "sampler"), "DDPM")) add(w, text_of(a, "--sampler=ddpm", "", ""));
    bool shared = json_is(json_get(j, "batch_rng"), "shared");
    if (shared && count) add(w, word(a, "num-images", count, file, s));
    if (shared) add(w, word(a, "batch-rng", json_get(j, "batch_rng"), file, s));
    if (!seed || seed->kind != JSON_NUMBER) return;
    char *text = arena_take(a, 40);
    bool whole = json_int(json_get(j, "image"), &image);
    uint64_t own = seed->text[0] == '-' ? (uint64_t)strtoll(seed->text, NULL, 10) : strtoull(seed->text, NULL, 10);
    if (text) snprintf(text, 40, "--seed=%llu", (unsigned long long)(own - (shared && whole ? (uint64_t)image : 0)));
    add(w, text);
}

/* The value of "--name FILE" or "--name=FILE"; the last one counts. */
static const char *file_asked(int argc, char **argv, const char *name)
{
    const char *found = NULL;
    size_t n = strlen(name);
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (strncmp(argv[i], name, n) || (argv[i][n] && argv[i][n] != '=')) continue;
        if (argv[i][n]) found = argv[i] + n + 1;
        else if (i + 1 < argc) found = argv[++i];
    }
    return found;
}

bool params_asked(Arena *a, int *argc, char ***argv, Status *s)
{
    const char *file = file_asked(*argc, *argv, "--params"), *picture = file_asked(*argc, *argv, "--params-from");
    return (!file && !picture) || params_expand(a, argc, argv, file, picture, s);
}

bool params_expand(Arena *a, int *argc, char ***argv, const char *json_file, const char *picture, Status *s)
{
    const Json *file = json_file ? json_load(a, json_file, s) : NULL, *old = picture ? picture_object(a, picture, s) : NULL;
    if (s->code != OK) return false;
    if (file && file->kind != JSON_OBJECT) status_fail(s, E_FORMAT, "%s: an object is wanted", json_file);
    int most = *argc + PICTURE_WORDS + (file ? file->count : 0);
    Words w = { arena_take(a, (size_t)most * sizeof *w.word), 0, most };
    if (!w.word) status_fail(s, E_MEMORY, "out of memory");
    if (s->code != OK) return false;
    add(&w, (*argv)[0]);
    if (old) add_picture(&w, a, old, picture, s);
    for (const Json *j = file ? file->child : NULL; j; j = j->next) add(&w, word(a, j->key, j, json_file, s));
    bool options = true;
    for (int i = 1; i < *argc; i++) {                     /* without what has been read now */
        const char *one = (*argv)[i];
        options = options && strcmp(one, "--");
        bool apart = options && (!strcmp(one, "--params") || !strcmp(one, "--params-from"));
        bool joined = options && (!strncmp(one, "--params=", 9) || !strncmp(one, "--params-from=", 14));
        i += apart;
        if (!apart && !joined) add(&w, (*argv)[i]);
    }
    *argc = w.n;
    *argv = w.word;
    return s->code == OK;
}
