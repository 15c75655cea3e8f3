#ifndef MZ_NET_DNS_H
#define MZ_NET_DNS_H
/* Asynchronous resolution by c-ares (U1, H09), on the main loop. */
#include "event/loop.h"
#include "net/addr.h"

enum mz_dns_family { MZ_DNS_AUTO /* v6 first, v4 when none */, MZ_DNS_V4_ONLY, MZ_DNS_V6_ONLY, MZ_DNS_V4_PREFERRED, MZ_DNS_ALL };
struct mz_dns_result {
    struct mz_addr addr; /* port 0 */
    uint32_t ttl_s;
};
struct mz_dns;       /* one resolver (one c-ares channel) */
struct mz_dns_query; /* in flight */
struct mz_dns_opts {
    const struct mz_addr *servers; /* none: the system's (/etc/resolv.conf, /etc/hosts) */
    size_t n_servers;
    bool use_tcp, no_default_search;
    bool rotate;            /* servers take turns */
    uint32_t timeout_ms;    /* of a server's first try; 0: the library's */
    uint32_t tries;         /* of each server; 0: the library's */
    uint32_t udp_max;       /* questions that leave from one port: later ones wait for a new one; 0: no limit */
    const char *file;       /* instead of /etc/resolv.conf; NULL */
    uint16_t edns_bytes;    /* of mz_dns_send(): what the questions' OPT records say; 0: they have none */
};
struct mz_dns *mz_dns_create(struct mz_loop *l, const struct mz_dns_opts *o, struct mz_err *err);
void mz_dns_destroy(struct mz_dns *d); /* queries in flight stay silent */
#define MZ_DNS_SEARCH_MAX 32 /* search domains of the system that are used */
/* done runs once, later, never from inside this call; n 0 with ok true means the name has no address (NODATA, NXDOMAIN). At
 * most MZ_DNS_MAX results are given. Cancel keeps it silent. */
#define MZ_DNS_MAX 1024
struct mz_dns_query *mz_dns_resolve(struct mz_dns *d, struct mz_str name, enum mz_dns_family family,
                                    void (*done)(void *arg, bool ok, const char *why, const struct mz_dns_result *v, size_t n),
                                    void *arg);
void mz_dns_cancel(struct mz_dns_query *q);

/* ---- a question of somebody else's, as a whole message ---- */
struct mz_dns_exchange; /* in flight */
typedef void mz_dns_sent(void *arg, const char *why, struct mz_str answer);
/* Asks the servers in turn, by UDP, then by TCP where the answer is cut: the first that answers other than SERVFAIL, NOTIMP or
 * REFUSED. @message is copied; its id should be random; an OPT record, if any, stands last in it. @done once, later, never from
 * inside this call: the answer (to this id and question, from the server that was asked) until it returns, or "" and @why. */
struct mz_dns_exchange *mz_dns_send(struct mz_dns *d, struct mz_str message, mz_dns_sent *done, void *arg);
void mz_dns_send_cancel(struct mz_dns_exchange *x); /* silent; NULL is fine */
size_t mz_dns_servers(const struct mz_dns *d, struct mz_addr *out, size_t max); /* with ports */
bool mz_dns_first_search(const struct mz_dns *d, char out_domain[256]); /* false: there is none */
#endif
