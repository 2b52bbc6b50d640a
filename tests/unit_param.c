/* unit_param.c -- parameters by name: walking, loading, saving, random values; and the weights of a folder. */
#include "nn/names.h"
#include "nn/param.h"
#include "tensor/conv.h"
#include "tensor/json.h"
#include "tests/check.h"
#include "tests/files.h"

typedef struct {
    Param conv, bias, wide, proj, query, scale, norm, tokens, absent;
} Toy;

static Toy toy(void)
{
    return (Toy){ param_conv(5, 3, 3, 2), param_vector(5), param_conv(4, 6, 1, 1), param_matrix(4, 4), param_matrix(2, 2),
                  { .rank = 0 }, param_vector(7), param_matrix(9, 4), param_none() };
}

static void toy_walk(void *model, Walk *w)
{
    Toy *t = model;
    size_t before = walk_enter_at(w, "blocks", 0), inner = walk_enter(w, "conv1");
    walk_param(w, &t->conv, "weight");
    walk_param(w, &t->bias, "bias");
    walk_leave(w, inner);
    inner = walk_enter(w, "shortcut");
    walk_param(w, &t->wide, "weight");
    walk_param(w, &t->absent, "bias");
    walk_leave(w, inner);
    walk_leave(w, before);
    before = walk_enter_at(w, "mid_block.attentions", 0);
    walk_param(w, &t->query, "to_q.weight");
    walk_leave(w, before);
    walk_param(w, &t->proj, "text_model.proj.weight");
    walk_param(w, &t->scale, "logit_scale");
    walk_param(w, &t->norm, "norm.weight");
    walk_param(w, &t->tokens, "text_model.embeddings.token_embedding.weight");
}
enum { TENSORS = 8, NUMBERS = 5 * 3 * 3 * 2 + 5 + 24 + 16 + 4 + 1 + 7 + 36 };

static Param *each(Toy *t, int i)
{
    Param *p[TENSORS] = { &t->conv, &t->bias, &t->wide, &t->proj, &t->query, &t->scale, &t->norm, &t->tokens };
    return p[i];
}

static void count_names(Walk *w, Param *p, const char *name)
{
    char *all = w->self;
    (void)p;
    strcat(strcat(all, name), " ");
}

static void walking(void)
{
    Toy t = toy();
    char all[1000] = "";
    Walk w = { .visit = count_names, .self = all };
    int n;
    toy_walk(&t, &w);
    check_line("names", all, !strcmp(all, "blocks.0.conv1.weight blocks.0.conv1.bias blocks.0.shortcut.weight mid_block.attentions.0.to_q.weight "
               "text_model.proj.weight logit_scale norm.weight text_model.embeddings.token_embedding.weight ") && !*w.path);
    check_true("count", params_count(toy_walk, &t, &n) == NUMBERS && n == TENSORS && params_count(toy_walk, &t, NULL) == NUMBERS);
    check_true("find", params_find(toy_walk, &t, "blocks.0.conv1.bias") == &t.bias && !params_find(toy_walk, &t, "blocks.0.shortcut.bias"));
    check_true("shapes", shape_same(param_shape(&t.conv), SHAPE(5, 3, 2, 3)) && shape_same(param_shape(&t.scale), SHAPE(1)) && !shape_count(param_shape(&t.absent))
               && shape_same(param_shape(&t.proj), SHAPE(4, 4)) && !param_there(&t.absent) && param_there(&t.scale));
    memset(w.path, 'x', sizeof w.path - 3);
    w.path[sizeof w.path - 3] = 0;
    size_t before = walk_enter_at(&w, "long", 1234567);
    check_true("a path too long is cut, not overrun", strlen(w.path) < sizeof w.path);
    walk_leave(&w, before);
    check_true("and left as it was", strlen(w.path) == sizeof w.path - 3);
}

static bool same_values(Toy *a, Toy *b)
{
    bool same = true;
    for (int i = 0; i < TENSORS; i++) {
        Param *p = each(a, i), *q = each(b, i);
        same = same && tensor_same(p->v, q->v) && !memcmp(p->v.x, q->v.x, tensor_count(p->v) * sizeof(real));
    }
    return same;
}

static void save_and_load(void)
{
    Toy t = toy(), u = toy();
    Arena a = { .poison = true }, scratch_arena = { .poison = true };
    Status s = {0};
    Weights w;
    LoadReport r;
    check_true("random values", params_randomise(toy_walk, &t, &a, 7, &s));
    check_line("save", s.text, params_save(toy_walk, &t, at("toy.safetensors"), T_F32, &scratch_arena, &s) && !scratch_arena.used);
    check_true("open", weights_open_file(&w, at("toy.safetensors"), &s) && w.files == 1 && w.file->entries == TENSORS && w.file->metas == 1);
    const SafeEntry *e = weights_find(&w, "blocks.0.conv1.weight", NULL);
    check_true("in the checkpoint's shape", e && e->rank == 4 && e->size[0] == 5 && e->size[1] == 3 && e->size[2] == 3 && e->size[3] == 2);
    real file[90], order[90];
    int bad = 0;
    safetensors_read(w.file, e, file, &s);
    for (int o = 0; o < 5; o++)
        for (int i = 0; i < 3; i++)
            for (int p = 0; p < 3; p++)
                for (int q = 0; q < 2; q++) bad += file[((o * 3 + i) * 3 + p) * 2 + q] != t.conv.v.x[((o * 3 + p) * 2 + q) * 3 + i];
    check_true("files hold [O,I,kh,kw], memory [O,kh,kw,I]", !bad);
    param_to_file_order(order, t.conv.v, &t.conv);
    check_true("param_to_file_order", !memcmp(order, file, sizeof file));
    check_true("rank 0 stays rank 0", weights_find(&w, "logit_scale", NULL)->rank == 0);
    check_line("load", s.text, params_load(toy_walk, &u, &w, &a, &r, &s) && r.loaded == TENSORS && !r.surplus);
    check_true("every number comes back", same_values(&t, &u));
    for (int i = 0; i < TENSORS; i++) check_true("64-byte aligned", (uintptr_t)each(&u, i)->v.x % 64 == 0);
    check_true("gradients", params_want_gradients(toy_walk, &u, &a, &s) && tensor_same(u.conv.grad, u.conv.v) && u.tokens.grad.x[35] == 0 && !u.absent.grad.x);
    weights_close(&w);
    weights_close(&w);
    u.bias.v = (Tensor){0};
    check_true("no value to save", !params_save(toy_walk, &u, at("no"), T_F32, &scratch_arena, &s) && s.code == E_OPTION && strstr(s.text, "conv1.bias") && scratch_count() == 1);
    s = (Status){0};
    check_true("nowhere to save", !params_save(toy_walk, &t, at("no/folder"), T_F32, &scratch_arena, &s) && s.code == E_WRITE);
    s = (Status){0};
    check_true("as halves", params_save(toy_walk, &t, at("toy.safetensors"), T_F16, &scratch_arena, &s) && weights_open_file(&w, at("toy.safetensors"), &s)
               && params_load(toy_walk, &u, &w, &a, &r, &s) && fabs((double)(u.conv.v.x[4] - t.conv.v.x[4])) <= fabs((double)t.conv.v.x[4]) / 2048);
    weights_close(&w);
    arena_free(&a);
    arena_free(&scratch_arena);
    scratch_empty();
}

/* Kernels transformed while they are read or drawn are those transformed afterwards, bit for bit; the file does not change. */
static Param wide;
static void wide_walk(void *model, Walk *w) { walk_param(w, model, "w"); }

static void transformed(void)
{
    Arena a = {0};
    Run r = { .keep = &a, .temp = &a, .step = &a, .run = &a, .k = &kernels_plain, .threads = 1 };
    Status s = {0};
    Weights w;
    LoadReport report;
    wide = param_conv(64, 3, 3, 3);
    Param held = wide;
    held.layout = WINOGRAD;
    size_t plain_bytes = params_bytes(wide_walk, &wide), bytes = params_bytes(wide_walk, &held);
    check_true("held transformed it takes 16/9", plain_bytes == 64 * 27 * sizeof(real) && bytes == plain_bytes / 9 * 16 && params_count(wide_walk, &held, NULL) == 64 * 27);
    params_randomise(wide_walk, &wide, &a, 5, &s);
    params_save(wide_walk, &wide, at("w"), T_F32, &a, &s);
    Tensor u = tensor_in(&r, &a, winograd_shape(wide.v.s));
    winograd_weights(&r, u, wide.v);
    check_true("a file read", weights_open_file(&w, at("w"), &s) && params_load(wide_walk, &held, &w, &a, &report, &s) && report.loaded == 1);
    check_true("    transformed", tensor_same(held.v, u) && !memcmp(held.v.x, u.x, tensor_count(u) * sizeof(real)));
    held.v = (Tensor){0};
    check_true("random values drawn", params_randomise(wide_walk, &held, &a, 5, &s));
    check_true("    transformed", tensor_same(held.v, u) && !memcmp(held.v.x, u.x, tensor_count(u) * sizeof(real)));
    check_true("gradients are those of the kernels", params_want_gradients(wide_walk, &held, &a, &s) && tensor_same(held.grad, wide.v));
    check_true("saving is refused", !params_save(wide_walk, &held, at("no"), T_F32, &a, &s) && s.code == E_OPTION && strstr(s.text, "transformed"));
    s = (Status){0};
    held.v = (Tensor){0};
    check_true("looking reads nothing", params_check(wide_walk, &held, &w, &report, &s) && report.loaded == 1 && !held.v.x);
    params_forget(wide_walk, &wide);
    check_true("forgotten", !wide.v.x && wide.size[0] == 64);
    wide.size[1] = 4;
    check_true("looking finds what does not fit", !params_check(wide_walk, &wide, &w, &report, &s) && s.code == E_FORMAT && strstr(s.text, "[64,3,3,3], not [64,4,3,3]"));
    weights_close(&w);
    arena_free(&a);
    scratch_empty();
}

/* A convolution of more than one batch of rows, the last batch not full: rows must not be mixed up. */
static Param tall;
static void tall_walk(void *model, Walk *w) { walk_param(w, model, "w"); }

static void batches(void)
{
    Arena a = {0}, b = {0};
    Status s = {0};
    Weights w;
    tall = param_conv(301, 150, 3, 3);
    check_true("a tall convolution", params_randomise(tall_walk, &tall, &a, 1, &s) && params_save(tall_walk, &tall, at("w"), T_F32, &b, &s));
    Tensor was = tall.v;
    check_true("loads", weights_open_file(&w, at("w"), &s) && params_load(tall_walk, &tall, &w, &a, NULL, &s));
    check_true("row by row", tall.v.x != was.x && tensor_same(tall.v, was) && !memcmp(tall.v.x, was.x, tensor_count(was) * sizeof(real)));
    weights_close(&w);
    check_true("scratch is bounded", b.peak < 1 << 20);
    arena_free(&a);
    arena_free(&b);
    scratch_empty();
}

/* ---- what does not fit --------------------------------------------------------------------------------- */

static const real NUMBER[100] = { 1, 2, 3 };
static const int64_t INTEGER[16] = { 1 };
static const SafeOut GOOD[TENSORS] = {
    { "blocks.0.conv1.weight", T_F32, 4, { 5, 3, 3, 2 }, NUMBER, true }, { "blocks.0.conv1.bias", T_F32, 1, { 5 }, NUMBER, true },
    { "blocks.0.shortcut.weight", T_F32, 4, { 4, 6, 1, 1 }, NUMBER, true }, { "text_model.proj.weight", T_F32, 2, { 4, 4 }, NUMBER, true },
    { "mid_block.attentions.0.to_q.weight", T_F32, 2, { 2, 2 }, NUMBER, true }, { "logit_scale", T_F32, 0, { 0 }, NUMBER, true },
    { "norm.weight", T_F32, 1, { 7 }, NUMBER, true }, { "text_model.embeddings.token_embedding.weight", T_F32, 2, { 9, 4 }, NUMBER, true } };

static Status load(const SafeOut *t, int n, Toy *m, LoadReport *r, size_t limit)
{
    Arena a = { .limit = limit };
    Status s = {0};
    Weights w;
    *m = toy();
    safetensors_save(at("m.safetensors"), t, n, NULL, 0, &s);
    if (s.code == OK && weights_open_file(&w, at("m.safetensors"), &s)) {
        bool ok = params_load(toy_walk, m, &w, &a, r, &s);
        for (int i = 0; i < TENSORS; i++)
            if (!each(m, i)->v.x == ok) s.code = E_STOP;  /* all or none */
        if (!ok && a.used) s.code = E_STOP;
        weights_close(&w);
    }
    arena_free(&a);
    return s;
}

static bool says(const Status *s, const char *text) { return strstr(s->text, text) != NULL; }

static void misfits(void)
{
    Toy m;
    LoadReport r = {0};
    SafeOut t[TENSORS + 4];
    memcpy(t, GOOD, sizeof GOOD);
    Status s = load(t, TENSORS, &m, &r, 0);
    check_line("all fit", s.text, s.code == OK && r.loaded == TENSORS && !r.surplus);
    t[TENSORS] = (SafeOut){ "zzz.extra", T_F32, 1, { 3 }, NUMBER, true };
    t[TENSORS + 1] = (SafeOut){ "text_model.embeddings.position_ids", T_I64, 2, { 1, 16 }, INTEGER, false };
    t[TENSORS + 2] = (SafeOut){ "another", T_I64, 1, { 3 }, INTEGER, false };
    s = load(t, TENSORS + 3, &m, &r, 0);
    check_line("surplus is counted, position_ids is not", r.first_surplus, s.code == OK && r.loaded == TENSORS && r.surplus == 2 && !strcmp(r.first_surplus, "another"));
    s = load(t + 2, TENSORS - 2, &m, &r, 0);
    check_line("two missing", s.text, s.code == E_FORMAT && says(&s, "m.safetensors") && says(&s, "2 missing: blocks.0.conv1.weight, blocks.0.conv1.bias"));
    s = load(t, 0, &m, &r, 0);
    check_line("all missing", s.text, s.code == E_FORMAT && says(&s, "8 missing") && says(&s, " more"));
    t[0].size[3] = 1;
    t[6].size[0] = 8;
    s = load(t, TENSORS, &m, &r, 0);
    check_line("two of another shape", s.text, s.code == E_FORMAT && says(&s, "2 of another shape") && says(&s, "blocks.0.conv1.weight is [5,3,3,1], not [5,3,3,2]")
               && says(&s, "norm.weight is [8], not [7]"));
    s = load(t + 1, TENSORS - 1, &m, &r, 0);
    check_line("missing and of another shape, both told", s.text, s.code == E_FORMAT && says(&s, "1 missing: blocks.0.conv1.weight") && says(&s, "norm.weight is [8], not [7]"));
    memcpy(t, GOOD, sizeof GOOD);
    t[3] = (SafeOut){ "text_model.proj.weight", T_I64, 2, { 4, 4 }, INTEGER, false };
    s = load(t, TENSORS, &m, &r, 0);
    check_line("integers where reals belong", s.text, s.code == E_FORMAT && says(&s, "text_model.proj.weight is of type I64"));
    memcpy(t, GOOD, sizeof GOOD);
    t[2].size[0] = 6;
    t[2].size[1] = 4;
    s = load(t, TENSORS, &m, &r, 0);
    check_line("equal counts are not equal shapes", s.text, s.code == E_FORMAT && says(&s, "[6,4,1,1], not [4,6,1,1]"));
}

static void spellings(void)
{
    Toy m;
    LoadReport r = {0};
    SafeOut t[TENSORS];
    memcpy(t, GOOD, sizeof GOOD);
    t[2].rank = 2;                                        /* [4,6] for [4,6,1,1] */
    t[3].rank = 4;                                        /* [4,4,1,1] for [4,4] */
    t[3].size[2] = t[3].size[3] = 1;
    t[5] = (SafeOut){ "logit_scale", T_F32, 1, { 1 }, NUMBER, true };
    Status s = load(t, TENSORS, &m, &r, 0);
    check_line("[C,C,1,1] is [C,C]", s.text, s.code == OK);
    memcpy(t, GOOD, sizeof GOOD);
    t[3].name = "proj.weight";
    t[4].name = "mid_block.attentions.0.query.weight";
    t[7].name = "embeddings.token_embedding.weight";
    s = load(t, TENSORS, &m, &r, 0);
    check_line("other spellings", s.text, s.code == OK && r.loaded == TENSORS && !r.surplus);
    static const char *const pair[][2] = {
        { "decoder.mid_block.attentions.0.to_q.bias", "decoder.mid_block.attentions.0.query.bias" }, { "encoder.mid_block.attentions.10.to_k.weight", "encoder.mid_block.attentions.10.key.weight" },
        { "mid_block.attentions.0.to_v.bias", "mid_block.attentions.0.value.bias" }, { "mid_block.attentions.0.to_out.0.bias", "mid_block.attentions.0.proj_attn.bias" },
        { "text_model.final_layer_norm.bias", "final_layer_norm.bias" }, { "vision_model.pre_layrnorm.bias", "pre_layrnorm.bias" },
        { "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight", NULL }, { "attentions.", NULL }, { "conv_in.weight", NULL }, { "", NULL } };
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        char other[100] = "";
        bool is = names_other(pair[i][0], other, sizeof other);
        check_line(pair[i][0], other, is ? pair[i][1] && !strcmp(other, pair[i][1]) : !pair[i][1]);
    }
    char tiny[4];
    check_true("no room for a name", !names_other("text_model.abcd", tiny, sizeof tiny) && names_other("text_model.abc", tiny, sizeof tiny));
    check_true("what is ignored", names_ignored("a.position_ids") && names_ignored("position_ids") && !names_ignored("position_ids.x") && !names_ignored("my_position_ids"));
}

static void short_memory(void)
{
    Toy m;
    LoadReport r;
    int failures = 0;
    size_t limit = 64;
    Status s = { .code = E_MEMORY };
    for (; s.code == E_MEMORY && limit < 1 << 16; limit += 64) {
        s = load(GOOD, TENSORS, &m, &r, limit);
        failures += s.code == E_MEMORY;
    }
    check_line("too little memory for the weights", s.text, s.code == OK && failures >= (int)(NUMBERS * sizeof(real) / 64));
    Arena a = { .limit = 100 };
    s = (Status){0};
    check_true("for random values", !params_randomise(toy_walk, &m, &a, 1, &s) && s.code == E_MEMORY);
    s = (Status){0};
    check_true("for gradients", !params_want_gradients(toy_walk, &m, &a, &s) && s.code == E_MEMORY);
    s = (Status){0};
    check_true("to save", !params_save(toy_walk, &m, at("x"), T_F32, &a, &s) && s.code == E_MEMORY && !file_exists(at("x")));
    arena_free(&a);
}

/* ---- random values ------------------------------------------------------------------------------------- */

static void random_values(void)
{
    Toy t = toy(), u = toy();
    Arena a = {0};
    Status s = {0};
    params_randomise(toy_walk, &t, &a, 7, &s);
    params_randomise(toy_walk, &u, &a, 7, &s);
    check_true("the same seed, the same numbers", same_values(&t, &u));
    params_randomise(toy_walk, &u, &a, 8, &s);
    check_true("another seed, others", !same_values(&t, &u) && u.bias.v.x[0] != t.bias.v.x[0]);
    check_below("logit_scale", fabs((double)t.scale.v.x[0] - 2.6592), 1e-6);
    Param other = param_conv(301, 150, 3, 3);
    tall = other;
    params_randomise(tall_walk, &tall, &a, 1, &s);
    double n = (double)tensor_count(tall.v), mean = 0, var = 0, kurt = 0, neighbour = 0, fan = 150 * 9;
    for (size_t i = 0; i < tensor_count(tall.v); i++) mean += (double)tall.v.x[i] / n;
    for (size_t i = 0; i < tensor_count(tall.v); i++) {
        double d = (double)tall.v.x[i] - mean;
        var += d * d / n;
        kurt += d * d * d * d / n;
        if (i) neighbour += d * ((double)tall.v.x[i - 1] - mean) / n;
    }
    check_below("mean 0 (406 350 numbers: 5 standard errors)", fabs(mean) * sqrt(fan), 5 / sqrt(n));
    check_below("variance 1/fan_in (5 standard errors)", fabs(var * fan - 1), 5 * sqrt(1.7 / n));       /* var of n^2: kurtosis 2.7 - 1 */
    check_below("kurtosis of four uniforms: 3 - 1.2/4", fabs(kurt / (var * var) - 2.7), 0.05);          /* 5 standard errors are 0.03 */
    check_below("neighbours are not related", fabs(neighbour / var), 5 / sqrt(n));
    arena_free(&a);
}

/* ---- folders ------------------------------------------------------------------------------------------- */

static void put_tensor(const char *file, const char *name, real value)
{
    Status s = {0};
    safetensors_save(at(file), &(SafeOut){ name, T_F32, 1, { 1 }, &value, true }, 1, NULL, 0, &s);
}

static double opened(Status *s)                           /* the value of "x" in what weights_open takes; -1: none */
{
    Weights w;
    const Safetensors *in = NULL;
    real v = -1;
    *s = (Status){0};
    if (!weights_open(&w, scratch, "model", s)) return -1;
    const SafeEntry *e = weights_find(&w, "x", &in);
    if (e) weights_read_part(&w, in, e, 0, 1, &v, s);
    weights_close(&w);
    return (double)v;
}

static void folders(void)
{
    static const char *const name[] = { "model.non_ema.safetensors", "model.bf16.safetensors", "model.fp16.safetensors", "model.safetensors.index.json", "model.safetensors" };
    Status s;
    check_true("an empty folder", opened(&s) == -1 && s.code == E_FILE && says(&s, "model.safetensors"));
    put_text(at("pytorch_model.bin"), "PK");
    check_line("a checkpoint that is none", s.text, opened(&s) == -1 && s.code == E_FORMAT && says(&s, "pytorch_model.bin") && says(&s, "not_zip"));
    put_text(at("model.ckpt"), "PK");
    check_true("another", opened(&s) == -1 && s.code == E_FORMAT && says(&s, "model.ckpt"));
    for (int i = 0; i < 5; i++) {                         /* each goes before those already there */
        if (i == 3) {
            put_tensor("shard", "x", i);
            put_text(at(name[i]), "{\"metadata\":{},\"weight_map\":{\"x\":\"shard\"}}");
        } else put_tensor(name[i], "x", (real)i);
        check_line("goes before the others", name[i], opened(&s) == i && s.code == OK);
    }
    scratch_empty();
    Weights w;
    s = (Status){0};
    check_true("no such folder", !weights_open(&w, at("none"), "model", &s) && s.code == E_FILE);
    weights_close(&w);
}

static void index_is(const char *text, Code code, const char *said)
{
    Status s;
    put_text(at("model.safetensors.index.json"), text);
    double v = opened(&s);
    check_line(text, s.text, s.code == code && (code == OK ? v == 1 : says(&s, said)));
}

static void indexes(void)
{
    put_tensor("a-1.safetensors", "x", 1);
    put_tensor("a-2.safetensors", "y", 2);
    put_tensor("a-3.safetensors", "x", 3);
    put_text(at("bad.safetensors"), "nothing");
    mkdir(at("sub"), 0777);
    put_tensor("sub/x.safetensors", "x", 4);
    mkfifo(at("pipe"), 0600);
    index_is("{\"weight_map\":{\"y\":\"a-2.safetensors\",\"x\":\"a-1.safetensors\"}}", OK, "");
    index_is("{\"metadata\":{\"total_size\":4},\"weight_map\":{\"x\":\"a-1.safetensors\"}}", OK, "");
    index_is("{\"weight_map\":{\"x\":\"../a-1.safetensors\"}}", E_FORMAT, "\"x\"");
    index_is("{\"weight_map\":{\"x\":\"sub/x.safetensors\"}}", E_FORMAT, "\"x\"");
    index_is("{\"weight_map\":{\"x\":\"sub\\\\x.safetensors\"}}", E_FORMAT, "\"x\"");
    index_is("{\"weight_map\":{\"x\":\"/etc/passwd\"}}", E_FORMAT, "\"x\"");
    index_is("{\"weight_map\":{\"x\":\"..\"}}", E_FORMAT, "\"x\"");
    index_is("{\"weight_map\":{\"x\":\"\"}}", E_FORMAT, "\"x\"");
    index_is("{\"weight_map\":{\"x\":\"a-1.safetensors\\u0000/../b\"}}", E_FORMAT, "\"x\"");
    index_is("{\"weight_map\":{\"x\":7}}", E_FORMAT, "\"x\"");
    index_is("{\"weight_map\":{\"x\\u0000\":\"a-1.safetensors\"}}", E_FORMAT, "NUL");
    index_is("{\"weight_map\":{\"x\":\"a-2.safetensors\"}}", E_FORMAT, "\"x\"");
    index_is("{\"weight_map\":{\"x\":\"a-1.safetensors\",\"z\":\"a-2.safetensors\"}}", E_FORMAT, "\"z\"");
    index_is("{\"weight_map\":{\"x\":\"a-1.safetensors\",\"x\":\"a-3.safetensors\"}}", E_FORMAT, "duplicate");
    put_text(at("pad"), "");
    safetensors_save(at("a-4.safetensors"), (SafeOut[]){ { "x", T_F32, 1, { 1 }, NUMBER, true }, { "z", T_F32, 1, { 1 }, NUMBER, true } }, 2, NULL, 0, &(Status){0});
    index_is("{\"weight_map\":{\"x\":\"a-1.safetensors\",\"z\":\"a-4.safetensors\"}}", E_FORMAT, "two of its files");
    index_is("{\"weight_map\":{\"x\":\"a-9.safetensors\"}}", E_FILE, "a-9.safetensors");
    index_is("{\"weight_map\":{\"x\":\"pipe\"}}", E_FILE, "pipe");
    index_is("{\"weight_map\":{\"x\":\"sub\"}}", E_FILE, "sub");
    index_is("{\"weight_map\":{\"x\":\"bad.safetensors\"}}", E_FORMAT, "bad.safetensors");
    index_is("{\"weight_map\":{}}", E_FORMAT, "weight_map");
    index_is("{\"weight_map\":[]}", E_FORMAT, "weight_map");
    index_is("{}", E_FORMAT, "weight_map");
    index_is("[1]", E_FORMAT, "weight_map");
    index_is("{", E_FORMAT, "byte 1");
    index_is("", E_FORMAT, "byte 0");
    remove(at("sub/x.safetensors"));
    scratch_empty();
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    int free_descriptor = dup(0);
    close(free_descriptor);
    walking();
    save_and_load();
    transformed();
    batches();
    misfits();
    spellings();
    short_memory();
    random_values();
    folders();
    indexes();
    int still_free = dup(0);
    check_true("no descriptor is left open", still_free == free_descriptor);
    close(still_free);
    scratch_remove();
    return check_done();
}
