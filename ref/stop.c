#include <signal.h>
#include <stddef.h>
#include "ref/stop.h"

static volatile sig_atomic_t caught;

static void catch_signal(int number) { caught = number; }

void stop_watch(void)
{
    struct sigaction a = { .sa_handler = catch_signal, .sa_flags = (int)SA_RESETHAND };  /* the second one has its usual effect */
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

bool stop_asked(void *unused)
{
    (void)unused;
    return caught != 0;
}

int stop_signal(void) { return caught ? caught : SIGINT; }
