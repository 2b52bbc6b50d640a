#include <stdint.h>
#include <string.h>
#include "ref/image.h"
#include "ref/verbs.h"

typedef struct { Common common; const char *output; bool no_metadata; } Decode;

#define AT(member) offsetof(Decode, member)
static const Option row[] = {
    { "output",      'o', OPTION_TEXT, AT(output),      0, 0, "picture.png", "FILE", "PNG; several pictures: x-0.png, x-1.png", NULL },
    { "no-metadata", 0,   OPTION_FLAG, AT(no_metadata), 0, 0, NULL, NULL, "do not write the program's name into the picture", NULL },
    JSON_OPTION,
};
static const OptionPage page = {
    "decode", "Latents to pictures.", "tiller decode latents.safetensors -o picture.png", "LATENTS", 1, 1,
    "LATENTS is a safetensors file, key latents, [C,h,w] or [N,C,h,w], scaled as the UNet reads them.", { TABLE("Decoding", row), MACHINE_TABLE, COMMON_TABLE }
};

static bool decode_one(const Decode *g, const Console *c, Pipeline *p, Tensor z, int i, int count, Arena *a)
{
    Status *s = &p->run.status;
    char path[1200];
    PngText software = { "Software", "tiller " TILLER_VERSION };
    int W, H;
    size_t mark = p->run.run->used;
    const uint8_t *rgb = pipeline_decode(p, tensor_rows(z, i, 1), &W, &H);
    if (!rgb) return false;
    Image m = { (uint8_t *)(uintptr_t)rgb, H, W, false };
    output_numbered(path, sizeof path, g->output, i, count, 0);
    bool good = image_save(path, a, &m, &software, !g->no_metadata, NULL, s);
    arena_release(a, 0);
    arena_release(p->run.run, mark);
    if (!good) return false;
    JsonOut o = {0};
    console_note(c, "%s: %d x %d", path, W, H);
    console_event(&o, "image");
    json_text(&o, "path", path);
    json_integer(&o, "width", W);
    json_integer(&o, "height", H);
    console_send(c, &o);
    return true;
}

static void decode(const Decode *g, Console *c, Pipeline *p, const char *file, Arena *a)
{
    Status *s = &p->run.status;
    char folder[1024], path[1200];
    if (!common_model(&g->common, folder, sizeof folder, s) || !common_pipeline(p, &g->common, folder)) return;
    if (!pipeline_load(p, MODEL_VAE)) return;
    common_surplus(c, &p->model);
    Tensor z = pipeline_latents(p, file);
    if (!z.x) return;
    int count = z.s.d[0];
    output_numbered(path, sizeof path, g->output, 0, count, 0);
    if (!output_check(path, s)) return;
    c->computing = true;
    for (int i = 0; i < count && decode_one(g, c, p, z, i, count, a); i++) { }
}

int verb_decode(int argc, char **argv)
{
    Decode g = {0};
    Console c;
    Pipeline p = {0};
    Arena a = {0};
    char *rest[1];
    int rests, code;
    if (!verb_begin(&c, &page, &g, argc, argv, rest, &rests, &code)) return code;
    decode(&g, &c, &p, rest[0], &a);
    code = verb_end(&c, &p.run.status);
    arena_free(&a);
    pipeline_close(&p);
    return code;
}
