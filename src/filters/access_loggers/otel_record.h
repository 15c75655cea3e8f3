#ifndef MZ_FILTERS_OTEL_RECORD_H
#define MZ_FILTERS_OTEL_RECORD_H
/*
 * What OpenTelemetry calls a log record, of a request or connection, and the resource that all of a log belong to: as bytes of
 * opentelemetry.proto.logs.v1. A template's texts are formats; built on the main thread, read by any.
 */
#include "filters/access_loggers/grpc_log.h"
#include "proto/names.h"

struct otel_record;
struct otel_record *otel_record_create(const pb_OpenTelemetryAccessLogConfig *m, struct mz_str packed_node, struct mz_err *err);
void otel_record_destroy(struct otel_record *r); /* NULL is fine */
/* Appends one LogRecord as the field log_records of ScopeLogs. */
void otel_record_append(const struct otel_record *r, const struct mz_format_ctx *c, const struct grpc_log_headers *objects,
                        struct mz_buf *out);
/* ExportLogsServiceRequest with these records, which stay where they are. */
void otel_request(const struct otel_record *r, const struct mz_buf *records, struct mz_buf *out);
#endif
