#ifndef MZ_MESH_PUBLISH_H
#define MZ_MESH_PUBLISH_H
/*
 * Published ports: what connects to a port of this machine (127.0.0.1) is carried on to a ready pod. The accepting sockets are made
 * where the machine's network is, the others in the mesh's. Main thread.
 */
#include "mesh/folder.h"
#include "mesh/node.h"

struct mz_mesh_port { /* wanted, of a Service or of pods that carry the annotation */
    const struct mz_mesh_doc *doc; /* the Service, or what makes the pods */
    uint16_t host_port;            /* 0: any */
    uint16_t port;
    const json_t *target;   /* number or name of a container's port */
    const json_t *selector; /* of labels; NULL: pods of @doc */
};
struct mz_mesh_ports {
    MZ_VEC(struct mz_mesh_port) v;
};
/**
 * Services of type LoadBalancer (their ports) and NodePort (their node ports); annotation mizzen.io/publish: "HOST:PORT, ..." of a Service
 * or of what makes pods, instead of those. @any: whatever the documents ask for, a free one.
 */
bool mz_mesh_ports_wanted(const struct mz_mesh_folder *f, bool any, struct mz_mesh_ports *out, struct mz_err *err);
/* A listening socket at 127.0.0.1; -1 and @err. In the machine's network. */
int mz_mesh_port_listen(const struct mz_mesh_port *p, struct mz_err *err);

struct mz_mesh_publisher;
struct mz_mesh_publisher_opts {
    struct mz_mesh_node *node;
    /* Where a new connection goes: false where there is nobody. */
    bool (*choose)(void *arg, const struct mz_mesh_port *p, uint32_t *out_ip, uint16_t *out_port);
    int (*listen)(void *arg, const struct mz_mesh_port *p, struct mz_err *err); /* as above, by whoever can */
    void *arg;
};
struct mz_mesh_publisher *mz_mesh_publisher_create(const struct mz_mesh_publisher_opts *o);
/* Listens where @ports say: what is as before stays; what is new is asked for, or @fds has it (as many as ports; NULL: none; taken).
 * A port that cannot be had is logged. @f: what @ports point into, until the next call. */
void mz_mesh_publisher_set(struct mz_mesh_publisher *p, const struct mz_mesh_ports *ports, const int *fds);
void mz_mesh_publisher_destroy(struct mz_mesh_publisher *p); /* NULL is fine */
/* [{"host":"127.0.0.1:8080","service":"demo/web","port":80}], a new reference. */
json_t *mz_mesh_publisher_list(const struct mz_mesh_publisher *p);
#endif
