#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ref/console.h"
#include "ref/stop.h"

bool console_colors(Color color, FILE *stream)
{
    const char *none = getenv("NO_COLOR");
    if (color != COLOR_AUTO) return color == COLOR_ALWAYS;
    return isatty(fileno(stream)) && !(none && *none);
}

Console console_begin(bool quiet, bool verbose, bool json, Color color)
{
    return (Console){ .quiet = quiet, .verbose = verbose, .json = json, .color = console_colors(color, stderr) };
}

static void line(const char *head, const char *format, va_list ap)
{
    fputs(head, stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
}

void console_note(const Console *p, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (!p->quiet) line("", format, ap);
    va_end(ap);
}

void console_detail(const Console *p, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (p->verbose && !p->quiet) line("", format, ap);
    va_end(ap);
}

void console_warning(const Console *p, const char *format, ...)
{
    char text[600];
    JsonOut o = {0};
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (!p->quiet) fprintf(stderr, "%s %s\n", p->color ? "\033[33mtiller: warning:\033[0m" : "tiller: warning:", text);
    console_event(&o, "warning");
    json_text(&o, "text", text);
    console_send(p, &o);
}

int console_exit_code(const Console *p, Code code)
{
    switch (code) {
    case OK:        return EXIT_DONE;
    case E_OPTION:  return EXIT_USAGE;
    case E_FILE:
    case E_FORMAT:  return EXIT_INPUT;
    case E_SHAPE:   return p->computing ? EXIT_INTERNAL : EXIT_INPUT;
    case E_MEMORY:  return EXIT_MEMORY;
    case E_WRITE:   return EXIT_OUTPUT;
    case E_NUMBER:  return EXIT_NUMBER;
    case E_STOP:    return 128 + stop_signal();
    }
    return EXIT_INTERNAL;
}

int console_error(const Console *p, const Status *s, const char *hint)
{
    int code = console_exit_code(p, s->code);
    const char *what = s->code == E_STOP ? "stopped" : s->text;
    JsonOut o = {0};
    fprintf(stderr, "%s %s%s\n", p->color ? "\033[31mtiller: error:\033[0m" : "tiller: error:", code == EXIT_INTERNAL ? "internal: " : "", what);
    if (hint && *hint) fprintf(stderr, "hint: %s\n", hint);
    console_event(&o, "error");
    json_integer(&o, "code", code);
    json_text(&o, "text", what);
    console_send(p, &o);
    return code;
}

void console_event(JsonOut *o, const char *event)
{
    json_open(o, NULL, '{');
    json_text(o, "event", event);
}

void console_send(const Console *p, JsonOut *o)
{
    json_close(o, '}');
    if (p->json && !o->failed) {
        fwrite(o->bytes, 1, o->size, stdout);
        if (!o->size || o->bytes[o->size - 1] != '\n') putchar('\n');
        fflush(stdout);
    }
    json_free(o);
}

int console_end(const Console *p, int code)
{
    bool lost = fflush(stdout) || ferror(stdout);
    if (!lost || code != EXIT_DONE) return code;
    Console silent = *p;
    Status s = { E_WRITE, "standard output cannot be written" };
    silent.json = false;
    return console_error(&silent, &s, NULL);
}
