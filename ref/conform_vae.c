/* The autoencoder: moments, sample and picture, and gradients to picture and latent.  Losses are sum(in.w_* * output). */
#include <stdio.h>
#include <string.h>
#include "nn/vae.h"
#include "ref/conform.h"
#include "tensor/point.h"

/* A tap that copies a feature: "enc.down.0" is encoder.down_blocks.0, "dec.mid" is decoder.mid_block. */
typedef struct { Case *c; const char *name; Tensor value; } Look;

static void look(void *self, Run *r, Tensor value)
{
    Look *l = self;
    if (!l->value.x) l->value = case_new(l->c, value.s);
    tensor_copy(r, l->value, value);
}

static const char *site_of(Case *c, const char *name)
{
    const char *side = !strncmp(name, "mid.enc.", 8) ? "encoder" : !strncmp(name, "mid.dec.", 8) ? "decoder" : NULL;
    if (!side) return NULL;
    const char *rest = name + 8;
    if (!strcmp(rest, "mid")) return case_name(c, "%s.mid_block", side);
    if (!strncmp(rest, "down.", 5)) return case_name(c, "%s.down_blocks.%s", side, rest + 5);
    if (!strncmp(rest, "up.", 3)) return case_name(c, "%s.up_blocks.%s", side, rest + 3);
    return NULL;
}

typedef struct { Case *c; Vae vae; Look *look; Tap *tap; int looks; } Coder;

static bool watch(Coder *k)
{
    Case *c = k->c;
    size_t n = (size_t)c->tensors.entries;
    k->look = arena_take(c->run.run, n * sizeof *k->look);
    k->tap = arena_take(c->run.run, n * sizeof *k->tap);
    if (!k->look || !k->tap) run_fail(&c->run, E_MEMORY, "%s: no memory for %zu taps", c->file, n);
    for (size_t i = 0; i < n && run_ok(&c->run); i++) {
        const char *name = c->tensors.entry[i].name, *site = site_of(c, name);
        if (!site) continue;
        k->look[k->looks] = (Look){ c, name, {0} };
        k->tap[k->looks] = (Tap){ SITE_FEATURE, site, &k->look[k->looks], look, NULL, false };
        k->looks++;
    }
    c->run.tap = k->tap;
    c->run.taps = k->looks;
    return run_ok(&c->run);
}

static void judge_looks(Coder *k)
{
    k->c->run.tap = NULL;
    k->c->run.taps = 0;
    for (int i = 0; i < k->looks; i++) judge_nhwc(k->c, k->look[i].name, k->look[i].value);
}

static void encode(Coder *k)
{
    Case *c = k->c;
    Run *r = &c->run;
    VaePass p = {0};
    Tensor image = case_in(c, "in.image"), noise = case_in(c, "in.noise");
    Tensor dmoments = case_in(c, "in.w_moments"), dsample = case_in(c, "in.w_sample");
    if (!run_ok(r)) return;
    Tensor moments = case_new(c, dmoments.s), through = case_new(c, dmoments.s), dimage = case_new(c, image.s);
    Tensor mean = case_new(c, noise.s), logvar = case_new(c, noise.s), sample = case_new(c, noise.s);
    vae_encode(r, &k->vae, moments, &p, image, false);
    vae_posterior(r, sample, mean, logvar, moments, noise);
    judge(c, "out.moments", moments);
    judge(c, "out.mean", mean);
    judge(c, "out.logvar", logvar);
    judge(c, "out.sample", sample);
    vae_encode_backward(r, &k->vae, dimage, dmoments, &p);
    judge(c, "grad.image_from_moments", dimage);

    case_pass(c);
    p = (VaePass){0};
    vae_encode(r, &k->vae, moments, &p, image, false);
    vae_posterior_back(r, through, dsample, moments, noise);
    vae_encode_backward(r, &k->vae, dimage, through, &p);
    judge(c, "grad.image_from_sample", dimage);
}

static void decode(Coder *k)
{
    Case *c = k->c;
    Run *r = &c->run;
    VaePass p = {0};
    case_pass(c);
    Tensor z = case_in(c, "in.latent"), dimage = case_in(c, "in.w_image");
    if (!run_ok(r)) return;
    Tensor image = case_new(c, dimage.s), dz = case_new(c, z.s);
    vae_decode(r, &k->vae, image, &p, z, false);
    judge(c, "out.decoded", image);
    vae_decode_backward(r, &k->vae, dz, dimage, &p);
    judge(c, "grad.latent", dz);
}

void conform_vae(Case *c)
{
    Coder k = { .c = c };
    if (!case_vae(c, &k.vae) || !watch(&k)) return;
    encode(&k);
    decode(&k);
    judge_looks(&k);
}
