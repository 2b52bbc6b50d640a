/* check.h -- what every test uses: repeatable numbers, one error measure, one line per check, and a last line
 * "passed P failed F" that tests/run.sh adds up.  A run prints failures always, passes only with CHECK_VERBOSE set. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t check_seed = 1;
static int check_good = 0, check_bad = 0;

static inline double check_uniform(void)                  /* in (-1, 1) */
{
    check_seed = check_seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(check_seed >> 11) / 4503599627370496.0 - 1;
}

static inline void check_line(const char *what, const char *detail, int ok)
{
    if (!ok || getenv("CHECK_VERBOSE")) printf("%-56s %s %s\n", what, detail, ok ? "ok" : "FAILED");
    check_good += !!ok;
    check_bad += !ok;
}

static inline void check_below(const char *what, double error, double limit)
{
    char detail[64];
    snprintf(detail, sizeof detail, "%9.2e < %.0e", error, limit);
    check_line(what, detail, error < limit);              /* NaN is not below anything */
}

static inline void check_true(const char *what, int ok) { check_line(what, "", ok); }

static inline int check_done(void)                        /* the last line of main: return check_done(); */
{
    printf("passed %d failed %d\n", check_good, check_bad);
    return check_bad != 0;
}
#endif
