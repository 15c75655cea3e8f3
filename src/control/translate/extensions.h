#ifndef MZ_CONTROL_TRANSLATE_EXTENSIONS_H
#define MZ_CONTROL_TRANSLATE_EXTENSIONS_H
/*
 * WasmPlugin and TrafficExtension (C2, C12): filters of users at fixed places of the chain. WebAssembly comes by ECDS, so that a proxy
 * waits for it; Lua stands in the listener. Proxies that tell that they have no such filter go without.
 */
#include "control/translate/translate_priv.h"

struct tr_extensions; /* those of one proxy */
struct tr_at { /* a chain */
    enum tr_class class;
    uint16_t port; /* of the service, or at the workload; 0: of every other one */
    bool grpc_web; /* the port says so */
};
uint64_t tr_extensions_hash(struct mz_view *v); /* of everything that may stand in listeners */
/* Those of one phase, the highest priority first. */
void tr_extensions_http(struct mz_view *v, struct mz_arena *a, pb_HttpConnectionManager *m, struct tr_at at,
                        ist_TrafficExtension_ExecutionPhase phase);
void tr_extensions_tcp(struct mz_view *v, struct mz_arena *a, pb_FilterChain *c, struct tr_at at,
                       ist_TrafficExtension_ExecutionPhase phase);
struct mz_out *tr_extension(struct mz_view *v, struct mz_str name); /* ECDS; NULL: none of this name */
#endif
