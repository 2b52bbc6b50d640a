/* A list of files beside the manifest that a strict reader must accept or refuse. */
#include <stdio.h>
#include "ref/conform.h"

/* Accepted: it opens, and every tensor of it can be read. */
static bool accepts(Case *c, const char *path, Status *s)
{
    Arena a = {0};
    Safetensors f;
    bool good = safetensors_open(&f, &a, path, s);
    for (int i = 0; good && i < f.entries; i++) {
        const SafeEntry *e = &f.entry[i];
        size_t bytes = (size_t)e->count * dtype_size(e->type);
        void *to = arena_take(&a, bytes);
        if (!to) status_fail(&c->run.status, E_MEMORY, "%s: no memory for %zu bytes", path, bytes);
        good = to && safetensors_bytes(&f, e, to, s);
    }
    if (f.arena) safetensors_close(&f);
    arena_free(&a);
    return good;
}

void conform_manifest(Case *c)
{
    for (const Json *j = c->json->child; j; j = j->next) {
        bool wanted = false;
        Status s = {0};
        json_bool(json_get(j, "accept"), &wanted);
        const char *path = case_name(c, "%s/%s", c->folder, j->key);
        bool there = file_exists(path), got = accepts(c, path, &s);
        const char *name = case_name(c, "%s %s", wanted ? "accept" : "refuse", j->key);
        if (!there) judge_truth(c, name, false, "there is no such file");
        else judge_truth(c, name, got == wanted, got ? "was accepted" : s.text);
    }
}
