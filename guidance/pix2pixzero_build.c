#include "guidance/pix2pixzero.h"
#include "tensor/point.h"

enum { XA_GUIDANCE, OPTIONS };
static const MethodOption option[OPTIONS] = {
    [XA_GUIDANCE] = { "xa-guidance", 0.1, 0, 1e4, "lambda_xa", "step along the gradient of the attention difference; 0.1 for photographs, 0.15 for generated pictures" },
};

static const Want want_maps[] = { { SEE_PROBS, "*.attn2" } };
static double always(const Clock *c, const double *par) { return c->n ? par[0] : 0; }

typedef struct { Branch branch[4]; Reference reference; Energy energy; Rule rule; } Edit;

/* The reference follows the source's text, the edit the source's text + direction (without a direction: the prompt). */
static bool build(Run *r, Method *m, const MethodInput *in)
{
    Edit *e = arena_take(r->run, sizeof *e);
    Tensor source = in->source.x ? in->source : in->cond, cond = in->cond;
    if (!e) {
        run_fail(r, E_MEMORY, "out of memory: pix2pix-zero");
        return false;
    }
    if (in->direction.x) {
        cond = tensor_in(r, r->run, source.s);
        blend(r, cond, 1, source, 1, tensor_as(in->direction, source.s));
    }
    Branch *b = e->branch;
    b[0] = b[2] = (Branch){ .name = "uncond", .context = in->uncond, .mix = mix_uncond, .par = { in->scale }, .watch = true, .own_z = true };
    b[1] = b[3] = (Branch){ .name = "cond", .context = cond, .mix = mix_cond, .par = { in->scale }, .watch = true, .own_z = true };
    b[3].context = source;
    e->reference = (Reference){ REFERENCE_LOCKSTEP, b + 2, 2, {0}, NULL, NULL };
    e->energy = (Energy){ "maps", want_maps, 1, NULL, 0, pixzero_maps, NULL, 1 };
    e->rule = (Rule){ .energy = &e->energy, .energies = 1, .leaf = BY_Z, .into = TO_Z, .gain = pixzero_gain, .par = { in->number[XA_GUIDANCE] },
                      .strength = always, .when = { in->number[XA_GUIDANCE] > 0 }, .inner = 1 };
    *m = (Method){ .name = "pix2pix-zero", .reference = &e->reference, .references = 1, .branch = b, .branches = 2, .rule = &e->rule, .rules = 1,
                   .carries = "uncond" };
    return run_ok(r);
}

const MethodInfo method_pixzero = {
    "pix2pix-zero", "Pix2Pix-Zero", "Parmar et al., arXiv 2302.03027",
    "turn one thing into another along a direction between two sets of sentences, keeping the layout",
    "x <- x - lambda_xa d/dx sum_layers |M - M_ref|^2,  text c + (mean E(target) - mean E(source))",
    "tiller edit --method pix2pix-zero --image in.png --source cat --target dog",
    option, OPTIONS, true, false, build,
};
