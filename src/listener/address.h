#ifndef MZ_LISTENER_ADDRESS_H
#define MZ_LISTENER_ADDRESS_H
/* Addresses and socket options of messages (core.v3.Address, SocketOption). */
#include "base/arena.h"
#include "net/socket.h"

struct Envoy__Config__Core__V3__Address;
struct Envoy__Config__Core__V3__SocketOption;
/* IP addresses and pipes; names, named ports and UDP are errors. */
bool mz_address_build(const struct Envoy__Config__Core__V3__Address *m, struct mz_addr *out_addr, struct mz_err *err);
void mz_socket_opts_build(struct Envoy__Config__Core__V3__SocketOption *const *v, size_t n, struct mz_arena *a,
                          struct mz_socket_opts *out_opts);
#endif
