/* half.c -- an energy of one's own: the share of a word's attention that lies on the right half of the picture.
 *
 *     E        = mean over sites of  sum_p b(p) A(p) / M,     M = e + sum_p A(p),  b = 1 on the right half, 0 on the left
 *     dE/dA(p) = (b(p) - E) / M                               of one site */
#include "guidance/maps.h"

typedef struct { int token; } Half;                       /* the word's position in the prompt; 0 is the begin mark */

static const Want half_want[] = { { SEE_PROBS, "up_blocks.*.attn2" } };

static acc half_energy(const Energy *e, Run *r, View *now, const View *ref, acc weight, void *state)
{
    const Half *half = e->par;
    int sites = 0, h, w;
    acc E = 0;
    (void)ref; (void)state;
    while (view_see(now, SEE_PROBS, e->want[0].sites, sites)) sites++;
    for (int l = 0; l < sites && run_ok(r); l++) {
        size_t mark = r->temp->used;
        Sight *probs = view_at(now, SEE_PROBS, e->want[0].sites, l);
        if (!map_size(now->h, now->w, probs->val.s.d[1], &h, &w)) run_fail(r, E_SHAPE, "half: %s: not a map", probs->site);
        Tensor A = temp(r, SHAPE(h, w));
        map_of(r, A, probs, half->token);
        acc M = MAP_EPS, right = 0;
        for (int p = 0; p < h * w && run_ok(r); p++) {
            M += (acc)A.x[p];
            right += p % w >= w / 2 ? (acc)A.x[p] : 0;
        }
        for (int p = 0; p < h * w && run_ok(r); p++) A.x[p] = (real)(weight / sites * ((p % w >= w / 2) - right / M) / M);
        if (run_ok(r)) map_back(r, probs, half->token, A);
        E += weight / sites * right / M;
        arena_release(r->temp, mark);
    }
    return E;
}
