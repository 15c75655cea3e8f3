#ifndef MZ_OBSERVE_MATCH_TREE_H
#define MZ_OBSERVE_MATCH_TREE_H
/*
 * The unified matcher (xds.type.matcher.v3.Matcher): lists of predicates and maps, whose leaves are actions. Built on the main
 * thread, immutable, any thread.
 *
 * Inputs: request headers and query parameters, addresses, ports and the kind of source, SNI, names of the client's
 * certificate, filter state, dynamic metadata, CEL attributes. Of a header that came several times the values joined by ","
 * and each single one are tried (C10). An input without a value matches nothing. A connection that has no filter chain yet
 * (L4) has no request, certificate and attributes, but its transport and application protocols.
 */
#include "base/err.h"
#include "observe/stream_info.h"

struct mz_buf;
struct mz_proto_ctx;
struct mz_stats;
struct mz_match_tree;
struct Xds__Type__Matcher__V3__Matcher;
struct Google__Protobuf__Any;
struct mz_match_env {
    struct mz_proto_ctx *proto;
    struct mz_stats *stats; /* of ip matchers; NULL: not counted */
    /* Makes an action, whose memory is the caller's; NULL: err is set. */
    const void *(*action)(void *arg, const struct Google__Protobuf__Any *any, struct mz_err *err);
    void *arg;
    bool of_connection; /* inputs are those of a connection that has no chain yet */
};
struct mz_match_tree *mz_match_tree_create(const struct Xds__Type__Matcher__V3__Matcher *m, const struct mz_match_env *env,
                                           struct mz_err *err);
void mz_match_tree_destroy(struct mz_match_tree *t); /* NULL is fine */

struct mz_match_input {
    const struct mz_stream_info *info;
    const struct mz_headers *h; /* NULL: no request */
    struct mz_arena *arena;
    struct mz_str transport;        /* of a connection without a chain: "raw_buffer", "tls" */
    const struct mz_str *protocols; /* of it, as the client offers them */
    size_t n_protocols;
};
/* NULL: no action. @trail not NULL: gets the way to the action, "matcher_list.matchers[2].on_match". */
const void *mz_match_tree_find(const struct mz_match_tree *t, const struct mz_match_input *in, struct mz_buf *trail);
#endif
