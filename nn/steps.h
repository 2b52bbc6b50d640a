/* steps.h -- a network as a list of steps, run downwards by forward and upwards by backward.  Skip connections
 * need no graph: PUSH remembers the current value, POP joins it back on, and in backward the two change roles. */
#ifndef NN_STEPS_H
#define NN_STEPS_H
#include "nn/layers.h"
#include "nn/resblock.h"
#include "nn/spatial.h"

typedef enum { STEP_CONV, STEP_RES, STEP_SPATIAL, STEP_ATTENTION, STEP_UP, STEP_PUSH, STEP_POP, STEP_NORM } StepKind;

/* to be completed by its owner */
#endif
