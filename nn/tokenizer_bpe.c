#include "nn/tokenizer_parts.h"

/* Merging one word: repeatedly join the adjacent pair of lowest rank, the leftmost first, until no pair is in the table.
 * Symbols are a doubly linked list over the word's bytes, candidates a heap of (rank, place): O(n log n) for n bytes.
 * A candidate is stale when its pair has changed since; it is known by the rank, which no other pair has. */
typedef struct {
    const Tokenizer *t;
    int *id, *next, *before;                              /* by first byte of the symbol; id -1: joined to the left */
    int bytes;
    uint64_t *heap;                                       /* rank << 32 | place */
    int heaped;
} Merging;

const Merge *merge_find(const Merge *merge, int merges, int left, int right)
{
    int low = 0, high = merges;
    while (low < high) {
        int mid = (low + high) / 2;
        const Merge *m = &merge[mid];
        if (m->left < left || (m->left == left && m->right < right)) low = mid + 1;
        else high = mid;
    }
    return low < merges && merge[low].left == left && merge[low].right == right ? &merge[low] : NULL;
}

void pieces_add(Pieces *p, int id, int from, int to)
{
    if (p->count < p->most) p->out[p->count] = (Piece){ id, from, to };
    p->count++;
}

static const Merge *merge_at(const Merging *w, int place)
{
    int right = place >= 0 && w->id[place] >= 0 ? w->next[place] : w->bytes;
    return right < w->bytes ? merge_find(w->t->merge, w->t->merges, w->id[place], w->id[right]) : NULL;
}

static void heap_push(Merging *w, int place)
{
    const Merge *m = merge_at(w, place);
    if (!m) return;
    uint64_t key = (uint64_t)m->rank << 32 | (uint32_t)place;
    int i = w->heaped++;
    for (; i && w->heap[(i - 1) / 2] > key; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = key;
}

static uint64_t heap_pop(Merging *w)
{
    uint64_t top = w->heap[0], key = w->heap[--w->heaped];
    int i = 0;
    for (int child; (child = 2 * i + 1) < w->heaped; i = child) {
        if (child + 1 < w->heaped && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= key) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = key;
    return top;
}

static void merge_all(Merging *w)
{
    for (int i = 0; i < w->bytes; i++) heap_push(w, i);
    while (w->heaped) {
        uint64_t key = heap_pop(w);
        int place = (int)(uint32_t)key;
        const Merge *m = merge_at(w, place);
        if (!m || (uint64_t)m->rank != key >> 32) continue;
        int right = w->next[place];
        w->id[place] = m->joined;
        w->id[right] = -1;
        w->next[place] = w->next[right];
        if (w->next[place] < w->bytes) w->before[w->next[place]] = place;
        heap_push(w, w->before[place]);
        heap_push(w, place);
    }
}

bool word_pieces(const Tokenizer *t, Arena *scratch, const Char *c, int n, Pieces *to)
{
    size_t mark = scratch->used, most = 0;
    char byte[4];
    for (int i = 0; i < n; i++) most += (size_t)unicode_write(byte, c[i].code);
    int *room = arena_take(scratch, 4 * most * sizeof *room), *owner = room + 3 * most;
    uint64_t *heap = arena_take(scratch, 2 * most * sizeof *heap);       /* a join takes one out and puts two in at most */
    bool fine = room && heap;
    if (fine) {
        Merging w = { t, room, room + most, room + 2 * most, 0, heap, 0 };
        for (int i = 0; i < n; i++) {
            int bytes = unicode_write(byte, c[i].code);
            for (int k = 0; k < bytes; k++, w.bytes++) {
                bool last = i == n - 1 && k == bytes - 1;
                w.id[w.bytes] = (last ? t->last_symbol : t->symbol)[(unsigned char)byte[k]];
                w.next[w.bytes] = w.bytes + 1;
                w.before[w.bytes] = w.bytes - 1;
                owner[w.bytes] = i;
            }
        }
        merge_all(&w);
        for (int i = 0; i < w.bytes; i = w.next[i])
            pieces_add(to, w.id[i], c[owner[i]].from, c[owner[w.next[i] - 1]].to);
    }
    arena_release(scratch, mark);
    return fine;
}
