#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ref/compare_pairs.h"

enum { LARGEST_MAP = 64 << 20 };

typedef struct {
    const Safetensors *mine, *reference;
    bool *mine_used, *reference_used;
    Pair *pair;
    int n;
    const char *map;
    int line;
    Status *status;
} Matching;

static Source source_of(const Safetensors *f, const SafeEntry *e)
{
    Source s = { .name = e->name, .rank = e->rank, .count = e->count, .file = f, .entry = e };
    memcpy(s.size, e->size, sizeof s.size);
    return s;
}

static void move_axes(Source *s, int axes, const int *axis)
{
    s->axes = axes;
    for (int k = 0; k < axes; k++) {
        s->axis[k] = axis[k];
        s->size[k] = s->entry->size[axis[k]];
    }
}

static void add_pair(Matching *m, Source a, Source b)
{
    bool same = a.rank == b.rank && !memcmp(a.size, b.size, sizeof *a.size * (size_t)a.rank);
    PairKind kind = !a.entry ? PAIR_MISSING : !b.entry ? PAIR_EXTRA : same ? PAIR_BOTH : PAIR_SHAPE;
    m->pair[m->n++] = (Pair){ .kind = kind, .a = a, .b = b };
    if (a.entry) m->mine_used[a.entry - m->mine->entry] = true;
    if (b.entry) m->reference_used[b.entry - m->reference->entry] = true;
}

static bool bad_line(Matching *m, const char *what, const char *found)
{
    status_fail(m->status, E_FORMAT, "%s: line %d: %s \"%.100s\"", m->map, m->line, what, found);
    return false;
}

/* "perm=0,3,1,2" */
static int read_axes(const char *text, int axis[RANK])
{
    unsigned seen = 0;
    int n = 0;
    if (strncmp(text, "perm=", 5)) return 0;
    for (text += 5; ; text++) {
        if (*text < '0' || *text > '7' || n == RANK) return 0;
        axis[n] = *text - '0';
        seen |= 1u << axis[n++];
        if (!*++text) break;
        if (*text != ',') return 0;
    }
    return seen == (1u << n) - 1 ? n : 0;
}

static bool map_line(Matching *m, char *line)
{
    char *theirs = line, *ours = strchr(line, '\t');
    int axis[RANK], axes = 0;
    if (!ours) return bad_line(m, "expected two names with a tab between, found", line);
    *ours++ = 0;
    char *more = strchr(ours, '\t');
    if (more) {
        *more++ = 0;
        axes = read_axes(more, axis);
        if (!axes) return bad_line(m, "expected perm= and a permutation such as 0,3,1,2, found", more);
    }
    const SafeEntry *a = safetensors_find(m->mine, theirs), *b = safetensors_find(m->reference, ours);
    bool theirs_is_mine = a && b;
    if (!theirs_is_mine) {
        a = safetensors_find(m->mine, ours);
        b = safetensors_find(m->reference, theirs);
    }
    if (!a || !b) return bad_line(m, "the two files do not hold this pair of names, beginning with", theirs);
    if (m->mine_used[a - m->mine->entry] || m->reference_used[b - m->reference->entry])
        return bad_line(m, "named a second time:", theirs);
    Source x = source_of(m->mine, a), y = source_of(m->reference, b);
    Source *move = theirs_is_mine ? &x : &y;
    if (axes && axes != move->rank) return bad_line(m, "the permutation does not fit the number of axes of", theirs);
    if (axes) move_axes(move, axes, axis);
    add_pair(m, x, y);
    return true;
}

static bool read_map(Matching *m, Arena *a)
{
    size_t size;
    char *text = file_load(m->map, LARGEST_MAP, &size, m->status), *copy = text ? arena_take(a, size + 1) : NULL;
    if (copy) memcpy(copy, text, size + 1);
    free(text);
    if (!copy) {
        status_fail(m->status, E_MEMORY, "%s: no memory for the map", m->map);
        return false;
    }
    for (char *line = copy, *next; line; line = next) {
        m->line++;
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        size_t n = strlen(line);
        if (n && line[n - 1] == '\r') line[n - 1] = 0;
        if (*line && *line != '#' && !map_line(m, line)) return false;
    }
    return true;
}

static int by_data(const void *p, const void *q)
{
    const Pair *x = p, *y = q;
    if (!x->b.entry || !y->b.entry) {
        if (x->b.entry || y->b.entry) return x->b.entry ? -1 : 1;
        return strcmp(x->a.name, y->a.name);
    }
    if (x->b.entry->offset != y->b.entry->offset) return x->b.entry->offset < y->b.entry->offset ? -1 : 1;
    return strcmp(x->b.name, y->b.name);
}

Pair *pairs_match(Arena *a, const Safetensors *mine, const Safetensors *reference, const char *map, int *n, Status *s)
{
    size_t most = (size_t)mine->entries + (size_t)reference->entries;
    Matching m = { .mine = mine, .reference = reference, .map = map, .status = s };
    m.pair = arena_take(a, most * sizeof *m.pair);
    m.mine_used = arena_take(a, (size_t)mine->entries);
    m.reference_used = arena_take(a, (size_t)reference->entries);
    if (!m.pair || !m.mine_used || !m.reference_used) {
        status_fail(s, E_MEMORY, "no memory for a list of %zu tensors", most);
        return NULL;
    }
    memset(m.mine_used, 0, (size_t)mine->entries);
    memset(m.reference_used, 0, (size_t)reference->entries);
    if (map && !read_map(&m, a)) return NULL;
    for (int i = 0; i < reference->entries; i++) {
        if (m.reference_used[i]) continue;
        const SafeEntry *e = safetensors_find(mine, reference->entry[i].name);
        if (e && m.mine_used[e - mine->entry]) e = NULL;
        Source none = { .name = reference->entry[i].name };
        add_pair(&m, e ? source_of(mine, e) : none, source_of(reference, &reference->entry[i]));
    }
    for (int i = 0; i < mine->entries; i++)
        if (!m.mine_used[i]) add_pair(&m, source_of(mine, &mine->entry[i]), (Source){ .name = mine->entry[i].name });
    qsort(m.pair, (size_t)m.n, sizeof *m.pair, by_data);
    *n = m.n;
    return m.pair;
}
