/* tokenizer.h -- CLIP's byte-level BPE, as the reference tokenizer (Hugging Face) does it; words -> token positions.
 *
 *   1. the special tokens (begin, end, unknown, padding) are cut out where the text spells them exactly;
 *   2. the rest: NFC, each run of white space one blank, each character in lower case by itself;
 *   3. pieces, left to right: 's 't 're 've 'm 'll 'd, a run of letters, ONE number character, a run of anything else;
 *   4. each piece as UTF-8 bytes, its last one marked "</w>", merged by rank (merges.txt);
 *   5. begin, at most length - 2 ids, end, padding.
 * Prompts are UTF-8 with an explicit length: a NUL is an ordinary character.  Bytes that are not UTF-8 are E_OPTION.
 * With padding "!" (Stable Diffusion 2) an exclamation mark in a prompt is therefore that special token, as in the original.
 * A tokenizer never changes after loading: threads may share it, each with its own scratch. */
#ifndef NN_TOKENIZER_H
#define NN_TOKENIZER_H
#include "tensor/run.h"

typedef struct Tokenizer Tokenizer;

enum { TOKENIZER_MOST_IDS = 1000000, TOKENIZER_LONGEST = 1 << 22 };      /* ids in a vocabulary; bytes of a prompt */

/* A tokenizer folder: vocab.json and merges.txt, or without the first tokenizer.json, which newer folders hold instead;
 * special tokens and model_max_length from special_tokens_map.json, else tokenizer_config.json (each a string or
 * {"content": string}), else <|startoftext|>, <|endoftext|>, padding = end, 77.
 * NULL on failure: E_FILE, or E_FORMAT naming file and line or entry; E_MEMORY. */
Tokenizer *tokenizer_load(Arena *a, const char *folder, Status *s);

typedef struct { int id; int from, to; } Piece;           /* a token, and the bytes of the prompt it came from: [from,to) */
/* Ids without begin and end marks.  `most`: room in out; returns the number there are (may exceed most: then truncated), -1 on failure.
 * A character spread over several tokens belongs to each; characters joined by NFC cover all their bytes. */
int tokenizer_pieces(const Tokenizer *t, Arena *scratch, const char *text, size_t length, Piece *out, int most, Status *s);
/* BOS, at most length-2 ids, EOS, then padding.  *dropped: ids that did not fit (may be NULL).  E_OPTION: length below 2. */
bool tokenizer_encode(const Tokenizer *t, Arena *scratch, const char *text, size_t bytes, int *ids, int length, int *dropped, Status *s);
/* Positions (in the encoded row of tokenizer_length: 1 is the first word's) of the tokens of `word` at its nth occurrence
 * (0 is the first) as a whole word: compared after step 2, no letter or number directly before or behind it; several words
 * and punctuation allowed.  Tokens cut off by the row's end are left out.  Both texts end at their NUL.
 * Returns their number (may exceed most), 0 when it is not there, -1 on failure. */
int tokenizer_word(const Tokenizer *t, Arena *scratch, const char *text, const char *word, int nth, int *positions, int most, Status *s);
const char *tokenizer_text(const Tokenizer *t, int id);   /* the vocabulary's spelling, "</w>" included; NULL outside */
int  tokenizer_count(const Tokenizer *t);                 /* ids are 0 .. count - 1 */
int  tokenizer_length(const Tokenizer *t);                /* model_max_length: 77 */
int  tokenizer_bos(const Tokenizer *t);
int  tokenizer_eos(const Tokenizer *t);
int  tokenizer_pad(const Tokenizer *t);
#endif
