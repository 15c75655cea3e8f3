#ifndef MZ_HTTP_QUERY_H
#define MZ_HTTP_QUERY_H
/* The parameters of a path's query. Views into the text given; any thread. */
#include "base/percent.h"
#include "base/str.h"
#include <stdbool.h>

struct mz_str mz_query_of(
    struct mz_str path); /* behind the first '?', without a fragment; empty when there is none */

/* Takes the next "name[=value]" off the front of @rest (as mz_query_of() gave it), not decoded; false at the end. */
bool mz_query_next(struct mz_str *rest, struct mz_str *out_name, struct mz_str *out_value);

/* The first parameter of that name (compared not decoded, as Envoy's route matching does). */
bool mz_query_get(struct mz_str path, struct mz_str name, struct mz_str *out_value);
#endif
