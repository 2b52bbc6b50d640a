/* What must hold for the networks whatever the numbers are, in both builds: remembering or recomputing, one thread or four,
 * one image or two, looked at or not, all give the same bits; memory comes back; what is not wanted is not computed, and costs no
 * bit of what is. */
#include "tests/nets_io.h"

/* ---- gradients of all parameters, as one heap of numbers ---- */

static void add_bits(Walk *w, Param *p, const char *name)
{
    (void)name;
    uint64_t *h = w->self;
    const unsigned char *b = (const unsigned char *)p->grad.x;
    for (size_t i = 0, n = tensor_count(p->grad) * sizeof(real); i < n; i++) *h = (*h ^ b[i]) * 1099511628211u;
    tensor_zero(p->grad);
}

static uint64_t gradient_bits(void)                       /* and back to zero */
{
    uint64_t h = 14695981039346656037u;
    Walk w = { .visit = add_bits, .self = &h };
    unet_walk(&unet, &w);
    return h;
}

static void recompute(const char *config, int H, int W, const Tap *tap, int taps)
{
    start(config);
    params_want_gradients(unet_walk, &unet, &weights, &run.status);
    Io a = io(2, H, W), b = again(&a);
    run.tap = tap;
    run.taps = taps;
    forward_backward(&run, &a, false);
    uint64_t bits = gradient_bits();
    forward_backward(&run, &b, true);
    check_true("recomputing gives the same output, bit for bit", same(a.out, b.out));
    check_true("... and gradients of the inputs", same(a.dz, b.dz) && moves(a.dz) && (!a.context.x || same(a.dcontext, b.dcontext)));
    check_true("... and of the parameters", bits == gradient_bits());
    check_true(run_ok(&run) ? "no error" : run.status.text, run_ok(&run));
}

static void recompute_with_taps(void)
{
    static Steer steer[5];
    const Tap taps[] = {
        steer_tap(&steer[0], SITE_PROBS, "down_blocks.0.attentions.0.transformer_blocks.1.attn1", &steer_arena),
        steer_tap(&steer[1], SITE_QUERY, "mid_block.attentions.0.transformer_blocks.0.attn2", &steer_arena),
        steer_tap(&steer[2], SITE_FEATURE, "up_blocks.1.resnets.0.conv2", &steer_arena),
        steer_tap(&steer[3], SITE_FEATURE, "conv_norm_out", &steer_arena),
        steer_tap(&steer[4], SITE_FEATURE, "down_blocks.0", &steer_arena),
    };
    recompute(UNET_PLAIN, 5, 6, taps, 5);
    check_true("a tap inside a block is told that it is a replay", steer[0].replays == 1 && steer[0].calls == 3);
    check_true("a tap on an output is called once a pass", steer[4].replays == 0 && steer[4].calls == 2);
}

static void threads(const char *config, int H, int W)
{
    start(config);
    params_want_gradients(unet_walk, &unet, &weights, &run.status);
    Io a = io(1, H, W);
    forward_backward(&run, &a, false);
    uint64_t bits = gradient_bits();
    for (int n = 1; n <= 4; n++) {
        Io b = again(&a);
        run.threads = n;
        forward_backward(&run, &b, n % 2);
        check_true("the same bits for any number of threads",
                   same(a.out, b.out) && same(a.dz, b.dz) && same(a.dcontext, b.dcontext) && bits == gradient_bits());
    }
}

static Tensor half(Tensor t, int i) { return t.x ? tensor_rows(t, i, 1) : t; }

static void batch(const char *config, int H, int W)
{
    start(config);
    Io a = io(2, H, W);
    forward_backward(&run, &a, false);
    for (int i = 0; i < 2; i++) {
        Io b = { half(again(&a).out, 0), half(again(&a).dz, 0), half(again(&a).dcontext, 0),
                 half(a.z, i), half(a.deps, i), half(a.context, i), { a.t[i] } };
        forward_backward(&run, &b, false);
        check_true("an image in a batch has the bits it has alone", same(half(a.out, i), b.out) && same(half(a.dz, i), b.dz));
        check_true("... and its text's gradient", !a.context.x || same(half(a.dcontext, i), b.dcontext));
    }
}

/* ---- sites ---- */

enum { MOST_SITES = 200 };
typedef struct { SiteKind kind; const char *path; Shape shape; int seen, order; } Site;
static Site site[MOST_SITES];
static Tap site_tap[MOST_SITES];
static int sites, order;

static void look(void *self, Run *r, Tensor v)
{
    Site *s = self;
    (void)r;
    v.s.d[0] = 1;
    s->seen += shape_same(v.s, s->shape);
    s->order = order++;
}

static void list_site(void *self, SiteKind kind, const char *path, Shape shape)
{
    (void)self;
    if (sites == MOST_SITES) exit(2);
    site[sites] = (Site){ .kind = kind, .path = path, .shape = shape };
    site_tap[sites] = (Tap){ kind, path, &site[sites], look, NULL, false };
    sites++;
}

static void every_site_seen(const char *what)
{
    int good = 0, in_order = 0;
    for (int i = 0; i < sites; i++) {
        good += site[i].seen == 1;
        in_order += i == 0 || site[i].order > site[i - 1].order;
    }
    check_true(what, sites > 20 && good == sites);
    check_true("... in the order of the list", in_order == sites);
}

static void reading(const char *config, int H, int W)
{
    start(config);
    Io a = io(2, H, W), b = again(&a);
    forward_backward(&run, &a, false);
    sites = order = 0;
    unet_sites(&unet, H, W, 3, list_site, NULL);
    run.tap = site_tap;
    run.taps = sites;
    forward_backward(&run, &b, false);
    check_true("looking at every site changes no bit of the output", same(a.out, b.out));
    check_true("... nor of the gradients", same(a.dz, b.dz) && (!a.context.x || same(a.dcontext, b.dcontext)));
    every_site_seen("every listed site exists, once, in its shape");
    for (int i = 0; i < sites; i++) site[i].seen = 0;
    run.keep = &scratch;                                  /* without gradients */
    UnetPass p;
    unet_forward(&run, &unet, b.out, &p, a.z, a.t, a.context, false);
    check_true("without gradients: the same bits", same(a.out, b.out) && scratch.used == 0);
    every_site_seen("... and the same sites");
}

/* ---- the VAE ---- */

static void vae_pass(Run *r, Tensor moments, Tensor dimage, Tensor image, Tensor dmoments, bool again_)
{
    size_t keeps = r->keep->used;
    VaePass p;
    vae_encode(r, &vae, moments, &p, image, again_);
    vae_encode_backward(r, &vae, dimage, dmoments, &p);
    arena_release(r->keep, keeps);
}

static void vae_laws(void)
{
    start(VAE_TINY);
    Tensor image = fresh(SHAPE(2, 3, 9, 8)), dm = fresh(SHAPE(2, 4, 4, 4)), z = fresh(SHAPE(2, 2, 4, 5)), dy = fresh(SHAPE(2, 3, 8, 10));
    Tensor m[3], di[3], y[3], dz[3];
    for (int i = 0; i < 3; i++) {
        m[i] = room(dm.s), di[i] = room(image.s), y[i] = room(dy.s), dz[i] = room(z.s);
        sites = order = 0;
        vae_sites(&vae, 9, 8, list_site, NULL);
        run.tap = site_tap;
        run.taps = i == 2 ? sites : 0;
        vae_pass(&run, m[i], di[i], image, dm, i == 1);
        VaePass p;
        if (i == 2) {                                     /* the decoder's sites are listed for the latent of a 9x8 picture: 4x4 */
            Tensor small = fresh(SHAPE(1, 2, 4, 4));
            vae_decode(&run, &vae, room(SHAPE(1, 3, 8, 8)), &p, small, false);
            every_site_seen("vae: every listed site exists, once, in its shape");
        }
        vae_decode(&run, &vae, y[i], &p, z, i == 1);
        vae_decode_backward(&run, &vae, dz[i], dy, &p);
        arena_release(&kept, 0);
    }
    check_true("vae: recomputing gives the same bits", same(m[0], m[1]) && same(di[0], di[1]) && same(y[0], y[1]) && same(dz[0], dz[1]) && moves(dz[0]));
    check_true("vae: so does looking", same(m[0], m[2]) && same(di[0], di[2]) && same(y[0], y[2]) && same(dz[0], dz[2]) && moves(di[0]));
    run.taps = 0;
    for (int i = 0; i < 2; i++) {
        Tensor one = room(SHAPE(1, 4, 4, 4)), done = room(SHAPE(1, 3, 9, 8));
        vae_pass(&run, one, done, half(image, i), half(dm, i), false);
        check_true("vae: a picture in a batch has the bits it has alone", same(half(m[0], i), one) && same(half(di[0], i), done));
    }
    check_true(run_ok(&run) ? "no error" : run.status.text, run_ok(&run));
}

/* ---- what is not wanted ---- */

static void pull(void *self, Run *r, Tensor grad)
{
    (void)self, (void)r;
    for (size_t i = 0; i < tensor_count(grad); i++) grad.x[i] += (real)(i % 7) / 8 - (real)0.25;
}

static void tally(void *self, Run *r, Tensor grad) { (void)r, (void)grad; ++*(int *)self; }

static void not_wanted(void)
{
    static const char *const site_path = "up_blocks.0";
    int below = 0, above = 0;
    const Tap taps[] = {
        { SITE_FEATURE, site_path, NULL, NULL, pull, true },
        { SITE_FEATURE, "down_blocks.0.resnets.0", &below, NULL, tally, false },
        { SITE_FEATURE, "up_blocks.1.resnets.0", &above, NULL, tally, false },
    };
    start(UNET_PLAIN);
    Io a = io(2, 5, 6), b = again(&a), c = again(&a);
    Tensor none = {0};
    run.tap = taps;
    run.taps = 3;
    tensor_zero(a.deps);
    forward_backward(&run, &a, false);
    check_true("a full backward passes everywhere", below == 1 && above == 1);
    b.out = b.deps = none;
    forward_backward(&run, &b, false);
    check_true("without an output the gradient starts at the last tap that pulls", below == 2 && above == 1);
    check_true("... and is the same", equal(a.dz, b.dz) && equal(a.dcontext, b.dcontext) && moves(b.dz) && moves(b.dcontext));
    run.taps = 1;
    c.dz = none;
    forward_backward(&run, &c, true);
    check_true("the text's gradient alone is the same", equal(a.dcontext, c.dcontext));
    c = again(&a);
    c.dcontext = none;
    forward_backward(&run, &c, false);
    check_true("so is the latent's alone", equal(a.dz, c.dz));
    params_want_gradients(unet_walk, &unet, &weights, &run.status);
    c = again(&a);
    forward_backward(&run, &c, false);
    check_true("and so are both beside gradients of the parameters", equal(a.dz, c.dz) && equal(a.dcontext, c.dcontext));
    check_true(run_ok(&run) ? "no error" : run.status.text, run_ok(&run));
}

static void nothing_pulled(void)
{
    start(UNET_PLAIN);
    Io a = io(1, 4, 4);
    Tensor none = {0};
    a.out = a.deps = none;
    forward_backward(&run, &a, false);
    check_true("no output and no tap: gradients of zero", run_ok(&run) && !moves(a.dz) && !moves(a.dcontext));
    UnetPass p;
    Io b = io(1, 4, 4);
    unet_forward(&run, &unet, none, &p, b.z, b.t, b.context, false);
    unet_backward(&run, &unet, b.dz, none, b.deps, &p);
    check_true("a gradient for an output that was not computed is refused", run.status.code == E_OPTION);
    run = quiet();
    run.keep = &scratch;
    unet_forward(&run, &unet, b.out, &p, b.z, b.t, b.context, false);
    unet_backward(&run, &unet, b.dz, none, b.deps, &p);
    check_true("backward of a pass that remembered nothing is refused", run.status.code == E_OPTION);
}

/* Transformed kernels serve both ways, where they pay.  Limit: five times the 2e-6 measured in float (Winograd
 * rounds as a sequential sum does, some 1e-6 a layer); in double nothing is transformed. */
static void prepared(void)
{
    start(UNET_WIDE);
    bool transforms = sizeof(real) == sizeof(float);
    Io a = io(1, 16, 16), b = again(&a), c = io(1, 6, 6), d = again(&c);
    Param *p = params_find(unet_walk, &unet, "down_blocks.0.resnets.0.conv1.weight"), *bias = params_find(unet_walk, &unet, "conv_in.bias");
    check_true("kernels are held transformed in float, and only where it pays", (p->layout == WINOGRAD) == transforms &&
               params_find(unet_walk, &unet, "conv_in.weight")->layout == CONV && params_find(unet_walk, &unet, "mid_block.resnets.0.conv1.weight")->layout == CONV);
    forward_backward(&run, &c, false);
    check_true("they refuse an image for which they do not pay", transforms ? run.status.code == E_OPTION && strstr(run.status.text, "6 x 6") : run_ok(&run));
    run = quiet();
    arena_release(&kept, 0);
    arena_release(&scratch, 0);

    params_want_gradients(unet_walk, &unet, &weights, &run.status);
    forward_backward(&run, &a, false);
    Param planned = *p, first = *bias;
    check_true("their gradient has the order of plain ones", shape_same(p->grad.s, SHAPE(32, 3, 3, 32)));
    int lost = unet_plan(&unet, 6, 6, 0);
    check_true("another plan forgets what was held otherwise", (lost > 0) == transforms && (p->v.x == NULL) == transforms && bias->v.x);
    check_true("    and planning it again loses nothing", unet_plan(&unet, 6, 6, 0) == 0 && unet_plan(&unet, 16, 16, 257) == 0);
    params_randomise(unet_walk, &unet, &weights, 1, &run.status);
    params_want_gradients(unet_walk, &unet, &weights, &run.status);
    forward_backward(&run, &b, false);
    check_below("Winograd kernels: the output", error(a.out, b.out), 1e-5);
    check_below("Winograd kernels: the gradient", error(a.dz, b.dz), 1e-5);
    check_below("    of a kernel held transformed", error(planned.grad, p->grad), 1e-5);
    check_below("    of a bias at the other end", error(first.grad, bias->grad), 1e-5);
    check_true("they serve", same(a.out, b.out) != transforms);
    forward_backward(&run, &d, false);
    check_true("plain kernels serve any image", run_ok(&run) && moves(d.dz));
}

/* What the kernels may have a say in. */
static void numbers(void)
{
    recompute(UNET_PLAIN, 5, 6, NULL, 0);
    recompute_with_taps();
    threads(UNET_WIDE, 16, 16);
    batch(UNET_PLAIN, 5, 6);
    batch(UNET_WIDE, 16, 16);
    prepared();
    reading(UNET_PLAIN, 5, 6);
    reading(UNET_WIDE, 16, 16);
    vae_laws();
}

static void structure(void)
{
    recompute(UNET_VARIED, 4, 6, NULL, 0);
    recompute(UNET_BARE, 3, 4, NULL, 0);
    batch(UNET_VARIED, 4, 6);
    reading(UNET_VARIED, 4, 6);
    not_wanted();
    nothing_pulled();
}

int main(void)
{
    kept.poison = scratch.poison = true;
    table = &kernels_plain;
    numbers();
    structure();
    table = kernels_pick(NULL);
    if (table != &kernels_plain) numbers();
    return check_done();
}
