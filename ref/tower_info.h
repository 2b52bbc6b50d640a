/* tower_info.h -- what a folder of a tower that sees holds: DINO, or one of CLIP's image towers. */
#ifndef REF_TOWER_INFO_H
#define REF_TOWER_INFO_H
#include "ref/console.h"

bool tower_folder(const char *folder);                    /* does its config.json say so? */
bool tower_info(const Console *c, const char *folder, Status *s);
#endif
