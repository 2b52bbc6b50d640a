#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nn/config.h"

static const Json *field_of(Config *c, const char *field)
{
    if (c->count < CONFIG_FIELDS) c->seen[c->count++] = field;
    else status_fail(c->status, E_FORMAT, "%s: more than %d fields are read", c->file, CONFIG_FIELDS);
    return c->status->code == OK ? json_get(c->json, field) : NULL;
}

static void describe(const Json *j, char *to, size_t room)
{
    static const char *const kinds[] = { "null", "false", "true", "", "", "a list", "an object" };
    if (j->kind == JSON_NUMBER)      snprintf(to, room, "%.40s", j->text);
    else if (j->kind == JSON_STRING) snprintf(to, room, "\"%.60s\"", j->text);
    else                             snprintf(to, room, "%s", kinds[j->kind]);
}

void config_fail(Config *c, const char *field, const char *format, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    status_fail(c->status, E_FORMAT, "%s: %s: %s", c->file, field, text);
}

static void found(Config *c, const char *field, const Json *j, const char *format, ...) __attribute__((format(printf, 4, 5)));
static void found(Config *c, const char *field, const Json *j, const char *format, ...)
{
    char expected[200], is[80];
    va_list ap;
    va_start(ap, format);
    vsnprintf(expected, sizeof expected, format, ap);
    va_end(ap);
    describe(j, is, sizeof is);
    config_fail(c, field, "expected %s, found %s", expected, is);
}

void config_begin(Config *c, const Json *json, const char *file, const char *class_name, Status *s)
{
    *c = (Config){ .json = json, .file = file, .status = s };
    if (!json || json->kind != JSON_OBJECT) {
        status_fail(s, E_FORMAT, "%s: expected an object with the model's configuration", file);
        return;
    }
    const Json *is = json_get(json, "_class_name");
    if (is && !json_is(is, class_name)) found(c, "_class_name", is, "\"%s\"", class_name);
}

static int integer(Config *c, const char *field, const Json *j, int low, int high)
{
    int v;
    if (json_int(j, &v) && v >= low && v <= high) return v;
    found(c, field, j, "an integer from %d to %d", low, high);
    return low;
}

int config_int(Config *c, const char *field, int missing, int low, int high)
{
    const Json *j = field_of(c, field);
    return j ? integer(c, field, j, low, high) : missing;
}

int config_list(Config *c, const char *field, const int *missing, int missing_n, int low, int high, int most, int *out)
{
    const Json *j = field_of(c, field);
    if (!j) {
        memcpy(out, missing, (size_t)missing_n * sizeof *out);
        return missing_n;
    }
    if (j->kind != JSON_ARRAY || j->count < 1 || j->count > most) {
        found(c, field, j, "a list of 1 to %d integers", most);
        return 0;
    }
    int n = 0;
    for (const Json *e = j->child; e; e = e->next) out[n++] = integer(c, field, e, low, high);
    return n;
}

/* "32,16,8" */
static int numbers_in(const char *text, int most, double *out)
{
    char *end;
    int n = 0;
    for (const char *at = text; n < most; at = end + 1) {
        out[n++] = strtod(at, &end);
        if (end == at) return 0;
        if (!*end) return n;
        if (*end != ',') return 0;
    }
    return 0;
}

int config_numbers(Config *c, const char *field, const double *missing, int missing_n, double low, double high, int most, double *out)
{
    const Json *j = field_of(c, field);
    bool text = j && j->kind == JSON_STRING;
    int n = 0;
    if (!j || j->kind == JSON_NULL || (text && !j->length)) {
        for (int i = 0; i < missing_n; i++) out[i] = missing[i];
        return missing_n;
    }
    if (text) n = numbers_in(j->text, most, out);
    else if (j->kind == JSON_ARRAY && j->count <= most)
        for (const Json *e = j->child; e && json_number(e, &out[n]); e = e->next) n++;
    bool good = n > 0 && (text || n == j->count);
    for (int i = 0; i < n; i++) good = good && out[i] >= low && out[i] <= high;
    if (good) return n;
    found(c, field, j, "a list of 1 to %d numbers from %g to %g", most, low, high);
    return 0;
}

static bool is_list_of(Config *c, const char *field, const Json *j, int n)
{
    if (j->kind != JSON_ARRAY) return false;
    if (j->count != n) config_fail(c, field, "expected %d entries, one per level, found %d", n, j->count);
    return j->count == n;
}

void config_ints(Config *c, const char *field, int missing, int low, int high, int n, int *out)
{
    const Json *j = field_of(c, field), *e = NULL;
    for (int i = 0; i < n; i++) out[i] = missing;
    if (!j) return;
    if (is_list_of(c, field, j, n)) e = j->child;
    for (int i = 0; i < n; i++, e = e ? e->next : NULL) out[i] = integer(c, field, e ? e : j, low, high);
}

static bool truth(Config *c, const char *field, const Json *j)
{
    bool v = false;
    if (!json_bool(j, &v)) found(c, field, j, "true or false");
    return v;
}

bool config_bool(Config *c, const char *field, bool missing)
{
    const Json *j = field_of(c, field);
    return j ? truth(c, field, j) : missing;
}

void config_bools(Config *c, const char *field, bool missing, int n, bool *out)
{
    const Json *j = field_of(c, field), *e = NULL;
    for (int i = 0; i < n; i++) out[i] = missing;
    if (!j) return;
    if (is_list_of(c, field, j, n)) e = j->child;
    for (int i = 0; i < n; i++, e = e ? e->next : NULL) out[i] = truth(c, field, e ? e : j);
}

double config_number(Config *c, const char *field, double missing, double low, double high)
{
    const Json *j = field_of(c, field);
    double v;
    if (!j) return missing;
    if (json_number(j, &v) && v >= low && v <= high) return v;
    found(c, field, j, "a number from %g to %g", low, high);
    return missing;
}

static int word(Config *c, const char *field, const Json *j, const char *const *words)
{
    char list[160] = "";
    size_t at = 0;
    for (int i = 0; words[i]; i++) {
        if (json_is(j, words[i])) return i;
        int n = snprintf(list + at, sizeof list - at, "%s\"%s\"", i ? " or " : "", words[i]);
        if (n > 0 && at + (size_t)n < sizeof list) at += (size_t)n;
    }
    found(c, field, j, "%s", list);
    return 0;
}

int config_word(Config *c, const char *field, int missing, const char *const *words)
{
    const Json *j = field_of(c, field);
    if (!j) return missing;
    return j->kind == JSON_NULL ? -1 : word(c, field, j, words);
}

void config_words(Config *c, const char *field, const int *missing, const char *const *words, int n, int *out)
{
    const Json *j = field_of(c, field);
    for (int i = 0; i < n; i++) out[i] = missing[i];
    if (!j) return;
    if (j->kind != JSON_ARRAY) {
        found(c, field, j, "a list of %d names", n);
        return;
    }
    if (!is_list_of(c, field, j, n)) return;
    int i = 0;
    for (const Json *e = j->child; e; e = e->next) out[i++] = word(c, field, e, words);
}

void config_ignore(Config *c, const char *field) { (void)field_of(c, field); }

static bool says_nothing(const Json *j)
{
    double v;
    if (j->kind == JSON_NULL || j->kind == JSON_FALSE) return true;
    if (j->kind == JSON_ARRAY || j->kind == JSON_OBJECT) return j->count == 0;
    if (j->kind == JSON_NUMBER) return json_number(j, &v) && v == 0;
    return json_is(j, "default");
}

void config_only(Config *c, const char *field, const char *supported)
{
    const Json *j = field_of(c, field);
    double v, w;
    if (!j || says_nothing(j) || json_is(j, supported)) return;
    if (json_number(j, &v) && sscanf(supported, "%lf", &w) == 1 && v == w) return;
    found(c, field, j, "%s: nothing else is supported", supported);
}

bool config_end(Config *c)
{
    const Json *j = c->status->code == OK ? c->json->child : NULL;
    for (; j; j = j->next) {
        bool asked = j->key[0] == '_' || says_nothing(j);
        for (int i = 0; i < c->count && !asked; i++) asked = !strcmp(j->key, c->seen[i]);
        if (asked) continue;
        char is[80];
        describe(j, is, sizeof is);
        config_fail(c, j->key, "unknown field, and its value %s may matter", is);
    }
    return c->status->code == OK;
}
