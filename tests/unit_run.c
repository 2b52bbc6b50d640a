/* unit_run.c -- what a computation carries along: arenas, shapes and tensors, taps, the first error. */
#include "tensor/run.h"
#include "tests/check.h"

static const size_t MB = 1 << 20;

static bool aligned(const void *p) { return p && (uintptr_t)p % 64 == 0; }

static void growth(void)
{
    Arena a = {0};
    char *p[200];
    bool good = true;
    for (int i = 0; i < 200; i++) {
        p[i] = arena_take(&a, 50001);
        good = good && aligned(p[i]);
        if (p[i]) memset(p[i], i, 50001);
    }
    for (int i = 0; i < 200 && good; i++) good = p[i][0] == (char)i && p[i][50000] == (char)i;
    check_true("200 pieces over many blocks: aligned, apart, unmoved", good);
    check_true("used counts whole lines of 64 bytes", a.used >= 200 * 50048 && a.used < a.reserved);
    check_true("a piece larger than any block", aligned(arena_take(&a, 5 * MB)));
    check_true("no bytes are still a place of their own", arena_take(&a, 0) != arena_take(&a, 0));
    check_true("an impossible size is refused", !arena_take(&a, SIZE_MAX) && !arena_take(&a, SIZE_MAX - 100));
    check_true("and leaves the arena usable", aligned(arena_take(&a, 100)));
    arena_free(&a);
    check_true("freed: nothing reserved, nothing used", !a.reserved && !a.used && !a.first);
    check_true("and usable again", aligned(arena_take(&a, 100)));
    arena_free(&a);
}

static void marks(void)
{
    Arena a = {0};
    char *before = arena_take(&a, 100);
    memset(before, 7, 100);
    size_t mark = a.used;
    void *first = arena_take(&a, 100);
    for (int i = 0; i < 40; i++) arena_take(&a, 300000);
    size_t reserved = a.reserved, peak = a.used;
    arena_release(&a, mark);
    check_true("release sets the mark back", a.used == mark);
    check_true("the same place is given again", arena_take(&a, 100) == first);
    for (int i = 0; i < 40; i++) arena_take(&a, 300000);
    check_true("released blocks serve again", a.reserved == reserved);
    check_true("the peak stays", a.peak == peak && a.used == peak);
    check_true("what was taken before the mark is untouched", before[0] == 7 && before[99] == 7);

    arena_release(&a, mark);
    size_t nested[5];
    for (int i = 0; i < 5; i++) {
        nested[i] = a.used;
        arena_take(&a, 700000);
    }
    bool good = true;
    for (int i = 4; i >= 0; i--) {
        arena_release(&a, nested[i]);
        good = good && a.used == nested[i];
        char *again = arena_take(&a, 64);
        if (again) memset(again, 1, 64);
        good = good && aligned(again) && before[99] == 7;
        arena_release(&a, nested[i]);
    }
    check_true("nested marks across blocks unwind", good && a.used == mark);

    arena_take(&a, 900000);
    arena_release(&a, 0);
    char *large = arena_take(&a, 30 * MB), *small = arena_take(&a, 64);
    if (large) memset(large, 1, 30 * MB);
    check_true("after release to 0, a piece larger than the old blocks", aligned(large) && aligned(small));
    check_true("which are given back for it", a.reserved < 33 * MB);
    arena_release(&a, mark);
    arena_trim(&a);
    check_true("trimmed: only blocks in use are held", a.reserved < reserved / 4 && a.reserved >= mark && a.used == mark);
    arena_release(&a, 0);
    arena_trim(&a);
    check_true("    none when nothing is; the peak stays", !a.reserved && !a.first && a.peak >= peak);
    before = arena_take(&a, 100);
    check_true("    and it serves again", before && a.used == mark);
    arena_free(&a);
}

static void poison(void)
{
    Arena a = { .poison = true };
    Run r = { .keep = &a, .temp = &a, .threads = 1 };
    Tensor kept = keep(&r, SHAPE(16));
    tensor_zero(kept);
    size_t mark = a.used;
    Tensor t[30];
    for (int i = 0; i < 30; i++) {
        t[i] = temp(&r, SHAPE(31, 1000));
        tensor_zero(t[i]);
    }
    arena_release(&a, mark);
    bool all = true;
    for (int i = 0; i < 30; i++)
        for (size_t k = 0; k < 31000; k++) all = all && isnan(t[i].x[k]);
    check_true("released memory reads as NaN, in every block", all);
    check_true("kept memory does not", kept.x[0] == 0 && kept.x[15] == 0);
    arena_free(&a);
    check_true("free remembers that the arena poisons", a.poison);
}

static void limit(void)
{
    Arena a = { .limit = 3 * MB + 1000 };
    Run r = { .keep = &a, .temp = &a, .threads = 1 };
    Tensor one = keep(&r, SHAPE((int)(2 * MB / sizeof(real))));
    check_true("below the limit", one.x && run_ok(&r));
    size_t taken = 0;
    while (arena_take(&a, 64 * 1024) && taken < 1000) taken++;
    check_true("the limit holds", a.reserved <= a.limit && taken >= 14 && taken < 17);
    Tensor two = keep(&r, SHAPE(1000, 1000));
    check_true("beyond it: an empty tensor and E_MEMORY", !two.x && tensor_count(two) == 0 && r.status.code == E_MEMORY);
    check_true("which says how much was wanted", strstr(r.status.text, "MB") != NULL);
    arena_release(&a, 0);
    check_true("with the error set no tensor is given", !keep(&r, SHAPE(1)).x);
    r.status = (Status){0};
    check_true("after it is dealt with, memory serves again", keep(&r, SHAPE(1000)).x != NULL);
    arena_free(&a);
    check_true("free remembers the limit", a.limit == 3 * MB + 1000);
    Arena tight = { .limit = MB + 200000 };
    check_true("near the limit a block is no larger than needed", arena_take(&tight, MB) && aligned(arena_take(&tight, 150000)) &&
                                                                   !arena_take(&tight, 100000) && tight.reserved <= tight.limit);
    arena_free(&tight);
}

static void shapes(void)
{
    Arena a = {0};
    Run r = { .keep = &a, .temp = &a, .threads = 1 };
    check_true("counts", shape_count(SHAPE(2, 3, 4, 5)) == 120 && shape_count(SHAPE(7)) == 7 && shape_count(SHAPE(0)) == 0);
    check_true("a count beyond 32 bits", shape_count(SHAPE(100000, 100000)) == 10000000000u);
    check_true("ranks", shape_rank(SHAPE(2, 3, 4, 5)) == 4 && shape_rank(SHAPE(7)) == 1 && shape_rank((Shape){0}) == 0);
    check_true("same shapes", shape_same(SHAPE(2, 3), SHAPE(2, 3)) && !shape_same(SHAPE(2, 3), SHAPE(3, 2)) &&
                              !shape_same(SHAPE(2, 3), SHAPE(2, 3, 1)));
    Tensor t = keep(&r, SHAPE(3, 4, 5)), none = {0};
    for (int i = 0; i < 60; i++) t.x[i] = (real)i;
    Tensor row = tensor_row(t, 2), rows = tensor_rows(t, 1, 2), as = tensor_as(t, SHAPE(12, 5));
    check_true("a row", row.x[0] == 40 && shape_same(row.s, SHAPE(4, 5)));
    check_true("a row of a vector is one number", shape_same(tensor_row(tensor_as(t, SHAPE(60)), 7).s, SHAPE(1)));
    check_true("some rows", rows.x[0] == 20 && shape_same(rows.s, SHAPE(2, 4, 5)));
    check_true("another shape of the same numbers", as.x == t.x && shape_same(as.s, SHAPE(12, 5)));
    check_true("of other numbers there is none", !tensor_as(t, SHAPE(61)).x);
    check_true("empty tensors stay empty", !tensor_row(none, 1).x && !tensor_rows(none, 0, 1).x && !tensor_as(none, SHAPE(1)).x &&
                                           tensor_count(none) == 0 && !tensor_same(none, none));
    check_true("an empty shape gives an empty tensor, not an error", !keep(&r, SHAPE(0)).x && run_ok(&r));
    Run vast = { .keep = &a, .temp = &a, .threads = 1 };
    check_true("a count beyond 64 bits does not come round", shape_count(SHAPE(65536, 65536, 65536, 65536)) == SIZE_MAX);
    check_true("nor do its bytes: no memory", !keep(&vast, SHAPE(65536, 65536, 65536, 32768)).x && vast.status.code == E_MEMORY);
    Tensor copy = keep(&r, SHAPE(60));
    tensor_copy(&r, copy, t);
    check_true("a copy counts numbers, not sizes", run_ok(&r) && copy.x[59] == 59);
    tensor_zero(copy);
    check_true("zero", copy.x[0] == 0 && copy.x[59] == 0 && t.x[59] == 59);
    tensor_copy(&r, copy, rows);
    check_true("a copy that does not fit", r.status.code == E_SHAPE && strstr(r.status.text, "40") && strstr(r.status.text, "60"));
    arena_free(&a);
}

static void errors(void)
{
    Run r = { .threads = 1 };
    run_fail(&r, E_FORMAT, "%s: %d bytes", "weights", 12);
    run_fail(&r, E_MEMORY, "later");
    check_true("the first error stays", r.status.code == E_FORMAT && !strcmp(r.status.text, "weights: 12 bytes"));
    Status s = {0};
    char text[1000];
    memset(text, 'x', sizeof text);
    text[999] = 0;
    status_fail(&s, E_FILE, "%s", text);
    check_true("a long text is cut, not written beyond", strlen(s.text) == sizeof s.text - 1);
}

/* Taps note their letter: the order in which they were called. */
typedef struct { char *log; char letter; real factor; } Note;
static void note(void *self, Run *r, Tensor v)
{
    Note *n = self;
    (void)r;
    strncat(n->log, &n->letter, 1);
    v.x[0] = v.x[0] * n->factor + 1;
}

static void taps(void)
{
    char log[16] = "";
    Note a = { log, 'a', 2 }, b = { log, 'b', 3 }, c = { log, 'c', 5 };
    Tap tap[] = {
        { SITE_FEATURE, "up.0.attn", &a, note, note, true },
        { SITE_FEATURE, "up.0.attn", &b, note, note, false },
        { SITE_PROBS,   "up.0.attn", &c, note, NULL, false },
        { SITE_FEATURE, "up.10",     &c, NULL, note, true },
    };
    Run r = { .tap = tap, .taps = 4, .threads = 1 };
    real x[1] = { 1 };
    Tensor v = { x, SHAPE(1) };
    tap_forward(&r, SITE_FEATURE, "up.0.attn", v);
    check_true("forward: first to last", !strcmp(log, "ab") && x[0] == 10);
    log[0] = 0;
    x[0] = 1;
    tap_backward(&r, SITE_FEATURE, "up.0.attn", v);
    check_true("backward: last to first", !strcmp(log, "ba") && x[0] == 9);
    log[0] = 0;
    tap_forward(&r, SITE_PROBS, "up.0.attn", v);
    tap_backward(&r, SITE_PROBS, "up.0.attn", v);
    tap_forward(&r, SITE_FEATURE, "up.10", v);
    tap_backward(&r, SITE_FEATURE, "up.10", v);
    check_true("a kind of its own; absent sides are the identity", !strcmp(log, "cc"));
    log[0] = 0;
    tap_forward(&r, SITE_FEATURE, "up.0", v);
    tap_forward(&r, SITE_FEATURE, NULL, v);
    tap_forward(&r, SITE_FEATURE, "up.0.attn", (Tensor){0});
    tap_backward(&r, SITE_FEATURE, "up.0.attn", (Tensor){0});
    check_true("no other path, no nameless site, no empty value", !log[0]);
    check_true("wanted", tap_wanted(&r, SITE_PROBS, "up.0.attn") && !tap_wanted(&r, SITE_QUERY, "up.0.attn") && !tap_wanted(&r, SITE_PROBS, "up.0"));
    check_true("pulls: at the path and under it", tap_pulls(&r, "up.0.attn") && tap_pulls(&r, "up.0") && tap_pulls(&r, "up"));
    check_true("pulls: up.1 is not up.10", !tap_pulls(&r, "up.1") && !tap_pulls(&r, "down"));
}

int main(void)
{
    growth();
    marks();
    poison();
    limit();
    shapes();
    errors();
    taps();
    return check_done();
}
