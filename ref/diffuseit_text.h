/* diffuseit_text.h -- text features for DiffuseIT: the mean over templates, not made unit one by one, then made unit. */
#ifndef REF_DIFFUSEIT_TEXT_H
#define REF_DIFFUSEIT_TEXT_H
#include "nn/clip.h"
#include "nn/model.h"
#include "nn/tokenizer.h"

/* to, from [width]: of the phrases target and source, by the text tower in a CLIP folder.  templates: a file of lines with {}; NULL: the
 * phrases alone.  E_FORMAT for a folder without the text tower that belongs to the embeddings. */
bool diffuseit_texts(Run *r, Tensor to, Tensor from, const char *folder, const Tokenizer *t, const char *target, const char *source, const char *templates);
#endif
