#ifndef MZ_CLI_EXPLAIN_H
#define MZ_CLI_EXPLAIN_H
/*
 * `explain`, shared by its files: explain.c (the command, from hop to hop), explain_name.c (which address a name means),
 * explain_hop.c (one proxy: the question, its answer), explain_say.c, explain_target.c and explain_policy.c (the steps in words), explain_config.c (what the proxy's
 * configuration says of what was chosen), explain_past.c (requests that were), explain_print.c (the story as text and JSON).
 */
#include "base/vec.h"
#include "cli/objects.h"
#include "cli/proxy_config.h"

struct said { /* one step of the story */
    const char *topic; /* "route"; "" goes on with the one before */
    struct mz_str text;
    struct object_ref by[3]; /* the objects that decided */
    unsigned by_n;
    bool bad; /* it ends here, or would */
};
struct chapter { /* the name, or one proxy */
    struct mz_str title, pod; /* pod "": none */
    const char *direction;    /* "outbound", "inbound", "" */
    MZ_VEC(struct said) steps;
};
struct story {
    struct mz_arena *arena;
    MZ_VEC(struct chapter) chapters;
    struct mz_str outcome;
    bool arrives; /* at an application, or where it wanted to go */
};
struct chapter *story_chapter(struct story *s, const char *direction, struct mz_str pod, struct mz_str title);
/* A step of the newest chapter; valid until the next one. */
__attribute__((format(printf, 3, 4))) struct said *story_say(struct story *s, const char *topic, const char *fmt, ...);
void said_by(struct said *s, struct object_ref by); /* one without a name is left out, and one that is there already */
void story_fini(struct story *s);
void story_text(const struct story *s, struct mz_str request, FILE *to); /* colours where @to is a terminal */
void story_json(const struct story *s, struct mz_str request, FILE *to);

struct header_line {
    struct mz_str name, value;
};
struct request { /* as it is at the hop that comes */
    struct mz_str method, scheme, host, authority, path;
    uint16_t port;
    bool http, http2;
    MZ_VEC(struct header_line) headers; /* without those of above */
};
struct arrival { /* how it comes to a proxy */
    struct mz_str address; /* where it wants to go, "10.96.0.1:9080"; "" the listener itself */
    uint16_t listener_port; /* instead of the capturing listener; 0: that */
    struct mz_str source;  /* address of who sends it */
    bool tls;
    struct mz_str sni, alpn, principal;
};
struct view { /* what a proxy has */
    const struct pod *pod;
    struct dump config; /* root NULL: not read, or not to be had */
};
struct explain {
    struct pods pods;
    struct objects objects;
    struct story story;
    struct mz_arena *arena; /* the story's */
    const struct pod *from; /* NULL: from outside of the mesh */
    struct request request;
    struct dump registry;   /* mizzend's services; root NULL: not known */
    struct mz_str address;  /* --address: instead of asking for the name; "" */
};

/* explain_name.c: the request's host to an address; false: nobody knows it. */
bool explain_name(struct explain *x, struct mz_str *out_ip, struct mz_err *err);

/* explain_hop.c: asks @pod's proxy; @next is where the request goes then, next.address "" nowhere. @inbound: it comes to the pod,
 * else it leaves its application. */
bool explain_hop(struct explain *x, const struct pod *pod, bool inbound, const struct arrival *how, struct arrival *next,
                 struct mz_err *err);
struct mz_str address_ip(struct mz_str address);     /* of "10.0.0.1:80", "[::1]:80" */
uint16_t address_port(struct mz_str address);        /* 0 none */
struct mz_str first_endpoint_of(struct explain *x);  /* explain_name.c: address of a pod of the service, "" none */

/* explain_config.c. Nodes NULL: not found. */
void view_open(struct view *v, const struct pods *p, const struct pod *pod);
void view_close(struct view *v);
const struct mz_node *view_listener(const struct view *v, struct mz_str name);
const struct mz_node *view_chain(const struct view *v, struct mz_str listener, struct mz_str chain);
const struct mz_node *view_filter(const struct mz_node *chain, const char *type); /* its typed_config, by the end of its type */
struct telling;
const struct mz_node *view_vhost(const struct view *v, const struct telling *t, struct mz_str vhost); /* of the table in use */
const struct mz_node *view_cluster(const struct view *v, struct mz_str name);
const struct mz_node *view_socket(const struct mz_node *cluster, int match); /* typed_config of the transport socket */
struct object_ref view_rule(const struct explain *x, const struct mz_node *resource, const char *path); /* the object that made it; name "" none */
/* The Gateways that its VirtualService names; at most @most, their number is returned. */
size_t view_gateways(const struct explain *x, const struct object_ref *virtual_service, struct object_ref *out, size_t most);
struct object_ref view_service(const struct explain *x, const struct mz_node *cluster);
struct mz_str view_own_uri(const struct pods *p, const struct pod *pod, struct mz_arena *a, struct mz_str *out_until); /* of its certificate; "" */

/* explain_say.c: one step of a proxy's record, in words. */
struct telling {
    struct explain *x;
    const struct view *view;
    const struct mz_node *answer; /* /mizzen/explain's, or the record of a request that was */
    bool past, inbound;
    /* of the steps so far */
    struct mz_str listener, chain, vhost, cluster;
    const struct mz_node *chain_node, *vhost_node, *route_node, *cluster_node;
    struct object_ref rule; /* of the route */
    bool ended; /* answered or refused here */
};
void tell_step(struct telling *t, const struct mz_node *step);
#define SAY(t, topic, ...) story_say(&(t)->x->story, topic, __VA_ARGS__)
static inline struct mz_str step_a(const struct mz_node *step) /* what its text is made of (MZ_STEPS) */
{
    return mz_node_text(step, "a");
}
static inline struct mz_str step_b(const struct mz_node *step)
{
    return mz_node_text(step, "b");
}
/* explain_target.c: the steps about clusters and their hosts */
void tell_cluster(struct telling *t, const struct mz_node *step);
void tell_no_cluster(struct telling *t, const struct mz_node *step);
void tell_among(struct telling *t, const struct mz_node *step);
void tell_host(struct telling *t, const struct mz_node *step);
void tell_no_host(struct telling *t, const struct mz_node *step);
/* explain_policy.c: what authorization policies decided */
void tell_rule(struct telling *t, const struct mz_node *step);
void tell_not_rule(struct telling *t, const struct mz_node *step);
bool is_authorization(struct mz_str filter); /* by its name */
/* explain_past.c */
bool explain_past(struct explain *x, const char *request_id, struct mz_err *err);
#endif
