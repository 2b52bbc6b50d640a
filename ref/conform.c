#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "guidance/guide.h"
#include "ref/conform.h"
#include "ref/options.h"

/* FLOAT_WAVES: these cases were made with the reference library's own time embedding, whose sines and cosines are
 * float32 in a float64 network; the sd-* cases replaced it by one in float64.
 *
 * No kind needs an exception from the double program's 1e-6.  Whole runs and inversion round trips do amplify rounding
 * (up to 3e4 times in 100 steps through a random network), but from 1e-16; measured: 3e-8, what float32 storage leaves. */
enum { FLOAT_WAVES = 1 };
static const struct { const char *kind; ConformKind *run; int how; } KINDS[] = {
    { "attn-ae-loop",        conform_attend_loop,  0 },
    { "attn-ae-step",        conform_attend_step,  0 },
    { "attn-astar-loop",     conform_astar_loop,   0 },
    { "attn-astar-step",     conform_astar_step,   0 },
    { "attn-multi-loop",     conform_multi_loop,   0 },
    { "attn-multi-step",     conform_multi_step,   0 },
    { "attn-sti-centroid-step", conform_masked_centroid, 0 },
    { "attn-sti-emphasise-step", conform_suppress_term, 0 },
    { "attn-sti-even-step",  conform_suppress_term, 0 },
    { "attn-sti-exclusive-step", conform_suppress_term, 0 },
    { "attn-sti-loop",       conform_suppress_loop, 0 },
    { "attn-sti-masked-loop", conform_masked_loop, 0 },
    { "attn-sti-masked-step", conform_masked_step, 0 },
    { "attn-sti-step",       conform_suppress_step, 0 },
    { "attn-sti-suppress-step", conform_suppress_term, 0 },
    { "attn-null-text",      conform_nulltext,     0 },
    { "attn-p2p-align",      conform_prompt_align, 0 },
    { "attn-p2p-*-loop",     conform_prompt_loop,  0 },
    { "attn-p2z-invert",     conform_pixzero_invert, 0 },
    { "attn-p2z-loop",       conform_pixzero_loop, 0 },
    { "attn-p2z-noise",      conform_pixzero_noise, 0 },
    { "attn-p2z-step",       conform_pixzero_step, 0 },
    { "attn-pnp-loop",       conform_plugplay,     0 },
    { "clip-image",          conform_image,        0 },
    { "clip-preprocess",     conform_preprocess,   0 },
    { "clip-text",           conform_text,         0 },
    { "ddim",                conform_ddim,         0 },
    { "ddim-inverse",        conform_ddim_inverse, 0 },
    { "guid-cfg",            conform_cfg,          0 },
    { "guid-classifier",     conform_classifier,   FLOAT_WAVES },
    { "guid-maps-appearance-*", conform_maps_appearance, 0 },
    { "guid-maps-centroid",  conform_maps_centroid, 0 },
    { "guid-maps-mask-*",    conform_maps_mask,    0 },
    { "guid-maps-warp",      conform_maps_warp,    0 },
    { "guid-schedule",       conform_selfguide_schedule, 0 },
    { "guid-taps",           conform_taps,         FLOAT_WAVES },
    { "inversion",           conform_inversion,    0 },
    { "manifest",            conform_manifest,     0 },
    { "pix-adm-classifier",  conform_pixel_classifier, 0 },
    { "pix-adm-fwd-*",       conform_pixel_unet,   0 },
    { "pix-adm-sampling",    conform_adm_sampling, 0 },
    { "pix-asyrp-loop",      conform_asyrp_loop,   0 },
    { "pix-asyrp-step-*",    conform_asyrp_step,   0 },
    { "pix-asyrp-train",     conform_asyrp_train,  0 },
    { "pix-clip-rn",         conform_clip_tower,   0 },
    { "pix-clip-vit",        conform_clip_tower,   0 },
    { "pix-colourmatch",     conform_colourmatch,  0 },
    { "pix-cutouts",         conform_cutouts,      0 },
    { "pix-ddim-fwd",        conform_pixel_unet,   0 },
    { "pix-dino",            conform_dino,         0 },
    { "pix-dino-pos",        conform_dino,         0 },
    { "pix-dit-loop-*",      conform_diffuseit_loop, 0 },
    { "pix-dit-losses",      conform_diffuseit_losses, 0 },
    { "pix-dit-step",        conform_diffuseit_step, 0 },
    { "pix-hspace-interp",   conform_asyrp_interpolation, 0 },
    { "pix-lpips-head",      conform_lpips,        0 },
    { "pix-pt-bad",          conform_torch_bad,    0 },
    { "pix-pt-good",         conform_torch_good,   0 },
    { "pix-respacing",       conform_respacing,    0 },
    { "rng-torch-diffusers", conform_diffusers,    0 },
    { "rng-torch-other",     conform_other,        0 },
    { "rng-torch-philox",    conform_philox,       0 },
    { "rng-torch-portable",  conform_portable,     0 },
    { "rng-torch-randn",     conform_randn,        0 },
    { "rng-torch-sequence",  conform_sequence,     0 },
    { "sample",              conform_sample,       0 },
    { "selfguide-appearance", conform_selfguide_property, FLOAT_WAVES },
    { "selfguide-centroid",  conform_selfguide_property, FLOAT_WAVES },
    { "selfguide-eps",       conform_selfguide_eps, FLOAT_WAVES },
    { "selfguide-loop",      conform_selfguide_loop, FLOAT_WAVES },
    { "selfguide-shape",     conform_selfguide_property, FLOAT_WAVES },
    { "selfguide-size",      conform_selfguide_property, FLOAT_WAVES },
    { "tokenizer",           conform_tokenizer,    0 },
    { "unet",                conform_unet,         0 },
    { "vae",                 conform_vae,          0 },
};
enum { MOST_CASES = 4096, KIND_COUNT = sizeof KINDS / sizeof *KINDS };

static void run_kind(Case *c)
{
    int kind = 0;
    while (kind < KIND_COUNT && !site_matches(KINDS[kind].kind, c->kind)) kind++;
    if (kind == KIND_COUNT) {
        judge_truth(c, "kind", false, case_name(c, "kind \"%s\" is not known here", c->kind));
        return;
    }
    c->float_waves = KINDS[kind].how & FLOAT_WAVES;
    KINDS[kind].run(c);
    if (c->report->dump && run_ok(&c->run)) dump_values(c);
    judge_missing(c);
}

static void run_case(Report *report, const char *path)
{
    Case c;
    if (case_open(&c, report, path)) run_kind(&c);
    judge_end(&c);
    if (!run_ok(&c.run)) console_error(report->console, &c.run.status, NULL);
    case_close(&c);
}

/* ---- the verb ---- */

typedef struct { bool json; const char *dump, *models; int threads, cpu, math; } Settings;
enum { CPU_ROW = 4, MATH_REFERENCE = 1 };

static const Option OPTIONS[] = {
    { "json", 0, OPTION_FLAG, offsetof(Settings, json), 0, 0, NULL, NULL, "one JSON object per tensor, on a line of its own", NULL },
    { "dump", 0, OPTION_TEXT, offsetof(Settings, dump), 0, 0, NULL, "DIR", "write our values there, one safetensors file per case", NULL },
    { "models", 0, OPTION_TEXT, offsetof(Settings, models), 0, 0, NULL, "DIR", "look for models here instead of beside cases/", NULL },
    { "threads", 't', OPTION_INT, offsetof(Settings, threads), 1, 1024, NULL, "N", "threads; all by default, and the bits never change", NULL },
    { "cpu", 0, OPTION_CHOICE, offsetof(Settings, cpu), 0, 0, "best", "best|plain|avx2|avx512|neon", "kernels", NULL },
    { "math", 0, OPTION_CHOICE, offsetof(Settings, math), 0, 0, "fast", "fast|reference", "reference: plain kernels, no BLAS", NULL },
};
static const OptionPage PAGE = {
    .verb = "conform", .line = "run golden cases and judge every tensor", .example = "tiller conform golden/cases/sd-unet-sd1",
    .arguments = "CASE...", .least = 1, .most = MOST_CASES,
    .about = "A case is a folder with case.json, that file itself, or a manifest.json of files to accept or refuse. "
             "One line per tensor: how it is measured, the error, its limit. Exit 1 if any failed, 3 if a case cannot be read.",
    .table = { { "Options", OPTIONS, sizeof OPTIONS / sizeof *OPTIONS } },
};

static void last_line(const Report *report)
{
    if (report->json) printf("{\"event\":\"done\",\"passed\":%d,\"failed\":%d}\n", report->passed, report->failed);
    else printf("%d passed, %d failed\n", report->passed, report->failed);
}

/* Only what makes a case unusable goes beyond "a check failed". */
static int exit_code(const Report *report, const Console *console)
{
    switch (report->worst) {
    case E_FILE: case E_FORMAT: case E_MEMORY: case E_WRITE: return console_exit_code(console, report->worst);
    default: return report->failed > 0 ? EXIT_DIFFERENT : EXIT_DONE;
    }
}

static bool begin(Report *report, const Settings *set, Status *s)
{
    char name[16];
    const char *kernels = set->math == MATH_REFERENCE ? "plain" : set->cpu ? choice_name(&OPTIONS[CPU_ROW], set->cpu, name, sizeof name) : NULL;
    *report = (Report){ .json = set->json, .dump = set->dump, .models = set->models, .kernels = kernels_pick(kernels),
                        .blas = set->math != MATH_REFERENCE, .threads = set->threads ? set->threads : system_processors() };
    if (!report->kernels) status_fail(s, E_OPTION, "--cpu %s: this processor does not run these kernels", kernels);
    return report->kernels && (!set->dump || folder_make(set->dump, s));
}

int verb_conform(int argc, char **argv)
{
    Settings set = {0};
    Status s = {0};
    Report report = {0};
    char *path[MOST_CASES];
    int paths = 0, code = EXIT_DONE;
    bool help = false, good = options_parse(&PAGE, &set, argc, argv, path, &paths, &help, &s);
    Console console = console_begin(false, false, set.json, COLOR_AUTO);
    if (good && help) options_help(&PAGE, stdout);
    if (good && !help) {
        good = begin(&report, &set, &s);
        report.console = &console;
        for (int i = 0; i < paths && good; i++) run_case(&report, path[i]);
        if (good) last_line(&report);
        if (good) code = exit_code(&report, &console);
    }
    if (!good) code = console_error(&console, &s, NULL);
    return console_end(&console, code);
}
