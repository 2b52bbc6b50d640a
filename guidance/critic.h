/* critic.h -- networks that look at a picture, and pull the gradient of what they saw back to it.
 *
 * A picture is [1,3,H,W] in [-1,1].  A look needs a Run whose keep is not its temp when it will be pulled; without pulling any
 * Run does.  What a look remembers lives in keep until the caller releases it.  Pulls ADD to dpicture: several critics share one.
 *
 *     decode    latents, as the denoiser reads them (factor z + shift), to the picture
 *     dino      cls [D]: class token of the last block, before the final norm;  keys [T,D] of that block
 *     clip      embeds [n,width] of n cuts (cutouts.h), or of the whole picture when there are none */
#ifndef GUIDANCE_CRITIC_H
#define GUIDANCE_CRITIC_H
#include "nn/clip_tower.h"
#include "nn/dino.h"
#include "nn/vae.h"
#include "tensor/cutouts.h"

void critic_decode     (Run *r, const Vae *v, VaePass *p, Tensor picture, Tensor z, bool recompute);
void critic_decode_pull(Run *r, Vae *v, Tensor dz, Tensor dpicture, VaePass *p);            /* dz written */

typedef struct { DinoPass pass; Tensor last; } CriticDino;
/* The picture's shorter side is resized to `size` (bilinear, no antialiasing); the centre, if it is not square. */
int  critic_dino_tokens(const Dino *m, int size);
void critic_dino     (Run *r, const Dino *m, CriticDino *c, Tensor cls, Tensor keys, Tensor picture, int size);
void critic_dino_pull(Run *r, Dino *m, Tensor dpicture, Tensor dcls, Tensor dkeys, const CriticDino *c, int size);

typedef struct { ClipTowerPass pass; const Cut *cut; int n; } CriticClip;       /* cut NULL: the whole picture */
void critic_clip     (Run *r, const ClipTower *t, CriticClip *c, Tensor embeds, Tensor picture, const Cut *cut, int n);
void critic_clip_pull(Run *r, ClipTower *t, Tensor dpicture, Tensor dembeds, const CriticClip *c);
#endif
