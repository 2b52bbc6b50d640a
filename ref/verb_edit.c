#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/diffuseit.h"
#include "tensor/file.h"

#define AT(member) offsetof(Edit, member)
static const Option words_row[] = {
    { "method",         0,   OPTION_LIST,   AT(method),        0, 0, NULL, "NAME",  "guidance method; several compose; tiller methods lists them", NULL },
    { "prompt",         'p', OPTION_TEXT,   AT(prompt),        0, 0, NULL, "TEXT",  "what the result shows [default: the source's prompt]", NULL },
    { "negative",       'n', OPTION_TEXT,   AT(negative),      0, 0, "",   "TEXT",  "what it should not show", "negative-prompt" },
    { "source-prompt",  0,   OPTION_TEXT,   AT(source_prompt), 0, 0, NULL, "TEXT",  "what the source shows [default: the prompt]", NULL },
    { "image",          'i', OPTION_TEXT,   AT(image),         0, 0, NULL, "FILE",  "the source: a photo, PNG or JPEG [default: the same seed, unguided]", "init-image" },
    { "objects",        0,   OPTION_TEXT,   AT(objects),       0, 0, NULL, "WORDS", "objects, as \"cat,frog\"; cat#2 is the second cat [default: the nouns of the prompt]", NULL },
    { "move",           0,   OPTION_LIST,   AT(move),          0, 0, NULL, "WORD=X,Y", "move an object right and down, in parts of the frame", NULL },
    { "resize",         0,   OPTION_LIST,   AT(resize),        0, 0, NULL, "WORD=F",   "resize an object by a factor (or by two: across, down)", NULL },
    { "layout",         0,   OPTION_LIST,   AT(layout),        0, 0, NULL, "WORDS", "keep where these are and their shape, let their look go", NULL },
    { "look",           0,   OPTION_LIST,   AT(look),          0, 0, NULL, "WORDS", "keep the look of these, let their place go", NULL },
    { "keep",           0,   OPTION_LIST,   AT(keep),          0, 0, NULL, "WORDS", "keep these in every way", NULL },
    { "reweight",       0,   OPTION_LIST,   AT(reweight),      0, 0, NULL, "WORD=X", "weaken or strengthen a word's attention", NULL },
    { "blend",          0,   OPTION_LIST,   AT(blend),         0, 0, NULL, "WORDS", "change the picture only where these words are", "local-blend" },
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
    { "rescale",        0,   OPTION_REAL,   AT(rescale),       0, 1,        "0",   "X", "share of guidance rescale (phi)", "guidance-rescale" },
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
    { "recompute",      0,   OPTION_FLAG,   AT(recompute),     0, 0,        NULL,  NULL, "gradients with less memory and more time, the same numbers", NULL },
    { "paper-defaults", 0,   OPTION_FLAG,   AT(paper),         0, 0,        NULL,  NULL, "with the bundled model: the papers' numbers, not its presets", NULL },
    { "output",         'o', OPTION_TEXT,   AT(output),        0, 0, "edit.png",   "FILE", "PNG; several pictures: x-0.png, x-1.png", NULL },
    { "save-latents",   0,   OPTION_TEXT,   AT(save_latents),  0, 0,        NULL,  "FILE", "write the final latents (safetensors, key latents)", NULL },
    { "maps",           0,   OPTION_TEXT,   AT(maps),          0, 0,        NULL,  "FOLDER", "each word's attention over the result, a picture a word", NULL },
    { "strip",          0,   OPTION_TEXT,   AT(strip),         0, 0,        NULL,  "FILE", "source, result and attention side by side", NULL },
    { "plot",           0,   OPTION_TEXT,   AT(plot),          0, 0,        NULL,  "FILE", "energy and push per step (SVG)", NULL },
    { "no-metadata",    0,   OPTION_FLAG,   AT(no_metadata),   0, 0,        NULL,  NULL, "do not write into the picture how it was made", NULL },
    { "dry-run",        0,   OPTION_FLAG,   AT(dry_run),       0, 0,        NULL,  NULL, "show all values, and stop", NULL },
    { "json",           0,   OPTION_FLAG,   AT(common.json),   0, 0,        NULL,  NULL, "events as JSON Lines on standard output", NULL },
};
static const OptionPage page = {
    "edit", "Pictures under guidance: edits of a picture or of what a prompt and a seed give.",
    "tiller edit --method self-guidance -p \"a red car on grass\" --move car=0.25,0",
    NULL, 0, 0, "The numbers of a method are options too: tiller help METHOD, or --method METHOD --help, lists them.",
    { TABLE("Words and edits", words_row), { 0 }, TABLE("Run", run_row) }
};

/* ---- before a model is read ---- */

static bool not_png(const char *path)
{
    static const char *const other[] = { ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff" };
    const char *dot = path ? strrchr(path, '.') : NULL;
    for (int i = 0; dot && i < 7; i++)
        if (!strcmp(dot, other[i])) return true;
    return false;
}

static bool check_options(const EditRun *w, Status *s)
{
    const Edit *e = w->e;
    const char *const text[] = { e->prompt, e->negative, e->source_prompt, e->objects, e->source, e->target };
    for (int i = 0; i < 6; i++)
        if (text[i] && !utf8_valid(text[i])) status_fail(s, E_OPTION, "%s: a text is not valid UTF-8", w->verb);
    if (!e->prompt && !e->source_prompt && !e->source) status_fail(s, E_OPTION, "%s: --prompt is missing", w->verb);
    if (!e->source != !e->target) status_fail(s, E_OPTION, "--source and --target belong together");
    if (!e->source_sentences != !e->target_sentences) status_fail(s, E_OPTION, "--source-sentences and --target-sentences belong together");
    if (e->image && e->latents) status_fail(s, E_OPTION, "--image and --latents both name a start");
    if (e->image && e->count > 1 && e->start && !e->deltas.gradual) status_fail(s, E_OPTION, "--num-images: from an inversion all pictures would be the same");
    if (!e->image && (e->start || e->cache)) status_fail(s, E_OPTION, "--%s is about a photo; --image names it", e->start ? "start" : "cache");
    if (e->deltas.gradual && (e->count < 2 || e->count > GRADUAL_MOST)) status_fail(s, E_OPTION, "--gradual: --num-images from 2 to %d is wanted", GRADUAL_MOST);
    if (not_png(e->output)) status_fail(s, E_OPTION, "--output: pictures are written as PNG, found \"%.200s\"", e->output);
    if (not_png(e->strip)) status_fail(s, E_OPTION, "--strip: pictures are written as PNG, found \"%.200s\"", e->strip);
    if (!w->rows->methods && (e->move.n || e->resize.n || e->layout.n || e->look.n || e->keep.n || e->reweight.n || e->blend.n || e->box.n || e->mask.n || e->source || e->source_sentences))
        status_fail(s, E_OPTION, "%s: an edit without a method; --method self-guidance moves and resizes, tiller methods lists all", w->verb);
    return s->code == OK;
}

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
    if (guided_open(g, w->p, &w->request, &hooks)) {
        w->console.computing = true;
        if (guided_sample(g, &z, seed, false)) edit_outputs(w, z, seed);
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
    if (check_options(w, s) && edit_prepare(w)) {
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
    if (w->status.code != OK && s->code == OK) s = &w->status;
    return console_end(&w->console, s->code == OK ? EXIT_DONE : console_error(&w->console, s, hint_of(s)));
}

int verb_edit(int argc, char **argv)
{
    if (diffuseit_asked(argc, argv)) return verb_diffuseit(argc, argv);
    EditWork *all = edit_work(argc, argv);
    OptionPage full = page;
    int rests, code = EXIT_MEMORY;
    if (!all) return code;
    EditRun *w = &all->run;
    full.verb = argv[0];
    full.table[1] = (OptionTable){ "Numbers of the methods", all->rows.row, all->rows.rows };
    full.table[3] = machine_options;
    full.table[4] = common_options;
    if (all->status.code != OK) {
        w->console = console_begin(false, false, false, COLOR_AUTO);
        code = console_end(&w->console, console_error(&w->console, &all->status, NULL));
    } else if (verb_begin(&w->console, &full, w->e, argc, argv, NULL, &rests, &code)) {
        code = edit(w);
    }
    edit_work_free(all);
    return code;
}
