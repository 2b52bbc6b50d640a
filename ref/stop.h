/* stop.h -- SIGINT and SIGTERM: the first asks the computation to stop between two steps of a network.  A step of a
 * large picture lasts minutes (attention at 2048 x 2048 pixels: 98 s measured), so the second signal, or the end of
 * the grace time, ends the process where it stands; open temporary files are removed.  The exit code is the same. */
#ifndef REF_STOP_H
#define REF_STOP_H
#include <stdbool.h>

enum { STOP_GRACE = 1 };                                  /* seconds; users are promised the end within two */

void stop_watch(void);                                    /* install the handlers */
bool stop_asked(void *unused);                            /* fits Run.stop */
int  stop_signal(void);                                   /* the signal that came; SIGINT when none did */
#endif
