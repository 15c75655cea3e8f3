#include "router/router_priv.h"

#include "observe/tracer.h"

/* The span of a try, where the configuration wants one, and the trace's context in what is sent upstream (O3). */

void attempt_span_begin(struct attempt *a)
{
    a->span = mz_stream_upstream_span(stream_of(a->r), a->start_us);
}

void attempt_span_inject(struct attempt *a)
{
    struct mz_span *span = a->span ? a->span : mz_stream_span(stream_of(a->r));
    if (span)
        mz_span_inject(span, a->r->headers);
}

void attempt_span_end(struct attempt *a)
{
    struct mz_stream_info *i = info_of(a->r);
    if (!a->span)
        return;
    const struct mz_upstream_outcome o = { .status = a->status,
                                           .retries = a->number - 1,
                                           .flags = a->failure_flags,
                                           .reset = a->failure,
                                           .connected = a->started && i->up.has_protocol,
                                           .protocol = i->up.protocol,
                                           .address = &a->host->addr,
                                           .end_us = a->answer_end && i->up.last_rx_us
                                                         ? i->up.last_rx_us
                                                         : now_of(a->r) };
    mz_stream_upstream_span_end(stream_of(a->r), a->span, &o);
    a->span = NULL;
}
