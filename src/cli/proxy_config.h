#ifndef MZ_CLI_PROXY_CONFIG_H
#define MZ_CLI_PROXY_CONFIG_H
/* `proxy-config`: what a proxy has, one file a kind of resource. */
#include "cli/dump.h"
#include "cli/print.h"
#include "cli/table.h"

struct pc_options {
    const char *output, *file, *mesh;
    const char *fqdn, *direction, *subset;    /* clusters */
    const char *address, *type;               /* listeners, endpoints */
    const char *name;                         /* routes */
    const char *cluster, *status;             /* endpoints */
    const char *level;                        /* log */
    uint32_t port, admin_port;
    bool verbose, with_headers, reset;
};
struct pc {
    const struct pc_options *o;
    enum show_form form;
    const struct dump *dump;
    bool kinds; /* `all`: names have their kind in front, and a column of their own */
    FILE *out;
};
bool pc_bootstrap(const struct pc *p, struct mz_err *err);
bool pc_bootstrap_summary(const struct pc *p, struct mz_err *err);
bool pc_clusters(const struct pc *p, struct mz_err *err);
bool pc_listeners(const struct pc *p, struct mz_err *err);
bool pc_routes(const struct pc *p, struct mz_err *err);
bool pc_hosts(const struct pc *p, struct mz_err *err);     /* of /clusters */
bool pc_endpoints(const struct pc *p, struct mz_err *err); /* of /config_dump?include_eds */
bool pc_secrets(const struct pc *p, struct mz_err *err);
bool pc_extensions(const struct pc *p, struct mz_err *err);

/* "outbound|9080|v1|reviews.default.svc.cluster.local"; of another form: all in fqdn, whole false. */
struct subset_key {
    struct mz_str direction, port, subset, fqdn;
    uint64_t port_number;
    bool whole;
};
struct subset_key subset_key_parse(struct mz_str name);
int subset_key_cmp(const struct subset_key *a, const struct subset_key *b); /* fqdn, subset, port, direction */
struct mz_str describe_match(const struct mz_node *match, struct mz_arena *a); /* of a route: "/reviews*" */
struct mz_str describe_rule(const struct mz_node *metadata, struct mz_arena *a); /* the object that it came from: "reviews.default" */
#endif
