#include "ref/image.h"
#include "ref/maps_picture.h"
#include "ref/verbs.h"

enum { SHEET_MOST = 64 };
typedef struct { Common common; const char *output; } Sheet;
static const Option row[] = {
    { "output", 'o', OPTION_TEXT, offsetof(Sheet, output), 0, 0, "sheet.png", "FILE", "PNG", NULL },
};
static const OptionPage page = {
    "sheet", "Pictures above each other, as one: strips to a contact sheet.", "tiller sheet strip-1.png strip-2.png -o sheet.png", "IMAGE ...", 1, SHEET_MOST,
    NULL, { TABLE("Output", row), COMMON_TABLE }
};

int verb_sheet(int argc, char **argv)
{
    Sheet g = {0};
    Console c;
    Arena a = {0};
    Status s = {0};
    Image m[SHEET_MOST];
    char *rest[SHEET_MOST];
    int rests, code;
    if (!verb_begin(&c, &page, &g, argc, argv, rest, &rests, &code)) return code;
    for (int i = 0; i < rests && s.code == OK; i++) image_load(&m[i], &a, rest[i], &s);
    Image all = s.code == OK ? pictures_joined(&a, m, rests, true, &s) : (Image){0};
    if (all.rgb && image_save(g.output, &a, &all, NULL, 0, NULL, &s)) console_note(&c, "%s", g.output);
    code = console_end(&c, s.code == OK ? EXIT_DONE : console_error(&c, &s, common_hint(&s)));
    arena_free(&a);
    return code;
}
