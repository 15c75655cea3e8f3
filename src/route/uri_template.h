#ifndef MZ_ROUTE_URI_TEMPLATE_H
#define MZ_ROUTE_URI_TEMPLATE_H
/*
 * URI templates of path_match_policy and path_rewrite_policy (H8): "/a/{lang}/{rest=**}". Segments are literals, "*" (one
 * segment), "**" (any number of them, only literals may follow), {name}, {name=pattern of these}. At most 5 variables with
 * names of at most 16 characters. Immutable, any thread.
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>

#define MZ_URI_TEMPLATE_VARS     5
#define MZ_URI_TEMPLATE_VAR_NAME 16
struct mz_uri_template;
struct mz_uri_template *
mz_uri_template_create(struct mz_str text, struct mz_err *err); /* NULL: err says what and where */
void mz_uri_template_destroy(struct mz_uri_template *t);        /* NULL is fine */
bool mz_uri_template_match(const struct mz_uri_template *t,
                           struct mz_str path); /* whole path, without query */

struct mz_uri_rewrite; /* "/x/{rest}/{lang}" */
/* Every variable must be one of @t. */
struct mz_uri_rewrite *mz_uri_rewrite_create(struct mz_str text, const struct mz_uri_template *t,
                                             struct mz_err *err);
void mz_uri_rewrite_destroy(struct mz_uri_rewrite *w);
/* Empty when @path does not match @t. @t is the one given to create. */
struct mz_str mz_uri_rewrite_apply(const struct mz_uri_rewrite *w, const struct mz_uri_template *t,
                                   struct mz_str path, struct mz_arena *a);
#endif
