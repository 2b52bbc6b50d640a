#include <string.h>
#include "ref/train.h"
#include "tensor/file.h"

static void walk(void *run, Walk *w)
{
    TrainRun *t = run;
    delta_walk(&t->delta, w);
    optim_walk(&t->optim, w);
    walk_param(w, &t->about, "training.about");
    walk_param(w, &t->key, "training.key");
    walk_param(w, &t->losses, "training.losses");
    walk_param(w, &t->progress_at, "training.pictures");
}

static Param numbers(TrainRun *w, int n)
{
    Param p = param_vector(n);
    p.v = tensor_in(w->r, &w->state, SHAPE(n));
    tensor_zero(p.v);
    return p;
}

/* The hash of all that decides the result, as numbers 0 .. 255 that every float holds. */
static void fill_key(TrainRun *w)
{
    const Train *o = w->o;
    char hex[65], text[700];
    Sha256 h;
    sha256_begin(&h);
    snprintf(text, sizeof text, "tiller asyrp 1 %zu %d %d %d %d %d %d %d %d %.17g %.17g %.17g %.17g %.17g %.17g %d %d %d %llu", sizeof(real), o->steps, o->invert_steps,
             o->passes, o->optimizer, o->decay_every, w->pictures, w->W, w->H, o->rate, o->decay, o->clip_weight, o->l1_weight, o->scale,
             w->learner.cosine, o->t_edit, o->timeless, o->block, (unsigned long long)o->seed.value);
    sha256_add(&h, text, strlen(text) + 1);
    sha256_add(&h, w->weights_hash, 64);
    sha256_add(&h, w->clip_hash, 64);
    sha256_add(&h, w->learner.text.x, tensor_count(w->learner.text) * sizeof(real));
    for (int k = 0; k < w->pictures; k++) {
        const Tensor t[3] = { w->picture[k].noise, w->picture[k].clean, w->picture[k].context };
        for (int i = 0; i < 3; i++)
            if (t[i].x) sha256_add(&h, t[i].x, tensor_count(t[i]) * sizeof(real));
    }
    sha256_end(&h, hex);
    for (int i = 0; i < TRAIN_KEY && run_ok(w->r); i++) {
        unsigned v = 0;
        sscanf(hex + 2 * i, "%2x", &v);
        w->key.v.x[i] = (real)v;
    }
}

bool train_state_begin(TrainRun *w)
{
    const Train *o = w->o;
    Status *s = &w->r->status;
    w->losses = numbers(w, w->pictures * o->passes);
    w->progress_at = numbers(w, 1);
    w->key = numbers(w, TRAIN_KEY);
    w->about = numbers(w, TRAIN_ABOUT);
    const double about[TRAIN_ABOUT] = { o->steps, o->t_edit, o->t_boost, w->learner.cosine, o->timeless, w->delta.config.groups };
    for (int i = 0; i < TRAIN_ABOUT && run_ok(w->r); i++) w->about.v.x[i] = (real)about[i];
    if (run_ok(w->r)) fill_key(w);
    return run_ok(w->r) && params_want_gradients(delta_walk, &w->delta, &w->state, s) &&
           optim_begin(&w->optim, o->optimizer ? OPTIM_ADAM : OPTIM_SGD, delta_walk, &w->delta, &w->state, s);
}

bool train_state_load(TrainRun *w, const char *path)
{
    Status *s = &w->r->status;
    Weights file;
    real key[TRAIN_KEY];
    memcpy(key, w->key.v.x, sizeof key);
    if (!weights_open_file(&file, path, s)) return false;
    const Safetensors *in;
    const SafeEntry *e = weights_find(&file, "training.key", &in);
    bool ours = e && e->count == TRAIN_KEY && weights_read_part(&file, in, e, 0, TRAIN_KEY, w->key.v.x, s) && !memcmp(key, w->key.v.x, sizeof key);
    memcpy(w->key.v.x, key, sizeof key);
    if (s->code == OK && !ours) status_fail(s, E_OPTION, "--resume: %.300s is of a run with other settings, texts, pictures or models", path);
    if (s->code == OK) params_load(walk, w, &file, &w->state, NULL, s);
    weights_close(&file);
    return s->code == OK;
}

bool train_state_save(TrainRun *w, const char *path)
{
    return params_save(walk, w, path, sizeof(real) == 8 ? T_F64 : T_F32, w->r->temp, &w->r->status);
}

int train_done(const TrainRun *w) { return (int)w->progress_at.v.x[0]; }

/* ---- a copy ---- */

typedef struct { real *at; bool restore; } Copy;

static void count_visit(Walk *w, Param *p, const char *name)
{
    (void)name;
    *(size_t *)w->self += tensor_count(p->v);
}

static void copy_visit(Walk *w, Param *p, const char *name)
{
    Copy *c = w->self;
    size_t n = tensor_count(p->v);
    (void)name;
    if (c->restore) memcpy(p->v.x, c->at, n * sizeof(real));
    else memcpy(c->at, p->v.x, n * sizeof(real));
    c->at += n;
}

void train_state_hold(TrainRun *w, bool restore)
{
    if (!w->held) {
        size_t n = 0;
        walk(w, &(Walk){ .visit = count_visit, .self = &n });
        w->held = arena_take(&w->state, n * sizeof *w->held);
        if (!w->held) run_fail(w->r, E_MEMORY, "out of memory: a copy of the block");
        if (!w->held || restore) return;
    }
    Copy c = { w->held, restore };
    walk(w, &(Walk){ .visit = copy_visit, .self = &c });
}

bool train_about(double about[TRAIN_ABOUT], const char *path)
{
    Status s = {0};
    Weights file;
    real x[TRAIN_ABOUT];
    if (folder_exists(path) || !weights_open_file(&file, path, &s)) return false;
    const Safetensors *in;
    const SafeEntry *e = weights_find(&file, "training.about", &in);
    bool there = e && e->count == TRAIN_ABOUT && weights_read_part(&file, in, e, 0, TRAIN_ABOUT, x, &s);
    for (int i = 0; i < TRAIN_ABOUT && there; i++) about[i] = (double)x[i];
    weights_close(&file);
    return there;
}
