#ifndef MZ_CONTROL_STATUS_PRIV_H
#define MZ_CONTROL_STATUS_PRIV_H
#include "control/debug/json.h"
#include "control/model/gateway_api.h"
#include "control/status/status.h"

struct status_making {
    const struct mz_status_from *f;
    struct mz_arena *a;
    struct mz_statuses *out;
    struct mz_buf b; /* the one being written */
    struct json_out j;
    struct mz_str since; /* when the object was made; "" unknown */
    int64_t generation;
};
/* Begins a document with the object's metadata and opens its status. */
void status_begin(struct status_making *m, const char *group, const char *version, const char *kind, struct mz_str ns,
                  struct mz_str name, struct mz_str key);
void status_end(struct status_making *m, const char *kind_key, struct mz_str ns, struct mz_str name);
void status_put(struct status_making *m, const char *kind_key, struct mz_str ns, struct mz_str name); /* a whole document, as JSON in m->b */
/* One condition of an open list. */
void status_condition(struct status_making *m, const char *type, bool is, const char *reason, struct mz_str message);
/* It is as @good says, or not as @e says. */
void status_judge(struct status_making *m, const char *type, const struct mz_gw_error *e, const char *reason, struct mz_str message);

void status_gateway_api(struct status_making *m); /* status_gateway.c, status_routes.c */
void status_routes(struct status_making *m);
void status_ingresses(struct status_making *m);   /* status_ingress.c */
void status_istio(struct status_making *m);       /* status_istio.c */
void status_bundles(struct status_making *m);     /* status_bundles.c */

/* status_addresses.c: where a Gateway's services can be reached */
struct status_addresses {
    struct mz_str *internal; /* "host:port" that have endpoints; sorted, each once, like all of them */
    size_t n_internal;
    struct mz_str *internal_ip;
    size_t n_internal_ip;
    struct mz_str *external;
    size_t n_external;
    struct mz_str *pending; /* hosts */
    size_t n_pending;
    struct mz_str *warnings;
    size_t n_warnings;
    bool unusable;
};
struct status_addresses status_find_addresses(struct status_making *m, const struct mz_gw *gw);
struct mz_str *status_add_text(struct mz_arena *a, struct mz_str *v, size_t *n, struct mz_str text); /* sorted, each once */
#endif
