/* svg.h -- a drawing (SVG), put together piece by piece in a room of fixed size. */
#ifndef REF_SVG_H
#define REF_SVG_H
#include "tensor/run.h"

typedef struct { char *bytes; size_t used, room; } Svg;

bool svg_begin (Svg *t, size_t room, int width, int height);         /* a white ground; false: no memory */
void svg_put   (Svg *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void svg_escape(Svg *t, const char *text);                /* as it is shown */
/* To the file; freed.  E_OPTION with `reason` when it did not fit. */
bool svg_end   (Svg *t, const char *path, const char *reason, Status *s);
#endif
