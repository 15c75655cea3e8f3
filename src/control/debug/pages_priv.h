#ifndef MZ_CONTROL_DEBUG_PAGES_PRIV_H
#define MZ_CONTROL_DEBUG_PAGES_PRIV_H
/* Between pages.c (clients), pages_dump.c (what one was sent), pages_model.c (what is served). */
#include "control/debug/json.h"
#include "control/debug/pages.h"

struct mz_debug {
    struct mz_debug_env e;
    struct mz_admin_page *pages;
};
#define PAGE(name) void name(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
PAGE(page_syncz);
PAGE(page_adsz);
PAGE(page_connections);
PAGE(page_config_dump);
PAGE(page_cdsz);
PAGE(page_ecdsz);
PAGE(page_edsz);
PAGE(page_ndsz);
PAGE(page_force_disconnect);
PAGE(page_registryz);
PAGE(page_endpointz);
PAGE(page_configz);
PAGE(page_instancesz);
PAGE(page_authorizationz);
PAGE(page_telemetryz);
PAGE(page_mesh);
PAGE(page_push_status);
PAGE(page_cachez);
PAGE(page_resourcesz);
PAGE(page_objects);
PAGE(page_mtls);
PAGE(page_settled);

struct json_out json_begin(struct mz_admin_reply *out); /* sets the type, too */
struct mz_str proxy_wanted(const struct mz_admin_request *rq); /* ?proxyID=; "" */
const char *type_url(enum mz_xds_type t);
#endif
