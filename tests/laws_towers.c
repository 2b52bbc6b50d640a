/* laws_towers.c -- what must hold of DINO and CLIP's image towers to the bit, whatever their numbers: any number of threads, any
 * batch, with or without remembering, either spelling of the same weights, through a file and back. */
#include "nn/clip_tower.h"
#include "nn/dino.h"
#include "tests/check.h"
#include "tests/files.h"

static Arena weights, kept, brief, own;
static Status status;
enum { SIZE = 64, W = 64 };                               /* width of one head */

static Run run_with(int threads)
{
    return (Run){ .keep = &kept, .temp = &brief, .k = kernels_pick(NULL), .threads = threads, .blas = true };
}

static Tensor fresh(Shape s)
{
    Run r = run_with(1);
    Tensor t = tensor_in(&r, &own, s);
    for (size_t i = 0; i < tensor_count(t); i++) t.x[i] = (real)check_uniform();
    return t;
}

static bool same(Tensor a, Tensor b) { return tensor_same(a, b) && !memcmp(a.x, b.x, tensor_count(a) * sizeof(real)); }

static void forget(void)
{
    arena_release(&kept, 0);
    arena_release(&brief, 0);
}

/* ---- DINO ---- */

typedef struct { Tensor cls, last, keys, dx; } Seen;

static Seen see(Dino *m, Tensor pixels, const Seen *d, int threads)
{
    Run r = run_with(threads);
    int N = pixels.s.d[0], D = m->config.width;
    Shape tokens = SHAPE(N, dino_tokens(m, pixels.s.d[2], pixels.s.d[3]), D);
    Seen s = { fresh(SHAPE(N, D)), fresh(tokens), fresh(tokens), fresh(pixels.s) };
    DinoPass p;
    dino_forward(&r, m, s.cls, s.last, s.keys, &p, pixels);
    dino_backward(&r, m, s.dx, d->cls, d->last, d->keys, &p);
    check_line("dino", r.status.text, run_ok(&r));
    forget();
    return s;
}

static Dino dino_of(bool published, uint64_t seed)
{
    DinoConfig c = { .width = 2 * W, .mlp = 8 * W, .heads = 2, .layers = 2, .image = 48, .patch = 8, .channels = 3, .eps = 1e-6, .published = published };
    Dino m;
    check_true("built", dino_build(&m, &c, &weights, &status) && params_randomise(dino_walk, &m, &weights, seed, &status));
    return m;
}

static void dino_laws(int H, int Wd)
{
    Dino m = dino_of(true, 5);
    int T = dino_tokens(&m, H, Wd), D = m.config.width;
    Tensor pixels = fresh(SHAPE(2, 3, H, Wd));
    Seen d = { fresh(SHAPE(2, D)), fresh(SHAPE(2, T, D)), fresh(SHAPE(2, T, D)), { 0 } };
    Seen a = see(&m, pixels, &d, 1), b = see(&m, pixels, &d, 3);
    check_true("threads change no bit", same(a.cls, b.cls) && same(a.last, b.last) && same(a.keys, b.keys) && same(a.dx, b.dx));
    for (int n = 0; n < 2; n++) {
        Seen dn = { tensor_rows(d.cls, n, 1), tensor_rows(d.last, n, 1), tensor_rows(d.keys, n, 1), { 0 } };
        Seen one = see(&m, tensor_rows(pixels, n, 1), &dn, 2);
        check_true("nor does the batch", same(one.cls, tensor_rows(a.cls, n, 1)) && same(one.last, tensor_rows(a.last, n, 1)) &&
                   same(one.keys, tensor_rows(a.keys, n, 1)) && same(one.dx, tensor_rows(a.dx, n, 1)));
    }
    Run r = run_with(2);
    DinoPass p;
    Seen f = { fresh(a.cls.s), { 0 }, fresh(a.keys.s), { 0 } };
    r.keep = r.temp;
    dino_forward(&r, &m, f.cls, f.last, f.keys, &p, pixels);
    check_true("nor does forgetting", run_ok(&r) && same(f.cls, a.cls) && same(f.keys, a.keys) && brief.used == 0);
    forget();
}

static void by_name(Walk *w, Param *p, const char *name)
{
    (void)name;
    Param ***to = w->self;
    *(*to)++ = p;
}

/* Both spellings walk in the same order: numbers go across place by place. */
static void copy_all(WalkModel *walk, void *to, void *from)
{
    Param *a[200], *b[200], **at = a;
    Walk w = { .visit = by_name, .self = &at };
    walk(to, &w);
    at = b;
    walk(from, &w);
    for (int i = 0; b + i < at; i++) memcpy(a[i]->v.x, b[i]->v.x, tensor_count(a[i]->v) * sizeof(real));
}

static void spellings(void)
{
    Dino m = dino_of(true, 5), v = dino_of(false, 6), back;
    Tensor pixels = fresh(SHAPE(1, 3, 48, 48));
    int T = dino_tokens(&m, 48, 48), D = m.config.width;
    Seen d = { fresh(SHAPE(1, D)), fresh(SHAPE(1, T, D)), fresh(SHAPE(1, T, D)), { 0 } };
    copy_all(dino_walk, &v, &m);
    Seen a = see(&m, pixels, &d, 2), b = see(&v, pixels, &d, 2);
    check_true("ViTModel's spelling of the same weights gives the same bits", same(a.cls, b.cls) && same(a.keys, b.keys) && same(a.dx, b.dx));

    char folder[1100];
    LoadReport report;
    snprintf(folder, sizeof folder, "%s", at("published"));
    mkdir(folder, 0777);
    check_line("saved", status.text, params_save(dino_walk, &m, at("published/model.safetensors"), sizeof(real) == 8 ? T_F64 : T_F32, &brief, &status));
    check_line("loaded by shapes alone", status.text, dino_load(&back, folder, &weights, &report, &status) && !report.surplus && back.config.heads == 2
               && back.config.image == 48 && back.config.layers == 2 && back.config.published);
    Seen c = see(&back, pixels, &d, 2);
    check_true("a published file, saved and read, gives the same bits", same(a.cls, c.cls) && same(a.keys, c.keys) && same(a.dx, c.dx));
    Weights w;
    const SafeEntry *e = weights_open(&w, folder, "model", &status) ? weights_find(&w, "blocks.1.attn.qkv.weight", NULL) : NULL;
    check_true("q, k and v in one tensor", e && e->rank == 2 && e->size[0] == (uint64_t)(3 * D) && weights_find(&w, "cls_token", NULL)->rank == 3 && w.file->entries == 2 * 12 + 6);
    weights_close(&w);
    unlink(at("published/model.safetensors"));
    rmdir(folder);
}

/* ---- CLIP's towers ---- */

typedef struct { Tensor embeds, dx; } View;

static View view(ClipTower *t, Tensor image, Tensor d, int threads)
{
    Run r = run_with(threads);
    View v = { fresh(SHAPE(image.s.d[0], t->width)), fresh(image.s) };
    ClipTowerPass p;
    clip_tower_embed(&r, t, v.embeds, &p, image);
    clip_tower_embed_backward(&r, t, v.dx, d, &p);
    check_line("tower", r.status.text, run_ok(&r));
    forget();
    return v;
}

static ClipTower tower_of(bool resnet, bool openai)
{
    ClipTower t = { .resnet = resnet, .size = SIZE, .width = 24, .preprocess = preprocess_clip };
    ClipResnetConfig rn = { 4, { 1, 2, 1, 1 }, SIZE, 24 };
    ClipImageConfig vit = { W, 2 * W, 1, 2, SIZE, 16, 3, 24, POINT_QUICK_GELU, 1e-5 };
    bool good = resnet ? clip_resnet_build(&t.rn, &rn, &weights, &status) : (openai ? clip_image_build_openai : clip_image_build)(&t.vit, &vit, &weights, &status);
    check_true("built", good && params_randomise(clip_tower_walk, &t, &weights, 8, &status));
    return t;
}

static void tower_laws(bool resnet)
{
    ClipTower t = tower_of(resnet, false);
    Tensor image = fresh(SHAPE(2, 3, 50, 41)), d = fresh(SHAPE(2, 24));
    View a = view(&t, image, d, 1), b = view(&t, image, d, 3);
    check_true("threads change no bit", same(a.embeds, b.embeds) && same(a.dx, b.dx));
    for (int n = 0; n < 2; n++) {
        View one = view(&t, tensor_rows(image, n, 1), tensor_rows(d, n, 1), 2);
        check_true("nor does the batch", same(one.embeds, tensor_rows(a.embeds, n, 1)) && same(one.dx, tensor_rows(a.dx, n, 1)));
    }
    Run r = run_with(2);
    ClipTowerPass p;
    Tensor again = fresh(a.embeds.s);
    r.keep = r.temp;
    clip_tower_embed(&r, &t, again, &p, image);
    check_true("nor does forgetting", run_ok(&r) && same(again, a.embeds) && brief.used == 0);
    forget();
}

/* Names of the published state dicts. */
static const char *const VIT_NAMES[] = {
    "visual.class_embedding", "visual.positional_embedding", "visual.proj", "visual.conv1.weight", "visual.ln_pre.weight", "visual.ln_pre.bias",
    "visual.ln_post.weight", "visual.transformer.resblocks.1.ln_1.weight", "visual.transformer.resblocks.1.ln_2.bias",
    "visual.transformer.resblocks.1.attn.in_proj_weight", "visual.transformer.resblocks.1.attn.in_proj_bias",
    "visual.transformer.resblocks.1.attn.out_proj.weight", "visual.transformer.resblocks.1.mlp.c_fc.weight", "visual.transformer.resblocks.1.mlp.c_proj.bias", NULL
};
static const char *const RESNET_NAMES[] = {
    "visual.conv3.weight", "visual.bn3.running_var", "visual.layer2.0.downsample.0.weight", "visual.layer2.0.downsample.1.running_mean", "visual.layer2.1.conv2.weight",
    "visual.layer2.1.bn3.bias", "visual.attnpool.positional_embedding", "visual.attnpool.k_proj.weight", "visual.attnpool.q_proj.bias",
    "visual.attnpool.v_proj.weight", "visual.attnpool.c_proj.weight", NULL
};

static void through_a_file(ClipTower *t, const char *what, const char *const *names, int tensors)
{
    char folder[1100];
    ClipTower back;
    LoadReport report;
    Weights w;
    Tensor image = fresh(SHAPE(1, 3, 40, 40)), d = fresh(SHAPE(1, 24));
    snprintf(folder, sizeof folder, "%s", at("tower"));
    mkdir(folder, 0777);
    check_line("saved", status.text, params_save(clip_tower_walk, t, at("tower/model.safetensors"), sizeof(real) == 8 ? T_F64 : T_F32, &brief, &status));
    check_true("as many tensors as published", weights_open(&w, folder, "model", &status) && w.file->entries == tensors);
    for (; *names; names++) check_true(*names, weights_find(&w, *names, NULL) != NULL);
    const SafeEntry *e = t->resnet ? NULL : weights_find(&w, "visual.proj", NULL);
    check_true("the projection stands on its side", t->resnet || (e && e->size[0] == W && e->size[1] == 24));
    weights_close(&w);
    check_line("loaded by shapes alone", status.text, clip_tower_load(&back, folder, &weights, &report, &status) && !report.surplus
               && back.resnet == t->resnet && back.size == SIZE && back.width == 24);
    View a = view(t, image, d, 2), b = view(&back, image, d, 2);
    check_true(what, same(a.embeds, b.embeds) && same(a.dx, b.dx));
    unlink(at("tower/model.safetensors"));
    rmdir(folder);
}

static void tower_spellings(void)
{
    ClipTower a = tower_of(false, false), b = tower_of(false, true), rn = tower_of(true, false);
    ClipImage *from = &a.vit, *to = &b.vit;
    Param *pair[][2] = {
        { &to->class_token, &from->class_token }, { &to->positions, &from->positions }, { &to->patch.w, &from->patch.w }, { &to->projection.w, &from->projection.w },
        { &to->before.gamma, &from->before.gamma }, { &to->before.beta, &from->before.beta }, { &to->after.gamma, &from->after.gamma }, { &to->after.beta, &from->after.beta },
    };
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) memcpy(pair[i][0]->v.x, pair[i][1]->v.x, tensor_count(pair[i][1]->v) * sizeof(real));
    Param *x[200], *y[200], **place = x;
    Walk w = { .visit = by_name, .self = &place };
    transformer_walk(&to->body, &w);
    place = y;
    transformer_walk(&from->body, &w);
    for (int i = 0; y + i < place; i++) memcpy(x[i]->v.x, y[i]->v.x, tensor_count(x[i]->v) * sizeof(real));
    Tensor image = fresh(SHAPE(1, 3, 64, 64)), d = fresh(SHAPE(1, 24));
    View va = view(&a, image, d, 2), vb = view(&b, image, d, 2);
    check_true("OpenAI's spelling of the same weights gives the same bits", same(va.embeds, vb.embeds) && same(va.dx, vb.dx));
    through_a_file(&b, "OpenAI's file, saved and read, gives the same bits", VIT_NAMES, 2 * 12 + 8);
    through_a_file(&rn, "a residual network, saved and read, gives the same bits", RESNET_NAMES, 15 + 5 * 15 + 4 * 5 + 9);
}

/* ---- memory that ends anywhere: an error, and nothing else ---- */

static void short_memory(void)
{
    Dino m = dino_of(true, 5);
    ClipTower t = tower_of(true, false);
    Tensor pixels = fresh(SHAPE(1, 3, 48, 56)), image = fresh(SHAPE(1, 3, 40, 40)), cls = fresh(SHAPE(1, m.config.width)), embeds = fresh(SHAPE(1, 24));
    Tensor dp = fresh(pixels.s), di = fresh(image.s);
    int failed = 0, wrong = 0;
    for (int i = 0; i < 60; i++) {
        Arena keep_ = { .limit = (size_t)1 << (10 + i / 4), .poison = true }, temp_ = { .limit = (size_t)1 << (10 + i % 12), .poison = true };
        Run r = run_with(2), q = r;
        r.keep = q.keep = &keep_;
        r.temp = q.temp = &temp_;
        DinoPass p;
        ClipTowerPass c;
        dino_forward(&r, &m, cls, (Tensor){0}, (Tensor){0}, &p, pixels);
        if (run_ok(&r)) dino_backward(&r, &m, dp, cls, (Tensor){0}, (Tensor){0}, &p);
        arena_release(&keep_, 0);
        arena_release(&temp_, 0);
        clip_tower_embed(&q, &t, embeds, &c, image);
        if (run_ok(&q)) clip_tower_embed_backward(&q, &t, di, embeds, &c);
        failed += !run_ok(&r) + !run_ok(&q);
        wrong += (!run_ok(&r) && r.status.code != E_MEMORY) + (!run_ok(&q) && q.status.code != E_MEMORY);
        arena_free(&keep_);
        arena_free(&temp_);
    }
    check_true("short memory is seen", failed > 20);
    check_true("and called by its name", !wrong);
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    dino_laws(48, 48);
    dino_laws(40, 59);
    spellings();
    tower_laws(false);
    tower_laws(true);
    tower_spellings();
    short_memory();
    check_line("no error", status.text, status.code == OK);
    scratch_remove();
    arena_free(&weights);
    arena_free(&kept);
    arena_free(&brief);
    arena_free(&own);
    return check_done();
}
