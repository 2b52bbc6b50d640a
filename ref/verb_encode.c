#include <string.h>
#include "ref/image.h"
#include "ref/verbs.h"
#include "tensor/file.h"

typedef struct {
    Common common;
    const char *output;
    int W, H, fit;
    bool sample;
    Seed seed;
} Encode;

#define AT(member) offsetof(Encode, member)
static const Option row[] = {
    { "output", 'o', OPTION_TEXT,   AT(output), 0, 0,    "latents.safetensors", "FILE", "latents, key latents, [1,C,h,w], scaled as the UNet reads them", NULL },
    { "width",  'W', OPTION_INT,    AT(W),      1, 8192, NULL, "N", "pixels [default: the model's, or the picture's when only --height is given]", NULL },
    { "height", 'H', OPTION_INT,    AT(H),      1, 8192, NULL, "N", "pixels [default: the model's, or the picture's when only --width is given]", NULL },
    { "fit",    0,   OPTION_CHOICE, AT(fit),    0, 0,    "crop", "crop|pad|stretch", "what happens to a picture of another size", NULL },
    { "sample", 0,   OPTION_FLAG,   AT(sample), 0, 0,    NULL, NULL, "draw from the posterior instead of taking its mean", NULL },
    { "seed",   's', OPTION_SEED,   AT(seed),   0, 0,    NULL, "N", "for --sample [default: a random one, printed]", NULL },
    JSON_OPTION,
};
static const OptionPage page = {
    "encode", "A picture to latents.", "tiller encode photo.jpg -o photo.safetensors", "IMAGE", 1, 1,
    "PNG or JPEG. EXIF orientation is ignored, and said so.", { TABLE("Encoding", row), MACHINE_TABLE, COMMON_TABLE }
};

/* The wanted size: as asked; one side asked: the other follows the picture's proportions; none: the model's own. */
static bool choose_size(const Encode *g, const Image *m, const VaeConfig *v, int *W, int *H, Status *s)
{
    int factor = vae_factor(v), own = v->sample_size ? v->sample_size : 512;
    *W = g->W ? g->W : g->H ? (int)((int64_t)m->W * g->H / m->H) / factor * factor : own;
    *H = g->H ? g->H : g->W ? (int)((int64_t)m->H * g->W / m->W) / factor * factor : own;
    if (*W < factor) *W = factor;
    if (*H < factor) *H = factor;
    return size_check(*W, *H, factor, s);
}

static bool save(const char *path, Tensor z, Status *s)
{
    SafeOut t = { "latents", T_F32, 4, { z.s.d[0], z.s.d[1], z.s.d[2], z.s.d[3] }, z.x, true };
    return safetensors_save(path, &t, 1, NULL, 0, s);
}

static void encode(const Encode *g, Console *c, Pipeline *p, const char *file, Arena *a)
{
    Status *s = &p->run.status;
    char folder[1024], said[200];
    Image in = {0}, m = {0};
    Random random;
    int W, H;
    if (!common_model(&g->common, folder, sizeof folder, s) || !common_pipeline(p, &g->common, folder)) return;
    if (!image_load(&in, a, file, s) || !pipeline_load(p, MODEL_VAE)) return;
    common_surplus(c, &p->model);
    if (in.rotated) console_warning(c, "%s: its EXIF orientation is ignored", file);
    if (!choose_size(g, &in, &p->model.vae.config, &W, &H, s) || !output_check(g->output, s)) return;
    if (!image_fit(&p->run, &m, a, &in, H, W, (Fit)g->fit, said, sizeof said)) return;
    if (*said) console_note(c, "%s: %s", file, said);
    uint64_t seed = g->seed.given ? g->seed.value : system_random() & UINT32_MAX;
    if (g->sample) {
        console_note(c, "seed: %llu", (unsigned long long)seed);
        random_seed(&random, RANDOM_TORCH, seed);
    }
    c->computing = true;
    Tensor z = pipeline_encode(p, m.rgb, W, H, g->sample ? &random : NULL);
    if (!z.x || !save(g->output, z, s)) return;
    JsonOut o = {0};
    console_note(c, "%s: [%d,%d,%d,%d]", g->output, z.s.d[0], z.s.d[1], z.s.d[2], z.s.d[3]);
    console_event(&o, "latents");
    json_text(&o, "path", g->output);
    json_integer(&o, "width", W);
    json_integer(&o, "height", H);
    json_text(&o, "fit", said);
    if (g->sample) json_integer(&o, "seed", (int64_t)seed);
    console_send(c, &o);
}

int verb_encode(int argc, char **argv)
{
    Encode g = {0};
    Console c;
    Pipeline p = {0};
    Arena a = {0};
    char *rest[1];
    int rests, code;
    if (!verb_begin(&c, &page, &g, argc, argv, rest, &rests, &code)) return code;
    encode(&g, &c, &p, rest[0], &a);
    code = verb_end(&c, &p.run.status);
    arena_free(&a);
    pipeline_close(&p);
    return code;
}
