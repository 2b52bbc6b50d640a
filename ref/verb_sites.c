#include <string.h>
#include "ref/parts.h"
#include "ref/verbs.h"

typedef struct { Common common; int W, H, tokens; } Sites;

#define AT(member) offsetof(Sites, member)
static const Option row[] = {
    MODEL_OPTION,
    { "width",  'W', OPTION_INT, AT(W),      1, 8192,  NULL, "N", "picture width in pixels [default: the model's]", NULL },
    { "height", 'H', OPTION_INT, AT(H),      1, 8192,  NULL, "N", "picture height in pixels [default: the model's]", NULL },
    { "tokens", 0,   OPTION_INT, AT(tokens), 1, 65536, NULL, "N", "tokens of text [default: the text encoder's]", NULL },
    JSON_OPTION,
};
static const OptionPage page = {
    "sites", "The places in a network that guidance can read, replace and pull.", "tiller sites --width 128 --height 128", "[MODEL]", 0, 1,
    "Each line: component, kind, module path as in the checkpoint, shape for one image, megabytes. Kinds: feature [N,H,W,C]; "
    "probs [N,heads,Tq,Tk], attention after softmax; query, key, value [N,T,C]; time, the time embedding.",
    { TABLE("Size", row), COMMON_TABLE }
};

typedef struct { const Console *console; const char *component; int sites; double bytes; } Listing;

static void on_site(void *self, SiteKind kind, const char *path, Shape shape)
{
    static const char *const kinds[] = { "feature", "probs", "query", "key", "value", "time" };
    Listing *l = self;
    double bytes = (double)shape_count(shape) * (double)sizeof(real);
    char text[64] = "";
    for (int i = 0; i < shape_rank(shape); i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", i ? "," : "", shape.d[i]);
    l->sites++;
    l->bytes += bytes;
    if (!l->console->json) {
        printf("%-4s  %-7s  %-68s  %-18s  %9.3f\n", l->component, kinds[kind], path, text, bytes / 1e6);
        return;
    }
    JsonOut o = {0};
    console_event(&o, "site");
    json_text(&o, "component", l->component);
    json_text(&o, "kind", kinds[kind]);
    json_text(&o, "path", path);
    json_open(&o, "shape", '[');
    for (int i = 0; i < shape_rank(shape); i++) json_integer(&o, NULL, shape.d[i]);
    json_close(&o, ']');
    json_integer(&o, "bytes", (int64_t)bytes);
    console_send(l->console, &o);
}

/* A network of pixels: its sizes are the picture's. */
static bool list_pixel_sites(const Sites *g, const Console *c, Parts *t, Status *s)
{
    Listing l = { .console = c, .component = t->pixel == PIXEL_ADM_CLASSIFIER ? "classifier" : "unet" };
    const Unet *u = t->pixel == PIXEL_ADM_CLASSIFIER ? &t->classifier.encoder : &t->unet;
    int own = u->config.sample_size, W = g->W ? g->W : own, H = g->H ? g->H : own;
    if (t->pixel == PIXEL_ADM_CLASSIFIER && (W != own || H != own))
        status_fail(s, E_OPTION, "--width, --height: this classifier works on %d x %d pixels alone", own, own);
    if (s->code != OK || !size_check(W, H, u->multiple, s)) return false;
    if (t->pixel == PIXEL_ADM_CLASSIFIER) adm_classifier_sites(&t->classifier, on_site, &l);
    else                                  unet_sites(u, H, W, 0, on_site, &l);
    console_note(c, "%d sites, %.1f MB together, for %d x %d pixels", l.sites, l.bytes / 1e6, W, H);
    return true;
}

static bool list_sites(const Sites *g, const Console *c, Parts *t, Status *s)
{
    Listing l = { .console = c };
    bool unet = t->part[PART_UNET].there, vae = t->part[PART_VAE].there;
    int factor = vae ? vae_factor(&t->vae.config) : 8, tokens = g->tokens;
    int own = unet && t->unet.config.sample_size ? t->unet.config.sample_size * factor : vae && t->vae.config.sample_size ? t->vae.config.sample_size : 512;
    int W = g->W ? g->W : own, H = g->H ? g->H : own;
    if (!tokens) tokens = t->part[PART_TEXT].there ? t->text.config.positions : 77;
    if (!size_check(W, H, factor, s)) return false;
    l.component = "unet";
    if (unet) unet_sites(&t->unet, H / factor, W / factor, tokens, on_site, &l);
    l.component = "vae";
    if (vae) vae_sites(&t->vae, H, W, on_site, &l);
    console_note(c, "%d sites, %.1f MB together, for %d x %d pixels and %d tokens", l.sites, l.bytes / 1e6, W, H, tokens);
    return true;
}

int verb_sites(int argc, char **argv)
{
    Sites g = {0};
    Console c;
    Parts t = {0};
    Status s = {0};
    char *rest[1], folder[1024];
    int rests, code;
    if (!verb_begin(&c, &page, &g, argc, argv, rest, &rests, &code)) return code;
    if (common_argument(&g.common, rest, rests, &s) && common_model(&g.common, folder, sizeof folder, &s) && parts_open(&t, folder, &s)) {
        if (t.pixel) list_pixel_sites(&g, &c, &t, &s);
        else         list_sites(&g, &c, &t, &s);
    }
    parts_close(&t);
    return verb_end(&c, &s);
}
