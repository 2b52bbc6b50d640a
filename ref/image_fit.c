#include <stdio.h>
#include <string.h>
#include "ref/image.h"
#include "tensor/resample.h"

static uint8_t *pixels_in(Run *r, Arena *a, int H, int W)
{
    size_t bytes = 3 * (size_t)H * (size_t)W;
    uint8_t *p = run_ok(r) ? arena_take(a, bytes) : NULL;
    if (!p) run_fail(r, E_MEMORY, "out of memory: %zu bytes for a picture", bytes);
    return p;
}

/* to[y0 + y, x0 + x] = from[y1 + y, x1 + x] for H x W pixels */
static void paste(Image *to, int y0, int x0, const Image *from, int y1, int x1, int H, int W)
{
    for (int y = 0; y < H; y++)
        memcpy(to->rgb + 3 * ((size_t)(y0 + y) * (size_t)to->W + (size_t)x0),
               from->rgb + 3 * ((size_t)(y1 + y) * (size_t)from->W + (size_t)x1), 3 * (size_t)W);
}

static Image resized(Run *r, Arena *a, const Image *from, int H, int W)
{
    Image to = { pixels_in(r, a, H, W), H, W, from->rotated };
    if (to.rgb && H == from->H && W == from->W) memcpy(to.rgb, from->rgb, 3 * (size_t)H * (size_t)W);
    else if (to.rgb) resample_bicubic_8bit(r, to.rgb, H, W, from->rgb, from->H, from->W);
    return to;
}

static int rounded_ratio(int a, int b, int c)             /* a b / c, at least 1 */
{
    int64_t v = ((int64_t)a * b + c / 2) / c;
    return v < 1 ? 1 : (int)v;
}

bool image_fit(Run *r, Image *to, Arena *a, const Image *from, int H, int W, Fit fit, char *said, size_t room)
{
    bool wide = (int64_t)from->W * H > (int64_t)W * from->H;      /* wider than wanted */
    said[0] = 0;
    if (from->H == H && from->W == W) {
        *to = *from;
    } else if (fit == FIT_STRETCH) {
        *to = resized(r, a, from, H, W);
        snprintf(said, room, "stretched from %d x %d to %d x %d", from->W, from->H, W, H);
    } else if (fit == FIT_CROP) {
        int h = wide ? from->H : rounded_ratio(from->W, H, W), w = wide ? rounded_ratio(from->H, W, H) : from->W;
        if (h > from->H) h = from->H;
        if (w > from->W) w = from->W;
        Image part = { pixels_in(r, a, h, w), h, w, from->rotated };
        if (part.rgb) paste(&part, 0, 0, from, (from->H - h) / 2, (from->W - w) / 2, h, w);
        *to = part.rgb ? resized(r, a, &part, H, W) : part;
        snprintf(said, room, "the middle %d x %d of %d x %d, resized to %d x %d", w, h, from->W, from->H, W, H);
    } else {
        int h = wide ? rounded_ratio(from->H, W, from->W) : H, w = wide ? W : rounded_ratio(from->W, H, from->H);
        if (h > H) h = H;
        if (w > W) w = W;
        Image part = resized(r, a, from, h, w);
        *to = (Image){ pixels_in(r, a, H, W), H, W, from->rotated };
        if (to->rgb) {
            memset(to->rgb, 0, 3 * (size_t)H * (size_t)W);
            paste(to, (H - h) / 2, (W - w) / 2, &part, 0, 0, h, w);
        }
        snprintf(said, room, "resized from %d x %d to %d x %d, black borders to %d x %d", from->W, from->H, w, h, W, H);
    }
    return run_ok(r);
}

void image_to_network(Tensor x, const Image *m)
{
    size_t plane = (size_t)m->H * (size_t)m->W;
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++) x.x[c * plane + i] = (real)m->rgb[3 * i + c] / (real)127.5 - 1;
}

bool image_from_network(Image *m, Arena *a, Tensor x, Status *s)
{
    int H = x.s.d[1], W = x.s.d[2];
    size_t plane = (size_t)H * (size_t)W;
    if (!x.x || x.s.d[0] != 3 || x.s.d[3]) {
        status_fail(s, E_SHAPE, "a picture of 3 channels is wanted, found [%d,%d,%d]", x.s.d[0], H, W);
        return false;
    }
    *m = (Image){ arena_take(a, 3 * plane), H, W, false };
    if (!m->rgb) {
        status_fail(s, E_MEMORY, "out of memory: %zu bytes for a picture", 3 * plane);
        return false;
    }
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++) {
            real v = x.x[c * plane + i] / 2 + (real)0.5;
            if (v != v) status_fail(s, E_NUMBER, "the picture has NaN at row %zu, column %zu", i / (size_t)W, i % (size_t)W);
            m->rgb[3 * i + c] = (uint8_t)rint(255 * (v > 0 ? v < 1 ? v : 1 : 0));
        }
    return s->code == OK;
}
