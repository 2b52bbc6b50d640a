#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/edit.h"

/* ---- methods by name ---- */

static const char *value_at(int argc, char **argv, int *i)
{
    if (!strncmp(argv[*i], "--method=", 9)) return argv[*i] + 9;
    if (!strcmp(argv[*i], "--method") && *i + 1 < argc) return argv[++*i];
    return NULL;
}

bool edit_asked(int argc, char **argv)
{
    static const char *const other[] = { "method", "compose", "sampler", "maps", "plot" };
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        size_t n = strcspn(argv[i], "=");
        for (size_t k = 0; k < sizeof other / sizeof *other; k++)
            if (n == strlen(other[k]) + 2 && !strncmp(argv[i], "--", 2) && !strncmp(argv[i] + 2, other[k], n - 2)) return true;
        for (int k = 0; k < CFG_RESCALE; k++) {           /* rescale is plain sampling's, too */
            const char *name = method_cfg.option[k].name;
            if (n == strlen(name) + 2 && !strncmp(argv[i], "--", 2) && !strncmp(argv[i] + 2, name, n - 2)) return true;
        }
    }
    return false;
}

void mixing_rows(MixingRows *m, size_t at)
{
    for (int i = 0; i < CFG_NUMBERS; i++) {
        const MethodOption *o = &method_cfg.option[i];
        snprintf(m->alias[i], sizeof m->alias[i], "guidance-%s", o->name);
        snprintf(m->shown[i], sizeof m->shown[i], "%s", o->symbol);
        snprintf(m->help[i], sizeof m->help[i], "%s [default: %g]", o->help, o->value);
        m->row[i] = (Option){ o->name, 0, OPTION_REAL, at + (size_t)i * sizeof(double), o->lo, o->hi, NULL, m->shown[i], m->help[i], m->alias[i] };
    }
}

static void add_row(MethodRows *m, const MethodInfo *info, int k, int i)
{
    const MethodOption *o = &info->option[i];
    int n = m->rows++;
    snprintf(m->alias[n], sizeof m->alias[n], "%s-%s", info->name, o->name);
    snprintf(m->shown[n], sizeof m->shown[n], "%s", o->symbol && *o->symbol && strlen(o->symbol) < 12 ? o->symbol : "X");
    snprintf(m->help[n], sizeof m->help[n], "%s [default: %g]", o->help, o->value);
    m->row[n] = (Option){ o->name, 0, OPTION_REAL, offsetof(Edit, number) + ((size_t)k * GUIDED_NUMBERS + (size_t)i) * sizeof(double),
                          o->lo, o->hi, NULL, m->shown[n], m->help[n], m->alias[n] };
}

static bool add_method(MethodRows *m, const char *name, size_t length, Status *s)
{
    char one[64];
    snprintf(one, sizeof one, "%.*s", (int)length, name);
    const MethodInfo *info = methods_find(one);
    if (!info) status_fail(s, E_OPTION, "--method: there is no \"%.60s\"; the nearest is %s; tiller methods lists them", one, method_nearest(one)->name);
    else if (m->methods == GUIDED_METHODS) status_fail(s, E_OPTION, "--method: more than %d methods in one run", GUIDED_METHODS);
    else if (info->options > GUIDED_NUMBERS) status_fail(s, E_OPTION, "%s: %d options are more than %d", info->name, info->options, GUIDED_NUMBERS);
    for (int k = 0; info && k < m->methods; k++)
        if (m->info[k] == info) status_fail(s, E_OPTION, "--method: %s is named twice", info->name);
    if (s->code != OK) return false;
    for (int i = 0; i < info->options && info != &method_cfg; i++) add_row(m, info, m->methods, i);     /* its own are options of every run */
    m->info[m->methods++] = info;
    return true;
}

bool edit_methods(MethodRows *m, int argc, char **argv, Status *s)
{
    memset(m, 0, sizeof *m);
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        const char *list = value_at(argc, argv, &i);
        for (; list && *list && s->code == OK; list += strcspn(list, ","), list += *list == ',')
            add_method(m, list, strcspn(list, ","), s);
    }
    return s->code == OK;
}

void edit_defaults(Edit *e)
{
    e->scale = e->deltas.similarity = (double)NAN;
    for (int i = 0; i < CFG_NUMBERS; i++) e->mixing[i] = (double)NAN;
    for (int k = 0; k < GUIDED_METHODS; k++)
        for (int i = 0; i < GUIDED_NUMBERS; i++) e->number[k][i] = (double)NAN;
}

/* ---- numbers ---- */

static const char *next_word(const char **line)
{
    *line += strspn(*line, " \t");
    const char *word = *line;
    *line += strcspn(*line, " \t");
    return word;
}

static bool word_is(const char *word, const char *text)
{
    size_t n = strlen(text);
    return !strncmp(word, text, n) && (word[n] == ' ' || word[n] == '\t');
}

/* A line "METHOD OPTION NUMBER"; METHOD "*" for steps and guidance-scale of any method. */
static void preset_line(Edit *e, const MethodRows *m, const char *line, const char *file, Status *s)
{
    const char *rest = line, *method = next_word(&rest), *option = next_word(&rest), *number = next_word(&rest);
    char *end;
    double v = strtod(number, &end);
    bool used = *method == '*';
    if (end == number || !isfinite(v)) {
        status_fail(s, E_FORMAT, "%s: METHOD OPTION NUMBER is wanted, found \"%.80s\"", file, line);
        return;
    }
    for (int k = 0; k < m->methods; k++) {
        if (!word_is(method, m->info[k]->name) && *method != '*') continue;
        if (word_is(option, "steps") && !e->steps) e->steps = (int)v;
        if (word_is(option, "guidance-scale") && isnan(e->scale)) e->scale = v;
        for (int i = 0; i < m->info[k]->options && !used; i++) {
            if (!word_is(option, m->info[k]->option[i].name)) continue;
            if (isnan(e->number[k][i])) e->number[k][i] = v;
        }
    }
}

/* An option that several methods have, given once without its method's name, serves all. */
static void share_numbers(Edit *e, const MethodRows *m)
{
    for (int k = 1; k < m->methods; k++)
        for (int i = 0; i < m->info[k]->options; i++)
            for (int j = 0; j < k && isnan(e->number[k][i]); j++) {
                int same = methods_option(m->info[j], m->info[k]->option[i].name);
                if (same >= 0) e->number[k][i] = e->number[j][same];
            }
}

bool edit_numbers(Edit *e, GuidedRequest *q, const MethodRows *m, const char *presets, Arena *a, Status *s)
{
    enum { LINES_MOST = 1000 };
    share_numbers(e, m);
    if (presets && m->methods) {
        const char **line = arena_take(a, LINES_MOST * sizeof *line);
        int n = line ? text_lines(line, LINES_MOST, a, presets, s) : 0;
        for (int i = 0; i < n && s->code == OK; i++) preset_line(e, m, line[i], presets, s);
    }
    for (int i = 0; i < CFG_NUMBERS; i++)
        if (isnan(e->mixing[i])) e->mixing[i] = method_cfg.option[i].value;
    q->methods = m->methods;
    for (int k = 0; k < m->methods; k++) {
        q->method[k].info = m->info[k];
        for (int i = 0; i < m->info[k]->options; i++)
            q->method[k].number[i] = m->info[k] == &method_cfg ? e->mixing[i] : isnan(e->number[k][i]) ? m->info[k]->option[i].value : e->number[k][i];
    }
    if (!e->steps) e->steps = 50;
    if (isnan(e->scale)) e->scale = 7.5;
    return s->code == OK;
}

/* ---- edits ---- */

static bool number_of(const char **p, double *v)
{
    char *end = NULL;
    *p += strspn(*p, " ");
    if (!strchr("+-.0123456789", **p) || !**p) return false;
    *v = strtod(*p, &end);
    bool good = end != *p && isfinite(*v);
    *p = end + strspn(end, " ");
    return good;
}

/* "cat=+0.25,0": the word, and one or two numbers from least to most. */
static bool take_edit(GuidedRequest *q, EditKind kind, const char *option, const char *text, const char *wanted, double least, double most, bool pair,
                      Arena *a, Status *s)
{
    const char *equals = strrchr(text, '='), *p = equals ? equals + 1 : "";
    GuidedEdit e = { .kind = kind };
    bool good = equals && equals != text && number_of(&p, &e.x);
    e.y = kind == EDIT_MOVE ? 0 : e.x;
    if (good && *p == ',' && pair) {
        p++;
        good = number_of(&p, &e.y);
    } else if (kind == EDIT_WINDOW) {
        e.x = 0;
    }
    if (!good || *p) status_fail(s, E_OPTION, "--%s: %s is wanted, found \"%.80s\"", option, wanted, text);
    else if (e.x < least || e.x > most || e.y < least || e.y > most)
        status_fail(s, E_OPTION, "--%s: \"%.80s\": numbers from %g to %g are wanted", option, text, least, most);
    else if (q->edits == GUIDED_EDITS) status_fail(s, E_OPTION, "more than %d edits in one run", GUIDED_EDITS);
    if (s->code != OK) return false;
    e.word = text_copy(a, text, (size_t)(equals - text));
    if (!e.word) status_fail(s, E_MEMORY, "out of memory: edits");
    q->edit[q->edits++] = e;
    return s->code == OK;
}

/* "in the snow=1.5"; no number: 1. */
static void take_prompt(GuidedRequest *q, const char *text, Arena *a, Status *s)
{
    const char *equals = strrchr(text, '='), *p = equals ? equals + 1 : "";
    GuidedPrompt one = { .text = text, .weight = 1 };
    bool good = *text && equals != text && (!equals || number_of(&p, &one.weight));
    if (!good || *p) status_fail(s, E_OPTION, "--compose: TEXT or TEXT=WEIGHT is wanted, as \"in the snow=1.5\", found \"%.80s\"", text);
    else if (fabs(one.weight) > 1000) status_fail(s, E_OPTION, "--compose: \"%.80s\": a weight from -1000 to 1000 is wanted", text);
    else if (q->composed == GUIDED_COMPOSED) status_fail(s, E_OPTION, "--compose: more than %d further prompts", GUIDED_COMPOSED);
    if (s->code != OK) return;
    if (equals && !(one.text = text_copy(a, text, (size_t)(equals - text)))) status_fail(s, E_MEMORY, "out of memory: prompts");
    q->compose[q->composed++] = one;
}

static bool take_words(GuidedRequest *q, EditKind kind, const TextList *list, Arena *a, Status *s)
{
    const char *word[WORDS_OBJECTS];
    for (int k = 0; k < list->n; k++) {
        int n = words_split(word, WORDS_OBJECTS, a, list->text[k]);
        for (int i = 0; i < n && s->code == OK; i++) {
            if (q->edits == GUIDED_EDITS) status_fail(s, E_OPTION, "more than %d edits in one run", GUIDED_EDITS);
            else q->edit[q->edits++] = (GuidedEdit){ .kind = kind, .word = word[i] };
        }
    }
    return s->code == OK;
}

bool edit_edits(const Edit *e, GuidedRequest *q, Arena *a, Status *s)
{
    for (int i = 0; i < e->move.n; i++)
        take_edit(q, EDIT_MOVE, "move", e->move.text[i], "WORD=RIGHT,DOWN in parts of the frame, as \"cat=+0.25,0\",", -1, 1, true, a, s);
    for (int i = 0; i < e->resize.n; i++)
        take_edit(q, EDIT_RESIZE, "resize", e->resize.text[i], "WORD=FACTOR or WORD=ACROSS,DOWN, as \"apple=1.5\",", 0.05, 20, true, a, s);
    for (int i = 0; i < e->reweight.n; i++)
        take_edit(q, EDIT_REWEIGHT, "reweight", e->reweight.text[i], "WORD=FACTOR, as \"snowy=2\",", -100, 100, false, a, s);
    for (int i = 0; i < e->window.n; i++)
        take_edit(q, EDIT_WINDOW, "window", e->window.text[i], "WORD=TO or WORD=FROM,TO in parts of the run, as \"dog=0.2,0.8\",", 0, 1, true, a, s);
    for (int i = 0; i < e->compose.n; i++) take_prompt(q, e->compose.text[i], a, s);
    take_words(q, EDIT_SHAPE, &e->layout, a, s);
    take_words(q, EDIT_APPEARANCE, &e->look, a, s);
    take_words(q, EDIT_KEEP, &e->keep, a, s);
    take_words(q, EDIT_BLEND, &e->blend, a, s);
    take_words(q, EDIT_APART, &e->apart, a, s);
    return s->code == OK;
}

const char *word_before(const char *text, const char *option, const char *wanted, Arena *a, Status *s)
{
    const char *equals = strchr(text, '=');
    char *word = equals && equals != text && equals[1] ? text_copy(a, text, (size_t)(equals - text)) : NULL;
    if (!word) status_fail(s, E_OPTION, "--%s: %s is wanted, found \"%.80s\"", option, wanted, text);
    return word;
}

static void take_box(GuidedRequest *q, const char *text, Arena *a, Status *s)
{
    static const char *const wanted = "WORD=X0,Y0,X1,Y1, as \"cat=0,0.2,0.5,0.8\",";
    GuidedBox b = { .word = word_before(text, "box", wanted, a, s) };
    const char *p = strchr(text, '=');
    bool good = s->code == OK;
    for (int i = 0; i < 4 && good; i++) {
        good = (i == 0 || *p == ',');
        p++;
        good = good && number_of(&p, &b.at[i]);
    }
    if (!good || *p) status_fail(s, E_OPTION, "--box: %s is wanted, found \"%.80s\"", wanted, text);
    else if (b.at[0] < 0 || b.at[1] < 0 || b.at[2] > 1 || b.at[3] > 1)
        status_fail(s, E_OPTION, "--box: \"%.80s\" is outside the picture, which goes from 0 to 1", text);
    else if (b.at[2] <= b.at[0] || b.at[3] <= b.at[1]) status_fail(s, E_OPTION, "--box: \"%.80s\" is empty: X1 > X0 and Y1 > Y0 are wanted", text);
    else q->box[q->boxes++] = b;
}

static void take_mask(GuidedRequest *q, const char *text, Arena *a, Status *s)
{
    GuidedMask m = { .word = word_before(text, "mask", "WORD=FILE", a, s) };
    Image in = {0};
    if (s->code != OK || !image_load(&in, a, strchr(text, '=') + 1, s)) return;
    size_t n = (size_t)in.H * (size_t)in.W;
    m.m = (Tensor){ arena_take(a, n * sizeof(real)), SHAPE(in.H, in.W) };
    if (!m.m.x) status_fail(s, E_MEMORY, "out of memory: a mask");
    for (size_t i = 0; i < n && m.m.x; i++)
        m.m.x[i] = ((real)in.rgb[3 * i] + (real)in.rgb[3 * i + 1] + (real)in.rgb[3 * i + 2]) / 765;
    q->mask[q->masks++] = m;
}

bool edit_places(const Edit *e, GuidedRequest *q, Arena *a, Status *s)
{
    for (int i = 0; i < e->box.n && i < WORDS_OBJECTS && s->code == OK; i++) take_box(q, e->box.text[i], a, s);
    for (int i = 0; i < e->mask.n && i < WORDS_OBJECTS && s->code == OK; i++) take_mask(q, e->mask.text[i], a, s);
    return s->code == OK;
}
