/* plugplay.h -- Plug-and-Play diffusion features (Tumanyan et al., arXiv 2211.12572): a text-driven run whose decoder takes
 * over, from the source at the same step,
 *
 *     while i < int(n f)   the output of the second convolution of resnet 1 in up block 1 (before its shortcut is added)
 *     while i < int(n a)   queries and keys of the self-attention from the same place on
 * f = 0.8, a = 0.5.  The source is an inverted image (its latents stored, the empty text), or a run beside under its own text.
 * Source: the authors' release for diffusers. */
#ifndef GUIDANCE_PLUGPLAY_H
#define GUIDANCE_PLUGPLAY_H
#include "guidance/methods.h"

enum { PLUG_SITES = 512 };
/* The places for a network of any number of levels, counted from the input of the decoder as in Stable Diffusion:
 * resnet 1 of up block 1 (of block 0 when it is the only one), attention 1 and later there, all attention in later blocks. */
typedef struct { char feature[PLUG_SITES], attention[PLUG_SITES]; } PlugSites;
bool plugplay_sites(Run *r, PlugSites *s, const UnetConfig *c);

/* The source's value takes the place of ours: a constant, so no gradient passes. */
void plugplay_put(const Write *w, Run *r, const Clock *c, const char *site, Tensor val, const Sight *ref, void *state);
double plugplay_until(const Clock *c, const double *par);                    /* 1 while i < int(n par[0]) */
/* write[3]: feature, query, key, all from reference 0. */
void plugplay_writes(Write *write, const char *feature, const char *attention, double f, double a);

extern const MethodInfo method_plugplay;
#endif
