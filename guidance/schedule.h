/* schedule.h -- noise schedules: alpha-bar tables and timestep lists.
 * Source: Ho et al. 2006.11239 (DDPM), Song et al. 2010.02502 (DDIM), Lin et al. 2305.08891 (zero terminal SNR, spacings).
 *
 *     linear         beta_i on a straight line from beta_start to beta_end,  i = 0 .. T-1
 *     scaled_linear  sqrt(beta_i) on a straight line from sqrt(beta_start) to sqrt(beta_end)
 *     cosine         beta_i = min(1 - f((i+1)/T) / f(i/T), 0.999),  f(u) = cos^2((u + 0.008)/1.008 pi/2)
 *     alpha-bar_i  = prod_{j <= i} (1 - beta_j)
 *     zero_snr       s_i = sqrt(alpha-bar_i);  s_i <- (s_i - s_{T-1}) s_0 / (s_0 - s_{T-1});  alpha-bar_i = s_i^2
 *
 *     leading        t_k = (N-1-k) floor(T/N) + offset          k = 0 .. N-1, descending
 *     trailing       t_k = round(T - k T/N) - 1                 halves to even
 *     linspace       t_k = round((N-1-k) (T-1)/(N-1))
 *
 * The level before t is always t - floor(T/N), not the next entry of the list (they differ for linspace), except after
 * schedule_respace. */
#ifndef GUIDANCE_SCHEDULE_H
#define GUIDANCE_SCHEDULE_H
#include "tensor/json.h"
#include "tensor/run.h"

typedef enum { BETA_LINEAR, BETA_SCALED_LINEAR, BETA_COSINE } BetaKind;
typedef enum { SPACING_LEADING, SPACING_TRAILING, SPACING_LINSPACE } Spacing;
typedef enum { PREDICT_EPS, PREDICT_X0, PREDICT_V } Prediction;
/* FLOAT32: as PyTorch rounds, entry for entry (betas in float32, products in double, stored as float32).  FLOAT64: plain double. */
typedef enum { ALPHAS_FLOAT32, ALPHAS_FLOAT64 } AlphaKind;

enum { TRAIN_STEPS_MOST = 10000 };
typedef struct {
    int train_steps, steps_offset;                        /* T in 2 .. TRAIN_STEPS_MOST; 0 .. T-1 */
    double beta_start, beta_end;                          /* in (0, 1) */
    BetaKind beta;
    Spacing spacing;
    Prediction prediction;
    bool clip_sample, set_alpha_to_one, thresholding, zero_snr;
    double clip_range, threshold_quantile, threshold_max;
} ScheduleConfig;

/* A scheduler_config.json.  The sampler here is DDIM whatever class the file names: the files of the usual samplers
 * (PNDM, DDPM, Euler, LMS, DPM-Solver, ...) are read for their betas, prediction and offset.  Absent fields take DDIM's
 * defaults (clip_sample true, set_alpha_to_one true, offset 0, leading, linear 1e-4 .. 0.02), except where the class
 * named never clips (all but DDIM and DDPM: clip_sample false) or ends at alpha-bar_0 (PNDM: set_alpha_to_one false).
 * E_FORMAT names the file, the field, what was found and what is legal. */
bool schedule_config(ScheduleConfig *c, const Json *j, const char *file, Status *s);

typedef struct {
    ScheduleConfig config;
    double *alpha_bar;                                    /* [train_steps] */
    double final_alpha_bar;                               /* "before step 0": set_alpha_to_one ? 1 : alpha_bar[0] */
    int n;                                                /* sampling steps */
    int *t;                                               /* [n], descending */
    bool by_list;                                         /* the level before an entry of t is that of the next entry, not floor(T/N) below */
} Schedule;

/* E_OPTION for a number of steps that cannot be: N < 1, N > T, a first t >= T, or (noise prediction with zero
 * terminal SNR) a list that asks for x0 where alpha-bar is 0. */
bool   schedule_make(Schedule *s, const ScheduleConfig *c, AlphaKind alphas, int steps, Arena *a, Status *status);
double schedule_alpha_bar(const Schedule *s, int t);      /* t < 0: final_alpha_bar; t >= T: NaN */
int    schedule_previous(const Schedule *s, int t);       /* t - floor(T/N); by_list: the next lower time of the list, -1 past its end */
/* Another list of times, kept[n] ascending, below T: the level before is then by list. */
bool   schedule_respace(Schedule *s, const int *kept, int n, Arena *a, Status *status);
#endif
