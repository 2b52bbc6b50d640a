/* plot.h -- what a guided run reports, as a drawing (SVG): energy and push per step. */
#ifndef REF_PLOT_H
#define REF_PLOT_H
#include "guidance/guide.h"

/* Two panels over the steps: the energy, and |gain g| / |eps| (or / |z|); steps without guidance are shaded. */
bool plot_save(const char *path, const GuideReport *report, int n, const char *title, Status *s);
#endif
