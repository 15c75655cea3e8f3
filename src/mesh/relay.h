#ifndef MZ_MESH_RELAY_H
#define MZ_MESH_RELAY_H
/* Bytes from one connection to another and back, by splice, until both directions have ended. Main thread. */
#include "base/list.h"
#include "event/loop.h"

#define MZ_MESH_RELAYS_MAX 2000
struct mz_mesh_relays {
    struct mz_loop *loop;
    struct mz_list all;
    size_t n;
};
void mz_mesh_relays_init(struct mz_mesh_relays *r, struct mz_loop *l);
void mz_mesh_relay_add(struct mz_mesh_relays *r, int a, int b); /* takes both; they do not block; b may still be connecting */
void mz_mesh_relays_fini(struct mz_mesh_relays *r);             /* closes all */
#endif
