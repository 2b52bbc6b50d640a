/* model.h -- a model folder in the diffusers layout, opened once; its components are built and filled on demand.  The numbers
 * of a network, by far most of the memory, can be given back and read again; its structure and configuration stay.
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
    Arena arena;                                          /* configurations, structure, vocabulary */
    Arena numbers[MODEL_PARTS];                           /* of unet, vae, text encoder, by bit number: from load to unload */
    size_t limit;                                         /* most bytes all these may reserve together; 0: no limit */
    unsigned listed, built, loaded;                       /* ModelPart bits: in the folder; all but numbers; ready for use */
    Unet unet;
    Vae vae;
    ClipText text;
    Tokenizer *tokenizer;
    const Json *scheduler;                                /* scheduler_config.json, once MODEL_SCHEDULER is loaded */
    char scheduler_file[480];
    LoadReport report[MODEL_PARTS];                       /* of unet, vae, text encoder: by bit number */
} Model;

/* Read model_index.json.  E_FILE or E_FORMAT.  m->limit may be set afterwards. */
bool model_open (Model *m, const char *folder, Status *s);
/* Read the configurations of parts (an or of ModelPart) and build them; the tensors in the files are compared with what the
 * network has, but no number is read.  E_FORMAT for a part the folder does not have. */
bool model_build(Model *m, unsigned parts, Status *s);
/* Make them ready, building first; those that are already stay as they are. */
bool model_load (Model *m, unsigned parts, Status *s);
void model_unload(Model *m, unsigned parts);              /* give numbers of networks back; all else stays */
size_t model_held(const Model *m);                        /* bytes reserved */
size_t model_bytes(Model *m, unsigned parts);             /* the numbers of these networks take, once built, as they are planned */
void model_close(Model *m);
/* Tensors in the files that nothing asked for, over all parts loaded; *first names one of them ("unet: NAME"); 0: none. */
int  model_surplus(const Model *m, char *first, size_t room);
/* Parameters that came from checkpoints with NaN or infinity in them. */
int  model_nonfinite(const Model *m, char *first, size_t room);

/* One component folder alone (config.json and weights), for folders without an index. */
bool model_load_unet(Unet *u, const char *folder, Arena *weights, LoadReport *report, Status *s);
bool model_load_vae (Vae *v, const char *folder, Arena *weights, LoadReport *report, Status *s);
bool model_load_text(ClipText *c, const char *folder, Arena *weights, LoadReport *report, Status *s);
#endif
