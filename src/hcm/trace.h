#ifndef MZ_HCM_TRACE_H
#define MZ_HCM_TRACE_H
/* Live tracing (P9): log lines of one connection, or of requests that carry a header, are written whatever the levels. */
#include "http/header_map.h"
void mz_trace_set_header(struct mz_str name, struct mz_str value); /* any thread; empty name: off; at most 127 bytes each */
void mz_trace_set_connection(uint64_t conn_id);                    /* any thread; 0: off */
bool mz_trace_matches(const struct mz_headers *h, uint64_t conn_id); /* request path: one load when off */
void mz_trace_get(char out_name[128], char out_value[128], uint64_t *out_conn_id);
#endif
