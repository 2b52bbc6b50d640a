/* schedule.h -- noise schedules: alpha-bar tables and timestep lists.
 * Source: Ho et al. 2006.11239 (DDPM), Song et al. 2010.02502 (DDIM), Lin et al. 2305.08891 (zero terminal SNR). */
#ifndef GUIDANCE_SCHEDULE_H
#define GUIDANCE_SCHEDULE_H
#include "tensor/json.h"
#include "tensor/run.h"

typedef enum { BETA_LINEAR, BETA_SCALED_LINEAR, BETA_COSINE } BetaKind;
typedef enum { SPACING_LEADING, SPACING_TRAILING, SPACING_LINSPACE } Spacing;
typedef enum { PREDICT_EPS, PREDICT_X0, PREDICT_V } Prediction;
typedef enum { ALPHAS_FLOAT32, ALPHAS_FLOAT64 } AlphaKind;            /* PyTorch's float32 table (default), or plain double */

enum { TRAIN_STEPS_MOST = 10000 };
typedef struct {
    int train_steps, steps_offset;
    double beta_start, beta_end;
    BetaKind beta;
    Spacing spacing;
    Prediction prediction;
    bool clip_sample, set_alpha_to_one, thresholding, zero_snr;
    double clip_range, threshold_quantile, threshold_max;
} ScheduleConfig;

/* A scheduler_config.json; absent fields take the library's defaults (clip_sample true, set_alpha_to_one true, offset 0, linear 1e-4..0.02). */
bool schedule_config(ScheduleConfig *c, const Json *j, const char *file, Status *s);

typedef struct {
    ScheduleConfig config;
    double *alpha_bar;                                    /* [train_steps] */
    double final_alpha_bar;                               /* for "before step 0" */
    int n;                                                /* sampling steps */
    int *t;                                               /* [n], descending */
} Schedule;

bool   schedule_make(Schedule *s, const ScheduleConfig *c, AlphaKind alphas, int steps, Arena *a, Status *status);     /* E_OPTION for an impossible number of steps */
double schedule_alpha_bar(const Schedule *s, int t);      /* t < 0: final_alpha_bar */
int    schedule_previous(const Schedule *s, int t);       /* t - floor(T/N) */
#endif
