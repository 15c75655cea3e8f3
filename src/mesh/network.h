#ifndef MZ_MESH_NETWORK_H
#define MZ_MESH_NETWORK_H
/* The mesh's own network: a bridge in the node's namespace, a pair of interfaces a pod (rtnetlink). Blocking, single-threaded. */
#include "base/err.h"
#include <stdint.h>

#define MZ_MESH_NODE_IP  0x0af40001u /* 10.244.0.1 */
#define MZ_MESH_PREFIX   16
#define MZ_MESH_PREFIX6  64
#define MZ_MESH_BRIDGE   "mesh0"
void mz_mesh_ip_text(uint32_t ip, char out_text[16]);
void mz_mesh_ip6_text(uint32_t ip, char out_text[40]); /* of the IPv6 address beside it: fd00:244::102 beside 10.244.1.2 */
bool mz_mesh_network_node(bool *out_six, struct mz_err *err); /* of this thread's namespace: loopback, bridge. @out_six: the kernel has IPv6 */
/* A pod's: @ns its namespace, @back the node's, in which this thread is and stays. @six: with the IPv6 address, too. @number: of its interface on the bridge. */
bool mz_mesh_network_pod(int ns, int back, uint32_t ip, bool six, unsigned number, struct mz_err *err);
void mz_mesh_network_pod_gone(unsigned number); /* its interface; the namespace may outlive it */
/* A TCP socket, not blocking, made in @ns (-1: here); the thread is back in @back. -1 and errno. */
int mz_mesh_socket_in(int ns, int back);
#endif
