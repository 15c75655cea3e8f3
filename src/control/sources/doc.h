#ifndef MZ_CONTROL_SOURCES_DOC_H
#define MZ_CONTROL_SOURCES_DOC_H
/*
 * One document (object) of a platform: what it is, where it stands, and its content in binary form: small, comparable, and
 * independent of the text it came from. Immutable, counted; made on any thread, then of the main thread.
 */
#include "base/err.h"
#include "base/str.h"
#include "control/names.h"
#include "proto/mapper.h"

enum mz_kind { /* in the order in which kinds are reported */
    MZ_KIND_MESH_CONFIG, /* no object of any API: one, named "mesh" */
    MZ_KIND_NAMESPACE,
    MZ_KIND_NODE,
    MZ_KIND_SERVICE,
    MZ_KIND_POD,
    MZ_KIND_ENDPOINTS,
    MZ_KIND_ENDPOINT_SLICE,
    MZ_KIND_SERVICE_ENTRY,
    MZ_KIND_WORKLOAD_ENTRY,
    MZ_KIND_WORKLOAD_GROUP,
    MZ_KIND_PROXY_CONFIG,
    MZ_KIND_SIDECAR,
    MZ_KIND_GATEWAY,
    MZ_KIND_VIRTUAL_SERVICE,
    MZ_KIND_DESTINATION_RULE,
    MZ_KIND_PEER_AUTHENTICATION,
    MZ_KIND_REQUEST_AUTHENTICATION,
    MZ_KIND_KEYS, /* no object of any API: what was fetched for a JWTRule (keys/keys.h) */
    MZ_KIND_AUTHORIZATION_POLICY,
    MZ_KIND_TELEMETRY,
    MZ_KIND_ENVOY_FILTER,
    MZ_KIND_WASM_PLUGIN,
    MZ_KIND_TRAFFIC_EXTENSION,
    MZ_KIND_SECRET,
    MZ_KIND_CONFIG_MAP,
    MZ_KIND_INGRESS_CLASS,
    MZ_KIND_INGRESS,
    MZ_KIND_GATEWAY_CLASS,
    MZ_KIND_K8S_GATEWAY, /* the Gateway API's */
    MZ_KIND_LISTENER_SET,
    MZ_KIND_HTTP_ROUTE,
    MZ_KIND_GRPC_ROUTE,
    MZ_KIND_TCP_ROUTE,
    MZ_KIND_TLS_ROUTE,
    MZ_KIND_REFERENCE_GRANT,
    MZ_KIND_BACKEND_TLS_POLICY,
    MZ_KIND__COUNT
};
struct mz_kind_info {
    const char *group;      /* of the API: "" is Kubernetes' core */
    const char *name;       /* as `kind:` says */
    const char *key;        /* what it is called in keys, where another kind has its name; NULL: as it is named */
    const char *versions;   /* that are read, with blanks between */
    const ProtobufCMessageDescriptor *type; /* of the content */
    bool cluster_scoped;    /* it has no namespace */
    bool spec_only;         /* content is what stands under `spec` */
    bool strict;            /* an unknown field is an error, as `kubectl apply` says; else it is for others */
    bool told;              /* an unknown field is told as a warning */
};
const struct mz_kind_info *mz_kind_info(enum mz_kind k);
const char *mz_kind_key(enum mz_kind k); /* the first part of the keys of its documents */

struct mz_doc {
    unsigned refs;
    enum mz_kind kind;
    uint32_t line;        /* of its first line; 0: not from a file */
    struct mz_str ns, name, file;
    struct mz_str key;    /* "Service/demo/web": unique in a store */
    struct mz_str created; /* RFC 3339; "" unknown */
    struct mz_str meta;   /* packed k8s.v1.ObjectMeta */
    struct mz_str body;   /* packed message of the kind's type */
    struct mz_str of;     /* of endpoints: the service that has them, "demo/web"; "" others */
    uint64_t version;     /* of meta and body: equal content, equal number, in every process */
};
struct mz_doc *mz_doc_create(enum mz_kind k, const k8s_ObjectMeta *meta, const ProtobufCMessage *body, struct mz_str file,
                             uint32_t line); /* copies everything; refs 1 */
/* The same of a body that is packed already. */
struct mz_doc *mz_doc_create_packed(enum mz_kind k, const k8s_ObjectMeta *meta, struct mz_str body, struct mz_str file, uint32_t line);
struct mz_str mz_doc_key(enum mz_kind k, struct mz_str ns, struct mz_str name, struct mz_arena *a); /* what `key` says; @ns may be "" */
struct mz_doc *mz_doc_ref(const struct mz_doc *d);
struct mz_doc *mz_doc_at_line(const struct mz_doc *d, uint32_t line); /* the same, further up or down in its file; a reference */
void mz_doc_unref(const struct mz_doc *d); /* NULL is fine */
/* Both were checked when they were read: they cannot fail. The message lives in @a. */
const k8s_ObjectMeta *mz_doc_meta(const struct mz_doc *d, struct mz_arena *a);
const ProtobufCMessage *mz_doc_body(const struct mz_doc *d, struct mz_arena *a);

/* ---- reading text ---- */
enum mz_level { MZ_LEVEL_INFO, MZ_LEVEL_WARNING, MZ_LEVEL_ERROR };
struct mz_doc_reader { /* what a text is read into */
    struct mz_str file;
    /* @d is taken. */
    void (*doc)(void *arg, struct mz_doc *d);
    /* Something to tell, and where. With an error the document is not used; @key: which it is, "" where that cannot be known. */
    void (*problem)(void *arg, enum mz_level level, uint32_t line, struct mz_str key, const char *text);
    void *arg;
};
/**
 * Reads all documents of a text: YAML with `---` between them (one that is broken does not hide the others), or one of JSON; a
 * `List` is what is in it. Kinds of no interest are skipped; those of Istio and the Gateway API that this version does not
 * read are told as warnings. Namespaced objects without a namespace are in "default".
 */
void mz_doc_read_text(const struct mz_doc_reader *r, struct mz_str text, enum mz_text_form form);
/* As that, for objects that name no namespace those of @ns instead of "default". */
void mz_doc_read_text_in(const struct mz_doc_reader *r, struct mz_str ns, struct mz_str text, enum mz_text_form form);
/* The documents of a YAML text, which `---` divides; @line0: lines in front of each. */
typedef void mz_doc_part(void *arg, struct mz_str part, uint32_t line0);
void mz_doc_parts(struct mz_str text, mz_doc_part *each, void *arg);
/* The two steps of mz_doc_read_text(): what can be read by itself, and reading it, which any thread may do. */
void mz_doc_divide(struct mz_str text, enum mz_text_form form, mz_doc_part *each, void *arg);
void mz_doc_read_part(const struct mz_doc_reader *r, struct mz_str text, enum mz_text_form form, uint32_t line0);
/* A text that is a MeshConfig by itself. Unknown fields are warnings: the rest counts. */
void mz_doc_read_mesh(const struct mz_doc_reader *r, struct mz_str text);
#endif
