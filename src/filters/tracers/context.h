#ifndef MZ_FILTERS_TRACERS_CONTEXT_H
#define MZ_FILTERS_TRACERS_CONTEXT_H
/* A trace's context as headers carry it: W3C Trace Context (traceparent) and B3, of which clients may write what they like. */
#include "base/str.h"
#include <stdint.h>

struct trace_context {
    uint64_t trace_hi, trace_lo, id, parent; /* parent 0: none */
    bool wide;                               /* 128 bits */
    bool has_ids, has_sampled, sampled;
};
/* Version 00 and later ones that begin alike (W3C, 3.2): ids of zeros are none. */
bool traceparent_parse(struct mz_str text, struct trace_context *out);
#define TRACEPARENT_TEXT 56
void traceparent_write(const struct trace_context *c, char out_text[TRACEPARENT_TEXT]); /* 55 bytes and a NUL */

/* The header b3: "<trace>-<span>[-<sampled>[-<parent>]]", or the sampling alone: "0", "1", "d". */
bool b3_single_parse(struct mz_str text, struct trace_context *out);
/* Those of the form x-b3-...; empty: not there. */
struct b3_headers {
    struct mz_str trace, id, parent, sampled, flags;
};
bool b3_parse(const struct b3_headers *h, struct trace_context *out); /* false: they make no sense */
#endif
