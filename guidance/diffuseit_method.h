/* diffuseit_method.h -- DiffuseIT's row of the registry, and how its numbers fill DiffuseitOptions. */
#ifndef GUIDANCE_DIFFUSEIT_METHOD_H
#define GUIDANCE_DIFFUSEIT_METHOD_H
#include "guidance/diffuseit.h"
#include "guidance/methods.h"

/* Places in the row's table; the weights come first, in the order of DiffuseitTerm. */
enum {
    DIT_SKIP = DIT_TERMS, DIT_DIFF_ITER, DIT_ROUNDS, DIT_AUG_NUM, DIT_MAX_RESTARTS, DIT_RESTART_ABOVE,
    DIT_RANGE_RESTART, DIT_NOISE_AUG_ALL, DIT_REGULARIZE, DIT_PROG_CONTRAST, DIT_DDIM, DIT_DINO_SIZE, DIT_NUMBERS
};
extern const MethodInfo method_diffuseit;                 /* its build refuses: the loop is its own (diffuseit_run) */

/* The two examples published with the code: what they set where nothing else does.  NaN: as the table has it. */
typedef enum { DIT_EXAMPLE_NONE, DIT_EXAMPLE_IMAGE, DIT_EXAMPLE_TEXT } DiffuseitExample;
double diffuseit_example(DiffuseitExample e, int number);
int    diffuseit_example_steps(DiffuseitExample e);
DiffuseitOptions diffuseit_numbers(const double *number);
#endif
