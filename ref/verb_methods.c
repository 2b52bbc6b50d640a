#include <string.h>
#include "guidance/methods.h"
#include "ref/verbs.h"

typedef struct { Common common; } Methods;
static const Option row[] = {
    { "json", 0, OPTION_FLAG, offsetof(Methods, common.json), 0, 0, NULL, NULL, "as JSON Lines, one method each", NULL },
};
static const OptionPage page = {
    "methods", "The guidance methods, or one of them with its numbers.", "tiller methods self-guidance", "[METHOD]", 0, 1, NULL, { TABLE("Output", row), COMMON_TABLE }
};

enum { WIDTH = 79 };

/* Words from column `at` on, continued in column `indent`; `more` stands at the end of a line that goes on. */
static void wrapped_with(const char *text, int at, int indent, const char *more)
{
    for (bool first = true; *text; first = false) {
        int n = (int)strcspn(text, " ");
        if (!first && at + 1 + n + (int)strlen(more) > WIDTH) {
            printf("%s\n%*s", more, indent, "");
            at = indent;
        } else if (!first) {
            putchar(' ');
            at++;
        }
        printf("%.*s", n, text);
        at += n;
        text += n;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void wrapped(const char *text, int at, int indent) { wrapped_with(text, at, indent, ""); }

static void wants(const MethodInfo *m)
{
    if (m->objects) puts("  objects in the prompt (--objects, or found by themselves)");
    if (m->needs & NEED_DIRECTION) puts("  a direction of text (--source WORD --target WORD)");
    if (m->needs & NEED_IMAGE) puts("  a photo (--image FILE)");
    else if (m->needs & NEED_SOURCE) puts("  a source: the same seed unguided, or a photo (--image FILE)");
    if (m->needs & NEED_INVERSION) puts("  of a photo its inversion, made on the way (--cache FOLDER keeps it)");
}

void method_help(const MethodInfo *m)
{
    printf("  ");
    wrapped_with(m->example, 2, 6, " \\");
    printf("\n%s: %s\n", m->name, m->title);
    wrapped(m->summary, 0, 0);
    putchar('\n');
    wrapped(m->paper, 0, 0);
    printf("\n    ");
    wrapped(m->equation, 4, 8);
    if (m->objects || m->needs) puts("\nIt wants:");
    wants(m);
    if (m->options) puts("\nNumbers, with the paper's letters and defaults:");
    for (int i = 0; i < m->options; i++) {
        const MethodOption *o = &m->option[i];
        char text[400];
        int at = printf("  --%s %s", o->name, o->symbol && *o->symbol ? o->symbol : "X");
        if (at >= 28) {
            putchar('\n');
            at = 0;
        }
        snprintf(text, sizeof text, "%s; %g to %g [default: %g]", o->help, o->lo, o->hi, o->value);
        printf("%*s", 29 - at, "");
        wrapped(text, 29, 29);
    }
    puts("\nWith the bundled model numbers not given come from its presets\n(data/presets/tiny-model.txt), unless --paper-defaults is given.");
}

static void method_json(const Console *c, const MethodInfo *m)
{
    JsonOut o = {0};
    console_event(&o, "method");
    json_text(&o, "name", m->name);
    json_text(&o, "title", m->title);
    json_text(&o, "paper", m->paper);
    json_text(&o, "summary", m->summary);
    json_text(&o, "equation", m->equation);
    json_text(&o, "example", m->example);
    json_truth(&o, "needs_source", (m->needs & NEED_SOURCE) != 0);
    json_truth(&o, "needs_image", (m->needs & NEED_IMAGE) != 0);
    json_truth(&o, "needs_objects", m->objects);
    json_open(&o, "options", '[');
    for (int i = 0; i < m->options; i++) {
        json_open(&o, NULL, '{');
        json_text(&o, "name", m->option[i].name);
        json_text(&o, "symbol", m->option[i].symbol);
        json_real(&o, "default", m->option[i].value, 9);
        json_real(&o, "least", m->option[i].lo, 9);
        json_real(&o, "most", m->option[i].hi, 9);
        json_text(&o, "help", m->option[i].help);
        json_close(&o, '}');
    }
    json_close(&o, ']');
    console_send(c, &o);
}

const MethodInfo *method_nearest(const char *name)
{
    const MethodInfo *best = methods_all[0];
    for (int i = 1; methods_all[i]; i++)
        if (word_distance(name, methods_all[i]->name) < word_distance(name, best->name)) best = methods_all[i];
    return best;
}

static void table(const Console *c)
{
    for (int i = 0; methods_all[i]; i++) {
        if (c->json) {
            method_json(c, methods_all[i]);
            continue;
        }
        int at = printf("%-22s", methods_all[i]->name);
        wrapped(methods_all[i]->summary, at, at);
        printf("%22s", "");
        wrapped(methods_all[i]->paper, 22, 22);
    }
    if (!c->json) puts("\nSeveral --method in one run compose. tiller help METHOD has the numbers of one.");
}

int verb_methods(int argc, char **argv)
{
    Methods g = {0};
    Console c;
    char *rest[1];
    int rests, code;
    if (!verb_begin(&c, &page, &g, argc, argv, rest, &rests, &code)) return code;
    const MethodInfo *one = rests ? methods_find(rest[0]) : NULL;
    Status s = {0};
    if (rests && !one) {
        status_fail(&s, E_OPTION, "methods: there is no method \"%.60s\"; the nearest is %s", rest[0], method_nearest(rest[0])->name);
        return console_end(&c, console_error(&c, &s, NULL));
    }
    if (one && c.json) method_json(&c, one);
    else if (one) method_help(one);
    else table(&c);
    return console_end(&c, EXIT_DONE);
}
