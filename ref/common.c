#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "nn/pixel.h"
#include "ref/oneline.h"
#include "ref/stop.h"
#include "ref/verbs.h"
#include "tensor/file.h"
#include "tensor/torchkind.h"

const Option common_row[3] = {
    { "quiet",   'q', OPTION_FLAG,   offsetof(Common, quiet),   0, 0, NULL, NULL, "errors only on standard error", NULL },
    { "verbose", 'v', OPTION_FLAG,   offsetof(Common, verbose), 0, 0, NULL, NULL, "also times and memory", NULL },
    { "color",   0,   OPTION_CHOICE, offsetof(Common, color),   0, 0, "auto", "auto|always|never", "coloured messages", "colour" },
};

enum { CPU_BEST, CPUS = 5, MATH_FAST = 0, MATH_REFERENCE = 1 };
static const char *const cpu_name[CPUS] = { NULL, "plain", "avx2", "avx512", "neon" };
const Option machine_row[5] = {
    MODEL_OPTION,
    { "threads",    't', OPTION_INT,    offsetof(Common, threads),     1, 1024, NULL, "N",
      "threads; the result is the same for any number [default: the processors this process may use]", NULL },
    { "cpu",        0,   OPTION_CHOICE, offsetof(Common, cpu),         0, 0, "best", "best|plain|avx2|avx512|neon", "kernels", NULL },
    { "math",       0,   OPTION_CHOICE, offsetof(Common, math),        0, 0, "fast", "fast|reference",
      "arithmetic; reference uses plain loops in a fixed order, no BLAS, and gives the same bits on every machine", NULL },
    { "max-memory", 0,   OPTION_BYTES,  offsetof(Common, most_memory), 0, 0, NULL, "BYTES",
      "stop with exit code 4 rather than use more, as 500M or 8G; under a limit some products are done another way, and last bits may differ [default: no limit]", NULL },
};

const char *common_math(const Common *m) { return m->math == MATH_REFERENCE ? "reference" : "fast"; }

/* Whoever reads events is told of wrong options by one, too. */
static bool asked(int argc, char **argv, const char *flag)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], flag)) return true;
    return false;
}

bool verb_begin(Console *c, const OptionPage *page, void *settings, int argc, char **argv, char **rest, int *rests, int *code)
{
    Status s = {0};
    bool help;
    const Common *m = settings;
    stop_watch();
    if (!options_parse(page, settings, argc, argv, rest, rests, &help, &s)) {
        *c = console_begin(false, false, asked(argc, argv, "--json"), COLOR_AUTO);
        *code = console_error(c, &s, NULL);
        return false;
    }
    *c = console_begin(m->quiet, m->verbose, m->json, (Color)m->color);
    if (!help) return true;
    options_help(page, stdout);
    *code = console_end(c, EXIT_DONE);
    return false;
}

int verb_refused(int argc, char **argv, const Status *s)
{
    Console c = console_begin(false, false, asked(argc, argv, "--json"), COLOR_AUTO);
    return console_end(&c, console_error(&c, s, NULL));
}

int verb_end(const Console *c, const Status *s)
{
    return console_end(c, s->code == OK ? EXIT_DONE : console_error(c, s, common_hint(s)));
}

/* The folder of the program itself. */
static bool program_folder(char *to, size_t room)
{
    ssize_t n = readlink("/proc/self/exe", to, room - 1);
    if (n <= 0) return false;
    to[n] = 0;
    char *slash = strrchr(to, '/');
    if (slash) *slash = 0;
    return slash;
}

bool common_argument(Common *m, char **rest, int rests, Status *s)
{
    if (rests && m->model) status_fail(s, E_OPTION, "two models are named: \"%.200s\" and --model \"%.200s\"", rest[0], m->model);
    if (rests) m->model = rest[0];
    return s->code == OK;
}

bool common_model(const Common *m, char *folder, size_t room, Status *s)
{
    static const char *const places[] = { "../share/tiller/tiny-model", "../data/tiny-model", "../../data/tiny-model" };     /* installed; build/; build/x/ */
    enum { PLACES = sizeof places / sizeof *places };
    char program[1024];
    if (m->model) {
        snprintf(folder, room, "%s", m->model);
        if (!folder_exists(folder)) status_fail(s, E_FILE, "%s: %s", m->model, file_exists(m->model) ? "a model folder is wanted, not a file" : "there is no such model folder");
        return s->code == OK;
    }
    if (!program_folder(program, sizeof program)) snprintf(program, sizeof program, ".");
    for (int i = 0; i < PLACES; i++) {
        snprintf(folder, room, "%s/%s", program, places[i]);
        if (folder_exists(folder)) return true;
    }
    status_fail(s, E_FILE, "the bundled model is not there: %.300s holds no %s, %s or %s", program, places[0], places[1], places[2]);
    return false;
}

bool common_data(char *path, size_t room, const char *name, Status *s)
{
    static const char *const places[] = { "../share/tiller", "../data", "../../data" };
    char program[1024];
    if (!program_folder(program, sizeof program)) snprintf(program, sizeof program, ".");
    for (int i = 0; i < 3; i++) {
        snprintf(path, room, "%s/%s/%s", program, places[i], name);
        if (file_exists(path)) return true;
    }
    status_fail(s, E_FILE, "%s is not beside the program, %.200s, in ../data or ../share/tiller", name, program);
    return false;
}

bool common_bundled(const Common *m, const char *folder)
{
    Common own = { .model = NULL };
    Status s = {0};
    char bundled[1024], *a, *b;
    if (!m->model) return true;
    if (!common_model(&own, bundled, sizeof bundled, &s)) return false;
    a = realpath(bundled, NULL);
    b = realpath(folder, NULL);
    bool same = a && b && !strcmp(a, b);
    free(a);
    free(b);
    return same;
}

Run common_run(const Common *m)
{
    bool reference = m->math == MATH_REFERENCE;
    Run r = { .k = kernels_pick(reference ? "plain" : cpu_name[m->cpu]), .threads = m->threads ? m->threads : system_processors(), .blas = !reference };
    if (!r.k) run_fail(&r, E_OPTION, "kernels \"%.40s\" do not run here", cpu_name[m->cpu]);
    return r;
}

bool common_pipeline(Pipeline *p, const Common *m, const char *folder)
{
    bool reference = m->math == MATH_REFERENCE;
    PipelineSetup setup = {
        .model = folder, .kernels = reference ? "plain" : cpu_name[m->cpu], .threads = m->threads ? m->threads : system_processors(),
        .blas = !reference, .most_memory = m->most_memory, .once = true
    };
    if (pixel_kind(folder) != PIXEL_OTHER) {
        p->run = (Run){ .k = kernels_pick(NULL), .threads = 1 };
        status_fail(&p->run.status, E_FORMAT, "%.300s: a pixel-space model (%s): it has no text and no autoencoder, and this needs them", folder, pixel_kind_name(pixel_kind(folder)));
        return false;
    }
    bool opened = pipeline_open(p, &setup);
    p->run.stop = stop_asked;
    return opened;
}

bool common_memory(const Console *c, const Common *m, uint64_t wanted, const char *advice, Status *s)
{
    double bytes = (double)wanted, most = (double)m->most_memory, have = (double)system_memory();
    if (most > 0 && bytes > most) status_fail(s, E_MEMORY, "about %.1f MB are wanted, --max-memory allows %.1f MB%s", bytes / 1e6, most / 1e6, advice);
    else if (bytes > have) console_warning(c, "about %.0f MB are wanted, and %.0f MB are free", bytes / 1e6, have / 1e6);
    return s->code == OK;
}

void common_surplus(const Console *c, const Model *m)
{
    char first[200], shown[200];
    int n = model_surplus(m, first, sizeof first);
    if (n) console_warning(c, "%d tensor%s in the model's files not used, the first is %s", n, n == 1 ? " is" : "s are", oneline(shown, sizeof shown, first));
}

void common_nonfinite(const Console *c, const char *what, int n, const char *first)
{
    char shown[200];
    if (n) console_warning(c, "%d parameter%s of the %s hold%s NaN or infinity, the first is %s", n, n == 1 ? "" : "s", what, n == 1 ? "s" : "", oneline(shown, sizeof shown, first));
}

void common_sound(const Console *c, const Model *m)
{
    char first[200];
    int n = model_nonfinite(m, first, sizeof first);
    common_nonfinite(c, "model", n, first);
}

const char *common_hint(const Status *s)
{
    switch (s->code) {
    case E_MEMORY: return "a smaller picture needs less; --max-memory sets the limit";
    case E_FORMAT: return strstr(s->text, "pixel-space model") ? "tiller generate --model FOLDER --help and tiller invert --model FOLDER --help say what it can do" : torch_advice(s);
    case E_FILE:   return strstr(s->text, "model") ? "--model FOLDER names a model in the diffusers layout" : NULL;
    default:       return NULL;
    }
}

bool output_check(const char *path, Status *s)
{
    FileOut f;
    bool good = file_begin(&f, path, s);
    file_abandon(&f);
    return good;
}

void output_name(char *to, size_t room, const char *path, const char *insert)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');
    if (!dot || dot == base) dot = path + strlen(path);
    snprintf(to, room, "%.*s%s%s", (int)(dot - path), path, insert, dot);
}

void output_numbered(char *to, size_t room, const char *path, int image, int count, int step)
{
    char number[24] = "", insert[48];
    if (count > 1) snprintf(number, sizeof number, "-%d", image);
    if (step) snprintf(insert, sizeof insert, "%s-step%04d", number, step);
    output_name(to, room, path, step ? insert : number);
}

const char *base_name(const char *path, char *to, size_t room)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t from = end;
    while (from > 0 && path[from - 1] != '/') from--;
    snprintf(to, room, "%.*s", (int)(end - from), path + from);
    return to;
}

bool size_check(int W, int H, int factor, Status *s)
{
    int wrong = W % factor ? W : H % factor ? H : 0, down = wrong / factor * factor;
    if (!wrong) return true;
    status_fail(s, E_OPTION, down ? "--%s: %d is not a multiple of %d; the nearest are %d and %d" : "--%s: %d is not a multiple of %d; the least is %d",
                W % factor ? "width" : "height", wrong, factor, down ? down : factor, down + factor);
    return false;
}
