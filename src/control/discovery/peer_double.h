#ifndef MZ_CONTROL_DISCOVERY_PEER_DOUBLE_H
#define MZ_CONTROL_DISCOVERY_PEER_DOUBLE_H
/* For tests and the fuzzer: a translator with a model made of text. */
#include "control/discovery/peer.h"

extern const ProtobufCMessageDescriptor *const mz_control_types[];
extern const size_t mz_control_types_n;

static inline void double_nothing(void *arg)
{
    (void)arg;
}
static inline void double_take(void *arg, struct mz_doc *d)
{
    mz_store_put(arg, d);
}
static inline void double_hear(void *arg, enum mz_level l, uint32_t line, struct mz_str key, const char *text)
{
    (void)arg;
    (void)l;
    (void)line;
    (void)key;
    (void)text;
}
static inline struct mz_model *double_model(struct mz_str text)
{
    const struct mz_model_opts o = { .domain = "cluster.local" };
    struct mz_store *s = mz_store_create(double_nothing, NULL);
    const struct mz_doc_reader r = { MZ_STR("f"), double_take, double_hear, s };
    mz_doc_read_text(&r, text, MZ_TEXT_YAML);
    struct mz_model *m = mz_model_build(s, &o, NULL);
    mz_store_destroy(s);
    return m;
}
#define DOUBLE_SERVICE(name, port, ip) DOUBLE_SERVICE_OF(name, port, ip, "http")
#define DOUBLE_SERVICE_OF(name, port, ip, kind)                                                    \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: demo}\n"            \
    "spec: {clusterIP: 10.9.0.1, selector: {app: " name "}, ports: [{name: " kind ", port: " port "}]}\n" \
    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " name "-1, namespace: demo, labels: {kubernetes.io/service-name: " name "}}\n" \
    "endpoints: [{addresses: [" ip "]}]\nports: [{name: " kind ", port: " port "}]\n"
#endif
