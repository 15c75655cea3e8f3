#ifndef MZ_CONTROL_MODEL_DURATION_H
#define MZ_CONTROL_MODEL_DURATION_H
#include "base/str.h"

/* Times as Go's programs write them: "20m0s", "90s", "500ms", "0". False: it is none; negative ones and parts of a unit are not taken. */
bool mz_duration_parse(struct mz_str text, uint64_t *out_ms);
#endif
