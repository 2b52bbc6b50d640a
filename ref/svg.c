#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "ref/svg.h"
#include "tensor/file.h"

bool svg_begin(Svg *t, size_t room, int width, int height)
{
    *t = (Svg){ malloc(room), 0, room };
    if (t->bytes) svg_put(t, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"
                             "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", width, height);
    return t->bytes;
}

void svg_put(Svg *t, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (t->used < t->room) {
        int n = vsnprintf(t->bytes + t->used, t->room - t->used, format, ap);
        t->used += n > 0 ? (size_t)n : 0;
    }
    va_end(ap);
}

void svg_escape(Svg *t, const char *text)
{
    for (; *text; text++)
        if (*text == '<') svg_put(t, "&lt;");
        else if (*text == '&') svg_put(t, "&amp;");
        else svg_put(t, "%c", *text);
}

bool svg_end(Svg *t, const char *path, const char *reason, Status *s)
{
    svg_put(t, "</svg>\n");
    bool good = t->used < t->room;
    if (good) good = file_save(path, t->bytes, t->used, s);
    else status_fail(s, E_OPTION, "%s: %s", path, reason);
    free(t->bytes);
    return good;
}
