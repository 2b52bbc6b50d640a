/* diffuseit.h -- `edit --method diffuseit`: settings, and a run from pictures to a picture. */
#ifndef REF_DIFFUSEIT_H
#define REF_DIFFUSEIT_H
#include "guidance/colourmatch.h"
#include "guidance/diffuseit_method.h"
#include "ref/edit.h"
#include "ref/pixel_model.h"

typedef struct {
    Edit edit;                                            /* first: the options of methods and machine point into it */
    const char *target_image, *dino, *clip, *respacing, *templates, *log;
    int  example, colours;                                /* DiffuseitExample + 1, 0: by the target; ColourMatch + 1, 0: likewise */
} DitSettings;

typedef struct {
    DitSettings *s;
    const double *number;                                 /* [DIT_NUMBERS] */
    Console console;
    Progress progress;
    Pipeline p;                                           /* a latent model, or ... */
    PixelModel m;                                         /* ... one in pixel space */
    bool pixels;
    Run *r;                                               /* of the one that is used; errors are there */
    char folder[1024], respacing[40];
    int W, H, steps;
    double scale;
    uint64_t seed;
    Arena arena, keep, weights;
    Dino dino;
    ClipTower tower[DIT_TOWERS];
    char tower_folder[DIT_TOWERS][1024];
    Gaussian process;
    Diffuseit d;
    Random random;
    Image source, target, result;
    JsonOut log;
    int calls, total;
    Tensor last;                                          /* the last finite sample [1,C,h,w], after call last_call */
    int last_call;
    double call_began;
} DitRun;

int verb_diffuseit(int argc, char **argv);                /* `edit` where the method is this one */
bool diffuseit_asked(int argc, char **argv);

/* Numbers and respacing: as given, else of the preset file (NULL: none), else the example's, else the code's defaults.  q keeps them. */
bool dit_numbers(DitRun *w, GuidedRequest *q, MethodRows *rows, const char *presets, Status *s);
/* diffuseit_run.c: everything up to the picture.  w is zeroed but for s, number, console and what the command line says; a source
 * or target that is there already (rgb, W x H) is not read from its file. */
bool dit_open (DitRun *w);                                /* model, towers, texts, pictures */
bool dit_run  (DitRun *w);                                /* w->result */
void dit_close(DitRun *w);
#endif
