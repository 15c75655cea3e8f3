#ifndef MZ_CONTROL_INJECT_INJECT_H
#define MZ_CONTROL_INJECT_INJECT_H
/*
 * A proxy into pods (C9): the same for the webhook and for `mizzenctl kube-inject`. What is added is built as a document, never
 * as text from a template: no annotation can end a string (H06). Pure functions.
 */
#include <jansson.h>

#include "base/err.h"
#include "proto/tree.h"

struct mz_inject_opts {
    const char *image;        /* "example/mesh/proxyv2:1.32"; NULL: as the injector's values say, else Istio's */
    const char *ca_address;   /* "istiod.istio-system.svc:15012" */
    const char *cluster_id, *mesh_id, *trust_domain, *revision, *domain;
    unsigned status_port;     /* 15020 */
    bool native;              /* proxies are init containers that go on running, unless an annotation says otherwise */
    /* ProxyConfigs for a pod of @ns with @labels (maybe NULL), between which the annotation's stands (layers.h). NULL: there are none. */
    void (*config)(void *arg, const char *ns, const json_t *labels, json_t **out_under, json_t **out_over);
    void *config_arg;
    const struct mz_inject_templates *const *templates; /* templates.h; NULL, or to NULL: there are only ours. Read at each pod */
    json_t *(*mesh)(void *arg); /* with config_arg: the MeshConfig for templates, a new reference; NULL: nothing is known of it */
    /* With config_arg: whether proxies are native where @node ("": none yet) is a node's name; NULL: as `native` says. */
    bool (*native_of)(void *arg, const char *node);
};
struct mz_inject_templates;
void mz_inject_opts_init(struct mz_inject_opts *o); /* defaults */
bool mz_inject_native_from_env(void); /* ENABLE_NATIVE_SIDECARS=true */
bool mz_inject_native_is_auto(void);  /* it is "auto", or not set: by the versions of nodes (cluster.h) */

struct mz_inject_owner { /* the object that pods are made by: for a bare pod itself */
    const char *api, *kind, *name, *ns; /* "apps/v1", "Deployment" */
};
enum { MZ_INJECT_NAME = 256 }; /* bytes of an object's name, with a NUL */
/* By its ownerReferences, labels and name. @name is room for a name that has to be made. */
void mz_inject_owner_of_pod(json_t *pod, const char *ns, char name[MZ_INJECT_NAME], struct mz_inject_owner *out);
enum mz_injected { MZ_INJECT_DONE, MZ_INJECT_SKIPPED, MZ_INJECT_FAILED };
/**
 * Changes @pod, an object with metadata and spec. Skipped: by label or annotation sidecar.istio.io/inject, host network, a
 * namespace of the system, injected already. Failed: an annotation that cannot be read; @err says which, @pod may be changed.
 */
enum mz_injected mz_inject_pod(json_t *pod, const struct mz_inject_opts *o, const struct mz_inject_owner *owner, struct mz_err *err);

/* A document of any kind: its pods in place. Done: one was changed. */
enum mz_injected mz_inject_object(json_t *object, const struct mz_inject_opts *o, struct mz_err *err);
json_t *mz_inject_patch(json_t *from, json_t *to); /* JSON Patch (RFC 6902) */

json_t *mz_json_from_tree(const struct mz_node *n); /* new reference; NULL: a text that is not UTF-8, a number beyond doubles */
#endif
