#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "ref/pixel_model.h"
#include "ref/oneline.h"
#include "ref/stop.h"
#include "tensor/file.h"

enum { KEEP, TEMP, STEP, RUN };
enum { LABELS_MOST = 1 << 20, LABELS_BYTES = 16 << 20 };

bool pixel_asked(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        const char *a = argv[i], *folder = NULL;
        if (!strcmp(a, "--model") || !strcmp(a, "-m")) folder = i + 1 < argc ? argv[i + 1] : NULL;
        else if (!strncmp(a, "--model=", 8)) folder = a + 8;
        else if (!strncmp(a, "-m", 2)) folder = a + 2;
        PixelKind kind = folder ? pixel_kind(folder) : PIXEL_OTHER;
        if (kind != PIXEL_OTHER) return true;
    }
    return false;
}

/* ---- how to sample, from config.json ---- */

static const Json *there(const Json *j, const char *key)
{
    const Json *v = json_get(j, key);
    return v && v->kind != JSON_NULL ? v : NULL;
}

static bool truth(const Json *j, const char *key, bool absent, const char *file, Status *s)
{
    bool v = absent;
    if (there(j, key) && !json_bool(there(j, key), &v)) status_fail(s, E_FORMAT, "%s: %s: true or false is expected", file, key);
    return v;
}

static bool read_sampling(PixelModel *p)
{
    char file[520];
    Status *s = &p->run.status;
    PixelSampling *q = &p->sampling;
    snprintf(file, sizeof file, "%s/config.json", p->folder);
    const Json *j = json_load(&p->structure, file, s), *betas = there(j, "noise_schedule"), *spaced = there(j, "timestep_respacing"), *T = there(j, "diffusion_steps");
    if (!j) return false;
    *q = (PixelSampling){ .T = 1000, .clamp = truth(j, "clip_denoised", true, file, s), .rescale = truth(j, "rescale_timesteps", false, file, s) };
    if (T && (!json_int(T, &q->T) || q->T < 2 || q->T > TRAIN_STEPS_MOST))
        status_fail(s, E_FORMAT, "%s: diffusion_steps: an integer from 2 to %d is expected, \"%.40s\" found", file, TRAIN_STEPS_MOST, T->text ? T->text : "");
    if (json_is(betas, "cosine")) q->betas = BETA_COSINE;
    else if (betas && !json_is(betas, "linear")) status_fail(s, E_FORMAT, "%s: noise_schedule: linear or cosine is expected, \"%.40s\" found", file, betas->text ? betas->text : "");
    if (spaced && spaced->kind != JSON_STRING && spaced->kind != JSON_NUMBER) status_fail(s, E_FORMAT, "%s: timestep_respacing: a text is expected", file);
    else if (spaced) snprintf(q->respacing, sizeof q->respacing, "%s", spaced->text);
    if (truth(j, "predict_xstart", false, file, s)) status_fail(s, E_FORMAT, "%s: predict_xstart: networks that predict x0 are not supported; no released model does", file);
    bool small = truth(j, "sigma_small", p->kind == PIXEL_DDPM_UNET, file, s);
    q->variance = p->unet.learned_variance ? VARIANCE_LEARNED : small ? VARIANCE_SMALL : VARIANCE_LARGE;
    return s->code == OK;
}

/* ---- opening ---- */

static bool check_files(const char *folder, WalkModel *walk, void *model, LoadReport *report, Status *s)
{
    Weights w = {0};
    bool good = weights_open(&w, folder, "model", s) && params_check(walk, model, &w, report, s);
    weights_close(&w);
    return good;
}

static bool open_unet(PixelModel *p)
{
    Status *s = &p->run.status;
    if (p->kind == PIXEL_ADM_CLASSIFIER) status_fail(s, E_OPTION, "%.300s: a classifier; --classifier takes it, beside a model that draws", p->folder);
    if (!pixel_build_unet(&p->unet, p->folder, &p->structure, s)) return false;
    p->upsampler = p->unet.config.in_channels == 6;
    if ((p->unet.config.in_channels != 3 && !p->upsampler) || p->unet.config.out_channels != (p->unet.learned_variance ? 6 : 3))
        status_fail(s, E_FORMAT, "%.300s: %d channels in and %d out: pictures have 3 (an upsampler reads 6)", p->folder, p->unet.config.in_channels, p->unet.config.out_channels);
    return s->code == OK && read_sampling(p) && check_files(p->folder, unet_walk, &p->unet, &p->report[0], s);
}

static bool open_classifier(PixelModel *p)
{
    Status *s = &p->run.status;
    if (!folder_exists(p->classifier_folder)) status_fail(s, E_FILE, "%.300s: there is no such classifier folder", p->classifier_folder);
    if (!pixel_build_classifier(&p->classifier, p->classifier_folder, &p->structure, s)) return false;
    int size = p->classifier.config.image_size, own = p->unet.config.sample_size;
    if (size != own) status_fail(s, E_OPTION, "%.200s: a classifier of %d x %d pictures, and the model draws %d x %d", p->classifier_folder, size, size, own, own);
    else if (p->classifier.config.in_channels != 3) status_fail(s, E_FORMAT, "%.300s: %d channels: pictures have 3", p->classifier_folder, p->classifier.config.in_channels);
    else if (p->unet.classes && p->unet.classes != p->classifier.config.out_channels)
        status_fail(s, E_OPTION, "%.200s: a classifier of %d classes, and the model knows %d", p->classifier_folder, p->classifier.config.out_channels, p->unet.classes);
    return s->code == OK && check_files(p->classifier_folder, adm_classifier_walk, &p->classifier, &p->report[1], s);
}

bool pixel_model_open(PixelModel *p, const Common *m, const char *folder, const char *classifier)
{
    memset(p, 0, sizeof *p);
    Run *r = &p->run;
    *r = common_run(m);
    r->keep = &p->arena[KEEP], r->temp = &p->arena[TEMP], r->step = &p->arena[STEP], r->run = &p->arena[RUN];
    r->stop = stop_asked;
    p->most_memory = m->most_memory;
    p->kind = pixel_kind(folder);
    if (snprintf(p->folder, sizeof p->folder, "%s", folder) >= (int)sizeof p->folder ||
        snprintf(p->classifier_folder, sizeof p->classifier_folder, "%s", classifier ? classifier : "") >= (int)sizeof p->classifier_folder)
        run_fail(r, E_FILE, "%.300s: too long a path", folder);
    return run_ok(r) && open_unet(p) && (!classifier || open_classifier(p));
}

void pixel_model_close(PixelModel *p)
{
    arena_free(&p->structure);
    arena_free(&p->numbers);
    for (size_t i = 0; i < sizeof p->arena / sizeof *p->arena; i++) arena_free(&p->arena[i]);
    free(p->label);
}

/* ---- the numbers ---- */

static bool read_files(const char *folder, WalkModel *walk, void *model, Arena *a, LoadReport *report, Status *s)
{
    Weights w = {0};
    bool good = weights_open(&w, folder, "model", s) && params_load(walk, model, &w, a, report, s);
    weights_close(&w);
    return good;
}

/* What is left of the allowance is for the working memory: half of it to remember in, where a classifier goes backward. */
static void share_memory(PixelModel *p)
{
    size_t held = p->structure.reserved + p->numbers.reserved + p->arena[RUN].reserved, left = held < p->most_memory ? p->most_memory - held : 2;
    if (!p->most_memory) return;
    p->arena[TEMP].limit = p->arena[KEEP].limit = *p->classifier_folder ? left / 2 : left;
}

void pixel_model_plan(PixelModel *p, int W, int H)
{
    int least = p->most_memory ? INT_MAX : 0;
    if (p->read) return;
    unet_plan(&p->unet, H, W, least);
    if (*p->classifier_folder) unet_plan(&p->classifier.encoder, H, W, least);
}

bool pixel_model_read(PixelModel *p, int W, int H)
{
    Status *s = &p->run.status;
    if (s->code != OK || p->read) return s->code == OK;
    pixel_model_plan(p, W, H);
    p->numbers.limit = p->most_memory;
    p->read = read_files(p->folder, unet_walk, &p->unet, &p->numbers, &p->report[0], s) &&
              (!*p->classifier_folder || read_files(p->classifier_folder, adm_classifier_walk, &p->classifier, &p->numbers, &p->report[1], s));
    share_memory(p);
    return p->read;
}

/* ---- classes ---- */

bool pixel_model_labels(PixelModel *p, const char *file)
{
    char own[520];
    size_t size;
    Status *s = &p->run.status;
    snprintf(own, sizeof own, "%s/labels.txt", p->folder);
    if (s->code != OK || (!file && !file_exists(own))) return s->code == OK;
    char *text = file_load(file ? file : own, LABELS_BYTES, &size, s), *next;
    char *kept = text ? arena_take(&p->structure, size + 1) : NULL;
    p->label = text ? malloc(LABELS_MOST * sizeof *p->label) : NULL;
    if (text && (!kept || !p->label)) status_fail(s, E_MEMORY, "out of memory: names of classes");
    if (kept) memcpy(kept, text, size + 1);
    for (char *line = kept; s->code == OK && line && *line && p->labels < LABELS_MOST; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        line[strcspn(line, "\r")] = 0;
        p->label[p->labels++] = line;
    }
    free(text);
    return s->code == OK;
}

const char *pixel_model_label(const PixelModel *p, int class_number)
{
    return class_number >= 0 && class_number < p->labels ? p->label[class_number] : NULL;
}

/* One of the names on the line, parted by commas; *near: the least distance to one. */
static bool named_so(const char *line, const char *text, int *near)
{
    char name[64];
    bool same = !strcasecmp(line, text);
    while (*line && !same) {
        while (*line == ' ' || *line == ',') line++;
        size_t n = strcspn(line, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, line);
        same = n == strlen(text) && !strncasecmp(line, text, n);
        int d = word_distance(name, text);
        if (d < *near) *near = d;
        line += n;
    }
    return same;
}

static int class_by_name(PixelModel *p, const char *text)
{
    int found = -1, nearest = -1, least = INT_MAX;
    char a[200], b[200];
    for (int i = 0; i < p->labels; i++) {
        int near = INT_MAX;
        bool same = named_so(p->label[i], text, &near);
        if (same && found >= 0) {
            run_fail(&p->run, E_OPTION, "--class: \"%s\" is the name of %d and of %d: give the number", oneline(a, sizeof a, text), found, i);
            return -1;
        }
        if (same) found = i;
        if (near < least) least = near, nearest = i;
    }
    if (found < 0 && nearest >= 0)
        run_fail(&p->run, E_OPTION, "--class: no class is called \"%s\"; the nearest is %d, %s", oneline(a, sizeof a, text), nearest, oneline(b, sizeof b, p->label[nearest]));
    else if (found < 0)
        run_fail(&p->run, E_OPTION, "--class: \"%s\" is no number, and no names of classes are there (--labels FILE, or labels.txt in the model's folder)", oneline(a, sizeof a, text));
    return found;
}

int pixel_model_class(PixelModel *p, const char *text)
{
    char *end;
    int most = *p->classifier_folder ? p->classifier.config.out_channels : p->unet.classes;
    long n = strtol(text, &end, 10);
    bool number = *text && !*end;
    if (!number) n = class_by_name(p, text);
    if (run_ok(&p->run) && (n < 0 || n >= most)) run_fail(&p->run, E_OPTION, "--class: %ld: the classes are 0 to %d", n, most - 1);
    return run_ok(&p->run) ? (int)n : -1;
}

double pixel_model_scale(const PixelModel *p)
{
    int size = p->unet.config.sample_size;
    if (!p->unet.classes) return size == 256 ? 10 : 1;
    return size == 128 ? 0.5 : size == 512 ? 4 : 1;
}
