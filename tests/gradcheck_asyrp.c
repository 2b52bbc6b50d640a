/* Gradients of Asyrp: the delta block of both kinds, to its input, its time embedding and every parameter; the directional loss; a
 * whole step of learning in a latent model, through tower, autoencoder and decoder half, under classifier-free guidance.
 * Limits: 1e-8 (measured: at most 2e-10) of the pieces, 1e-7 (measured: at most 3e-8) of the step (asyrp_shift_back and
 * asyrp_eye_backward are in it), whose loss is a number near 1 while gradients of some weights are near 1e-3: rounding of 1e-16 / 1e-5 is 1e-8 of them. */
#include "guidance/asyrp_learn.h"
#include "tests/gradcheck.h"
#include "tests/tiny_nets.h"

static const double LIMIT = 1e-8;
static Run run;
static Arena arena, kept, scratch;
static Status status;
static const Tensor none;

static Tensor fresh(Shape s) { return grad_fresh(&run, &arena, s, 0, 1); }

static void forget(void)
{
    arena_release(&kept, 0);
    arena_release(&scratch, 0);
}

/* ---- the block ---- */

typedef struct { Delta d; Tensor h, e, y, weight; } Block;

static double block_loss(void *self)
{
    Block *b = self;
    DeltaCache c;
    delta_forward(&run, &b->d, b->y, &c, b->h, b->e, 0);
    forget();
    return grad_weighted(b->y, b->weight);
}

typedef struct { Walk w; const char *what; const GradCheck *g; double limit; } Each;

static void visit(Walk *w, Param *p, const char *name)
{
    Each *e = w->self;
    GradPart part = { name, p->v, p->grad };
    gradcheck(e->what, e->g, &part, 1, e->limit);
}

static void block(const char *what, DeltaKind kind, bool timed)
{
    Block b = { .h = fresh(SHAPE(2, 12, 3, 2)), .e = timed ? fresh(SHAPE(2, 7)) : none, .y = fresh(SHAPE(2, 12, 3, 2)), .weight = fresh(SHAPE(2, 12, 3, 2)) };
    DeltaConfig config = { kind, 12, 7, 4 };
    delta_build(&b.d, &config, &status);
    params_randomise(delta_walk, &b.d, &arena, 5, &status);
    params_want_gradients(delta_walk, &b.d, &arena, &status);
    GradCheck g = { block_loss, &b, 1e-5, 500 };
    Tensor dh = fresh(b.h.s), de = timed ? fresh(b.e.s) : none;
    tensor_zero(de);
    DeltaCache c;
    delta_forward(&run, &b.d, b.y, &c, b.h, b.e, 0);
    delta_backward(&run, &b.d, dh, de, b.weight, &c);
    forget();
    GradPart part[] = { { "h", b.h, dh }, { "silu_temb", b.e, de } };
    gradcheck(what, &g, part, 1 + timed, LIMIT);
    Each e = { .what = what, .g = &g, .limit = LIMIT };
    e.w = (Walk){ .visit = visit, .self = &e };
    if (!timed) return;                                   /* the time's layer is not used then: its gradient is zero */
    delta_walk(&b.d, &e.w);
    tensor_zero(dh);
    gradcheck_must_fail("a gradient of zeros is refused", &g, b.h, dh, LIMIT);
}

/* ---- the directional loss ---- */

typedef struct { Tensor e, source, text; } Direction;

static double direction_loss(void *self)
{
    Direction *d = self;
    return asyrp_direction(&run, none, d->e, d->source, d->text);
}

static void direction(void)
{
    Direction d = { fresh(SHAPE(3, 9)), fresh(SHAPE(3, 9)), fresh(SHAPE(9)) };
    Tensor de = fresh(d.e.s), scaled = fresh(d.e.s), doubled = fresh(d.e.s);
    GradCheck g = { direction_loss, &d, 1e-5, 500 };
    double loss = asyrp_direction(&run, de, d.e, d.source, d.text);
    gradcheck("directional loss", &g, &(GradPart){ "e", d.e, de }, 1, LIMIT);
    scale(&run, scaled, 3, d.e, 0);
    check_below("the loss does not see the length of an embedding", fabs(asyrp_direction(&run, doubled, scaled, d.source, d.text) - loss), 1e-14);
    for (int n = 0; n < 3; n++) check_below("the gradient is across the embedding", fabs((double)dot(&run, tensor_row(de, n), tensor_row(d.e, n))), 1e-14);
    tensor_copy(&run, d.e, d.source);
    check_true("an embedding like the source's has loss 1", asyrp_direction(&run, none, d.e, d.source, d.text) == 1);
}

/* ---- a step of learning ---- */

typedef struct { AsyrpLearner a; Unet unet; Vae vae; ClipTower tower; Delta delta; Tensor x, plain, context, source; bool learn; AsyrpLoss loss; } Learning;

static double learning_loss(void *self)
{
    Learning *l = self;
    size_t mark = arena.used;
    Tensor x = tensor_in(&run, &arena, l->x.s), plain = tensor_in(&run, &arena, l->x.s);
    tensor_copy(&run, x, l->x);
    tensor_copy(&run, plain, l->plain);
    l->loss = asyrp_learn(&run, &l->a, x, plain, none, none, 600, l->context, l->source, l->learn);
    arena_release(&arena, mark);
    return l->loss.loss;
}

static void learning(const char *what, DeltaKind kind, Prediction prediction, bool recompute)
{
    static const char *const vae = "{\"_class_name\":\"AutoencoderKL\",\"block_out_channels\":[4,6],\"down_block_types\":[\"DownEncoderBlock2D\",\"DownEncoderBlock2D\"],"
        "\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"],\"layers_per_block\":1,\"latent_channels\":4,\"norm_num_groups\":2,\"scaling_factor\":0.5}";
    ClipImageConfig tower = { .width = 8, .mlp = 12, .heads = 2, .layers = 1, .image = 8, .patch = 4, .channels = 3, .projection = 5, .act = POINT_QUICK_GELU, .eps = 1e-5 };
    ScheduleConfig config = { .train_steps = 1000, .beta_start = 1e-4, .beta_end = 0.02, .prediction = prediction };
    static Learning l;
    memset(&l, 0, sizeof l);
    tiny_unet(&l.unet, UNET_VARIED, &arena, &status);
    tiny_vae(&l.vae, vae, &arena, &status);
    l.tower = (ClipTower){ .size = 8, .width = 5, .preprocess = preprocess_clip };
    clip_image_build(&l.tower.vit, &tower, &arena, &status);
    params_randomise(clip_tower_walk, &l.tower, &arena, 3, &status);
    DeltaConfig delta = { kind, 12, 32, 2 };
    delta_build(&l.delta, &delta, &status);
    delta_start(&l.delta, &arena, 4, &status);
    params_want_gradients(delta_walk, &l.delta, &arena, &status);
    l.x = fresh(SHAPE(2, 4, 6, 6)), l.plain = fresh(l.x.s), l.context = fresh(SHAPE(4, 3, 6)), l.source = fresh(SHAPE(2, 5));
    l.a = (AsyrpLearner){ .unet = &l.unet, .delta = &l.delta, .eye = { &l.tower, &l.vae, recompute }, .text = fresh(SHAPE(5)),
                          .w_clip = 1, .w_l1 = 3, .cosine = 0.9, .scale = 2.5 };
    asyrp_schedule(&l.a.schedule, &config, ALPHAS_FLOAT64, (int[]){ 400, 600 }, 2, &arena, &status);
    l.learn = true;
    learning_loss(&l);
    l.learn = false;
    GradCheck g = { learning_loss, &l, 1e-5, 12 };
    Each e = { .what = what, .g = &g, .limit = 1e-7 };
    e.w = (Walk){ .visit = visit, .self = &e };
    delta_walk(&l.delta, &e.w);
}

int main(void)
{
    run = (Run){ .keep = &kept, .temp = &scratch, .k = kernels_pick(NULL), .threads = 1 };
    kept.poison = scratch.poison = true;
    block("delta, ddpm", DELTA_DDPM, true);
    block("delta, adm", DELTA_ADM, true);
    block("delta, ddpm without time", DELTA_DDPM, false);
    direction();
    learning("learning, ddpm block, eps", DELTA_DDPM, PREDICT_EPS, false);
    learning("learning, adm block, v, recomputed", DELTA_ADM, PREDICT_V, true);
    check_true("no error", run_ok(&run) && status.code == OK);
    return check_done();
}
