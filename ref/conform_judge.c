#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ref/conform.h"
#include "ref/oneline.h"
#include "tensor/shape.h"

static const double LIMIT_F64 = 1e-6;   /* of the double program: the data are float32, so 6e-8 at best */

typedef enum { BY_MAX, BY_L2, BY_ABS, BY_ULP, BY_EXACT, BY_NOTHING } Measure;
static const char *const MEASURES[] = { "max", "l2", "abs", "ulp", "exact", "none" };

typedef enum { REALS, DOUBLES, INTEGERS, DRAWS } Origin;
typedef struct { const char *name; Origin origin; Shape s; size_t n; const void *x; } Value;
typedef struct { Measure by; double error, limit, ours, theirs; size_t at; bool pass; const char *why; } Verdict;

/* ---- one line per verdict ---- */

static void print_json(const Case *c, const char *event, const char *name, const Verdict *v)
{
    JsonOut o = {0};
    console_event(&o, event);
    json_text(&o, "case", c->name);
    json_text(&o, "kind", c->kind ? c->kind : "");
    json_text(&o, "name", name);
    json_text(&o, "measure", MEASURES[v->by]);
    if (isfinite(v->error)) json_real(&o, "error", v->error, 9);
    else json_null(&o, "error");
    json_real(&o, "limit", v->limit, 9);
    json_truth(&o, "pass", v->pass);
    if (v->why) json_text(&o, "why", v->why);
    console_send(c->report->console, &o);
}

static void print_line(const Case *c, const char *name, const Verdict *v)
{
    if (!c->report->headed) printf("%-4s  %-28s %-72s %-5s %10s %10s\n", "", "case", "tensor or check", "by", "error", "limit");
    c->report->headed = true;
    char a[ONELINE], b[ONELINE], why[ONELINE];
    printf("%s  %-28s %-72s %-5s %10.2e %10.1e", v->pass ? "PASS" : "FAIL", oneline(a, sizeof a, c->name), oneline(b, sizeof b, name),
           MEASURES[v->by], v->error, v->limit);
    if (v->why) printf("  %s", oneline(why, sizeof why, v->why));
    else if (!v->pass) printf("  at %zu: %.9g instead of %.9g", v->at, v->ours, v->theirs);
    putchar('\n');
}

static void tell(Case *c, const char *event, const char *name, Verdict v)
{
    if (v.pass) c->report->passed++;
    else c->report->failed++;
    if (c->report->json) print_json(c, event, name, &v);
    else print_line(c, name, &v);
}

static void tell_failure(Case *c, const char *event, const char *name, const char *why)
{
    tell(c, event, name, (Verdict){ .by = BY_NOTHING, .error = (double)NAN, .why = why });
}

/* ---- limits ---- */

static Verdict limit_of(const Case *c, const Value *value, bool integers)
{
    const Json *t = json_get(c->json, "tolerance");
    Verdict v = { .by = json_is(json_get(t, "measure"), "l2") ? BY_L2 : BY_MAX };
    bool exact = false, draw = value->origin == DRAWS;
    json_bool(json_get(t, "exact"), &exact);
    if (integers || exact) v.by = BY_EXACT;
    else if (json_number(json_get(t, value->name), &v.limit)) {}
    else if (draw && json_number(json_get(t, "ulp"), &v.limit)) v.by = BY_ULP;
    else if (json_number(json_get(t, "rel"), &v.limit)) {}
    else if (json_number(json_get(t, "abs"), &v.limit)) v.by = BY_ABS;
    else if (json_number(json_get(t, "ulp"), &v.limit)) v.by = BY_ULP;
    else v.by = BY_NOTHING;
    bool relative = v.by == BY_MAX || v.by == BY_L2 || (v.by == BY_ABS && !draw);
    if (sizeof(real) == sizeof(double) && relative) v.limit = fmin(v.limit, LIMIT_F64);
    return v;
}

/* ---- errors ---- */

static int64_t ulp_place(double x)                        /* float32 values in order, as consecutive integers */
{
    float f = (float)x;
    int32_t i;
    memcpy(&i, &f, sizeof i);
    return i < 0 ? (int64_t)INT32_MIN - i : i;
}

static double distance(Measure by, double a, double b)
{
    if (by == BY_EXACT) return a == b ? 0 : 1;
    if (by == BY_ULP) return isnan(a) || isnan(b) ? (double)NAN : (double)llabs(ulp_place(a) - ulp_place(b));
    return fabs(a - b);
}

static void measure(Verdict *v, const double *a, const double *b, size_t n)
{
    double most = 0, sum = 0, b_most = 0, b_sum = 0, far = -1;
    bool nan = false;
    for (size_t i = 0; i < n; i++) {
        double d = distance(v->by, a[i], b[i]);
        if ((isnan(d) && !nan) || (!nan && d > far)) {
            v->at = i;
            v->ours = a[i];
            v->theirs = b[i];
            far = d;
        }
        nan |= isnan(d);
        most = fmax(most, d);
        sum += v->by == BY_EXACT ? d : d * d;
        b_most = fmax(b_most, fabs(b[i]));
        b_sum += b[i] * b[i];
    }
    switch (v->by) {
    case BY_MAX:     v->error = b_most > 0 ? most / b_most : most;              break;
    case BY_L2:      v->error = b_sum > 0 ? sqrt(sum / b_sum) : sqrt(sum);      break;
    case BY_ABS:
    case BY_ULP:     v->error = most;                                           break;
    case BY_EXACT:   v->error = sum;                                            break;
    case BY_NOTHING: v->why = "the case states no limit";                       break;
    }
    if (nan || v->by == BY_NOTHING) v->error = (double)NAN;
    v->pass = v->error <= v->limit;
}

/* ---- values ---- */

static double at(const Value *v, size_t i)
{
    switch (v->origin) {
    case REALS:    return (double)((const real *)v->x)[i];
    case DOUBLES:  return ((const double *)v->x)[i];
    case INTEGERS: return (double)((const int64_t *)v->x)[i];
    case DRAWS:    return (double)((const float *)v->x)[i];
    }
    return (double)NAN;
}

static double *reference(Case *c, const SafeEntry *e, bool integers)
{
    size_t n = (size_t)e->count, one = sizeof(int64_t) > sizeof(real) ? sizeof(int64_t) : sizeof(real);
    double *b = arena_take(c->run.temp, n * sizeof *b);
    void *raw = arena_take(c->run.temp, n * one);
    if (!b || !raw) {
        run_fail(&c->run, E_MEMORY, "%s: no memory for the %zu numbers of %s", c->file, n, e->name);
        return NULL;
    }
    Status *s = &c->run.status;
    bool read = integers ? safetensors_read_i64(&c->tensors, e, raw, s) : safetensors_read(&c->tensors, e, raw, s);
    if (!read) return NULL;
    for (size_t i = 0; i < n; i++) b[i] = integers ? (double)((int64_t *)raw)[i] : (double)((real *)raw)[i];
    return b;
}

static bool shape_fits(const Value *v, const SafeEntry *e)
{
    Shape s;
    if (v->n != e->count) return false;
    return !safetensors_shape(e, &s) || shape_same(s, v->s);     /* of more than 4 sizes only the count is known */
}

static void compare(Case *c, const Value *v, const SafeEntry *e)
{
    bool integers = e->type != T_F64 && e->type != T_F32 && e->type != T_F16 && e->type != T_BF16;
    Verdict verdict = limit_of(c, v, integers);
    size_t mark = c->run.temp->used;
    if (!shape_fits(v, e)) {
        char why[160];
        snprintf(why, sizeof why, "ours is [%d,%d,%d,%d], %zu numbers; the case has %llu", v->s.d[0], v->s.d[1], v->s.d[2],
                 v->s.d[3], v->n, (unsigned long long)e->count);
        tell_failure(c, "tensor", v->name, why);
    } else {
        double *a = arena_take(c->run.temp, v->n * sizeof *a), *b = reference(c, e, integers);
        if (a && b) {
            for (size_t i = 0; i < v->n; i++) a[i] = at(v, i);
            measure(&verdict, a, b, v->n);
            tell(c, "tensor", v->name, verdict);
        } else tell_failure(c, "tensor", v->name, "could not be read");
    }
    arena_release(c->run.temp, mark);
}

/* ---- what is written on --dump ---- */

struct Dumped { SafeOut out; Dumped *next; };

static void dump_add(Case *c, const Value *v)
{
    for (const Dumped *d = c->dumped; d; d = d->next)
        if (!strcmp(d->out.name, v->name)) return;
    bool wide = v->origin == INTEGERS;
    size_t one = wide ? sizeof(int64_t) : sizeof(real);
    Dumped *d = arena_take(c->run.run, sizeof *d);
    char *copy = arena_take(c->run.run, v->n * one);
    if (!d || !copy) {
        run_fail(&c->run, E_MEMORY, "%s: no memory to keep %s for --dump", c->file, v->name);
        return;
    }
    for (size_t i = 0; i < v->n; i++) {
        if (wide) ((int64_t *)copy)[i] = ((const int64_t *)v->x)[i];
        else ((real *)copy)[i] = (real)at(v, i);
    }
    Dtype type = wide ? T_I64 : sizeof(real) == sizeof(double) ? T_F64 : T_F32;
    *d = (Dumped){ { .name = case_name(c, "%s", v->name), .type = type, .rank = shape_rank(v->s), .from = copy, .is_real = !wide },
                   c->dumped };
    memcpy(d->out.size, v->s.d, sizeof v->s.d);
    c->dumped = d;
}

bool dump_values(Case *c)
{
    size_t n = 0;
    for (const Dumped *d = c->dumped; d; d = d->next) n++;
    SafeOut *out = arena_take(c->run.run, n * sizeof *out);
    const char *path = case_name(c, "%s/%s.safetensors", c->report->dump, c->name);
    if (!out) run_fail(&c->run, E_MEMORY, "%s: no memory for a list of %zu tensors", path, n);
    if (!out || !*path) return false;
    size_t i = n;
    for (const Dumped *d = c->dumped; d; d = d->next) out[--i] = d->out;      /* in the order they were judged */
    const char *meta[] = { "kind", c->kind };
    return safetensors_save(path, out, (int)n, meta, 1, &c->run.status);
}

/* ---- the judge ---- */

static bool must_meet(const char *name)
{
    static const char *const prefix[] = { "out.", "mid.", "grad.", "grad_attn." };
    for (int i = 0; i < 4; i++)
        if (!strncmp(name, prefix[i], strlen(prefix[i]))) return true;
    return false;
}

static void judge_value(Case *c, Value v)
{
    if (!v.x || !v.n || !run_ok(&c->run)) return;         /* the error that emptied it is told once, at the end */
    const SafeEntry *e = c->tensors.entries ? safetensors_find(&c->tensors, v.name) : NULL;
    if (c->report->dump) dump_add(c, &v);
    if (!e || c->judged[e - c->tensors.entry]) return;
    c->judged[e - c->tensors.entry] = true;
    compare(c, &v, e);
}

void judge(Case *c, const char *name, Tensor t) { judge_value(c, (Value){ name, REALS, t.s, tensor_count(t), t.x }); }

void judge_nhwc(Case *c, const char *name, Tensor t)
{
    size_t mark = c->run.temp->used;
    Tensor y = temp(&c->run, SHAPE(t.s.d[0], t.s.d[3], t.s.d[1], t.s.d[2]));
    if (t.x && y.x) nhwc_to_nchw(&c->run, y, t);
    judge(c, name, y);
    arena_release(c->run.temp, mark);
}

void judge_doubles(Case *c, const char *name, Shape s, const double *x)
{
    judge_value(c, (Value){ name, DOUBLES, s, shape_count(s), x });
}

void judge_integers(Case *c, const char *name, Shape s, const int64_t *x)
{
    judge_value(c, (Value){ name, INTEGERS, s, shape_count(s), x });
}

void judge_draws(Case *c, const char *name, Shape s, const float *x)
{
    judge_value(c, (Value){ name, DRAWS, s, shape_count(s), x });
}

void judge_number(Case *c, const char *what, double ours, double theirs, double scale, double limit)
{
    Verdict v = { .by = BY_MAX, .ours = ours, .theirs = theirs, .limit = limit };
    if (sizeof(real) == sizeof(double)) v.limit = fmin(limit, LIMIT_F64);
    v.error = scale > 0 ? fabs(ours - theirs) / scale : fabs(ours - theirs);
    v.pass = v.error <= v.limit;
    tell(c, "check", what, v);
}

void judge_list(Case *c, const char *what, const int64_t *ours, int n, const Json *theirs)
{
    char why[160];
    if (!theirs || theirs->kind != JSON_ARRAY || theirs->count != n) {
        snprintf(why, sizeof why, "ours has %d numbers, the case %d", n, theirs ? theirs->count : 0);
        tell_failure(c, "check", what, why);
        return;
    }
    Verdict v = { .by = BY_EXACT };
    const Json *j = theirs->child;
    for (int i = 0; i < n; i++, j = j->next) {
        uint64_t want;
        if (json_u64(j, &want) && ours[i] >= 0 && (uint64_t)ours[i] == want) continue;
        if (v.error++ > 0) continue;
        v.at = (size_t)i;
        v.ours = (double)ours[i];
        if (!json_number(j, &v.theirs)) v.theirs = (double)NAN;
    }
    v.pass = v.error <= 0;
    tell(c, "check", what, v);
}

void judge_truth(Case *c, const char *what, bool good, const char *detail)
{
    if (good) tell(c, "check", what, (Verdict){ .by = BY_EXACT, .pass = true });
    else tell_failure(c, "check", what, detail);
}

void judge_missing(Case *c)
{
    for (int i = 0; i < c->tensors.entries; i++)
        if (must_meet(c->tensors.entry[i].name) && !c->judged[i])
            tell_failure(c, "tensor", c->tensors.entry[i].name, "not produced");
}

void judge_end(Case *c)
{
    if (run_ok(&c->run)) return;
    tell_failure(c, "check", "the case runs to its end", c->run.status.text);
    if (c->report->worst == OK) c->report->worst = c->run.status.code;
}
