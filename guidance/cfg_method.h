/* cfg_method.h -- classifier-free guidance as a method of its own, with its relatives: an interval of noise (2404.07724), the
 * projected difference (2410.02416) and rescale (2305.08891).  Prompts composed (2206.01714) are further branches.
 *
 *     e = u + w (c - u) + sum_j w_j (c_j - u)   where low < sigma <= high, else e = c;   then + w (d' - d), then rescaled
 *
 * Every method mixes "uncond" and "cond" by mix_uncond and mix_cond (methods.h), so what is set here holds for all of them. */
#ifndef GUIDANCE_CFG_METHOD_H
#define GUIDANCE_CFG_METHOD_H
#include "guidance/methods.h"

enum { CFG_LOW, CFG_HIGH, CFG_PROJECTION, CFG_NORM_CAP, CFG_RESCALE, CFG_NUMBERS };
typedef struct {
    double scale, eta, norm_cap, phi;                     /* eta 1 and norm_cap 0, phi 0: nothing is done */
    int uncond, cond;                                     /* places among the run's branches; -1: not there */
} CfgRemix;

/* A Method's remix; state is a CfgRemix.  The projected difference takes the place of the plain one wherever uncond was run. */
void cfg_remix(const Clock *c, Run *r, const Tensor *b, Tensor eps, void *state);

extern const MethodInfo method_cfg;                       /* its state is a CfgRemix with places 0 and 1 */
#endif
