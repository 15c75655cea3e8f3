#include "trace.h"

#include "text.h"

static const char *const passed[] = {
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "sw8",
    "grpc-trace-bin",
    "user-agent",
    "authorization",
    "cookie",
    "end-user",
};

void trace_pass(const struct request *r, struct text *out)
{
    char v[8192];
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
        if (request_field(r, passed[i], v, sizeof(v)))
            text_add(out, "%s: %s\r\n", passed[i], v);
}
