/* unit_words.c -- words to token positions, counted by hand: every word of these prompts is one token of the bundled
 * vocabulary but for "umbrellaing"; position 0 is the begin mark. */
#include <string.h>
#include "ref/words.h"
#include "tests/check.h"

static Arena arena;
static Status status;
static const Tokenizer *t;

static int only(const char *word, const char *prompt)
{
    Object o;
    status = (Status){0};
    if (!words_find(&o, &arena, t, word, prompt, NULL, false, &status)) return -1;
    return o.tokens == 1 && o.sources == 1 && o.source[0] == o.token[0] ? o.token[0] : -2;
}

static void one_word(void)
{
    check_true("the fifth word", only("cat", "a photo of a cat on grass") == 5);
    check_true("upper case", only("Cat", "a photo of a CAT on grass") == 5);
    check_true("a plural for a singular", only("cat", "two cats on grass") == 2);
    check_true("a singular for a plural", only("cats", "a cat on grass") == 2);
    check_true("mice for a mouse", only("mouse", "two mice on grass") == 2);
    check_true("no part of a word", only("cat", "a category of things") == -1 && status.code == E_OPTION);
    check_true("the second one", only("cat#2", "a cat and a cat") == 5);
    check_true("no third one", only("cat#3", "a cat and a cat") == -1);
    check_true("behind it a comma", only("cat", "a cat, a dog") == 2);
    check_true("what is not there is named", only("dog", "a cat") == -1 && strstr(status.text, "\"dog\"") && strstr(status.text, "\"a cat\""));
}

static void two_prompts(void)
{
    Object o;
    status = (Status){0};
    check_true("in both prompts", words_find(&o, &arena, t, "cat", "a big cat", "the cat", false, &status) && o.token[0] == 3 && o.source[0] == 2);
    check_true("not in the source", words_find(&o, &arena, t, "cat", "a cat", "a dog", false, &status) && o.tokens == 1 && o.sources == 0);
    check_true("only in the source", words_find(&o, &arena, t, "dog", "a cat", "a dog", true, &status) && o.tokens == 0 && o.source[0] == 2);
    check_true("which must be asked for", !words_find(&o, &arena, t, "dog", "a cat", "a dog", false, &status));
    status = (Status){0};
    check_true("two words", words_find(&o, &arena, t, "red car", "a red car", NULL, false, &status) && o.tokens == 2 && o.token[0] == 2 && o.token[1] == 3);
}

static void spans(void)
{
    PromptWords w;
    status = (Status){0};
    check_true("a prompt in words", words_of(&w, &arena, t, "  a cat,  umbrellaing dog", 77, &status) && w.words == 4);
    check_true("the word as written", !strcmp(w.word[1], "cat,"));
    check_true("a word and its comma are two tokens", w.span[0][0] == 1 && w.span[0][1] == 2 && w.span[1][0] == 2 && w.span[1][1] == 4);
    check_true("spans touch", w.span[2][0] == 4 && w.span[2][1] >= 6 && w.span[3][0] == w.span[2][1] && w.span[3][1] == w.span[3][0] + 1);
    check_true("ids end with the end mark", w.ids == w.span[3][1] + 1 && w.id[0] == tokenizer_bos(t) && w.id[w.ids - 1] == tokenizer_eos(t));
    check_true("no word", words_of(&w, &arena, t, "", 77, &status) && w.words == 0 && w.ids == 2);
    check_true("words that are cut off have no tokens", words_of(&w, &arena, t, "a b c d e", 5, &status) && w.words == 5 && w.span[2][1] == 4 && w.span[3][1] == 0);
}

static void nouns(void)
{
    const char *found[4];
    status = (Status){0};
    int n = words_nouns(found, 4, &arena, "data/nouns.txt", "A photo of two Cats, a teddy bear and a cat on grass", &status);
    check_true("nouns of a prompt", n == 3 && !strcmp(found[0], "cats") && !strcmp(found[1], "teddy bear") && !strcmp(found[2], "cat"));
    n = words_nouns(found, 4, &arena, "data/nouns.txt", "a cat and a cat", &status);
    check_true("the same one twice", n == 2 && !strcmp(found[0], "cat") && !strcmp(found[1], "cat#2"));
    check_true("none", words_nouns(found, 4, &arena, "data/nouns.txt", "the sky at night", &status) == 0);
    check_true("no more than asked", words_nouns(found, 1, &arena, "data/nouns.txt", "a cat and a dog", &status) == 1);
    check_true("no list", words_nouns(found, 4, &arena, "data/nothing.txt", "a cat", &status) == -1 && status.code == E_FILE);
    n = words_split(found, 4, &arena, " cat, ,red car ,");
    check_true("a list", n == 2 && !strcmp(found[0], "cat") && !strcmp(found[1], "red car"));
}

int main(void)
{
    t = tokenizer_load(&arena, "data/tiny-model/tokenizer", &status);
    check_true("the bundled vocabulary", t != NULL);
    if (!t) return check_done();
    one_word();
    two_prompts();
    spans();
    nouns();
    arena_free(&arena);
    return check_done();
}
