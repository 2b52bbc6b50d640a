/* stop.h -- SIGINT and SIGTERM: the first asks the computation to stop, the second ends the process at once. */
#ifndef REF_STOP_H
#define REF_STOP_H
#include <stdbool.h>

void stop_watch(void);                                    /* install the handlers */
bool stop_asked(void *unused);                            /* fits Run.stop */
int  stop_signal(void);                                   /* the signal that came; SIGINT when none did */
#endif
