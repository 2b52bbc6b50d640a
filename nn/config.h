/* config.h -- reading a model's config.json field by field.  A missing field takes its default; a field that is there
 * must have the right type and range; a field nobody asked for must be null, false, 0, empty or "default".
 * Errors are E_FORMAT and name file, field, what was expected and what was found; the first one sticks. */
#ifndef NN_CONFIG_H
#define NN_CONFIG_H
#include "tensor/json.h"

enum { CONFIG_FIELDS = 96 };
typedef struct {
    const Json *json;
    const char *file;
    Status *status;
    const char *seen[CONFIG_FIELDS];
    int count;
} Config;

void   config_begin (Config *c, const Json *json, const char *file, const char *class_name, Status *s);
int    config_int   (Config *c, const char *field, int missing, int low, int high);
/* One integer for all, or a list of exactly n. */
void   config_ints  (Config *c, const char *field, int missing, int low, int high, int n, int *out);
/* A list of 1..most integers; returns their number, 0 after an error. */
int    config_list  (Config *c, const char *field, const int *missing, int missing_n, int low, int high, int most, int *out);
/* A list of 1..most numbers, or a text that lists them with commas ("32,16,8"; "" is missing); returns their number. */
int    config_numbers(Config *c, const char *field, const double *missing, int missing_n, double low, double high, int most, double *out);
double config_number(Config *c, const char *field, double missing, double low, double high);
bool   config_bool  (Config *c, const char *field, bool missing);
void   config_bools (Config *c, const char *field, bool missing, int n, bool *out);          /* one for all, or a list of exactly n */
/* Index of the field's text in a NULL-terminated list; `missing` when absent; -1 when null. */
int    config_word  (Config *c, const char *field, int missing, const char *const *words);
/* A list of n such texts. */
void   config_words (Config *c, const char *field, const int *missing, const char *const *words, int n, int *out);
void   config_ignore(Config *c, const char *field);       /* any value will do */
void   config_only  (Config *c, const char *field, const char *supported);       /* absent, null, false, 0, or this text or number */
void   config_fail  (Config *c, const char *field, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool   config_end   (Config *c);                          /* looks at the fields nobody asked for */
#endif
