/* diffuseit_text.c -- what two phrases are to a tower: the mean over templates of its text features, made unit at the end. */
#include <stdio.h>
#include <string.h>
#include "ref/diffuseit_text.h"
#include "ref/words.h"
#include "tensor/file.h"
#include "tensor/point.h"

enum { TEMPLATES_MOST = 400 };

/* "a photo of a {}." -> "a photo of a cat." */
static char *filled(Arena *a, const char *template, const char *phrase)
{
    const char *hole = strstr(template, "{}");
    size_t before = hole ? (size_t)(hole - template) : strlen(template), n = strlen(phrase), room = strlen(template) + n + 1;
    char *s = arena_take(a, room);
    if (s) snprintf(s, room, "%.*s%s%s", (int)before, template, hole ? phrase : "", hole ? hole + 2 : "");
    return s;
}

/* features [width] += those of one sentence, not made unit */
static void add_sentence(Run *r, const ClipText *m, const Tokenizer *t, Tensor features, const char *sentence)
{
    size_t mark = r->temp->used;
    int T = tokenizer_length(t) < m->config.positions ? tokenizer_length(t) : m->config.positions, dropped;
    int *ids = arena_take(r->temp, (size_t)T * sizeof *ids);
    ClipTextPass pass;
    Tensor x = temp(r, SHAPE(1, T, m->config.width)), e = temp(r, SHAPE(1, tensor_count(features) ? features.s.d[0] : 1));
    memset(&pass, 0, sizeof pass);
    if (!ids) run_fail(r, E_MEMORY, "out of memory: the ids of a sentence");
    if (run_ok(r) && tokenizer_encode(t, r->temp, sentence, strlen(sentence), ids, T, &dropped, &r->status)) {
        clip_text_embed(r, m, x, ids);
        clip_text_forward(r, m, (Tensor){0}, (Tensor){0}, e, &pass, x, ids, 0);
        add(r, features, tensor_row(e, 0));
    }
    arena_release(r->temp, mark);
}

static void features_of(Run *r, const ClipText *m, const Tokenizer *t, Tensor features, const char *phrase, const char *const *template, int n)
{
    size_t mark = r->temp->used;
    if (run_ok(r)) tensor_zero(features);
    for (int i = 0; i < n && run_ok(r); i++) {
        const char *sentence = filled(r->temp, template[i], phrase);
        if (sentence) add_sentence(r, m, t, features, sentence);
        else run_fail(r, E_MEMORY, "out of memory: a sentence");
    }
    if (run_ok(r)) scale(r, features, (real)(1 / sqrt(dot(r, features, features))), features, 0);
    arena_release(r->temp, mark);
}

bool diffuseit_texts(Run *r, Tensor to, Tensor from, const char *folder, const Tokenizer *t, const char *target, const char *source, const char *templates)
{
    static const char *const bare[] = { "{}" };
    Arena weights = {0}, lines = {0};
    ClipText m;
    LoadReport report = {0};
    const char **line = arena_take(&lines, TEMPLATES_MOST * sizeof *line);
    int n = templates && line ? text_lines(line, TEMPLATES_MOST, &lines, templates, &r->status) : 0;
    if (!line) run_fail(r, E_MEMORY, "out of memory: templates");
    if (run_ok(r) && templates && !n) run_fail(r, E_FORMAT, "%s: no template in it", templates);
    if (run_ok(r) && model_load_text(&m, folder, &weights, &report, &r->status)) {
        if (m.config.projection != to.s.d[0])
            run_fail(r, E_FORMAT, "%s: text features of %d numbers, picture embeddings of %d: a folder with both towers of one CLIP is wanted", folder, m.config.projection, to.s.d[0]);
        else {
            features_of(r, &m, t, to, target, templates ? line : bare, templates ? n : 1);
            features_of(r, &m, t, from, source, templates ? line : bare, templates ? n : 1);
        }
    }
    arena_free(&weights);
    arena_free(&lines);
    return run_ok(r);
}
