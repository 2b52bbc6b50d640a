/* nets_io.h -- tiny networks, what goes into them and what comes out, for laws of networks. */
#ifndef TESTS_NETS_IO_H
#define TESTS_NETS_IO_H
#include "tests/tiny_nets.h"

static Arena weights, data, steer_arena;
static Run run;
static Arena kept, scratch;
static const Kernels *table;
static Unet unet;
static Vae vae;

typedef struct { Tensor out, dz, dcontext, z, deps, context; double t[2]; } Io;

static inline Tensor fresh(Shape s)
{
    Tensor t = tensor_in(&run, &data, s);
    for (size_t i = 0, n = tensor_count(t); i < n; i++) t.x[i] = (real)check_uniform();
    return t;
}

static inline Tensor room(Shape s) { return tensor_in(&run, &data, s); }

/* Wide enough for Winograd convolutions at 16x16. */
static const char *const UNET_WIDE =
    "{\"block_out_channels\":[32,64],\"down_block_types\":[\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"layers_per_block\":1,"
    "\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\"],\"attention_head_dim\":4,\"cross_attention_dim\":6,"
    "\"norm_num_groups\":8,\"out_channels\":3}";

static inline Run quiet(void)
{
    return (Run){ .keep = &kept, .temp = &scratch, .k = table, .threads = 1, .blas = true };
}

static inline void start(const char *config)
{
    run = quiet();
    arena_release(&weights, 0);
    arena_release(&data, 0);
    arena_release(&steer_arena, 0);
    if (config == VAE_TINY) tiny_vae(&vae, config, &weights, &run.status);
    else planned_unet(&unet, config, config == UNET_WIDE ? 16 : 0, &weights, &run.status);
    check_true(run_ok(&run) ? "a tiny network is built" : run.status.text, run_ok(&run));
}

static inline Io io(int N, int H, int W)
{
    const UnetConfig *c = &unet.config;
    Io a = { .z = fresh(SHAPE(N, c->in_channels, H, W)), .deps = fresh(SHAPE(N, c->out_channels, H, W)), .t = { 981, 20.5 } };
    if (unet.context) a.context = fresh(SHAPE(N, 3, unet.context));
    a.out = room(a.deps.s);
    a.dz = room(a.z.s);
    if (a.context.x) a.dcontext = room(a.context.s);
    return a;
}

static inline Io again(const Io *a)
{
    Io b = *a;
    b.out = room(a->out.s);
    b.dz = room(a->dz.s);
    if (a->dcontext.x) b.dcontext = room(a->dcontext.s);
    return b;
}

static inline void forward_backward(Run *r, Io *a, bool recompute)
{
    size_t keeps = r->keep->used, temps = r->temp->used;
    UnetPass p;
    unet_forward(r, &unet, a->out, &p, a->z, a->t, a->context, recompute);
    size_t held = r->keep->used;
    unet_backward(r, &unet, a->dz, a->dcontext, a->deps, &p);
    if (run_ok(r)) check_true("backward leaves the arenas as it found them", r->keep->used == held && r->temp->used == temps);
    arena_release(r->keep, keeps);
}
#endif
