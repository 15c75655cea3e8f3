#ifndef MZ_HTTP_STATUS_H
#define MZ_HTTP_STATUS_H
#include "base/str.h"

struct mz_str
mz_status_reason(unsigned status); /* "OK"; "Unknown" where Envoy has no phrase; static text */
#endif
