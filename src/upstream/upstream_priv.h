#ifndef MZ_UPSTREAM_PRIV_H
#define MZ_UPSTREAM_PRIV_H
/* Shared by the files of this folder. Who owns what on which thread: README.md. */
#include "base/log.h"
#include "base/map.h"
#include "base/rand.h"
#include "base/vec.h"
#include "net/dns.h"
#include "net/socket.h"
#include "proto/mapper.h"
#include "upstream/cluster.h"
#include "upstream/on_demand.h"
#include "upstream/pool.h"
#include <pthread.h>
#include <stdio.h>

/* ---- hosts of a cluster at one moment: immutable, counted, any thread ---- */
enum source { SOURCE_ALL, SOURCE_HEALTHY, SOURCE_DEGRADED, SOURCE__COUNT };
struct host_list {
    struct mz_host **v; /* borrowed from the set that owns them */
    uint32_t n;
    bool weighted; /* weights differ: the schedule by weights is needed */
};
struct locality { /* of all places that name it; it has hosts */
    uint32_t weight; /* 0: gets nothing */
    uint32_t excluded; /* hosts that do not count */
    struct host_list lists[SOURCE__COUNT];
};
struct host_set { /* one priority */
    struct host_list lists[SOURCE__COUNT];
    uint32_t excluded;
    uint32_t excluded_weight;
    struct locality *localities; /* sorted by name; NULL where nothing looks at them */
    uint32_t n_localities;
    struct hash_table
        *tables[SOURCE__COUNT]; /* atomic; made at first use by a policy that hashes */
};
struct host_sets {
    unsigned refs; /* atomic */
    uint64_t seq;  /* larger is newer */
    uint32_t n;
    struct mz_arena *arena; /* holds all of it */
    struct host_set *v;
    struct mz_host **hosts; /* all of them, one reference held each */
    uint32_t n_hosts;
    struct subsets *subsets; /* lb_subset.h; NULL: the cluster has none */
    struct host_map *by_address; /* atomic; made at first use: host_sets_map() */
    uint32_t *host_locality;       /* of each host: index in places */
    struct locality_spec *places;  /* weight and priority only: hosts hold the texts */
    uint32_t n_places;
    bool by_locality;
};
/* What a locality entry says besides its hosts. */
struct locality_spec {
    struct mz_str region, zone, sub_zone;
    uint32_t weight, priority;
    const pb_Metadata *metadata; /* as long as hosts are being made; NULL: none */
};
struct host_spec {
    struct mz_host *host; /* reference moves in */
    uint32_t locality;    /* index */
};
/* Builds the sets: takes the references in @v. @n_priorities is at least 1. */
struct host_sets *host_sets_create(const struct host_spec *v, uint32_t n,
                                   const struct locality_spec *loc, uint32_t n_loc,
                                   bool by_locality, uint64_t seq);
/* The same hosts without those that have gone, sorted by what their health flags say now. */
struct host_sets *host_sets_again(const struct host_sets *s, uint64_t seq);
struct host_sets *host_sets_ref(struct host_sets *s);
void host_sets_unref(struct host_sets *s);
bool locality_same(const struct locality *a, const struct locality *b); /* region, zone, sub_zone */
bool host_excluded(const struct mz_host *h); /* counts neither as healthy nor in the total */

/* Hosts by address, the first of each; a map that a thread has to itself, or one of host sets, immutable. Borrows hosts. */
struct host_map {
    struct mz_host **v;
    uint32_t mask, n;
};
struct mz_host *host_map_find(const struct host_map *m, const struct mz_addr *a);
void host_map_put(struct host_map *m, struct mz_host *h); /* nothing where the address is there */
void host_map_fini(struct host_map *m);
void host_map_destroy(struct host_map *m);                       /* NULL is fine */
const struct host_map *host_sets_map(struct host_sets *s);       /* any thread; the sets own it */
bool host_address_parse(struct mz_str text, struct mz_addr *out_addr); /* foreign text "1.2.3.4:80", "[::1]:80" */

static inline uint32_t weight_of_host(const struct mz_host *h) /* an update of endpoints may change it */
{
    return __atomic_load_n(&h->weight, __ATOMIC_RELAXED);
}

struct host_text { /* what host_create() copies */
    struct mz_str hostname;
    const struct locality_spec *locality;
};
struct mz_host *host_create(struct mz_cluster *c, const struct mz_addr *a,
                            const struct host_text *t, uint32_t weight, uint32_t priority);
/* A new host's addresses, v[0] is that of host_create(); copied. Nobody else knows the host yet. */
void host_set_addresses(struct mz_host *h, const struct mz_addr *v, size_t n);
uint32_t host_eds_flags(int health_status); /* pb_HealthStatus to MZ_HOST_* */
void host_flags_text(uint32_t flags,
                     struct mz_buf *out); /* "healthy" or "/failed_outlier_check..." */

/* ---- priorities (U2) ---- */
#define PRIORITIES_MAX 128 /* Envoy: priority is at most 128 */
struct priority_load {
    uint32_t healthy, degraded; /* percent of all requests */
    bool panic;
};
struct priority_opts {
    uint32_t overprovisioning; /* 140 */
    uint32_t panic_threshold;  /* percent; 0: never */
    bool by_weight;            /* weighted_priority_health */
};
void priority_loads(const struct host_sets *s, const struct priority_opts *o,
                    struct priority_load *out_loads);
/* The same of any @n sets, each with options of its own (aggregates). */
void priority_loads_of(const struct host_set *const *s, const struct priority_opts *const *o,
                       uint32_t n, uint32_t panic_threshold, struct priority_load *out_loads);
bool host_set_in_panic(const struct host_set *s, uint32_t threshold);
uint32_t panic_threshold(const struct priority_opts *o); /* percent; the runtime may change it */
/* @at is 0..99; @healthy_override: percent per priority or NULL. */
uint32_t priority_choose(const struct priority_load *v, uint32_t n,
                         const uint32_t *healthy_override, uint32_t at, enum source *out_source);

/* ---- earliest deadline first: picks in proportion to weights, evenly spread ---- */
struct edf;
struct edf *edf_create(uint32_t n);
void edf_destroy(struct edf *e);
void edf_add(struct edf *e, uint32_t item, double weight); /* weight > 0 */
/* The next item; goes back with weight(item). */
uint32_t edf_pick(struct edf *e, double (*weight)(const void *arg, uint32_t item), const void *arg);

/* ---- consistent hashing: a table of one priority's hosts, immutable once made, shared by all workers ---- */
struct hash_member {
    struct mz_host *host; /* borrowed from the set that owns the table */
    double weight;        /* share of the whole: all of them sum up to 1 */
};
struct ring_point {
    uint64_t hash;
    uint32_t member;
};
struct hash_table {
    struct hash_member *members;
    uint32_t n_members;
    double least, most; /* of the members' weights */
    uint32_t n;         /* points or slots; 0: no hosts */
    struct ring_point *ring;
    uint32_t *slots;       /* of Maglev: index of the member */
    uint64_t fewest, peak; /* points of the member that has fewest, most */
};
enum hash_function { HASH_XX, HASH_MURMUR2 };
struct hash_gauges { /* atomics: what the gauges show now; any thread may change it */
    struct mz_scope *scope;
    uint64_t shown[3];
};
struct hash_config {
    uint64_t min_size, max_size; /* of a ring */
    uint64_t table_size;         /* of Maglev: a prime */
    enum hash_function function;
    bool use_hostname;
    uint32_t balance_factor;    /* percent of the average load that a host may have; 0: any */
    struct hash_gauges *gauges; /* NULL: none */
};
struct lb_config;
/* Hosts of @s, weighted by host and, where they are, localities. Any thread; @set keeps it. Never NULL. */
const struct hash_table *hash_table_of(const struct lb_config *cfg, struct host_set *set,
                                       enum source s);
void hash_table_destroy(struct hash_table *t);
/* New hosts of a cluster whose old tables are in use: makes the new ones here rather than on a worker. */
void hash_tables_follow(const struct lb_config *cfg, struct host_sets *old, struct host_sets *now);
/* The host of @hash, or at a later @attempt another; NULL: no hosts. Honours balance_factor. */
struct mz_host *hash_table_choose(const struct lb_config *cfg, const struct hash_table *t,
                                  uint64_t hash, uint32_t attempt);
/* What is hashed for a host: endpoint metadata envoy.lb hash_key, its hostname, or its address. */
struct mz_str hash_key(const struct hash_config *c, const struct mz_host *h);

/* ---- load balancing policies ---- */
struct lb;
struct lb_meta_key { /* where in metadata */
    struct mz_str ns, *path;
    size_t n; /* 0: nowhere */
};
struct zone_config {
    uint32_t routing_enabled;  /* percent */
    uint32_t force_min;        /* as many healthy hosts here are enough to stay; 0: off */
    uint64_t min_cluster_size; /* fewer healthy hosts: not by zone */
    bool fail_traffic_on_panic;
    bool by_weight; /* shares by weights of hosts rather than their number */
};
struct slow_start {
    uint64_t window_us;
    double aggression, min_weight; /* the latter 0..1 */
    struct mz_str key;             /* of aggression */
};
struct lb_config {
    const struct lb_type *type;
    uint32_t choice_count;      /* least request */
    double active_request_bias; /* least request, with unequal weights */
    struct mz_str bias_key;
    bool locality_weighted;
    bool full_scan;              /* least request: of all hosts */
    bool localities;             /* host sets are wanted by locality: for weights or zones */
    struct zone_config zone;
    const struct slow_start *slow; /* round robin, least request; NULL: off */
    struct hash_config hash; /* ring hash, Maglev */
    struct subset_config *subsets; /* lb_subset.h; NULL: none */
    const struct override_config *override; /* NULL: none */
    uint8_t override_statuses; /* bit per HealthStatus: a host that a request is bound to may have it */
};
#define LB_OVERRIDE_STATUSES                                                                       \
    (1u << pb_HealthStatus_UNKNOWN | 1u << pb_HealthStatus_HEALTHY | 1u << pb_HealthStatus_DEGRADED)
struct override_source { /* one of both */
    struct mz_str header; /* lower case; "" none */
    struct lb_meta_key metadata;
};
struct override_config {
    uint32_t n;
    struct override_source v[];
};
struct mz_host *override_of_filter(struct lb *b, struct mz_lb_ctx *ctx); /* ctx->override_host */
struct mz_host *override_of_policy(struct lb *b, struct mz_lb_ctx *ctx); /* cfg->override */
struct lb_source { /* state of one list of hosts on one worker */
    uint64_t next;
    struct edf *edf;
};
struct lb_type {
    const char *name; /* "round robin": the decision record shows it */
    /* A cluster that chooses by itself (CLUSTER_PROVIDED) has only this: */
    struct mz_host *(*provided)(struct mz_wcluster *w, struct mz_lb_ctx *ctx);
    struct mz_host *(*pick)(const struct lb *b, const struct host_list *hosts,
                            struct lb_source *state);
    /* A policy that hashes has these instead of pick(): */
    const struct mz_stat_kind *stats; /* size (ring only), fewest, most points per host */
    const char *stats_prefix;
    void (*build)(const struct hash_config *c, struct hash_table *t); /* members are there */
    uint32_t (*find)(const struct hash_table *t, uint64_t hash, uint32_t attempt); /* a member */
};
extern const struct lb_type lb_round_robin, lb_least_request, lb_random, lb_ring_hash, lb_maglev;
extern const struct lb_type lb_cluster_provided; /* in configuration: the cluster's type tells which */
extern const struct lb_type lb_original_dst, lb_aggregate, lb_forward;
struct mz_host *lb_pick_weighted(const struct host_list *hosts, struct lb_source *state,
                                 struct mz_rand *r,
                                 double (*weight)(const void *arg, uint32_t item), const void *arg);

struct lb_priority {
    struct lb_source sources[SOURCE__COUNT];
    struct edf *locality_edf[SOURCE__COUNT];
    struct lb_source *locality_sources; /* n_localities * SOURCE__COUNT */
};
struct lb_site { /* where this proxy stands; one worker's */
    const struct lb *local; /* of the cluster that holds the proxies like us; NULL: not known (yet) */
    struct locality_spec here;
};
struct lb { /* one worker's balancer of one cluster */
    const struct lb_config *cfg;
    const struct priority_opts *opts;
    struct host_sets *sets; /* one reference */
    struct priority_load *loads;
    struct lb_priority *priorities;
    struct mz_rand *rand;
    struct mz_scope *scope; /* lb_healthy_panic; borrowed */
    const struct lb_site *site; /* NULL: not by zone; borrowed */
    struct lb_zone *zone;       /* made at first use */
    uint64_t slow_until_us;     /* until then some host is in slow start */
    struct lb **inner;      /* of each subset that was used here; they are without subsets */
    const struct mz_value **wanted, **values; /* room for one choice of a subset */
};
void lb_init(struct lb *b, const struct lb_config *cfg, const struct priority_opts *opts,
             struct mz_rand *r, struct mz_scope *scope);
void lb_fini(struct lb *b);
void lb_set_hosts(struct lb *b, struct host_sets *take);
struct mz_host *lb_choose(struct lb *b, struct mz_lb_ctx *ctx);
struct mz_host *lb_choose_plain(struct lb *b, struct mz_lb_ctx *ctx); /* among all of its hosts: no override, no subset */

/* lb_zone.c: priority 0 of healthy or degraded hosts. */
enum zone_answer { ZONE_ANY /* not by zone */, ZONE_LOCALITY /* this one */, ZONE_FAIL /* no host */ };
enum zone_answer zone_choose(struct lb *b, struct mz_lb_ctx *ctx, uint32_t *out_locality);
void zone_drop(struct lb *b);

/* slow_start.c */
uint64_t slow_start_until(const struct slow_start *s, const struct host_sets *sets);
uint64_t slow_start_now(const struct lb *b); /* now, monotonic; 0: no host is in slow start */
double slow_start_aggression(const struct slow_start *s);
double slow_start_factor(const struct slow_start *s, const struct mz_host *h, uint64_t now_us,
                         double aggression); /* above 0, at most 1 */

/* ---- a cluster's private part ---- */
enum cluster_type {
    CLUSTER_STATIC,
    CLUSTER_STRICT_DNS,
    CLUSTER_LOGICAL_DNS,
    CLUSTER_ORIGINAL_DST,
    CLUSTER_AGGREGATE,
    CLUSTER_FORWARD,
    CLUSTER_EDS
};
struct dns_config { /* allocated for DNS clusters only */
    enum mz_dns_family family;
    uint32_t refresh_ms, failure_base_ms, failure_max_ms, jitter_ms;
    bool respect_ttl, wait_for_warm;
    struct mz_addr *servers;
    size_t n_servers;
    bool use_tcp, no_default_search, rotate;
    uint32_t timeout_ms, tries, udp_max; /* 0: as the library has it */
};
struct dns_keep { /* where what a configuration consists of lies, zeroed */
    void *(*alloc)(void *arg, size_t n);
    void *arg;
};
/* typed_dns_resolver_config (cluster_socket.c); the error's path begins with that. */
bool dns_resolver_build(const pb_TypedExtensionConfig *m, struct dns_config *d, const struct dns_keep *keep, struct mz_err *err);
struct dns_cluster;
struct outlier;
struct checker;
struct mz_log_file;
/* A cluster as it was received: all there is of one that nobody uses (design.md 3.6). Its object is made by the first thread that
 * needs it, and from then on by nobody else. cluster_entry.c */
struct cluster_entry {
    unsigned refs; /* atomic: maps of names, objects made of it, posts under way */
    uint8_t type;  /* enum cluster_type */
    bool via_api;
    bool waiting;    /* main thread: it is not ready; the manager counts it */
    bool first_done; /* main thread: its first endpoints came, or did not in time */
    bool primary;    /* main thread: others (xDS itself) may depend on it: no discovery by xDS */
    bool settled;    /* main thread: its object's statistics have what was counted before there was one */
    bool gone; /* manager's lock: removed or replaced; an object made now is of whom it makes alone */
    struct cluster_entry *next; /* the same lock, a reference: it slept to its end, and this one is used in its place; NULL: none */
    struct mz_cluster_manager *manager;
    struct mz_cluster *cluster; /* atomic, manager's lock to change; NULL: it sleeps. A reference, until it is gone */
    struct mz_str name;
    struct mz_str bytes; /* the message, for dumps, for the object and its hosts at first use */
    struct mz_str version; /* of the update that brought it */
    uint64_t number;       /* in the order in which they were added */
    uint64_t updated_wall_us;
    struct mz_str stat_name; /* alt_stat_name or name */
    struct eds *eds;         /* NULL: endpoints come another way */
    struct mz_init *init;    /* main thread: secrets that are awaited; NULL: none */
    struct mz_transport_factory **transports; /* of one that sleeps: the cluster's, its matches'; NULL: raw. A reference each */
    uint32_t n_transports;
    const struct lb_type *lb; /* of one that sleeps: whose statistics are shown */
    uint32_t members[MZ_CM__COUNT]; /* manager's lock to change; of one that sleeps: what they count */
};
struct cluster_entry *cluster_entry_ref(struct cluster_entry *e); /* any thread */
void cluster_entry_unref(struct cluster_entry *e);                /* any thread; NULL is fine */
/* Main thread. Checks the message by making the object; of one that may sleep it does not stay. NULL: @err. */
struct cluster_entry *cluster_entry_create(struct mz_cluster_manager *m, const pb_Cluster *msg, struct mz_str bytes,
                                           struct mz_str version, bool via_api, struct mz_err *err);
/* Main thread: no object is made for others, the one there was loses a reference; subscriptions end. */
void cluster_entry_stop(struct cluster_entry *e);
/* Main thread: @e is stopped, @by takes its place: what counts under their name goes on. */
void cluster_entry_replaced(struct cluster_entry *e, struct cluster_entry *by);
struct mz_cluster *cluster_entry_use(struct cluster_entry *e);  /* any thread: the object, made now if it slept; a reference */
struct mz_cluster *cluster_entry_peek(struct cluster_entry *e); /* main thread: for a look: what is made for it is not kept */
/* Main thread: the object where it does not sleep, borrowed; else NULL. */
struct mz_cluster *cluster_entry_awake(const struct cluster_entry *e);
/* Main thread: @change under the manager's lock while there are no hosts that it would have to change; false: there are. */
bool cluster_entry_unmade(struct cluster_entry *e, void (*change)(void *arg), void *arg);
struct endpoints_count;
void cluster_entry_members(struct cluster_entry *e, const struct endpoints_count *n); /* of one that sleeps, under the lock */
void cluster_entry_settle(struct cluster_entry *e);                                   /* main thread; before its object counts */
/* Main thread: the statistics of those that sleep, for pages. */
struct cluster_sleepers;
struct cluster_sleepers *cluster_sleepers_create(struct mz_cluster_manager *m, struct mz_stats *st);
void cluster_sleepers_destroy(struct cluster_sleepers *s);

struct cluster_priv {
    struct mz_cluster_manager *manager;
    struct cluster_entry *entry; /* a reference */
    struct lb_config lb;
    struct priority_opts priorities;
    struct mz_conn_source sources[2]; /* upstream_bind_config, upstream_connection_options */
    int first_family;         /* happy_eyeballs_config: AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX, or one that no address has */
    uint32_t first_count;
    uint64_t host_max_connections; /* per_host_thresholds; UINT64_MAX: none */
    uint64_t merge_ms;   /* update_merge_window; 0: none */
    uint64_t updated_us; /* main thread, monotonic: hosts were given to the workers */
    struct merge *merge; /* main thread; NULL before the first */
    bool close_on_health_failure, close_on_host_set_change;
    struct outlier *outlier; /* health/; NULL: none */
    struct checker *checker; /* the same */
    bool warming_checks;     /* main thread: the cluster is not ready before each host was checked once */
    bool beginning;          /* main thread: the outcome of its first checks is to be published */
    struct host_sets *
        sets; /* atomic; NULL until somebody needs the hosts of a static cluster; manager's lock to change */
    uint64_t seq;
    bool refresh_due; /* main thread: cluster_refresh_health() was called in this turn */
    struct dns_config *dns_config;
    struct dns_cluster *dns; /* main thread */
    struct original_dst *original_dst;
    struct aggregate *aggregate;
    struct forward *forward; /* NULL: hosts are not those of a DNS cache */
    const struct mz_auto_sni *auto_sni; /* NULL: none */
    struct transport_match *matches; /* cluster_transport.c */
    size_t n_matches;
    struct kept *kept;       /* cluster_keep() */
    struct alt_stats *alts;  /* atomic; NULL before the first */
};
static inline struct cluster_priv *cluster_priv(const struct mz_cluster *c)
{
    return c->priv;
}
struct mz_stat_kind;

/* cluster_config.c. The cluster keeps nothing of @m, but holds @e. Main thread; any, of a message that was taken before. */
struct mz_cluster *cluster_create(struct cluster_entry *e, const struct mz_upstream_env *env, const pb_Cluster *m,
                                  struct endpoints_count *out_count, struct mz_err *err);
void cluster_free(struct mz_cluster *c);
void cluster_object_stop(struct mz_cluster *c); /* main thread: nothing of it runs there any more; workers may still use it */
/* Of a cluster of that type under cluster.<name>.; of the membership see circuit_scopes(). */
struct mz_scope *cluster_scope(struct mz_stats *st, uint8_t type, struct mz_str prefix);
struct mz_str cluster_prefix(struct mz_str stat_name, char *out_text, size_t size); /* "cluster.<name>." */
bool cluster_lb_config(const pb_Cluster *m, struct mz_cluster *c,
                       struct mz_err *err); /* cluster_lb.c */
/* cluster_lb.c: the statistics of the policy, where it has some; @prefix is the cluster's. */
struct mz_scope *lb_type_scope(const struct lb_type *t, struct mz_stats *st, struct mz_str prefix); /* NULL: it has none */
void cluster_lb_scope(struct mz_cluster *c, struct mz_stats *st, struct mz_str prefix);
/* cluster_transport.c: transport_socket, transport_socket_matches */
bool cluster_transport_config(const pb_Cluster *m, struct mz_cluster *c,
                              const struct mz_upstream_env *env, struct mz_err *err);
void cluster_transport_fini(struct mz_cluster *c);
/* What is made once, on the main thread, of a cluster that sleeps: secrets by subscription are its. The entry has it to its end. */
void cluster_transport_keep(const struct mz_cluster *c);
void cluster_transport_stop(struct cluster_entry *e); /* main thread: nothing is awaited any more */
void cluster_transport_drop(struct cluster_entry *e); /* last reference; any thread */
void cluster_transport_show(const struct cluster_entry *e, const pb_Cluster *m, struct mz_stats *st, struct mz_str prefix,
                            void (*hold)(void *arg, struct mz_scope *take), void *arg); /* its statistics, for a page */
int cluster_transport_index(const struct mz_cluster *c, const struct mz_transport_factory *f); /* of matches; -1: the cluster's */
void host_transport_set(struct mz_host *h); /* its metadata is there: which of the matches serves it */
bool cluster_protocol_config(const pb_Cluster *m, struct mz_cluster *c,
                             struct mz_err *err); /* cluster_protocol.c */
bool cluster_socket_config(const pb_Cluster *m, struct mz_cluster *c,
                           struct mz_err *err); /* cluster_socket.c */
bool cluster_dns_config(const pb_Cluster *m, struct mz_cluster *c,
                        struct mz_err *err);        /* cluster_socket.c */
void *cluster_keep(struct mz_cluster *c, size_t n); /* zeroed; goes with the cluster */
struct mz_str cluster_keep_str(struct mz_cluster *c, const char *s);
struct mz_str cluster_keep_lower(struct mz_cluster *c, const char *s); /* a header's name */
void lb_meta_key_build(const pb_MetadataKey *m, struct mz_cluster *c, struct lb_meta_key *out);
bool percent_build(const pb_Percent *p, double otherwise, double *out_value, struct mz_err *err);

/* circuit.c: the scope of membership and breakers, once the limits are known. */
void circuit_scopes(struct mz_cluster *c, struct mz_stats *st, struct mz_str prefix);

/* alt_stats.c: names of mz_cluster_alt_scope(). */
void alt_stats_destroy(struct alt_stats *s);

/* endpoints.c: load_assignment. */
struct endpoints_count {
    uint32_t total, healthy, degraded, excluded, max_weight;
    uint32_t added; /* hosts that are new */
    uint32_t changed; /* priorities whose members are others: membership_change counts each */
};
bool endpoints_check(const pb_ClusterLoadAssignment *a, enum cluster_type type,
                     struct endpoints_count *out_count, struct mz_err *err); /* NULL: none */
/* Of a checked message. Hosts of @before (NULL: none) that are the same go on: their pools, health and statistics. */
struct host_sets *endpoints_build(struct mz_cluster *c, const pb_ClusterLoadAssignment *a,
                                  const struct host_sets *before, uint64_t seq);
const pb_Endpoint *endpoint_of(const pb_ClusterLoadAssignment *m, const pb_LbEndpoint *e); /* NULL: an unknown name */
bool endpoints_drop(const pb_ClusterLoadAssignment_Policy *m, uint32_t *out_millionths, struct mz_err *err);
struct locality_spec locality_spec_of(const pb_LocalityLbEndpoints *l);
void endpoint_apply(struct mz_host *h, const pb_LbEndpoint *e, const struct locality_spec *l);
struct host_sets *endpoints_of_bytes(struct mz_cluster *c); /* from priv->bytes */
bool endpoint_address(const pb_Address *a, struct mz_addr *out_addr, struct mz_err *err);
bool address_build(const pb_SocketAddress *a, struct mz_addr *out_addr, struct mz_err *err);

/* The hosts, built now if nobody needed them before; one reference for the caller. Any thread. */
struct host_sets *cluster_sets(struct mz_cluster *c);
struct host_sets *
cluster_sets_peek(struct mz_cluster *c); /* the same for a look: what is built for it is not kept */
void cluster_set_hosts(struct mz_cluster *c,
                       struct host_sets *take); /* main thread: publishes, counts, posts */
/* Main thread: health flags of some hosts changed. Gauges follow now, all threads get new sets at the end of the turn, once
 * for however many calls. */
void cluster_refresh_health(struct mz_cluster *c);
/* Main thread: @h became unhealthy. All threads let their connections to it go: idle ones close now, busy ones after their
 * answer. */
void cluster_host_failed(struct mz_cluster *c, struct mz_host *h);
bool cluster_warming(const struct mz_cluster *c);
void cluster_checks_done(struct mz_cluster *c); /* main thread: each host was checked once */
struct mz_log_files *cluster_log_files(const struct mz_cluster *c); /* NULL: none */
struct mz_log_file *cluster_outlier_log(const struct mz_cluster *c); /* NULL: none */
void cluster_first_done(struct cluster_entry *e);  /* main thread: first discovery ended */
struct cluster_entry **cluster_list(struct mz_cluster_manager *m, size_t *out_n); /* main thread; oldest first; mz_free() it */
/* Main thread: those that serve, those that warm. */
void cluster_each(struct mz_cluster_manager *m, void (*fn)(void *arg, struct cluster_entry *e), void *arg);
void cluster_manager_lock(struct mz_cluster_manager *m); /* any thread, rarely */
void cluster_manager_unlock(struct mz_cluster_manager *m);
bool cluster_in_use(struct mz_cluster_manager *m, struct mz_str name); /* main thread: one of that name has an object */
struct mz_loop *cluster_loop(struct mz_cluster *c);
const struct mz_upstream_env *cluster_manager_env(const struct mz_cluster_manager *m);
bool cluster_is_current(struct mz_cluster *c); /* main thread: neither removed nor replaced */
void cluster_members_count(struct mz_cluster *c, const struct endpoints_count *n);

/* dns_cluster.c, main thread */
struct dns_cluster *dns_cluster_create(struct mz_cluster *c,
                                       struct mz_err *err); /* starts resolving */
bool dns_cluster_waiting(const struct dns_cluster *d);      /* has a name no first answer yet? */
void dns_cluster_destroy(struct dns_cluster *d);

/* on_demand.c: clusters on demand. Main thread: all sources, by their packed messages. */
struct mz_odcds;
struct cluster_names;
struct mz_resource;
bool odcds_has(const struct mz_map *all, struct mz_str name); /* one of them brought it: no other subscription may end it */
void odcds_stop(struct mz_map *all);                          /* the manager goes */
/* A worker: its waits by name; new names are there, main answered, the view ends. */
void pending_names(struct mz_map *all, const struct cluster_names *names);
void pending_answer(struct mz_map *all, const void *source, struct mz_str name, enum mz_discovery how);
void pending_stop(struct mz_map *all);
/* cluster_manager.c, for it */
struct mz_map *cluster_manager_odcds(struct mz_cluster_manager *m);
bool cluster_known(struct mz_cluster_manager *m, struct mz_str name); /* main thread: serves or warms */
struct mz_map *upstream_pending(struct mz_upstream *u);
struct mz_loop *upstream_main(const struct mz_upstream *u);
/* cds.c: one resource. REFUSED: @err. */
enum mz_cluster_change cds_set(struct mz_cluster_manager *m, const struct mz_resource *r, struct mz_err *err);

/* dns_cache.c */
struct mz_dns_cache;
struct mz_dns_answer;
#define DNS_CACHE_KEY 280 /* "name:port" */
/* False: @authority is none. out_host_n: of the name in front of the port. */
bool dns_cache_key(struct mz_str authority, uint16_t default_port, char out_key[DNS_CACHE_KEY], size_t *out_n, size_t *out_host_n);
const struct mz_dns_answer *dns_cache_find(const struct mz_dns_cache *c, struct mz_str key); /* this thread's; it is in use now */
void dns_cache_join(struct mz_dns_cache *c, struct mz_cluster *cluster); /* main thread: it gets hosts by forward_hosts() */
void dns_cache_leave(struct mz_dns_cache *c, const struct mz_cluster *cluster);
void dns_caches_stop(struct mz_map *all);
struct mz_map *cluster_manager_dns_caches(struct mz_cluster_manager *m); /* by name */
/* forward_proxy.c */
bool forward_config(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err);
bool forward_names_check(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err); /* the protocol's options are built */
void forward_hosts(struct mz_cluster *c, struct mz_dns_answer *const *v, size_t n); /* main thread */
void forward_start(struct mz_cluster *c);
void forward_stop(struct mz_cluster *c); /* nothing where the cluster is another */
void forward_drop(struct mz_wcluster *w);

/* original_dst.c */
bool original_dst_config(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err);
void original_dst_start(struct mz_cluster *c); /* main thread */
void original_dst_stop(struct mz_cluster *c);  /* main thread; nothing where the cluster is another */
void original_dst_follow(struct mz_wcluster *w); /* its sets are new */
void original_dst_drop(struct mz_wcluster *w);

/* eds.c, main thread but for eds_bytes(), eds_policy() */
bool eds_config(const pb_Cluster *m, struct cluster_entry *e, const struct mz_upstream_env *env,
                struct mz_err *err);
void eds_start(struct cluster_entry *e);   /* nothing where the cluster is another */
void eds_stop(struct cluster_entry *e);    /* no update more */
void eds_destroy(struct cluster_entry *e); /* last reference; any thread */
void eds_policy(const struct cluster_entry *e, struct mz_cluster *c); /* what the assignment says to its object; under the lock */
/* Of a cluster that sleeps what its subscription counts: it counts for itself; into @s, the cluster's, from now on; for a page,
 * which gets a reference of the scope beside @s, or NULL (@add false: the numbers there are another's); /reset_counters. */
void eds_sleeps(struct cluster_entry *e);
void eds_woken(struct cluster_entry *e, struct mz_scope *s);
struct mz_scope *eds_show(const struct cluster_entry *e, struct mz_scope *s, bool add);
void eds_reset(struct cluster_entry *e);
/* Does a host that is named no more fail its checks now? Then it leaves: eds_left() is host_sets_again() without it, counted. */
bool eds_leaving(const struct mz_cluster *c, const struct host_sets *s);
struct host_sets *eds_left(struct mz_cluster *c, struct host_sets *s, uint64_t seq);
struct mz_str eds_bytes(const struct mz_cluster *c); /* the assignment as it came; under the manager's lock */
struct mz_str eds_service(const struct mz_cluster *c); /* by which its endpoints are asked for, where that is not its name; else "" */
struct mz_str eds_drop_category(const struct mz_cluster *c, struct mz_arena *a); /* of the first of its drop_overloads; "" none */
struct host_sets *cluster_sets_made(struct mz_cluster *c); /* the hosts, if anybody made them; else NULL. A reference */

/* aggregate.c */
bool aggregate_config(const pb_Cluster_CustomClusterType *m, struct mz_cluster *c,
                      struct mz_err *err);
bool aggregate_check(struct mz_cluster *c, struct mz_err *err); /* does @c close a cycle? (H03) */
struct mz_cluster *cluster_find(struct mz_cluster_manager *m, struct mz_str name); /* main thread; wakes it; borrowed */
struct mz_cluster *cluster_look(struct mz_cluster_manager *m, struct mz_str name); /* the same, NULL of one that sleeps */
struct mz_wcluster *aggregate_inner(struct mz_wcluster *w, const struct mz_host *host);
bool aggregate_hashes(struct mz_wcluster *w);
uint32_t aggregate_row(struct mz_wcluster *w, const struct priority_load **out_loads); /* how many priorities it has now */
uint32_t aggregate_priority_of(struct mz_wcluster *w, const struct mz_host *host);
void aggregate_drop(struct mz_wcluster *w);
uint64_t upstream_generation(const struct mz_upstream *u); /* grows with each change of names or hosts on this worker */

/* ---- one worker's view ---- */
struct pool;
struct pool_map { /* pools by host and kind: open addressing */
    struct pool **v;
    uint32_t n, cap;
};
struct mz_wcluster {
    unsigned refs; /* this thread only: the map, each pool */
    struct mz_cluster *cluster;
    struct mz_upstream *upstream;
    struct mz_loop *loop;
    struct lb lb;
    struct pool_map pools;
    uint64_t room;                           /* sums of the pools: streams that clients could take */
    uint32_t n_pending, n_waiting, n_active; /* ... requests */
    struct peeked *peeked;                   /* preconnect.c; NULL before the first host chosen ahead */
    struct original_dst_here *original_dst; /* NULL before the first host made here */
    struct aggregate_here *aggregate;       /* NULL before the first choice */
    struct forward_here *forward;           /* the same */
    struct mz_http1_stats http1_stats; /* scopes NULL before the first connection */
    struct mz_http2_stats http2_stats;
    bool removed;
};

/* Whose pools serve @host, that a choice of @w gave: an aggregate's hosts are those of its inner clusters. */
static inline struct mz_wcluster *wcluster_of(struct mz_wcluster *w, const struct mz_host *host)
{
    return MZ_LIKELY(host->cluster == w->cluster) ? w : aggregate_inner(w, host);
}

/* pool.c */
enum pool_kind { POOL_HTTP1, POOL_HTTP2, POOL_AUTO /* by ALPN */, POOL_TCP };
struct pool *pool_get(struct mz_wcluster *w, struct mz_host *h, enum mz_priority p,
                      enum pool_kind k,
                      const struct mz_transport_opts *o, uint64_t owner); /* NULL: breaker open */
void pools_host_gone(struct mz_wcluster *w, struct mz_host *h,
                     bool close_all); /* removed: drains; close_all: at once */
void pools_host_failed(struct mz_wcluster *w, struct mz_host *h); /* unhealthy: its connections are not used again */
void pools_close_all(struct mz_wcluster *w, bool now);

/* preconnect.c, for clusters with a predictive ratio above 1 */
void preconnect_ahead(struct mz_wcluster *w, enum mz_priority prio,
                      enum pool_kind kind); /* before a request is asked for */
struct mz_host *preconnect_take(struct mz_wcluster *w, struct mz_lb_ctx *ctx); /* the host chosen ahead, or NULL */
void preconnect_forget(struct mz_wcluster *w);                                 /* the hosts changed */

/* pool_cx.c: cluster.<name>.http1. or http2., of all its codecs; shared by who makes it again */
struct mz_scope *cluster_codec_scope(const struct mz_cluster *c, bool http2);
struct mz_http1_stats cluster_http1_stats(struct mz_scope *scope); /* indices of that scope */
#endif
