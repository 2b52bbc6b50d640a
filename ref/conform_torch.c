/* Checkpoints of torch: files that must be read, value by value, and files that must be refused, each for its reason. */
#include <stdio.h>
#include <string.h>
#include "nn/weights.h"
#include "ref/conform.h"
#include "tensor/torchfile.h"

/* ---- pix-pt-bad ---------------------------------------------------------------------------------------- */

void conform_torch_bad(Case *c)
{
    const Json *expect = json_get(c->params, "expect");
    if (!expect || expect->kind != JSON_OBJECT) run_fail(&c->run, E_FORMAT, "%s: params.expect: expected files and their kinds", c->file);
    for (const Json *j = expect ? expect->child : NULL; j && run_ok(&c->run); j = j->next) {
        Torchfile f;
        Arena a = {0};
        Status s = {0};
        const char *path = case_name(c, "%s/%s", c->folder, j->key);
        bool opened = torchfile_open(&f, &a, path, &s), read = opened && torchfile_verify(&f, &s);
        const char *kind = torch_kind_name(f.refused), *name = case_name(c, "%s: %s", j->key, j->text ? j->text : "");
        if (!file_exists(path)) judge_truth(c, name, false, "there is no such file");
        else if (read) judge_truth(c, name, false, "was accepted");
        else judge_truth(c, name, s.code == E_FORMAT && json_is(j, kind), s.text);
        torchfile_close(&f);
        arena_free(&a);
    }
}

/* ---- pix-pt-good --------------------------------------------------------------------------------------- */

/* As the case holds them: floats rounded to float32, all else as 64-bit integers. */
static void judge_tensor(Case *c, Torchfile *f, const TorchTensor *t, const char *name)
{
    size_t n = (size_t)t->count, mark = c->run.temp->used;
    Shape shape = {{ t->rank == 0 }};
    double *x = arena_take(c->run.temp, n * sizeof *x);
    real *r = arena_take(c->run.temp, n * sizeof *r);
    int64_t *v = arena_take(c->run.temp, n * sizeof *v);
    for (int i = 0; i < t->rank && i < 4; i++) shape.d[i] = (int)t->size[i];
    if (!x || !r || !v) run_fail(&c->run, E_MEMORY, "%s: no memory for the %zu numbers of %s", c->file, n, name);
    else if (t->type > T_BF16) {
        if (torchfile_read_i64(f, t, v, &c->run.status)) judge_integers(c, name, shape, v);
    } else if (torchfile_read(f, t, r, &c->run.status)) {
        for (size_t i = 0; i < n; i++) x[i] = (double)(float)r[i];
        judge_doubles(c, name, shape, x);
    }
    arena_release(c->run.temp, mark);
}

static void judge_file(Case *c, const char *file)
{
    Torchfile f;
    Arena a = {0};
    size_t n = strlen(file);
    if (torchfile_open(&f, &a, case_name(c, "%s/%s", c->folder, file), &c->run.status)) torchfile_verify(&f, &c->run.status);
    for (int i = 0; i < c->tensors.entries && run_ok(&c->run); i++) {
        const SafeEntry *e = &c->tensors.entry[i];
        if (strncmp(e->name, file, n) || e->name[n] != ':') continue;
        const TorchTensor *t = torchfile_find(&f, e->name + n + 1);
        if (!t) judge_truth(c, e->name, false, "not in the file");
        else if (e->count) judge_tensor(c, &f, t, e->name);
        else judge_truth(c, e->name, t->rank == e->rank && !t->count && !memcmp(t->size, e->size, (size_t)t->rank * sizeof *t->size), "not empty, or of another shape");
        c->judged[i] = true;
    }
    torchfile_close(&f);
    arena_free(&a);
}

static void judge_same(Case *c, const char *file, const Weights *ours, const Weights *theirs, const SafeEntry *e)
{
    size_t mark = c->run.temp->used;
    const Safetensors *in = NULL;
    const SafeEntry *found = weights_find(ours, e->name, &in);
    const char *name = case_name(c, "%s: %s", file, e->name);
    bool same = found && found->type == e->type && found->count == e->count && found->rank == e->rank && !memcmp(found->size, e->size, sizeof e->size);
    size_t bytes = (size_t)e->count * dtype_size(e->type);
    void *a = arena_take(c->run.temp, bytes), *b = arena_take(c->run.temp, bytes);
    if (!a || !b) run_fail(&c->run, E_MEMORY, "%s: no memory for %zu bytes", c->file, bytes);
    else judge_truth(c, name, same && weights_bytes(ours, in, found, 0, e->count, a, &c->run.status)
                     && weights_bytes(theirs, theirs->file, e, 0, e->count, b, &c->run.status) && !memcmp(a, b, bytes), "differs");
    arena_release(c->run.temp, mark);
}

/* A note on a file, as "teacher branch, prefix backbone., equals models/pix-dino": branch and prefix are chosen here as ever. */
static void judge_model(Case *c, const char *file, const char *model)
{
    Weights ours, theirs;
    char folder[200];
    Status *s = &c->run.status;
    size_t n = strcspn(model, ";, ");
    snprintf(folder, sizeof folder, "%.*s", (int)n, model);
    if (weights_open(&theirs, case_name(c, "%s/%s", c->root, folder), "model", s)) {
        if (weights_open_file(&ours, case_name(c, "%s/%s", c->folder, file), s))
            for (int i = 0; i < theirs.file->entries && run_ok(&c->run); i++) judge_same(c, file, &ours, &theirs, &theirs.file->entry[i]);
        weights_close(&ours);
    }
    weights_close(&theirs);
}

void conform_torch_good(Case *c)
{
    const Json *files = json_get(c->params, "files");
    if (!files || files->kind != JSON_ARRAY) run_fail(&c->run, E_FORMAT, "%s: params.files: expected names of files", c->file);
    for (const Json *j = files ? files->child : NULL; j && run_ok(&c->run); j = j->next) {
        const char *note = j->kind == JSON_STRING ? case_text(c, j->text, "") : "", *model = strstr(note, "models/");
        if (j->kind != JSON_STRING) run_fail(&c->run, E_FORMAT, "%s: params.files: expected names of files", c->file);
        else judge_file(c, j->text);
        if (model && run_ok(&c->run)) judge_model(c, j->text, model);
    }
    for (int i = 0; i < c->tensors.entries && run_ok(&c->run); i++)
        if (!c->judged[i]) judge_truth(c, c->tensors.entry[i].name, false, "of a file that the case does not list");
}
