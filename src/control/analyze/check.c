#include "control/analyze/check.h"

static bool mesh_config(const ist_MeshConfig *c, struct mz_err *err)
{
    uint64_t ms;
    if (!mz_duration_ms(c->connect_timeout, 1, &ms, err))
        return mz_err_at(err, "connect_timeout");
    if (ms == 0)
        return mz_err_set(err, "connect_timeout: must be greater than 0s");
    return mz_duration_ms(c->protocol_detection_timeout, 0, &ms, err) ||
           mz_err_at(err, "protocol_detection_timeout");
}

bool mz_check_object(enum mz_kind k, const ProtobufCMessage *body, struct mz_err *err)
{
    switch (k) {
    case MZ_KIND_MESH_CONFIG:
        return mesh_config((const ist_MeshConfig *)body, err);
    default:
        return true; /* the API server has checked Kubernetes' own */
    }
}
