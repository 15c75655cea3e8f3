#ifndef MZ_CONTROL_INJECT_PRIV_H
#define MZ_CONTROL_INJECT_PRIV_H
/* Between inject.c (who, order, merge), template.c (what is added), probes.c, proxy_config.c (annotation proxy.istio.io/config). */
#include "control/inject/inject.h"

struct injection {
    const struct mz_inject_opts *o;
    const struct mz_inject_owner *owner;
    json_t *pod, *spec;       /* borrowed */
    json_t *annotations;      /* of the pod as it came; borrowed, maybe empty */
    json_t *config;           /* ProxyConfig: the annotation's between those of the owner's; NULL: none; owned */
    json_t *mesh;             /* the MeshConfig; NULL: nothing is known of it; owned */
    json_t *own_proxy;        /* what the pod says of the proxy's container; NULL: nothing; owned */
    bool gateway, native;     /* native: the proxy is an init container that goes on */
    struct mz_err *err;
};
/* An annotation's text; @otherwise when it is not there. */
const char *annotation(const struct injection *i, const char *name, const char *otherwise);
const char *config_text(const struct injection *i, const char *name, const char *otherwise);
unsigned status_port(const struct injection *i); /* of the agent; annotations may say another */
bool config_is(const struct injection *i, const char *name);
bool applications_wait(const struct injection *i); /* until the proxy is there: by the ProxyConfig or the injector's values */
json_t *proxy_config_read(const char *text, struct mz_err *err); /* known fields in their order; NULL and @err */

/* A new reference: @high over @low, known fields in their order; maps of metadata are joined. Either may be NULL; both: NULL. */
json_t *proxy_config_merge(const json_t *low, const json_t *high);

json_t *proxy_config_unusual(const json_t *config); /* a new reference: what is not the default */
json_t *proxy_config_whole(const json_t *config);   /* a new reference: the defaults, too; of NULL these alone */

/* What the injector's `values` say at "global.proxy.image"; borrowed. NULL: nothing, or there are none. */
json_t *templates_value(const struct injection *i, const char *path);

/* New references. */
json_t *template_image(const struct injection *i, bool init); /* a text; @init: of what prepares the network */
json_t *template_proxy(const struct injection *i);
const char *template_mode(const struct injection *i); /* how traffic comes to the proxy: "REDIRECT" */
json_t *template_init(const struct injection *i);
json_t *template_volumes(const struct injection *i, const char *list); /* "volumes" or "volumeMounts"; NULL and err: an annotation is no list */
/* Probes of the application go through the agent; the map of what they were, as text. NULL: there are none. Free it. */
char *probes_rewrite(const struct injection *i);
/* scrape.c. False: what the pod says of its metrics cannot be; @proxy (NULL: there is none) and @notes (of the pod) are changed. */
bool scrape_add(const struct injection *i, json_t *notes, json_t *proxy);
static inline void env_add(json_t *container, const char *name, const char *value)
{
    (void)json_array_append_new(json_object_get(container, "env"), json_pack("{s:s, s:s}", "name", name, "value", value));
}
void set_text(json_t *map, const char *name, const char *value, bool keep); /* @keep: unless it is there */
#define INJECT_PROXY "istio-proxy"
#define INJECT_INIT  "istio-init"
#define INJECT_VALIDATION "istio-validation"
#endif
