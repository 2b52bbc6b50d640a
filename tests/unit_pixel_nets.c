/* unit_pixel_nets.c -- the published pixel-space networks by their counts of tensors and parameters and the shape of h (structure
 * alone, no numbers); configurations that are refused; folders that load, and are saved under the names they had. */
#include "nn/pixel.h"
#include "tensor/file.h"
#include "tests/files.h"
#include "tests/pixel_nets.h"
#include "tests/published_nets.h"

static Arena arena;

/* ---- published networks ---- */

static void counts(void)
{
    static AdmClassifier c;
    static Unet u;
    for (int i = 0; i < PUBLISHED; i++) {
        const Published *p = &published[i];
        Status s = { OK, "" };
        bool scorer = p->kind == PIXEL_ADM_CLASSIFIER, ok = published_build(p, &u, &c, &arena, &s);
        check_true(ok ? p->name : s.text, ok);
        if (!ok) continue;
        char found[80];
        int tensors;
        size_t n = scorer ? params_count(adm_classifier_walk, &c, &tensors) : params_count(unet_walk, &u, &tensors);
        const Unet *net = scorer ? &c.encoder : &u;
        Shape h = unet_h_shape(net, 2, p->side, p->side);
        snprintf(found, sizeof found, "%zu in %d, h %dx%dx%d", n, tensors, h.d[1], h.d[2], h.d[3]);
        check_line(p->name, found, n == p->parameters && tensors == p->tensors && shape_same(h, SHAPE(2, p->h[0], p->h[1], p->h[2])));
        check_true("... its own size, and the path of h", net->config.sample_size == p->side && (scorer ||
                   !strcmp(net->steps.step[net->mid_end - 1].ends, p->kind == PIXEL_DDPM_UNET ? "mid" : "middle_block")));
        arena_release(&arena, 0);
    }
}

/* A flag that is left out takes the released scripts' default: written out, it is the same network. */
static void defaults(void)
{
    static const char *const pair[][2] = {
        { "{}", "{\"image_size\":64,\"num_channels\":128,\"num_res_blocks\":2,\"num_heads\":4,\"num_heads_upsample\":-1,\"num_head_channels\":-1,"
          "\"attention_resolutions\":\"16,8\",\"channel_mult\":\"\",\"class_cond\":false,\"use_scale_shift_norm\":true,\"resblock_updown\":false,"
          "\"use_new_attention_order\":false,\"learn_sigma\":false,\"norm_groups\":32,\"in_channels\":3,\"out_channels\":3}" },
        { "{\"kind\":\"adm_classifier\",\"image_size\":256}", "{\"kind\":\"adm_classifier\",\"image_size\":256,\"num_channels\":128,\"num_res_blocks\":2,"
          "\"attention_resolutions\":[32,16,8],\"num_head_channels\":64,\"resblock_updown\":true,\"use_scale_shift_norm\":true,"
          "\"use_new_attention_order\":false,\"pool\":\"attention\",\"out_channels\":1000,\"norm_groups\":32}" },
    };
    for (int i = 0; i < 2; i++) {
        AdmConfig c[2];
        Status s = { OK, "" };
        for (int k = 0; k < 2; k++) adm_config(&c[k], tiny_json(&arena, pair[i][k], &s), "config.json", &s);
        bool flags = c[0].scale_shift == c[1].scale_shift && c[0].updown == c[1].updown && c[0].new_order == c[1].new_order &&
                     c[0].learned_variance == c[1].learned_variance && !memcmp(c[0].attention, c[1].attention, sizeof c[0].attention);
        check_line(pair[i][0], s.text, s.code == OK && flags && c[0].image_size == c[1].image_size && c[0].channels == c[1].channels &&
                   c[0].levels == c[1].levels && c[0].layers == c[1].layers && c[0].heads == c[1].heads && c[0].heads_up == c[1].heads_up &&
                   c[0].head_width == c[1].head_width && c[0].groups == c[1].groups && c[0].out_channels == c[1].out_channels && c[0].in_channels == c[1].in_channels &&
                   c[0].classes == c[1].classes && !memcmp(c[0].width, c[1].width, sizeof c[0].width));
        arena_release(&arena, 0);
    }
}

/* ---- refusals ---- */

static const Json *changed(const char *config, const char *fields, Status *s)
{
    char text[2000];
    size_t n = strlen(config) - 1;
    memcpy(text, config, n);
    snprintf(text + n, sizeof text - n, ",%s}", fields);
    return tiny_json(&arena, text, s);
}

static void refused(const char *config, const char *fields, const char *because)
{
    Status s = { OK, "" };
    AdmConfig a;
    DdpmUnetConfig d;
    const Json *j = changed(config, fields, &s);
    bool ok = strstr(config, "ddpm_unet") ? ddpm_unet_config(&d, j, "here/config.json", &s) : adm_config(&a, j, "here/config.json", &s);
    check_line(fields, s.text, !ok && s.code == E_FORMAT && strstr(s.text, because) && strstr(s.text, "here/config.json"));
    arena_release(&arena, 0);
}

static void refusals(void)
{
    static const char bare[] = "{\"kind\":\"adm_unet\",\"norm_groups\":2}", scorer[] = "{\"kind\":\"adm_classifier\",\"norm_groups\":2}";
    static const char ddpm[] = "{\"kind\":\"ddpm_unet\",\"norm_groups\":2}";
    refused(bare, "\"image_size\":96", "channel_mult: must be given for image_size 96");
    refused(bare, "\"channel_mult\":[1,2,0]", "channel_mult: expected a list of 1 to 8 numbers from 0.001 to 1000");
    refused(bare, "\"channel_mult\":\"1,2,\"", "channel_mult: expected a list");
    refused(bare, "\"channel_mult\":[1,true]", "channel_mult: expected a list");
    refused(bare, "\"channel_mult\":[0.015,1]", "1 channels at level 0 are not a multiple of norm_groups 2");
    refused(bare, "\"image_size\":10,\"channel_mult\":[1,1,1]", "image_size: 10 cannot be halved 2 times");
    refused(bare, "\"num_head_channels\":48", "cannot be cut into heads of 48");
    refused(bare, "\"num_head_channels\":0", "expected -1 or at least 1, found 0");
    refused(bare, "\"num_heads\":7", "cannot be shared by 7 and 7 heads");
    refused(bare, "\"num_heads_upsample\":5", "cannot be shared by 4 and 5 heads");
    refused(bare, "\"learn_sigma\":true,\"out_channels\":3", "out_channels: expected an integer from 6 to 6");
    refused(bare, "\"conv_resample\":false", "conv_resample: must be true");
    refused(bare, "\"dims\":3", "dims: expected 2");
    refused(bare, "\"sigma\":\"large\"", "sigma: unknown field");
    refused(bare, "\"num_classes\":0", "num_classes: expected an integer from 1");
    refused("{\"kind\":null}", "\"image_size\":64", "kind: expected");
    refused("{\"kind\":\"unet\"}", "\"image_size\":64", "kind: expected \"adm_unet\" or \"adm_classifier\", found \"unet\"");
    refused(scorer, "\"pool\":\"adaptive\"", "\"adaptive\" is not supported: only \"attention\"");
    refused(scorer, "\"pool\":\"spatial\"", "\"spatial\" is not supported");
    refused(scorer, "\"pool\":\"spatial_v2\"", "\"spatial_v2\" is not supported");
    refused(scorer, "\"num_head_channels\":-1", "num_head_channels: expected at least 1, found -1");
    refused(ddpm, "\"resamp_with_conv\":false", "resamp_with_conv: must be true");
    refused(ddpm, "\"ch_mult\":[1,1.5]", "ch_mult: expected an integer");
    refused(ddpm, "\"ch\":127", "not a multiple of norm_groups 2");
    refused(ddpm, "\"image_size\":200", "image_size: 200 cannot be halved 5 times");
    refused(ddpm, "\"type\":\"bayesian\"", "type: expected \"simple\"");
}

/* ---- folders ---- */

static bool folder_of(const char *config, const char *weights, WalkModel *walk, void *model, Status *s)
{
    Arena a = {0};
    bool ok = file_save(at("config.json"), config, strlen(config), s) && params_save(walk, model, at(weights), T_F32, &a, s);
    arena_free(&a);
    return ok;
}

static bool same_file(const char *a, const char *b)
{
    size_t n, m;
    Status s = { OK, "" };
    char *x = file_load(a, 1 << 24, &n, &s), *y = file_load(b, 1 << 24, &m, &s);
    bool same_ = x && y && n == m && !memcmp(x, y, n);
    free(x);
    free(y);
    return same_;
}

static void folders(void)
{
    static const char *const config[] = { ADM_CONV, ADM_UPDOWN, DDPM_TINY };
    static const char *const key[] = { "output_blocks.1.2.conv.weight", "output_blocks.1.2.in_layers.2.weight", "up.1.attn.1.proj_out.weight" };
    static Unet u;
    Status s = { OK, "" };
    LoadReport report;
    for (int i = 0; i < 3; i++) {
        Arena other = {0};
        pixel_unet(&u, config[i], &arena, &s);
        check_line("save", s.text, folder_of(config[i], "model.safetensors", unet_walk, &u, &s));
        check_true("the kind is seen", pixel_kind(scratch) == (i == 2 ? PIXEL_DDPM_UNET : PIXEL_ADM_UNET));
        check_line("load", s.text, pixel_load_unet(&u, scratch, &other, &report, &s) && !report.surplus && report.loaded > 100);
        check_line("saved again it is the same file", s.text, folder_of(config[i], "again.safetensors", unet_walk, &u, &s) && same_file(at("model.safetensors"), at("again.safetensors")));
        check_true(key[i], params_find(unet_walk, &u, key[i]) != NULL);
        arena_free(&other);
        arena_release(&arena, 0);
    }
    file_save(at("config.json"), ADM_UPDOWN, strlen(ADM_UPDOWN), &s);
    check_line("missing tensors are named", s.text, !pixel_load_unet(&u, scratch, &arena, NULL, &s) && s.code == E_FORMAT && strstr(s.text, "missing: time_embed.0.weight"));
    s = (Status){ OK, "" };
    static AdmClassifier c;
    check_line("a UNet is no classifier", s.text, !pixel_build_classifier(&c, scratch, &arena, &s) && strstr(s.text, "kind: expected \"adm_classifier\""));
    s = (Status){ OK, "" };
    pixel_load_unet(&u, at("nowhere"), &arena, NULL, &s);
    check_line("no folder", s.text, s.code == E_FILE && pixel_kind(at("nowhere")) == PIXEL_OTHER);
}

static void classifier_folder(void)
{
    static AdmClassifier c;
    Status s = { OK, "" };
    LoadReport report;
    Arena other = {0};
    pixel_classifier(&c, CLASSIFIER_TINY, &arena, &s);
    check_line("save", s.text, folder_of(CLASSIFIER_TINY, "model.safetensors", adm_classifier_walk, &c, &s));
    check_true("the kind is seen", pixel_kind(scratch) == PIXEL_ADM_CLASSIFIER);
    check_line("load", s.text, pixel_load_classifier(&c, scratch, &other, &report, &s) && !report.surplus);
    Param *p = params_find(adm_classifier_walk, &c, "out.2.positional_embedding"), *q = params_find(adm_classifier_walk, &c, "out.2.qkv_proj.weight");
    check_true("positions and the fused projection", p && p->size[0] == 8 && p->size[1] == 5 && q && q->block == 8 && q->parts == 3);
    check_line("saved again it is the same file", s.text, folder_of(CLASSIFIER_TINY, "again.safetensors", adm_classifier_walk, &c, &s) && same_file(at("model.safetensors"), at("again.safetensors")));
    arena_free(&other);
}

int main(int argc, char **argv)
{
    if (argc < 1 || !scratch_make(argv[0])) return 2;
    counts();
    defaults();
    refusals();
    folders();
    classifier_folder();
    scratch_remove();
    return check_done();
}
