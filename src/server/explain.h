#ifndef MZ_SERVER_EXPLAIN_H
#define MZ_SERVER_EXPLAIN_H
/*
 * POST /mizzen/explain, shared by its files: pages_explain.c (the question, the page), explain_ask.c (what this proxy would do),
 * explain_tell.c (the answer as text and as JSON). Main thread; everything lies in the request's arena.
 */
#include "base/vec.h"
#include "hcm/filter.h"
#include "listener/listener.h"
#include "net/transport.h"
#include "server/pages_priv.h"
#include "upstream/cluster.h"

struct question {
    struct mz_arena *arena;
    struct mz_headers *headers;
    struct mz_str listener; /* by name; "" the one with this port; neither: the first */
    uint64_t port;          /* 0: not given */
    struct mz_imagined_conn conn;
    struct mz_str principal; /* URI of the client's certificate; "" it shows none */
};
struct asked_filter {
    struct mz_str name;
    const char *type;
    bool known; /* it told what it would do */
};
struct explained {
    struct mz_decision *story;
    struct mz_stream_info *info;
    bool http;
    struct mz_str routes; /* name of the table */
    const struct mz_route *route;
    const char *no_route; /* why there is none, where the story does not say it */
    bool sent;            /* the question's headers are those that would leave, rewritten by the route */
    unsigned status;      /* a filter would answer with it itself; 0: none would */
    bool refused;         /* a filter would end the connection */
    MZ_VEC(struct asked_filter) filters;
    struct explained_cluster {
        struct mz_str name;
        uint64_t weight; /* 0: the only one */
        struct mz_imagined_host host;
        bool exists, passthrough, http2;
    } * clusters;
    uint32_t n_clusters;
};
void explained_fini(struct explained *e);
bool explain_ask(struct mz_pages *p, struct question *q, struct explained *e, struct mz_err *err);
void explain_text(const struct question *q, const struct explained *e, const struct Envoy__Admin__V3__Clusters *all,
                  struct mz_buf *out);
void explain_json(const struct question *q, const struct explained *e, const struct Envoy__Admin__V3__Clusters *all,
                  struct mz_buf *out);
#endif
