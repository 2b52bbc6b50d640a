/* DiffuseIT: cuts and colour matching alone; its terms, a step, and whole loops on given noises and cuts. */
#include <math.h>
#include <string.h>
#include "guidance/colourmatch.h"
#include "guidance/diffuseit.h"
#include "nn/pixel.h"
#include "ref/conform_edit.h"
#include "tensor/point.h"
#include "tensor/shape.h"

/* ---- parts ---- */

/* Rows [angle, top, left, height, width, mirrored] of a list. */
static Cut *cuts_of(Case *c, const Json *list, int *n)
{
    Cut *cut = list ? arena_take(c->run.run, (size_t)(list->count + 1) * sizeof *cut) : NULL;
    *n = 0;
    if (!cut) run_fail(&c->run, E_FORMAT, "%s: cuts: a list of rows is expected", c->file);
    for (const Json *row = cut ? list->child : NULL; row; row = row->next, ++*n) {
        double v[6] = {0};
        const Json *j = row->child;
        for (int k = 0; k < 6; k++, j = j ? j->next : NULL)
            if (!j || !json_number(j, &v[k])) run_fail(&c->run, E_FORMAT, "%s: cuts: six numbers a row are expected", c->file);
        cut[*n] = (Cut){ v[0], (int)v[1], (int)v[2], (int)v[3], (int)v[4], v[5] != 0 };
    }
    return cut;
}

void conform_cutouts(Case *c)
{
    Run *r = &c->run;
    int n, size = case_int(c, "clip_size", 0);
    Cut *cut = cuts_of(c, json_get(c->params, "cuts"), &n);
    Tensor x = case_in(c, "in.x"), gy = case_in(c, "in.gy"), half = case_new(c, x.s), y = case_new(c, SHAPE(n, 3, size, size)), dx = case_new(c, x.s), dy = case_new(c, y.s);
    Preprocess eyes = preprocess_clip;
    eyes.signed_range = false;
    if (!run_ok(r)) return;
    scale(r, half, (real)0.5, x, (real)0.5);
    cutouts(r, y, half, cut);
    preprocess_normalise(r, &eyes, y, y);
    preprocess_normalise_back(r, &eyes, dy, gy);
    cutouts_back(r, dx, dy, cut);
    scale(r, dx, (real)0.5, dx, 0);
    judge(c, "out.cuts", y);
    judge(c, "grad.x", dx);
}

void conform_colourmatch(Case *c)
{
    Run *r = &c->run;
    Tensor src = case_in(c, "in.src"), ref = case_in(c, "in.ref");
    if (!run_ok(r)) return;
    Tensor x = case_new(c, SHAPE(3, src.s.d[0])), y = case_new(c, SHAPE(3, ref.s.d[0])), out = case_new(c, src.s);
    if (!run_ok(r)) return;
    transpose(r, x, src);
    transpose(r, y, ref);
    colourmatch(r, x, x, y);
    transpose(r, out, x);
    judge(c, "out.matched", out);
}

/* ---- a run as a case describes it ---- */

typedef struct {
    Diffuseit d;
    Case *c;
    Unet unet;
    Dino dino;
    ClipTower tower[DIT_TOWERS];
    Gaussian process;
    Tensor noise;                                         /* in order of use */
    int noises, call;
    const Json *cuts, *log;                               /* of the next call; of the next step */
} Dit;

static const char *place(Case *c, const Json *name)
{
    return name && name->kind == JSON_STRING ? case_name(c, "%s/%s", c->root, name->text) : "";
}

static DiffuseitOptions options_of(Case *c)
{
    static const char *const weight[DIT_TERMS] = { "clip_guidance_lambda", "lambda_ssim", "lambda_contra_ssim", "lambda_dir_cls", "lambda_trg", "l2_trg_lambda", "range_lambda" };
    DiffuseitOptions o = diffuseit_options();
    for (int k = 0; k < DIT_TERMS; k++) o.weight[k] = case_real(c, weight[k], o.weight[k]);
    o.skip = case_int(c, "skip_timesteps", o.skip);
    o.diff_iter = case_int(c, "diff_iter", o.diff_iter);
    o.rounds = case_int(c, "resample_num", o.rounds);
    o.max_restarts = case_int(c, "max_restarts", o.max_restarts);
    o.range_restart = case_flag(c, "use_range_restart", false);
    o.noise_aug_all = case_flag(c, "use_noise_aug_all", false);
    o.regularize_content = case_flag(c, "regularize_content", false);
    o.prog_contrast = case_flag(c, "use_prog_contrast", false);
    o.restart_above = case_real(c, "restart_threshold", o.restart_above);
    return o;
}

static bool towers_of(Dit *w, Tensor *to, Tensor *from)
{
    Case *c = w->c;
    Run *r = &c->run;
    const Json *clips = json_get(c->params, "clips");
    for (const Json *j = clips ? clips->child : NULL; j && w->d.towers < DIT_TOWERS && run_ok(r); j = j->next) {
        int k = w->d.towers++;
        Tensor rows = case_in(c, case_name(c, "in.text.%d", k));
        LoadReport report = {0};
        if (!run_ok(r) || !clip_tower_load(&w->tower[k], place(c, j), c->weights, &report, &r->status)) return false;
        w->d.tower[k] = &w->tower[k];
        for (int i = 0; i < 2; i++) scale(r, tensor_row(rows, i), (real)(1 / sqrt(dot(r, tensor_row(rows, i), tensor_row(rows, i)))), tensor_row(rows, i), 0);
        from[k] = tensor_row(rows, 0);
        to[k] = tensor_row(rows, 1);
    }
    return run_ok(r);
}

static bool dit_open(Case *c, Dit *w)
{
    Run *r = &c->run;
    LoadReport report = {0};
    Tensor to[DIT_TOWERS], from[DIT_TOWERS];
    ScheduleConfig betas = gaussian_config(BETA_LINEAR, 1000);
    memset(w, 0, sizeof *w);
    w->c = c;
    w->d = (Diffuseit){ .unet = &w->unet, .process = &w->process, .prediction = PREDICT_EPS, .dino = &w->dino, .dino_size = case_int(c, "dino_size", 0),
                        .o = options_of(c), .user = w };
    const char *folder = case_model(c, NULL), *dino = place(c, json_get(c->params, "dino")), *respacing = case_text(c, "timestep_respacing", "");
    if (!run_ok(r) || !pixel_load_unet(&w->unet, folder, c->weights, &report, &r->status) || !dino_load(&w->dino, dino, c->weights, &report, &r->status)) return false;
    if (!gaussian_make(&w->process, &betas, respacing, w->unet.learned_variance ? VARIANCE_LEARNED : VARIANCE_LARGE, r->run, &r->status) || !towers_of(w, to, from)) return false;
    Tensor source = case_in(c, "in.source"), target = case_has(c, "in.target") ? case_in(c, "in.target") : (Tensor){0};
    return diffuseit_open(r, &w->d, source, (Tensor){0}, target, to, from);
}

/* The class token of a picture, as the previous call would have left it. */
static void see_previous(Dit *w, Tensor picture)
{
    CriticDino look;
    if (run_ok(&w->c->run)) critic_dino(&w->c->run, &w->dino, &look, w->d.cls, (Tensor){0}, picture, w->d.dino_size);
    case_pass(w->c);
}

static Tensor one_number(Case *c, double v)
{
    Tensor t = case_new(c, SHAPE(1));
    if (t.x) t.x[0] = (real)v;
    return t;
}

/* ---- terms ---- */

static void judge_terms(Dit *w, DiffuseitTerm only, Tensor x0, Tensor x, int i, const Cut *const *cut)
{
    Case *c = w->c;
    DiffuseitReport report = { .frac = 1 };
    DiffuseitOptions all = w->d.o;
    Tensor dx0 = case_new(c, x.s), dx = case_new(c, x.s), x_in = case_new(c, x.s);
    for (int k = 0; k < DIT_TERMS && only < DIT_TERMS; k++)
        if (k != (int)only) w->d.o.weight[k] = 0;
    if (run_ok(&c->run)) diffuseit_terms(&c->run, &w->d, &report, dx0, dx, (Tensor){0}, x_in, x0, x, i, cut);
    w->d.o = all;
    case_pass(c);
    if (only == DIT_TERMS) {
        judge(c, "grad.x0.total", dx0);
        judge(c, "mid.x_in", x_in);
        return;
    }
    judge(c, case_name(c, "out.%s", diffuseit_term_name[only]), one_number(c, report.term[only]));
    judge(c, case_name(c, "grad.x0.%s", diffuseit_term_name[only]), dx0);
}

void conform_diffuseit_losses(Case *c)
{
    Dit w;
    const Cut *cut[DIT_TOWERS] = {0};
    if (!dit_open(c, &w)) return;
    const Json *lists = json_get(c->params, "cuts_per_clip_model");
    int k = 0;
    for (const Json *j = lists ? lists->child : NULL; j && k < w.d.towers; j = j->next, k++) cut[k] = cuts_of(c, j, &w.d.cuts);
    Tensor x = case_in(c, "in.x_t"), x0 = case_in(c, "in.x0_hat");
    int i = case_int(c, "index", 0);
    see_previous(&w, case_in(c, "in.prev"));
    for (k = 0; k < w.d.towers; k++) judge(c, case_name(c, "mid.clip_target.%d", k), w.d.text[k]);
    for (k = 0; k <= DIT_TERMS && run_ok(&c->run); k++) judge_terms(&w, (DiffuseitTerm)k, x0, x, i, cut);
}

/* ---- a step ---- */

void conform_diffuseit_step(Case *c)
{
    Dit w;
    Run *r = &c->run;
    DiffuseitReport report;
    if (!dit_open(c, &w)) return;
    Tensor x = case_in(c, "in.x_t"), noise = case_in(c, "in.noise");
    int i = case_int(c, "index", 0);
    see_previous(&w, case_in(c, "in.prev"));
    Tensor g = case_new(c, x.s), mean = case_new(c, x.s), log_variance = case_new(c, x.s), x0 = case_new(c, x.s), out = case_new(c, x.s);
    if (!run_ok(r)) return;
    diffuseit_guide(r, &w.d, &report, g, mean, log_variance, x0, x, i, NULL);
    case_pass(c);
    for (int k = 0; k < DIT_TERMS; k++)
        if (!isnan(report.term[k])) judge(c, case_name(c, "out.loss.%s", diffuseit_term_name[k]), one_number(c, report.term[k]));
    judge(c, "mid.x0_hat", x0);
    judge(c, "out.prev", w.d.x_in);
    diffuseit_step(r, &w.d, out, x0, x, g, mean, log_variance, noise, i);
    judge(c, "out.sample", out);
    w.d.o.ddim = true;
    diffuseit_step(r, &w.d, out, x0, x, g, mean, log_variance, noise, i);
    judge(c, "out.sample_ddim", out);
    for (size_t k = 0; run_ok(r) && k < tensor_count(x); k++) {
        mean.x[k] += exp(log_variance.x[k]) * g.x[k];
        log_variance.x[k] = exp(log_variance.x[k]);
        g.x[k] = -g.x[k];
    }
    judge(c, "mid.guided_mean", mean);
    judge(c, "mid.variance", log_variance);
    judge(c, "grad.x_t", g);
}

/* ---- loops ---- */

/* in.noise of any rank, as rows of x's shape. */
static Tensor noise_rows(Case *c, Tensor x)
{
    const SafeEntry *e = case_has(c, "in.noise") ? safetensors_find(&c->tensors, "in.noise") : NULL;
    size_t one = tensor_count(x), n = e && one ? (size_t)e->count / one : 0;
    Tensor t = n ? case_new(c, SHAPE((int)n, x.s.d[1], x.s.d[2], x.s.d[3])) : (Tensor){0};
    if (!n || n * one != (size_t)e->count) run_fail(&c->run, E_FORMAT, "%s: in.noise: rows of %zu numbers are expected", c->file, one);
    else if (t.x) safetensors_read(&c->tensors, e, t.x, &c->run.status);
    return t;
}

static void next_noise(void *user, Tensor out)
{
    Dit *w = user;
    int n = w->noise.s.d[0];
    if (w->noises >= n) run_fail(&w->c->run, E_FORMAT, "%s: the run asks for more than the %d noises of the case", w->c->file, n);
    else tensor_copy(&w->c->run, out, tensor_row(w->noise, w->noises++));
}

static void next_cuts(void *user, int tower, Cut *cut, int n, int H, int W)
{
    Dit *w = user;
    const Json *j = w->cuts ? w->cuts->child : NULL;
    int found = 0;
    (void)H;
    (void)W;
    for (int k = 0; j && k < tower; k++) j = j->next;
    Cut *list = cuts_of(w->c, j, &found);
    for (int k = 0; k < n; k++) cut[k] = list && k < found ? list[k] : cut_whole(1, 1);
    if (tower == w->d.towers - 1 && w->cuts) w->cuts = w->cuts->next;
}

/* What the case wrote down of this call: index, round, flag, every term. */
static bool judge_call(void *user, const DiffuseitReport *report, Tensor x, Tensor x0)
{
    Dit *w = user;
    Case *c = w->c;
    int index = -1, round = -1;
    bool restart = !report->restart;
    (void)x;
    (void)x0;
    const Json *losses = w->log ? json_get(w->log, "losses") : NULL;
    if (w->log) {
        json_int(json_get(w->log, "index"), &index);
        json_int(json_get(w->log, "round"), &round);
        json_bool(json_get(w->log, "restart"), &restart);
    }
    judge_truth(c, case_name(c, "call %d: index, round, restart", w->call), index == report->index && round == report->round && restart == report->restart,
                case_name(c, "index %d, round %d, restart %d", report->index, report->round, report->restart));
    const Json *limit = json_get(json_get(c->json, "tolerance"), "rel");
    double rel = 1e-6;                                    /* what nine digits and float32 inputs allow the double program */
    if (limit && sizeof(real) == 4) json_number(limit, &rel);
    for (int k = 0; k < DIT_TERMS && losses; k++) {
        double theirs;
        const Json *j = json_get(losses, diffuseit_term_name[k]);
        if ((j != NULL) == isnan(report->term[k])) judge_truth(c, case_name(c, "call %d: %s", w->call, diffuseit_term_name[k]), false, j ? "not evaluated" : "not in the case");
        else if (j && json_number(j, &theirs)) judge_number(c, case_name(c, "call %d: %s", w->call, diffuseit_term_name[k]), report->term[k], theirs, fabs(theirs), rel);
    }
    w->call++;
    w->log = w->log ? w->log->next : NULL;
    return true;
}

void conform_diffuseit_loop(Case *c)
{
    Dit w;
    Run *r = &c->run;
    if (!dit_open(c, &w)) return;
    double before = case_real(c, "clip_loss_before_first_call", w.d.clip_loss);
    judge_number(c, "CLIP loss before the first call", w.d.clip_loss, before, 1, 1e-6);
    const Json *log = json_get(c->params, "log"), *cuts = json_get(c->params, "cuts_per_call_per_clip_model");
    w.log = log ? log->child : NULL;
    w.cuts = cuts ? cuts->child : NULL;
    w.d.cuts = w.cuts && w.cuts->child ? w.cuts->child->count : 0;
    w.noise = noise_rows(c, w.d.source);
    w.d.noise = next_noise;
    w.d.cut = w.d.cuts ? next_cuts : NULL;
    w.d.watch = judge_call;
    Tensor x = case_new(c, w.d.source.s), x0 = case_new(c, x.s);
    if (!run_ok(r)) return;
    diffuseit_run(r, &w.d, x, x0);
    judge_number(c, "noises used", w.noises, case_int(c, "noises_used", w.noises), 1, 1e-9);
    judge_truth(c, "calls", !w.log, "the case wrote down more");
    judge(c, "out.sample", x);
    judge(c, "out.pred_xstart", x0);
}
