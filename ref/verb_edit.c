#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/diffuseit.h"
#include "ref/edit.h"
#include "ref/estimate.h"
#include "ref/params.h"
#include "ref/pixel_model.h"
#include "tensor/file.h"

#define AT(member) offsetof(Edit, member)
static const Option words_row[] = {
    { "method",         0,   OPTION_LIST,   AT(method),        0, 0, NULL, "NAME",  "guidance method; several compose; tiller methods lists them", NULL },
    { "prompt",         'p', OPTION_TEXT,   AT(prompt),        0, 0, NULL, "TEXT",  "what the result shows [default: the source's prompt]", NULL },
    { "negative",       'n', OPTION_TEXT,   AT(negative),      0, 0, "",   "TEXT",  "what it should not show", "negative-prompt" },
    { "source-prompt",  0,   OPTION_TEXT,   AT(source_prompt), 0, 0, NULL, "TEXT",  "what the source shows [default: the prompt]", NULL },
    { "compose",        0,   OPTION_LIST,   AT(compose),       0, 0, NULL, "TEXT=W", "a further prompt with a weight of its own; < 0 leads away from it", "and" },
    { "source-seed",    0,   OPTION_SEED,   AT(source_seed),   0, 0, NULL, "N",     "the source is drawn from this seed [default: the run's]", NULL },
    { "image",          'i', OPTION_TEXT,   AT(image),         0, 0, NULL, "FILE",  "the source: a photo, PNG or JPEG [default: the same seed, unguided]", "init-image" },
    { "objects",        0,   OPTION_TEXT,   AT(objects),       0, 0, NULL, "WORDS", "objects, as \"cat,frog\"; cat#2 is the second cat [default: the nouns of the prompt]", NULL },
    { "move",           0,   OPTION_LIST,   AT(move),          0, 0, NULL, "WORD=X,Y", "move an object right and down, in parts of the frame", NULL },
    { "resize",         0,   OPTION_LIST,   AT(resize),        0, 0, NULL, "WORD=F",   "resize an object by a factor (or by two: across, down)", NULL },
    { "layout",         0,   OPTION_LIST,   AT(layout),        0, 0, NULL, "WORDS", "keep where these are and their shape, let their look go", NULL },
    { "look",           0,   OPTION_LIST,   AT(look),          0, 0, NULL, "WORDS", "keep the look of these, let their place go", NULL },
    { "keep",           0,   OPTION_LIST,   AT(keep),          0, 0, NULL, "WORDS", "keep these in every way", NULL },
    { "reweight",       0,   OPTION_LIST,   AT(reweight),      0, 0, NULL, "WORD=X", "weaken or strengthen a word's attention", NULL },
    { "blend",          0,   OPTION_LIST,   AT(blend),         0, 0, NULL, "WORDS", "change the picture only where these words are", "local-blend" },
    { "blend-not",      0,   OPTION_LIST,   AT(apart),         0, 0, NULL, "WORDS", "and never where these are", NULL },
    { "window",         0,   OPTION_LIST,   AT(window),        0, 0, NULL, "WORD=A,B", "a word takes over attention in this part of the run", NULL },
    { "insert",         0,   OPTION_LIST,   AT(insert),        0, 0, NULL, "WORD=FILE", "an object looks as in a picture of its own", NULL },
    { "collage",        0,   OPTION_LIST,   AT(collage),       0, 0, NULL, "WORD=FILE", "and has its place and shape there, too", NULL },
    { "box",            0,   OPTION_LIST,   AT(box),           0, 0, NULL, "WORD=X0,Y0,X1,Y1", "where an object goes, in parts of the frame from the left and the top", NULL },
    { "mask",           0,   OPTION_LIST,   AT(mask),          0, 0, NULL, "WORD=FILE", "the same as a picture, white where it goes; for each object or none", NULL },
    { "source",         0,   OPTION_TEXT,   AT(source),        0, 0, NULL, "WORD",  "a direction of text: from this word ...", NULL },
    { "target",         0,   OPTION_TEXT,   AT(target),        0, 0, NULL, "WORD",  "... to this one, over bundled sentences", NULL },
    { "source-sentences", 0, OPTION_TEXT,   AT(source_sentences), 0, 0, NULL, "FILE", "or from these sentences, one a line ...", NULL },
    { "delta",          0,   OPTION_LIST,   AT(deltas.delta),  0, 0, NULL, "FILE",  "asyrp: a learned block (or a folder with one); several, with commas, go together", NULL },
    { "weights",        0,   OPTION_TEXT,   AT(deltas.weights), 0, 0, NULL, "X,X",  "asyrp: a weight of each block [default: 1]", NULL },
    { "gradual",        0,   OPTION_TEXT,   AT(deltas.gradual), 0, 0, NULL, "FROM,TO", "asyrp: --num-images pictures of one seed, strengths between; --strip shows all", NULL },
    { "dataset",        0,   OPTION_TEXT,   AT(deltas.dataset), 0, 0, NULL, "NAME", "asyrp: t-edit and t-boost of a published table: celeba-hq, church, ...", NULL },
    { "similarity",     0,   OPTION_REAL,   AT(deltas.similarity), -1, 1, NULL, "X", "asyrp: of the two texts, for --dataset [default: as the block's file says]", NULL },
    { "target-sentences", 0, OPTION_TEXT,   AT(target_sentences), 0, 0, NULL, "FILE", "... to these", NULL },
};
static const Option run_row[] = {
    { "steps",          0,   OPTION_INT,    AT(steps),         1, 10000,    NULL,  "N", "DDIM steps [default: 50, or the bundled model's preset]", NULL },
    { "guidance-scale", 0,   OPTION_REAL,   AT(scale),         -1000, 1000, NULL,  "X", "weight of the prompt [default: 7.5, or the bundled model's preset]", "cfg-scale" },
    { "sampler",        0,   OPTION_CHOICE, AT(sampler),       0, 0, "ddim", "ddim|ddpm", "how a step is made", NULL },
    { "eta",            0,   OPTION_REAL,   AT(eta),           0, 1,        "0",   "X", "fresh noise per step: 0 DDIM, 1 as in DDPM", NULL },
    { "seed",           's', OPTION_SEED,   AT(seed),          0, 0,        NULL,  "N", "-2^63 to 2^64-1; picture k draws from N + k [default: a random one, printed]", NULL },
    { "rng",            0,   OPTION_CHOICE, AT(rng),           0, 0, "torch", "torch|philox", "whose random numbers", NULL },
    { "width",          'W', OPTION_INT,    AT(W),             1, 8192,     NULL,  "N", "pixels [default: the model's]", NULL },
    { "height",         'H', OPTION_INT,    AT(H),             1, 8192,     NULL,  "N", "pixels [default: the model's]", NULL },
    { "fit",            0,   OPTION_CHOICE, AT(fit),           0, 0, "crop", "crop|pad|stretch", "what happens to a photo of another size", NULL },
    { "num-images",     0,   OPTION_INT,    AT(count),         1, 10000,    "1",   "N", "how many pictures", NULL },
    { "start",          0,   OPTION_CHOICE, AT(start),         0, 0, "own", "own|inverted", "with a photo: start as the method does, or from its inversion", NULL },
    { "latents",        0,   OPTION_TEXT,   AT(latents),       0, 0,        NULL,  "FILE", "starting noise: safetensors, key latents", NULL },
    { "cache",          0,   OPTION_TEXT,   AT(cache),         0, 0,        NULL,  "FOLDER", "keep inversions here by content; an interrupted one is continued", NULL },
    { "resume",         0,   OPTION_FLAG,   AT(resume),        0, 0,        NULL,  NULL, "leave what is done beside the output, and go on from there", NULL },
    { "recompute",      0,   OPTION_FLAG,   AT(recompute),     0, 0,        NULL,  NULL, "gradients with less memory and more time, the same numbers", "low-memory" },
    { "paper-defaults", 0,   OPTION_FLAG,   AT(paper),         0, 0,        NULL,  NULL, "with the bundled model: the papers' numbers, not its presets", NULL },
    { "output",         'o', OPTION_TEXT,   AT(output),        0, 0, "edit.png",   "FILE", "PNG; several pictures: x-0.png, x-1.png", NULL },
    { "save-latents",   0,   OPTION_TEXT,   AT(save_latents),  0, 0,        NULL,  "FILE", "write the final latents (safetensors, key latents)", NULL },
    { "maps",           0,   OPTION_TEXT,   AT(maps),          0, 0,        NULL,  "FOLDER", "each word's attention over the result, a picture a word", NULL },
    { "strip",          0,   OPTION_TEXT,   AT(strip),         0, 0,        NULL,  "FILE", "source, result and attention side by side", NULL },
    { "plot",           0,   OPTION_TEXT,   AT(plot),          0, 0,        NULL,  "FILE", "energy and push per step (SVG)", NULL },
    { "preview-every",  0,   OPTION_INT,    AT(preview_every), 0, 10000,    "0",   "N", "every N steps write the estimate so far as x-step0010.png; 0: never", NULL },
    { "params",         0,   OPTION_TEXT,   AT(params),        0, 0,        NULL,  "FILE",  "options from a JSON object; those of the command line win", NULL },
    { "params-from",    0,   OPTION_TEXT,   AT(params_from),   0, 0,        NULL,  "IMAGE", "options from a picture made before; those of the command line win", NULL },
    { "no-metadata",    0,   OPTION_FLAG,   AT(no_metadata),   0, 0,        NULL,  NULL, "do not write into the picture how it was made", NULL },
    { "dry-run",        0,   OPTION_FLAG,   AT(dry_run),       0, 0,        NULL,  NULL, "show all values and the memory wanted, and stop", NULL },
    { "json",           0,   OPTION_FLAG,   AT(common.json),   0, 0,        NULL,  NULL, "events as JSON Lines on standard output", NULL },
};
static const OptionPage page = {
    "edit", "Pictures under guidance: edits of a picture or of what a prompt and a seed give.",
    "tiller edit --method self-guidance -p \"a red car on grass\" --move car=0.25,0",
    NULL, 0, 0, "The numbers of a method are options too: tiller help METHOD, or --method METHOD --help, lists them.",
    { TABLE("Words and edits", words_row), { 0 }, TABLE("Run", run_row), { 0 }, MACHINE_TABLE, COMMON_TABLE }
};

/* ---- the run ---- */

static const char *hint_of(const Status *s)
{
    if (strstr(s->text, "is not in the prompt") || strstr(s->text, "not that often")) return "words are written as in the prompt; --objects names what to work on";
    if (strstr(s->text, "cannot run together")) return "run them one after the other: the second with --image on the first one's result";
    if (s->code == E_NUMBER) return "a smaller step or strength keeps the latent finite; -v shows energy and push of each step";
    return common_hint(s);
}

static void say_start(EditRun *w)
{
    JsonOut o = {0};
    Metadata m = edit_metadata(w, w->request.base.seed);
    console_event(&o, "start");
    metadata_members(&o, &m);
    json_integer(&o, "seed", (int64_t)w->request.base.seed);
    json_integer(&o, "threads", w->p->run.threads);
    json_integer(&o, "estimated_bytes", (int64_t)estimate_guided(w->p, &w->request));
    console_send(&w->console, &o);
    console_note(&w->console, "seed: %llu", (unsigned long long)w->request.base.seed);
}

static void say_dry(EditRun *w)
{
    const GuidedRequest *q = &w->request;
    if (w->console.json) return;
    printf("prompt          %s\nsource-prompt   %s\nnegative        %s\nmodel           %s\nsize            %d x %d\nsteps           %d\nguidance-scale  %g\nseed            %llu\n",
           guided_prompt(q), q->source_prompt ? q->source_prompt : "", q->base.negative, w->folder, q->base.W, q->base.H, q->base.steps, q->base.scale,
           (unsigned long long)q->base.seed);
    printf("memory          %.0f MB (estimate)\n", (double)estimate_guided(w->p, q) / 1e6);
    for (int k = 0; k < q->methods; k++) {
        printf("method          %s\n", q->method[k].info->name);
        for (int i = 0; i < q->method[k].info->options; i++) printf("  %-22s%g\n", q->method[k].info->option[i].name, q->method[k].number[i]);
    }
}

static void one_picture(EditRun *w)
{
    Run *r = &w->p->run;
    Guided *g = arena_take(&w->arena, sizeof *g);
    GuidedHooks hooks = edit_hooks(w);
    size_t mark = r->run->used;
    bool gradual = !isnan(w->deltas.from);
    uint64_t seed = w->request.base.seed + (gradual ? 0 : (uint64_t)w->image);
    Tensor z = {0};
    if (!g) {
        run_fail(r, E_MEMORY, "out of memory: a guided run");
        return;
    }
    if (gradual) edit_strength(w);
    w->guided = g;
    memset(g, 0, sizeof *g);
    w->console.computing = false;
    if (!edit_finished(w, seed) && guided_open(g, w->p, &w->request, &hooks) && edit_resume(w, seed)) {
        w->console.computing = true;
        if (guided_sample(g, &z, seed, false) && edit_outputs(w, z, seed)) resume_drop(&w->resume);
        progress_clear(&w->progress);
        edit_keep_last(w);
    }
    guided_close(g);
    w->guided = NULL;
    arena_release(r->run, mark);
}

static int edit(EditRun *w)
{
    Status *s = &w->p->run.status;
    const char *advice = w->e->recompute ? "" : "; --recompute wants less";
    if (edit_check(w->e, w->rows, w->verb, s) && edit_prepare(w) &&
        (w->e->dry_run || common_memory(&w->console, &w->e->common, estimate_guided(w->p, &w->request), advice, s))) {
        say_start(w);
        if (w->e->dry_run) {
            say_dry(w);
            return console_end(&w->console, EXIT_DONE);
        }
        for (w->image = 0; w->image < w->e->count && s->code == OK && w->status.code == OK; w->image++) one_picture(w);
        if (!isnan(w->deltas.from) && w->e->strip && s->code == OK && w->status.code == OK) edit_gradual_strip(w);
        JsonOut o = {0};
        console_event(&o, s->code == OK && w->status.code == OK ? "done" : "stopped");
        json_integer(&o, "images", w->done);
        json_real(&o, "seconds", clock_seconds() - w->begun, 9);
        json_integer(&o, "peak_rss_bytes", (int64_t)process_peak_memory());
        console_send(&w->console, &o);
        console_detail(&w->console, "%d pictures in %.2f s, at most %.0f MB", w->done, clock_seconds() - w->begun, (double)process_peak_memory() / 1e6);
    }
    progress_clear(&w->progress);
    common_sound(&w->console, &w->p->model);
    if (w->status.code != OK && s->code == OK) s = &w->status;
    return console_end(&w->console, s->code == OK ? EXIT_DONE : console_error(&w->console, s, hint_of(s)));
}

int verb_edit(int argc, char **argv)
{
    if (diffuseit_asked(argc, argv)) return verb_diffuseit(argc, argv);
    if (pixel_asked(argc, argv)) return verb_asyrp(argc, argv);
    Arena words = {0};
    Status s = {0};
    OptionPage full = page;
    int rests, code = EXIT_MEMORY;
    EditWork *all = params_asked(&words, &argc, &argv, &s) ? edit_work(argc, argv) : NULL;
    if (s.code != OK || (all && all->status.code != OK)) {
        code = verb_refused(argc, argv, s.code != OK ? &s : &all->status);
    } else if (all) {
        full.verb = argv[0];
        full.table[1] = (OptionTable){ "Numbers of the methods", all->rows.row, all->rows.rows };
        full.table[3] = (OptionTable){ "Mixing of predictions", all->mixing.row, CFG_NUMBERS };
        if (verb_begin(&all->run.console, &full, all->run.e, argc, argv, NULL, &rests, &code)) code = edit(&all->run);
    }
    if (all) edit_work_free(all);
    arena_free(&words);
    return code;
}
