#include <string.h>
#include "guidance/schedule.h"

/* ---- the file ---- */

typedef struct { const Json *j; const char *file; Status *s; } Fields;

static const Json *field(const Fields *f, const char *key)               /* null counts as absent */
{
    const Json *v = json_get(f->j, key);
    return v && v->kind != JSON_NULL ? v : NULL;
}

static double field_number(const Fields *f, const char *key, double absent, double least, double most)
{
    const Json *v = field(f, key);
    double x = absent;
    if (v && (!json_number(v, &x) || !(x >= least && x <= most))) {
        status_fail(f->s, E_FORMAT, "%s: %s: a number from %g to %g is expected, \"%.40s\" found", f->file, key, least, most, v->text ? v->text : "");
        x = absent;
    }
    return x;
}

static int field_integer(const Fields *f, const char *key, int absent, int least, int most)
{
    const Json *v = field(f, key);
    int x = absent;
    if (v && (!json_int(v, &x) || x < least || x > most)) {
        status_fail(f->s, E_FORMAT, "%s: %s: an integer from %d to %d is expected, \"%.40s\" found", f->file, key, least, most, v->text ? v->text : "");
        x = absent;
    }
    return x;
}

static bool field_truth(const Fields *f, const char *key, bool absent)
{
    const Json *v = field(f, key);
    bool x = absent;
    if (v && !json_bool(v, &x)) status_fail(f->s, E_FORMAT, "%s: %s: true or false is expected", f->file, key);
    return x;
}

static int field_choice(const Fields *f, const char *key, int absent, const char *const *names, int n)
{
    const Json *v = field(f, key);
    if (!v) return absent;
    for (int i = 0; i < n; i++)
        if (json_is(v, names[i])) return i;
    char legal[400] = "";
    for (int i = 0; i < n; i++) {
        strncat(legal, i ? ", " : "", sizeof legal - strlen(legal) - 1);
        strncat(legal, names[i], sizeof legal - strlen(legal) - 1);
    }
    status_fail(f->s, E_FORMAT, "%s: %s: \"%.60s\" is not supported; supported: %s", f->file, key, v->text ? v->text : "", legal);
    return absent;
}

static const char *const CLASSES[] = {                    /* the first two clip, the third ends at alpha-bar_0 */
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "DDIMInverseScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
};
enum { DDIM, DDPM, PNDM, INVERSE, CLASS_COUNT = sizeof CLASSES / sizeof *CLASSES };

bool schedule_config(ScheduleConfig *c, const Json *j, const char *file, Status *s)
{
    static const char *const betas[] = { "linear", "scaled_linear", "squaredcos_cap_v2" };
    static const char *const spacings[] = { "leading", "trailing", "linspace" };
    static const char *const predictions[] = { "epsilon", "sample", "v_prediction" };
    Fields f = { j, file, s };
    if (!j || j->kind != JSON_OBJECT) {
        status_fail(s, E_FORMAT, "%s: an object is expected", file);
        return false;
    }
    const double tiny = 1e-12, most = 0.999999;           /* betas: in (0, 1) */
    int kind = field_choice(&f, "_class_name", DDIM, CLASSES, CLASS_COUNT);
    *c = (ScheduleConfig){
        .train_steps  = field_integer(&f, "num_train_timesteps", 1000, 2, TRAIN_STEPS_MOST),
        .steps_offset = field_integer(&f, "steps_offset", 0, 0, TRAIN_STEPS_MOST - 1),
        .beta_start   = field_number(&f, "beta_start", 1e-4, tiny, most),
        .beta_end     = field_number(&f, "beta_end", 0.02, tiny, most),
        .beta         = (BetaKind)field_choice(&f, "beta_schedule", BETA_LINEAR, betas, 3),
        .spacing      = (Spacing)field_choice(&f, "timestep_spacing", SPACING_LEADING, spacings, 3),
        .prediction   = (Prediction)field_choice(&f, "prediction_type", PREDICT_EPS, predictions, 3),
        .clip_sample  = field_truth(&f, "clip_sample", kind == DDIM || kind == DDPM || kind == INVERSE),
        .set_alpha_to_one = field_truth(&f, "set_alpha_to_one", kind != PNDM),
        .thresholding = field_truth(&f, "thresholding", false),
        .zero_snr     = field_truth(&f, "rescale_betas_zero_snr", false),
        .clip_range   = field_number(&f, "clip_sample_range", 1, 0, 1e6),
        .threshold_quantile = field_number(&f, "dynamic_thresholding_ratio", 0.995, 0, 1),
        .threshold_max      = field_number(&f, "sample_max_value", 1, tiny, 1e6),
    };
    if (c->steps_offset >= c->train_steps)
        status_fail(s, E_FORMAT, "%s: steps_offset: %d is not below num_train_timesteps %d", file, c->steps_offset, c->train_steps);
    if (field(&f, "trained_betas")) status_fail(s, E_FORMAT, "%s: trained_betas: a list of betas is not supported", file);
    return s->code == OK;
}

/* ---- tables ---- */

static double cosine_beta(int i, int T)
{
    const double pi = 3.14159265358979323846;
    double now = cos(((double)i / T + 0.008) / 1.008 * pi / 2), next = cos(((double)(i + 1) / T + 0.008) / 1.008 * pi / 2);
    return fmin(1 - next * next / (now * now), 0.999);
}

static void betas64(double *beta, const ScheduleConfig *c)
{
    bool root = c->beta == BETA_SCALED_LINEAR;
    double lo = root ? sqrt(c->beta_start) : c->beta_start, hi = root ? sqrt(c->beta_end) : c->beta_end;
    int T = c->train_steps;
    for (int i = 0; i < T; i++) {
        double l = lo + (hi - lo) * i / (T - 1);
        beta[i] = c->beta == BETA_COSINE ? cosine_beta(i, T) : root ? l * l : l;
    }
}

/* PyTorch's linspace: from the near end, one rounding per entry. */
static void betas32(double *beta, const ScheduleConfig *c)
{
    bool root = c->beta == BETA_SCALED_LINEAR;
    float lo = (float)(root ? sqrt(c->beta_start) : c->beta_start), hi = (float)(root ? sqrt(c->beta_end) : c->beta_end);
    int T = c->train_steps;
    float step = (hi - lo) / (float)(T - 1);
    for (int i = 0; i < T; i++) {
        float l = i < T / 2 ? fmaf(step, (float)i, lo) : fmaf(-step, (float)(T - 1 - i), hi);
        beta[i] = c->beta == BETA_COSINE ? (double)(float)cosine_beta(i, T) : (double)(root ? l * l : l);
    }
}

static void products(double *alpha_bar, const double *beta, int T, bool rounded)
{
    double product = 1;
    for (int i = 0; i < T; i++) {
        product *= rounded ? (double)(float)(1 - beta[i]) : 1 - beta[i];
        alpha_bar[i] = rounded ? (double)(float)product : product;
    }
}

static void zero_snr64(double *alpha_bar, int T)
{
    double first = sqrt(alpha_bar[0]), last = sqrt(alpha_bar[T - 1]);
    for (int i = 0; i < T; i++) {
        double s = (sqrt(alpha_bar[i]) - last) * first / (first - last);
        alpha_bar[i] = s * s;
    }
}

/* The library goes back to betas, in float32; `beta` is written. */
static void zero_snr32(double *beta, const double *alpha_bar, int T)
{
    float first = sqrtf((float)alpha_bar[0]), last = sqrtf((float)alpha_bar[T - 1]), factor = first / (first - last), before = 1;
    for (int i = 0; i < T; i++) {
        float s = (sqrtf((float)alpha_bar[i]) - last) * factor, now = s * s;
        beta[i] = (double)(1 - now / before);
        before = now;
    }
}

static void table(double *alpha_bar, double *beta, const ScheduleConfig *c, AlphaKind kind)
{
    int T = c->train_steps;
    bool rounded = kind == ALPHAS_FLOAT32;
    if (rounded) betas32(beta, c);
    else betas64(beta, c);
    products(alpha_bar, beta, T, rounded);
    if (c->zero_snr && rounded) {
        zero_snr32(beta, alpha_bar, T);
        products(alpha_bar, beta, T, true);
    } else if (c->zero_snr) zero_snr64(alpha_bar, T);
}

/* ---- timesteps ---- */

/* The list as the library's doubles give it: near ties the step's own rounding decides, so the same sums are formed. */
static int timestep(const ScheduleConfig *c, int N, int k)
{
    double T = c->train_steps, step = (T - T / N) - T;
    switch (c->spacing) {
    case SPACING_TRAILING: return (int)rint(T + k * step) - 1;
    case SPACING_LINSPACE: return N > 1 ? (int)rint((N - 1 - k) * ((T - 1) / (N - 1))) : 0;
    default:               return (N - 1 - k) * (c->train_steps / N) + c->steps_offset;
    }
}

bool schedule_make(Schedule *s, const ScheduleConfig *c, AlphaKind alphas, int steps, Arena *a, Status *status)
{
    int T = c->train_steps;
    *s = (Schedule){ .config = *c, .n = steps };
    if (status->code != OK) return false;
    if (steps < 1 || steps > T) {
        status_fail(status, E_OPTION, "steps: %d asked, 1 to %d are possible with this model", steps, T);
        return false;
    }
    if (timestep(c, steps, 0) >= T) {
        status_fail(status, E_OPTION, "steps: %d would start at time %d, the model's last is %d: ask for fewer", steps, timestep(c, steps, 0), T - 1);
        return false;
    }
    s->alpha_bar = arena_take(a, (size_t)T * sizeof *s->alpha_bar);
    s->t = arena_take(a, (size_t)steps * sizeof *s->t);
    size_t mark = a->used;
    double *beta = arena_take(a, (size_t)T * sizeof *beta);
    if (!s->alpha_bar || !s->t || !beta) {
        status_fail(status, E_MEMORY, "out of memory: a schedule of %d steps", T);
        return false;
    }
    table(s->alpha_bar, beta, c, alphas);
    arena_release(a, mark);
    s->final_alpha_bar = c->set_alpha_to_one ? 1 : s->alpha_bar[0];
    for (int k = 0; k < steps; k++) s->t[k] = timestep(c, steps, k);
    if (c->prediction == PREDICT_EPS && !(s->alpha_bar[s->t[0]] > 0))
        status_fail(status, E_OPTION, "steps: at time %d no signal is left (zero terminal SNR), and a noise prediction cannot start there", s->t[0]);
    return status->code == OK;
}

double schedule_alpha_bar(const Schedule *s, int t)
{
    return t < 0 ? s->final_alpha_bar : t < s->config.train_steps ? s->alpha_bar[t] : (double)NAN;
}

int schedule_previous(const Schedule *s, int t)
{
    if (!s->by_list) return t - s->config.train_steps / s->n;
    int lo = 0, hi = s->n;                                /* the first entry below t */
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (s->t[mid] < t) hi = mid;
        else lo = mid + 1;
    }
    return lo < s->n ? s->t[lo] : -1;
}

bool schedule_respace(Schedule *s, const int *kept, int n, Arena *a, Status *status)
{
    if (status->code != OK) return false;
    s->t = arena_take(a, (size_t)n * sizeof *s->t);
    if (!s->t) {
        status_fail(status, E_MEMORY, "out of memory: a list of %d times", n);
        return false;
    }
    for (int k = 0; k < n; k++) s->t[k] = kept[n - 1 - k];
    s->n = n;
    s->by_list = true;
    return true;
}
