#ifndef MZ_CONTROL_DISCOVERY_PEER_H
#define MZ_CONTROL_DISCOVERY_PEER_H
/*
 * The xDS protocol with one client (C6), either variant, bytes out through a function: no sockets here. Main thread.
 *
 * Of each type at most one response is under way: while it is neither acknowledged nor refused, what changes meanwhile is only
 * remembered, so a client that does not answer costs nothing more. Types go in the order CDS, EDS, LDS, RDS, SDS. What a client
 * has is kept as the resources themselves, which all clients share: pieces that are the same for many are one (translate/set.h).
 */
#include "control/discovery/bundle.h"
#include "control/model/change.h"
#include "control/monitor/metrics.h"
#include "control/translate/translate.h"

struct mz_peer;
struct mz_peer_env {
    struct mz_translator *translator; /* has a model */
    struct mz_bundles *bundles;       /* shared by all peers */
    bool delta;
    enum mz_xds_type only; /* MZ_XDS_TYPE__COUNT: ADS */
    /* A packed (Delta)DiscoveryResponse, which is taken. False: not now, mz_peer_writable() tells when; nothing was taken. */
    bool (*send)(void *arg, struct mz_buf *response);
    void *arg;
    struct mz_peer_counts *counts; /* NULL: nobody counts */
    struct mz_str ns, account; /* who it is, by certificate or token; "": nobody knows, and it gets no Secret. Borrowed */
};
/* A Secret that goes, is broken or may not be had any more stays with those who have it: what they serve goes on. */
struct mz_peer *mz_peer_create(const struct mz_peer_env *env); /* copied */
void mz_peer_destroy(struct mz_peer *p); /* NULL is fine */
void mz_peer_identify(struct mz_peer *p, struct mz_str ns, struct mz_str account); /* env's, where they are known later; before its first request. Borrowed */
/* A request of the variant. False: the stream must end, @err says why (a node that is not served). */
bool mz_peer_request(struct mz_peer *p, const ProtobufCMessage *request, struct mz_err *err);
void mz_peer_writable(struct mz_peer *p);
/* While there is nothing else to do: a step (100 us) towards what it will ask for next. False: it is known to need nothing more. */
bool mz_peer_ahead(struct mz_peer *p);
/* The translator gets another model: prepare, then set it there, then renew, then tell what is different, if anything is. */
void mz_peer_prepare(struct mz_peer *p, const struct mz_model *next);
void mz_peer_renew(struct mz_peer *p); /* always: the model before may go after this */
void mz_peer_push(struct mz_peer *p, const struct mz_change *c);

struct mz_peer_state { /* of one type, for debug pages and logs */
    bool subscribed, waiting; /* for an acknowledgement */
    size_t resources;
    uint64_t sent, acked, nacked; /* responses */
    uint64_t nonce_sent, nonce_acked; /* of the last ones; 0: none */
    uint64_t sent_us;             /* when, by the wall clock; 0: never */
    const char *nack;             /* the last refusal's reason, until a response is acknowledged; "" */
    int nack_code;                /* of gRPC, as the client told it */
    const char *nack_resource;    /* the resource that it names; "" unknown */
    const char *nack_object;      /* the object that this was made of: "networking.istio.io/v1 destination-rule demo/web"; "" unknown */
};
/* Numbers of all clients, as istiod counts them; the owner of clients keeps them. */
struct mz_peer_counts {
    uint64_t sent[MZ_XDS_TYPE__COUNT], refused[MZ_XDS_TYPE__COUNT];
    uint64_t expired[MZ_XDS_TYPE__COUNT]; /* requests that answer an older response */
    struct mz_distribution sizes[MZ_XDS_TYPE__COUNT]; /* of responses, bytes */
    struct mz_distribution convergence; /* seconds from mz_peer_push() until all that followed from it was answered */
};
void mz_peer_counts_init(struct mz_peer_counts *c);
void mz_peer_state(const struct mz_peer *p, enum mz_xds_type t, struct mz_peer_state *out);
bool mz_peer_settled(const struct mz_peer *p); /* it has answered everything, and there is nothing more to send */
/* What it was sent and did not refuse to have, or asked for and has not got (version 0), by name. */
const struct mz_set *mz_peer_have(const struct mz_peer *p, enum mz_xds_type t); /* borrowed; NULL: nothing */
const struct mz_proxy *mz_peer_proxy(const struct mz_peer *p); /* NULL before the first request */
#endif
