#include <stdio.h>
#include <string.h>
#include "nn/names.h"

static const char *const PREFIX[] = { "text_model.", "vision_model.", "visual." };
static const struct { const char *ours, *theirs; } LEAF[] = {
    { "to_q.", "query." }, { "to_k.", "key." }, { "to_v.", "value." }, { "to_out.0.", "proj_attn." }
};

static const char *after_digits(const char *p)
{
    while (*p >= '0' && *p <= '9') p++;
    return p;
}

bool names_other(const char *name, char *to, size_t room)
{
    for (size_t i = 0; i < sizeof PREFIX / sizeof *PREFIX; i++) {
        size_t n = strlen(PREFIX[i]);
        if (!strncmp(name, PREFIX[i], n)) return snprintf(to, room, "%s", name + n) < (int)room;
    }
    const char *at = strstr(name, "attentions.");
    at = at ? after_digits(at + strlen("attentions.")) : "";
    if (*at++ != '.') return false;
    for (size_t i = 0; i < sizeof LEAF / sizeof *LEAF; i++) {
        size_t n = strlen(LEAF[i].ours);
        if (!strncmp(at, LEAF[i].ours, n))
            return snprintf(to, room, "%.*s%s%s", (int)(at - name), name, LEAF[i].theirs, at + n) < (int)room;
    }
    return false;
}

bool names_ignored(const char *name)
{
    const char *leaf = strrchr(name, '.');
    if (leaf) name = leaf + 1;
    return !strcmp(name, "position_ids") || !strcmp(name, "num_batches_tracked");
}
