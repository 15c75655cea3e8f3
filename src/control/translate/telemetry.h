#ifndef MZ_CONTROL_TRANSLATE_TELEMETRY_H
#define MZ_CONTROL_TRANSLATE_TELEMETRY_H
/* Telemetry (API) and what the MeshConfig says where it says nothing: metrics, access logs, spans of one class of listener. */
#include "control/translate/translate_priv.h"

struct tr_telemetry { /* in the view's arena; shared by all listeners of the class */
    size_t n_http_stats, n_tcp_stats, n_http_logs, n_tcp_logs, n_listener_logs;
    pb_HttpFilter **http_stats;
    pb_Filter **tcp_stats;
    pb_AccessLog **http_logs, **tcp_logs;
    pb_AccessLog **listener_logs; /* of a listener: what found no filter chain, nobody else would log */
    pb_HttpConnectionManager_Tracing *tracing;  /* NULL: none */
    pb_RequestIDExtension *request_id;          /* NULL: as always */
    uint64_t hash; /* of all of it */
};
const struct tr_telemetry *tr_telemetry(struct mz_view *v, enum tr_class class); /* made at the first call */

/* ---- for the files of this feature ---- */

struct tr_said { /* what documents say of one proxy, the most general first: later ones win */
    size_t n_metrics, n_levels, n_tracing;
    ist_Metrics **metrics;
    ist_telemetry_Tracing **tracing;
    struct tr_log_level { /* of one document */
        ist_AccessLogging **v;
        size_t n;
    } *levels;
};
void tr_telemetry_said(struct mz_view *v, struct tr_said *out); /* telemetry.c */
void tr_metrics_add(struct mz_view *v, enum tr_class class, const struct tr_said *s, struct tr_telemetry *t);
void tr_logs_add(struct mz_view *v, enum tr_class class, const struct tr_said *s, struct tr_telemetry *t);
void tr_tracing_add(struct mz_view *v, enum tr_class class, const struct tr_said *s, struct tr_telemetry *t);
/* tracers.c: the provider's part. False: @why it cannot be used. */
bool tr_tracer(struct mz_view *v, const ist_MeshConfig_ExtensionProvider *p, pb_HttpConnectionManager_Tracing *t,
               struct mz_err *why);

bool tr_mode_is_of(ist_telemetry_WorkloadMode mode, enum tr_class class);
#endif
