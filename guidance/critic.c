#include "guidance/critic.h"
#include "tensor/point.h"

/* ---- the decoder ---- */

void critic_decode(Run *r, const Vae *v, VaePass *p, Tensor picture, Tensor z, bool recompute)
{
    Tensor own = keep(r, z.s);
    if (!run_ok(r)) return;
    scale(r, own, (real)(1 / v->config.scaling_factor), z, (real)v->config.shift_factor);
    vae_decode(r, v, picture, p, own, recompute);
}

void critic_decode_pull(Run *r, Vae *v, Tensor dz, Tensor dpicture, VaePass *p)
{
    if (!run_ok(r)) return;
    vae_decode_backward(r, v, dz, dpicture, p);
    if (run_ok(r)) scale(r, dz, (real)(1 / v->config.scaling_factor), dz, 0);
}

/* ---- DINO ---- */

static Preprocess dino_eyes(const Dino *m)
{
    Preprocess p = m->preprocess;
    p.kernel = RESIZE_BILINEAR;
    p.antialias = false;
    p.signed_range = true;
    return p;
}

int critic_dino_tokens(const Dino *m, int size) { return dino_tokens(m, size, size); }

void critic_dino(Run *r, const Dino *m, CriticDino *c, Tensor cls, Tensor keys, Tensor picture, int size)
{
    int T = critic_dino_tokens(m, size), D = m->config.width;
    Preprocess eyes = dino_eyes(m);
    Tensor pixels = keep(r, SHAPE(1, 3, size, size));
    c->last = keep(r, SHAPE(1, T, D));
    preprocess_forward(r, &eyes, pixels, picture);
    dino_forward(r, m, (Tensor){0}, c->last, keys.x ? tensor_as(keys, c->last.s) : keys, &c->pass, pixels);
    if (cls.x && run_ok(r)) tensor_copy(r, cls, tensor_row(tensor_row(c->last, 0), 0));
}

void critic_dino_pull(Run *r, Dino *m, Tensor dpicture, Tensor dcls, Tensor dkeys, const CriticDino *c, int size)
{
    size_t mark = r->temp->used;
    Preprocess eyes = dino_eyes(m);
    Tensor dpixels = temp(r, SHAPE(1, 3, size, size)), d = temp(r, dpicture.s), dlast = dcls.x ? temp(r, c->last.s) : (Tensor){0};
    if (dcls.x && run_ok(r)) {
        tensor_zero(dlast);
        tensor_copy(r, tensor_row(tensor_row(dlast, 0), 0), dcls);
    }
    if (run_ok(r)) dino_backward(r, m, dpixels, (Tensor){0}, dlast, dkeys.x ? tensor_as(dkeys, c->last.s) : dkeys, &c->pass);
    if (run_ok(r)) preprocess_backward(r, &eyes, d, dpixels);
    if (run_ok(r)) add(r, dpicture, d);
    arena_release(r->temp, mark);
}

/* ---- CLIP ---- */

static Preprocess clip_eyes(const ClipTower *t, bool whole)
{
    Preprocess p = t->preprocess;
    p.kernel = RESIZE_BILINEAR;
    p.antialias = false;
    p.signed_range = whole;
    return p;
}

/* [1,3,H,W] -> [3,H,W], one size less */
static Tensor planes(Tensor picture) { return tensor_row(picture, 0); }

void critic_clip(Run *r, const ClipTower *t, CriticClip *c, Tensor embeds, Tensor picture, const Cut *cut, int n)
{
    size_t mark = r->temp->used;
    Preprocess eyes = clip_eyes(t, !cut);
    *c = (CriticClip){ .cut = cut, .n = cut ? n : 1 };
    Tensor pixels = keep(r, SHAPE(c->n, 3, t->size, t->size));
    if (!cut) preprocess_forward(r, &eyes, pixels, picture);
    else {
        Tensor half = temp(r, picture.s);
        if (run_ok(r)) scale(r, half, (real)0.5, picture, (real)0.5);
        if (run_ok(r)) cutouts(r, pixels, planes(half), cut);
        if (run_ok(r)) preprocess_normalise(r, &eyes, pixels, pixels);
    }
    if (run_ok(r)) clip_tower_forward(r, t, embeds, &c->pass, pixels);
    arena_release(r->temp, mark);
}

void critic_clip_pull(Run *r, ClipTower *t, Tensor dpicture, Tensor dembeds, const CriticClip *c)
{
    size_t mark = r->temp->used;
    Preprocess eyes = clip_eyes(t, !c->cut);
    Tensor dpixels = temp(r, SHAPE(c->n, 3, t->size, t->size)), dcuts = c->cut ? temp(r, dpixels.s) : (Tensor){0}, d = temp(r, dpicture.s);
    if (run_ok(r)) clip_tower_backward(r, t, dpixels, dembeds, &c->pass);
    if (!c->cut && run_ok(r)) preprocess_backward(r, &eyes, d, dpixels);
    if (c->cut && run_ok(r)) {
        preprocess_normalise_back(r, &eyes, dcuts, dpixels);
        cutouts_back(r, planes(d), dcuts, c->cut);
    }
    if (run_ok(r)) axpy(r, dpicture, c->cut ? (real)0.5 : 1, d);
    arena_release(r->temp, mark);
}
