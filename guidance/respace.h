/* respace.h -- which of T training times a shorter process keeps (Nichol & Dhariwal 2102.09672, section 4).
 *
 *     ""        all of them
 *     "ddimN"   every s-th from 0, s the smallest stride that gives exactly N
 *     "a,b,c"   T in as many equal sections as there are counts (the first T mod k one longer); c of a section's n times,
 *               at its start + the running sum of (n-1)/(c-1) (one count: the start), halves to even */
#ifndef GUIDANCE_RESPACE_H
#define GUIDANCE_RESPACE_H
#include "tensor/run.h"

/* t[n] ascending, in the arena; n is returned, 0 on failure.  E_OPTION says what was found and what is possible. */
int respace_times(int **t, const char *text, int T, Arena *a, Status *s);
#endif
