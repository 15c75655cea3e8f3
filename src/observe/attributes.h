#ifndef MZ_OBSERVE_ATTRIBUTES_H
#define MZ_OBSERVE_ATTRIBUTES_H
/*
 * Envoy's attributes as variables of CEL expressions: request, response, connection, upstream, source, destination, metadata,
 * filter_state, upstream_filter_state, xds. Values are looked up when an expression asks for them; what is not known yet is
 * an error, which has() answers with false.
 */
#include "cel/cel.h"
#include "observe/format.h"

struct Google__Api__Expr__V1alpha1__Expr;
struct Envoy__Config__Core__V3__CelExpressionConfig; /* NULL: nothing beyond the standard is enabled */
struct mz_cel *mz_attributes_compile(struct mz_str text, const struct Envoy__Config__Core__V3__CelExpressionConfig *c,
                                     struct mz_err *err);
struct mz_cel *mz_attributes_compile_ast(const struct Google__Api__Expr__V1alpha1__Expr *e,
                                         const struct Envoy__Config__Core__V3__CelExpressionConfig *c, struct mz_err *err);

/* Everything that Envoy can have enabled; names that are no attributes have no value (istio.stats). */
struct mz_cel *mz_attributes_compile_open(struct mz_str text, struct mz_err *err);
struct Envoy__Config__Core__V3__Node;
/* What xds.node is; before there are workers. @a, which has it, lives until exit. */
void mz_attributes_set_node(const struct Envoy__Config__Core__V3__Node *n, struct mz_arena *a);

struct mz_attributes {
    struct mz_cel_vars vars;
    const struct mz_format_ctx *ctx;
};
/* Borrows @ctx, of which info is needed; the rest is info's where it is NULL. */
void mz_attributes_init(struct mz_attributes *a, const struct mz_format_ctx *ctx);
#endif
