#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/stop.h"
#include "ref/train.h"
#include "tensor/file.h"

#define AT(member) offsetof(Train, member)
static const Option what_row[] = {
    { "source",       0,   OPTION_TEXT,   AT(source),       0, 0,     NULL, "TEXT",   "what the pictures show, as \"face\"", NULL },
    { "target",       0,   OPTION_TEXT,   AT(target),       0, 0,     NULL, "TEXT",   "what they are to show, as \"smiling face\"", NULL },
    { "images",       0,   OPTION_TEXT,   AT(images),       0, 0,     NULL, "FOLDER", "pictures, PNG or JPEG: each is inverted first", NULL },
    { "prompts",      0,   OPTION_TEXT,   AT(prompts),      0, 0,     NULL, "FILE",   "or prompts, one a line: pictures are generated from seeds", NULL },
    { "count",        0,   OPTION_INT,    AT(count),        1, 10000, NULL, "N",      "pictures [default: all of the folder, one a prompt]", NULL },
    { "prompt",       'p', OPTION_TEXT,   AT(prompt),       0, 0,     "",   "TEXT",   "of the pictures of --images, for models that read one", NULL },
    { "clip",         0,   OPTION_TEXT,   AT(clip),         0, 0,     NULL, "FOLDER", "a whole CLIPModel [default: clip/ in the model's folder, else the bundled one]", NULL },
    { "templates",    0,   OPTION_TEXT,   AT(templates),    0, 0,     NULL, "FILE",   "sentences around the texts, {} in each [default: the 79 of ImageNet]", NULL },
    { "dataset",      0,   OPTION_TEXT,   AT(dataset),      0, 0,     NULL, "NAME",   "t-edit and t-boost from a published table: celeba-hq, church, ...", NULL },
};
static const Option run_row[] = {
    { "steps",        0,   OPTION_INT,    AT(steps),        2, 1000,  "50",  "N", "of the chain that is learned on", NULL },
    { "invert-steps", 0,   OPTION_INT,    AT(invert_steps), 2, 1000,  "50",  "N", "of the inversion of a picture", NULL },
    { "t-edit",       0,   OPTION_INT,    AT(t_edit),       0, 1000,  NULL,  "T", "times from here up are edited [default: 500]", NULL },
    { "t-boost",      0,   OPTION_INT,    AT(t_boost),      0, 1000,  NULL,  "T", "times below get fresh noise when the block is used [default: 200]", NULL },
    { "passes",       0,   OPTION_INT,    AT(passes),       1, 1000,  "1",   "N", "over all pictures", NULL },
    { "optimizer",    0,   OPTION_CHOICE, AT(optimizer),    0, 0,     "sgd", "sgd|adam", "a step after every time", NULL },
    { "rate",         0,   OPTION_REAL,   AT(rate),         0, 100,   "0.5", "X", "of learning", "lr" },
    { "decay",        0,   OPTION_REAL,   AT(decay),        0, 1,     "0.1", "X", "factor of the rate ...", NULL },
    { "decay-every",  0,   OPTION_INT,    AT(decay_every),  0, 1000,  "3",   "N", "... after so many passes; 0: never", NULL },
    { "clip-weight",  0,   OPTION_REAL,   AT(clip_weight),  0, 1000,  "1",   "X", "of the directional loss", NULL },
    { "l1-weight",    0,   OPTION_REAL,   AT(l1_weight),    0, 1000,  "3",   "X", "of the distance to the unedited x0", NULL },
    { "guidance-scale", 0, OPTION_REAL,   AT(scale),        -100, 100, "1",  "X", "of models that read a prompt", "cfg-scale" },
    { "block",        0,   OPTION_CHOICE, AT(block),        0, 0,     "as-model", "as-model|ddpm|adm", "kind of the delta block", NULL },
    { "timeless",     0,   OPTION_FLAG,   AT(timeless),     0, 0,     NULL,  NULL, "the block is not told the time", NULL },
    { "seed",         's', OPTION_SEED,   AT(seed),         0, 0,     "1234", "N", "of the block's first numbers; picture k of --prompts draws from N + k", NULL },
    { "width",        'W', OPTION_INT,    AT(W),            1, 8192,  NULL,  "N", "pixels [default: the model's]", NULL },
    { "height",       'H', OPTION_INT,    AT(H),            1, 8192,  NULL,  "N", "pixels [default: the model's]", NULL },
    { "cache",        0,   OPTION_TEXT,   AT(cache),        0, 0,     NULL,  "FOLDER", "keep pictures' noise here by content", NULL },
    { "start",        0,   OPTION_TEXT,   AT(start),        0, 0,     NULL,  "FILE", "begin with this block instead of random numbers", NULL },
    { "resume",       0,   OPTION_FLAG,   AT(resume),       0, 0,     NULL,  NULL, "go on with --output: the same bytes as without the interruption", NULL },
    { "save-every",   0,   OPTION_INT,    AT(save_every),   1, 10000, "1",   "N", "pictures", NULL },
    { "recompute",    0,   OPTION_FLAG,   AT(recompute),    0, 0,     NULL,  NULL, "gradients with less memory and more time, the same numbers", NULL },
    { "output",       'o', OPTION_TEXT,   AT(output),       0, 0,     "delta.safetensors", "FILE", "the block, and what --resume needs", NULL },
    { "plot",         0,   OPTION_TEXT,   AT(plot),         0, 0,     NULL,  "FILE", "the loss as a curve (SVG)", NULL },
    { "per-time",     0,   OPTION_TEXT,   AT(per_time),     0, 0,     NULL,  "FILE", "write what the block adds at each time, as a mean over the pictures", NULL },
    { "global",       0,   OPTION_TEXT,   AT(global),       0, 0,     NULL,  "FILE", "the same as one tensor for all times; --delta reads both", NULL },
    JSON_OPTION,
};
static const OptionPage page = {
    "train", "Learn an attribute: a delta block for tiller edit --method asyrp.",
    "tiller train asyrp --source face --target \"smiling face\" --images faces",
    "asyrp", 1, 1, "The block learns to shift the middle block's output so that CLIP sees the target where it saw the source. Interrupted, the file holds the last finished picture.",
    { TABLE("Texts and pictures", what_row), TABLE("Learning", run_row), MACHINE_TABLE, COMMON_TABLE }
};

static bool check_options(const Train *o, const char *method, Status *s)
{
    if (strcmp(method, "asyrp")) status_fail(s, E_OPTION, "train: there is nothing called \"%.60s\" to train; asyrp is what can be", method);
    if (!o->source || !o->target) status_fail(s, E_OPTION, "train asyrp: --source and --target are missing: what the pictures show, and what they are to show");
    if (!o->images == !o->prompts) status_fail(s, E_OPTION, "train asyrp: either --images, a folder, or --prompts, a file, is wanted");
    const char *const out[] = { o->output, o->plot, o->per_time, o->global };
    for (int i = 0; i < 4 && s->code == OK; i++)
        if (out[i]) output_check(out[i], s);
    return s->code == OK;
}

static void say_picture(TrainRun *w, const TrainPicture *p, double loss, double direction, int done, double seconds)
{
    JsonOut o = {0};
    console_detail(&w->console, "picture %d of %d: loss %.5f, direction %.4f, %.2f s  (%s)", done, w->pictures * w->o->passes, loss, direction, seconds, p->name);
    console_event(&o, "picture");
    json_integer(&o, "picture", done);
    json_integer(&o, "of", w->pictures * w->o->passes);
    json_real(&o, "loss", loss, 9);
    json_real(&o, "direction", direction, 9);
    json_real(&o, "seconds", seconds, 9);
    console_send(&w->console, &o);
}

/* One picture: its chain from the noise down to t_edit, a step of descent after every time. */
static void learn_picture(TrainRun *w, int done)
{
    Run *r = w->r;
    const Train *o = w->o;
    const TrainPicture *p = &w->picture[done % w->pictures];
    double begun = clock_seconds(), rate = optim_decayed(o->rate, o->decay, o->decay_every, done / w->pictures), loss = 0, direction = 0;
    size_t mark = r->temp->used;
    Tensor edit = temp(r, p->noise.s), plain = temp(r, p->noise.s);
    if (!run_ok(r)) return;
    tensor_copy(r, edit, p->noise);
    tensor_copy(r, plain, p->noise);
    for (int i = w->times; i-- > 0 && run_ok(r); ) {
        AsyrpLoss l = asyrp_learn(r, &w->learner, edit, plain, (Tensor){0}, (Tensor){0}, w->time[i], p->context, p->embed, true);
        if (run_ok(r)) optim_step(r, &w->optim, rate);
        loss += l.loss / w->times;
        direction += l.direction / w->times;
    }
    arena_release(r->temp, mark);
    if (!run_ok(r)) return;
    w->losses.v.x[done] = (real)loss;
    w->progress_at.v.x[0] = (real)(done + 1);
    say_picture(w, p, loss, direction, done + 1, clock_seconds() - begun);
}

static bool save(TrainRun *w) { return train_state_save(w, w->o->output) && (!w->o->plot || train_plot(w, w->o->plot)); }

/* Stopped: the file becomes that of the last finished picture, whatever happened since. */
static void save_stopped(TrainRun *w)
{
    Status why = w->r->status;
    w->r->status = (Status){0};
    w->r->stop = NULL;
    train_state_hold(w, true);
    save(w);
    if (run_ok(w->r)) console_note(&w->console, "%s: %d of %d pictures; --resume goes on", w->o->output, train_done(w), w->pictures * w->o->passes);
    if (run_ok(w->r)) w->r->status = why;
}

static void learn(TrainRun *w)
{
    Run *r = w->r;
    Arena *kept = r->keep;
    int all = w->pictures * w->o->passes, last = train_done(w);
    r->keep = &w->keep;
    progress_begin(&w->progress, &w->console, "learning", all);
    for (int done = train_done(w); done < all && run_ok(r); done++) {
        train_state_hold(w, false);
        learn_picture(w, done);
        if (run_ok(r) && (done + 1 == all || done + 1 - last >= w->o->save_every) && save(w)) last = done + 1;
        progress_step(&w->progress, done + 1);
    }
    progress_clear(&w->progress);
    if (r->status.code == E_STOP && w->held) save_stopped(w);
    r->keep = kept;
}

static double mean_of(const TrainRun *w, int pass)
{
    double sum = 0;
    for (int i = 0; i < w->pictures; i++) sum += (double)w->losses.v.x[pass * w->pictures + i];
    return sum / w->pictures;
}

static bool begin_block(TrainRun *w)
{
    Status *s = &w->r->status;
    const DeltaConfig *c = &w->delta.config;
    if (w->o->start) {
        Delta d;
        DeltaConfig own = *c;
        if (!delta_load(&d, w->o->start, c->groups, &w->state, s)) return false;
        if (d.config.kind != own.kind || d.config.channels != own.channels || d.config.temb != own.temb)
            status_fail(s, E_FORMAT, "--start: %.300s: a block of another kind or width (%d channels, time embedding %d; %d and %d are wanted)", w->o->start,
                        d.config.channels, d.config.temb, own.channels, own.temb);
        w->delta = d;
    }
    return s->code == OK && train_state_begin(w) && (!w->o->resume || train_state_load(w, w->o->output));
}

static void train(TrainRun *w, const char *method)
{
    Train *o = w->o;
    JsonOut j = {0};
    w->p.run.stop = stop_asked;
    w->r = &w->p.run;
    if (!check_options(o, method, &w->p.run.status) || !train_open(w)) return;
    console_note(&w->console, "%d of %d times are edited, from %d up; the texts' similarity is %.3f", w->times, w->chain.n, w->time[0], w->learner.cosine);
    if (!train_pictures(w)) return;
    w->console.computing = true;
    if (!begin_block(w)) return;
    if (o->resume) console_note(&w->console, "%s: %d of %d pictures are done", o->output, train_done(w), w->pictures * o->passes);
    learn(w);
    if (run_ok(w->r) && o->per_time) train_deltas(w, o->per_time, false);
    if (run_ok(w->r) && o->global) train_deltas(w, o->global, true);
    if (!run_ok(w->r)) return;
    console_note(&w->console, "%s: loss %.4f in the first pass, %.4f in the last, %.1f s", o->output, mean_of(w, 0), mean_of(w, o->passes - 1), clock_seconds() - w->begun);
    console_event(&j, "done");
    json_text(&j, "path", o->output);
    json_real(&j, "first", mean_of(w, 0), 9);
    json_real(&j, "last", mean_of(w, o->passes - 1), 9);
    json_real(&j, "seconds", clock_seconds() - w->begun, 9);
    json_integer(&j, "peak_rss_bytes", (int64_t)process_peak_memory());
    console_send(&w->console, &j);
}

int verb_train(int argc, char **argv)
{
    struct { Train o; TrainRun run; } *all = calloc(1, sizeof *all);
    char *rest[1];
    int rests, code = EXIT_MEMORY;
    if (!all) return code;
    TrainRun *w = &all->run;
    w->o = &all->o;
    w->begun = clock_seconds();
    all->o.t_edit = all->o.t_boost = -1;
    if (verb_begin(&w->console, &page, &all->o, argc, argv, rest, &rests, &code)) {
        train(w, rest[0]);
        code = console_end(&w->console, run_ok(w->r) ? EXIT_DONE : console_error(&w->console, &w->r->status, common_hint(&w->r->status)));
    }
    arena_free(&w->keep);
    arena_free(&w->weights);
    arena_free(&w->state);
    for (int i = 0; i < 4; i++) arena_free(&w->arena[i]);
    pipeline_close(&w->p);
    free(all);
    return code;
}
