#include "nn/unet.h"
#include "tensor/shape.h"

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
    int C = c->channels[0], half = C / 2;
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

static void time_forward(Run *r, const Unet *u, UnetPass *p, int N, const double *t)
{
    int C = u->config.channels[0];
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
    tap_forward(r, SITE_TIME, "time_embedding", p->temb);
    act(r, POINT_SILU, p->silu_temb, p->temb);
}

static bool fits(Run *r, const Unet *u, Tensor eps, Tensor z, Tensor context)
{
    const UnetConfig *c = &u->config;
    Shape want = {{ z.s.d[0], c->out_channels, z.s.d[2], z.s.d[3] }};
    if (!z.x || shape_rank(z.s) != 4 || z.s.d[1] != c->in_channels)
        run_fail(r, E_SHAPE, "unet: the latent has %d channels, conv_in wants %d", z.s.d[1], c->in_channels);
    else if (eps.x && !shape_same(eps.s, want))
        run_fail(r, E_SHAPE, "unet: room for [%d,%d,%d,%d], the output is [%d,%d,%d,%d]", eps.s.d[0], eps.s.d[1], eps.s.d[2], eps.s.d[3],
                 want.d[0], want.d[1], want.d[2], want.d[3]);
    else if (u->context && (!context.x || shape_rank(context.s) != 3 || context.s.d[2] != u->context))
        run_fail(r, E_SHAPE, "unet: the text has width %d, cross-attention wants %d", context.s.d[2], u->context);
    else if (u->context && context.s.d[0] != z.s.d[0])
        run_fail(r, E_SHAPE, "unet: %d texts for %d latents", context.s.d[0], z.s.d[0]);
    return run_ok(r);
}

void unet_forward(Run *r, const Unet *u, Tensor eps, UnetPass *p, Tensor z, const double *t, Tensor context, bool recompute)
{
    size_t mark = r->temp->used;
    *p = (UnetPass){ .z = z.s, .context = context };
    if (!run_ok(r) || !fits(r, u, eps, z, context)) return;
    time_forward(r, u, p, z.s.d[0], t);
    Tensor x = keep(r, SHAPE(z.s.d[0], z.s.d[2], z.s.d[3], z.s.d[1]));
    nchw_to_nhwc(r, x, z);
    if (u->config.center_input) scale(r, x, 2, x, -1);
    int last = eps.x ? u->steps.n : steps_last_tapped(r, &u->steps, false);
    Tensor y = steps_forward(r, &u->steps, &p->steps, x, p->silu_temb, context, 0, last, recompute);
    if (eps.x && y.x) nhwc_to_nchw(r, eps, y);
    arena_release(r->temp, mark);
}

static bool time_trains(const Run *r, const Unet *u)
{
    if (linear_trains(&u->time1) || linear_trains(&u->time2)) return true;
    for (int i = 0; i < r->taps; i++)
        if (r->tap[i].kind == SITE_TIME && r->tap[i].backward) return true;
    return false;
}

static void time_backward(Run *r, Unet *u, Tensor dsilu_temb, const UnetPass *p)
{
    Tensor dtemb = temp(r, p->temb.s), da1 = temp(r, p->a1.s);
    act_back(r, POINT_SILU, dtemb, dsilu_temb, p->temb);
    tap_backward(r, SITE_TIME, "time_embedding", dtemb);
    linear_backward(r, &u->time2, da1, dtemb, &(LinearCache){ p->a1 });
    act_back(r, POINT_SILU, da1, da1, p->h1);
    linear_backward(r, &u->time1, none, da1, &(LinearCache){ p->waves });
}

void unet_backward(Run *r, Unet *u, Tensor dz, Tensor dcontext, Tensor deps, UnetPass *p)
{
    size_t mark = r->temp->used;
    Shape z = p->z;
    Tensor dx = none, dy = none, dsilu_temb = none;
    if (!run_ok(r)) return;
    if (deps.x && p->steps.last != u->steps.n) run_fail(r, E_OPTION, "unet: a gradient for an output that was not computed");
    if (deps.x) {
        dy = temp(r, SHAPE(deps.s.d[0], deps.s.d[2], deps.s.d[3], deps.s.d[1]));
        nchw_to_nhwc(r, dy, deps);
    }
    if (dz.x) dx = temp(r, SHAPE(z.d[0], z.d[2], z.d[3], z.d[1]));
    if (time_trains(r, u)) {
        dsilu_temb = temp(r, p->silu_temb.s);
        tensor_zero(dsilu_temb);
    }
    tensor_zero(dcontext);
    steps_backward(r, &u->steps, &p->steps, dx, dsilu_temb, dcontext, dy);
    if (dsilu_temb.x) time_backward(r, u, dsilu_temb, p);
    if (dz.x && u->config.center_input) scale(r, dx, 2, dx, 0);
    if (dz.x) nhwc_to_nchw(r, dz, dx);
    arena_release(r->temp, mark);
}
