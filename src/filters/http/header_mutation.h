#ifndef MZ_FILTERS_HEADER_MUTATION_H
#define MZ_FILTERS_HEADER_MUTATION_H
/* What header_mutation.c and query_mutation.c share: changes of query parameters. */
#include "filters/http/http_filters.h"
#include "proto/mapper.h"

struct query_op {
    struct mz_str key;       /* decoded */
    struct mz_format *value; /* NULL: remove */
    enum mz_append_action action;
};
bool query_op_build(const pb_KeyValueMutation *m, struct query_op *out, struct mz_err *err);
void query_op_fini(struct query_op *op);
/* The path with @ops done, its parameters sorted by name, each with "=" (as Envoy writes them back). A parameter is known by its
 * decoded name and keeps the spelling in which it came. The result lies in @a. */
struct mz_str query_mutate(struct mz_str path, const struct query_op *ops, size_t n, const struct mz_format_ctx *c,
                           struct mz_arena *a);
#endif
