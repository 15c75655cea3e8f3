#ifndef MZ_CONTROL_PROGRAM_PRIV_H
#define MZ_CONTROL_PROGRAM_PRIV_H
#include "control/program.h"

int program_serve(const struct mz_control_options *o); /* until SIGTERM or SIGINT */
#endif
