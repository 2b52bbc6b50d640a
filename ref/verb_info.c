#include <string.h>
#include "ref/image.h"
#include "ref/oneline.h"
#include "ref/parts.h"
#include "ref/tensor_list.h"
#include "ref/tower_info.h"
#include "ref/verbs.h"
#include "tensor/file.h"
#include "tensor/gemm.h"

typedef struct { Common common; } Info;

static const Option row[] = { MODEL_OPTION, JSON_OPTION };
static const OptionPage page = {
    "info", "What a model folder holds, and how this program runs.", "tiller info", "[MODEL|FILE]", 0, 1,
    "Of a FILE (.safetensors, or a checkpoint of torch: .pt, .pth, .ckpt, .bin) its tensors are listed.", { TABLE("What", row), COMMON_TABLE }
};

static void kernel_names(char *to, size_t room)
{
    *to = 0;
    for (int i = 0; kernels_at(i); i++) snprintf(to + strlen(to), room - strlen(to), "%s%s", i ? " " : "", kernels_at(i)->name);
}

static void print_program(void)
{
    char kernels[100];
    kernel_names(kernels, sizeof kernels);
    printf("tiller       %s, %s\nkernels      %s (of: %s)\nproducts     %s\nthreads      %d\nmemory       %.0f MB free for this process\npictures     %s\n",
           TILLER_VERSION, sizeof(real) == sizeof(double) ? "float64" : "float32", kernels_pick(NULL)->name, kernels, gemm_name(),
           system_processors(), (double)system_memory() / 1e6, image_decoder());
}

/* What a network of pixels is for: sizes, h, classes, where attention works. */
static void print_pixel(const Parts *t)
{
    bool classifier = t->pixel == PIXEL_ADM_CLASSIFIER;
    const Unet *u = classifier ? &t->classifier.encoder : &t->unet;
    const UnetConfig *c = &u->config;
    Shape h = unet_h_shape(u, 1, c->sample_size, c->sample_size);
    printf("network      channels");
    for (int i = 0; i < c->levels; i++) printf(" %d%s", c->channels[i], c->down_attention[i] ? "*" : "");
    printf(" (* with attention); pictures of %d x %d, h %d x %d x %d\n", c->sample_size, c->sample_size, h.d[1], h.d[2], h.d[3]);
    if (classifier) printf("classes      %d\n", t->classifier.config.out_channels);
    else            printf("output       eps%s; %d classes%s\n", u->learned_variance ? " and learned variance" : "", u->classes, u->classes ? "" : " (unconditional)");
    const Part *p = &t->part[classifier ? PART_CLASSIFIER : PART_UNET];
    for (int i = 0; i < p->surplus; i++) {
        char shown[200];
        printf("%-12s %s\n", i ? "" : "unused", oneline(shown, sizeof shown, p->unused[i]));
    }
}

static void print_model(const char *folder, const Parts *t)
{
    printf("model        %s\n", folder);
    for (int i = 0; i < PARTS; i++) {
        const Part *p = &t->part[i];
        if (p->there) printf("%-12s %zu parameters in %d tensors, %s, %d file%s, %.1f MB\n", p->folder, p->numbers, p->tensors,
                             p->dtype ? p->dtype : "empty", p->files, p->files == 1 ? "" : "s", (double)p->bytes / 1e6);
    }
    if (t->pixel) {
        print_pixel(t);
        return;
    }
    if (t->part[PART_UNET].there) {
        const UnetConfig *c = &t->unet.config;
        printf("unet         channels");
        for (int i = 0; i < c->levels; i++) printf(" %d", c->channels[i]);
        printf("; %d -> %d latent channels of %d x %d\n", c->in_channels, c->out_channels, c->sample_size, c->sample_size);
    }
    if (t->part[PART_VAE].there)
        printf("vae          %d latent channels, 1 : %d, scaling factor %g\n", t->vae.config.latent, vae_factor(&t->vae.config), t->vae.config.scaling_factor);
    if (t->part[PART_TEXT].there)
        printf("text_encoder %d layers, width %d, %d positions, %d words\n", t->text.config.layers, t->text.config.width, t->text.config.positions, t->text.config.vocabulary);
}

static void send(const Console *c, const char *folder, const Parts *t)
{
    JsonOut o = {0};
    char kernels[100];
    kernel_names(kernels, sizeof kernels);
    console_event(&o, "info");
    json_text(&o, "version", TILLER_VERSION);
    json_text(&o, "number", sizeof(real) == sizeof(double) ? "float64" : "float32");
    json_text(&o, "kernels", kernels_pick(NULL)->name);
    json_text(&o, "kernels_here", kernels);
    json_text(&o, "products", gemm_name());
    json_integer(&o, "threads", system_processors());
    json_integer(&o, "memory_bytes", (int64_t)system_memory());
    json_text(&o, "pictures", image_decoder());
    json_text(&o, "model", folder);
    for (int i = 0; i < PARTS; i++) {
        const Part *p = &t->part[i];
        if (!p->there) continue;
        json_open(&o, p->folder, '{');
        json_integer(&o, "parameters", (int64_t)p->numbers);
        json_integer(&o, "tensors", p->tensors);
        json_text(&o, "dtype", p->dtype ? p->dtype : "");
        json_integer(&o, "files", p->files);
        json_integer(&o, "bytes", (int64_t)p->bytes);
        if (t->pixel) json_open(&o, "unused", '[');
        for (int k = 0; k < p->surplus; k++) json_text(&o, NULL, p->unused[k]);
        if (t->pixel) json_close(&o, ']');
        json_close(&o, '}');
    }
    console_send(c, &o);
}

int verb_info(int argc, char **argv)
{
    Info g = {0};
    Console c;
    Parts t = {0};
    Status s = {0};
    char *rest[1], folder[1024];
    int rests, code;
    if (!verb_begin(&c, &page, &g, argc, argv, rest, &rests, &code)) return code;
    if (rests && file_exists(rest[0]) && !g.common.model) {
        tensor_list(&c, rest[0], &s);
        return verb_end(&c, &s);
    }
    bool right = common_argument(&g.common, rest, rests, &s);
    if (right && !c.json) print_program();
    if (right && common_model(&g.common, folder, sizeof folder, &s) && tower_folder(folder)) tower_info(&c, folder, &s);
    else if (right && s.code == OK && parts_open(&t, folder, &s)) {
        if (c.json) send(&c, folder, &t);
        else print_model(folder, &t);
    }
    parts_close(&t);
    return verb_end(&c, &s);
}
