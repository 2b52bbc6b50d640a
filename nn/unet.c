#include "nn/unet.h"
#include "tensor/shape.h"
#include "tensor/tokens.h"

static const Tensor none = {0};

/* waves[n] = [cos(t f), sin(t f)] or [sin, cos];  f_i = exp(-ln(10000) i / (half - freq_shift)),  half = C0/2.  In double:
 * t reaches 999, where a float product costs three digits.  The reference library does pay them; float_waves does the same.
 * An odd C0 ends with a zero. */
static void wave(double *cosine, double *sine, double t, int i, double span, bool in_float)
{
    if (in_float) {
        float f = exp((float)-log(10000.0) * (float)i / (float)span), a = (float)t * f;
        *cosine = (double)cos(a);
        *sine = (double)sin(a);
    } else {
        double a = t * exp(-log(10000.0) * i / span);
        *cosine = cos(a);
        *sine = sin(a);
    }
}

static void waves_of(Tensor waves, const Unet *u, const double *t)
{
    const UnetConfig *c = &u->config;
    int C = u->wave, half = C / 2;
    for (int n = 0; n < waves.s.d[0]; n++) {
        real *row = waves.x + (size_t)n * (size_t)C;
        real *cosines = c->flip_sin_to_cos ? row : row + half, *sines = c->flip_sin_to_cos ? row + half : row;
        for (int i = 0; i < half; i++) {
            double cosine, sine;
            wave(&cosine, &sine, t[n], i, half - c->freq_shift, u->float_waves);
            cosines[i] = (real)cosine;
            sines[i] = (real)sine;
        }
        if (C % 2) row[C - 1] = 0;
    }
}

/* temb[n] += label_emb[y[n]]; `context` holds the classes as numbers */
static void label_forward(Run *r, const Unet *u, UnetPass *p, int N)
{
    p->label = arena_take(r->keep, (size_t)N * sizeof *p->label);
    if (!p->label) run_fail(r, E_MEMORY, "out of memory");
    for (int n = 0; n < N && run_ok(r); n++) {
        double y = (double)p->context.x[n];
        p->label[n] = y >= 0 && y < u->classes ? (int)y : -1;
        if (p->label[n] != y) run_fail(r, E_OPTION, "unet: class %g of picture %d: the model's classes are 0 to %d", y, n, u->classes - 1);
    }
    if (!run_ok(r)) return;
    Tensor rows = temp(r, SHAPE(N, 1, 4 * u->wave));
    embed(r, rows, u->labels.v, p->label);
    add(r, p->temb, tensor_as(rows, p->temb.s));
}

static void time_forward(Run *r, const Unet *u, UnetPass *p, int N, const double *t)
{
    int C = u->wave;
    LinearCache unused;
    p->waves = keep(r, SHAPE(N, C));
    p->h1 = keep(r, SHAPE(N, 4 * C));
    p->a1 = keep(r, p->h1.s);
    p->temb = keep(r, p->h1.s);
    p->silu_temb = keep(r, p->h1.s);
    if (!run_ok(r)) return;
    waves_of(p->waves, u, t);
    linear_forward(r, &u->time1, p->h1, &unused, p->waves);
    act(r, POINT_SILU, p->a1, p->h1);
    linear_forward(r, &u->time2, p->temb, &unused, p->a1);
    if (u->classes) label_forward(r, u, p, N);
    tap_forward(r, SITE_TIME, u->time_names[0], p->temb);
    act(r, POINT_SILU, p->silu_temb, p->temb);
}

static bool context_fits(Run *r, const Unet *u, Tensor z, Tensor context)
{
    if (u->classes) {
        if (tensor_count(context) != (size_t)z.s.d[0])
            run_fail(r, E_SHAPE, "unet: %zu classes for %d pictures", tensor_count(context), z.s.d[0]);
    } else if (u->context && (!context.x || shape_rank(context.s) != 3 || context.s.d[2] != u->context))
        run_fail(r, E_SHAPE, "unet: the text has width %d, cross-attention wants %d", context.s.d[2], u->context);
    else if (u->context && context.s.d[0] != z.s.d[0])
        run_fail(r, E_SHAPE, "unet: %d texts for %d latents", context.s.d[0], z.s.d[0]);
    return run_ok(r);
}

static bool room_fits(Run *r, Tensor out, Shape want)
{
    if (run_ok(r) && out.x && !shape_same(out.s, want))
        run_fail(r, E_SHAPE, "unet: room for [%d,%d,%d,%d], the output is [%d,%d,%d,%d]", out.s.d[0], out.s.d[1], out.s.d[2], out.s.d[3],
                 want.d[0], want.d[1], want.d[2], want.d[3]);
    return run_ok(r);
}

static bool fits(Run *r, const Unet *u, Tensor z, Tensor context)
{
    const UnetConfig *c = &u->config;
    if (!z.x || shape_rank(z.s) != 4 || z.s.d[1] != c->in_channels)
        run_fail(r, E_SHAPE, "unet: the latent has %d channels, conv_in wants %d", z.s.d[1], c->in_channels);
    else if (z.s.d[2] % u->multiple || z.s.d[3] % u->multiple)
        run_fail(r, E_SHAPE, "unet: %d x %d pixels: both sizes must be multiples of %d", z.s.d[3], z.s.d[2], u->multiple);
    return run_ok(r) && context_fits(r, u, z, context);
}

static Shape eps_shape(const Unet *u, Shape z) { return SHAPE(z.d[0], u->config.out_channels, z.d[2], z.d[3]); }

/* Steps 0 .. last-1; the value after them. */
static Tensor run_down(Run *r, const Unet *u, UnetPass *p, Tensor z, const double *t, int last, bool recompute)
{
    time_forward(r, u, p, z.s.d[0], t);
    Tensor x = keep(r, SHAPE(z.s.d[0], z.s.d[2], z.s.d[3], z.s.d[1]));
    nchw_to_nhwc(r, x, z);
    if (u->config.center_input) scale(r, x, 2, x, -1);
    return steps_forward(r, &u->steps, &p->steps, x, p->silu_temb, p->context, 0, last, recompute);
}

void unet_forward(Run *r, const Unet *u, Tensor eps, UnetPass *p, Tensor z, const double *t, Tensor context, bool recompute)
{
    size_t mark = r->temp->used;
    *p = (UnetPass){ .z = z.s, .context = context };
    if (!run_ok(r) || !fits(r, u, z, context) || !room_fits(r, eps, eps_shape(u, z.s))) return;
    Tensor y = run_down(r, u, p, z, t, eps.x ? u->steps.n : steps_last_tapped(r, &u->steps, false), recompute);
    if (eps.x && y.x) nhwc_to_nchw(r, eps, y);
    arena_release(r->temp, mark);
}

Shape unet_h_shape(const Unet *u, int N, int H, int W)
{
    Shape out[STEPS_MOST], h = {{ 0 }};
    Status impossible = { OK, "" };
    if (H % u->multiple || W % u->multiple || !steps_shapes(&u->steps, SHAPE(N, H, W, u->config.in_channels), 0, out, &impossible)) return h;
    h = out[u->mid_end - 1];
    return SHAPE(h.d[0], h.d[3], h.d[1], h.d[2]);
}

void unet_encode(Run *r, const Unet *u, Tensor h, UnetPass *p, Tensor z, const double *t, Tensor context, bool recompute)
{
    size_t mark = r->temp->used;
    *p = (UnetPass){ .z = z.s, .context = context };
    if (!run_ok(r) || !fits(r, u, z, context) || !room_fits(r, h, unet_h_shape(u, z.s.d[0], z.s.d[2], z.s.d[3]))) return;
    Tensor y = run_down(r, u, p, z, t, u->mid_end, recompute);
    if (h.x && y.x) nhwc_to_nchw(r, h, y);
    if (r->keep != r->temp) arena_release(r->temp, mark);
}

void unet_decode(Run *r, const Unet *u, Tensor eps, UnetPass *p, const UnetPass *encoded, Tensor h, bool recompute)
{
    size_t mark = r->temp->used;
    Shape z = encoded->z;
    *p = *encoded;
    if (!run_ok(r)) return;
    if (encoded->steps.last < u->mid_end) run_fail(r, E_OPTION, "unet: there is no encoded pass to decode");
    else if (!h.x || !shape_same(h.s, unet_h_shape(u, z.d[0], z.d[2], z.d[3])))
        run_fail(r, E_SHAPE, "unet: h is [%d,%d,%d,%d], which is not what these pictures encode to", h.s.d[0], h.s.d[1], h.s.d[2], h.s.d[3]);
    if (!run_ok(r) || !room_fits(r, eps, eps_shape(u, z))) return;
    Tensor x = keep(r, SHAPE(h.s.d[0], h.s.d[2], h.s.d[3], h.s.d[1]));
    nchw_to_nhwc(r, x, h);
    int last = eps.x ? u->steps.n : steps_last_tapped(r, &u->steps, false);
    Tensor y = steps_forward(r, &u->steps, &p->steps, x, p->silu_temb, p->context, u->mid_end, last > u->mid_end ? last : u->mid_end, recompute);
    if (eps.x && y.x) nhwc_to_nchw(r, eps, y);
    arena_release(r->temp, mark);
}

static bool time_trains(const Run *r, const Unet *u)
{
    if (linear_trains(&u->time1) || linear_trains(&u->time2) || u->labels.grad.x) return true;
    for (int i = 0; i < r->taps; i++)
        if (r->tap[i].kind == SITE_TIME && r->tap[i].backward) return true;
    return false;
}

static void time_backward(Run *r, Unet *u, Tensor dsilu_temb, const UnetPass *p)
{
    Tensor dtemb = temp(r, p->temb.s), da1 = temp(r, p->a1.s);
    act_back(r, POINT_SILU, dtemb, dsilu_temb, p->temb);
    tap_backward(r, SITE_TIME, u->time_names[0], dtemb);
    if (u->labels.grad.x) embed_back(r, u->labels.grad, tensor_as(dtemb, SHAPE(dtemb.s.d[0], 1, dtemb.s.d[1])), p->label);
    linear_backward(r, &u->time2, da1, dtemb, &(LinearCache){ p->a1 });
    act_back(r, POINT_SILU, da1, da1, p->h1);
    linear_backward(r, &u->time1, none, da1, &(LinearCache){ p->waves });
}

static Shape channels_last(Shape s) { return SHAPE(s.d[0], s.d[2], s.d[3], s.d[1]); }

/* din of what went in (NCHW), from dout of what came out after step end - 1. */
static void run_up(Run *r, Unet *u, Tensor din, Tensor dcontext, Tensor dout, UnetPass *p, int end)
{
    size_t mark = r->temp->used;
    Tensor dx = none, dy = none, dsilu_temb = none;
    if (!run_ok(r)) return;
    if (dout.x && p->steps.last != end) run_fail(r, E_OPTION, "unet: a gradient for an output that was not computed");
    if (dout.x) {
        dy = temp(r, channels_last(dout.s));
        nchw_to_nhwc(r, dy, dout);
    }
    if (din.x) dx = temp(r, channels_last(din.s));
    if (time_trains(r, u)) {
        dsilu_temb = temp(r, p->silu_temb.s);
        tensor_zero(dsilu_temb);
    }
    tensor_zero(dcontext);
    steps_backward(r, &u->steps, &p->steps, dx, dsilu_temb, dcontext, dy);
    if (dsilu_temb.x) time_backward(r, u, dsilu_temb, p);
    if (din.x && p->steps.first == 0 && u->config.center_input) scale(r, dx, 2, dx, 0);
    if (din.x) nhwc_to_nchw(r, din, dx);
    arena_release(r->temp, mark);
}

void unet_backward(Run *r, Unet *u, Tensor dz, Tensor dcontext, Tensor deps, UnetPass *p)
{
    run_up(r, u, dz, dcontext, deps, p, u->steps.n);
}

void unet_encode_backward(Run *r, Unet *u, Tensor dz, Tensor dcontext, Tensor dh, UnetPass *p)
{
    run_up(r, u, dz, dcontext, dh, p, u->mid_end);
}

void unet_decode_backward(Run *r, Unet *u, Tensor dh, Tensor deps, UnetPass *p)
{
    run_up(r, u, dh, none, deps, p, u->steps.n);
}
