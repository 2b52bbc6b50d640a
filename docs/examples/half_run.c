/* half_run.c -- a run with the energy of half.c.   half_run WORD STRENGTH STEPS OUT.png
 * Prints, step by step, the energy, the norm of its gradient and the push |v sigma g| / |eps|. */
#include <stdio.h>
#include <stdlib.h>
#include "docs/examples/half.c"
#include "guidance/selfguide.h"
#include "ref/guided.h"
#include "ref/image.h"
#include "tensor/file.h"

static double early(const Clock *c, const double *par) { return c->i < par[0] * c->n ? 1 : 0; }

static void report(const Guided *g)
{
    printf("step    t  energy  gradient   push\n");
    for (int i = 0; i < g->reports && g->report[i].backwards; i++) {
        const GuideReport *s = &g->report[i];
        printf("%4d  %3d  %.4f  %.2e  %.4f\n", i, s->clock.t, (double)s->energy, s->grad_norm, s->push);
    }
}

int main(int n, char **argument)
{
    static Pipeline p;
    static Guided g;
    const char *word = n > 1 ? argument[1] : "car";
    double v = n > 2 ? atof(argument[2]) : 10;
    Status *s = &p.run.status;
    if (!pipeline_open(&p, &(PipelineSetup){ .model = "data/tiny-model", .blas = true })) return fprintf(stderr, "%s\n", s->text), 1;

    GuidedRequest q = { .base = pipeline_request(), .object = &word, .objects = 1 };
    q.base.prompt = "a photo of a red car on grass";
    q.base.seed = 7, q.base.scale = 5, q.base.W = q.base.H = 128, q.base.steps = n > 3 ? atoi(argument[3]) : 25;
    if (guided_open(&g, &p, &q, NULL)) {
        Half half = { g.object[0].token[0] };
        Energy energy = { "half", half_want, 1, NULL, -1, half_energy, &half, 1 };
        Branch watched = { .name = "cond", .watch = true };
        Rule rule = { .energy = &energy, .energies = 1, .leaf = BY_Z, .into = TO_EPS, .gain = self_gain, .par = { v },
                      .strength = early, .when = { 0.6 } };
        g.part[g.parts++] = (Method){ .name = "half", .branch = &watched, .branches = 1, .rule = &rule, .rules = 1 };

        Tensor z;
        Image m;
        size_t size;
        if (guided_sample(&g, &z, q.base.seed, false)) m.rgb = (uint8_t *)(uintptr_t)pipeline_decode(&p, z, &m.W, &m.H);
        report(&g);
        const uint8_t *png = run_ok(&p.run) ? image_png(p.run.run, &m, NULL, 0, &size, s) : NULL;
        if (png && n > 4) file_save(argument[4], png, size, s);
    }
    if (!run_ok(&p.run)) fprintf(stderr, "%s\n", s->text);
    guided_close(&g);
    pipeline_close(&p);
    return !run_ok(&p.run);
}
