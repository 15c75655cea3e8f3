#ifndef MZ_CONTROL_ANALYZE_CHECK_POLICY_H
#define MZ_CONTROL_ANALYZE_CHECK_POLICY_H
/* Rules of documents that attach to workloads: policies and extensions (check.h). Each: false, path and reason. */
#include "base/err.h"
#include "control/names.h"

bool check_authorization_policy(const ist_AuthorizationPolicy *m, struct mz_err *err);
bool check_request_authentication(const ist_RequestAuthentication *m, struct mz_err *err);
bool check_envoy_filter(const ist_EnvoyFilter *m, struct mz_err *err);
bool check_telemetry(const ist_Telemetry *m, struct mz_err *err);
bool check_wasm_plugin(const ist_WasmPlugin *m, struct mz_err *err); /* check_extension.c */
bool check_proxy_config(const ist_networking_ProxyConfig *m, struct mz_err *err);
bool check_traffic_extension(const ist_TrafficExtension *m, struct mz_err *err);

/* check_policy.c, for its neighbours: to whom a document is attached. @one NULL: none by the older spelling */
bool check_targets(const ist_WorkloadSelector *s, const ist_PolicyTargetReference *one,
                   ist_PolicyTargetReference *const *many, size_t n, struct mz_err *err);
#endif
