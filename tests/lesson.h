/* lesson.h -- the documents' numbers against numbers computed anew. */
#ifndef TESTS_LESSON_H
#define TESTS_LESSON_H
#include "tensor/file.h"
#include "tests/check.h"

/* The text of a document, every run of blanks and line ends one blank. */
static inline char *lesson_text(const char *path)
{
    Status s = {0};
    size_t n, k = 0;
    char *text = file_load(path, 1 << 20, &n, &s);
    if (!text) printf("%s\n", s.text), exit(2);
    for (size_t i = 0; i < n; i++) {
        char c = text[i] == '\n' ? ' ' : text[i];
        if (c != ' ' || (k && text[k - 1] != ' ')) text[k++] = c;
    }
    text[k] = 0;
    return text;
}

/* Does the number of `shown` agree with `value` to the last decimal shown, and a relative slack? */
static inline int lesson_agrees(const char *shown, double value, double slack)
{
    char *end;
    double said = strtod(shown, &end), unit = 1;
    const char *point = memchr(shown, '.', (size_t)(end - shown));
    if (end == shown) return 0;
    for (const char *d = point ? point + 1 : end; d < end && *d >= '0' && *d <= '9'; d++) unit /= 10;
    return fabs(said - value) <= 0.501 * unit + slack * fabs(value);
}

/* The number that follows `before`, once in the document, is `value`. */
static inline void lesson_says(const char *document, const char *before, double value, double slack)
{
    char line[300], shown[24] = "nothing";
    const char *at = strstr(document, before);
    if (at) snprintf(shown, sizeof shown, "%.20s", at + strlen(before) + strspn(at + strlen(before), " "));
    if (at && strstr(at + 1, before)) snprintf(shown, sizeof shown, "it twice");
    shown[strcspn(shown, " |;,)]")] = 0;
    snprintf(line, sizeof line, "\"%s\": the document has %s, computed %.6g", before, shown, value);
    check_true(line, at && lesson_agrees(shown, value, slack));
}
#endif
