#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ref/resume.h"
#include "tensor/file.h"
#include "tensor/safetensors.h"

#define KIND "tiller run 1"

typedef struct { uint8_t *bytes; size_t used, room; bool filling; } Blob;      /* room 0: only counted */

static void part(void *self, void *bytes, size_t n)
{
    Blob *b = self;
    if (b->used + n <= b->room && b->filling) memcpy(bytes, b->bytes + b->used, n);
    else if (b->used + n <= b->room) memcpy(b->bytes + b->used, bytes, n);
    b->used += n;
}

static void all_parts(Resume *m, GuideMemory *memory, Blob *b)
{
    Keeper k = { part, b };
    guide_memory(memory, &k);
    if (m->own) m->own(m->user, &k);
}

static const char *meta_of(const Safetensors *f, const char *key)
{
    for (int i = 0; i < f->metas; i++)
        if (!strcmp(f->meta[2 * i], key)) return f->meta[2 * i + 1];
    return "";
}

static bool open_state(const Resume *m, Safetensors *f, Arena *a, const SafeEntry **e)
{
    Status s = {0};
    if (!*m->path || !file_exists(m->path) || !safetensors_open(f, a, m->path, &s)) return false;
    *e = safetensors_find(f, "state");
    return *e && (*e)->type == T_U8 && !strcmp(meta_of(f, "kind"), KIND) && !strcmp(meta_of(f, "key"), m->key);
}

int resume_find(Resume *m)
{
    Arena a = {0};
    Safetensors f = {0};
    const SafeEntry *e;
    int steps = 0;
    if (open_state(m, &f, &a, &e) && (sscanf(meta_of(&f, "steps"), "%d", &steps) != 1 || steps < 0)) steps = 0;
    safetensors_close(&f);
    arena_free(&a);
    return m->steps = steps;
}

bool resume_fill(Resume *m, GuideMemory *memory, Status *s)
{
    Arena a = {0};
    Safetensors f = {0};
    const SafeEntry *e;
    Blob b = {0};
    all_parts(m, memory, &b);
    b.room = b.used;
    b.used = 0;
    b.filling = true;
    if (!open_state(m, &f, &a, &e) || e->count != b.room) status_fail(s, E_FORMAT, "%s: it is not of this run; without it the run starts anew", m->path);
    if (s->code == OK && !(b.bytes = malloc(b.room))) status_fail(s, E_MEMORY, "out of memory: the state of a run");
    if (s->code == OK && safetensors_bytes(&f, e, b.bytes, s)) all_parts(m, memory, &b);
    free(b.bytes);
    safetensors_close(&f);
    arena_free(&a);
    return s->code == OK;
}

void resume_keep(Resume *m, GuideMemory *memory, int steps, bool now)
{
    Blob b = {0};
    char done[20];
    const char *meta[] = { "kind", KIND, "key", m->key, "steps", done };
    if (!*m->path || (!now && clock_seconds() - m->saved < 1)) return;
    all_parts(m, memory, &b);
    b.bytes = malloc(b.used);
    b.room = b.used;
    b.used = 0;
    if (b.bytes) all_parts(m, memory, &b);
    snprintf(done, sizeof done, "%d", steps);
    SafeOut t = { "state", T_U8, 1, { (int)b.room }, b.bytes, false };
    if (b.bytes) safetensors_save(m->path, &t, 1, meta, 3, &m->status);
    free(b.bytes);
    m->saved = clock_seconds();
}

void resume_drop(Resume *m)
{
    if (*m->path && file_exists(m->path)) remove(m->path);
    *m->path = 0;
}
