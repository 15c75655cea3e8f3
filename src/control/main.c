/* mizzend, which is also called mizzenctl (cli/main.c). */
#include <stdio.h>

#include "base/log.h"
#include "base/program.h"
#include "control/program.h"

int mz_control_main(int argc, char **argv)
{
    struct mz_control_options o;
    struct mz_err err;
    int rc = mz_control_options_parse(argc, argv, &o);
    if (rc >= 0)
        return rc;
    const struct mz_log_options log = { o.log_level, o.component_log_level, o.log_format,
                                        o.log_path };
    if (!mz_log_start(&log, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    if (o.log_as_json)
        (void)mz_log_set_json(true); /* it was off */
    mz_signals_block();
    rc = mz_control_run(&o);
    int lost = mz_mem_forgotten();
    return rc ? rc : lost;
}
