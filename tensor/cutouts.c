#include "tensor/cutouts.h"

Cut cut_whole(int H, int W) { return (Cut){ 0, 0, 0, H, W, false }; }

Cut cut_centre(int H, int W)
{
    int S = H < W ? H : W;
    return (Cut){ 0, (H - S) / 2, (W - S) / 2, S, S, false };
}

static double uniform(Random *g, double low, double high)
{
    float u;
    random_uniform(g, 1, &u);
    return low + (high - low) * (double)u;
}

static const double ANGLE = 10, AREA = 0.8, RATIO_LOW = 0.9, RATIO_HIGH = 1.1;

static Cut middle(int H, int W)
{
    double ratio = (double)W / H;
    int w = ratio > RATIO_HIGH ? (int)rint(H * RATIO_HIGH) : W, h = ratio < RATIO_LOW ? (int)rint(W / RATIO_LOW) : H;
    return (Cut){ 0, (H - h) / 2, (W - w) / 2, h, w, false };
}

Cut cut_draw(Random *g, int H, int W)
{
    double angle = uniform(g, -ANGLE, ANGLE);
    Cut c = {0};
    for (int k = 0; k < 10 && !c.width; k++) {
        double area = (double)H * W * uniform(g, AREA, 1), ratio = exp(uniform(g, log(RATIO_LOW), log(RATIO_HIGH)));
        int w = (int)rint(sqrt(area * ratio)), h = (int)rint(sqrt(area / ratio));
        if (w > 0 && w <= W && h > 0 && h <= H) c = (Cut){ .height = h, .width = w };
    }
    bool found = c.width > 0;
    if (!found) c = middle(H, W);
    c.angle = angle;
    if (found) {
        c.left = (int)uniform(g, 0, W - c.width + 1);
        c.top = (int)uniform(g, 0, H - c.height + 1);
    }
    c.flip = uniform(g, 0, 1) < 0.5;
    return c;
}

/* ---- where an output pixel reads ---- */

typedef struct { int at[2]; double w[2]; } Pair;          /* two neighbours along one side, and their weights */

static Pair pair_of(int i, int n, int m)                  /* output place i of n, from m */
{
    double at = fmax((i + 0.5) * ((double)m / n) - 0.5, 0);
    int low = (int)at < m - 1 ? (int)at : m - 1;
    double far = low < m - 1 ? at - low : 0;
    return (Pair){ { low, low + (low < m - 1) }, { 1 - far, far } };
}

typedef struct { double sine, cosine; int H, W; } Turn;

static ptrdiff_t source_of(const Turn *t, int i, int j)   /* place in the plane; -1: outside */
{
    double X = j - (t->W - 1) / 2.0, Y = i - (t->H - 1) / 2.0;
    double row = rint(t->sine * X + t->cosine * Y + (t->H - 1) / 2.0), column = rint(t->cosine * X - t->sine * Y + (t->W - 1) / 2.0);
    return row >= 0 && row < t->H && column >= 0 && column < t->W ? (ptrdiff_t)row * t->W + (ptrdiff_t)column : -1;
}

static Turn turn_of(const Cut *c, int H, int W)
{
    double a = c->angle * 3.14159265358979323846 / 180;
    return (Turn){ sin(a), cos(a), H, W };
}

typedef struct { ptrdiff_t from[4]; double w[4]; } Reading;

static Reading reading_of(const Turn *t, const Cut *c, Pair y, Pair x)
{
    Reading g;
    for (int k = 0; k < 4; k++) {
        g.from[k] = source_of(t, c->top + y.at[k / 2], c->left + x.at[k % 2]);
        g.w[k] = y.w[k / 2] * x.w[k % 2];
    }
    return g;
}

static bool cuts_fit(Run *r, Tensor y, Tensor x, const Cut *cut)
{
    bool good = run_ok(r) && y.x && x.x && shape_rank(y.s) == 4 && shape_rank(x.s) == 3 && y.s.d[1] == x.s.d[0];
    for (int k = 0; good && k < y.s.d[0]; k++)
        good = cut[k].height > 0 && cut[k].width > 0 && cut[k].top >= 0 && cut[k].left >= 0 &&
               cut[k].height <= x.s.d[1] - cut[k].top && cut[k].width <= x.s.d[2] - cut[k].left;
    if (!good) run_fail(r, E_SHAPE, "cutouts: cuts [n,C,h,w] inside a picture [C,H,W] are wanted");
    return good;
}

static void cut_row(Tensor y, Tensor x, const Cut *c, int n, int i)
{
    int C = x.s.d[0], h = y.s.d[2], w = y.s.d[3];
    size_t plane = (size_t)x.s.d[1] * (size_t)x.s.d[2];
    Turn turn = turn_of(c, x.s.d[1], x.s.d[2]);
    Pair row = pair_of(i, h, c->height);
    for (int j = 0; j < w; j++) {
        Reading g = reading_of(&turn, c, row, pair_of(c->flip ? w - 1 - j : j, w, c->width));
        for (int k = 0; k < C; k++) {
            const real *from = x.x + (size_t)k * plane;
            acc sum = 0;
            for (int q = 0; q < 4; q++)
                if (g.from[q] >= 0) sum += g.w[q] * (acc)from[g.from[q]];
            y.x[(((size_t)n * C + k) * h + i) * (size_t)w + j] = (real)sum;
        }
    }
}

void cutouts(Run *r, Tensor y, Tensor x, const Cut *cut)
{
    if (!cuts_fit(r, y, x, cut)) return;
    int n = y.s.d[0], h = y.s.d[2];
    #pragma omp parallel for num_threads(r->threads)
    for (int t = 0; t < n * h; t++) cut_row(y, x, &cut[t / h], t / h, t % h);
}

static void cut_plane_back(Tensor dx, Tensor dy, const Cut *cut, int k)
{
    int C = dx.s.d[0], h = dy.s.d[2], w = dy.s.d[3];
    real *to = dx.x + (size_t)k * (size_t)dx.s.d[1] * (size_t)dx.s.d[2];
    for (int n = 0; n < dy.s.d[0]; n++) {
        const Cut *c = &cut[n];
        Turn turn = turn_of(c, dx.s.d[1], dx.s.d[2]);
        for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
                Reading g = reading_of(&turn, c, pair_of(i, h, c->height), pair_of(c->flip ? w - 1 - j : j, w, c->width));
                acc d = (acc)dy.x[(((size_t)n * C + k) * h + i) * (size_t)w + j];
                for (int q = 0; q < 4; q++)
                    if (g.from[q] >= 0) to[g.from[q]] += (real)(g.w[q] * d);
            }
    }
}

void cutouts_back(Run *r, Tensor dx, Tensor dy, const Cut *cut)
{
    if (!cuts_fit(r, dy, dx, cut)) return;
    tensor_zero(dx);
    #pragma omp parallel for num_threads(r->threads)
    for (int k = 0; k < dx.s.d[0]; k++) cut_plane_back(dx, dy, cut, k);
}
