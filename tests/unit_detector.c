/* unit_detector.c -- the scene detector against PyTorch in double precision on pictures of the bundled model, what it says
 * of them, and configurations that are refused. */
#include "nn/detector.h"
#include "ref/image.h"
#include "tensor/safetensors.h"
#include "tests/check.h"

static const char folder[] = "data/tiny-model/detector", golden[] = "tests/golden/detector";
static Arena weights, temps, runs;
static Detector d;
static Run run;

/* rows and columns from the top left */
static Tensor picture(const char *name, int H, int W)
{
    char path[200];
    Image m = {0};
    snprintf(path, sizeof path, "%s/%s.png", golden, name);
    if (!image_load(&m, &runs, path, &run.status)) return (Tensor){0};
    Tensor x = tensor_in(&run, &runs, SHAPE(1, 3, m.H, m.W)), y = tensor_in(&run, &runs, SHAPE(1, 3, H, W));
    if (!run_ok(&run)) return (Tensor){0};
    image_to_network(tensor_row(x, 0), &m);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++) y.x[(c * H + i) * W + j] = x.x[(c * m.H + i) * m.W + j];
    return y;
}

static DetectorOut outputs_for(Tensor x)
{
    const DetectorConfig *c = &d.config;
    int N = x.s.d[0];
    return (DetectorOut){ tensor_in(&run, &runs, detector_cells(&d, x.s)), tensor_in(&run, &runs, SHAPE(N, c->classes.n)),
                          tensor_in(&run, &runs, SHAPE(N, c->styles.n)), tensor_in(&run, &runs, SHAPE(N, c->backgrounds.n)) };
}

/* Largest difference over the largest expected number. */
static double apart(const Safetensors *f, const char *name, const char *what, Tensor t)
{
    char key[80];
    snprintf(key, sizeof key, "%s.%s", name, what);
    const SafeEntry *e = safetensors_find(f, key);
    if (!e || e->count != tensor_count(t)) return (double)INFINITY;
    Tensor want = tensor_in(&run, &runs, t.s);
    if (!want.x || !safetensors_read(f, e, want.x, &run.status)) return (double)INFINITY;
    double most = 0, size = 0;
    for (size_t i = 0; i < tensor_count(t); i++) {
        double v = fabs((double)t.x[i] - (double)want.x[i]);
        if (!(v <= most)) most = v;
        if (fabs((double)want.x[i]) > size) size = fabs((double)want.x[i]);
    }
    return most / size;
}

/* Limits: measured 4.4e-7 and below; float sums over at most 9 * 128 products. */
static void against_pytorch(const Safetensors *f, const char *name, Tensor x, DetectorOut *out)
{
    *out = outputs_for(x);
    detector_forward(&run, &d, *out, x);
    check_line("runs", run.status.text, run_ok(&run));
    if (!run_ok(&run)) return;
    check_below(name, apart(f, name, "cell", out->cell), 1e-5);
    check_below("    presence", apart(f, name, "pres", out->pres), 1e-5);
    check_below("    style", apart(f, name, "style", out->style), 1e-5);
    check_below("    background", apart(f, name, "background", out->background), 1e-5);
}

static void seen(const DetectorOut *o, const char *class_, int cells, double x, double y, double area)
{
    Sighting s = detector_find(o, 0, names_place(d.config.classes, class_));
    check_true(class_, s.there && s.cells == cells);
    check_below("    its centroid, px", fabs(s.x - x) + fabs(s.y - y), 1e-3);        /* measured 7e-7 */
    check_below("    its area, cells", fabs(s.area - area), 1e-3);
}

static void pictures(void)
{
    Safetensors f;
    Arena a = {0};
    DetectorOut out;
    char path[200];
    snprintf(path, sizeof path, "%s/expected.safetensors", golden);
    if (!safetensors_open(&f, &a, path, &run.status)) {
        check_true(run.status.text, 0);
        return;
    }
    against_pytorch(&f, "one", picture("one", 128, 128), &out);
    seen(&out, "frog", 43, 64.98936385, 45.16201878, 31.75648693);
    against_pytorch(&f, "cut", picture("two", 121, 90), &out);
    check_true("odd sizes: cells are rounded up", out.cell.s.d[2] == 16 && out.cell.s.d[3] == 12);
    against_pytorch(&f, "two", picture("two", 128, 128), &out);
    seen(&out, "car", 19, 28.29212973, 56.83205726, 16.74512853);
    seen(&out, "cat", 19, 55.69821038, 100.49381202, 15.24685848);
    Sighting none = detector_find(&out, 0, names_place(d.config.classes, "apple"));
    check_true("an apple is not there, and has no place", !none.there && !none.cells && isnan(none.x) && none.area == 0);
    check_true("a name that is in no list", names_place(d.config.classes, "zebra") == -1);
    bool at[256];
    int count = 0;
    detector_background(&out, 0, at);
    for (int i = 0; i < 256; i++) count += at[i];
    check_true("cells that are background: all but those of the two", count == 256 - 19 - 19);
    safetensors_close(&f);
    arena_free(&a);
}

static void batches(void)
{
    Tensor a = picture("one", 128, 128), b = picture("two", 128, 128), both = tensor_in(&run, &runs, SHAPE(2, 3, 128, 128));
    if (!run_ok(&run)) return;
    memcpy(both.x, a.x, tensor_count(a) * sizeof(real));
    memcpy(both.x + tensor_count(a), b.x, tensor_count(b) * sizeof(real));
    DetectorOut one = outputs_for(b), two = outputs_for(both);
    detector_forward(&run, &d, one, b);
    run.threads = 2;
    detector_forward(&run, &d, two, both);
    run.threads = 1;
    if (!run_ok(&run)) return;
    size_t n = tensor_count(one.cell);
    check_true("same bits in a batch and with two threads", !memcmp(one.cell.x, two.cell.x + n, n * sizeof(real)) &&
               !memcmp(one.pres.x, two.pres.x + tensor_count(one.pres), tensor_count(one.pres) * sizeof(real)) &&
               !memcmp(one.background.x, two.background.x + tensor_count(one.background), tensor_count(one.background) * sizeof(real)));
}

typedef struct { const char *config, *says; } Bad;
static void refused(void)
{
    static const Bad bad[] = {
        { "[]", "object" },
        { "{\"classes\":[\"a\"],\"styles\":[\"b\"]}", "backgrounds" },
        { "{\"classes\":[\"a\",\"a\"],\"styles\":[\"b\"],\"backgrounds\":[\"c\"]}", "\"a\" is there twice" },
        { "{\"classes\":[\"a\",3],\"styles\":[\"b\"],\"backgrounds\":[\"c\"]}", "entry 2" },
        { "{\"architecture\":\"ViT\",\"classes\":[\"a\"],\"styles\":[\"b\"],\"backgrounds\":[\"c\"]}", "architecture" },
        { "{\"channels\":[8,16],\"classes\":[\"a\"],\"styles\":[\"b\"],\"backgrounds\":[\"c\"]}", "channels" },
        { "{\"channels\":[8,16,20],\"groups\":8,\"classes\":[\"a\"],\"styles\":[\"b\"],\"backgrounds\":[\"c\"]}", "20 is not a multiple" },
        { "{\"eps\":\"x\",\"classes\":[\"a\"],\"styles\":[\"b\"],\"backgrounds\":[\"c\"]}", "eps" },
        { "{\"dilation\":2,\"classes\":[\"a\"],\"styles\":[\"b\"],\"backgrounds\":[\"c\"]}", "dilation" },
        { "{\"forward\":[\"x = 1\"],\"classes\":[\"a\"],\"styles\":[\"b\"],\"backgrounds\":[\"c\"]}", "forward" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Status s = {0};
        DetectorConfig c;
        const Json *j = json_parse(&runs, bad[i].config, strlen(bad[i].config), 16, "config.json", &s);
        bool read = j && detector_config(&c, j, "config.json", &runs, &s);
        check_line(bad[i].says, s.text, !read && s.code == E_FORMAT && strstr(s.text, bad[i].says) && strstr(s.text, "config.json"));
    }
    run.status = (Status){0};
    Tensor four = tensor_in(&run, &runs, SHAPE(1, 4, 16, 16));
    detector_forward(&run, &d, (DetectorOut){0}, four);
    check_true("pictures of four channels", run.status.code == E_SHAPE);
}

/* Another detector: nothing depends on the bundled one's sizes. */
static void other_sizes(void)
{
    static const char small[] = "{\"channels\":[6,9,12],\"groups\":3,\"classes\":[\"a\",\"b\"],\"styles\":[\"s\"],\"backgrounds\":[\"p\",\"q\",\"r\"]}";
    Status s = {0};
    DetectorConfig c;
    Detector own = d;
    int tensors = 0;
    const Json *j = json_parse(&runs, small, strlen(small), 16, "config.json", &s);
    if (!j || !detector_config(&c, j, "config.json", &runs, &s) || !detector_build(&d, &c, &s)) check_true(s.text, 0);
    else {
        params_count(detector_walk, &d, &tensors);
        params_randomise(detector_walk, &d, &runs, 1, &s);
        Tensor x = tensor_in(&run, &runs, SHAPE(2, 3, 20, 9));
        for (size_t i = 0; i < tensor_count(x); i++) x.x[i] = (real)check_uniform();
        DetectorOut out = outputs_for(x);
        detector_forward(&run, &d, out, x);
        check_true("a smaller detector", run_ok(&run) && tensors == 48 && out.cell.s.d[1] == 3 && out.cell.s.d[2] == 3 && out.cell.s.d[3] == 2);
        check_true("    gives finite numbers", !count_nonfinite(out.cell) && !count_nonfinite(out.pres) && !count_nonfinite(out.background));
    }
    d = own;
}

int main(void)
{
    LoadReport report = {0};
    int tensors = 0;
    run = (Run){ .keep = &temps, .temp = &temps, .step = &runs, .run = &runs, .k = kernels_pick(NULL), .threads = 1, .blas = true };
    temps.poison = true;
    bool loaded = detector_load(&d, folder, &weights, &report, &run.status);
    check_line("the bundled detector", run.status.text, loaded && !report.surplus);
    if (loaded) {
        check_true("its parameters", params_count(detector_walk, &d, &tensors) == 1066438 && tensors == 48);
        pictures();
        batches();
        check_true("nothing is left in the temporary arena", temps.used == 0);
        check_true(run.status.text, run_ok(&run));
        other_sizes();
        refused();
    }
    arena_free(&weights);
    arena_free(&temps);
    arena_free(&runs);
    return check_done();
}
