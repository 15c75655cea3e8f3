#ifndef MZ_CONTROL_ANALYZE_CHECK_PRIV_H
#define MZ_CONTROL_ANALYZE_CHECK_PRIV_H
#include "control/analyze/check.h"

/* AT(error, path...): false, the path in front. */
#define AT(failure, ...) ((void)(failure), mz_err_at(err, __VA_ARGS__))

/* check_rule.c */
bool mz_check_connection_pool(const ist_ConnectionPoolSettings *p, struct mz_err *err); /* NULL is fine */
bool mz_check_is_positive(const pb_Duration *d, const char *path, struct mz_err *err); /* NULL is fine */
bool mz_check_outlier(const ist_OutlierDetection *o, struct mz_err *err); /* NULL is fine */
bool mz_check_places(const ist_LocalityLoadBalancerSetting *l, struct mz_err *err); /* NULL is fine */
bool mz_check_zones(const ist_ZoneAwareLoadBalancerSetting *z, struct mz_err *err); /* NULL is fine */
bool mz_check_client_tls(const ist_ClientTLSSettings *t, struct mz_err *err); /* NULL is fine */
bool mz_check_destination_rule(const ist_DestinationRule *m, struct mz_err *err);
/* check_gateway.c */
bool mz_check_gateway(const ist_Gateway *m, struct mz_err *err);
/* check_route.c */
bool mz_check_regex(const char *text, const char *path, struct mz_err *err); /* 1024 bytes at most */
bool mz_check_retries(const ist_HTTPRetry *r, struct mz_err *err);
bool mz_check_virtual_service(const ist_VirtualService *m, struct mz_err *err);
/* check_gateway_api.c: of kinds of the Gateway API and Ingress; others are fine */
bool mz_check_gateway_api(enum mz_kind k, const ProtobufCMessage *m, struct mz_err *err);
/* check_service.c */
bool mz_check_is_dns_label(struct mz_str s);  /* letters, digits, '-' within; 63 bytes at most */
bool mz_check_is_fqdn(struct mz_str s);       /* such labels, with dots between and maybe at the end */
bool mz_check_is_host(struct mz_str s);       /* as that; the first may be "*", "*a" or "*-a" */
bool mz_check_is_whole_host(struct mz_str s); /* "*", or a host with a dot, of whose labels the first may be "*" alone */
bool mz_check_label(const char *key, const char *value, const char *path, struct mz_err *err);
#define MZ_CHECK_LABELS(m, field)                                                                                      \
    do {                                                                                                               \
        for (size_t i_ = 0; i_ < (m)->n_##field; i_++)                                                                 \
            if (!mz_check_label((m)->field[i_]->key, (m)->field[i_]->value, #field, err))                              \
                return false;                                                                                          \
    } while (0)
bool mz_check_is_subnet(const char *s); /* "10.0.0.1" or "10.0.0.0/8" */
bool mz_check_count(size_t n, size_t most, const char *path, struct mz_err *err); /* items of a list */
bool mz_check_differ(char *const *v, size_t n, struct mz_err *err); /* none stands twice */
/* Namespaces that see a document; @may_be_nobody: "~" is one, too. */
bool mz_check_exports(char *const *v, size_t n, bool may_be_nobody, struct mz_err *err);
bool mz_check_service_entry(const ist_ServiceEntry *e, struct mz_err *err);
bool mz_check_workload_entry(const ist_WorkloadEntry *w, struct mz_err *err);
bool mz_check_workload_group(const ist_WorkloadGroup *g, struct mz_err *err);
bool mz_check_sidecar(const ist_Sidecar *s, struct mz_err *err);
#endif
