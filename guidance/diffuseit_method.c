#include "guidance/diffuseit_method.h"

static const MethodOption option[DIT_NUMBERS] = {
    [DIT_CLIP]          = { "clip-guidance-lambda", 2000, 0, 1e7, "l_clip", "weight of the text, as CLIP sees it" },
    [DIT_SSIM]          = { "lambda-ssim",        1000, 0, 1e7,   "l_ssim", "weight of the keys' self-similarity: structure" },
    [DIT_CONTRA]        = { "lambda-contra-ssim", 200,  0, 1e7,   "l_cont", "weight of the keys' contrast: each place stays itself" },
    [DIT_DIR_CLS]       = { "lambda-dir-cls",     100,  0, 1e7,   "l_sem",  "weight of moving on from the previous estimate" },
    [DIT_TARGET]        = { "lambda-trg",         2000, 0, 1e7,   "l_sty",  "weight of the target picture's class token: style" },
    [DIT_L2]            = { "l2-trg-lambda",      3000, 0, 1e7,   "l_mse",  "weight of the target picture's pixels" },
    [DIT_RANGE]         = { "range-lambda",       200,  0, 1e7,   "l_rng",  "weight of pixels outside the range" },
    [DIT_SKIP]          = { "skip",               40,   0, 9999,  "",       "noisiest steps that are left out" },
    [DIT_DIFF_ITER]     = { "diff-iter",          50,   0, 9999,  "",       "lambda-dir-cls counts at indices above this" },
    [DIT_ROUNDS]        = { "resample-num",       10,   1, 1000,  "R",      "rounds at the noisiest index" },
    [DIT_AUG_NUM]       = { "aug-num",            8,    0, 256,   "n",      "cuts of the picture for each CLIP; 0: the whole picture" },
    [DIT_MAX_RESTARTS]  = { "max-restarts",       10,   0, 1000,  "",       "then the restart rule is no longer obeyed" },
    [DIT_RESTART_ABOVE] = { "restart-above",      0.01, 0, 1e7,   "",       "weighted range term that means a restart" },
    [DIT_RANGE_RESTART] = { "range-restart",      0,    0, 1,     "",       "begin again when pixels leave the range" },
    [DIT_NOISE_AUG_ALL] = { "noise-aug-all",      0,    0, 1,     "",       "every term looks at the mixture of estimate and sample" },
    [DIT_REGULARIZE]    = { "regularize-content", 0,    0, 1,     "",       "twice the contrast while the text is already met" },
    [DIT_PROG_CONTRAST] = { "prog-contrast",      0,    0, 1,     "",       "half the contrast while the text is far" },
    [DIT_DDIM]          = { "ddim",               0,    0, 1,     "",       "DDIM steps instead of ancestral ones" },
    [DIT_DINO_SIZE]     = { "dino-size",          0,    0, 4096,  "",       "pixels a side that DINO looks at; 0: its own" },
};

double diffuseit_example(DiffuseitExample e, int number)
{
    if (e == DIT_EXAMPLE_NONE) return (double)NAN;
    switch (number) {
    case DIT_RANGE_RESTART: case DIT_NOISE_AUG_ALL: return 1;
    case DIT_SKIP:       return e == DIT_EXAMPLE_IMAGE ? 80 : (double)NAN;
    case DIT_DIFF_ITER:  return e == DIT_EXAMPLE_IMAGE ? 100 : (double)NAN;
    case DIT_REGULARIZE: return e == DIT_EXAMPLE_TEXT ? 1 : (double)NAN;
    default:             return (double)NAN;
    }
}

int diffuseit_example_steps(DiffuseitExample e) { return e == DIT_EXAMPLE_IMAGE ? 200 : 100; }

DiffuseitOptions diffuseit_numbers(const double *number)
{
    DiffuseitOptions o = diffuseit_options();
    for (int k = 0; k < DIT_TERMS; k++) o.weight[k] = number[k];
    o.skip = (int)number[DIT_SKIP];
    o.diff_iter = (int)number[DIT_DIFF_ITER];
    o.rounds = (int)number[DIT_ROUNDS];
    o.max_restarts = (int)number[DIT_MAX_RESTARTS];
    o.restart_above = number[DIT_RESTART_ABOVE];
    o.range_restart = number[DIT_RANGE_RESTART] > 0.5;
    o.noise_aug_all = number[DIT_NOISE_AUG_ALL] > 0.5;
    o.regularize_content = number[DIT_REGULARIZE] > 0.5;
    o.prog_contrast = number[DIT_PROG_CONTRAST] > 0.5;
    o.ddim = number[DIT_DDIM] > 0.5;
    return o;
}

static bool build(Run *r, Method *m, const MethodInput *in)
{
    (void)m;
    (void)in;
    run_fail(r, E_OPTION, "diffuseit runs alone, on a picture: tiller edit --method diffuseit --image FILE");
    return false;
}

const MethodInfo method_diffuseit = {
    "diffuseit", "DiffuseIT", "Kwon & Ye, arXiv 2209.15264",
    "redraw a picture in the look of another one, or of a text, its structure kept by a vision transformer's keys",
    "x <- mean + variance g + noise,   g = -d/dx of structure (DINO keys) + look (DINO class token, pixels, or CLIP) + range",
    "tiller edit --method diffuseit --image in.png --target-image look.png",
    option, DIT_NUMBERS, NEED_IMAGE, false, build, NULL,
};
