/* guided_mixing.c -- how a guided run mixes its predictions: classifier-free guidance where no method brings its own branches,
 * its relatives over whatever mixes, and composed prompts as further branches. */
#include <string.h>
#include "guidance/cfg_method.h"
#include "ref/guided.h"

static const char *const composed_name[GUIDED_COMPOSED] = { "composed 1", "composed 2", "composed 3", "composed 4" };

static Method composed(const Guided *g, Branch *b)
{
    for (int j = 0; j < g->q->composed; j++)
        b[j] = (Branch){ .name = composed_name[j], .context = g->composed[j], .mix = mix_composed, .par = { g->q->compose[j].weight } };
    return (Method){ .name = "composed prompts", .branch = b, .branches = g->q->composed };
}

/* Branches as they are, with the run's interval, and in `uncond` what composed prompts take. */
static const Branch *with_mixing(Guided *g, const Branch *from, int n, double others)
{
    const double *v = g->q->mixing;
    Branch *b = arena_take(g->p->run.run, (size_t)n * sizeof *b);
    if (!b) run_fail(&g->p->run, E_MEMORY, "out of memory: branches");
    for (int i = 0; b && i < n; i++) {
        b[i] = from[i];
        if (b[i].mix != mix_uncond && b[i].mix != mix_cond && b[i].mix != mix_composed) continue;
        b[i].par[1] = v ? v[CFG_LOW] : 0;
        b[i].par[2] = v ? v[CFG_HIGH] : 0;
        if (b[i].mix == mix_uncond) b[i].par[3] = others;
    }
    return b;
}

/* A reference goes along without the composed prompts: they are part of the edit. */
static void set_mixing(Guided *g, Method *m, double others)
{
    Run *r = &g->p->run;
    if (!(others < 0 || others > 0) && !(g->q->mixing && g->q->mixing[CFG_HIGH] > 0)) return;
    if (m->branches) m->branch = with_mixing(g, m->branch, m->branches, others);
    if (!m->references) return;
    Reference *ref = arena_take(r->run, (size_t)m->references * sizeof *ref);
    if (!ref) run_fail(r, E_MEMORY, "out of memory: references");
    for (int j = 0; ref && j < m->references; j++) {
        ref[j] = m->reference[j];
        ref[j].branch = with_mixing(g, ref[j].branch, ref[j].branches, 0);
    }
    m->reference = ref;
}

/* The place a branch will have among the run's: names in order of appearance. */
static int branch_place(const Method *part, int parts, const char *name)
{
    const char *seen[64];
    int n = 0;
    for (int k = 0; k < parts; k++)
        for (int i = 0; i < part[k].branches && n < 64; i++) {
            int j = 0;
            while (j < n && strcmp(seen[j], part[k].branch[i].name)) j++;
            if (j == n) seen[n++] = part[k].branch[i].name;
        }
    for (int j = 0; j < n; j++)
        if (!strcmp(seen[j], name)) return j;
    return -1;
}

bool guided_mixing(Guided *g, const MethodInput *in, bool mixed)
{
    Run *r = &g->p->run;
    Branch *b = arena_take(r->run, GUIDED_COMPOSED * sizeof *b);
    CfgRemix *remix = arena_take(r->run, sizeof *remix);
    double others = 0;
    if (!b || !remix) run_fail(r, E_MEMORY, "out of memory: branches");
    if (!run_ok(r) || !method_cfg.build(r, &g->plain[0], in)) return false;
    for (int j = 0; j < g->q->composed; j++) others += g->q->compose[j].weight;
    Method *m = &g->part[g->parts++];
    *m = g->plain[0];
    if (mixed) m->branches = 0;
    if (g->q->composed) g->part[g->parts++] = g->plain[1] = composed(g, b);
    g->plains = 1 + (g->q->composed > 0);
    for (int k = 0; k < g->parts && run_ok(r); k++) set_mixing(g, &g->part[k], others);
    for (int k = 0; k < g->plains && run_ok(r); k++) set_mixing(g, &g->plain[k], others);
    g->cond = branch_place(g->part, g->parts, "cond");
    *remix = *(const CfgRemix *)g->plain[0].state;
    remix->uncond = branch_place(g->part, g->parts, "uncond");
    remix->cond = g->cond;
    m->state = remix;
    return run_ok(r);
}
