#include <stdio.h>
#include <string.h>
#include "ref/guided.h"
#include "tensor/point.h"

enum { SENTENCES_MOST = 2000, BATCH = 16 };

static void warn(const Guided *g, const char *text)
{
    if (g->h && g->h->warning) g->h->warning(g->h->user, text);
}

static const char *source_prompt(const Guided *g)
{
    const GuidedRequest *q = g->q;
    if (q->source_prompt) return q->source_prompt;
    return q->base.prompt;
}

/* With a direction alone ("--source cat") the picture's text is "a photo of a cat". */
const char *guided_prompt(const GuidedRequest *q)
{
    return q->base.prompt ? q->base.prompt : q->source_prompt ? q->source_prompt : "";
}

/* ---- a direction of text ---- */

/* "a photo of {a} on grass" and "apple" -> "a photo of an apple on grass". */
static const char *filled(Arena *a, const char *sentence, const char *word)
{
    const char *article = strchr(sentence, '{'), *rest = article ? strchr(article, '}') : NULL;
    char text[1000];
    if (!rest) return sentence;
    const char *before = article[1] != 'a' ? "" : strchr("aeiouAEIOU", word[0]) ? "an " : "a ";
    snprintf(text, sizeof text, "%.*s%s%s%s", (int)(article - sentence), sentence, before, word, rest + 1);
    return text_copy(a, text, strlen(text));
}

/* mean (added with a sign) of the whole output of the text encoder over sentences; word NULL: they are as they are. */
static void add_mean(Guided *g, Tensor sum, const char *const *line, int n, const char *word, double sign)
{
    Pipeline *p = g->p;
    Run *r = &p->run;
    for (int first = 0; first < n && run_ok(r); first += BATCH) {
        size_t mark = r->run->used;
        const char *sentence[BATCH];
        int count = n - first < BATCH ? n - first : BATCH, dropped[BATCH];
        for (int i = 0; i < count; i++) {
            sentence[i] = word ? filled(r->run, line[first + i], word) : line[first + i];
            if (!sentence[i]) run_fail(r, E_MEMORY, "out of memory: sentences");
        }
        Tensor rows = run_ok(r) ? pipeline_text(p, sentence, count, dropped) : (Tensor){0};
        for (int i = 0; i < count && rows.x; i++) {
            Tensor row = tensor_row(rows, i);
            axpy(r, sum, (real)(sign / n), row);
        }
        arena_release(r->run, mark);
    }
}

static void add_side(Guided *g, Tensor sum, const char *file, const char *word, double sign)
{
    Run *r = &g->p->run;
    const char **line = arena_take(r->run, SENTENCES_MOST * sizeof *line);
    if (!line) run_fail(r, E_MEMORY, "out of memory: sentences");
    int n = run_ok(r) ? text_lines(line, SENTENCES_MOST, r->run, file ? file : g->q->templates, &r->status) : 0;
    if (n == 0 && run_ok(r)) run_fail(r, E_FORMAT, "%s: no sentence in it; one a line is wanted", file ? file : g->q->templates);
    if (run_ok(r)) add_mean(g, sum, line, n, file ? NULL : word, sign);
}

static void make_direction(Guided *g)
{
    const GuidedRequest *q = g->q;
    Run *r = &g->p->run;
    if (!q->from && !q->from_file) return;
    Tensor t = g->text;
    g->direction = tensor_in(r, r->run, SHAPE(t.s.d[1], t.s.d[2]));
    tensor_zero(g->direction);
    if (!run_ok(r)) return;
    size_t mark = r->run->used;
    add_side(g, g->direction, q->from_file, q->from, -1);
    add_side(g, g->direction, q->to_file, q->to, 1);
    arena_release(r->run, mark);
}

/* ---- objects and edits ---- */

static int object_named(const Guided *g, const char *word)
{
    for (int i = 0; i < g->objects; i++)
        if (!strcmp(g->object[i].word, word)) return i;
    return -1;
}

static int add_object(Guided *g, const char *word, bool either)
{
    Run *r = &g->p->run;
    int k = object_named(g, word);
    if (k >= 0) return k;
    if (g->objects == WORDS_OBJECTS) run_fail(r, E_OPTION, "more than %d objects", WORDS_OBJECTS);
    if (!run_ok(r)) return 0;
    if (!words_find(&g->object[g->objects], r->run, g->p->model.tokenizer, word, guided_prompt(g->q), source_prompt(g), either, &r->status)) return 0;
    return g->objects++;
}

/* A picture that an object comes from shows "a photo of a cat"; returns 1 + its place. */
static int add_picture(Guided *g, const GuidedEdit *e)
{
    Run *r = &g->p->run;
    const char *word = text_copy(r->run, e->word, strcspn(e->word, "#")), *text = word ? filled(r->run, "a photo of {a}", word) : NULL;
    ObjectPicture *p = &g->own[g->owns];
    Object o;
    int dropped;
    if (g->owns == GUIDED_PICTURES) run_fail(r, E_OPTION, "more than %d objects with pictures of their own", GUIDED_PICTURES);
    if (!text) run_fail(r, E_MEMORY, "out of memory: a picture's text");
    if (!run_ok(r) || !words_find(&o, r->run, g->p->model.tokenizer, word, text, NULL, false, &r->status)) return 0;
    Tensor row = pipeline_text(g->p, &text, 1, &dropped);
    if (!row.x) return 0;
    p->text = tensor_row(row, 0);
    memcpy(p->token, o.token, sizeof p->token);
    p->tokens = o.tokens;
    g->own_rgb[g->owns] = e->picture;
    return ++g->owns;
}

static void find_nouns(Guided *g)
{
    Run *r = &g->p->run;
    const char *found[WORDS_OBJECTS];
    char said[400] = "objects:";
    int n = words_nouns(found, WORDS_OBJECTS, r->run, g->q->nouns, guided_prompt(g->q), &r->status);
    for (int i = 0; i < n && run_ok(r); i++) {
        add_object(g, found[i], false);
        size_t used = strlen(said);
        snprintf(said + used, sizeof said - used, "%s %s", i ? "," : "", found[i]);
    }
    if (n > 0 && g->h && g->h->note) g->h->note(g->h->user, said);
}

static void make_objects(Guided *g)
{
    const GuidedRequest *q = g->q;
    Run *r = &g->p->run;
    bool wanted = false;
    for (int i = 0; i < q->methods; i++) wanted |= q->method[i].info->objects;
    for (int i = 0; i < q->objects && run_ok(r); i++) add_object(g, q->object[i], false);
    for (int i = 0; i < q->edits && run_ok(r); i++) {
        const GuidedEdit *e = &q->edit[i];
        int k = e->word ? add_object(g, e->word, e->kind == EDIT_BLEND || e->kind == EDIT_APART) : 0;
        g->edit[g->edits++] = (ObjectEdit){ e->kind, k, e->x, e->y, e->picture ? add_picture(g, e) : 0 };
    }
    for (int i = 0; i < q->boxes && run_ok(r); i++) memcpy(g->box[add_object(g, q->box[i].word, false)], q->box[i].at, sizeof q->box[i].at);
    for (int i = 0; i < q->masks && run_ok(r); i++) g->mask[add_object(g, q->mask[i].word, false)] = q->mask[i].m;
    if (wanted && !q->objects && !q->masks && run_ok(r)) find_nouns(g);
    for (int k = 0; k < g->objects && q->masks && run_ok(r); k++)
        if (!g->mask[k].x) run_fail(r, E_OPTION, "--mask: \"%.60s\" has none; either each object has a mask or none", g->object[k].word);
    if (wanted && !g->objects && run_ok(r))
        run_fail(r, E_OPTION, "no object was found in the prompt \"%.200s\"; --objects names them, as --objects \"cat,frog\"", guided_prompt(q));
}

bool guided_texts(Guided *g)
{
    Pipeline *p = g->p;
    Run *r = &p->run;
    const GuidedRequest *q = g->q;
    const char *prompt = guided_prompt(q), *source = source_prompt(g), *both[2] = { q->base.negative ? q->base.negative : "", prompt };
    int dropped[2] = { 0, 0 };
    g->text = pipeline_text(p, both, 2, dropped);
    for (int i = 0; i < 2 && run_ok(r); i++) {
        char text[160];
        snprintf(text, sizeof text, "%s: %d token%s beyond the model's %d dropped", i ? "prompt" : "negative prompt", dropped[i], dropped[i] > 1 ? "s" : "", g->text.s.d[1]);
        if (dropped[i] > 0) warn(g, text);
    }
    if (!run_ok(r)) return false;
    int T = g->text.s.d[1];
    if (source && strcmp(source, prompt)) {
        Tensor row = pipeline_text(p, &source, 1, dropped);
        if (row.x) g->source = tensor_row(row, 0);
    }
    for (int j = 0; j < q->composed && run_ok(r); j++) {
        Tensor row = pipeline_text(p, &q->compose[j].text, 1, dropped);
        if (row.x) g->composed[j] = tensor_row(row, 0);
    }
    if (!run_ok(r) || !words_of(&g->words, r->run, p->model.tokenizer, prompt, T, &r->status)) return false;
    if (!words_of(&g->source_words, r->run, p->model.tokenizer, source ? source : prompt, T, &r->status)) return false;
    make_direction(g);
    make_objects(g);
    return run_ok(r);
}
