/* names.h -- other spellings under which published files hold a tensor. */
#ifndef NN_NAMES_H
#define NN_NAMES_H
#include <stdbool.h>
#include <stddef.h>

/* The one other spelling of a checkpoint name; false when there is none.
 *   text_model.X, vision_model.X              X                      (transformers from 5.6 on, for a tower on its own)
 *   visual.X                                  X                      (CLIP's image towers taken out of OpenAI's state dict)
 *   attentions.N.{to_q,to_k,to_v,to_out.0}    attentions.N.{query,key,value,proj_attn}      (autoencoders before 2023) */
bool names_other(const char *name, char *to, size_t room);
bool names_ignored(const char *name);                     /* buffers that no network reads: position_ids, num_batches_tracked */
#endif
