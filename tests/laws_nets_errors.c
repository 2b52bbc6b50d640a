/* When a network cannot go on, in both builds: it stops where it is asked to, refuses what does not fit and says so, and every
 * shortage of memory is reported; how much it needs. */
#include "tests/nets_io.h"

static bool stop_at(void *user) { return --*(int *)user < 0; }

static void stopping(void)
{
    start(UNET_PLAIN);
    Io a = io(1, 4, 4);
    int stopped = 0, asked = 0;
    for (int n = 0; n < 200 && stopped == n; n++) {
        int left = n;
        run = quiet();
        run.stop = stop_at;
        run.user = &left;
        forward_backward(&run, &a, n % 2);
        stopped += run.status.code == E_STOP;
        asked = n;
    }
    check_true("asked to stop between steps, forward and backward", stopped > 40 && asked == stopped && run_ok(&run));
    arena_release(&kept, 0);
    arena_release(&scratch, 0);
}

static void refusal(const char *what, Shape z, Shape context, Code code, const char *says)
{
    UnetPass p;
    double t[2] = { 1, 1 };
    run = quiet();
    Tensor x = fresh(z), c = fresh(context), out = room(SHAPE(z.d[0], 3, z.d[2], z.d[3]));
    unet_forward(&run, &unet, out, &p, x, t, c, false);
    check_true(what, run.status.code == code && strstr(run.status.text, says));
    if (!strstr(run.status.text, says)) puts(run.status.text);
}

static void refusals(void)
{
    start(UNET_PLAIN);
    refusal("a latent of the wrong width", SHAPE(1, 5, 4, 4), SHAPE(1, 3, 6), E_SHAPE, "conv_in wants 4");
    refusal("a text of the wrong width", SHAPE(1, 4, 4, 4), SHAPE(1, 3, 7), E_SHAPE, "cross-attention wants 6");
    refusal("too few texts", SHAPE(2, 4, 4, 4), SHAPE(1, 3, 6), E_SHAPE, "1 texts for 2 latents");
    start(UNET_VARIED);
    UnetPass p;
    double t = 1;
    Tensor x = fresh(SHAPE(1, 4, 5, 4)), c = fresh(SHAPE(1, 3, 6));
    unet_forward(&run, &unet, room(x.s), &p, x, &t, c, false);
    check_true("an odd map where the reference's other downsampler rounds down",
               run.status.code == E_SHAPE && strstr(run.status.text, "up_blocks.0.upsamplers.0"));
    start(UNET_PLAIN);
    Io a = io(1, 4, 4);
    Tensor v = params_find(unet_walk, &unet, "mid_block.resnets.0.conv1.weight")->v;
    params_find(unet_walk, &unet, "mid_block.resnets.0.conv1.weight")->v = (Tensor){0};
    unet_forward(&run, &unet, a.out, &p, a.z, a.t, a.context, false);
    check_true("an operation's error names the module", run.status.code == E_SHAPE && !strncmp(run.status.text, "mid_block.resnets.0: ", 21));
    params_find(unet_walk, &unet, "mid_block.resnets.0.conv1.weight")->v = v;
}

static void look_on(void *self, Run *r, Tensor v) { (void)self, (void)r, (void)v; }

/* Every shortage of memory, forward or backward, is an error and never a crash, and gives temporaries back; with enough the
 * bits are the old ones. */
static void poverty(bool remember, bool recompute_)
{
    start(UNET_PLAIN);
    Io a = io(1, 4, 4), b = again(&a);
    forward_backward(&run, &a, false);
    static Arena k, s;
    const Tap eye = { SITE_FEATURE, "mid_block.resnets.0.conv2", NULL, look_on, NULL, false };
    size_t enough = 0, refused = 0, held = 0;
    for (size_t limit = 512; !enough && limit < 64u << 20; limit += limit / 24 / 64 * 64 + 64) {
        k = s = (Arena){ .poison = true };
        k.limit = s.limit = limit;
        Run poor = quiet();
        poor.temp = &s;
        poor.keep = remember ? &k : &s;
        poor.tap = &eye;
        poor.taps = 1;
        UnetPass p;
        unet_forward(&poor, &unet, b.out, &p, b.z, b.t, b.context, recompute_);
        if (remember) unet_backward(&poor, &unet, b.dz, b.dcontext, b.deps, &p);
        if (run_ok(&poor)) enough = limit;
        else if (poor.status.code == E_MEMORY) refused++;
        else break;
        held += s.used > 0;
        arena_free(&k);
        arena_free(&s);
    }
    check_true("every shortage of memory is reported", enough > 0 && refused > 30);
    check_true("and temporaries are given back", !held);
    check_true("and enough of it gives the same bits", same(a.out, b.out) && (!remember || same(a.dz, b.dz)));
    arena_free(&k);
    arena_free(&s);
}

/* Peak memory of a pass: recomputing must hold less than remembering, and no gradients less again. */
static void frugality(void)
{
    start(UNET_PLAIN);
    Io a = io(1, 24, 24);
    size_t peak[3];
    for (int i = 0; i < 3; i++) {
        Arena k = {0}, s = {0};
        Run r = quiet();
        r.keep = i == 2 ? &s : &k;
        r.temp = &s;
        UnetPass p;
        unet_forward(&r, &unet, a.out, &p, a.z, a.t, a.context, i == 1);
        if (i < 2) unet_backward(&r, &unet, a.dz, a.dcontext, a.deps, &p);
        peak[i] = k.peak + s.peak;
        arena_free(&k);
        arena_free(&s);
    }
    check_true("recomputing holds less than remembering, no gradients less again", peak[2] < peak[1] && peak[1] < peak[0]);
}

int main(void)
{
    kept.poison = scratch.poison = true;
    table = &kernels_plain;
    stopping();
    refusals();
    poverty(true, false);
    poverty(true, true);
    poverty(false, false);
    frugality();
    return check_done();
}
