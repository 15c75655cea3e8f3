#ifndef MZ_MESH_NAMES_H
#define MZ_MESH_NAMES_H
/*
 * The node's name server: there is nothing outside of the mesh, and that is said at once instead of keeping who asks waiting. Names
 * of the mesh are agents' affair, or stand in a pod's hosts. Main thread.
 */
#include "event/loop.h"

#define MZ_MESH_QUESTION_MAX 512
/**
 * A question (RFC 1035, 4.1) becomes its answer in place: NXDOMAIN, nothing behind the question. The bytes of the answer; 0: that is no
 * question, and nothing is said.
 */
size_t mz_mesh_no_such_name(unsigned char *m, size_t n);
struct mz_mesh_names;
struct mz_mesh_names *mz_mesh_names_create(struct mz_loop *l, uint32_t ip); /* UDP port 53; NULL: it cannot be had */
void mz_mesh_names_destroy(struct mz_mesh_names *v); /* before the loop; NULL is fine */
#endif
