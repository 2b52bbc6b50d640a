#include <string.h>
#include "guidance/asyrp.h"
#include "guidance/cfg.h"
#include "guidance/cfg_method.h"
#include "guidance/classifier.h"
#include "guidance/diffuseit_method.h"
#include "guidance/methods.h"
#include "guidance/multi.h"
#include "guidance/nulltext.h"
#include "guidance/pix2pixzero.h"
#include "guidance/plugplay.h"
#include "guidance/prompt2prompt.h"
#include "guidance/selfguide.h"
#include "guidance/suppress.h"

const MethodInfo *const methods_all[] = {
    &method_selfguide, &method_pixzero, &method_prompt2prompt, &method_plugplay, &method_nulltext,
    &method_attend, &method_astar, &method_suppress, &method_multi, &method_classifier, &method_asyrp, &method_diffuseit, &method_cfg, NULL
};

const MethodInfo *methods_find(const char *name)
{
    for (int i = 0; methods_all[i]; i++)
        if (!strcmp(methods_all[i]->name, name)) return methods_all[i];
    return NULL;
}

int methods_option(const MethodInfo *m, const char *name)
{
    for (int i = 0; i < m->options; i++)
        if (!strcmp(m->option[i].name, name)) return i;
    return -1;
}

static bool guided(const Clock *c, const double *par) { return !(par[2] > 0) || cfg_inside(par[1], par[2], c->ab); }

double mix_uncond(const Clock *c, const double *par) { return c->n && guided(c, par) ? 1 - par[0] - par[3] : 0; }
double mix_cond  (const Clock *c, const double *par) { return !c->n ? 0 : guided(c, par) ? par[0] : 1; }
double mix_composed(const Clock *c, const double *par) { return c->n && guided(c, par) ? par[0] : 0; }
