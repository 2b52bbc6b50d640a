/* hostile_model.c -- model folders that are cut off, scrambled, or larger than memory: an error with a text, or a model
 * that works; never a crash, never a half-loaded part.  (make check runs this under the sanitizers.) */
#include <unistd.h>
#include "ref/pipeline.h"
#include "tensor/file.h"
#include "tests/check.h"

static char folder[300];

static char *load(const char *name, size_t *size)
{
    char path[400];
    Status s = {0};
    snprintf(path, sizeof path, "tests/golden/models/sd1-tiny/%s", name);
    char *bytes = file_load(path, 1 << 20, size, &s);
    if (!bytes) printf("%s\n", s.text);
    return bytes;
}

static void put(const char *name, const char *bytes, size_t size)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");                          /* not file_save: thousands of fsyncs take a minute */
    if (f) fwrite(bytes, 1, size, f);
    if (f) fclose(f);
}

/* Everything a run would load.  Returns the code; the text must be there when it is not OK. */
static Code try_folder(void)
{
    Pipeline p;
    PipelineSetup setup = { .model = folder, .kernels = "plain", .threads = 1 };
    pipeline_open(&p, &setup);
    pipeline_load(&p, MODEL_UNET | MODEL_VAE | MODEL_TEXT);
    Code code = p.run.status.code;
    if (code != OK && (!*p.run.status.text || p.model.loaded == (MODEL_UNET | MODEL_VAE | MODEL_TEXT | MODEL_SCHEDULER))) code = E_STOP;
    pipeline_close(&p);
    return code;
}

static const char *const configs[] = { "model_index.json", "scheduler/scheduler_config.json", "unet/config.json", "vae/config.json", "text_encoder/config.json" };
enum { CONFIGS = 5 };

static void truncations(void)
{
    for (int f = 0; f < CONFIGS; f++) {
        size_t size;
        char *bytes = load(configs[f], &size), what[80];
        size_t end = size;
        while (end > 0 && bytes[end - 1] != '}') end--;   /* what follows the last brace is blank */
        int wrong = 0;
        for (size_t n = 0; n < end; n++) {
            put(configs[f], bytes, n);
            wrong += try_folder() != E_FORMAT;
        }
        put(configs[f], bytes, size);
        snprintf(what, sizeof what, "%s, each of %zu beginnings", configs[f], end);
        check_true(what, wrong == 0 && end > 0);
        free(bytes);
    }
    check_true("whole again, it loads", try_folder() == OK);
}

/* Digits, letters and brackets replaced at random.  What loads must be a model; what does not must say why. */
static void scrambled(void)
{
    static const char with[] = "0189-.eE\"{}[],:ntfx ";
    int loaded = 0, refused = 0, wrong = 0;
    for (int round = 0; round < 600; round++) {
        const char *name = configs[round % CONFIGS];
        size_t size;
        char *bytes = load(name, &size), *copy = malloc(size);
        memcpy(copy, bytes, size);
        for (int k = 0; k <= round % 3; k++) {
            size_t at = (size_t)((check_uniform() + 1) / 2 * (double)size);
            copy[at < size ? at : 0] = with[(int)((check_uniform() + 1) / 2 * (double)(sizeof with - 1)) % (int)(sizeof with - 1)];
        }
        put(name, copy, size);
        Code code = try_folder();
        loaded += code == OK;
        refused += code == E_FORMAT || code == E_FILE;
        wrong += code != OK && code != E_FORMAT && code != E_FILE;
        put(name, bytes, size);
        free(bytes);
        free(copy);
    }
    check_true("600 scrambled configurations: a model or a reason", wrong == 0 && refused > 100 && loaded > 10);
}

/* Memory that ends ever later, until all goes well. */
static void short_memory(void)
{
    int failures = 0, wrong = 0, drawn = 0;
    PipelineRequest q = pipeline_request();
    q.prompt = "a cat", q.steps = 1, q.W = q.H = 16;
    for (size_t limit = 1 << 10; !drawn && limit < (size_t)1 << 28; limit += limit / 6) {
        Pipeline p;
        PipelineSetup setup = { .model = folder, .kernels = "plain", .threads = 1, .most_memory = limit };
        pipeline_open(&p, &setup);
        drawn = pipeline_generate(&p, &q, NULL);
        failures += !drawn;
        wrong += !drawn && p.run.status.code != E_MEMORY;
        if (!drawn && p.run.status.code != E_MEMORY) printf("%zu: %d %s\n", limit, p.run.status.code, p.run.status.text);
        wrong += model_held(&p.model) + p.arena[0].reserved > limit + (4 << 20);        /* files being read are not counted */
        pipeline_close(&p);
    }
    check_true("too little memory is said, every time", wrong == 0 && failures > 5);
    check_true("and enough is enough", drawn);
}

int main(void)
{
    char command[800];
    snprintf(folder, sizeof folder, "%s/tiller-hostile-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) return 1;
    snprintf(command, sizeof command, "cp -r tests/golden/models/sd1-tiny/. '%s' && chmod -R u+w '%s'", folder, folder);
    check_true("a copy of the model", system(command) == 0);
    truncations();
    scrambled();
    short_memory();
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    check_true("cleaned up", system(command) == 0);
    return check_done();
}
