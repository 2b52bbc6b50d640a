#include <string.h>
#include "guidance/diffuseit.h"
#include "tensor/point.h"

const char *const diffuseit_term_name[DIT_TERMS] = { "clip", "ssim", "contra", "dir_cls", "trg", "l2_trg", "range" };

DiffuseitOptions diffuseit_options(void)
{
    return (DiffuseitOptions){ .weight = { 2000, 1000, 200, 100, 2000, 3000, 200 }, .skip = 40, .diff_iter = 50, .rounds = 10,
                               .max_restarts = 10, .restart_above = 0.01 };
}

int diffuseit_top(const Diffuseit *d) { return d->process->n - d->o.skip - 1; }

/* ---- what never changes ---- */

static const double FROM = 0.4, PICTURE = 0.2;            /* weights of the source's text and of the source itself */

void diffuseit_text(Run *r, Tensor t, Tensor to, Tensor from, Tensor e)
{
    blend(r, t, 1, to, (real)-FROM, from);
    axpy(r, t, (real)PICTURE, e);
    if (run_ok(r)) scale(r, t, (real)(1 / sqrt(dot(r, t, t))), t, 0);
}

/* The mean of unit embeddings of a whole picture. */
static void embed_whole(Run *r, const ClipTower *t, Tensor e, Tensor picture)
{
    size_t kept = r->keep->used, mark = r->temp->used;
    CriticClip look;
    Tensor raw = temp(r, SHAPE(1, t->width));
    critic_clip(r, t, &look, raw, picture, NULL, 0);
    if (run_ok(r)) diffuseit_units(r, e, raw);
    arena_release(r->temp, mark);
    if (r->keep != r->temp) arena_release(r->keep, kept);
}

static void look_at(Run *r, const Diffuseit *d, Tensor cls, Tensor keys, Tensor picture)
{
    size_t kept = r->keep->used, mark = r->temp->used;
    CriticDino look;
    critic_dino(r, d->dino, &look, cls, keys, picture, d->dino_size);
    arena_release(r->temp, mark);
    if (r->keep != r->temp) arena_release(r->keep, kept);
}

static bool options_fit(Run *r, const Diffuseit *d)
{
    int n = d->process->n, top = diffuseit_top(d);
    if (!run_ok(r)) return false;
    if (top < 0) run_fail(r, E_OPTION, "diffuseit: %d of %d steps are skipped: none is left", d->o.skip, n);
    else if (top == 0 && d->o.rounds > 1 && !d->o.ddim)
        run_fail(r, E_OPTION, "diffuseit: with one step left there are no rounds to repeat it in: skip at most %d of %d steps", n - 2, n);
    if (!d->dino && (d->o.weight[DIT_SSIM] != 0 || d->o.weight[DIT_CONTRA] != 0 || d->o.weight[DIT_DIR_CLS] != 0 || d->o.weight[DIT_TARGET] != 0))
        run_fail(r, E_OPTION, "diffuseit: terms of keys and class tokens need a DINO");
    return run_ok(r);
}

static void open_dino(Run *r, Diffuseit *d)
{
    int T = critic_dino_tokens(d->dino, d->dino_size), D = d->dino->config.width;
    d->keys = tensor_in(r, r->run, SHAPE(T, D));
    d->similarity = tensor_in(r, r->run, SHAPE(T, T));
    d->cls = tensor_in(r, r->run, SHAPE(D));
    if (run_ok(r)) look_at(r, d, d->cls, d->keys, d->source);
    if (run_ok(r)) diffuseit_similarity(r, d->similarity, d->keys);
    d->target_cls = d->target.x ? tensor_in(r, r->run, SHAPE(D)) : (Tensor){0};
    if (d->target.x && run_ok(r)) look_at(r, d, d->target_cls, (Tensor){0}, d->target);
}

static void open_towers(Run *r, Diffuseit *d, const Tensor *to, const Tensor *from)
{
    d->clip_loss = 0;
    for (int k = 0; k < d->towers && run_ok(r); k++) {
        size_t mark = r->temp->used;
        Shape width = SHAPE(d->tower[k]->width);
        d->text[k] = tensor_in(r, r->run, width);
        Tensor e = temp(r, width);
        if (run_ok(r)) embed_whole(r, d->tower[k], e, d->source);
        if (run_ok(r) && (tensor_count(to[k]) != tensor_count(e) || tensor_count(from[k]) != tensor_count(e)))
            run_fail(r, E_SHAPE, "diffuseit: text features of %zu numbers for a tower whose embeddings have %zu", tensor_count(to[k]), tensor_count(e));
        if (run_ok(r)) diffuseit_text(r, d->text[k], to[k], from[k], e);
        if (run_ok(r)) d->clip_loss -= dot(r, e, d->text[k]) / d->towers;
        arena_release(r->temp, mark);
    }
}

bool diffuseit_open(Run *r, Diffuseit *d, Tensor source, Tensor x_source, Tensor target, const Tensor *to, const Tensor *from)
{
    d->source = source;
    d->x_source = d->vae ? x_source : source;
    d->target = target;
    if (run_ok(r) && target.x && !tensor_same(source, target)) run_fail(r, E_SHAPE, "diffuseit: source and target picture differ in size");
    if (run_ok(r) && !d->x_source.x) run_fail(r, E_SHAPE, "diffuseit: the source's latents are missing");
    if (!options_fit(r, d)) return false;
    d->x_in = tensor_in(r, r->run, d->x_source.s);
    d->call = d->restarts = 0;
    if (d->dino) open_dino(r, d);
    open_towers(r, d, to, from);
    return run_ok(r);
}

/* ---- the terms ---- */

/* A few cuts at a time, so that large towers do not hold all of them: as many as 128 x 128 x 8 pixels have room for. */
static int at_once(const ClipTower *t)
{
    int n = 131072 / (t->size * t->size);
    return n < 1 ? 1 : n;
}

static acc tower_term(Run *r, Diffuseit *d, int k, Tensor dpicture, Tensor picture, const Cut *cut, acc weight)
{
    ClipTower *t = d->tower[k];
    int n = cut ? d->cuts : 1, most = at_once(t);
    acc sum = 0;
    for (int first = 0; first < n && run_ok(r); first += most) {
        size_t kept = r->keep->used, mark = r->temp->used;
        int m = n - first < most ? n - first : most;
        CriticClip look;
        Tensor e = temp(r, SHAPE(m, t->width)), de = temp(r, e.s);
        critic_clip(r, t, &look, e, picture, cut ? cut + first : NULL, m);
        if (run_ok(r)) tensor_zero(de);
        sum += diffuseit_toward(r, de, e, d->text[k], weight * m / n);
        if (run_ok(r)) critic_clip_pull(r, t, dpicture, de, &look);
        arena_release(r->temp, mark);
        arena_release(r->keep, kept);
    }
    return sum;
}

static void clip_term(Run *r, Diffuseit *d, DiffuseitReport *report, Tensor dpicture, Tensor picture, const Cut *const *cut)
{
    acc sum = 0;
    for (int k = 0; k < d->towers && run_ok(r); k++)
        sum += tower_term(r, d, k, dpicture, picture, cut ? cut[k] : NULL, d->o.weight[DIT_CLIP] / d->towers);
    report->term[DIT_CLIP] = sum;
}

static bool wanted(const Diffuseit *d, DiffuseitTerm t) { return d->o.weight[t] != 0; }

static void dino_terms(Run *r, Diffuseit *d, DiffuseitReport *report, Tensor dpicture, Tensor own, Tensor picture, int i)
{
    static const double TAU = 0.07;
    size_t kept = r->keep->used, mark = r->temp->used;
    const double *w = d->o.weight;
    CriticDino look;
    Tensor keys = temp(r, d->keys.s), dkeys = temp(r, d->keys.s), cls = temp(r, d->cls.s), dcls = temp(r, d->cls.s);
    critic_dino(r, d->dino, &look, cls, keys, picture, d->dino_size);
    if (run_ok(r)) {
        tensor_zero(dkeys);
        tensor_zero(dcls);
        if (wanted(d, DIT_SSIM)) report->term[DIT_SSIM] = diffuseit_ssim(r, dkeys, keys, d->similarity, w[DIT_SSIM]);
        if (wanted(d, DIT_CONTRA)) report->term[DIT_CONTRA] = diffuseit_contra(r, dkeys, keys, d->keys, TAU, w[DIT_CONTRA] * report->frac);
        if (wanted(d, DIT_DIR_CLS) && i > d->o.diff_iter) report->term[DIT_DIR_CLS] = diffuseit_square(r, dcls, cls, d->cls, -w[DIT_DIR_CLS]);
        if (wanted(d, DIT_TARGET) && d->target.x) report->term[DIT_TARGET] = diffuseit_square(r, dcls, cls, d->target_cls, w[DIT_TARGET]);
        if (own.x) tensor_copy(r, own, cls);
        critic_dino_pull(r, d->dino, dpicture, dcls, dkeys, &look, d->dino_size);
    }
    arena_release(r->temp, mark);
    arena_release(r->keep, kept);
}

/* A latent or a picture: where it is looked at, and the gradient there. */
typedef struct { Tensor picture, d; VaePass pass; } Seen;

static void seen_open(Run *r, const Diffuseit *d, Seen *s, Tensor x)
{
    s->picture = x;
    if (d->vae) s->picture = keep(r, d->source.s);
    s->d = keep(r, d->source.s);
    if (!run_ok(r)) return;
    if (d->vae) critic_decode(r, d->vae, &s->pass, s->picture, x, d->recompute);
    tensor_zero(s->d);
}

static void seen_pull(Run *r, Diffuseit *d, Seen *s, Tensor dx)
{
    if (!run_ok(r)) return;
    if (d->vae) critic_decode_pull(r, d->vae, dx, s->d, &s->pass);
    else tensor_copy(r, dx, s->d);
}

static void picture_terms(Run *r, Diffuseit *d, DiffuseitReport *report, Seen *in, Seen *mix, Tensor cls, int i, const Cut *const *cut)
{
    const double *w = d->o.weight;
    if (d->towers && wanted(d, DIT_CLIP)) clip_term(r, d, report, mix->d, mix->picture, cut);
    if (d->dino && run_ok(r)) dino_terms(r, d, report, in->d, cls, in->picture, i);
    if (d->target.x && wanted(d, DIT_L2)) report->term[DIT_L2] = diffuseit_square(r, in->d, in->picture, d->target, w[DIT_L2]);
    if (d->vae && wanted(d, DIT_RANGE)) report->term[DIT_RANGE] = diffuseit_range(r, in->d, in->picture, w[DIT_RANGE]);
}

acc diffuseit_terms(Run *r, Diffuseit *d, DiffuseitReport *report, Tensor dx0, Tensor dx, Tensor cls, Tensor x_in, Tensor x0, Tensor x, int i, const Cut *const *cut)
{
    size_t kept = r->keep->used, mark = r->temp->used;
    double f = sqrt(1 - d->process->alpha_bar[i]);
    bool aug = d->o.noise_aug_all, apart = !aug && d->towers && wanted(d, DIT_CLIP);
    Tensor mixed = keep(r, x.s), at = temp(r, x.s);
    Seen in, mix;
    acc sum = 0;
    for (int k = 0; k < DIT_TERMS; k++) report->term[k] = (double)NAN;
    if (run_ok(r)) blend(r, mixed, (real)f, x0, (real)(1 - f), x);
    seen_open(r, d, &in, aug ? mixed : x0);
    if (apart) seen_open(r, d, &mix, mixed);
    picture_terms(r, d, report, &in, apart ? &mix : &in, cls, i, cut);
    if (run_ok(r)) {
        if (x_in.x) tensor_copy(r, x_in, aug ? mixed : x0);
        tensor_zero(dx);
        if (apart) {
            seen_pull(r, d, &mix, at);
            scale(r, dx, (real)(1 - f), at, 0);
            scale(r, at, (real)f, at, 0);
        }
        seen_pull(r, d, &in, dx0);
        if (aug) {
            scale(r, dx, (real)(1 - f), dx0, 0);
            scale(r, dx0, (real)f, dx0, 0);
        }
        if (apart) add(r, dx0, at);
        if (!d->vae && wanted(d, DIT_RANGE)) report->term[DIT_RANGE] = diffuseit_range(r, dx0, x0, d->o.weight[DIT_RANGE]);
    }
    for (int k = 0; k < DIT_TERMS; k++) sum += isnan(report->term[k]) ? 0 : report->term[k];
    arena_release(r->temp, mark);
    arena_release(r->keep, kept);
    return sum;
}
