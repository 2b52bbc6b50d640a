#include <string.h>
#include "ref/maps_picture.h"

enum { JOIN_GAP = 4 };

static Image picture_in(Arena *a, int H, int W, Status *s)
{
    Image m = { arena_take(a, 3 * (size_t)H * (size_t)W), H, W, false };
    if (!m.rgb) status_fail(s, E_MEMORY, "out of memory: a picture of %d x %d", W, H);
    else memset(m.rgb, 255, 3 * (size_t)H * (size_t)W);
    return m;
}

static void heat(double v, double rgb[3])
{
    static const double stop[5][3] = { { 13, 8, 135 }, { 126, 3, 168 }, { 204, 71, 120 }, { 248, 149, 64 }, { 240, 249, 33 } };
    int k = v >= 1 ? 3 : (int)(4 * v);
    double a = 4 * v - k;
    for (int c = 0; c < 3; c++) rgb[c] = stop[k][c] * (1 - a) + stop[k + 1][c] * a;
}

/* Bilinear, pixel centres at (i + 1/2)/n. */
static double map_at(Tensor map, double y, double x)
{
    int h = map.s.d[0], w = map.s.d[1];
    double v = y * h - 0.5, u = x * w - 0.5;
    v = v < 0 ? 0 : v > h - 1 ? h - 1 : v;
    u = u < 0 ? 0 : u > w - 1 ? w - 1 : u;
    int y0 = (int)v, x0 = (int)u, y1 = y0 + (y0 < h - 1), x1 = x0 + (x0 < w - 1);
    double a = v - y0, b = u - x0;
    return (1 - a) * ((1 - b) * (double)map.x[y0 * w + x0] + b * (double)map.x[y0 * w + x1]) +
           a * ((1 - b) * (double)map.x[y1 * w + x0] + b * (double)map.x[y1 * w + x1]);
}

Image map_picture(Arena *a, const Image *over, Tensor map, Status *s)
{
    Image m = picture_in(a, over->H, over->W, s);
    size_t n = tensor_count(map);
    if (!m.rgb || !n) return m;
    double least = (double)map.x[0], most = least;
    for (size_t i = 1; i < n; i++) {
        least = (double)map.x[i] < least ? (double)map.x[i] : least;
        most = (double)map.x[i] > most ? (double)map.x[i] : most;
    }
    for (int y = 0; y < m.H; y++)
        for (int x = 0; x < m.W; x++) {
            const uint8_t *from = over->rgb + 3 * ((size_t)y * (size_t)m.W + (size_t)x);
            uint8_t *to = m.rgb + 3 * ((size_t)y * (size_t)m.W + (size_t)x);
            double v = most > least ? (map_at(map, (y + 0.5) / m.H, (x + 0.5) / m.W) - least) / (most - least) : 0, color[3];
            double grey = 0.3 * from[0] + 0.59 * from[1] + 0.11 * from[2], share = 0.35 + 0.45 * v;
            heat(v, color);
            for (int c = 0; c < 3; c++) to[c] = (uint8_t)((1 - share) * grey + share * color[c] + 0.5);
        }
    return m;
}

Image pictures_joined(Arena *a, const Image *m, int n, bool down, Status *s)
{
    int W = 0, H = 0, at = 0;
    for (int i = 0; i < n; i++) {
        int along = (down ? m[i].H : m[i].W) + (i ? JOIN_GAP : 0), across = down ? m[i].W : m[i].H;
        if (down) H += along;
        else W += along;
        if (down && across > W) W = across;
        if (!down && across > H) H = across;
    }
    Image to = picture_in(a, H, W, s);
    for (int i = 0; i < n && to.rgb; i++) {
        int y0 = down ? at : (H - m[i].H) / 2, x0 = down ? 0 : at;
        for (int y = 0; y < m[i].H; y++)
            memcpy(to.rgb + 3 * ((size_t)(y0 + y) * (size_t)W + (size_t)x0), m[i].rgb + 3 * (size_t)y * (size_t)m[i].W, 3 * (size_t)m[i].W);
        at += (down ? m[i].H : m[i].W) + JOIN_GAP;
    }
    return to;
}
