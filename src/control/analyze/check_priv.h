#ifndef MZ_CONTROL_ANALYZE_CHECK_PRIV_H
#define MZ_CONTROL_ANALYZE_CHECK_PRIV_H
#include "control/analyze/check.h"

/* AT(error, path...): false, the path in front. */
#define AT(failure, ...) ((void)(failure), mz_err_at(err, __VA_ARGS__))

bool mz_check_connection_pool(const ist_ConnectionPoolSettings *p, struct mz_err *err); /* NULL is fine */
/* check_service.c */
bool mz_check_service_entry(const ist_ServiceEntry *e, struct mz_err *err);
bool mz_check_workload_entry(const ist_WorkloadEntry *w, struct mz_err *err);
bool mz_check_sidecar(const ist_Sidecar *s, struct mz_err *err);
#endif
