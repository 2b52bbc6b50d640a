/* model.h -- a model folder in the diffusers layout, opened once; its components are built and filled on demand.
 *
 *     model_index.json                         which components there are, and their classes ([null, null]: absent)
 *     unet/  vae/  text_encoder/               config.json and weights (see weights.h)
 *     tokenizer/  scheduler/                   vocabulary; scheduler_config.json
 *
 * A class that is not built here is refused with E_FORMAT, naming the class and those that are. */
#ifndef NN_MODEL_H
#define NN_MODEL_H
#include "nn/clip.h"
#include "nn/tokenizer.h"
#include "nn/unet.h"
#include "nn/vae.h"

typedef enum { MODEL_UNET = 1, MODEL_VAE = 2, MODEL_TEXT = 4, MODEL_TOKENIZER = 8, MODEL_SCHEDULER = 16 } ModelPart;
enum { MODEL_PARTS = 5 };

typedef struct {
    char folder[400];
    char class_name[80];                                  /* of the pipeline, e.g. "StableDiffusionPipeline" */
    Arena arena;                                          /* configurations, structure and numbers: the weights' lifetime */
    unsigned listed, loaded;                              /* ModelPart bits: in the folder; ready for use */
    Unet unet;
    Vae vae;
    ClipText text;
    Tokenizer *tokenizer;
    const Json *scheduler;                                /* scheduler_config.json, once MODEL_SCHEDULER is loaded */
    char scheduler_file[480];
    LoadReport report[MODEL_PARTS];                       /* of unet, vae, text encoder: by bit number */
} Model;

/* Read model_index.json.  E_FILE or E_FORMAT.  m->arena.limit may be set afterwards. */
bool model_open (Model *m, const char *folder, Status *s);
/* Make the parts (an or of ModelPart) ready; those that are already stay as they are.  E_FORMAT for a part the folder does not have. */
bool model_load (Model *m, unsigned parts, Status *s);
void model_close(Model *m);
/* Tensors in the files that nothing asked for, over all parts loaded; *first names one of them ("unet: NAME"); 0: none. */
int  model_surplus(const Model *m, char *first, size_t room);

/* One component folder alone (config.json and weights), for folders without an index. */
bool model_load_unet(Unet *u, const char *folder, Arena *weights, LoadReport *report, Status *s);
bool model_load_vae (Vae *v, const char *folder, Arena *weights, LoadReport *report, Status *s);
bool model_load_text(ClipText *c, const char *folder, Arena *weights, LoadReport *report, Status *s);
#endif
