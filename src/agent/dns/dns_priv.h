#ifndef MZ_AGENT_DNS_PRIV_H
#define MZ_AGENT_DNS_PRIV_H
#include "agent/dns/dns.h"
#include "agent/dns/message.h"
#include "agent/dns/names.h"
#include "event/loop.h"
#include "net/addr.h"

struct mz_dns;
struct dns_client; /* a connection */
struct dns_socket; /* of UDP */
struct dns_asker { /* who gets an answer */
    struct dns_socket *socket; /* UDP, with his address; NULL: TCP */
    struct mz_addr address;
    struct dns_client *client;
};

/* ---- answers.c: what is said ---- */
#define DNS_BUCKETS 6
struct dns_answers {
    struct mz_loop *loop;
    struct mz_dns *upstream; /* NULL: nobody is asked */
    struct mz_names *names;  /* NULL: none yet */
    struct mz_names_pod pod;
    char namespace_[256], domain[256], search[256];
    bool forward_early; /* without a table questions are forwarded */
    struct mz_list pending;
    unsigned pending_n;
    uint64_t requests, upstream_requests, upstream_failures, took[DNS_BUCKETS + 1], took_us;
    void (*send)(const struct dns_asker *to, char *room, size_t n); /* a message of @n bytes behind two that are free */
    void (*answered)(struct dns_client *c); /* a question of his that waited */
    char *room; /* of an answer that is made, two bytes in front */
};
void dns_answers_init(struct dns_answers *a, const struct mz_agent_dns_opts *o);
void dns_answers_fini(struct dns_answers *a);
/* A message came. True: it is answered later. */
bool dns_answers_take(struct dns_answers *a, struct mz_str message, const struct dns_asker *who);
void dns_answers_forget(struct dns_answers *a, const struct dns_client *c); /* it has gone */
void dns_answers_metrics(const struct dns_answers *a, struct mz_buf *out);
#endif
