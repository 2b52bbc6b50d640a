/* weights.h -- the tensors of one component folder: one file, or several safetensors files behind an index.
 * For stem "diffusion_pytorch_model" or "model", in this order: STEM.safetensors, STEM.safetensors.index.json,
 * STEM.fp16.safetensors (.bf16.), STEM.non_ema.safetensors; then checkpoints of torch (torchfile.h), whose tensors alone are
 * read: STEM.pt, .pth, .ckpt, .bin, pytorch_model.*, and the one .pt, .pth or .ckpt in the folder, whatever its name.
 *
 * Of a checkpoint one branch is taken: the tensors at the top, else those under "state_dict", "teacher", place 4 of a list, "0",
 * else under the only place that has any.  "module." and "backbone." at the start of their names go. */
#ifndef NN_WEIGHTS_H
#define NN_WEIGHTS_H
#include "tensor/safetensors.h"
#include "tensor/torchfile.h"

typedef struct {
    Safetensors *file;                                    /* of a checkpoint: its list of tensors under their names here */
    int files;
    Torchfile *torch;                                     /* the checkpoint itself, or NULL */
    Arena arena;                                          /* headers */
} Weights;

bool weights_open (Weights *w, const char *folder, const char *stem, Status *s);
bool weights_open_file(Weights *w, const char *path, Status *s);     /* safetensors, or a checkpoint */
/* The same, with the branch ("teacher", "optimizer/state"; "" is the top; NULL: as above; checkpoints only) and the prefix to
 * take off names (NULL: as above) as the caller says.  E_OPTION names the branches there are; E_FORMAT when names collide. */
bool weights_open_branch(Weights *w, const char *path, const char *branch, const char *strip, Status *s);
void weights_close(Weights *w);
const SafeEntry *weights_find(const Weights *w, const char *name, const Safetensors **in);
/* Elements first .. first + count of e, found in `in`: to reals; as stored. */
bool weights_read_part(const Weights *w, const Safetensors *in, const SafeEntry *e, uint64_t first, uint64_t count, real *to, Status *s);
bool weights_bytes(const Weights *w, const Safetensors *in, const SafeEntry *e, uint64_t first, uint64_t count, void *to, Status *s);
/* Is the file named, or does it begin, like a checkpoint of torch? */
bool weights_is_torch(const char *path);

/* weights_torch.c: the chosen branch of w->torch becomes w->file[0]; the prefix goes from the names of w->file[0]. */
bool weights_branch(Weights *w, const char *branch, Status *s);
bool weights_strip (Weights *w, const char *strip, Status *s);
#endif
