#ifndef MZ_AGENT_DNS_H
#define MZ_AGENT_DNS_H
/*
 * DNS for the pod (A5), as Istio's agent answers: names of the mesh out of the control plane's table, everything else from the
 * name servers of resolv.conf. UDP and TCP. Main thread.
 */
#include "base/err.h"
#include "base/str.h"

struct mz_buf;
struct mz_loop;
struct mz_agent_dns;
struct mz_agent_dns_opts {
    struct mz_loop *loop;
    const char *address;     /* "localhost:15053": 127.0.0.1 and, where the machine has it, ::1; or one address and port */
    const char *resolv_conf; /* "/etc/resolv.conf" */
    struct mz_str namespace_, domain; /* of the pod: "shop", "shop.svc.cluster.local" or "svc.cluster.local" */
};
struct mz_agent_dns *mz_agent_dns_create(const struct mz_agent_dns_opts *o, struct mz_err *err);
/* Another NameTable, packed; the one before stays where it is none. Until the first one questions get SERVFAIL, unless the port
 * is 53: then we are the machine's only name server, and they are forwarded. */
void mz_agent_dns_set(struct mz_agent_dns *d, struct mz_str packed);
bool mz_agent_dns_ready(const struct mz_agent_dns *d);                 /* there is a table */
void mz_agent_dns_metrics(const struct mz_agent_dns *d, struct mz_buf *out);
void mz_agent_dns_destroy(struct mz_agent_dns *d); /* before the loop; NULL is fine */
#endif
