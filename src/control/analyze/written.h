#ifndef MZ_CONTROL_ANALYZE_WRITTEN_H
#define MZ_CONTROL_ANALYZE_WRITTEN_H
/* What else is said when an object is written, beyond its own rules (check.h): names of ports, rules that nothing reaches. */
#include "control/analyze/documents.h"

void mz_documents_check_written(struct mz_documents *d); /* adds faults */
#endif
