#include <limits.h>
#include <math.h>
#include <string.h>
#include "ref/oneline.h"
#include "ref/progress.h"
#include "ref/stop.h"
#include "ref/tensor_list.h"
#include "ref/verbs.h"

enum { PORTION = 1 << 16, LARGEST_HALF = 65520 };         /* numbers at a time; from here on a half is infinite */
static const uint64_t UNFOLDED_MOST = 64, SMALL = 1 << 30; /* shared and repeated tensors may take this many times the file, and 1 GiB */

typedef struct { Common common; const char *branch, *strip; bool f16, f32, list, dry_run; } Convert;

#define AT(member) offsetof(Convert, member)
static const Option row[] = {
    { "branch",  'b', OPTION_TEXT, AT(branch),  0, 0, NULL, "NAME", "of a checkpoint, the place that holds the tensors, as teacher or optimizer/state; \"\" for the top [default: "
      "the top, state_dict, teacher, place 4 of a list, 0, or the only one]", NULL },
    { "strip",   0,   OPTION_TEXT, AT(strip),   0, 0, NULL, "PREFIX", "what is taken off the beginning of names; \"\" for nothing [default: module. and backbone. for a checkpoint, "
      "else nothing]", NULL },
    { "f16",     0,   OPTION_FLAG, AT(f16),     0, 0, NULL, NULL, "write numbers with a fraction as halves", NULL },
    { "f32",     0,   OPTION_FLAG, AT(f32),     0, 0, NULL, NULL, "write them as floats; without either they stay as they are stored", NULL },
    { "list",    'l', OPTION_FLAG, AT(list),    0, 0, NULL, NULL, "list the tensors of all branches, and stop; no number is read", NULL },
    { "dry-run", 0,   OPTION_FLAG, AT(dry_run), 0, 0, NULL, NULL, "list what would be written, and stop", NULL },
    JSON_OPTION,
};
static const OptionPage page = {
    "convert", "A checkpoint of torch to safetensors.", "tiller convert dino_deitsmall8_pretrain.pth model.safetensors", "FILE [OUT]", 1, 2,
    "FILE is what torch.save wrote (.pt, .pth, .ckpt, .bin), or safetensors. Of a checkpoint tensors alone are read: the pickle in it is interpreted "
    "by a machine that can build nothing else, and executes nothing. OUT appears whole or not at all.", { TABLE("Conversion", row), COMMON_TABLE }
};

typedef struct {
    Convert g;
    Console *c;
    Weights w;
    const char *from, *to;
    Arena a;
    SafeOut *out;
    int n;
    int nonfinite, overflown;                             /* tensors */
    char first_nonfinite[ONELINE], first_overflown[ONELINE];
} Conversion;

static bool options_agree(Conversion *v, Status *s)
{
    if (v->g.f16 && v->g.f32) status_fail(s, E_OPTION, "--f16 and --f32: one of them is wanted");
    else if (!v->to && !v->g.dry_run) status_fail(s, E_OPTION, "OUT is wanted, the file to write; --list and --dry-run need none");
    else if (v->to && (strlen(v->to) < 12 || strcmp(v->to + strlen(v->to) - 12, ".safetensors")))
        status_fail(s, E_OPTION, "\"%.200s\": the name of the output must end in .safetensors", v->to);
    return s->code == OK;
}

static Dtype written_as(const Conversion *v, Dtype stored)
{
    if (stored > T_BF16 || (!v->g.f16 && !v->g.f32)) return stored;
    return v->g.f16 ? T_F16 : T_F32;
}

static bool describe(Conversion *v, Status *s)
{
    const Safetensors *in = v->w.file;
    uint64_t bytes = 0;
    v->out = arena_take(&v->a, (size_t)in->entries * sizeof *v->out);
    if (!v->out) status_fail(s, E_MEMORY, "%s: no memory for its list of tensors", v->from);
    for (int i = 0; i < in->entries && s->code == OK; i++) {
        const SafeEntry *e = &in->entry[i];
        SafeOut *o = &v->out[v->n++];
        *o = (SafeOut){ .name = e->name, .type = written_as(v, e->type), .rank = e->rank, .from = e };
        o->is_real = o->type != e->type;
        bytes += e->count * dtype_size(o->type);
        for (int k = 0; k < e->rank; k++) {
            if (e->size[k] > INT_MAX) status_fail(s, E_FORMAT, "%s: tensor \"%.160s\": a size beyond 2^31", v->from, e->name);
            o->size[k] = (int)e->size[k];
        }
    }
    if (bytes / UNFOLDED_MOST > in->file.size && bytes > SMALL)
        status_fail(s, E_FORMAT, "%s: its %.1f MB would become %.1f MB: tensors that repeat or share numbers on a scale no model does", v->from,
                    (double)in->file.size / 1e6, (double)bytes / 1e6);
    return s->code == OK;
}

static void list(const Conversion *v)
{
    TensorSum sum = {0};
    for (int i = 0; i < v->n; i++) {
        const SafeEntry *e = v->out[i].from;
        tensor_line(v->c, &sum, v->out[i].name, v->out[i].type, e->rank, e->size);
    }
    tensor_sum(v->c, &sum, v->to ? v->to : v->from);
}

static void watch(Conversion *v, const char *name, const real *x, size_t n, bool *nonfinite, bool *overflown, bool half)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) *nonfinite = true;
        else if (half && fabs((double)x[i]) >= LARGEST_HALF) *overflown = true;
    }
    if (*nonfinite && !v->nonfinite) oneline(v->first_nonfinite, sizeof v->first_nonfinite, name);
    if (*overflown && !v->overflown) oneline(v->first_overflown, sizeof v->first_overflown, name);
}

static bool copy(Conversion *v, SafeWriter *w, const SafeOut *o, unsigned char *raw, real *x, Status *s)
{
    const SafeEntry *e = o->from;
    bool nonfinite = false, overflown = false, fraction = e->type <= T_BF16;
    for (uint64_t at = 0; at < e->count && s->code == OK; at += PORTION) {
        uint64_t n = e->count - at < PORTION ? e->count - at : PORTION;
        if (stop_asked(NULL)) status_fail(s, E_STOP, "stopped while %s was converted", v->from);
        if (s->code != OK || !weights_bytes(&v->w, v->w.file, e, at, n, raw, s)) return false;
        if (fraction) dtype_to_real(e->type, raw, (size_t)n, x);
        if (fraction) watch(v, o->name, x, (size_t)n, &nonfinite, &overflown, o->type == T_F16 && o->is_real);
        safetensors_put(w, o->is_real ? (const void *)x : raw, n, s);
    }
    v->nonfinite += nonfinite;
    v->overflown += overflown;
    return s->code == OK;
}

/* What the file says of itself stays; for the rest, where it came from. */
static bool metadata(Conversion *v, const char ***meta, int *metas, Status *s)
{
    const Safetensors *in = v->w.file;
    static char name[ONELINE];
    const char **m = arena_take(&v->a, (size_t)(2 * in->metas + 6) * sizeof *m);
    if (!m) {
        status_fail(s, E_MEMORY, "%s: no memory for its metadata", v->from);
        return false;
    }
    *meta = m;
    *metas = in->metas;
    bool format = false;
    for (int i = 0; i < 2 * in->metas; i++) *m++ = in->meta[i];
    for (int i = 0; i < in->metas; i++) format |= !strcmp(in->meta[2 * i], "format");
    if (!format) *m++ = "format", *m++ = "pt", ++*metas;  /* without it other programs refuse the file */
    if (!v->w.torch) return true;
    *m++ = "converted_from", *m++ = base_name(v->from, name, sizeof name), ++*metas;
    if (v->g.branch) *m++ = "branch", *m++ = v->g.branch, ++*metas;
    return true;
}

static bool write_all(Conversion *v, Status *s)
{
    SafeWriter w = { .out = { .fd = -1 } };
    Progress g;
    const char **meta = NULL;
    int metas = 0;
    unsigned char *raw = arena_take(&v->a, (size_t)PORTION * 8);
    real *x = arena_take(&v->a, PORTION * sizeof *x);
    if (!raw || !x) status_fail(s, E_MEMORY, "%s: no memory to convert", v->from);
    bool ok = s->code == OK && metadata(v, &meta, &metas, s) && safetensors_begin(&w, v->to, v->out, v->n, meta, metas, s);
    progress_begin(&g, v->c, "tensor", v->n);
    for (int i = 0; i < v->n && ok; i++) {
        ok = copy(v, &w, &v->out[i], raw, x, s);
        progress_step(&g, i + 1);
    }
    progress_clear(&g);
    ok = ok && safetensors_finish(&w, s);
    if (!ok) safetensors_abandon(&w);
    return ok;
}

static void tell(const Conversion *v)
{
    TensorSum sum = { .tensors = v->n };
    if (v->nonfinite) console_warning(v->c, "%d tensor%s NaN or infinity, the first is %s", v->nonfinite, v->nonfinite == 1 ? " holds" : "s hold", v->first_nonfinite);
    if (v->overflown) console_warning(v->c, "%d tensor%s numbers beyond a half's 65504, now infinite; the first is %s", v->overflown, v->overflown == 1 ? " has" : "s have", v->first_overflown);
    for (int i = 0; i < v->n; i++) {
        const SafeEntry *e = v->out[i].from;
        sum.numbers += e->count;
        sum.bytes += e->count * dtype_size(v->out[i].type);
    }
    if (v->c->json) tensor_sum(v->c, &sum, v->to);
    console_note(v->c, "%s: %d tensors, %llu numbers, %.1f MB", v->to, v->n, (unsigned long long)sum.numbers, (double)sum.bytes / 1e6);
}

int verb_convert(int argc, char **argv)
{
    static Conversion v;
    Console c;
    Status s = {0};
    char *rest[2];
    int rests, code;
    v = (Conversion){ .c = &c };
    if (!verb_begin(&c, &page, &v.g, argc, argv, rest, &rests, &code)) return code;
    v.from = rest[0];
    v.to = rests > 1 ? rest[1] : NULL;
    if (v.g.list) tensor_list(&c, v.from, &s);
    else if (options_agree(&v, &s) && weights_open_branch(&v.w, v.from, v.g.branch, v.g.strip, &s) && describe(&v, &s)) {
        if (v.g.dry_run) list(&v);
        else if (write_all(&v, &s)) tell(&v);
    }
    weights_close(&v.w);
    arena_free(&v.a);
    return verb_end(&c, &s);
}
