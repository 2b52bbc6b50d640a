/* unit_schedule.c -- tables, timestep lists, scheduler files.  Expected numbers come from diffusers 0.42.1, or from
 * the definitions in schedule.h worked out by hand; hashes are FNV-1a over 32-bit words, low byte first. */
#include "guidance/schedule.h"
#include "tests/check.h"

static Arena arena;
static const ScheduleConfig SD = { .train_steps = 1000, .steps_offset = 1, .beta_start = 0.00085, .beta_end = 0.012, .beta = BETA_SCALED_LINEAR,
                                   .clip_range = 1, .threshold_quantile = 0.995, .threshold_max = 1 };

static Schedule make(ScheduleConfig c, AlphaKind kind, int steps)
{
    Schedule s;
    Status status = {0};
    if (!schedule_make(&s, &c, kind, steps, &arena, &status)) printf("%s\n", status.text);
    return s;
}

static uint64_t hash_word(uint64_t h, uint32_t word)
{
    for (int b = 0; b < 32; b += 8) h = (h ^ (word >> b & 255)) * 0x100000001b3u;
    return h;
}
static const uint64_t EMPTY = 0xcbf29ce484222325u;

static uint64_t hash_table(const Schedule *s)
{
    uint64_t h = EMPTY;
    for (int i = 0; i < s->config.train_steps; i++) {
        float f = (float)s->alpha_bar[i];
        uint32_t bits;
        memcpy(&bits, &f, 4);
        h = hash_word(h, bits);
    }
    return h;
}

/* ---- tables ---- */

static void tables(void)
{
    static const struct { BetaKind beta; double b0, b1; int T; uint64_t hash; const char *what; } expected[] = {
        { BETA_SCALED_LINEAR, 0.00085, 0.012, 1000, 0x552efb731a320022u, "scaled linear: Stable Diffusion" },
        { BETA_LINEAR, 0.0001, 0.02, 1000, 0x5b0ad40d73df8aecu, "linear: DDPM" },
        { BETA_COSINE, 0.0001, 0.02, 1000, 0x6d7434fdfe965e9eu, "cosine" },
        { BETA_SCALED_LINEAR, 0.0003, 0.0017, 999, 0x12a74288ca492452u, "scaled linear, 999 levels" },
        { BETA_LINEAR, 0.0001, 0.02, 4, 0xfb04201e28fad8feu, "linear, 4 levels" },
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        ScheduleConfig c = SD;
        c.beta = expected[i].beta, c.beta_start = expected[i].b0, c.beta_end = expected[i].b1, c.train_steps = expected[i].T;
        Schedule s = make(c, ALPHAS_FLOAT32, 1), wide = make(c, ALPHAS_FLOAT64, 1);
        double worst = 0;
        for (int k = 0; k < c.train_steps; k++) worst = fmax(worst, fabs(wide.alpha_bar[k] - s.alpha_bar[k]));
        check_true(expected[i].what, hash_table(&s) == expected[i].hash);
        check_below("    plain double beside it", worst, 1e-6);       /* measured 6e-8 to 4.7e-7: betas rounded to float */
    }
    Schedule s = make(SD, ALPHAS_FLOAT64, 10);
    static const struct { int t; double alpha_bar; } published[] = { { 0, 0.99915 }, { 501, 0.274999 }, { 801, 0.0365465 }, { 999, 0.00466010 } };
    for (size_t i = 0; i < 4; i++)
        check_below("alpha-bar of Stable Diffusion", fabs(schedule_alpha_bar(&s, published[i].t) / published[i].alpha_bar - 1), 5e-6);   /* given to 6 digits */
    check_true("outside the table there is no number", isnan(schedule_alpha_bar(&s, 1000)));
}

static void zero_snr(void)
{
    ScheduleConfig c = SD;
    c.zero_snr = true, c.prediction = PREDICT_V, c.spacing = SPACING_TRAILING;
    Schedule s = make(c, ALPHAS_FLOAT32, 10), wide = make(c, ALPHAS_FLOAT64, 10);
    double worst = 0;
    for (int k = 0; k < 1000; k++) worst = fmax(worst, fabs(wide.alpha_bar[k] - s.alpha_bar[k]));
    check_true("the last level holds no signal", s.alpha_bar[999] == 0 && wide.alpha_bar[999] == 0 && s.t[0] == 999);
    check_below("the first stays", fabs(wide.alpha_bar[0] - (1 - 0.00085)), 1e-12);
    check_below("float32 through betas and back", worst, 2e-6);       /* measured 5.1e-7 */
    c.prediction = PREDICT_EPS;
    Schedule none;
    Status status = {0};
    check_true("noise prediction cannot start there", !schedule_make(&none, &c, ALPHAS_FLOAT32, 10, &arena, &status) && status.code == E_OPTION);
    c.spacing = SPACING_LEADING, status = (Status){0};
    check_true("it can where the list begins lower", schedule_make(&none, &c, ALPHAS_FLOAT32, 10, &arena, &status));
}

/* ---- timesteps ---- */

static void timesteps(void)
{
    static const int seven[] = { 853, 711, 569, 427, 285, 143, 1 };
    Schedule s = make(SD, ALPHAS_FLOAT32, 7);
    check_true("leading, 7 steps", !memcmp(s.t, seven, sizeof seven));
    check_true("the level before is t - floor(T/N)", schedule_previous(&s, 853) == 711 && schedule_previous(&s, 1) == -141);
    check_true("below the first level: alpha-bar 0", schedule_alpha_bar(&s, -141) == s.alpha_bar[0]);
    ScheduleConfig one = SD;
    one.set_alpha_to_one = true;
    s = make(one, ALPHAS_FLOAT32, 7);
    check_true("or 1", schedule_alpha_bar(&s, -1) == 1);

    static const struct { Spacing spacing; uint64_t hash; const char *what; } all[] = {
        { SPACING_LEADING, 0x0ab5c887ee9ad893u, "leading, 1 to 1000 steps" },
        { SPACING_TRAILING, 0xdde9dd46468e1178u, "trailing, 1 to 1000 steps" },
        { SPACING_LINSPACE, 0x956ee784d1982f64u, "linspace, 1 to 1000 steps" },
    };
    for (int k = 0; k < 3; k++) {
        ScheduleConfig c = SD;
        c.spacing = all[k].spacing, c.steps_offset = 0;
        uint64_t h = EMPTY;
        int descending = 1;
        for (int n = 1; n <= 1000; n++) {
            size_t mark = arena.used;
            s = make(c, ALPHAS_FLOAT64, n);
            for (int i = 0; i < n; i++) {
                h = hash_word(h, (uint32_t)s.t[i]);
                descending &= s.t[i] >= 0 && s.t[i] < 1000 && (!i || s.t[i] < s.t[i - 1]);
            }
            arena_release(&arena, mark);
        }
        check_true(all[k].what, h == all[k].hash);
        check_true("    descending, within the model", descending);
    }
}

static void refusals(void)
{
    static const struct { int steps, offset, T; const char *what; } refused[] = {
        { 0, 1, 1000, "no steps" }, { -3, 1, 1000, "fewer than none" }, { 1001, 0, 1000, "more than there are" },
        { 1000, 1, 1000, "1000 with an offset would start at 1000" }, { 2, 4, 5, "2 of 5 with offset 4 would start at 6" },
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ScheduleConfig c = SD;
        Schedule s;
        Status status = {0};
        c.train_steps = refused[i].T, c.steps_offset = refused[i].offset;
        check_true(refused[i].what, !schedule_make(&s, &c, ALPHAS_FLOAT32, refused[i].steps, &arena, &status) && status.code == E_OPTION);
    }
}

/* ---- scheduler files ---- */

static Code read_file(ScheduleConfig *c, const char *text, Status *s)
{
    *s = (Status){0};
    const Json *j = json_parse(&arena, text, strlen(text), 8, "scheduler_config.json", s);
    schedule_config(c, j, "scheduler_config.json", s);
    return s->code;
}

static void files(void)
{
    ScheduleConfig c;
    Status s;
    check_true("an empty object: the library's defaults", read_file(&c, "{}", &s) == OK && c.clip_sample && c.set_alpha_to_one && !c.steps_offset &&
               c.beta == BETA_LINEAR && c.beta_start == 1e-4 && c.beta_end == 0.02 && c.train_steps == 1000 && c.prediction == PREDICT_EPS);
    static const char pndm[] = "{\"_class_name\":\"PNDMScheduler\",\"_diffusers_version\":\"0.6.0\",\"beta_end\":0.012,\"beta_schedule\":\"scaled_linear\","
        "\"beta_start\":0.00085,\"num_train_timesteps\":1000,\"set_alpha_to_one\":false,\"skip_prk_steps\":true,\"steps_offset\":1,"
        "\"trained_betas\":null,\"clip_sample\":false}";
    check_true("the file of SD 1.5", read_file(&c, pndm, &s) == OK && !c.clip_sample && !c.set_alpha_to_one && c.steps_offset == 1 &&
               c.beta == BETA_SCALED_LINEAR && c.spacing == SPACING_LEADING);
    check_true("PNDM never clips and ends at alpha-bar 0", read_file(&c, "{\"_class_name\":\"PNDMScheduler\"}", &s) == OK && !c.clip_sample && !c.set_alpha_to_one);
    check_true("Euler never clips", read_file(&c, "{\"_class_name\":\"EulerDiscreteScheduler\",\"prediction_type\":\"v_prediction\","
               "\"use_karras_sigmas\":false,\"timestep_spacing\":\"trailing\",\"rescale_betas_zero_snr\":true}", &s) == OK && !c.clip_sample &&
               c.set_alpha_to_one && c.prediction == PREDICT_V && c.spacing == SPACING_TRAILING && c.zero_snr);
    check_true("DDPM clips", read_file(&c, "{\"_class_name\":\"DDPMScheduler\"}", &s) == OK && c.clip_sample);
    static const struct { const char *text, *named; } refused[] = {
        { "{\"_class_name\":\"FlowMatchEulerDiscreteScheduler\"}", "FlowMatchEulerDiscreteScheduler" },
        { "{\"beta_schedule\":\"sigmoid\"}", "sigmoid" },            { "{\"prediction_type\":\"flow\"}", "flow" },
        { "{\"timestep_spacing\":7}", "timestep_spacing" },          { "{\"beta_start\":0}", "beta_start" },
        { "{\"beta_start\":1.5}", "beta_start" },                    { "{\"beta_end\":\"0.1\"}", "beta_end" },
        { "{\"num_train_timesteps\":1}", "num_train_timesteps" },    { "{\"num_train_timesteps\":1000000}", "1000000" },
        { "{\"num_train_timesteps\":10.5}", "10.5" },                { "{\"steps_offset\":-1}", "steps_offset" },
        { "{\"steps_offset\":1000}", "steps_offset" },               { "{\"clip_sample\":\"no\"}", "clip_sample" },
        { "{\"dynamic_thresholding_ratio\":2}", "dynamic_thresholding_ratio" },
        { "{\"trained_betas\":[0.1,0.2]}", "trained_betas" },        { "[]", "object" },
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        Code code = read_file(&c, refused[i].text, &s);
        check_true(refused[i].text, code == E_FORMAT && strstr(s.text, refused[i].named) && strstr(s.text, "scheduler_config.json"));
    }
}

int main(void)
{
    tables();
    zero_snr();
    timesteps();
    refusals();
    files();
    arena_free(&arena);
    return check_done();
}
