#ifndef MZ_CONTROL_TRANSLATE_INGRESS_H
#define MZ_CONTROL_TRANSLATE_INGRESS_H
#include "control/model/sidecar.h"
#include "control/translate/translate_priv.h"

struct tr_ingress { /* beside the target of the same index */
    const ist_IstioIngressListener *listener;
    const struct mz_service *service; /* that has this port; NULL: none */
    struct mz_str bind;               /* names it */
    bool own_socket;                  /* it listens itself; else 15006 catches what comes */
    struct mz_str address;            /* of the application; "" as the client wanted */
    uint16_t port;                    /* 0: address is a path */
    bool loopback;
    bool terminates; /* it ends TLS as it says, where the mesh has none (ENABLE_TLS_ON_SIDECAR_INGRESS) */
};
/* Of the view's Sidecar; the view's targets become these. NULL: it has none. */
const struct tr_ingress *tr_ingress(struct mz_view *v);
#endif
