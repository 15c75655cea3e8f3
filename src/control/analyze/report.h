#ifndef MZ_CONTROL_ANALYZE_REPORT_H
#define MZ_CONTROL_ANALYZE_REPORT_H
/* Problems as people read them: `web.yaml:12: error: Service/demo/web: spec.ports[0].port: ...`, one a line. Main thread. */
#include <stdio.h>

#include "control/sources/source.h"

struct mz_report_counts {
    unsigned errors, warnings;
};
struct mz_report_counts mz_report_print(const struct mz_source *s, FILE *to);
struct mz_report_counts mz_report_log(const struct mz_source *s); /* the same, as lines of the log */
#endif
