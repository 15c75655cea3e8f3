#ifndef MZ_CLI_PODS_H
#define MZ_CLI_PODS_H
/*
 * The pods that commands ask: those of a running mesh (mesh/client.h), or proxies given by their admin addresses. Everything lives in
 * the arena until pods_close(); calls block.
 */
#include "base/args.h"
#include "cli/dump.h"

struct mz_mesh_client;
struct pod {
    struct mz_str name, ns, ip, account, workload, app; /* "" unknown */
    struct mz_str id;     /* "NAME.NAMESPACE", or the admin address where the proxy says no name */
    const char *admin;    /* its admin address; NULL: by the mesh */
    bool ready, gateway, has_proxy, ours; /* ours: no Envoy */
    uint64_t pss_kb;      /* of all its containers; 0 unknown */
    uint64_t proxy_pss_kb; /* of its proxy with the agent; 0 unknown */
};
struct pods_options { /* embedded in a command's options */
    const char *mesh;           /* --mesh NAME|DIR */
    struct arg_list admin;      /* --proxy-admin HOST:PORT */
    const char *plane;          /* --control-plane HOST:PORT */
};
/* Flags of a command whose options @of have a member `pods`. */
#define PODS_FLAGS(of)                                                                                                 \
    { "mesh", 0, ARG_TEXT, offsetof(struct of, pods.mesh), "Name or folder of the running mesh (the only one)" },    \
    { "proxy-admin", 0, ARG_LIST, offsetof(struct of, pods.admin),                                                   \
      "Admin address of a proxy, instead of a mesh's pods; may be repeated" },                                       \
    { "control-plane", 0, ARG_TEXT, offsetof(struct of, pods.plane), "Monitoring address of mizzend, instead of the mesh's" }

struct pods {
    struct mz_arena *arena;
    struct mz_mesh_client *client; /* NULL: no mesh */
    const char *plane;             /* its address; NULL: the mesh's, if there is one */
    struct pod *v;
    size_t n;
    struct mz_str dir;             /* the mesh's documents; "" unknown */
    struct {
        struct mz_str host, service; /* "127.0.0.1:8080", "istio-ingressgateway.istio-system" */
        uint16_t port;
    } *published;
    size_t published_n;
    uint64_t plane_pss_kb;
};
/* @p is to be closed in either case. */
bool pods_open(struct pods *p, const struct pods_options *o, struct mz_err *err);
void pods_close(struct pods *p);
/* By "NAME", "NAME.NAMESPACE", "NAMESPACE/NAME", "deployment/NAME", a workload's or application's name, or an admin address that was
 * given. NULL and @err: none, or several (@err names them); of a workload's pods any will do, one that is ready first. */
const struct pod *pods_find(const struct pods *p, const char *name, struct mz_err *err);
const struct pod *pods_by_ip(const struct pods *p, struct mz_str ip); /* NULL */
/* A page of a pod's proxy (its admin port). The body goes to @out. */
bool pod_fetch(const struct pods *p, const struct pod *of, const char *method, const char *path, struct mz_buf *out, struct mz_err *err);
bool pod_load(const struct pods *p, const struct pod *of, const char *method, const char *path, struct dump *out, struct mz_err *err);
/*
 * One proxy by what a command line calls it: an address ("127.0.0.1:15000", a URL, a socket's path), else a pod of the running mesh,
 * or, where none runs, the name of a host.
 */
struct proxy_at {
    struct pods pods; /* arena NULL: none are asked */
    const struct pod *pod; /* NULL: by the address */
    const char *address;
    uint16_t port; /* of an address that has none */
};
bool proxy_find(struct proxy_at *at, const char *word, const char *mesh, uint16_t port, struct mz_err *err); /* to be closed in either case */
void proxy_close(struct proxy_at *at);
bool proxy_fetch(const struct proxy_at *at, const char *method, const char *path, struct mz_buf *out, struct mz_err *err);
bool proxy_load(const struct proxy_at *at, const char *path, struct dump *out, struct mz_err *err);
/* Does a mesh run that may be meant: by this name, or at all? */
bool mesh_runs(const char *mesh);
/* A page of the control plane; false also where none is known. @out is to be finished in either case. */
bool plane_fetch(const struct pods *p, const char *path, struct mz_buf *out, struct mz_err *err);
const char *pods_mesh(const struct pods *p); /* its name; "" none */
bool plane_load(const struct pods *p, const char *path, struct dump *out, struct mz_err *err);
#endif
