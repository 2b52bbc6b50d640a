/* tokenizer_parts.h -- what the tokenizer's own files share: its tables, and the merging of one word. */
#ifndef NN_TOKENIZER_PARTS_H
#define NN_TOKENIZER_PARTS_H
#include "nn/tokenizer.h"
#include "nn/tokenizer_unicode.h"

typedef struct { const char *text; int length, id; } Word;
typedef struct { int left, right, rank, joined; } Merge;
enum { BOS, EOS, PAD, UNK, SPECIALS };

struct Tokenizer {
    int count;                                            /* ids are 0 .. count - 1 */
    const char **spelling;                                /* by id */
    Word  *word;                                          /* by text */
    Merge *merge;                                         /* by (left, right) */
    int merges;
    int symbol[256], last_symbol[256];                    /* of a byte; of a byte that ends a word ("</w>") */
    Word special[SPECIALS];
    int length;
};

const Merge *merge_find(const Merge *merge, int merges, int left, int right);        /* NULL: they do not join */
const Word  *word_find(const Word *word, int count, const char *text, size_t length);

typedef struct { Piece *out; int most, count; } Pieces;   /* count goes on where out is full */
void pieces_add(Pieces *p, int id, int from, int to);
/* Byte-pair encoding of one word c[0..n), n >= 1.  False: out of memory. */
bool word_pieces(const Tokenizer *t, Arena *scratch, const Char *c, int n, Pieces *to);
#endif
