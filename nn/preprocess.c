#include <stdio.h>
#include "nn/preprocess.h"
#include "tensor/file.h"

const Preprocess preprocess_clip = { RESIZE_BICUBIC, false, true, { 0.48145466, 0.4578275, 0.40821073 }, { 0.26862954, 0.26130258, 0.27577711 } };
const Preprocess preprocess_dino = { RESIZE_BILINEAR, false, true, { 0.485, 0.456, 0.406 }, { 0.229, 0.224, 0.225 } };

/* The picture that just covers [h,w], and where the cut begins. */
typedef struct { int h, w, top, left; bool resized; } Cover;

static int half_even(int extra) { return extra / 2 + (extra % 4 == 3); }

static Cover cover_of(Shape pixels, Shape image)
{
    int h = pixels.d[2], w = pixels.d[3], H = image.d[2], W = image.d[3];
    Cover c = { h, w, 0, 0, false };
    if ((long long)h * W >= (long long)w * H) c.w = (int)((long long)h * W / H);
    else c.h = (int)((long long)w * H / W);
    c.top = half_even(c.h - h);
    c.left = half_even(c.w - w);
    c.resized = c.h != H || c.w != W;
    return c;
}

static bool fit(Run *r, Tensor pixels, Tensor image)
{
    const int *p = pixels.s.d, *i = image.s.d;
    if (!run_ok(r)) return false;
    bool good = pixels.x && image.x && p[0] == i[0] && p[1] == 3 && i[1] == 3 && p[2] > 0 && p[3] > 0 && i[2] > 0 && i[3] > 0;
    good = good && (long long)p[2] * i[3] / i[2] < 1 << 20 && (long long)p[3] * i[2] / i[3] < 1 << 20;
    if (!good) run_fail(r, E_SHAPE, "preprocess: pictures [%d,%d,%d,%d] to pixels [%d,%d,%d,%d]; [N,3,H,W] to [N,3,h,w] expected",
                        i[0], i[1], i[2], i[3], p[0], p[1], p[2], p[3]);
    return good;
}

/* v = a x + b of each channel: from the picture's range to 0..1, then normalised. */
typedef struct { double a[3], b[3]; } Affine3;

static Affine3 coefficients(const Preprocess *p)
{
    Affine3 f;
    for (int c = 0; c < 3; c++) {
        f.a[c] = (p->signed_range ? 0.5 : 1) / p->std[c];
        f.b[c] = ((p->signed_range ? 0.5 : 0) - p->mean[c]) / p->std[c];
    }
    return f;
}

void preprocess_forward(Run *r, const Preprocess *p, Tensor pixels, Tensor image)
{
    size_t mark = r->temp->used;
    if (!fit(r, pixels, image)) return;
    Affine3 f = coefficients(p);
    Cover c = cover_of(pixels.s, image.s);
    Tensor cover = c.resized ? temp(r, SHAPE(image.s.d[0], 3, c.h, c.w)) : image;
    if (c.resized) resize(r, cover, image, (Resize){ .kernel = p->kernel, .antialias = p->antialias });
    if (run_ok(r)) crop_planes(r, pixels, cover, c.top, c.left, f.a, f.b);
    arena_release(r->temp, mark);
}

void preprocess_backward(Run *r, const Preprocess *p, Tensor dimage, Tensor dpixels)
{
    size_t mark = r->temp->used;
    if (!fit(r, dpixels, dimage)) return;
    Affine3 f = coefficients(p);
    Cover c = cover_of(dpixels.s, dimage.s);
    Tensor dcover = c.resized ? temp(r, SHAPE(dimage.s.d[0], 3, c.h, c.w)) : dimage;
    if (run_ok(r)) crop_planes_back(r, dcover, dpixels, c.top, c.left, f.a);
    if (c.resized && run_ok(r)) resize_back(r, dimage, dcover, (Resize){ .kernel = p->kernel, .antialias = p->antialias });
    arena_release(r->temp, mark);
}

void preprocess_normalise(Run *r, const Preprocess *p, Tensor pixels, Tensor image)
{
    Affine3 f = coefficients(p);
    if (fit(r, pixels, image) && shape_same(pixels.s, image.s)) crop_planes(r, pixels, image, 0, 0, f.a, f.b);
    else run_fail(r, E_SHAPE, "preprocess_normalise: pictures and pixels of different sizes");
}

void preprocess_normalise_back(Run *r, const Preprocess *p, Tensor dimage, Tensor dpixels)
{
    Affine3 f = coefficients(p);
    if (fit(r, dpixels, dimage) && shape_same(dpixels.s, dimage.s)) crop_planes_back(r, dimage, dpixels, 0, 0, f.a);
    else run_fail(r, E_SHAPE, "preprocess_normalise_back: pictures and pixels of different sizes");
}

static bool three(const Json *j, const char *key, double low, double to[3], const char *file, Status *s)
{
    const Json *list = json_get(j, key);
    if (!list || list->kind == JSON_NULL) return true;
    bool good = list->kind == JSON_ARRAY && list->count == 3;
    for (int i = 0; i < 3 && good; i++) good = json_number(json_at(list, i), &to[i]) && to[i] >= low && to[i] <= 1e3;
    if (!good) status_fail(s, E_FORMAT, "%s: %s: expected three numbers%s", file, key, low > 0 ? " above 0" : "");
    return good;
}

bool preprocess_read(Preprocess *p, const char *folder, Arena *scratch, Status *s)
{
    char file[520];
    size_t mark = scratch->used;
    snprintf(file, sizeof file, "%.480s/preprocessor_config.json", folder);
    if (!file_exists(file)) return true;
    const Json *j = json_load(scratch, file, s);
    bool good = j && three(j, "image_mean", -1e3, p->mean, file, s) && three(j, "image_std", 1e-6, p->std, file, s);
    arena_release(scratch, mark);
    return good;
}
