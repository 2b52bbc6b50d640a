/* What must hold for the pixel-space networks whatever the numbers are, in both builds: two halves are the whole; an encoded
 * pass may be decoded many times, with and without memory of it; remembering or recomputing, one thread or four, one picture
 * or two, looked at or not, all give the same bits; every shortage of memory is reported. */
#include "nn/pixel.h"
#include "tests/pixel_nets.h"

static Arena weights, data, kept, scratch, steer_arena;
static Run run;
static Unet unet;
static AdmClassifier classifier;
static const Tensor none = {0};
static const double t[2] = { 981, 20.5 };

/* Wide enough for Winograd convolutions at 16x16. */
static const char *const ADM_WIDE =
    "{\"image_size\":16,\"num_channels\":32,\"num_res_blocks\":1,\"channel_mult\":[1,2],\"attention_resolutions\":[8],"
    "\"num_head_channels\":16,\"resblock_updown\":true,\"num_classes\":4,\"learn_sigma\":true,\"norm_groups\":8}";

typedef struct { Tensor x, label, h, y, dx, dh, deps; } Io;

static Tensor fresh(Shape s)
{
    Tensor a = tensor_in(&run, &data, s);
    for (size_t i = 0, n = tensor_count(a); i < n; i++) a.x[i] = (real)check_uniform();
    return a;
}

static Tensor room(Shape s) { return tensor_in(&run, &data, s); }

static Run quiet(void)
{
    return (Run){ .keep = &kept, .temp = &scratch, .k = kernels_pick(NULL), .threads = 1, .blas = true };
}

static void start(const char *config)
{
    run = quiet();
    arena_release(&weights, 0);
    arena_release(&data, 0);
    arena_release(&steer_arena, 0);
    pixel_unet(&unet, config, &weights, &run.status);
    check_true(run_ok(&run) ? "a tiny network is built" : run.status.text, run_ok(&run));
}

static Io io(int N, int side)
{
    Io a = { .x = fresh(SHAPE(N, 3, side, side)), .deps = fresh(SHAPE(N, unet.config.out_channels, side, side)) };
    if (unet.classes) {
        a.label = fresh(SHAPE(N, 1));
        for (int n = 0; n < N; n++) a.label.x[n] = (real)(2 - n);
    }
    a.h = room(unet_h_shape(&unet, N, side, side));
    a.dh = room(a.h.s);
    a.y = room(a.deps.s);
    a.dx = room(a.x.s);
    return a;
}

static Io again(const Io *a)
{
    Io b = *a;
    b.h = room(a->h.s), b.dh = room(a->dh.s), b.y = room(a->y.s), b.dx = room(a->dx.s);
    return b;
}

static void whole(Run *r, Io *a, bool recompute)
{
    size_t keeps = r->keep->used, temps = r->temp->used;
    UnetPass p;
    unet_forward(r, &unet, a->y, &p, a->x, t, a->label, recompute);
    unet_backward(r, &unet, a->dx, none, a->deps, &p);
    if (run_ok(r)) check_true("backward leaves temp as it found it", r->temp->used == temps);
    arena_release(r->keep, keeps);
}

/* ---- halves ---- */

static void halves(const char *config, int side)
{
    start(config);
    Io a = io(2, side), b = again(&a), c = again(&a), d = again(&a);
    UnetPass enc, dec;
    whole(&run, &a, false);
    for (int recompute = 0; recompute < 2; recompute++) {
        size_t keeps = kept.used, temps = scratch.used;
        unet_encode(&run, &unet, b.h, &enc, b.x, t, b.label, recompute);
        unet_decode(&run, &unet, b.y, &dec, &enc, b.h, recompute);
        check_true("decoding what was encoded is the whole network, bit for bit", run_ok(&run) && same(a.y, b.y) && moves(b.y));
        unet_decode_backward(&run, &unet, recompute ? d.dh : b.dh, b.deps, &dec);
        check_true("the halves give their scratch back", scratch.used == temps);
        unet_decode(&run, &unet, c.y, &dec, &enc, b.h, recompute);
        check_true("an encoded pass decodes again to the same", same(c.y, b.y));
        for (size_t i = 0; i < tensor_count(c.h); i++) c.h.x[i] = b.h.x[i] + 1;
        unet_decode(&run, &unet, c.y, &dec, &enc, c.h, recompute);
        check_true("another h is another picture", run_ok(&run) && !same(c.y, b.y));
        arena_release(&kept, keeps);
    }
    check_true("recomputing gives the same gradient of h", same(b.dh, d.dh) && moves(b.dh));

    run.keep = &scratch;                                  /* no memory of the pass: what the halves share stays in temp */
    size_t mark = scratch.used;
    unet_encode(&run, &unet, c.h, &enc, c.x, t, c.label, false);
    unet_decode(&run, &unet, c.y, &dec, &enc, c.h, false);
    unet_decode(&run, &unet, d.y, &dec, &enc, c.h, false);
    check_true("without memory of the passes the halves are the same", run_ok(&run) && same(c.h, b.h) && same(c.y, a.y) && same(d.y, a.y));
    unet_decode_backward(&run, &unet, c.dh, c.deps, &dec);
    check_true("... and cannot be run backward", run.status.code == E_OPTION);
    arena_release(&scratch, mark);
}

/* Through both halves: the gradient of x by h alone, and what the skips carry, make the whole. */
static void chained(void)
{
    start(ADM_UPDOWN);
    Io a = io(1, 8), b = again(&a);
    UnetPass enc, dec, all;
    Steer s = {0};
    Tap tap = steer_tap(&s, SITE_FEATURE, "middle_block", &steer_arena);
    unet_encode(&run, &unet, a.h, &enc, a.x, t, none, false);
    unet_decode(&run, &unet, a.y, &dec, &enc, a.h, false);
    unet_decode_backward(&run, &unet, a.dh, a.deps, &dec);
    run.tap = &tap;
    run.taps = 1;
    s.gain = 1;
    unet_forward(&run, &unet, none, &all, b.x, t, none, false);      /* ends at the tap: sees h, and adds its leaf to it */
    check_true("a tap at the middle block sees the encoder's h", run_ok(&run) && s.seen.x && s.seen.s.d[3] == a.h.s.d[1]);
    bool equal_h = run_ok(&run);
    for (int c = 0; c < a.h.s.d[1] && equal_h; c++)
        for (int i = 0; i < a.h.s.d[2] * a.h.s.d[3]; i++) equal_h = equal_h && s.seen.x[i * a.h.s.d[1] + c] == a.h.x[c * a.h.s.d[2] * a.h.s.d[3] + i];
    check_true("... bit for bit", equal_h);
    run.taps = 0;
}

/* ---- the same bits ---- */

static void same_bits(const char *config, int side)
{
    start(config);
    Io a = io(2, side), b = again(&a), c = again(&a), one = io(1, side);
    whole(&run, &a, false);
    whole(&run, &b, true);
    check_true("recomputing gives the same output and gradient", same(a.y, b.y) && same(a.dx, b.dx) && moves(a.dx));
    run.threads = 4;
    whole(&run, &c, false);
    check_true("so do four threads", same(a.y, c.y) && same(a.dx, c.dx));
    run.threads = 1;
    tensor_copy(&run, one.x, tensor_rows(a.x, 0, 1));
    tensor_copy(&run, one.deps, tensor_rows(a.deps, 0, 1));
    if (one.label.x) tensor_copy(&run, one.label, tensor_rows(a.label, 0, 1));
    whole(&run, &one, false);
    check_true("so does a picture on its own", same(one.y, tensor_rows(a.y, 0, 1)) && same(one.dx, tensor_rows(a.dx, 0, 1)));
    check_true(run_ok(&run) ? "no error" : run.status.text, run_ok(&run));
}

static void planned(void)
{
    start(ADM_WIDE);
    Io a = io(2, 16), b = again(&a);
    whole(&run, &a, false);
    int changed = unet_plan(&unet, 16, 16, 0);
    check_true("Winograd is planned in float alone", (changed > 0) == (sizeof(real) == 4));
    arena_release(&weights, 0);
    run = quiet();
    AdmConfig c;
    adm_config(&c, tiny_json(&weights, ADM_WIDE, &run.status), "config.json", &run.status);
    adm_build(&unet, &c, &weights, &run.status);
    unet_plan(&unet, 16, 16, 0);
    params_randomise(unet_walk, &unet, &weights, 1, &run.status);
    whole(&run, &b, true);
    check_true(run_ok(&run) ? "a planned network runs" : run.status.text, run_ok(&run));
    check_below("planned kernels give the same output", error(b.y, a.y), sizeof(real) == 4 ? 2e-5 : 1e-30);        /* 2e-6 measured */
    check_below("... and gradient", error(b.dx, a.dx), sizeof(real) == 4 ? 2e-5 : 1e-30);
}

/* Every limit of memory up to what is needed: an error, and no crash. */
static void shortages(const char *config)
{
    start(config);
    Io a = io(1, 8);
    size_t need = 0;
    int refused = 0, steps = 0;
    for (size_t limit = 4096; !need && limit < (size_t)1 << 26; limit += limit / 6, steps++) {
        Arena k = { .limit = limit }, s = { .limit = limit };
        Run r = quiet();
        UnetPass enc, dec;
        r.keep = &k, r.temp = &s;
        unet_encode(&r, &unet, a.h, &enc, a.x, t, a.label, true);
        unet_decode(&r, &unet, a.y, &dec, &enc, a.h, true);
        unet_decode_backward(&r, &unet, a.dh, a.deps, &dec);
        if (run_ok(&r)) need = limit;
        else refused += r.status.code == E_MEMORY;
        arena_free(&k);
        arena_free(&s);
    }
    check_true("too little memory is an error each time, and enough is enough", need && refused == steps - 1 && refused > 5);
}

/* ---- the classifier ---- */

static void classifiers(void)
{
    run = quiet();
    arena_release(&weights, 0);
    arena_release(&data, 0);
    pixel_classifier(&classifier, CLASSIFIER_TINY, &weights, &run.status);
    Tensor x = fresh(SHAPE(2, 3, 4, 4)), logits[3], dx[3], logp = room(SHAPE(2)), dlogits = room(SHAPE(2, 5));
    const int y[2] = { 4, 0 };
    for (int i = 0; i < 3; i++) {
        AdmClassifierPass p;
        logits[i] = room(SHAPE(2, 5)), dx[i] = room(x.s);
        run.threads = i == 2 ? 4 : 1;
        size_t keeps = kept.used, temps = scratch.used;
        adm_classifier_forward(&run, &classifier, logits[i], &p, x, t, i == 1);
        adm_classifier_logp(&run, logp, dlogits, logits[i], y);
        adm_classifier_backward(&run, &classifier, dx[i], dlogits, &p);
        check_true("the classifier gives its scratch back", scratch.used == temps || !run_ok(&run));
        arena_release(&kept, keeps);
    }
    check_true(run_ok(&run) ? "classifier" : run.status.text, run_ok(&run) && moves(dx[0]));
    check_true("recomputing and threads change no bit of it", same(logits[0], logits[1]) && same(logits[0], logits[2]) && same(dx[0], dx[1]) && same(dx[0], dx[2]));
    run.threads = 1;
    run.keep = &scratch;
    size_t mark = scratch.used;
    AdmClassifierPass p;
    adm_classifier_forward(&run, &classifier, logits[1], &p, x, t, false);
    check_true("without memory of the pass the logits are the same, and all scratch comes back", same(logits[0], logits[1]) && scratch.used == mark);
    double sum = 0, least = 0;
    for (int k = 0; k < 5; k++) sum += (double)dlogits.x[k];
    for (int n = 0; n < 2; n++) least = fmin(least, (double)logp.x[n]);
    check_below("gradients of a log-probability sum to zero", fabs(sum), 1e-6);
    check_true("log-probabilities are negative", least < 0 && logp.x[0] < 0 && logp.x[1] < 0);
}

/* ---- refusals ---- */

static void refused(const char *what, Code code, const char *text)
{
    check_line(what, run.status.text, run.status.code == code && strstr(run.status.text, text));
    run.status = (Status){ OK, "" };
}

static void refusals(void)
{
    start(ADM_CONV);
    Io a = io(2, 4);
    UnetPass p, dec;
    a.label.x[1] = 3;
    unet_forward(&run, &unet, a.y, &p, a.x, t, a.label, false);
    refused("a class that is not there", E_OPTION, "class 3 of picture 1: the model's classes are 0 to 2");
    a.label.x[1] = (real)0.5;
    unet_forward(&run, &unet, a.y, &p, a.x, t, a.label, false);
    refused("half a class", E_OPTION, "class 0.5");
    a.label.x[1] = (real)NAN;
    unet_forward(&run, &unet, a.y, &p, a.x, t, a.label, false);
    refused("no class at all", E_OPTION, "classes are 0 to 2");
    unet_forward(&run, &unet, a.y, &p, a.x, t, none, false);
    refused("no classes", E_SHAPE, "0 classes for 2 pictures");
    a.label.x[1] = 1;
    unet_forward(&run, &unet, none, &p, fresh(SHAPE(2, 3, 4, 5)), t, a.label, false);
    refused("a size that cannot be halved", E_SHAPE, "5 x 4 pixels: both sizes must be multiples of 2");
    unet_encode(&run, &unet, fresh(SHAPE(2, 8, 4, 4)), &p, a.x, t, a.label, false);
    refused("room of another shape for h", E_SHAPE, "the output is [2,8,2,2]");
    p = (UnetPass){0};
    unet_decode(&run, &unet, a.y, &dec, &p, a.h, false);
    refused("nothing was encoded", E_OPTION, "no encoded pass");
    unet_encode(&run, &unet, a.h, &p, a.x, t, a.label, false);
    unet_decode(&run, &unet, a.y, &dec, &p, fresh(SHAPE(2, 8, 2, 3)), false);
    refused("an h of another shape", E_SHAPE, "h is [2,8,2,3]");
    unet_encode_backward(&run, &unet, a.dx, none, a.deps, &p);
    check_true("a gradient that is not h's", run.status.code == E_SHAPE);
    run.status = (Status){ OK, "" };
    check_true("h of a size that cannot be", !unet_h_shape(&unet, 1, 4, 7).d[0]);

    pixel_classifier(&classifier, CLASSIFIER_TINY, &weights, &run.status);
    AdmClassifierPass q;
    adm_classifier_forward(&run, &classifier, none, &q, fresh(SHAPE(1, 3, 8, 8)), t, false);
    refused("a classifier at another size", E_SHAPE, "its positions are for [N,3,4,4] alone");
    const int y[1] = { 5 };
    adm_classifier_logp(&run, none, none, fresh(SHAPE(1, 5)), y);
    refused("a class the classifier does not know", E_OPTION, "class 5 of picture 0: its classes are 0 to 4");
}

int main(void)
{
    kept.poison = scratch.poison = true;
    halves(ADM_CONV, 8);
    halves(ADM_UPDOWN, 4);
    halves(DDPM_TINY, 6);
    halves(ADM_WIDE, 16);
    chained();
    same_bits(ADM_CONV, 8);
    same_bits(ADM_UPDOWN, 4);
    same_bits(ADM_MIXED, 8);
    same_bits(DDPM_TINY, 6);
    same_bits(ADM_WIDE, 16);
    planned();
    shortages(ADM_CONV);
    shortages(ADM_UPDOWN);
    shortages(DDPM_TINY);
    classifiers();
    refusals();
    return check_done();
}
