#ifndef MZ_CONTROL_TRANSLATE_ROUTE_TABLE_H
#define MZ_CONTROL_TRANSLATE_ROUTE_TABLE_H
/* A table of routes towards others while it is made: which services and VirtualServices are in it, then a virtual host each. */
#include "control/translate/virtual_routes.h"

enum { MANY_HOSTS = 16 /* fewer are not worth sharing */ };
struct route_plan {
    struct mz_str name, host;
    uint16_t port;
    bool
        bare; /* for gRPC without a proxy: services under names with their port, and nothing else */
    bool every; /* one of all ports, for clients that tell a proxy where they want to go */
    const struct tr_egress *egress;
    MZ_VEC(const struct mz_service *) services; /* by host */
    MZ_VEC(const struct mz_virtual *) virtuals; /* that say something of this port */
    struct mz_map by_host; /* to const struct mz_service: whatever has this port, HTTP or not */
};

struct making {
    struct mz_view *v;
    struct mz_arena *a;   /* of names that stay until all are made */
    struct mz_arena *own; /* of the virtual hosts at hand */
    struct route_plan *plan;
    size_t at; /* how far it is */
    bool shared;          /* others have most of the virtual hosts, too */
    struct mz_outs hosts; /* packed */
    struct mz_map taken;  /* domains, each to the first that has it */
    struct mz_map names;  /* of virtual hosts */
    struct mz_map routed; /* hosts of services that a VirtualService speaks for */
    struct mz_map speaks; /* hosts that wildcards mean, to the VirtualService that is the most specific */
};

/* What @p's name, host and port mean to @v. To be freed. */
void tr_plan_make(struct mz_view *v, struct route_plan *p);
void tr_plan_free(struct route_plan *p);
void tr_plan_key(struct mz_view *v, struct route_plan *p, struct mz_key *k); /* of all that the table follows from */
/* In steps: @n more of its VirtualServices and services; false: there are no more, and it can be finished. The view may be another one of
 * the same group each time (@k->v), the model may not. */
void tr_making_begin(struct making *k, struct mz_view *v, struct route_plan *p);
bool tr_making_go_on(struct making *k, size_t n);
struct mz_out *tr_making_finish(struct making *k);
void tr_making_end(struct making *k);
struct mz_out *tr_table_made(struct mz_view *v, struct route_plan *p); /* all at once, if there is none in the cache */
/* All virtual hosts of all ports; 80, whose names may stand alone, first. */
struct mz_out *tr_every_port(struct mz_view *v, struct mz_str name, const struct tr_egress *e);
struct mz_out *tr_host_made(struct making *k, struct mz_str host); /* one virtual host; borrowed; NULL: it has none here */
bool tr_speaks_http(const struct mz_service *s, uint16_t port);
static inline bool tr_port_speaks_http(const struct mz_port *p)
{
    return p->protocol == MZ_PROTOCOL_UNKNOWN || mz_protocol_is_http(p->protocol);
}
static inline bool tr_is_wild(struct mz_str host)
{
    return host.n && host.p[0] == '*';
}
#endif
