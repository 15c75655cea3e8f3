#ifndef MZ_PROTO_NODE_H
#define MZ_PROTO_NODE_H
/*
 * Questions to a document whose schema may be newer than ours (another proxy's answer): by the names of the .proto files, which
 * JSON may also write in lowerCamel. Absent and of another kind are the same: NULL, "", 0, false. Results are the tree's.
 */
#include "proto/tree.h"

const struct mz_node *mz_node_get(const struct mz_node *n, const char *name);  /* a member; @n may be NULL */
const struct mz_node *mz_node_at(const struct mz_node *n, const char *path);   /* "a.b.c" */
struct mz_str mz_node_text(const struct mz_node *n, const char *path);
uint64_t mz_node_number(const struct mz_node *n, const char *path);            /* also written as a string */
bool mz_node_is(const struct mz_node *n, const char *path);
size_t mz_node_count(const struct mz_node *n);                                 /* of a list; others: 0 */
struct mz_str mz_node_camel(struct mz_str snake, struct mz_arena *a);          /* "route_config" to "routeConfig" */
#endif
