/* compare_pairs.h -- which tensor of one file belongs to which of another, and their numbers in a common order. */
#ifndef REF_COMPARE_PAIRS_H
#define REF_COMPARE_PAIRS_H
#include "ref/compare.h"
#include "tensor/safetensors.h"

enum { RANK = 8 };
typedef struct {                                          /* numbers, in the order of the comparison */
    const char *name;
    int rank;
    uint64_t size[RANK], count;
    const Safetensors *file;                              /* of a tensor ... */
    const SafeEntry *entry;
    const uint8_t *bytes;                                 /* ... or of a picture */
    int axes, axis[RANK];                                 /* axes > 0: axis k of the comparison is axis[k] of the file */
} Source;

typedef enum { PAIR_BOTH, PAIR_MISSING, PAIR_EXTRA, PAIR_SHAPE } PairKind;
typedef struct {
    PairKind kind;
    Source a, b;                                          /* b is the reference; MISSING has no a, EXTRA no b */
    Difference d;                                         /* of BOTH */
    bool pass;
} Pair;

/* MAP: lines  theirs<TAB>ours[<TAB>perm=0,3,1,2]; blank lines and lines that begin with # are skipped.  perm moves the
 * axes of theirs as numpy's transpose does; either file may be theirs.  All other names must be equal.
 * The pairs come in the order of b's data; what only a has comes last.  NULL on failure. */
Pair *pairs_match(Arena *a, const Safetensors *mine, const Safetensors *reference, const char *map, int *n, Status *s);

/* Numbers first .. first+n of a source, as doubles.  Unpermuted sources are read in pieces of any size. */
bool source_read(const Source *s, uint64_t first, size_t n, double *to, Arena *scratch, Status *status);
/* The difference of a pair of one shape, computed piece by piece. */
bool pair_measure(Pair *p, double rtol, double atol, Arena *scratch, Status *s);
#endif
