/* conform.h -- golden cases: our own code computes what a case asks for, and one judge compares every tensor of it.
 *
 *     ROOT/cases/NAME/case.json             kind, model, params, tolerance
 *     ROOT/cases/NAME/tensors.safetensors   in.* is given;  out.* mid.* grad.* grad_attn.* must be met
 *
 * A kind is one function: it reads all its parameters and inputs from the case (no size, name or count is assumed),
 * computes, and hands every value to the judge under the case's own name.  A tensor that must be met and was never
 * handed over fails.  Tensors at this border are in PyTorch's layouts (NCHW).
 *
 * Error of a tensor, as tolerance.measure says:  max: max|a-b| / max|b|    l2: |a-b|_2 / |b|_2    (b = 0: absolute)
 * It passes when error <= limit, so NaN fails.  In the double program the limit is min(limit, 1e-6), but for exact
 * and ulp, and for absolute limits of draws, which are float32 in both programs. */
#ifndef REF_CONFORM_H
#define REF_CONFORM_H
#include "guidance/schedule.h"
#include "nn/model.h"
#include "ref/console.h"
#include "tensor/json.h"
#include "tensor/random.h"
#include "tensor/safetensors.h"

int verb_conform(int argc, char **argv);                  /* argv[0] is the verb; returns the exit code */

/* ---- what all cases of one call share ---- */

typedef struct {
    bool json, headed;
    const char *dump;                                     /* folder for our values; NULL: none */
    const char *models;                                   /* instead of the folder that holds cases/; NULL */
    const Kernels *kernels;
    bool blas;
    int threads;
    const Console *console;
    int passed, failed;
    Code worst;                                           /* of the errors that stopped a case */
} Report;

/* ---- one case ---- */

typedef struct Dumped Dumped;
typedef struct {
    const char *name, *kind;                              /* the folder's name; what to run */
    char file[1024];                                      /* case.json, or a manifest */
    char folder[1024], root[1024];                        /* of the file; what `model` and the like are relative to */
    const Json *json, *params;
    Safetensors tensors;                                  /* no entries when the case has no such file */
    bool *judged;                                         /* [tensors.entries] */
    bool float_waves;                                     /* see the table in conform.c */
    Arena arena[5];                                       /* keep, temp, step, run (the case's lifetime), weights */
    Arena *weights;
    Run run;                                              /* errors are in run.status */
    Dumped *dumped;
    Report *report;
} Case;

bool case_open (Case *c, Report *report, const char *path);      /* a folder, a case.json or a manifest.json */
void case_close(Case *c);

/* Parameters.  Absent: the fallback.  Present and of another type: E_FORMAT naming the case and the key. */
double case_real(Case *c, const char *key, double fallback);
int    case_int (Case *c, const char *key, int fallback);
bool   case_flag(Case *c, const char *key, bool fallback);
const char *case_text(Case *c, const char *key, const char *fallback);

/* Inputs live as long as the case, in the file's order.  E_FORMAT when one is missing. */
bool   case_has (const Case *c, const char *name);
bool   case_has_under(const Case *c, const char *prefix);        /* any tensor whose name begins so */
Tensor case_in  (Case *c, const char *name);
int   *case_ids (Case *c, const char *name, Shape *s);           /* integers */
Tensor case_new (Case *c, Shape s);                              /* lives as long as the case */
const char *case_name(Case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* root/MODEL/PART, MODEL being the case's own; PART may be NULL. */
const char *case_model(Case *c, const char *part);
bool case_unet(Case *c, Unet *u);
bool case_vae (Case *c, Vae *v);
bool case_scheduler(Case *c, ScheduleConfig *s);                 /* the model's scheduler_config.json */
AlphaKind case_alphas(Case *c);                                  /* params.alphas; float32 when absent */
bool case_schedule(Case *c, Schedule *s, const ScheduleConfig *config, int steps);
/* Start another pass: keep and temp are emptied. */
void case_pass(Case *c);

/* ---- the judge ---- */

void judge         (Case *c, const char *name, Tensor t);
void judge_nhwc    (Case *c, const char *name, Tensor t);        /* a map [N,H,W,C]; the case holds [N,C,H,W] */
void judge_doubles (Case *c, const char *name, Shape s, const double *x);
void judge_integers(Case *c, const char *name, Shape s, const int64_t *x);
void judge_draws   (Case *c, const char *name, Shape s, const float *x);
/* Checks beside the tensors. */
void judge_number(Case *c, const char *what, double ours, double theirs, double scale, double limit);   /* |a-b| / scale */
void judge_list  (Case *c, const char *what, const int64_t *ours, int n, const Json *theirs);           /* exact */
void judge_truth (Case *c, const char *what, bool good, const char *detail);
void judge_missing(Case *c);                                     /* what must be met and was not judged */
void judge_end   (Case *c);                                      /* the error that stopped the case, if one did */
bool dump_values (Case *c);                                      /* report->dump / NAME.safetensors */

/* ---- the kinds, one file per area ---- */

typedef void ConformKind(Case *c);
ConformKind conform_unet, conform_taps;                          /* conform_unet.c */
ConformKind conform_vae;                                         /* conform_vae.c */
ConformKind conform_text, conform_image, conform_preprocess;     /* conform_clip.c */
ConformKind conform_tokenizer;                                   /* conform_tokenizer.c */
ConformKind conform_ddim, conform_ddim_inverse;                  /* conform_ddim.c */
ConformKind conform_sample, conform_inversion;                   /* conform_sample.c */
ConformKind conform_cfg;                                         /* conform_cfg.c */
ConformKind conform_randn, conform_sequence, conform_other, conform_diffusers, conform_portable, conform_philox;   /* conform_random.c */
ConformKind conform_maps_mask, conform_maps_centroid, conform_maps_warp, conform_maps_appearance, conform_selfguide_schedule;
ConformKind conform_selfguide_property, conform_selfguide_eps, conform_selfguide_loop;           /* conform_selfguide.c */
ConformKind conform_attend_step, conform_attend_loop, conform_astar_step, conform_astar_loop;
ConformKind conform_multi_step, conform_multi_loop;              /* conform_multi.c */
ConformKind conform_suppress_term, conform_suppress_step, conform_suppress_loop;
ConformKind conform_masked_step, conform_masked_centroid, conform_masked_loop;                   /* conform_suppress.c */
ConformKind conform_nulltext, conform_plugplay;                  /* conform_edit.c */
ConformKind conform_pixzero_noise, conform_pixzero_invert, conform_pixzero_step, conform_pixzero_loop;      /* conform_pixzero.c */
ConformKind conform_prompt_align, conform_prompt_loop;           /* conform_prompt.c */
ConformKind conform_classifier;                                  /* conform_classifier.c */
ConformKind conform_respacing, conform_adm_sampling;                                   /* conform_pixel_sampling.c */
ConformKind conform_pixel_unet, conform_pixel_classifier;        /* conform_pixel_nets.c */
ConformKind conform_torch_good, conform_torch_bad;               /* conform_torch.c */
ConformKind conform_asyrp_step, conform_asyrp_loop, conform_asyrp_train, conform_asyrp_interpolation;       /* conform_asyrp.c */
ConformKind conform_dino, conform_clip_tower, conform_lpips;     /* conform_towers.c */
ConformKind conform_dino, conform_clip_tower;                    /* conform_towers.c */
ConformKind conform_cutouts, conform_colourmatch, conform_diffuseit_losses, conform_diffuseit_step, conform_diffuseit_loop;       /* conform_diffuseit.c */
ConformKind conform_manifest;                                    /* conform_manifest.c */
#endif
