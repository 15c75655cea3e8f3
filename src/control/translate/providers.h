#ifndef MZ_CONTROL_TRANSLATE_PROVIDERS_H
#define MZ_CONTROL_TRANSLATE_PROVIDERS_H
/* Extension providers of the MeshConfig: servers that proxies ask, and send logs and spans to. */
#include "control/translate/translate_priv.h"

/* By name; NULL: there is none. In any case, "prometheus" and "envoy" are there, too, unless the MeshConfig says something else of them. */
const ist_MeshConfig_ExtensionProvider *tr_provider(const struct mz_model *m, struct mz_str name);
const ist_MeshConfig_ExtensionProvider *tr_provider_by_any_case(const struct mz_model *m, struct mz_str name);

struct tr_provider_cluster {
    char *host;    /* of the service */
    char *cluster; /* "outbound|port||host" */
};
/* The service as "host" or "namespace/host". Errors: it is not there, no port. */
bool tr_provider_cluster(struct mz_view *v, struct mz_arena *a, const char *service, uint32_t port,
                         struct tr_provider_cluster *out, struct mz_err *err);
pb_GrpcService *tr_provider_grpc(struct mz_arena *a, const struct tr_provider_cluster *to);
#endif
