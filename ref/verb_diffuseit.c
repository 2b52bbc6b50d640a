#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ref/diffuseit.h"
#include "ref/maps_picture.h"
#include "tensor/file.h"
#include "tensor/safetensors.h"

#define AT(member)   offsetof(DitSettings, member)
#define EDIT(member) offsetof(DitSettings, edit.member)
static const Option words_row[] = {
    { "method",        0,   OPTION_LIST,   EDIT(method),     0, 0, NULL, "NAME", "diffuseit; it runs alone", NULL },
    { "image",         'i', OPTION_TEXT,   EDIT(image),      0, 0, NULL, "FILE", "the source, whose structure stays: PNG or JPEG", "init-image" },
    { "target-image",  0,   OPTION_TEXT,   AT(target_image), 0, 0, NULL, "FILE", "the picture whose look it takes", NULL },
    { "source",        0,   OPTION_TEXT,   EDIT(source),     0, 0, NULL, "TEXT", "or: what the source shows, to CLIP ...", NULL },
    { "target",        0,   OPTION_TEXT,   EDIT(target),     0, 0, NULL, "TEXT", "... and what the result should show", NULL },
    { "prompt",        'p', OPTION_TEXT,   EDIT(prompt),     0, 0, NULL, "TEXT", "for a latent model: its own prompt [default: empty]", NULL },
    { "negative",      'n', OPTION_TEXT,   EDIT(negative),   0, 0, "",   "TEXT", "what that should not show, with --guidance-scale", "negative-prompt" },
    { "dino",          0,   OPTION_TEXT,   AT(dino),         0, 0, NULL, "FOLDER", "the vision transformer [default: the model's own folder dino]", NULL },
    { "clip",          0,   OPTION_TEXT,   AT(clip),         0, 0, NULL, "FOLDERS", "for texts: CLIP models, \"a,b\" [default: the model's own folder clip]", NULL },
    { "templates",     0,   OPTION_TEXT,   AT(templates),    0, 0, NULL, "FILE", "sentences with {} around both texts, or none [default: the 79 of ImageNet; none with the bundled model]", NULL },
};
static const Option run_row[] = {
    { "example",        0,   OPTION_CHOICE, AT(example),        0, 0, "auto", "auto|none|image|text", "whose numbers where none are given: the code's defaults, or its two examples", NULL },
    { "steps",          0,   OPTION_INT,    EDIT(steps),        2, 10000, NULL, "N", "kept times of the process [default: 100; 200 as in the image example]", NULL },
    { "respacing",      0,   OPTION_TEXT,   AT(respacing),      0, 0, NULL, "TEXT", "the same as the original writes it: \"100\", \"ddim50\", \"10,20,30\"", "timestep-respacing" },
    { "colormatch",     0,   OPTION_CHOICE, AT(colours),        0, 0, "auto", "auto|none|mkl|mkl-stretch", "the result in the target picture's colours; stretch: over the full range, as the original", "colourmatch" },
    { "guidance-scale", 0,   OPTION_REAL,   EDIT(scale),        -1000, 1000, NULL, "X", "for a latent model: weight of its prompt [default: 1]", "cfg-scale" },
    { "seed",           's', OPTION_SEED,   EDIT(seed),         0, 0, NULL, "N", "-2^63 to 2^64-1 [default: a random one, printed]", NULL },
    { "rng",            0,   OPTION_CHOICE, EDIT(rng),          0, 0, "torch", "torch|philox", "whose random numbers", NULL },
    { "width",          'W', OPTION_INT,    EDIT(W),            1, 8192, NULL, "N", "pixels [default: the model's]", NULL },
    { "height",         'H', OPTION_INT,    EDIT(H),            1, 8192, NULL, "N", "pixels [default: the model's]", NULL },
    { "fit",            0,   OPTION_CHOICE, EDIT(fit),          0, 0, "crop", "crop|pad|stretch", "what happens to pictures of another size", NULL },
    { "recompute",      0,   OPTION_FLAG,   EDIT(recompute),    0, 0, NULL, NULL, "gradients with less memory and more time, the same numbers", NULL },
    { "paper-defaults", 0,   OPTION_FLAG,   EDIT(paper),        0, 0, NULL, NULL, "with the bundled model: the paper's numbers, not its presets", NULL },
    { "output",         'o', OPTION_TEXT,   EDIT(output),       0, 0, "edit.png", "FILE", "PNG", NULL },
    { "strip",          0,   OPTION_TEXT,   EDIT(strip),        0, 0, NULL, "FILE", "source, target picture and result side by side", NULL },
    { "log",            0,   OPTION_TEXT,   AT(log),            0, 0, NULL, "FILE", "every call's terms, a line of JSON each", NULL },
    { "no-metadata",    0,   OPTION_FLAG,   EDIT(no_metadata),  0, 0, NULL, NULL, "do not write into the picture how it was made", NULL },
    { "dry-run",        0,   OPTION_FLAG,   EDIT(dry_run),      0, 0, NULL, NULL, "show all values, and stop", NULL },
    { "json",           0,   OPTION_FLAG,   EDIT(common.json),  0, 0, NULL, NULL, "events as JSON Lines on standard output", NULL },
};
static const OptionPage page = {
    "edit", "A picture in the look of another one or of a text (DiffuseIT).",
    "tiller edit --method diffuseit --image in.png --target-image look.png",
    NULL, 0, 0, "Switches of the method may be given without a number: --range-restart is --range-restart 1.",
    { TABLE("Pictures and words", words_row), { 0 }, TABLE("Run", run_row), MACHINE_TABLE, COMMON_TABLE }
};

bool diffuseit_asked(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "--method=diffuseit")) return true;
        if (!strcmp(argv[i], "--method") && i + 1 < argc && !strcmp(argv[i + 1], "diffuseit")) return true;
    }
    return false;
}

/* A switch of the method without a number gets its 1. */
static void complete_switches(int argc, char **argv, char (*room)[48])
{
    int used = 0;
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        for (int k = DIT_RANGE_RESTART; k <= DIT_DDIM; k++) {
            const char *next = i + 1 < argc ? argv[i + 1] : "-";
            if (strncmp(argv[i], "--", 2) || strcmp(argv[i] + 2, method_diffuseit.option[k].name) || strchr("0123456789.", *next)) continue;
            if (used == LIST_MOST) return;
            snprintf(room[used], sizeof *room, "%s=1", argv[i]);
            argv[i] = room[used++];
        }
}

/* ---- before a model is read ---- */

static bool check_options(const DitSettings *s, const MethodRows *rows, Status *st)
{
    const Edit *e = &s->edit;
    const char *const text[] = { e->prompt, e->negative, e->source, e->target };
    const char *dot = strrchr(e->output, '.');
    for (int i = 0; i < 4; i++)
        if (text[i] && !utf8_valid(text[i])) status_fail(st, E_OPTION, "edit: a text is not valid UTF-8");
    if (rows->methods > 1) status_fail(st, E_OPTION, "methods diffuseit and %s cannot run together: diffuseit runs alone", rows->info[rows->info[0] == &method_diffuseit]->name);
    if (!e->image) status_fail(st, E_OPTION, "diffuseit: --image is missing");
    if (!e->source != !e->target) status_fail(st, E_OPTION, "--source and --target belong together");
    if (s->target_image && e->target) status_fail(st, E_OPTION, "diffuseit: --target-image and --target both name a target");
    if (!s->target_image && !e->target) status_fail(st, E_OPTION, "diffuseit: a target is missing: --target-image FILE, or --source TEXT --target TEXT");
    if (s->target_image && s->clip) status_fail(st, E_OPTION, "--clip: CLIP looks at texts; with --target-image it is not asked");
    if (s->target_image && s->example == DIT_EXAMPLE_TEXT + 1) status_fail(st, E_OPTION, "--example text is for --target");
    if (s->respacing && e->steps) status_fail(st, E_OPTION, "--steps and --respacing both say which times are kept");
    if (dot && (!strcmp(dot, ".jpg") || !strcmp(dot, ".jpeg") || !strcmp(dot, ".webp"))) status_fail(st, E_OPTION, "--output: pictures are written as PNG, found \"%.200s\"", e->output);
    return st->code == OK;
}

/* The numbers, by the bundled model's presets where it is that. */
static bool resolve_numbers(DitRun *w, GuidedRequest *q, MethodRows *rows, Status *s)
{
    const Edit *e = &w->s->edit;
    char presets[1200];
    bool bundled = common_bundled(&e->common, w->folder) && !e->paper;
    if (bundled && !common_data(presets, sizeof presets, "presets/tiny-model.txt", s)) return false;
    if (bundled) console_note(&w->console, "presets: tiny-model (--paper-defaults leaves them out)");
    w->seed = e->seed.given ? e->seed.value : system_random() & UINT32_MAX;
    return dit_numbers(w, q, rows, bundled ? presets : NULL, s);
}

/* ---- what is said and written ---- */

static void members(JsonOut *o, const void *run)
{
    const DitRun *w = run;
    const DitSettings *s = w->s;
    char name[200];
    json_text(o, "method", "diffuseit");
    json_text(o, "respacing", w->respacing);
    for (int i = 0; i < DIT_NUMBERS; i++) json_real(o, method_diffuseit.option[i].name, w->number[i], 9);
    json_text(o, "image", base_name(s->edit.image, name, sizeof name));
    if (s->target_image) json_text(o, "target_image", base_name(s->target_image, name, sizeof name));
    if (s->edit.source) json_text(o, "source", s->edit.source);
    if (s->edit.target) json_text(o, "target", s->edit.target);
    if (s->edit.prompt) json_text(o, "prompt", s->edit.prompt);
    json_real(o, "guidance_scale", w->scale, 9);
    json_integer(o, "seed", (int64_t)w->seed);
    json_integer(o, "width", w->W);
    json_integer(o, "height", w->H);
}

static void say_start(const DitRun *w)
{
    JsonOut o = {0};
    console_event(&o, "start");
    members(&o, w);
    console_send(&w->console, &o);
    console_note(&w->console, "seed: %llu", (unsigned long long)w->seed);
}

static void say_dry(const DitRun *w)
{
    if (w->console.json) return;
    printf("method          diffuseit\nmodel           %s\nsize            %d x %d\nrespacing       %s\nguidance-scale  %g\nseed            %llu\n", w->folder, w->W, w->H, w->respacing, w->scale,
           (unsigned long long)w->seed);
    for (int i = 0; i < DIT_NUMBERS; i++) printf("  %-22s%g\n", method_diffuseit.option[i].name, w->number[i]);
}

static bool outputs(DitRun *w, Status *s)
{
    const DitSettings *t = w->s;
    JsonOut about = {0}, o = {0};
    json_open(&about, NULL, '{');
    json_text(&about, "tiller", TILLER_VERSION);
    members(&about, w);
    json_close(&about, '}');
    PngText texts[1] = { { "tiller", about.bytes } };
    if (about.failed) status_fail(s, E_MEMORY, "out of memory: what the picture says about itself");
    else image_save(t->edit.output, &w->arena, &w->result, texts, !t->edit.no_metadata, NULL, s);
    json_free(&about);
    if (s->code == OK && t->edit.strip) {
        Image part[3] = { w->source, w->target, w->result };
        if (!w->target.rgb) part[1] = w->result;
        Image all = pictures_joined(&w->arena, part, w->target.rgb ? 3 : 2, false, s);
        if (all.rgb) image_save(t->edit.strip, &w->arena, &all, NULL, 0, NULL, s);
    }
    if (s->code != OK) return false;
    console_note(&w->console, "%s", t->edit.output);
    console_event(&o, "image");
    json_text(&o, "path", t->edit.output);
    json_integer(&o, "seed", (int64_t)w->seed);
    console_send(&w->console, &o);
    return true;
}

static void save_log(DitRun *w, Status *s)
{
    if (!w->s->log || !w->log.size) return;
    if (w->log.failed) status_fail(s, E_MEMORY, "out of memory: --log");
    else file_save(w->s->log, w->log.bytes, w->log.size, s);
}

/* After E_NUMBER: the last finite sample beside the output. */
static void keep_last(DitRun *w)
{
    char path[1300];
    Status s = {0};
    const char *out = w->s->edit.output, *dot = strrchr(out, '.'), *slash = strrchr(out, '/');
    size_t stem = dot && (!slash || dot > slash) ? (size_t)(dot - out) : strlen(out);
    Tensor z = w->last;
    if (w->r->status.code != E_NUMBER || !z.x || !w->last_call) return;
    snprintf(path, sizeof path, "%.*s-last-good.safetensors", (int)(stem < 1000 ? stem : 1000), out);
    SafeOut t = { "latents", sizeof(real) == 8 ? T_F64 : T_F32, 4, { 1, z.s.d[1], z.s.d[2], z.s.d[3] }, z.x, true };
    if (safetensors_save(path, &t, 1, NULL, 0, &s)) console_note(&w->console, "%s: the last finite sample, after call %d", path, w->last_call);
}

static const char *hint_of(const Status *s)
{
    if (strstr(s->text, "--dino is missing")) return "--dino FOLDER names a DINO: config.json (kind dino_vit, or ViTModel) and model.safetensors";
    if (strstr(s->text, "--clip is missing") || strstr(s->text, "text features of")) return "--clip FOLDER names a whole CLIPModel in the layout of transformers";
    if (s->code == E_NUMBER) return "smaller weights keep the picture finite; -v shows every term of each call";
    return common_hint(s);
}

static int translate(DitRun *w, GuidedRequest *q, MethodRows *rows)
{
    Status first = {0}, *s = &first, after = {0};
    double begun = clock_seconds();
    const char *const out[] = { w->s->edit.output, w->s->edit.strip, w->s->log };
    bool good = check_options(w->s, rows, s) && common_model(&w->s->edit.common, w->folder, sizeof w->folder, s) && resolve_numbers(w, q, rows, s);
    for (int i = 0; i < 3 && good; i++) good = !out[i] || output_check(out[i], s);
    if (good) {
        good = dit_open(w);
        s = &w->r->status;
    }
    if (good) {
        say_start(w);
        if (w->s->edit.dry_run) {
            say_dry(w);
            return console_end(&w->console, EXIT_DONE);
        }
        w->console.computing = true;
        if (dit_run(w)) outputs(w, &after);
        keep_last(w);
        save_log(w, &after);
        console_detail(&w->console, "%d calls in %.2f s, at most %.0f MB", w->calls, clock_seconds() - begun, (double)process_peak_memory() / 1e6);
    }
    progress_clear(&w->progress);
    if (s->code == OK) *s = after;
    JsonOut o = {0};
    console_event(&o, s->code == OK ? "done" : "stopped");
    json_integer(&o, "calls", w->calls);
    json_real(&o, "seconds", clock_seconds() - begun, 9);
    json_integer(&o, "peak_rss_bytes", (int64_t)process_peak_memory());
    console_send(&w->console, &o);
    return console_end(&w->console, s->code == OK ? EXIT_DONE : console_error(&w->console, s, hint_of(s)));
}

typedef struct { DitSettings settings; MethodRows rows; GuidedRequest request; DitRun run; char extra[LIST_MOST][48]; Status status; } DitWork;

int verb_diffuseit(int argc, char **argv)
{
    DitWork *all = calloc(1, sizeof *all);
    OptionPage full = page;
    int rests, code = EXIT_MEMORY;
    if (!all) return code;
    DitRun *w = &all->run;
    w->s = &all->settings;
    edit_defaults(&all->settings.edit);
    edit_methods(&all->rows, argc, argv, &all->status);
    complete_switches(argc, argv, all->extra);
    full.verb = argv[0];
    full.table[1] = (OptionTable){ "Numbers of the method", all->rows.row, all->rows.rows };
    if (all->status.code != OK) {
        w->console = console_begin(false, false, false, COLOR_AUTO);
        code = console_end(&w->console, console_error(&w->console, &all->status, NULL));
    } else if (verb_begin(&w->console, &full, w->s, argc, argv, NULL, &rests, &code)) {
        code = translate(w, &all->request, &all->rows);
    }
    dit_close(w);
    free(all);
    return code;
}
