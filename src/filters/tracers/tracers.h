#ifndef MZ_FILTERS_TRACERS_TRACERS_H
#define MZ_FILTERS_TRACERS_TRACERS_H
#include "observe/tracer.h"
extern const struct mz_tracer_type mz_tracer_opentelemetry, mz_tracer_zipkin;
#endif
