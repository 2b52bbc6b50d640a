/* observe.c -- one pass of one branch, with what guidance sees and writes spliced in as taps. */
#include <string.h>
#include "guidance/guide.h"
#include "tensor/point.h"
#include "tensor/shape.h"

static const SiteKind site_kind[] = { SITE_PROBS, SITE_QUERY, SITE_KEY, SITE_VALUE, SITE_FEATURE, SITE_TIME };

static bool glob(const char *p, const char *end, const char *s)
{
    for (; p < end; p++, s++) {
        if (*p == '*') {
            for (p++; ; s++) {
                if (glob(p, end, s)) return true;
                if (!*s) return false;
            }
        }
        if (*p != *s) return false;
    }
    return !*s;
}

bool site_matches(const char *patterns, const char *site)
{
    if (!*patterns) return !*site;                        /* what belongs to the step */
    while (*patterns) {
        const char *end = patterns + strcspn(patterns, ",");
        if (glob(patterns, end, site)) return true;
        patterns = *end ? end + 1 : end;
    }
    return false;
}

const Sight *view_see(const View *v, See kind, const char *patterns, int nth)
{
    for (int i = 0; v && i < v->sights; i++)
        if (v->sight[i].kind == kind && site_matches(patterns, v->sight[i].site) && nth-- == 0) return &v->sight[i];
    return NULL;
}

Sight *view_at(View *v, See kind, const char *patterns, int nth)
{
    const Sight *s = view_see(v, kind, patterns, nth);
    return s ? &v->sight[s - v->sight] : NULL;
}

/* What sits at one site of one pass: perhaps writes, then perhaps an eye, then perhaps the shift of h. */
typedef struct {
    SiteKind kind;
    const char *site;
    Sight *sight;
    const WriteAt *write[LANE_WRITES];
    const Sight *ref[LANE_WRITES];
    int writes;
    const Clock *clock;
    const Lane *h;                                        /* the middle block's: whose dh is added and gh filled; NULL elsewhere */
} Spot;

/* Of one image: features are [C,h,w] at the border and [1,h,w,C] inside; all else only drops the batch size. */
static Shape border(SiteKind kind, Shape s)
{
    return kind == SITE_FEATURE ? SHAPE(s.d[3], s.d[1], s.d[2]) : (Shape){{ s.d[1], s.d[2], s.d[3], 0 }};
}

static Tensor to_border(Run *r, SiteKind kind, Tensor v)
{
    Shape s = border(kind, v.s);
    if (kind != SITE_FEATURE) return tensor_as(v, s);
    Tensor t = temp(r, s);
    if (t.x) nhwc_to_nchw(r, (Tensor){ t.x, {{ 1, s.d[0], s.d[1], s.d[2] }} }, v);
    return t;
}

static void from_border(Run *r, SiteKind kind, Tensor v, Tensor b)
{
    if (kind == SITE_FEATURE && b.x) nchw_to_nhwc(r, v, (Tensor){ b.x, {{ 1, b.s.d[0], b.s.d[1], b.s.d[2] }} });
}

static void spot_forward(void *self, Run *r, Tensor v)
{
    Spot *s = self;
    size_t mark = r->temp->used;
    Tensor b = to_border(r, s->kind, v);
    for (int i = 0; i < s->writes && b.x; i++)
        s->write[i]->write->put(s->write[i]->write, r, s->clock, s->site, b, s->ref[i], s->write[i]->state);
    if (s->h && s->h->dh.x) add(r, b, s->h->dh);
    if (s->sight && !r->replay) tensor_copy(r, s->sight->val, b);
    if (s->writes || (s->h && s->h->dh.x)) from_border(r, s->kind, v, b);
    arena_release(r->temp, mark);
}

static void spot_backward(void *self, Run *r, Tensor grad)
{
    Spot *s = self;
    size_t mark = r->temp->used;
    Tensor b = to_border(r, s->kind, grad);
    if (s->sight && s->sight->adj.x) add(r, b, s->sight->adj);
    if (s->h && s->h->gh.x) tensor_copy(r, s->h->gh, b);
    for (int i = s->writes; i-- > 0 && b.x; ) {
        const Write *w = s->write[i]->write;
        if (w->back) w->back(w, r, s->clock, s->site, b, s->write[i]->state);
        else tensor_zero(b);                              /* a constant was written: nothing flows past it */
    }
    from_border(r, s->kind, grad, b);
    arena_release(r->temp, mark);
}

typedef struct {                                          /* walking over the network's sites */
    Run *r;
    Unet *unet;
    Lane *l;
    const Clock *clock;
    const Want *want;
    int wants;
    const View *const *ref;
    bool pull, count;
    int taps, sights;
} Placing;

static bool wanted(const Placing *p, See kind, const char *path)
{
    for (int i = 0; i < p->wants; i++)
        if (p->want[i].kind == kind && site_matches(p->want[i].sites, path)) return true;
    return false;
}

static bool writes_here(const Placing *p, const Write *w, See kind, const char *path)
{
    return w->kind == kind && (!w->when || w->when(p->clock, w->when_par) != 0) && site_matches(w->sites, path);
}

static void fill_spot(Placing *p, Spot *s, See kind, SiteKind site, const char *path, Shape shape, bool see)
{
    Lane *l = p->l;
    *s = (Spot){ .kind = site, .site = path, .clock = p->clock };
    for (int i = 0; i < l->writes; i++) {
        const Write *w = l->write[i].write;
        if (!writes_here(p, w, kind, path)) continue;
        s->write[s->writes] = &l->write[i];
        s->ref[s->writes++] = w->reference >= 0 && p->ref ? view_see(p->ref[w->reference], kind, path, 0) : NULL;
    }
    if (see) {
        Sight *sight = &l->view.sight[p->sights];
        *sight = (Sight){ kind, path, tensor_in(p->r, p->r->step, border(site, shape)), {0} };
        if (p->pull) {
            sight->adj = tensor_in(p->r, p->r->step, sight->val.s);
            tensor_zero(sight->adj);
        }
        s->sight = sight;
    }
    if (kind == SEE_FEATURE && !strcmp(path, "mid_block")) s->h = l;
}

static void place(void *self, SiteKind site, const char *path, Shape shape)
{
    Placing *p = self;
    Lane *l = p->l;
    See kind = SEE_PROBS;
    while (site_kind[kind] != site) kind++;
    bool see = wanted(p, kind, path);
    bool here = see || (kind == SEE_FEATURE && l->dh.x && !strcmp(path, "mid_block"));
    for (int i = 0; i < l->writes && !here; i++) here = writes_here(p, l->write[i].write, kind, path);
    if (!here) return;
    if (!p->count && run_ok(p->r)) {
        Spot *s = arena_take(p->r->step, sizeof *s);
        if (!s) {
            run_fail(p->r, E_MEMORY, "out of memory: guidance sites");
            return;
        }
        fill_spot(p, s, kind, site, path, shape, see);
        l->tap[p->taps] = (Tap){ site, path, s, spot_forward, spot_backward, p->pull && (s->sight || s->h) };
    }
    p->taps++;
    p->sights += see;
}

static void place_taps(Placing *p)
{
    Run *r = p->r;
    Lane *l = p->l;
    p->count = true;
    unet_sites(p->unet, l->z.s.d[1], l->z.s.d[2], l->context.s.d[0], place, p);
    l->tap = arena_take(r->step, (size_t)(p->taps + 1) * sizeof *l->tap);
    l->view.sight = arena_take(r->step, (size_t)(p->sights + 1) * sizeof *l->view.sight);
    if (!l->tap || !l->view.sight) run_fail(r, E_MEMORY, "out of memory: guidance sites");
    p->count = false;
    p->taps = p->sights = 0;
    if (run_ok(r)) unet_sites(p->unet, l->z.s.d[1], l->z.s.d[2], l->context.s.d[0], place, p);
    l->taps = p->taps;
    l->view.sights = p->sights;
}

Lane lane_make(const Branch *b, void *state)
{
    Lane l = { .b = *b, .state = state, .h_state = state, .context = b->context };
    for (int i = 0; i < b->writes && i < LANE_WRITES; i++) l.write[l.writes++] = (WriteAt){ &b->write[i], state };
    return l;
}

Clock guide_clock(const Schedule *s, int i)
{
    int t = s->t[i], before = schedule_previous(s, t);
    return (Clock){ .i = i, .n = s->n, .t = t, .t_prev = before,
                    .ab = schedule_alpha_bar(s, t), .ab_prev = schedule_alpha_bar(s, before) };
}

double guide_time(const Guide *g, const Clock *c) { return c->t * (g->process ? g->process->time_scale : 1); }

int guide_channels(const Guide *g, Tensor z) { return z.s.d[0] + (g->beside.x ? g->beside.s.d[0] : 0); }

void guide_input(Run *r, const Guide *g, Tensor to, Tensor z)
{
    size_t n = tensor_count(z);
    if (run_ok(r) && g->beside.x && (g->beside.s.d[1] != z.s.d[1] || g->beside.s.d[2] != z.s.d[2]))
        run_fail(r, E_SHAPE, "guidance: %d x %d beside a latent of %d x %d", g->beside.s.d[2], g->beside.s.d[1], z.s.d[2], z.s.d[1]);
    if (!run_ok(r)) return;
    tensor_copy(r, (Tensor){ to.x, z.s }, z);
    if (g->beside.x) tensor_copy(r, (Tensor){ to.x + n, g->beside.s }, g->beside);
}

/* The output [2C,h,w] of a network that learned its variance, or [C,h,w]: eps first. */
void lane_output(Lane *l, Tensor out)
{
    Shape s = l->z.s;
    size_t half = shape_count(s);
    l->eps = l->range = (Tensor){0};
    if (!out.x) return;
    l->eps = (Tensor){ out.x, s };
    if (tensor_count(out) == 2 * half) l->range = (Tensor){ out.x + half, s };
}

void guide_observe(Run *r, const Guide *g, Lane *l, const Clock *c, const Want *want, int wants,
                   const View *const *ref, bool pull, bool whole)
{
    Arena *kept = r->keep;
    Shape z = l->z.s, ctx = l->context.s;
    Clock *clock = arena_take(r->step, sizeof *clock);
    if (!clock || !l->z.x || (!l->context.x && g->unet->context)) {
        run_fail(r, clock ? E_SHAPE : E_MEMORY, "guidance: branch %s has no %s", l->b.name, clock ? "latent or context" : "memory");
        return;
    }
    *clock = *c;
    l->view = (View){ .branch = l->b.name, .h = z.d[1], .w = z.d[2], .clock = *c };
    place_taps(&(Placing){ .r = r, .unet = g->unet, .l = l, .clock = clock, .want = want, .wants = wants, .ref = ref, .pull = pull });
    Tensor out = {0}, input = l->z;
    if (g->beside.x) guide_input(r, g, input = tensor_in(r, r->step, SHAPE(guide_channels(g, l->z), z.d[1], z.d[2])), l->z);
    if (whole) out = l->room.x ? l->room : tensor_in(r, r->step, SHAPE(g->unet->config.out_channels, z.d[1], z.d[2]));

    const Tap *outer = r->tap;
    int outers = r->taps;
    double t = guide_time(g, c);
    Shape e = out.s;
    r->tap = l->tap;
    r->taps = l->taps;
    if (!pull) r->keep = r->temp;
    unet_forward(r, g->unet, (Tensor){ out.x, {{ whole, e.d[0], e.d[1], e.d[2] }} }, &l->pass,
                 (Tensor){ input.x, {{ 1, input.s.d[0], z.d[1], z.d[2] }} }, &t, (Tensor){ l->context.x, {{ 1, ctx.d[0], ctx.d[1] }} },
                 g->recompute);
    r->keep = kept;
    r->tap = outer;
    r->taps = outers;
    lane_output(l, out);
    l->valid = run_ok(r);
}

void guide_pull(Run *r, const Guide *g, Lane *l, Tensor dz, Tensor dcontext, Tensor deps)
{
    const Tap *outer = r->tap;
    int outers = r->taps;
    size_t mark = r->temp->used;
    Tensor one[3] = { dz, dcontext, deps };
    if (deps.x && l->range.x) {                           /* nothing is asked of the learned variance */
        one[2] = temp(r, SHAPE(2 * deps.s.d[0], deps.s.d[1], deps.s.d[2]));
        tensor_zero(one[2]);
        if (one[2].x) tensor_copy(r, (Tensor){ one[2].x, deps.s }, deps);
    }
    if (dz.x && g->beside.x) one[0] = temp(r, SHAPE(guide_channels(g, dz), dz.s.d[1], dz.s.d[2]));
    for (int i = 0; i < 3; i++)
        if (one[i].x) one[i].s = (Shape){{ 1, one[i].s.d[0], one[i].s.d[1], one[i].s.d[2] }};
    r->tap = l->tap;
    r->taps = l->taps;
    unet_backward(r, g->unet, one[0], one[1], one[2], &l->pass);
    if (dz.x && g->beside.x && run_ok(r)) tensor_copy(r, dz, (Tensor){ one[0].x, dz.s });
    r->tap = outer;
    r->taps = outers;
    arena_release(r->temp, mark);
}
