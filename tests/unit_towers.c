/* unit_towers.c -- resizing against numbers of PyTorch 2.13, the geometry of preparing, the published networks counted. */
#include "nn/clip_resnet.h"
#include "nn/dino.h"
#include "tests/check.h"

static Arena arena, brief;
static Run run;

/* interpolate(x, size, mode, antialias) of x[i] = i^2 / 16, i = 0..11, as [3,4], in float64, nine places. */
typedef struct { Resize how; int H, W; double y[12]; } Row;
static const Row ROWS[] = {
    { { RESIZE_BILINEAR, false, 0, 0 }, 2, 3, { 0.28125, 0.59375, 1.114583333, 3.40625, 4.71875, 6.239583333 } },
    { { RESIZE_BILINEAR, false, 0, 0 }, 5, 2, { 0.03125, 0.40625, 0.53125, 1.30625, 1.28125, 2.65625, 3.23125, 5.20625, 4.53125, 6.90625 } },
    { { RESIZE_BILINEAR, true, 0, 0 }, 2, 3, { 0.45, 0.8125, 1.35, 3.1375, 4.25, 5.5375 } },
    { { RESIZE_BILINEAR, true, 0, 0 }, 5, 2, { 0.0625, 0.357142857, 0.605357143, 1.214285714, 1.419642857, 2.5, 3.433928571, 4.985714286, 4.776785714, 6.642857143 } },
    { { RESIZE_BICUBIC, false, 0, 0 }, 2, 3, { 0.138882107, 0.397460938, 0.917035138, 3.475267198, 4.844726562, 6.475181297 } },
    { { RESIZE_BICUBIC, false, 0, 0 }, 5, 2, { -0.101828125, 0.203328125, 0.249859375, 1.005640625, 1.216796875, 2.720703125, 3.263734375, 5.515765625, 4.727421875, 7.430078125 } },
    { { RESIZE_BICUBIC, true, 0, 0 }, 2, 3, { 0.263673733, 0.609327722, 1.160797389, 3.155600668, 4.405475395, 5.861165799 } },
    { { RESIZE_BICUBIC, true, 0, 0 }, 5, 2, { -0.05990761, 0.213628567, 0.343892624, 0.965770322, 1.331095041, 2.58677686, 3.527252683, 5.416738621, 4.873041088, 7.110868548 } },
    { { RESIZE_BICUBIC, false, 2.1 / 3, 6.1 / 4 }, 2, 6, { 0.096307334, 0.154069071, 0.291034462, 0.438878327, 0.724933489, 0.941457713, 2.957611564, 3.388772433, 4.142240483, 4.729640073, 5.638494785, 6.257721284 } },
};

static void resizing(void)
{
    Tensor x = tensor_in(&run, &arena, SHAPE(1, 1, 3, 4)), flat = { x.x, SHAPE(1, 3, 4, 1) };
    for (int i = 0; i < 12; i++) x.x[i] = (real)(i * i / 16.0);
    for (size_t k = 0; k < sizeof ROWS / sizeof *ROWS; k++) {
        const Row *row = &ROWS[k];
        Tensor y = tensor_in(&run, &arena, SHAPE(1, 1, row->H, row->W)), z = tensor_in(&run, &arena, SHAPE(1, row->H, row->W, 1));
        double worst = 0;
        resize(&run, y, x, row->how);
        resize_maps(&run, z, flat, row->how);
        for (int i = 0; i < row->H * row->W; i++) worst = fmax(worst, fmax(fabs((double)y.x[i] - row->y[i]), fabs((double)z.x[i] - row->y[i])));
        check_below("resize", worst, 1e-6);               /* float32 holds numbers up to 8 to 5e-7 */
    }
}

/* A picture of its own column and row numbers, prepared at its short side's size: what is left says where the cut began. */
static void cuts(void)
{
    static const struct { int H, W, S, top, left; } CUT[] = {
        { 6, 6, 6, 0, 0 }, { 6, 7, 6, 0, 0 }, { 6, 9, 6, 0, 2 }, { 6, 11, 6, 0, 2 }, { 13, 6, 6, 4, 0 }, { 6, 8, 6, 0, 1 }     /* 0.5 to 0, 1.5 to 2, 2.5 to 2, 3.5 to 4 */
    };
    Preprocess p = { RESIZE_BILINEAR, false, false, { 0, 0, 0 }, { 1, 1, 1 } };
    for (size_t k = 0; k < sizeof CUT / sizeof *CUT; k++) {
        Tensor image = tensor_in(&run, &arena, SHAPE(1, 3, CUT[k].H, CUT[k].W)), pixels = tensor_in(&run, &arena, SHAPE(1, 3, CUT[k].S, CUT[k].S));
        for (size_t i = 0; i < tensor_count(image); i++) image.x[i] = (real)(i / (size_t)CUT[k].W % (size_t)CUT[k].H * 100 + i % (size_t)CUT[k].W);
        preprocess_forward(&run, &p, pixels, image);
        check_true("the cut begins where it should", fabs((double)pixels.x[0] - (CUT[k].top * 100 + CUT[k].left)) < 1e-6);
    }
    Preprocess q = preprocess_clip;
    Tensor one = tensor_in(&run, &arena, SHAPE(1, 3, 1, 1)), v = tensor_in(&run, &arena, SHAPE(1, 3, 1, 1));
    for (int c = 0; c < 3; c++) one.x[c] = (real)0.25;
    preprocess_normalise(&run, &q, v, one);
    check_below("(0.25 + 1) / 2, normalised", fabs((double)v.x[2] - (0.625 - 0.40821073) / 0.27577711), 1e-6);
    q.signed_range = false;
    preprocess_normalise(&run, &q, v, one);
    check_below("0.25, normalised", fabs((double)v.x[0] - (0.25 - 0.48145466) / 0.26862954), 1e-6);
}

/* Parameters of the published networks, by their own source; tensors with the statistics of batch norms. */
static void published(void)
{
    static const struct { int width, heads, patch; size_t numbers; } VIT[] = {
        { 384, 6, 16, 21665664 }, { 384, 6, 8, 21670272 }, { 768, 12, 16, 85798656 }, { 768, 12, 8, 85807872 }
    };
    static const struct { ClipResnetConfig c; size_t numbers; int tensors; } RN[] = {
        { { 64, { 3, 4, 6, 3 }, 224, 1024 }, 38316896, 284 }, { { 64, { 3, 4, 23, 3 }, 224, 512 }, 56259936, 539 },
        { { 80, { 4, 6, 10, 6 }, 288, 640 }, 87137080, 434 }, { { 96, { 6, 8, 18, 8 }, 384, 768 }, 167328912, 644 },
    };
    int tensors;
    for (size_t i = 0; i < sizeof VIT / sizeof *VIT; i++) {
        DinoConfig c = { .width = VIT[i].width, .mlp = 4 * VIT[i].width, .heads = VIT[i].heads, .layers = 12, .image = 224, .patch = VIT[i].patch, .channels = 3, .eps = 1e-6, .published = true };
        Dino m;
        check_true("DINO", dino_build(&m, &c, &arena, &run.status) && params_count(dino_walk, &m, &tensors) == VIT[i].numbers && tensors == 150);
    }
    for (size_t i = 0; i < sizeof RN / sizeof *RN; i++) {
        ClipResnet m;
        size_t statistics = 0;
        check_true("residual network", clip_resnet_build(&m, &RN[i].c, &arena, &run.status));
        for (int k = 0; k < 3; k++) statistics += 2 * (size_t)m.stem[k].mean.size[0];
        for (int k = 0; k < m.blocks; k++) {
            const Bottleneck *b = &m.block[k];
            statistics += 2 * (size_t)(b->a.mean.size[0] + b->b.mean.size[0] + b->c.mean.size[0] + (param_there(&b->skip.mean) ? b->skip.mean.size[0] : 0));
        }
        check_true("its parameters", params_count(clip_resnet_walk, &m, &tensors) - statistics == RN[i].numbers && tensors == RN[i].tensors);
    }
}

int main(void)
{
    run = (Run){ .keep = &brief, .temp = &brief, .k = kernels_pick(NULL), .threads = 2, .blas = true };
    resizing();
    cuts();
    published();
    check_line("no error", run.status.text, run_ok(&run));
    arena_free(&arena);
    arena_free(&brief);
    return check_done();
}
