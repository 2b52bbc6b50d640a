#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "ref/conform.h"

enum { KEEP, TEMP, STEP, RUN, WEIGHTS };

/* DIR/case.json, DIR/manifest.json or the file itself. */
static bool find_file(Case *c, const char *path)
{
    Status *s = &c->run.status;
    if (strlen(path) > sizeof c->file - 40) {
        status_fail(s, E_FILE, "path of a case is longer than %zu bytes", sizeof c->file - 40);
        return false;
    }
    if (!folder_exists(path)) {
        snprintf(c->file, sizeof c->file, "%s", path);
        return true;
    }
    static const char *const names[] = { "case.json", "manifest.json" };
    for (int i = 0; i < 2; i++) {
        snprintf(c->file, sizeof c->file, "%.980s/%s", path, names[i]);
        if (file_exists(c->file)) return true;
    }
    status_fail(s, E_FILE, "%s: no case.json and no manifest.json in this folder", path);
    return false;
}

/* Drop the last component of a path.  False when what remains is not a plain prefix ("." and ".." do not count). */
static bool drop_last(char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') path[--n] = 0;
    char *slash = strrchr(path, '/');
    const char *last = slash ? slash + 1 : path;
    if (!*last || !strcmp(last, ".") || !strcmp(last, "..")) return false;
    if (!slash) strcpy(path, ".");
    else if (slash == path) path[1] = 0;
    else *slash = 0;
    return true;
}

static void up(char *path, size_t room)
{
    size_t n = strlen(path);
    if (!drop_last(path) && n + 4 < room) strcat(path, "/..");
}

static void find_places(Case *c)
{
    snprintf(c->folder, sizeof c->folder, "%s", c->file);
    drop_last(c->folder);
    snprintf(c->root, sizeof c->root, "%s", c->folder);
    if (c->report->models) snprintf(c->root, sizeof c->root, "%s", c->report->models);
    else {
        up(c->root, sizeof c->root);
        up(c->root, sizeof c->root);
    }
}

/* A list of files to accept or refuse has members { "accept": ... } and no kind. */
static bool is_manifest(const Json *j)
{
    if (j->kind != JSON_OBJECT || !j->count) return false;
    for (const Json *m = j->child; m; m = m->next) {
        bool accept;
        if (!json_bool(json_get(m, "accept"), &accept)) return false;
    }
    return true;
}

static bool open_tensors(Case *c)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/tensors.safetensors", c->folder);
    if (!file_exists(path)) return true;
    if (!safetensors_open(&c->tensors, c->run.run, path, &c->run.status)) {
        c->tensors = (Safetensors){0};
        return false;
    }
    size_t n = (size_t)c->tensors.entries;
    c->judged = arena_take(c->run.run, n * sizeof *c->judged);
    if (!c->judged) {
        run_fail(&c->run, E_MEMORY, "%s: no memory for a list of %zu tensors", path, n);
        return false;
    }
    memset(c->judged, 0, n * sizeof *c->judged);
    return true;
}

bool case_open(Case *c, Report *report, const char *path)
{
    *c = (Case){ .report = report, .name = path, .weights = &c->arena[WEIGHTS] };
    c->run = (Run){ .keep = &c->arena[KEEP], .temp = &c->arena[TEMP], .step = &c->arena[STEP], .run = &c->arena[RUN],
                    .k = report->kernels, .threads = report->threads, .blas = report->blas };
    if (!find_file(c, path)) return false;
    c->json = json_load(c->run.run, c->file, &c->run.status);
    if (!c->json) return false;
    find_places(c);
    const char *last = strrchr(c->folder, '/');
    c->name = case_name(c, "%s", last && last[1] ? last + 1 : c->folder);
    const Json *kind = json_get(c->json, "kind");
    if (is_manifest(c->json)) c->kind = "manifest";
    else if (kind && kind->kind == JSON_STRING) c->kind = kind->text;
    else {
        run_fail(&c->run, E_FORMAT, "%s: field kind: expected a string", c->file);
        return false;
    }
    c->params = json_get(c->json, "params");
    return open_tensors(c);
}

void case_close(Case *c)
{
    if (c->tensors.arena) safetensors_close(&c->tensors);
    for (int i = 0; i < 5; i++) arena_free(&c->arena[i]);
}

void case_pass(Case *c)
{
    arena_release(c->run.keep, 0);
    arena_release(c->run.temp, 0);
}

const char *case_name(Case *c, const char *format, ...)
{
    char text[1100];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    char *s = n < 0 || n >= (int)sizeof text ? NULL : arena_take(c->run.run, (size_t)n + 1);
    if (!s) {
        run_fail(&c->run, E_MEMORY, "%s: no memory for a name of %d bytes", c->file, n);
        return "";
    }
    return memcpy(s, text, (size_t)n + 1);
}

/* ---- parameters ---- */

static const Json *param(Case *c, const char *key)
{
    const Json *j = json_get(c->params, key);
    return j && j->kind != JSON_NULL ? j : NULL;
}

static void wrong_type(Case *c, const char *key, const char *wanted)
{
    run_fail(&c->run, E_FORMAT, "%s: params.%s: expected %s", c->file, key, wanted);
}

double case_real(Case *c, const char *key, double fallback)
{
    const Json *j = param(c, key);
    if (j && !json_number(j, &fallback)) wrong_type(c, key, "a number");
    return fallback;
}

int case_int(Case *c, const char *key, int fallback)
{
    const Json *j = param(c, key);
    if (j && !json_int(j, &fallback)) wrong_type(c, key, "an integer");
    return fallback;
}

bool case_flag(Case *c, const char *key, bool fallback)
{
    const Json *j = param(c, key);
    if (j && !json_bool(j, &fallback)) wrong_type(c, key, "true or false");
    return fallback;
}

const char *case_text(Case *c, const char *key, const char *fallback)
{
    const Json *j = param(c, key);
    if (!j) return fallback;
    if (j->kind == JSON_STRING) return j->text;
    wrong_type(c, key, "a string");
    return fallback;
}

/* ---- inputs ---- */

bool case_has(const Case *c, const char *name)
{
    return c->tensors.entries && safetensors_find(&c->tensors, name);
}

bool case_has_under(const Case *c, const char *prefix)
{
    for (int i = 0; i < c->tensors.entries; i++)
        if (!strncmp(c->tensors.entry[i].name, prefix, strlen(prefix))) return true;
    return false;
}

/* Of five sizes, the first two as one: draws of every step for a batch. */
static bool folded(const SafeEntry *e, Shape *s)
{
    SafeEntry four = *e;
    if (e->rank != 5 || !e->size[1] || e->size[0] > INT_MAX / e->size[1]) return safetensors_shape(e, s);
    four.rank = 4;
    four.size[0] = e->size[0] * e->size[1];
    for (int i = 1; i < 4; i++) four.size[i] = e->size[i + 1];
    return safetensors_shape(&four, s);
}

static const SafeEntry *input(Case *c, const char *name, Shape *s)
{
    const SafeEntry *e = c->tensors.entries ? safetensors_find(&c->tensors, name) : NULL;
    if (!e) run_fail(&c->run, E_FORMAT, "%s: the case needs a tensor %s and has none", c->file, name);
    else if (!folded(e, s)) {
        run_fail(&c->run, E_FORMAT, "%s: tensor %s: expected at most 5 sizes of at least 1", c->file, name);
        e = NULL;
    }
    return e;
}

Tensor case_in(Case *c, const char *name)
{
    Shape s;
    const SafeEntry *e = input(c, name, &s);
    Tensor t = e ? case_new(c, s) : (Tensor){0};
    if (t.x && !safetensors_read(&c->tensors, e, t.x, &c->run.status)) t = (Tensor){0};
    return t;
}

int *case_ids(Case *c, const char *name, Shape *s)
{
    *s = (Shape){0};
    const SafeEntry *e = input(c, name, s);
    if (!e) return NULL;
    size_t n = (size_t)e->count;
    int64_t *wide = arena_take(c->run.run, n * sizeof *wide);
    int *ids = arena_take(c->run.run, n * sizeof *ids);
    if (!wide || !ids) {
        run_fail(&c->run, E_MEMORY, "%s: no memory for the %zu numbers of %s", c->file, n, name);
        return NULL;
    }
    if (e->type == T_F32) {                               /* some writers keep every tensor of a case in one type */
        Tensor t = case_in(c, name);
        for (size_t i = 0; i < n && t.x; i++) {
            if (!(fabs((double)t.x[i]) <= INT_MAX) || t.x[i] != (real)(int)t.x[i]) {
                run_fail(&c->run, E_FORMAT, "%s: tensor %s: number %zu is %g, not an integer", c->file, name, i, (double)t.x[i]);
                return NULL;
            }
            ids[i] = (int)t.x[i];
        }
        return t.x ? ids : NULL;
    }
    if (!safetensors_read_i64(&c->tensors, e, wide, &c->run.status)) return NULL;
    for (size_t i = 0; i < n; i++) {
        if (wide[i] < INT_MIN || wide[i] > INT_MAX) {
            run_fail(&c->run, E_FORMAT, "%s: tensor %s: number %zu is %lld", c->file, name, i, (long long)wide[i]);
            return NULL;
        }
        ids[i] = (int)wide[i];
    }
    return ids;
}

Tensor case_new(Case *c, Shape s) { return tensor_in(&c->run, c->run.run, s); }

/* ---- models ---- */

const char *case_model(Case *c, const char *part)
{
    const Json *m = json_get(c->json, "model");
    if (!m || m->kind != JSON_STRING) {
        run_fail(&c->run, E_FORMAT, "%s: field model: expected the folder of a model", c->file);
        return "";
    }
    return case_name(c, "%s/%s%s%s", c->root, m->text, part ? "/" : "", part ? part : "");
}

bool case_unet(Case *c, Unet *u)
{
    LoadReport report = {0};
    const char *folder = case_model(c, "unet");
    if (!run_ok(&c->run) || !model_load_unet(u, folder, c->weights, &report, &c->run.status)) return false;
    u->float_waves = c->float_waves;
    return true;
}

bool case_vae(Case *c, Vae *v)
{
    LoadReport report = {0};
    const char *folder = case_model(c, "vae");
    return run_ok(&c->run) && model_load_vae(v, folder, c->weights, &report, &c->run.status);
}

bool case_scheduler(Case *c, ScheduleConfig *s)
{
    const char *file = case_model(c, "scheduler/scheduler_config.json");
    const Json *j = run_ok(&c->run) ? json_load(c->run.run, file, &c->run.status) : NULL;
    return j && schedule_config(s, j, file, &c->run.status);
}

AlphaKind case_alphas(Case *c)
{
    const char *kind = case_text(c, "alphas", "float32");
    if (!strcmp(kind, "float64")) return ALPHAS_FLOAT64;
    if (strcmp(kind, "float32")) wrong_type(c, "alphas", "\"float32\" or \"float64\"");
    return ALPHAS_FLOAT32;
}

bool case_schedule(Case *c, Schedule *s, const ScheduleConfig *config, int steps)
{
    AlphaKind alphas = case_alphas(c);
    return run_ok(&c->run) && schedule_make(s, config, alphas, steps, c->run.run, &c->run.status);
}
