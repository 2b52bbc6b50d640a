/* resume.h -- a guided run that was interrupted goes on: what guide_memory shows, written beside the output after steps (at most
 * once a second), and read again by a run of the same key.  What the caller remembers is written with it. */
#ifndef REF_RESUME_H
#define REF_RESUME_H
#include "guidance/guide.h"

typedef struct {
    char path[1200];                                      /* "": nothing is kept */
    char key[65];                                         /* of everything that decides the run's numbers */
    void (*own)(void *user, const Keeper *k);             /* the caller's part; may be NULL */
    void *user;
    int steps;                                            /* done, says the file */
    double saved;
    Status status;                                        /* of writing; a run does not fail because of it */
} Resume;

/* Steps done by a run of this key; 0 where there is no such file. */
int  resume_find(Resume *m);
/* For Guide.begun and Guide.kept.  A file of another size than the run's memory is E_FORMAT in *s. */
bool resume_fill(Resume *m, GuideMemory *memory, Status *s);
void resume_keep(Resume *m, GuideMemory *memory, int steps, bool now);
void resume_drop(Resume *m);                              /* the run is done */
#endif
