#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "guidance/respace.h"

enum { SECTIONS_MOST = 1000, TIMES_MOST = 1000000 };

/* A count from the text at *p, which then stands behind it. */
static bool read_count(int *count, const char **p)
{
    char *end;
    if (**p < '0' || **p > '9') return false;
    long v = strtol(*p, &end, 10);
    *p = end;
    *count = v > TIMES_MOST ? TIMES_MOST : (int)v;
    return true;
}

static int every(int *t, const char *text, int T, Status *s)
{
    const char *p = text + strlen("ddim");
    int wanted = 0, stride = 1;
    if (!read_count(&wanted, &p) || *p) {
        status_fail(s, E_OPTION, "respacing: \"%.60s\": a number is expected after ddim", text);
        return 0;
    }
    while (stride < T && (T + stride - 1) / stride != wanted) stride++;
    if (stride >= T) {
        status_fail(s, E_OPTION, "respacing: \"%.60s\": no stride over %d times keeps exactly %d of them", text, T, wanted);
        return 0;
    }
    for (int i = 0; i < wanted; i++) t[i] = i * stride;
    return wanted;
}

static int sections_of(int *count, const char *text, Status *s)
{
    const char *p = text;
    int k = 0;
    while (k < SECTIONS_MOST && read_count(&count[k], &p)) {
        k++;
        if (!*p) return k;
        if (*p++ != ',') break;
    }
    status_fail(s, E_OPTION, "respacing: \"%.60s\": \"\", \"ddimN\" or counts like \"10,15,20\" are expected", text);
    return 0;
}

int respace_times(int **t, const char *text, int T, Arena *a, Status *s)
{
    int count[SECTIONS_MOST] = { T }, n = 0, start = 0;
    if (s->code != OK) return 0;
    *t = arena_take(a, (size_t)T * sizeof **t);
    if (!*t) {
        status_fail(s, E_MEMORY, "out of memory: %d times", T);
        return 0;
    }
    if (!strncmp(text, "ddim", 4)) return every(*t, text, T, s);
    int sections = *text ? sections_of(count, text, s) : 1;
    for (int i = 0; i < sections; i++) {
        int size = T / sections + (i < T % sections);
        double stride = count[i] <= 1 ? 1 : (double)(size - 1) / (count[i] - 1), at = 0;
        if (count[i] > size) {
            status_fail(s, E_OPTION, "respacing: \"%.60s\": %d of a section of %d times", text, count[i], size);
            return 0;
        }
        for (int k = 0; k < count[i]; k++, at += stride) (*t)[n++] = start + (int)rint(at);
        start += size;
    }
    if (sections && !n) status_fail(s, E_OPTION, "respacing: \"%.60s\" keeps no time at all", text);
    return s->code == OK ? n : 0;
}
