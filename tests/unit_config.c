/* Configurations: what is accepted, how many parameters it makes (the published sums), and that every refusal names the field. */
#include "tests/tiny_nets.h"

static Arena arena;

static const char *const UNET_15 =
    "{\"_class_name\":\"UNet2DConditionModel\",\"_diffusers_version\":\"0.6.0\",\"act_fn\":\"silu\",\"attention_head_dim\":8,"
    "\"block_out_channels\":[320,640,1280,1280],\"center_input_sample\":false,\"cross_attention_dim\":768,"
    "\"down_block_types\":[\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\",\"CrossAttnDownBlock2D\",\"DownBlock2D\"],"
    "\"downsample_padding\":1,\"flip_sin_to_cos\":true,\"freq_shift\":0,\"in_channels\":4,\"layers_per_block\":2,"
    "\"mid_block_scale_factor\":1,\"norm_eps\":1e-05,\"norm_num_groups\":32,\"out_channels\":4,\"sample_size\":64,"
    "\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\"]}";
static const char *const UNET_INPAINT = "{\"in_channels\":9,\"cross_attention_dim\":768}";
static const char *const UNET_21 =
    "{\"cross_attention_dim\":1024,\"attention_head_dim\":[5,10,20,20],\"use_linear_projection\":true,\"upcast_attention\":true,"
    "\"dual_cross_attention\":false,\"num_class_embeds\":null,\"sample_size\":96}";
static const char *const VAE_SD =
    "{\"_class_name\":\"AutoencoderKL\",\"block_out_channels\":[128,256,512,512],\"layers_per_block\":2,\"latent_channels\":4,"
    "\"down_block_types\":[\"DownEncoderBlock2D\",\"DownEncoderBlock2D\",\"DownEncoderBlock2D\",\"DownEncoderBlock2D\"],"
    "\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"],\"sample_size\":512}";

static void unet_count(const char *what, const char *text, size_t numbers, int tensors)
{
    Status s = { OK, "" };
    UnetConfig c;
    Unet u;
    int n = 0;
    size_t count = unet_config(&c, tiny_json(&arena, text, &s), "config.json", &s) && unet_build(&u, &c, &arena, &s)
                 ? params_count(unet_walk, &u, &n) : 0;
    check_true(s.code == OK ? what : s.text, count == numbers && n == tensors);
}

static void vae_count(void)
{
    Status s = { OK, "" };
    VaeConfig c;
    Vae v;
    int n = 0;
    size_t count = vae_config(&c, tiny_json(&arena, VAE_SD, &s), "config.json", &s) && vae_build(&v, &c, &arena, &s)
                 ? params_count(vae_walk, &v, &n) : 0;
    check_true(s.code == OK ? "parameters of the VAE" : s.text, count == 83653863 && n == 248);
    check_true("eight pixels to a latent pixel", vae_factor(&c) == 8);
    check_true("its scaling factor is the reference's default", c.scaling_factor == 0.18215 && c.shift_factor == 0);
}

/* A configuration with one field more (or instead). */
static const Json *with(const char *base, const char *field, Status *s)
{
    char text[2000];
    snprintf(text, sizeof text, "%.*s%s%s}", (int)strlen(base) - 1, base, field[0] ? "," : "", field);
    return tiny_json(&arena, text, s);
}

static void unet_refused(const char *field, const char *names)
{
    Status s = { OK, "" };
    UnetConfig c;
    bool ok = unet_config(&c, with("{\"cross_attention_dim\":768}", field, &s), "here/config.json", &s);
    bool named = strstr(s.text, "here/config.json: ") && strstr(s.text, names);
    check_true(field, !ok && s.code == E_FORMAT && named);
    if (!named) puts(s.text);
}

static void unet_accepted(const char *field)
{
    Status s = { OK, "" };
    UnetConfig c;
    check_true(unet_config(&c, with("{\"in_channels\":4}", field, &s), "config.json", &s) ? field : s.text, s.code == OK);
}

static void vae_refused(const char *field, const char *names)
{
    Status s = { OK, "" };
    VaeConfig c;
    bool ok = vae_config(&c, with("{\"in_channels\":3}", field, &s), "here/config.json", &s);
    bool named = strstr(s.text, "here/config.json: ") && strstr(s.text, names);
    check_true(field, !ok && s.code == E_FORMAT && named);
    if (!named) puts(s.text);
}

static void refusals(void)
{
    static const char *const bad[][2] = {
        { "\"_class_name\":\"UNet3DConditionModel\"", "expected \"UNet2DConditionModel\"" },
        { "\"addition_embed_type\":\"text_time\"", "Stable Diffusion XL" },
        { "\"num_attention_heads\":8", "num_attention_heads: must be null" },
        { "\"dual_cross_attention\":true", "dual_cross_attention" },
        { "\"class_embed_type\":\"timestep\"", "class_embed_type: expected null" },
        { "\"num_class_embeds\":1000", "found 1000" },
        { "\"encoder_hid_dim\":4096", "encoder_hid_dim" },
        { "\"time_embedding_type\":\"fourier\"", "expected positional" },
        { "\"attention_type\":\"gated\"", "expected default" },
        { "\"resnet_out_scale_factor\":2.0", "resnet_out_scale_factor" },
        { "\"something_new\":3", "something_new: unknown field" },
        { "\"something_new\":true", "something_new: unknown field" },
        { "\"block_out_channels\":[]", "a list of 1 to 8 integers" },
        { "\"block_out_channels\":[1,2,3,4,5,6,7,8,9]", "a list of 1 to 8 integers" },
        { "\"block_out_channels\":[320,640,0,1280]", "found 0" },
        { "\"block_out_channels\":[320,640,1280,1e3]", "block_out_channels" },
        { "\"block_out_channels\":[320,640]", "must be given" },
        { "\"block_out_channels\":[320,640,1280,1290]", "1290 is not a multiple of norm_num_groups 32" },
        { "\"down_block_types\":[\"DownBlock2D\"]", "expected 4 entries, one per level, found 1" },
        { "\"down_block_types\":[\"DownBlock2D\",\"DownBlock2D\",\"DownBlock2D\",\"AttnDownBlock2D\"]", "\"DownBlock2D\" or \"CrossAttnDownBlock2D\"" },
        { "\"up_block_types\":\"UpBlock2D\"", "a list of 4 names" },
        { "\"mid_block_type\":\"UNetMidBlock2DSimpleCrossAttn\"", "UNetMidBlock2DCrossAttn" },
        { "\"layers_per_block\":0", "an integer from 1 to 16" },
        { "\"layers_per_block\":[2,2,2]", "expected 4 entries" },
        { "\"layers_per_block\":2.5", "found 2.5" },
        { "\"attention_head_dim\":7", "cannot be shared by 7 heads" },
        { "\"attention_head_dim\":null", "found null" },
        { "\"norm_num_groups\":null", "norm_num_groups" },
        { "\"norm_eps\":-1", "norm_eps" },
        { "\"downsample_padding\":2", "from 0 to 1" },
        { "\"conv_in_kernel\":2", "an odd number" },
        { "\"freq_shift\":160", "freq_shift" },
        { "\"act_fn\":\"gelu\"", "\"silu\"" },
        { "\"resnet_time_scale_shift\":\"ada_group\"", "\"scale_shift\"" },
        { "\"center_input_sample\":1", "true or false" },
        { "\"in_channels\":\"4\"", "found \"4\"" },
        { "\"transformer_layers_per_block\":[1,[1,2],1,1]", "found a list" },
        { "\"only_cross_attention\":[true]", "expected 4 entries" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) unet_refused(bad[i][0], bad[i][1]);
    unet_accepted("\"cross_attention_dim\":[768,768,768,99],\"mid_block_type\":null");   /* nobody reads a text at the deepest level */
    unet_accepted("\"attention_head_dim\":[5,10,20,20],\"transformer_layers_per_block\":[1,2,4,4],\"layers_per_block\":[1,2,3,2]");
    unet_accepted("\"sample_size\":null,\"something_new\":null,\"another\":false,\"a_third\":\"default\",\"_own\":7,\"dropout\":0.1");
    vae_refused("\"cross_attention_dim\":[64,65]", "unknown field");
    vae_refused("\"down_block_types\":[\"AttnDownEncoderBlock2D\"]", "\"DownEncoderBlock2D\"");
    vae_refused("\"block_out_channels\":[48]", "48 is not a multiple of norm_num_groups 32");
    vae_refused("\"scaling_factor\":0", "scaling_factor");
    vae_refused("\"latents_mean\":[0.1,0.2]", "latents_mean");
    vae_refused("\"use_quant_conv\":null", "true or false");
}

static void one_text(void)
{
    Status s = { OK, "" };
    UnetConfig c;
    unet_config(&c, with("{\"in_channels\":4}", "\"cross_attention_dim\":[768,768,1024,768]", &s), "config.json", &s);
    check_true("levels that want different texts", s.code == E_FORMAT && strstr(s.text, "widths 768 and 1024"));
    s.code = OK;
    unet_config(&c, NULL, "config.json", &s);
    check_true("no object", s.code == E_FORMAT);
}

int main(void)
{
    unet_count("parameters of Stable Diffusion 1.5", UNET_15, 859520964, 686);
    unet_count("parameters of its inpainting variant", UNET_INPAINT, 859535364, 686);
    unet_count("parameters of Stable Diffusion 2.x", UNET_21, 865910724, 686);
    vae_count();
    refusals();
    one_text();
    arena_free(&arena);
    return check_done();
}
