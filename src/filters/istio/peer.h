#ifndef MZ_FILTERS_ISTIO_PEER_H
#define MZ_FILTERS_ISTIO_PEER_H
/*
 * What one proxy of an Istio mesh tells another of its workload (S2), and the three forms in which it does: the node's metadata (a
 * Struct with NAME, NAMESPACE, LABELS...), baggage, and the metadata of an endpoint. Texts are borrowed of what was read, or
 * lie in the given arena.
 */
#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "observe/metadata.h"
#include "observe/stream_info.h"

enum peer_text { PEER_NAME, PEER_CLUSTER, PEER_NAMESPACE, PEER_WORKLOAD, PEER_SERVICE, PEER_REVISION, PEER_APP, PEER_VERSION,
                 PEER_IDENTITY, PEER_REGION, PEER_ZONE, PEER__TEXTS };
enum peer_type { PEER_UNKNOWN, PEER_POD, PEER_DEPLOYMENT, PEER_JOB, PEER_CRONJOB };
struct peer {
    struct mz_str text[PEER__TEXTS]; /* "": unknown */
    enum peer_type type;
    const struct mz_field *labels; /* additional ones */
    size_t n_labels;
};
struct peer_labels { /* additional_labels of a configuration */
    const struct mz_str *v;
    size_t n;
};
#define PEER_BYTES_MAX 65536 /* of a peer's Struct: more is no peer */

/* @metadata: a Struct; NULL: nothing is known. */
void peer_from_metadata(const struct mz_value *metadata, const struct peer_labels *more, struct mz_arena *a, struct peer *out);
struct mz_str peer_metadata_text(const struct mz_value *metadata, struct mz_str key); /* "": none */
struct mz_factory;
void peer_of_node(const struct mz_factory *f, const struct peer_labels *more, struct mz_arena *a, struct peer *out); /* ourselves */
struct peer_labels peer_labels_of(char *const *v, size_t n, struct mz_arena *a); /* copies */
/* The same of packed google.protobuf.Struct from a stranger; false: it is none. */
bool peer_from_struct(struct mz_str bytes, const struct peer_labels *more, struct mz_arena *a, struct peer *out);
/* x-envoy-peer-metadata: base64 of that. */
bool peer_from_header(struct mz_str value, const struct peer_labels *more, struct mz_arena *a, struct peer *out);
void peer_from_baggage(struct mz_str value, struct peer *out);
/* metadata istio.workload of an endpoint: "workload;namespace;service;revision;cluster"; false: not of that form. */
bool peer_from_endpoint(struct mz_str value, struct peer *out);

const struct mz_value *peer_metadata(const struct peer *p, struct mz_arena *a); /* a Struct, fields sorted by name */
struct mz_str peer_pack(const struct mz_value *v, struct mz_arena *a);          /* google.protobuf.Struct */
const struct peer *peer_copy(const struct peer *p, struct mz_arena *a);         /* with its texts */
struct mz_str peer_header(const struct peer *p, struct mz_arena *a);
struct mz_str peer_baggage(const struct peer *p, struct mz_arena *a);

/* ---- in filter state ---- */
#define PEER_DOWNSTREAM "downstream_peer" /* as a map: downstream_peer.namespace */
#define PEER_UPSTREAM   "upstream_peer"
#define PEER_NONE       "peer_not_found"  /* nobody will tell any more */
struct peer_object {
    struct mz_filter_object base;
    const struct peer *peer;
};
void peer_object_init(struct peer_object *o, const struct peer *p);
#define PEER_DOWNSTREAM_FIELDS "downstream_peer_obj" /* as an object with fields: %FILTER_STATE(downstream_peer_obj:FIELD:workload)% */
#define PEER_UPSTREAM_FIELDS   "upstream_peer_obj"
void peer_fields_init(struct peer_object *o, const struct peer *p);
const struct peer *peer_of_state(const struct mz_map *state, struct mz_str key); /* of a peer_object_init(); NULL: none */
extern struct mz_filter_object peer_not_found;
#endif
