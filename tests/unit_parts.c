/* unit_parts.c -- parameters that are some rows of a fused tensor: loading, saving, random values, both orders of rows. */
#include "nn/param.h"
#include "tests/check.h"
#include "tests/files.h"

enum { C = 4, IN = 3, PARTS = 3 };
typedef struct { Param w[PARTS], b[PARTS], whole, bias; bool short_walk; } Toy;

static Toy fused(int block)
{
    Toy t = { .whole = param_none(), .bias = param_none() };
    for (int i = 0; i < PARTS; i++) {
        t.w[i] = param_part(param_matrix(C, IN), i, PARTS, block);
        t.b[i] = param_part(param_vector(C), i, PARTS, block);
    }
    return t;
}

static Toy plain(void)
{
    Toy t = { .whole = param_matrix(PARTS * C, IN), .bias = param_vector(PARTS * C) };
    for (int i = 0; i < PARTS; i++) t.w[i] = t.b[i] = param_none();
    return t;
}

static void toy_walk(void *model, Walk *w)
{
    Toy *t = model;
    size_t before = walk_enter(w, "attn.qkv");
    for (int i = 0; i < PARTS - t->short_walk; i++) {
        walk_param(w, &t->w[i], "weight");
        walk_param(w, &t->b[i], "bias");
    }
    walk_param(w, &t->whole, "weight");
    walk_param(w, &t->bias, "bias");
    walk_leave(w, before);
}

/* Row o of part i is row file_row of the fused tensor. */
static int file_row(int o, int i, int block) { return (o / block * PARTS + i) * block + o % block; }

static bool as_whole(const Toy *t, const Toy *all, int block)
{
    bool same = true;
    for (int i = 0; i < PARTS; i++)
        for (int o = 0; o < C; o++) {
            int row = file_row(o, i, block);
            same = same && !memcmp(t->w[i].v.x + o * IN, all->whole.v.x + row * IN, IN * sizeof(real)) && t->b[i].v.x[o] == all->bias.v.x[row];
        }
    return same;
}

static void round_trip(int block)
{
    Toy t = fused(block), u = fused(block), all = plain();
    Arena a = { .poison = true }, work = { .poison = true };
    Status s = {0};
    Weights w;
    LoadReport r;
    int n;
    check_true("counted as the file has them", params_count(toy_walk, &t, &n) == PARTS * C * (IN + 1) && n == 2);
    check_true("found: part 0", params_find(toy_walk, &t, "attn.qkv.bias") == &t.b[0]);
    check_true("random", params_randomise(toy_walk, &t, &a, 3, &s) && params_randomise(toy_walk, &all, &a, 3, &s));
    check_true("random numbers are those of the fused tensor", as_whole(&t, &all, block));
    check_line("save", s.text, params_save(toy_walk, &t, at("parts.safetensors"), T_F32, &work, &s) && !work.used);
    params_forget(toy_walk, &all);
    check_true("open", weights_open_file(&w, at("parts.safetensors"), &s) && w.file->entries == 2);
    check_line("read as one tensor", s.text, params_load(toy_walk, &all, &w, &a, &r, &s) && r.loaded == 2 && as_whole(&t, &all, block));
    check_line("read as parts", s.text, params_load(toy_walk, &u, &w, &a, &r, &s) && r.loaded == 2 && !r.surplus && as_whole(&u, &all, block));
    check_true("gradients of their own", params_want_gradients(toy_walk, &u, &a, &s) && u.w[1].grad.x && u.w[1].grad.x != u.w[2].grad.x);
    u.w[0].size[0] = u.w[1].size[0] = u.w[2].size[0] = u.w[0].block = u.w[1].block = u.w[2].block = 5;
    check_true("of another size", !params_load(toy_walk, &u, &w, &a, &r, &s));
    check_line("is refused once, with the file's shape", s.text, strstr(s.text, "1 of another shape or type: attn.qkv.weight is [12,3], not [15,3]") != NULL);
    weights_close(&w);
    arena_free(&a);
    arena_free(&work);
}

static void refusals(void)
{
    Toy t = fused(C);
    Arena a = {0}, work = {0};
    Status s = {0};
    Weights w;
    t.short_walk = true;
    params_randomise(toy_walk, &t, &a, 3, &s);
    check_line("a part that is not walked", s.text, !params_save(toy_walk, &t, at("short.safetensors"), T_F32, &work, &s) && s.code == E_OPTION);
    s = (Status){0};
    check_true("open", weights_open_file(&w, at("parts.safetensors"), &s));
    Toy other = fused(C);
    for (int i = 0; i < PARTS; i++) other.b[i].size[0] = other.b[i].block = C + 1;
    check_true("a bias of another size", !params_check(toy_walk, &other, &w, NULL, &s) && s.code == E_FORMAT && strstr(s.text, "attn.qkv.bias is [12], not [15]"));
    weights_close(&w);
    arena_free(&a);
    arena_free(&work);
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    round_trip(C);
    round_trip(C / 2);
    refusals();
    scratch_remove();
    return check_done();
}
