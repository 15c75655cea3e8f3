#ifndef MZ_CONTROL_DISCOVERY_SERVER_H
#define MZ_CONTROL_DISCOVERY_SERVER_H
/*
 * The xDS server (C6): gRPC methods of ADS and of each type, every client in one list, models in. Main thread.
 */
#include "control/discovery/peer.h"
#include "event/loop.h"
#include "grpc/server.h"
#include "net/addr.h"

struct mz_discovery;
struct mz_discovery *mz_discovery_create(struct mz_loop *l);
void mz_discovery_destroy(struct mz_discovery *d); /* ends all streams; NULL is fine */
/* Takes a reference. Clients that are connected get what is different for them; before the first model they wait. */
void mz_discovery_set_model(struct mz_discovery *d, const struct mz_model *m);
bool mz_discovery_listen(struct mz_discovery *d, const struct mz_addr *a, struct mz_addr *out_addr, struct mz_err *err); /* plain */
struct mz_discovery_client {
    uint64_t id;           /* of the stream, from 1 */
    uint64_t connected_us; /* wall clock */
    const struct mz_addr *from;
    const struct mz_peer *peer;
};
/* Those that have said who they are, in the order in which they came. */
void mz_discovery_each(struct mz_discovery *d, void (*each)(void *arg, const struct mz_discovery_client *c), void *arg);
const struct mz_peer_counts *mz_discovery_counts(const struct mz_discovery *d);
/* What models were different in, each that told anybody anything, in words of istiod's: one change may be several. */
enum mz_push_trigger { MZ_PUSH_CONFIG, MZ_PUSH_SERVICE, MZ_PUSH_ENDPOINT, MZ_PUSH_PROXY, MZ_PUSH_SECRET, MZ_PUSH__COUNT };
const uint64_t *mz_discovery_triggers(const struct mz_discovery *d); /* MZ_PUSH__COUNT */
void mz_discovery_end(struct mz_discovery *d, uint64_t id); /* a client's stream ends; it will come again */
uint64_t mz_discovery_secrets_refused(const struct mz_discovery *d); /* as mz_translator_secrets_refused() */
struct mz_cache_counts mz_discovery_cache(const struct mz_discovery *d);
const struct mz_model *mz_discovery_model(const struct mz_discovery *d); /* NULL before the first */
/*
 * Listens for clients that must say who they are: @who finds the account of the caller (in @a), or says why it is nobody.
 * A client without TLS is not asked, it came by the plain port. A proxy is served only in its own namespace.
 */
struct mz_discovery_caller {
    struct mz_str ns, account; /* "" came by the plain port: nobody knows */
};
struct mz_discovery_question { /* who one client is; the stream's until it is answered or cancelled */
    void (*done)(struct mz_discovery_question *q, bool known); /* after LATER, once, never from inside */
    struct mz_discovery_caller who; /* where known */
    struct mz_err err;              /* where not; for the log */
    void *state;                    /* the gate's */
};
enum mz_discovery_known { MZ_DISCOVERY_KNOWN, MZ_DISCOVERY_UNKNOWN, MZ_DISCOVERY_LATER /* nothing is read of it until then */ };
struct mz_discovery_gate {
    enum mz_discovery_known (*who)(void *arg, const struct mz_grpc_serving *call, const struct mz_headers *h, struct mz_arena *a,
                                   struct mz_discovery_question *q);
    void (*cancel)(void *arg, struct mz_discovery_question *q); /* of one that is LATER: its client has gone */
    void *arg;
};
bool mz_discovery_listen_secure(struct mz_discovery *d, const struct mz_addr *a, const struct mz_transport_factory *f,
                                const struct mz_discovery_gate *g, struct mz_addr *out_addr, struct mz_err *err); /* gate copied */
/* Who comes and goes on streams of ADS, and what machines say of their health (requests of type istio.v1.HealthInformation). */
struct mz_discovery_watch {
    /* A client has said who it is. False: its stream ends, @err says why. */
    bool (*connected)(void *arg, uint64_t stream, const struct mz_proxy *p, const struct mz_discovery_caller *who, struct mz_err *err);
    void (*health)(void *arg, uint64_t stream, bool healthy, struct mz_str why);
    void (*left)(void *arg, uint64_t stream); /* also of clients that nothing was told of */
    void *arg;
};
void mz_discovery_set_watch(struct mz_discovery *d, const struct mz_discovery_watch *w); /* copied; before anybody can connect */
struct mz_grpc_server *mz_discovery_server(struct mz_discovery *d); /* for further methods on the same ports */
size_t mz_discovery_clients(const struct mz_discovery *d);
#endif
