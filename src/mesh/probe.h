#ifndef MZ_MESH_PROBE_H
#define MZ_MESH_PROBE_H
/*
 * A container's probe, as a kubelet has it, but quick at first: until it has passed once it is asked with a pause that grows
 * from some milliseconds to its period. Main thread.
 */
#include "mesh/ask.h"
#include "mesh/node.h"
#include "mesh/podspec.h"

struct mz_mesh_probe { /* embedded; begins with mz_mesh_probe_init() */
    const struct mz_mesh_probe_spec *spec;
    struct mz_mesh_node *node;
    const struct mz_mesh_sandbox *in;
    const struct mz_mesh_container_spec *of;
    uint32_t ip;
    struct mz_mesh_ask ask;
    struct mz_mesh_process command; /* EXEC */
    struct mz_timer next;
    uint64_t pause_ms, began_us;
    unsigned good, bad;
    bool running, passing, ever;
    void (*changed)(struct mz_mesh_probe *p); /* @passing is another; it may be stopped there */
};
void mz_mesh_probe_init(struct mz_mesh_probe *p, struct mz_mesh_node *node, const struct mz_mesh_probe_spec *spec,
                        void (*changed)(struct mz_mesh_probe *p));
/* @passing: what counts until it knows: true for liveness. Without a probe nothing happens. */
void mz_mesh_probe_start(struct mz_mesh_probe *p, const struct mz_mesh_sandbox *in, const struct mz_mesh_container_spec *of,
                         uint32_t ip, bool passing);
void mz_mesh_probe_stop(struct mz_mesh_probe *p);
#endif
