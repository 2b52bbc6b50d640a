/* tokenizer.h -- CLIP's byte-level BPE, by the Hugging Face rule; words -> token positions. */
#ifndef NN_TOKENIZER_H
#define NN_TOKENIZER_H
#include "tensor/run.h"

typedef struct Tokenizer Tokenizer;

/* vocab.json, merges.txt, tokenizer_config.json / special_tokens_map.json of a tokenizer folder. NULL on failure. */
Tokenizer *tokenizer_load(Arena *a, const char *folder, Status *s);

typedef struct { int id; int from, to; } Piece;           /* a token, and the bytes of the prompt it came from: [from,to) */
/* Ids without begin and end marks.  `most`: room in out; returns the number there are (may exceed most: then truncated), -1 on failure. */
int tokenizer_pieces(const Tokenizer *t, Arena *scratch, const char *text, size_t length, Piece *out, int most, Status *s);
/* BOS, at most length-2 ids, EOS, then padding.  *dropped: ids that did not fit. */
bool tokenizer_encode(const Tokenizer *t, Arena *scratch, const char *text, size_t bytes, int *ids, int length, int *dropped, Status *s);
/* Positions (in the encoded row: 1 is the first word's) of the tokens of `word` at its nth occurrence as a whole word
 * (case-insensitive; several words allowed).  Returns their number, 0 when it is not there. */
int tokenizer_word(const Tokenizer *t, Arena *scratch, const char *text, const char *word, int nth, int *positions, int most, Status *s);
const char *tokenizer_text(const Tokenizer *t, int id);   /* the vocabulary's spelling, "</w>" included; NULL outside */
int  tokenizer_length(const Tokenizer *t);                /* model_max_length: 77 */
int  tokenizer_bos(const Tokenizer *t);
int  tokenizer_eos(const Tokenizer *t);
int  tokenizer_pad(const Tokenizer *t);
#endif
