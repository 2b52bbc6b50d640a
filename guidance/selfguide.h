/* selfguide.h -- Diffusion Self-Guidance (Epstein et al., arXiv 2306.00986): energies of what an object's attention maps
 * say about its place, size, shape and look.
 *
 *     centroid    |c(A) - target|            target: a point, or the reference's centroid + shift
 *     size        |mean mask(A) - target|    target: mul * reference's size + add
 *     shape       |mask(A) - M|              M: the reference's hard (or soft) mask, perhaps warped
 *     appearance  |a(F, m) - a(F_ref, m_ref)|      a: mask-weighted mean of features (maps.h)
 *
 * All are means over tokens, elements and then layers of |.| (or of (.)^2/2).  Targets are constants. */
#ifndef GUIDANCE_SELFGUIDE_H
#define GUIDANCE_SELFGUIDE_H
#include "guidance/maps.h"
#include "guidance/methods.h"

enum { SELF_TOKENS = 64 };
typedef struct {
    int token[SELF_TOKENS], tokens;                       /* positions in this prompt */
    int source[SELF_TOKENS];                              /* and of the same words in the reference's */
    const char *maps;                                     /* attention sites, comma separated patterns */
    const char *features;                                 /* appearance: one feature site */
    bool squared, soft;                                   /* (.)^2/2 for |.|; soft reference mask for hard */
    bool relative;                                        /* centroid, size: target from the reference */
    double x, y;                                          /* centroid: point or shift */
    double mul, add;                                      /* size */
    bool warped;
    Warp warp;                                            /* shape */
    double sharp, at;                                     /* S and c of the mask; 10 and 0.5 in the paper */
} SelfTerm;

SelfTerm self_term(const char *maps, const char *features);           /* the paper's constants, no tokens */

/* Energies whose par is a SelfTerm. */
acc self_centroid  (const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);
acc self_size      (const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);
acc self_shape     (const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);
acc self_appearance(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state);

/* The paper's schedule: the first 3N/16 steps, none of the last N/32, every second one between.  par[0] scales it. */
double self_schedule(const Clock *c, const double *par);
double self_always(const Clock *c, const double *par);
/* v sigma_t with sigma_t = sqrt(1 - alpha-bar); par[0] is v. */
double self_gain(const Clock *c, Run *r, Tensor g, Tensor delta, Tensor each, const double *par, void *state);

extern const MethodInfo method_selfguide;
#endif
