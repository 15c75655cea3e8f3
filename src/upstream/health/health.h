#ifndef MZ_UPSTREAM_HEALTH_H
#define MZ_UPSTREAM_HEALTH_H
/*
 * Why a host takes no traffic: outlier detection (U5) and, beside it, active checks (U6). Shared by this folder and the
 * clusters around it. What a host did is counted by any thread in atomics; what follows from it is decided on main.
 */
#include "upstream/upstream_priv.h"

/* ---- outlier detection ---- */
enum outlier_rule { /* the numbers of envoy.data.cluster.v3.OutlierEjectionType */
    RULE_5XX,
    RULE_GATEWAY,
    RULE_SUCCESS_RATE,
    RULE_LOCAL,
    RULE_LOCAL_SUCCESS_RATE,
    RULE_FAILURE_PERCENTAGE,
    RULE_LOCAL_FAILURE_PERCENTAGE,
    RULE__COUNT
};
enum outlier_origin { ORIGIN_EXTERNAL, ORIGIN_LOCAL, ORIGIN__COUNT };
struct outlier_config { /* every number but split, one and uneject has a runtime key outlier_detection.<name> */
    uint64_t interval_ms, base_ms, max_ms, jitter_ms;
    uint32_t consecutive[RULE__COUNT]; /* of the three that count in a row; 0: never */
    uint32_t enforcing[RULE__COUNT];   /* percent */
    uint32_t max_percent;
    uint32_t rate_hosts, rate_volume, rate_stdev; /* success rate; standard deviations in thousandths */
    uint32_t failure_threshold, failure_hosts, failure_volume;
    bool split_local, always_one, uneject_by_check;
};
struct outlier_rate { /* requests of one interval; atomics */
    uint64_t total, good;
};
struct host_outlier { /* in a host's memory */
    struct outlier *outlier; /* the cluster's; NULL: the cluster has none */
    uint32_t row[RULE__COUNT]; /* atomics: failures in a row, by rule */
    struct outlier_rate rates[ORIGIN__COUNT][2];
    uint32_t writing; /* atomic: which of the two is written; main reads the other */
    /* main thread: */
    uint32_t ejections, backoff;
    uint64_t ejected_us, unejected_us; /* 0: never */
    uint64_t jitter_ms;
    double rate[ORIGIN__COUNT]; /* percent of the last interval; -1: too few requests */
};
/* Why a host is out, for people: atomics, written by main, read by any thread. Numbers in thousandths. */
struct ejected_why {
    uint32_t rule;  /* enum outlier_rule */
    uint32_t times; /* ejections so far */
    uint64_t measured, limit;
    uint64_t since_us, until_us; /* monotonic */
};
enum check_result { /* of one active check */
    CHECK_NONE,     /* none has ended yet */
    CHECK_PASSED,
    CHECK_STATUS,   /* another HTTP status than expected */
    CHECK_BODY,     /* the answer has not what is expected in it */
    CHECK_NAME,     /* another service than expected */
    CHECK_CONNECT,  /* no connection */
    CHECK_CLOSED,   /* the connection ended before the answer */
    CHECK_PROTOCOL, /* no valid answer */
    CHECK_TIMEOUT,
    CHECK_TOLD,     /* an answer to a request said x-envoy-immediate-health-check-fail */
    CHECK_GRPC,     /* another grpc-status than OK */
    CHECK_SERVING,  /* another ServingStatus than SERVING */
};
struct check_why {
    uint32_t result;        /* enum check_result: of the last check */
    uint32_t value;         /* HTTP status, errno */
    uint32_t bad, bad_limit, good, good_limit; /* in a row, and how many change the host's state */
    uint64_t since_us;      /* monotonic: when the state last changed */
};
struct host_health {
    struct host_outlier outlier;
    struct ejected_why ejected;
    struct check_why checked;
    struct checker *checker;       /* reference; NULL: no active checks of this host */
    struct check_session *session; /* main thread; NULL before the first and after the last */
    char *check_name;              /* health_check_config.hostname; NULL: none */
};

/* why.c: what keeps a host from traffic, or keeps it to less of it, one reason each; 0: nothing. Any thread. */
#define HEALTH_REASONS 6
struct health_reason {
    const char *kind; /* "outlier_detection", "active_health_check", "endpoint_status", "removal" */
    char text[232];
};
unsigned health_reasons(const struct mz_host *h, struct health_reason out[HEALTH_REASONS]);

/* outlier_config.c: sets priv->outlier, which the cluster owns; nothing runs yet. */
bool outlier_build(const pb_OutlierDetection *m, struct mz_cluster *c, struct mz_err *err);
/* outlier.c: main thread */
struct outlier *outlier_create(struct mz_cluster *c, const struct outlier_config *cfg);
void outlier_scope(struct outlier *o, struct mz_stats *st, struct mz_str prefix);
void outlier_stop(struct outlier *o); /* the cluster is removed: nothing happens any more. NULL is fine */
struct outlier *outlier_ref(struct outlier *o); /* any thread: its cluster and each host hold one */
void outlier_unref(struct outlier *o);
void outlier_hosts_changed(struct outlier *o); /* NULL is fine */
/* A check of a host was good: it may come back (successful_active_health_check_uneject_host). */
void outlier_check_passed(struct mz_host *h);
double outlier_average(const struct outlier *o, enum outlier_origin from);   /* -1: none */
double outlier_threshold(const struct outlier *o, enum outlier_origin from); /* -1: none */
const char *outlier_rule_text(enum outlier_rule r); /* "consecutive_5xx" */
#define OUTLIER_KEY(name) MZ_STR("outlier_detection." name)
uint64_t outlier_number(struct mz_str key, uint64_t configured); /* what the runtime says, else as configured */

/* ---- active checks (check.h); main thread where nothing else is said ---- */
/* Sets priv->checker, which the cluster owns; nothing runs yet. */
bool checker_build(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err);
struct checker *checker_create(struct mz_cluster *c);
void checker_scope(struct checker *k, struct mz_stats *st, struct mz_str prefix);
void checker_hosts_changed(struct checker *k); /* checks begin and end with hosts; NULL is fine */
bool checker_waiting(const struct checker *k); /* for the first check of some host; NULL: no */
void checker_stop(struct checker *k); /* ends all checks, closes logs; NULL is fine */
struct checker *checker_ref(struct checker *k); /* any thread */
void checker_unref(struct checker *k);
bool checker_host_check(const pb_Endpoint *e, struct mz_err *err); /* its health_check_config */
/* A new host of a cluster whose endpoint was checked so: out until its first check, unless that is disabled. Any thread. */
void checker_host(struct checker *k, struct mz_host *h, const pb_Endpoint *e);

/* Would a host that is no longer in its cluster's endpoints stay? Yes while it passes its checks (Envoy). */
bool checker_keeps(const struct checker *k, const struct mz_host *h);
void checker_inherit(struct mz_host *h, const struct mz_host *from); /* the same host at another address (LOGICAL_DNS) */

/* The rest is for outlier_report.c and for tests. */
struct outlier {
    unsigned refs;              /* atomic */
    struct mz_cluster *cluster; /* main thread, until it is stopped: the cluster may go before its hosts */
    struct mz_loop *main;
    struct outlier_config cfg;
    struct mz_scope *scope;
    struct mz_timer timer;
    uint32_t armed; /* atomic: somebody reported, so the interval runs or is about to */
    bool stopped;
    uint32_t active; /* hosts that are out */
    double average[ORIGIN__COUNT], threshold[ORIGIN__COUNT];
};
void outlier_arm(struct outlier *o);                           /* main */
void outlier_in_a_row(struct mz_host *h, enum outlier_rule r); /* main: a limit of failures was reached */
#endif
