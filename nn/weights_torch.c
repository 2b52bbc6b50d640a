#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nn/weights.h"

/* ---- which branch -------------------------------------------------------------------------------------- */

/* The part of a tensor's name behind "BRANCH/"; NULL: it is elsewhere. */
static const char *under(const char *name, const char *branch)
{
    size_t n = strlen(branch);
    if (!n) return name;
    return !strncmp(name, branch, n) && name[n] == '/' ? name + n + 1 : NULL;
}

static int held(const Torchfile *f, const char *branch)   /* tensors directly there */
{
    int n = 0;
    for (int i = 0; i < f->tensors; i++) {
        const char *rest = under(f->tensor[i].name, branch);
        n += rest && !strchr(rest, '/');
    }
    return n;
}

/* The next place, in order of name, that holds tensors directly. */
static bool next_place(const Torchfile *f, int *at, char *place, size_t room)
{
    char now[1100];
    for (; *at < f->tensors; (*at)++) {
        const char *name = f->tensor[*at].name, *slash = strrchr(name, '/');
        snprintf(now, sizeof now, "%.*s", slash ? (int)(slash - name) : 0, name);
        if (!strcmp(now, place)) continue;
        snprintf(place, room, "%s", now);
        return true;
    }
    return false;
}

static void list_places(const Torchfile *f, char *to, size_t room)
{
    char place[1100] = "/";                               /* no place is called so */
    int at = 0, n = 0;
    size_t length = 0;
    while (next_place(f, &at, place, sizeof place) && n++ < 8 && length < room)
        length += (size_t)snprintf(to + length, room - length, "%s\"%.60s\"", n > 1 ? ", " : "", place);
    if (n > 8 && length < room) snprintf(to + length, room - length, " ...");
}

static bool choose(const Torchfile *f, char *branch, size_t room, Status *s)
{
    static const char *const usual[] = { "", "state_dict", "teacher" };
    char list[300] = "", other[1100] = "/";
    int at = 0;
    for (int i = 0; i < 3; i++)
        if (held(f, usual[i])) return snprintf(branch, room, "%s", usual[i]) >= 0;
    if (f->list && held(f, "4")) return snprintf(branch, room, "4") >= 0;
    if (held(f, "0")) return snprintf(branch, room, "0") >= 0;
    strcpy(branch, "/");
    if (next_place(f, &at, branch, room)) {
        snprintf(other, sizeof other, "%s", branch);
        if (!next_place(f, &at, other, sizeof other)) return true;
    }
    list_places(f, list, sizeof list);
    if (!f->tensors) status_fail(s, E_FORMAT, "%s: a checkpoint that holds no tensor", f->file.name);
    else status_fail(s, E_FORMAT, "%.150s: which of its branches is meant: %s? (tiller convert --branch)", f->file.name, list);
    return false;
}

/* ---- its tensors, as the list of a safetensors file ---------------------------------------------------- */

static int by_name(const void *a, const void *b) { return strcmp(((const SafeEntry *)a)->name, ((const SafeEntry *)b)->name); }

static bool sort_names(Safetensors *f, Status *s)
{
    qsort(f->entry, (size_t)f->entries, sizeof *f->entry, by_name);
    for (int i = 1; i < f->entries; i++)
        if (!by_name(&f->entry[i - 1], &f->entry[i])) {
            status_fail(s, E_FORMAT, "%.200s: two tensors would be called \"%.160s\" without their prefixes", f->file.name, f->entry[i].name);
            return false;
        }
    return true;
}

static bool take_branch(Weights *w, const char *branch, bool nested, Status *s)
{
    Torchfile *t = w->torch;
    Safetensors *f = &w->file[0];
    *f = (Safetensors){ .arena = &w->arena };
    memcpy(f->file.name, t->file.name, sizeof f->file.name);             /* no descriptor: it can be listed, not read */
    f->file.size = t->file.size;
    f->entry = arena_take(&w->arena, (size_t)t->tensors * sizeof *f->entry);
    if (!f->entry) {
        status_fail(s, E_MEMORY, "%s: no memory for its list of tensors", t->file.name);
        return false;
    }
    for (int i = 0; i < t->tensors; i++) {
        const TorchTensor *x = &t->tensor[i];
        const char *rest = under(x->name, branch);
        if (!rest || (!nested && strchr(rest, '/'))) continue;
        SafeEntry *e = &f->entry[f->entries++];
        *e = (SafeEntry){ .name = rest, .type = x->type, .rank = x->rank, .count = x->count, .offset = (uint64_t)i };
        memcpy(e->size, x->size, sizeof e->size);
    }
    w->files = 1;
    if (f->entries) return sort_names(f, s);
    char list[300] = "";
    list_places(t, list, sizeof list);
    status_fail(s, E_OPTION, "%.150s: no tensor under \"%.60s\"; there are some under %s", t->file.name, branch, list);
    return false;
}

bool weights_branch(Weights *w, const char *branch, Status *s)
{
    char chosen[1100];
    if (branch) return take_branch(w, branch, true, s);
    return choose(w->torch, chosen, sizeof chosen, s) && take_branch(w, chosen, false, s);
}

bool weights_strip(Weights *w, const char *strip, Status *s)
{
    static const char *const usual[] = { "module.", "backbone." };
    const char *const *prefix = strip ? &strip : usual;
    Safetensors *f = &w->file[0];
    for (int i = 0; i < f->entries; i++)
        for (int k = 0; k < (strip ? 1 : 2); k++) {
            size_t n = strlen(prefix[k]);
            if (n && !strncmp(f->entry[i].name, prefix[k], n)) f->entry[i].name += n;
        }
    return sort_names(f, s);
}
