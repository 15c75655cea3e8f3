#ifndef MZ_CONTROL_PROGRAM_H
#define MZ_CONTROL_PROGRAM_H
/* What mizzend does, by its mode. Main thread. */
#include "control/options.h"

int mz_control_main(int argc, char **argv); /* the exit code */
int mz_control_run(const struct mz_control_options *o); /* the exit code */
#endif
