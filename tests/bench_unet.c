/* bench_unet.c -- the full-size networks, timed.  Random healthy weights, two threads by default.
 *
 *     bench_unet [unet|vae|NAME] [side] [threads] [batch]
 *
 * NAME is a pixel-space UNet of data/pixel-models (256x256_diffusion_uncond, ffhq ...), whose side is in pixels and by default its own.
 *
 * Reads commands from standard input and answers each with one line of seconds, so that a script can let another
 * program take turns with this one: "forward", "both" (forward and backward to the latent), "recompute" (the same,
 * remembering only each step's input); for the VAE "decode", "encode".  "memory" answers with the peak in MB. */
#include <string.h>
#include "nn/pixel.h"
#include "nn/vae.h"
#include "tensor/file.h"
#include "tests/bench.h"
#include "tests/published_nets.h"

static const char SD15[] =
    "{\"sample_size\":64,\"in_channels\":4,\"out_channels\":4,\"block_out_channels\":[320,640,1280,1280],"
    "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\",\"DownBlock2D\"],"
    "\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\"],"
    "\"layers_per_block\":2,\"attention_head_dim\":8,\"cross_attention_dim\":768,\"norm_num_groups\":32}";
static const char SDVAE[] =
    "{\"block_out_channels\":[128,256,512,512],\"layers_per_block\":2,\"latent_channels\":4,\"norm_num_groups\":32,"
    "\"down_block_types\":[\"DownEncoderBlock2D\",\"DownEncoderBlock2D\",\"DownEncoderBlock2D\",\"DownEncoderBlock2D\"],"
    "\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"]}";

typedef struct {
    Arena weights, kept, scratch, io;
    Run run;
    Unet unet;
    Vae vae;
    Tensor z, context, eps, deps, dz, image;
    double t[8];
} Bench;

static void load_pixel(Bench *b, const Published *net, int side, int batch)
{
    Status *s = &b->run.status;
    if (published_build(net, &b->unet, NULL, &b->weights, s) && !unet_plan(&b->unet, side, side, 0)) params_randomise(unet_walk, &b->unet, &b->weights, 1, s);
    stop_if_failed(s);
    b->z = normal(&b->run, &b->io, SHAPE(batch, 3, side, side), 1);
    b->deps = normal(&b->run, &b->io, SHAPE(batch, b->unet.config.out_channels, side, side), 4);
    b->eps = tensor_in(&b->run, &b->io, b->deps.s);
    b->dz = tensor_in(&b->run, &b->io, b->z.s);
    b->context = tensor_in(&b->run, &b->io, SHAPE(batch, 1));
    tensor_zero(b->context);
    for (int i = 0; i < batch; i++) b->t[i] = 500;
    stop_if_failed(s);
}

static void load(Bench *b, bool vae, int side, int batch)
{
    Status *s = &b->run.status;
    const char *text = vae ? SDVAE : SD15;
    const Json *j = json_parse(&b->io, text, strlen(text), 8, "built-in config", s);
    b->z = normal(&b->run, &b->io, SHAPE(batch, 4, side, side), 1);
    if (vae) {
        VaeConfig c;
        if (vae_config(&c, j, "config", s) && vae_build(&b->vae, &c, &b->weights, s) && !vae_plan(&b->vae, side * 8, side * 8, 0))
            params_randomise(vae_walk, &b->vae, &b->weights, 1, s);
        stop_if_failed(s);
        b->image = normal(&b->run, &b->io, SHAPE(batch, 3, side * 8, side * 8), 2);
        b->deps = tensor_in(&b->run, &b->io, SHAPE(batch, 8, side, side));
    } else {
        UnetConfig c;
        if (unet_config(&c, j, "config", s) && unet_build(&b->unet, &c, &b->weights, s) && !unet_plan(&b->unet, side, side, 0))
            params_randomise(unet_walk, &b->unet, &b->weights, 1, s);
        stop_if_failed(s);
        b->context = normal(&b->run, &b->io, SHAPE(batch, 77, 768), 3);
        b->deps = normal(&b->run, &b->io, b->z.s, 4);
        b->eps = tensor_in(&b->run, &b->io, b->z.s);
        b->dz = tensor_in(&b->run, &b->io, b->z.s);
    }
    for (int i = 0; i < batch && i < 8; i++) b->t[i] = 500;
    stop_if_failed(s);
}

static void pass(Bench *b, const char *command)
{
    Run *r = &b->run;
    bool forward_only = !strcmp(command, "forward") || !strcmp(command, "decode") || !strcmp(command, "encode");
    r->keep = forward_only ? &b->scratch : &b->kept;
    UnetPass p;
    VaePass vp;
    if (!strcmp(command, "decode")) vae_decode(r, &b->vae, b->image, &vp, b->z, false);
    else if (!strcmp(command, "encode")) vae_encode(r, &b->vae, b->deps, &vp, b->image, false);
    else unet_forward(r, &b->unet, b->eps, &p, b->z, b->t, b->context, !strcmp(command, "recompute"));
    if (!forward_only) unet_backward(r, &b->unet, b->dz, (Tensor){0}, b->deps, &p);
    arena_release(&b->kept, 0);
    arena_release(&b->scratch, 0);
    stop_if_failed(&r->status);
}

int main(int argc, char **argv)
{
    bool vae = argc > 1 && !strcmp(argv[1], "vae");
    const Published *net = NULL;
    for (int i = 0; i < PUBLISHED && argc > 1; i++)
        if (!strcmp(argv[1], published[i].name) && published[i].kind != PIXEL_ADM_CLASSIFIER) net = &published[i];
    int side = argc > 2 ? atoi(argv[2]) : net ? net->side : 64, threads = argc > 3 ? atoi(argv[3]) : 2, batch = argc > 4 ? atoi(argv[4]) : 1;
    Bench *b = calloc(1, sizeof *b);
    if (!b || side < 8 || batch < 1 || batch > 8) return 2;
    b->run = (Run){ .keep = &b->scratch, .temp = &b->scratch, .k = kernels_pick(NULL), .threads = threads, .blas = true };
    if (net) load_pixel(b, net, side, batch);
    else     load(b, vae, side, batch);
    char command[64];
    while (fgets(command, sizeof command, stdin)) {
        command[strcspn(command, "\n")] = 0;
        if (!strcmp(command, "memory")) printf("%.0f\n", (double)process_peak_memory() / 1048576);
        else {
            double before = clock_seconds();
            pass(b, command);
            printf("%.4f\n", clock_seconds() - before);
        }
        fflush(stdout);
    }
    return 0;
}
