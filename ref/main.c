/* tiller -- Stable Diffusion on a processor, forward and backward.  A table of verbs; everything else is in their files. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ref/compare.h"
#include "ref/conform.h"
#include "ref/verbs.h"

static const struct { const char *name, *line; int (*run)(int argc, char **argv); } verb[] = {
    { "generate", "pictures from words",                                   verb_generate },
    { "edit",     "pictures under guidance: move, resize, replace, keep",   verb_edit },
    { "invert",   "a picture to the noise it came from",                   verb_invert },
    { "train",    "an attribute, learned from pictures and two texts",     verb_train },
    { "methods",  "the guidance methods, and what each wants",             verb_methods },
    { "encode",   "a picture to latents",                                  verb_encode },
    { "decode",   "latents to pictures",                                   verb_decode },
    { "tokenize", "the tokens of a text",                                  verb_tokenize },
    { "info",     "what a model folder holds, and how this program runs",  verb_info },
    { "sites",    "the places in a network that guidance can reach",       verb_sites },
    { "convert",  "a checkpoint of torch (.pt, .pth) to safetensors",      verb_convert },
    { "conform",  "run golden cases: how far our numbers are from theirs", verb_conform },
    { "sheet",    "pictures above each other, as one",                     verb_sheet },
    { "compare",  "two tensor files or pictures, value by value",          verb_compare },
};
enum { VERBS = sizeof verb / sizeof *verb };

static int overview(FILE *to, int code)
{
    fprintf(to, "  tiller generate --prompt \"a photo of a red car on grass\" --seed 7 -o car.png\n\n"
                "tiller VERB [options]\n\nVerbs:\n");
    for (int i = 0; i < VERBS; i++) fprintf(to, "  %-10s %s\n", verb[i].name, verb[i].line);
    fprintf(to, "  %-10s %s\n\n%s", "help", "the options of a verb: tiller help VERB, or tiller VERB --help;\n             of a method: tiller help METHOD",
            "tiller --version\n\nExit codes: 0 done, 1 a difference found, 2 wrong usage, 3 an unusable input,\n"
            "4 out of memory, 5 an output that cannot be written, 6 NaN or infinity,\n"
            "70 internal error, 130 and 143 interrupted and terminated.\n");
    return code;
}

static int unknown(const char *name)
{
    const char *best = *name == '-' ? "--help" : "help";
    if (word_distance(name, "--version") < word_distance(name, best)) best = "--version";
    for (int i = 0; i < VERBS && *name != '-'; i++)
        if (word_distance(name, verb[i].name) < word_distance(name, best)) best = verb[i].name;
    if (*name == '-') fprintf(stderr, "tiller: error: a verb is wanted before the option \"%.80s\", or %s\n", name, best);
    else fprintf(stderr, "tiller: error: unknown verb \"%.80s\"; the nearest is %s\n", name, best);
    return EXIT_USAGE;
}

static int ended(int code)
{
    Console c = console_begin(false, false, false, COLOR_AUTO);
    return console_end(&c, code);
}

/* Two libraries read their settings while the program is being loaded: they are made here, and the program started again.
 *
 * Threads of GNU's OpenMP that wait keep their processors busy for milliseconds.  A step of the bundled model on two
 * cores that had other work took 0.13 to 1.2 s so (medians of runs), and 0.04 to 0.13 s with short waits; on quiet ones
 * 15 ms both ways.  Whoever sets a wait policy is left alone.
 *
 * OpenBLAS starts threads of its own, which nothing here uses.  Where memory is too short for their stacks (ulimit -v
 * 150000) its shutdown waits for them for ever: the error was printed, and the program did not end. */
static void restart_with_settings(char **argv)
{
    const char *blas = getenv("OPENBLAS_NUM_THREADS");
    bool waits = getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY"), alone = blas && !strcmp(blas, "1");
    if ((waits && alone) || (!waits && setenv("GOMP_SPINCOUNT", "1000", 1)) || setenv("OPENBLAS_NUM_THREADS", "1", 1)) return;
    execv("/proc/self/exe", argv);                        /* where that is not possible, go on as before */
}

int main(int argc, char **argv)
{
    restart_with_settings(argv);
    const char *name = argc > 1 ? argv[1] : "";
    bool help = !strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h");
    if (argc < 2) return overview(stderr, EXIT_USAGE);
    if (!strcmp(name, "--version")) {
        printf("tiller %s (%s)\n", TILLER_VERSION, sizeof(real) == sizeof(double) ? "float64" : "float32");
        return ended(EXIT_DONE);
    }
    if (help && (argc < 3 || !strcmp(argv[2], "help"))) return ended(overview(stdout, EXIT_DONE));
    if (help) name = argv[2];
    for (int i = 0; i < VERBS; i++) {
        if (strcmp(name, verb[i].name)) continue;
        char *ask[] = { argv[help ? 2 : 1], (char[]){ "--help" }, NULL };
        return help ? verb[i].run(2, ask) : verb[i].run(argc - 1, argv + 1);
    }
    if (help && methods_find(name)) {
        method_help(methods_find(name));
        return ended(EXIT_DONE);
    }
    return unknown(name);
}
