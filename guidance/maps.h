/* maps.h -- what attention maps are made into, each with its backward.  A map is [h,w], dense, of one token.
 *
 *     map        A(p) = mean over heads of P[head, p, token]
 *     norm(X)    (X - min X) / (max X - min X + e); min and max carry gradient
 *     mask       norm( sigmoid( S (norm(A) - c) ) )
 *     hard       1 where norm(A) > c; no gradient
 *     centroid   ( sum x A, sum y A ) / ( sum A + e ),  x = column/(w-1), y = row/(h-1)
 * Source: Epstein et al. 2306.00986, section 3; e as in the authors' demonstration. */
#ifndef GUIDANCE_MAPS_H
#define GUIDANCE_MAPS_H
#include "guidance/guide.h"

#define MAP_EPS 1e-4

/* The size of a map with that many queries in a latent of H x W: both halved, rounding up, until they fit. False: never. */
bool map_size(int H, int W, int queries, int *h, int *w);
/* The attention sites that match, of at least `least` and at most `most` queries, as a list of patterns (run arena); "" when
 * there is none.  map_queries: among the matching sites the number of queries whose ratio to `wanted` is nearest one; 0: none. */
const char *map_sites  (Run *r, const Unet *u, int h, int w, const char *pattern, int least, int most);
int         map_queries(const Unet *u, int h, int w, const char *pattern, int wanted);
void map_of  (Run *r, Tensor map, const Sight *probs, int token);
void map_back(Run *r, Sight *probs, int token, Tensor dmap);         /* added to the sight's adjoint */

void mask_soft(Run *r, Tensor m, Tensor map, double sharp, double at);
void mask_soft_back(Run *r, Tensor dmap, Tensor dm, Tensor map, double sharp, double at);          /* written */
void mask_hard(Run *r, Tensor m, Tensor map, double at);

typedef struct { acc x, y, mass; } Centroid;
Centroid centroid_of(Tensor map);
void centroid_back(Tensor dmap, Tensor map, Centroid c, acc dx, acc dy);     /* written */

/* m scaled by (sx,sy) about a centre and then moved by (dx,dy) of the frame; bilinear, zero outside. */
typedef struct { double dx, dy, sx, sy; } Warp;
void map_warp(Tensor out, Tensor m, Centroid centre, Warp w);

/* a_c = sum_p m_p F_cp / (e + sum_p m_p), F [C,H,W], m [H,W] */
void appearance_of  (Run *r, Tensor a, Tensor feature, Tensor m);
void appearance_back(Run *r, Tensor dfeature, Tensor dm, Tensor da, Tensor a, Tensor feature, Tensor m);     /* added; dm may be empty */

/* weight * mean |a-b| (or of (a-b)^2/2); da added when not empty.  sign(0) = 0. */
acc distance(const real *a, const real *b, size_t n, bool squared, acc weight, real *da);
#endif
