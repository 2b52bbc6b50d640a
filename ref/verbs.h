/* verbs.h -- the verbs of the program, and what they share: options, the model's place, set-up. */
#ifndef REF_VERBS_H
#define REF_VERBS_H
#include "ref/console.h"
#include "ref/options.h"
#include "guidance/methods.h"
#include "ref/pipeline.h"

#define TILLER_VERSION "0.1.0"

/* Each takes argv[0] = the verb's name and returns the exit code. */
int verb_generate(int argc, char **argv);
int verb_encode  (int argc, char **argv);
int verb_decode  (int argc, char **argv);
int verb_tokenize(int argc, char **argv);
int verb_info    (int argc, char **argv);
int verb_sites   (int argc, char **argv);
int verb_edit    (int argc, char **argv);
int verb_invert  (int argc, char **argv);
int verb_train   (int argc, char **argv);
int verb_methods (int argc, char **argv);
int verb_sheet   (int argc, char **argv);
int verb_convert (int argc, char **argv);
void method_help(const MethodInfo *m);                    /* `tiller help METHOD`, on stdout */
const MethodInfo *method_nearest(const char *name);

/* The first member of every verb's settings: the option tables below point into it. */
typedef struct {
    bool quiet, verbose, json;
    int  color;                                           /* Color */
    const char *model;                                    /* NULL: the bundled one */
    int  threads, cpu, math;                              /* 0: all; places in the options' lists */
    uint64_t most_memory;                                 /* 0: no limit */
} Common;

extern const Option common_row[3];                        /* -q -v --color */
extern const Option machine_row[5];                       /* --model --threads --cpu --math --max-memory */
#define MODEL_OPTION { "model", 'm', OPTION_TEXT, offsetof(Common, model), 0, 0, NULL, "FOLDER", \
                       "model folder in the diffusers layout [default: the bundled one]", NULL }
#define JSON_OPTION  { "json", 0, OPTION_FLAG, offsetof(Common, json), 0, 0, NULL, NULL, "results as JSON on standard output", NULL }
#define TABLE(title, rows) { title, rows, (int)(sizeof (rows) / sizeof *(rows)) }
#define COMMON_TABLE  TABLE("Messages", common_row)
#define MACHINE_TABLE TABLE("Model and machine", machine_row)

/* Parse and set up the console; signals are caught from here on.  False: the verb returns *code (help was shown, or an error). */
bool verb_begin(Console *c, const OptionPage *page, void *settings, int argc, char **argv, char **rest, int *rests, int *code);

/* Options that are refused before they are parsed; the exit code. */
int  verb_refused(int argc, char **argv, const Status *s);
/* The last call: the error there may be, with its hint, and the exit code. */
int  verb_end(const Console *c, const Status *s);

/* The model of verbs that take it as an argument as well: E_OPTION when both are there. */
bool common_argument(Common *m, char **rest, int rests, Status *s);
/* The model folder: as asked, else the bundled one beside the program.  E_FILE says where it was looked for. */
bool common_model(const Common *m, char *folder, size_t room, Status *s);
/* The path of a bundled file, as "nouns.txt".  E_FILE. */
bool common_data(char *path, size_t room, const char *name, Status *s);
bool common_bundled(const Common *m, const char *folder);            /* is it the bundled model? */
/* Kernels, threads and products as the options say; no memory yet.  E_OPTION in its status. */
Run common_run(const Common *m);
/* Open the pipeline as the options say.  Errors are in p->run.status. */
bool common_pipeline(Pipeline *p, const Common *m, const char *folder);
/* Better now than after minutes: E_MEMORY, its text followed by `advice`, when more bytes are wanted than --max-memory allows; a
 * warning when more than are free. */
bool common_memory(const Console *c, const Common *m, uint64_t wanted, const char *advice, Status *s);
/* One warning for the tensors of the model's files that nothing asked for. */
void common_surplus(const Console *c, const Model *m);
/* One for n parameters of `what` that came from a checkpoint and are NaN or infinite; known once numbers were read. */
void common_nonfinite(const Console *c, const char *what, int n, const char *first);
void common_sound(const Console *c, const Model *m);      /* the same for the networks of a model that have been read so far */
const char *common_math(const Common *m);                 /* "fast" or "reference" */
/* A hint for an error of this code, or NULL. */
const char *common_hint(const Status *s);

/* The sentence for the user when the output cannot be written; asks by creating and removing a temporary file. */
bool output_check(const char *path, Status *s);
/* Before the extension: "a/x.png" and "-3" give "a/x-3.png". */
void output_name(char *to, size_t room, const char *path, const char *insert);
/* The image's number where there are several, and the step's unless it is 0: "a/x-3-step0010.png". */
void output_numbered(char *to, size_t room, const char *path, int image, int count, int step);
const char *base_name(const char *path, char *to, size_t room);      /* last part, without slashes at the end */
bool size_check(int W, int H, int factor, Status *s);     /* E_OPTION unless both are multiples */
#endif
