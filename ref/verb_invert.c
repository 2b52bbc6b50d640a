#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/edit.h"
#include "ref/pixel_verbs.h"
#include "tensor/file.h"
#include "tensor/safetensors.h"

#define AT(member) offsetof(Edit, member)
static const Option row[] = {
    { "prompt",         'p', OPTION_TEXT,   AT(prompt),  0, 0,            "",    "TEXT", "what the picture shows", NULL },
    { "negative",       'n', OPTION_TEXT,   AT(negative), 0, 0,           "",    "TEXT", "for methods that read it", "negative-prompt" },
    { "method",         0,   OPTION_LIST,   AT(method),  0, 0,            NULL,  "NAME", "invert as this method does [default: plain DDIM]", NULL },
    { "steps",          0,   OPTION_INT,    AT(steps),   1, 10000,        NULL,  "N", "DDIM steps [default: 50]", NULL },
    { "guidance-scale", 0,   OPTION_REAL,   AT(scale),   -1000, 1000,     NULL,  "X", "of the way back, for methods that guide it [default: 7.5]", "cfg-scale" },
    { "width",          'W', OPTION_INT,    AT(W),       1, 8192,         NULL,  "N", "pixels [default: the model's]", NULL },
    { "height",         'H', OPTION_INT,    AT(H),       1, 8192,         NULL,  "N", "pixels [default: the model's]", NULL },
    { "fit",            0,   OPTION_CHOICE, AT(fit),     0, 0, "crop", "crop|pad|stretch", "what happens to a photo of another size", NULL },
    { "cache",          0,   OPTION_TEXT,   AT(cache),   0, 0,            NULL,  "FOLDER", "keep inversions here by content; an interrupted one is continued", NULL },
    { "output",         'o', OPTION_TEXT,   AT(output),  0, 0, "noise.safetensors", "FILE",
      "latents [1,C,h,w]: the noise; stored [n+1,C,h,w]: the latent at each step, the last the clean one", NULL },
    { "strip",          0,   OPTION_TEXT,   AT(strip),   0, 0,            NULL,  "FILE", "the picture and its reconstruction side by side", NULL },
    { "json",           0,   OPTION_FLAG,   AT(common.json), 0, 0,        NULL,  NULL, "events as JSON Lines on standard output", NULL },
};
static const OptionPage page = {
    "invert", "A picture to the noise it came from.", "tiller invert photo.png --prompt \"a photo of a cat on grass\" -o z.safetensors",
    "IMAGE", 1, 1, "The way back from the noise is drawn, too, and measured in dB (PSNR). tiller generate --latents FILE starts from the noise.",
    { TABLE("Inversion", row), { 0 }, MACHINE_TABLE, COMMON_TABLE }
};

static bool save(const EditRun *w, const Guided *g, Status *s)
{
    Shape c = g->x0.s;
    int n = g->schedule.n, T = g->text.s.d[1], D = g->text.s.d[2];
    Dtype type = sizeof(real) == 8 ? T_F64 : T_F32;
    SafeOut t[3] = { { "latents", type, 4, { 1, c.d[0], c.d[1], c.d[2] }, g->stored[0].x, true },
                     { "stored",  type, 4, { n + 1, c.d[0], c.d[1], c.d[2] }, g->stored[0].x, true },
                     { "null_text", type, 3, { n, T, D }, g->null_text ? g->null_text[0].x : NULL, true } };
    return safetensors_save(w->e->output, t, 2 + (g->null_text != NULL), NULL, 0, s);
}

static void invert(EditRun *w)
{
    Status *s = &w->p->run.status;
    GuidedHooks hooks = edit_hooks(w);
    Guided *g = arena_take(&w->arena, sizeof *g);
    JsonOut o = {0};
    if (!g) status_fail(s, E_MEMORY, "out of memory: an inversion");
    for (int k = 0; k < w->rows->methods; k++)
        if (!(w->rows->info[k]->needs & NEED_INVERSION)) status_fail(s, E_OPTION, "--method: %s inverts nothing; without one it is plain DDIM", w->rows->info[k]->name);
    w->e->count = 1;
    w->e->start = 1;
    if (s->code != OK || !g || !edit_prepare(w)) return;
    memset(g, 0, sizeof *g);
    w->guided = g;
    if (guided_prepare(g, w->p, &w->request, &hooks) && save(w, g, s) && (!w->e->strip || edit_reconstruction(w))) {
        console_note(&w->console, "%s: the noise, and the latents of %d steps", w->e->output, g->schedule.n);
        console_event(&o, "latents");
        json_text(&o, "path", w->e->output);
        json_integer(&o, "steps", g->schedule.n);
        json_real(&o, "psnr_reconstruction", g->psnr_reconstruction, 9);
        json_real(&o, "psnr_autoencoder", g->psnr_codec, 9);
        console_send(&w->console, &o);
    }
    guided_close(g);
}

int verb_invert(int argc, char **argv)
{
    if (pixel_asked(argc, argv)) return verb_pixel_invert(argc, argv);
    EditWork *all = edit_work(argc, argv);
    OptionPage full = page;
    char *rest[1];
    int rests, code = EXIT_MEMORY;
    if (!all) return code;
    EditRun *w = &all->run;
    full.table[1] = (OptionTable){ "Numbers of the method", all->rows.row, all->rows.rows };
    if (all->status.code != OK) {
        w->console = console_begin(false, false, false, COLOR_AUTO);
        code = console_end(&w->console, console_error(&w->console, &all->status, NULL));
    } else if (verb_begin(&w->console, &full, w->e, argc, argv, rest, &rests, &code)) {
        w->e->image = rest[0];
        invert(w);
        Status *s = w->status.code != OK ? &w->status : &w->p->run.status;
        code = console_end(&w->console, s->code == OK ? EXIT_DONE : console_error(&w->console, s, common_hint(s)));
    }
    edit_work_free(all);
    return code;
}
